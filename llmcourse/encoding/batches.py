"""Rows to batches: padding, and which records share a batch."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.encoding.records import UNTRAINED
from llmcourse.errors import DataError, SettingError, whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Collator:
    """Rows to a batch of tensors, padded on the right; for `Trainer(data_collator=…)` as well.

    A row's length says what is padding, never its ids, so a padding token that is also the end
    token keeps its label where it ends an answer. With B rows, the longest of L tokens:
    `input_ids`, `labels` and `attention_mask`, each (B, L) and int64; padding has the padding
    token's id, label -100 and mask 0. Other columns are ignored.

    Attributes:
        tokenizer: It says which token pads; a model from `models.load` gives its own.

    Raises:
        SettingError: it is no tokenizer, or has no padding token.
    """

    tokenizer: PreTrainedTokenizerBase

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", templates.tokenizer_of(self.tokenizer))
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            raise SettingError(
                "This tokenizer has no padding token. Take it from models.load, which chooses "
                "one, or set tokenizer.pad_token."
            )

    def __call__(self, rows: Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, Any]:
        """The batch of `rows`, as the class describes it: tensors of shape (rows, longest row).

        Args:
            rows: Rows, or columns as `encoded.dataset[:8]` gives them.

        Raises:
            DataError: there are no rows, or one has not a label for each token.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        if isinstance(rows, Mapping):
            rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        rows = list(rows)
        if not rows or any(len(r["input_ids"]) != len(r.get("labels", ())) for r in rows):
            raise DataError(
                "A batch needs rows, each with one label for each token. Encode records first: "
                "encoding.encode."
            )

        def padded(name: str, fill: int) -> torch.Tensor:
            """A column as (rows, longest row), int64, with `fill` behind each row's own."""
            # on the right, as positions count from the first token in training
            columns = [torch.as_tensor(row[name], dtype=torch.int64) for row in rows]
            return pad_sequence(columns, batch_first=True, padding_value=fill)

        ids, labels = padded("input_ids", self.tokenizer.pad_token_id), padded("labels", UNTRAINED)
        # the mask comes from the lengths: the padding token may also be one that a row ends with
        sizes = torch.tensor([[len(row["input_ids"])] for row in rows])
        mask = (torch.arange(ids.shape[1]) < sizes).to(torch.int64)
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def batches_by_length(
    lengths: Sequence[int], batch_size: int, seed: int = 0, shuffle: bool = True
) -> list[list[int]]:
    """Batches of records of similar length, so that little is padded.

    Plain shuffling puts a record beside any other: a batch is as long as its longest record, and
    the rest is padding, which costs time like any token. Here records of similar length share a
    batch and only the order of the batches is random. The price is less variety within a batch: a
    batch of short answers pulls the weights one way, one of long answers another.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batch_size: Records in a batch; the batch of the longest may have fewer.
        seed: The same seed gives the same batches; take the epoch's number to have others in each.
        shuffle: False gives them from short to long.

    Returns:
        Lists of record numbers, each number once.

    Raises:
        SettingError: `batch_size` is below 1, or `seed` no whole number of at least 0.
    """
    size = whole("batch_size", batch_size, 1)
    tokens, rng = list(lengths), random.Random(whole("seed", seed, 0))
    order = list(range(len(tokens)))
    if shuffle:
        rng.shuffle(order)  # chance decides between records of the same length
    order.sort(key=tokens.__getitem__)  # (a stable sort, so the order above stays)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if shuffle:
        rng.shuffle(batches)
    return batches


def padding_share(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> float:
    """Share of the places in `batches` that are padding, from 0 to 1.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batches: Record numbers of each batch, as `batches_by_length` gives them; a batch is as
            wide as its longest record.
    """
    tokens = list(lengths)
    rows = [[tokens[number] for number in batch] for batch in batches if len(batch)]
    places = sum(max(row) * len(row) for row in rows)
    return float(1 - sum(map(sum, rows)) / places) if places else 0.0
