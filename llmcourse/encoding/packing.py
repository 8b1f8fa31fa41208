"""Several records in one row, so that next to nothing is padded."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import parallel
from llmcourse.encoding.checks import (
    COLUMNS,
    UNTRAINED,
    check_source,
    fault,
    outside,
    whole_numbers,
)  # fmt: skip
from llmcourse.encoding.records import Encoded
from llmcourse.errors import DataError, SettingError, first_line, whole

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel


def pack(encoded: Encoded | Dataset, max_length: int) -> Dataset:
    """Put several records into each row, without letting one see another.

    Records are taken from the longest to the shortest, and each goes into the first row that has
    room (first-fit decreasing). After Krell et al., Efficient Sequence Packing without
    Cross-contamination (2021, https://arxiv.org/abs/2107.02027).

    Positions restart at 0 for each record. Where a model of transformers gets such positions,
    no attention mask and no cache, it lets each token see its own record only; `Collator` hands
    rows over in that way. This was chosen over a ready-made mask of every token against every
    other: such a mask must have the weights' type, differs between attention kernels, and takes
    the place of a model's own sliding windows (Gemma 3 and Mistral have them). Positions serve
    all of these, but not every model looks at them: call `check_packing` first.

    Rows come out fullest-record first; shuffle them for training (`Trainer` does).

    Args:
        encoded: From `encode`, or its rows.
        max_length: The most tokens a row may have.

    Returns:
        Rows with `input_ids`, `labels`, `position_ids`, and `records`, the numbers of the records
        in them. The first label of each record is -100: nothing before it predicts it.

    Raises:
        SettingError: `max_length` is below 1.
        DataError: there are no rows, they are packed already, or one has a problem or is longer
            than `max_length`.
        NoSpace: the disk is full.
    """
    from datasets import Dataset

    room = whole("max_length", max_length, 1)
    rows = _rows(encoded.dataset if isinstance(encoded, Encoded) else encoded)
    bins = first_fit_decreasing(_lengths(rows), room)
    job = functools.partial(_pack_batch, rows=rows)
    columns = {name: ["int32"] for name in ("input_ids", "labels", "position_ids")}
    plan = Dataset.from_dict({"places": bins})
    columns["records"] = ["int64"]
    with parallel.scratch(kept=True) as folder:
        packed = parallel.map_rows(plan, job, columns, folder, description="Packing")
        return parallel.with_files(packed, folder)


def _rows(given: Any) -> Dataset:
    """The columns that are packed.

    Raises:
        DataError: they are no encoded rows, or packed ones, or there are none.
    """
    check_source(given)
    if not hasattr(given, "features"):
        raise DataError(
            f"What encode gives is wanted, or rows of it as a data set, not "
            f"{type(given).__name__}. Of a list make one: Dataset.from_list(rows)."
        )
    if "position_ids" in given.features:
        raise DataError(
            "These rows are packed already: they have position_ids. Pack what encode gives."
        )
    missing = [name for name in COLUMNS[:2] if name not in given.features]
    if missing:
        there = ", ".join(map(repr, given.features))
        raise DataError(
            f"The rows have no {missing[0]}; they have: {there}. Encode records first: "
            f"pack(encode(records, tokenizer), max_length)."
        )
    if not len(given):
        raise DataError("There are no rows to pack.")
    # A `record` that is no number is a column of somebody else's.
    numbered = getattr(given.features.get("record"), "dtype", "") in ("int32", "int64")
    return given.select_columns([*COLUMNS[:2], *["record"] * numbered]).with_format(None)


def _lengths(rows: Dataset) -> list[int]:
    """The tokens of each row.

    Raises:
        DataError: a row has a problem; the message says which.
    """
    lengths: list[int] = []
    for table in rows.with_format("arrow").iter(5000):
        found = _sound_lengths(table)
        if found is None:
            listed = table.to_pylist()
            for number, row in enumerate(listed, start=len(lengths)):
                told = fault(row)
                if told:
                    raise DataError(f"Row {number} (counted from 0) {told}")
            found = [len(row["input_ids"]) for row in listed]
        lengths += found
    return lengths


def _sound_lengths(table: Any) -> list[int] | None:
    """The tokens of each row of an arrow table; None where a row may have a problem."""
    import pyarrow
    from pyarrow import compute

    lengths = []
    for name in COLUMNS[:2]:
        column = table[name].combine_chunks()
        if not pyarrow.types.is_list(column.type) and not pyarrow.types.is_large_list(column.type):
            return None
        lengths.append(compute.list_value_length(column).to_pylist())
        numbers = whole_numbers(column.flatten().to_numpy(zero_copy_only=False))
        if numbers is None or outside(name, numbers) is not None:
            return None
    sound = None not in lengths[0] and min(lengths[0]) > 0 and lengths[0] == lengths[1]
    return lengths[0] if sound else None


def first_fit_decreasing(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which records share a row: lists of record numbers, each number once.

    Records of one length are placed together, for which the rows that are open are looked at
    once: at most as many looks as there are lengths, and the rows are those that placing one
    record after another gives.

    Raises:
        DataError: a record is longer than `room`.
    """
    import numpy

    sizes = numpy.asarray(lengths, dtype=numpy.int64)
    if len(sizes) and sizes.max() > room:
        number = int(sizes.argmax())
        raise DataError(
            f"Row {number} (counted from 0) has {sizes[number]} tokens and does not fit into "
            f"packed rows of max_length={room}. Raise max_length, or encode with this one first."
        )
    room = min(room, int(sizes.sum()))  # more than all tokens is as good as all
    free = numpy.empty(0, dtype=numpy.int64)
    bin_of = numpy.empty(len(sizes), dtype=numpy.int64)
    for size in numpy.unique(sizes)[::-1]:
        members = numpy.flatnonzero(sizes == size)
        missing = len(members) - int((free // size).sum())
        if missing > 0:
            free = numpy.append(free, numpy.full(-(-missing // (room // size)), room))
        held = numpy.minimum((free // size).cumsum(), len(members))
        taken = numpy.diff(held, prepend=0)
        bin_of[members] = numpy.repeat(numpy.arange(len(free)), taken)
        free = free - taken * size
    bins: list[list[int]] = [[] for _ in free]
    for number in numpy.argsort(-sizes, kind="stable").tolist():
        bins[bin_of[number]].append(number)
    return bins


def _pack_batch(
    batch: dict[str, list[list[int]]], numbers: list[int], rows: Dataset
) -> dict[str, list[list[int]]]:
    """Packed rows, one for each list of places in `batch`."""
    flat = [place for places in batch["places"] for place in places]
    found = rows[flat]
    records = iter(zip(found["input_ids"], found["labels"], found.get("record", flat), strict=True))
    packed: dict[str, list[list[int]]] = {
        "input_ids": [], "labels": [], "position_ids": [], "records": []
    }  # fmt: skip
    for places in batch["places"]:
        row: dict[str, list[int]] = {name: [] for name in packed}
        for _ in places:
            ids, labels, record = next(records)
            row["input_ids"] += ids
            row["labels"] += [UNTRAINED, *labels[1:]]
            row["position_ids"] += range(len(ids))
            row["records"].append(record)
        for name, values in row.items():
            packed[name].append(values)
    return packed


def check_packing(model: PreTrainedModel) -> None:
    """Make sure, by trying, that `model` keeps packed records apart.

    Whether restarting positions are heeded depends on the architecture, the attention kernel and
    the version of transformers, so it is measured: what the model computes for one record must
    not change when the record packed before it is another one.

    Args:
        model: The model to be trained, bare or from `models.load`; left as it was.

    Raises:
        SettingError: one record sees the other, the model takes no positions, or it is no model.
    """
    import torch

    if not hasattr(model, "get_input_embeddings"):
        given, model = model, getattr(model, "model", None)
        if not hasattr(model, "get_input_embeddings"):
            raise SettingError(
                f'A model is wanted, such as models.load("base"), not {type(given).__name__}.'
            )
    known = model.get_input_embeddings().num_embeddings
    one, other, same = ([(step * n + 5) % known for n in range(6)] for step in (3, 7, 11))
    was_training = model.training
    model.eval()  # without dropout
    try:
        with torch.no_grad():
            first, second = (_logits(model, before, same) for before in (one, other))
    except AttributeError as error:
        raise SettingError(
            f"{type(model).__name__} writes no text ({first_line(error)}). Load it with its head: "
            f"AutoModelForCausalLM."
        ) from error
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"{type(model).__name__} takes no positions ({first_line(error)}), so records can't be "
            f"packed for it. Pad them instead, in batches_by_length."
        ) from error
    finally:
        model.train(was_training)
    if not torch.allclose(first, second, rtol=1e-5, atol=1e-7 * float(first.abs().max())):
        raise SettingError(
            f"{type(model).__name__} does not keep packed records apart: what it computes for one "
            f"depends on the one before it. Pad them instead, in batches_by_length."
        )


def _logits(model: PreTrainedModel, before: list[int], record: list[int]) -> torch.Tensor:
    """What `model` computes for `record`, packed behind another one.

    Returns:
        Float32 of shape (tokens of `record`, vocabulary).
    """
    import torch

    ids = torch.tensor([before + record], device=model.device)
    places = torch.tensor([[*range(len(before)), *range(len(record))]], device=model.device)
    out: Any = model(input_ids=ids, position_ids=places, use_cache=False)
    return out.logits[0, len(before) :].float()
