"""Rows to batches: padding, and which records stand together."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.encoding.checks import (
    COLUMNS,
    UNTRAINED,
    fault,
    outside,
    whole_numbers,
)  # fmt: skip
from llmcourse.errors import DataError, SettingError, whole

if TYPE_CHECKING:
    import numpy
    import torch
    from transformers import PreTrainedTokenizerBase


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
            DataError: there are no rows, plain ones stand beside packed ones, or one has a
                problem: no labels, labels shorter than its ids, ids that this tokenizer does not
                know. The message says which.
        """
        import numpy
        import torch

        rows = _as_rows(rows)
        flat, lengths = _joined(rows, self.tokenizer)
        size = numpy.array(lengths)[:, None]
        places = numpy.arange(size.max())[None]
        inside = places < size

        def padded(name: str, fill: int | numpy.ndarray) -> torch.Tensor:
            """A column as (rows, longest row), int64, with `fill` behind each row's own."""
            batch = numpy.empty(inside.shape, dtype=numpy.int64)
            batch[:] = fill
            batch[inside] = flat[name]
            return torch.from_numpy(batch)

        pad = self.tokenizer.pad_token_id
        batch = {"input_ids": padded("input_ids", pad), "labels": padded("labels", UNTRAINED)}
        if "position_ids" not in flat:
            return batch | {"attention_mask": torch.from_numpy(inside.astype(numpy.int64))}
        # With a cache, transformers does not look for restarting positions.
        return batch | {"position_ids": padded("position_ids", places - size), "use_cache": False}


def _as_rows(given: Any) -> list[Mapping[str, Any]]:
    """Rows as a list, out of rows or of columns.

    Raises:
        DataError: there are none.
    """
    wanted = "A list of rows is wanted, such as encoded.dataset[:8]"
    if isinstance(given, Mapping):
        try:
            rows = list(zip(*given.values(), strict=True))
        except (TypeError, ValueError) as error:
            raise DataError(f"{wanted}, not one row or columns of different length.") from error
        given = [dict(zip(given, row, strict=True)) for row in rows]
        if any(not hasattr(row.get("input_ids", ()), "__len__") for row in given):
            raise DataError(f"{wanted}. Put a single row into a list: [row].")
    try:
        rows = list(given)
    except TypeError as error:
        raise DataError(f"{wanted}, not {type(given).__name__}.") from error
    if not rows:
        raise DataError("There are no rows to put into a batch.")
    return rows


def _joined(
    rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, numpy.ndarray], list[int]]:
    """Each column's numbers end to end, (tokens of all rows,) and int64, and each row's tokens.

    All rows are looked at in one go; one after another only where there is something to tell.

    Raises:
        DataError: a row has a problem, or plain rows stand beside packed ones.
    """
    import numpy

    packed = [isinstance(row, Mapping) and "position_ids" in row for row in rows]
    names = COLUMNS if packed[0] else COLUMNS[:2]
    if len(set(packed)) == 1 and all(isinstance(row, Mapping) for row in rows):
        parts = {name: [whole_numbers(row.get(name)) for row in rows] for name in names}
        sizes = [[-1 if part is None else len(part) for part in parts[name]] for name in names]
        if min(sizes[0]) > 0 and all(other == sizes[0] for other in sizes):
            flat = {name: numpy.concatenate(parts[name]) for name in names}
            if all(outside(name, flat[name], tokenizer) is None for name in names):
                return flat, sizes[0]
    for place, row in enumerate(rows):
        told = fault(row, tokenizer)
        if told:
            raise DataError(f"Row {place} of the batch (counted from 0) {told}")
    other = packed.index(not packed[0])
    kinds = ("packed", "plain") if packed[0] else ("plain", "packed")
    raise DataError(
        f"Row 0 of the batch is {kinds[0]}, and row {other} (counted from 0) is {kinds[1]}. Pack "
        f"all records or none."
    )


def batches_by_length(
    lengths: Sequence[int], batch_size: int, seed: int = 0, shuffle: bool = True
) -> list[list[int]]:
    """Batches of records of similar length, so that little is padded.

    Plain shuffling puts a record beside any other: a batch is as long as its longest record, and
    the rest is padding, which costs time like any token. Here records of like length stand
    together and only the order of the batches is random. The price is less chance in who meets
    whom: a batch of short answers pulls the weights one way, one of long answers another.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batch_size: Records in a batch; the batch of the longest may have fewer.
        seed: The same seed gives the same batches; take the epoch's number to have others in each.
        shuffle: False gives them from short to long.

    Returns:
        Lists of record numbers, each number once.

    Raises:
        SettingError: `batch_size` is below 1, or `seed` no whole number of at least 0.
        DataError: `lengths` are no whole numbers.
    """
    size = whole("batch_size", batch_size, 1)
    tokens, chance = _counts(lengths), random.Random(whole("seed", seed, 0))
    order = list(range(len(tokens)))
    if shuffle:
        chance.shuffle(order)  # chance decides between records of the same length
    order.sort(key=tokens.__getitem__)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if shuffle:
        chance.shuffle(batches)
    return batches


def padding_share(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> float:
    """Share of the places in `batches` that are padding, from 0 to 1.

    Args:
        lengths: Tokens of each record, such as `encoded.dataset["length"]`.
        batches: Record numbers of each batch, as `batches_by_length` gives them; a batch is as
            wide as its longest record.

    Raises:
        DataError: `lengths` are no whole numbers, or a batch is no list of numbers of records.
    """
    tokens = _counts(lengths)
    used = places = 0
    try:
        listed = list(batches)
    except TypeError:
        listed = [batches]  # told as the first batch
    for place, batch in enumerate(listed):
        numbers = whole_numbers(batch)
        if numbers is None or any(not 0 <= number < len(tokens) for number in numbers):
            raise DataError(
                f"Batch {place} (counted from 0) must be a list of record numbers from 0 to "
                f"{len(tokens) - 1}, but it is {batch!r:.60}"
            )
        inside = [tokens[number] for number in numbers]
        used += sum(inside)
        places += max(inside, default=0) * len(inside)
    return 1 - used / places if places else 0.0


def _counts(lengths: Any) -> list[int]:
    """Tokens of each record, as plain numbers.

    Raises:
        DataError: they are no whole numbers of at least 0.
    """
    try:
        numbers = whole_numbers(lengths[:])  # of a data set's column this reads all at once
    except (TypeError, KeyError):
        numbers = None
    if numbers is None or (numbers.size and numbers.min() < 0):
        raise DataError(
            f"Lengths are wanted, a whole number of tokens for each record, such as "
            f'encoded.dataset["length"], not {type(lengths).__name__}: {lengths!s:.60}'
        )
    return numbers.tolist()
