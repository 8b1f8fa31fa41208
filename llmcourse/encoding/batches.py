"""Rows to batches: padding, and which records stand together."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.errors import SettingError, whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

UNTRAINED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class Collator:
    """Rows to a batch of tensors, padded on the right; for `Trainer(data_collator=…)` as well.

    Padding is told by a row's length, never by its ids, so a padding token that is also the end
    token keeps its label where it ends an answer. With B rows, the longest of L tokens:

    * plain rows: `input_ids`, `labels` and `attention_mask`, each (B, L) and int64; padding has
      the padding token's id, label -100 and mask 0;
    * packed rows (see `pack`): `input_ids`, `labels` and `position_ids`, each (B, L) and int64,
      no `attention_mask`, and `use_cache=False`. Padding is one more record of its own at the
      end of its row, with positions from 0.

    Other columns are ignored.

    Attributes:
        tokenizer: It says which token pads.

    Raises:
        SettingError: it has no padding token.
    """

    tokenizer: PreTrainedTokenizerBase

    def __post_init__(self) -> None:
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            raise SettingError(
                "This tokenizer has no padding token. Take it from models.load, which chooses "
                "one, or set tokenizer.pad_token."
            )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch of `rows`, as the class describes it: tensors of shape (rows, longest row)."""
        import torch

        width = max(len(row["input_ids"]) for row in rows)
        packed = "position_ids" in rows[0]

        def padded(name: str, fill: int) -> torch.Tensor:
            """A column as (rows, width), int64, with `fill` behind each row's own."""
            batch = torch.full((len(rows), width), fill)
            for line, row in zip(batch, rows, strict=True):
                line[: len(row[name])] = torch.as_tensor(row[name])
            return batch

        ids, labels = padded("input_ids", self.tokenizer.pad_token_id), padded("labels", UNTRAINED)
        lengths = torch.tensor([[len(row["input_ids"])] for row in rows])
        places = torch.arange(width).expand(len(rows), width)
        if not packed:
            mask = (places < lengths).long()
            return {"input_ids": ids, "labels": labels, "attention_mask": mask}
        positions = torch.where(places < lengths, padded("position_ids", 0), places - lengths)
        # With a cache, transformers does not look for restarting positions.
        return {"input_ids": ids, "labels": labels, "position_ids": positions, "use_cache": False}


def batches_by_length(
    lengths: Sequence[int], batch_size: int, seed: int = 0, shuffle: bool = True
) -> list[list[int]]:
    """Batches of records of similar length, so that little is padded.

    Plain shuffling puts a record beside any other: a batch is as long as its longest record, and
    the rest is padding, which costs time like any token. Here records of like length stand
    together and only the order of the batches is random. The price is less chance in who meets
    whom: a batch of short answers pulls the weights one way, one of long answers another.

    Args:
        lengths: Tokens of each record.
        batch_size: Records in a batch; the batch of the longest may have fewer.
        seed: The same seed gives the same batches; take the epoch's number to have others in each.
        shuffle: False gives them from short to long.

    Returns:
        Lists of record numbers, each number once.

    Raises:
        SettingError: `batch_size` is below 1.
    """
    size = whole("batch_size", batch_size, 1)
    order, chance = list(range(len(lengths))), random.Random(seed)
    if shuffle:
        chance.shuffle(order)  # chance decides between records of the same length
    order.sort(key=lambda number: lengths[number])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if shuffle:
        chance.shuffle(batches)
    return batches


def padding_share(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> float:
    """Share of the places in `batches` that are padding, from 0 to 1.

    Args:
        lengths: Tokens of each record.
        batches: Record numbers of each batch; a batch is as wide as its longest record.
    """
    used = places = 0
    for batch in filter(len, batches):
        inside = [lengths[number] for number in batch]
        used += sum(inside)
        places += max(inside) * len(batch)
    return 1 - used / places if places else 0.0
