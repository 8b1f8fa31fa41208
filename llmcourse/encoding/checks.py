"""What is looked at before the work: where the records come from, and the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.errors import DataError

if TYPE_CHECKING:
    import numpy

UNTRAINED = -100  # the label that torch's cross-entropy leaves out
COLUMNS = ("input_ids", "labels", "position_ids")


def check_source(given: Any) -> None:
    """Refuse what holds records and has no rows to be taken one after another.

    Raises:
        DataError: several data sets, a stream, a data frame, or a file's name; the message says
            how to go on.
    """
    if isinstance(given, Mapping) and any(hasattr(v, "column_names") for v in given.values()):
        names = ", ".join(map(repr, given))
        raise DataError(
            f"These are several data sets: {names}. Choose one, such as "
            f"records[{next(iter(given))!r}]."
        )
    if hasattr(given, "features") and not hasattr(given, "__len__"):
        raise DataError(
            "This data set is a stream, whose records are not counted. Take some of them, "
            "list(records.take(1000)), or load it without streaming=True."
        )
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        raise DataError("Load a data frame first: data.load_records(frame).")
    if isinstance(given, str | bytes) or hasattr(given, "__fspath__"):
        raise DataError(f"Load records first: data.load_records({given!r:.60}).")


# --- rows -----------------------------------------------------------------------------------------


def whole_numbers(values: Any) -> numpy.ndarray | None:
    """A list, array or tensor as int64 of shape (values,); None where it is something else."""
    import numpy

    try:
        found = numpy.asarray(values.cpu() if hasattr(values, "cpu") else values)
    except (TypeError, ValueError, RuntimeError):
        return None
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        return None
    return found.astype(numpy.int64, copy=False)


def outside(name: str, numbers: numpy.ndarray, tokenizer: Any = None) -> int | None:
    """A number that can't stand in the column `name`; None where all can.

    Args:
        name: One of `COLUMNS`.
        numbers: From `whole_numbers`.
        tokenizer: Whose ids they are; without it only the range of an int32 is looked at.
    """
    if name == "labels":
        numbers = numbers[numbers != UNTRAINED]
    if not numbers.size:
        return None
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0:
        return low
    if name == "position_ids" or tokenizer is None:
        return high if high >= 2**31 else None
    return None if knows(tokenizer, high) else high


def knows(tokenizer: Any, token: int) -> bool:
    """True where `token` is an id of the tokenizer's vocabulary."""
    try:
        return token >= 0 and tokenizer.convert_ids_to_tokens(token) is not None
    except (IndexError, KeyError, OverflowError):  # each kind of tokenizer has its own way
        return False


def fault(row: Any, tokenizer: Any = None) -> str | None:
    """What keeps `row` from being trained on, as the end of a sentence; None where nothing does.

    Args:
        row: A mapping with `input_ids` and `labels`, and `position_ids` where it is packed.
        tokenizer: Whose ids they are; see `outside`.
    """
    if not isinstance(row, Mapping):
        return f"is {type(row).__name__}; a mapping with input_ids and labels is wanted."
    for name in COLUMNS[:2]:
        if row.get(name) is None:
            there = ", ".join(map(repr, row)) or "no fields at all"
            return f"has no {name}; it has: {there}. Encode records first: encoding.encode."
    sizes = {}
    for name in filter(row.__contains__, COLUMNS):
        numbers = whole_numbers(row[name])
        if numbers is None:
            return f"has {name} that are no list of whole numbers: {row[name]!r:.60}"
        stranger = outside(name, numbers, tokenizer)
        if stranger is not None:
            known = "a position" if name == "position_ids" else "in the tokenizer's vocabulary"
            return f"has {stranger} among its {name}, which is not {known}."
        sizes[name] = len(numbers)
    if not sizes["input_ids"]:
        return "has no tokens. Leave it out."
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{size} {name}" for name, size in sizes.items())
        return f"has {counts}; each token needs one of each."
    return None
