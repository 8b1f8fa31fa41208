"""Which records every update sees, laid out before the first one.

The whole run's order follows from the seed alone: whoever resumes it only needs to know how many
updates are done, and each of several processes takes its share of every update by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse import encoding
from llmcourse.encoding import UNTRAINED
from llmcourse.finetuning.settings import Config


@dataclass(frozen=True)
class Plan:
    """The run's rows and updates.

    Attributes:
        rows: Encoded rows, a record each.
        updates: For each update, the places of its rows.
        labels: For each row, how many tokens have a label.
        tokens: For each row, its tokens.
        records: For each row, the number of its record, as it was given.
    """

    rows: list[Mapping[str, Any]]
    updates: list[list[int]]
    labels: list[int]
    tokens: list[int]
    records: list[int]

    def share(self, update: int, process: int, processes: int) -> list[Mapping[str, Any]]:
        """The rows of an update that one of several processes computes.

        Where there are fewer rows than processes, the others compute a row without labels, so
        that all of them take part in every update.
        """
        places = self.updates[update]
        mine = places[process::processes]
        if mine:
            return [self.rows[place] for place in mine]
        row = dict(self.rows[places[0]])
        row["labels"] = [UNTRAINED] * len(row["labels"])
        return [row]

    def labels_of(self, update: int) -> int:
        """Tokens with a label in an update, over all processes; at least 1."""
        return max(1, sum(self.labels[place] for place in self.updates[update]))

    def tokens_of(self, update: int) -> int:
        """Tokens in an update, over all processes, padding not counted."""
        return sum(self.tokens[place] for place in self.updates[update])

    def records_of(self, update: int) -> list[int]:
        """The records in an update."""
        return sorted(self.records[place] for place in self.updates[update])


def plan(encoded: encoding.Encoded, config: Config) -> Plan:
    """Lay out a run.

    Rows of like length stand together, the batches in another order every epoch.
    """
    rows = list(encoded.dataset.select_columns(["input_ids", "labels", "record"]))
    tokens = [len(row["input_ids"]) for row in rows]
    labels = [sum(label != UNTRAINED for label in row["labels"][1:]) for row in rows]
    records = [row.pop("record") for row in rows]
    return Plan(rows, _updates(tokens, config.batch_size, config), labels, tokens, records)


def _updates(lengths: Sequence[int], size: int, config: Config) -> list[list[int]]:
    each = math.ceil(len(lengths) / size)
    total = config.steps or max(1, round(config.epochs * each))
    updates: list[list[int]] = []
    epoch = 0
    while len(updates) < total:
        updates += encoding.batches_by_length(lengths, size, seed=config.seed + epoch)
        epoch += 1
    return updates[:total]
