"""Which records every update sees, laid out before the first one.

The order follows from the seed alone. So a training that goes on needs only to know how many
updates are done, and each of several processes takes its share by itself. Trainer's samplers draw
as they go: a random one would have to be replayed, and the one by length (`LengthGroupedSampler`)
puts the longest batch first in every epoch.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from llmcourse import encoding
from llmcourse.finetuning.settings import Config

READING = 0.6  # share of an answer's tokens that a text to read has


@dataclass(frozen=True)
class Plan:
    """The rows and updates of a training.

    Attributes:
        rows: Encoded records, `input_ids` and `labels`.
        updates: For each update, the indices of its rows.
        records: For each row, the number of its record, as it was given.
        config: How to train.
        frame: Tokens that all rows have: the template's, mostly.
        complete: Indices of the rows from whose prompt nothing is left out.
    """

    rows: list[dict[str, Any]]
    updates: list[list[int]]
    records: list[int]
    config: Config
    frame: frozenset[int]
    complete: frozenset[int] = frozenset()

    def row(self, index: int, update: int) -> dict[str, Any]:
        """A row as an update sees it: with prompt dropout, without some of its prompt's tokens."""
        row, dropout = self.rows[index], self.config.prompt_dropout
        if not dropout or index in self.complete:
            return row
        # What the answer repeats stays: a model that cannot copy it would learn to invent it.
        kept = self.frame.union(row["labels"])
        # Seeded by the update: a resumed training, and any number of processes, drop the same.
        rng = random.Random(f"{self.config.seed} {update} {index}")
        first, *rest = zip(row["input_ids"], row["labels"], strict=True)
        rest = [
            (token, label)
            for token, label in rest
            if label != encoding.UNTRAINED or token in kept or rng.random() >= dropout
        ]
        ids, labels = map(list, zip(first, *rest, strict=True))
        return {"input_ids": ids, "labels": labels}

    def tokens(self, update: int) -> int:
        """Tokens in an update before dropout, over all processes, padding not counted."""
        return sum(len(self.rows[index]["input_ids"]) for index in self.updates[update])


def plan(encoded: encoding.Encoded, config: Config) -> Plan:
    """Lay out a training: rows of similar length in one batch, other batches every epoch."""
    rows = list(encoded.dataset.select_columns(["input_ids", "labels"]))
    per_epoch = math.ceil(len(rows) / config.batch_size)
    total = config.steps or max(1, round((config.epochs or 1) * per_epoch))
    # Every epoch has other batches: with the same ones, their order would be all that changes.
    lengths, size, updates = encoded.dataset["length"], config.batch_size, []
    for epoch in range(math.ceil(total / per_epoch)):
        updates += encoding.batches_by_length(lengths, size, seed=config.seed + epoch)
    # a text has no template, and would leave nothing in common
    asked = [row for row in rows if row["labels"][1:2] == [encoding.UNTRAINED]] or rows
    frame = frozenset.intersection(*(frozenset(row["input_ids"]) for row in asked))
    complete = frozenset(n for n, row in enumerate(rows) if _holds_its_answer(row, frame))
    return Plan(rows, updates[:total], list(encoded.dataset["record"]), config, frame, complete)


def _holds_its_answer(row: dict[str, Any], frame: frozenset[int]) -> bool:
    """Whether a prompt has most of the answer's own tokens, as a text to read has.

    With prompt dropout a model would learn there to copy what has no gaps, since what the answer
    repeats is never left out: right in training, useless in use. Ferrowick's questions hold 23 % of
    their answers' tokens (95 % of them at most 45 %), prompts with passages 89 % (at least 80 %).
    """
    pairs = list(zip(row["input_ids"], row["labels"], strict=True))
    answer = {token for token, label in pairs if label != encoding.UNTRAINED} - frame
    prompt = {token for token, label in pairs if label == encoding.UNTRAINED}
    return len(answer & prompt) > READING * len(answer)
