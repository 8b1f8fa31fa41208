"""Saving records, so that a reader sees the old file or the whole new one."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse.data.readers import kind_of
from llmcourse.data.records import is_missing, unwritable
from llmcourse.errors import DataError, first_line
from llmcourse.files import replacing
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 5000  # rows of a frame taken at once
WRITERS = (".jsonl", ".parquet")
# Kinds of values that JSON has no form for but that are plain in words: "2024-11-19", "3.50".
_WORDED = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, Path)


def save_records(records: Any, path: str | Path) -> Path:
    """Write records to a .jsonl or .parquet file, replacing an older one.

    Numbers and arrays of NumPy are written as numbers and lists, and NaN, which means that there
    is no value, as null. A .jsonl file has dates and decimals as text. Of a list, each column of
    a .parquet file holds one kind of value, and records that lack a field have null in it.

    Args:
        records: A `datasets.Dataset` (or stream of it), a pandas frame, or any iterable of
            mappings. A format or transform of a data set is not applied, nor is the frame's
            index written unless it has a name.
        path: Where to; the folder is made if need be.

    Returns:
        The path.

    Raises:
        DataError: another ending, no records, a value that such a file can't hold, or the place
            can't be written to.
        NoSpace: the disk is full; an older file stays.
    """
    target = _target(path)
    rows = _rows(records)
    write = _write_jsonl if target.suffix.lower() == ".jsonl" else _write_parquet
    try:
        with replacing(target) as draft:
            if not write(rows, draft, target):
                raise DataError(f"{path}: there are no records to write.")
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path} can't be written: a folder in it is a file.") from error
    except OSError as error:
        told = error.strerror or first_line(error)
        raise DataError(f"{path} can't be written: {told}.") from error
    return target


def _target(path: Any) -> Path:
    """The file to write.

    Raises:
        DataError: it is no path, a folder, or of a kind that is not written.
    """
    if not isinstance(path, str | os.PathLike) or "\0" in str(path) or not str(path):
        raise DataError(f"{path!r} is no path of a file to write.")
    try:
        target = Path(path).expanduser()
        folder = target.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long; the home of nobody
        told = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        raise DataError(f"{path!s:.200} can't be written: {told}.") from error
    if folder:
        raise DataError(f"{path} is a folder. Name a file in it, such as {target / 'data.jsonl'}.")
    if target.suffix.lower() not in WRITERS:
        raise DataError(
            f"{path}: records are written to {' and '.join(WRITERS)} files. Let the name end so."
        )
    return target


# --- records --------------------------------------------------------------------------------------


def _rows(records: Any) -> Iterable[Any]:
    """The records one by one; a `datasets.Dataset` stays one.

    Raises:
        DataError: these are no records, or a frame has two columns of one name.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(records, Dataset):
        return records.with_format(None)
    if isinstance(records, IterableDataset):
        return records.with_format(None)
    if hasattr(records, "itertuples"):
        return _of_frame(records)
    if isinstance(records, Mapping):
        first = next(iter(records), None)
        if first is not None and hasattr(records[first], "features"):
            raise DataError(
                f"This holds several splits ({', '.join(map(str, records))}); save each to a file "
                f"of its own: x[{first!r}]."
            )
        raise DataError("A list of records is wanted, not one record. Put it into a list.")
    if isinstance(records, str | bytes) or not isinstance(records, Iterable):
        raise DataError(f"A list of records is wanted, not {kind_of(records)}.")
    return records


def _of_frame(frame: Any) -> Iterator[Mapping[str, Any]]:
    """A frame's rows as mappings, made in chunks; an index that has a name is a column.

    Raises:
        DataError: two columns have one name.
    """
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"The data frame has several columns {twice!r}. Rename them.")
    return (
        row
        for start in range(0, len(frame), BATCH)
        for row in frame.iloc[start : start + BATCH].to_dict("records")
    )


class _Unfit(ValueError):
    """What is wrong with a value."""


def _record(path: Path, number: int, row: Any) -> dict[str, Any]:
    """A record in Python's own kinds.

    Raises:
        DataError: it is no record, or a value in it can't be written.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{path}, record {number}: an object belongs here, not {kind_of(row)}.")
    record: dict[str, Any] = {}
    for name, value in row.items():
        try:
            record[_name(name)] = _plain(value)
        except (_Unfit, RecursionError) as error:
            told = "nested too deeply" if isinstance(error, RecursionError) else error
            raise DataError(f"{path}, record {number}, field {name!r}: {told}.") from error
    return record


def _plain(value: Any) -> Any:
    """A value with Python's own numbers and lists in it, and None where there is none.

    Raises:
        _Unfit: a text with half a character, or a name that is no text.
    """
    if isinstance(value, str):
        if trouble := unwritable(value):
            raise _Unfit(trouble)
        return value
    if is_missing(value):
        return None
    if isinstance(value, Mapping):
        return {_name(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if not hasattr(value, "tolist"):
        return value
    # A number or an array of NumPy, or a tensor. Nanoseconds would come out as bare numbers.
    time = getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M")
    return _plain((value.astype(f"{value.dtype.kind}8[us]") if time else value).tolist())


def _name(name: Any) -> str:
    """The name of a field.

    Raises:
        _Unfit: it is no text.
    """
    if not isinstance(name, str):
        raise _Unfit(f"a name is text, not {kind_of(name)}: {name!r}")
    return _plain(name)


# --- files ----------------------------------------------------------------------------------------


def _write_jsonl(rows: Iterable[Any], draft: Path, path: Path) -> int:
    """Write one JSON object a line; returns how many.

    Args:
        rows: The records.
        draft: Where to.
        path: The name for messages.
    """
    count = 0
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        for count, row in enumerate(rows, 1):
            record = _record(path, count, row)
            try:
                line = _json(record)
            except (_Unfit, ValueError, RecursionError) as error:
                raise _not_json(path, count, record) from error
            file.write(line + "\n")
    return count


def _json(value: Any) -> str:
    """`value` as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_worded)


def _worded(value: Any) -> str:
    """A value in words that JSON has no form for.

    Raises:
        _Unfit: it has no words either.
    """
    if isinstance(value, _WORDED):
        return str(value)
    raise _Unfit(f"{kind_of(value)} can't stand in a .jsonl file")


def _not_json(path: Path, number: int, record: Mapping[str, Any]) -> DataError:
    """What is wrong with a record that JSON can't hold, by its first such field."""
    for name, value in record.items():
        try:
            _json(value)
        except (_Unfit, ValueError, RecursionError) as error:
            told = (
                error if isinstance(error, _Unfit) else f"JSON can't hold it ({first_line(error)})"
            )
            return DataError(f"{path}, record {number}, field {name!r}: {told}.")
    return DataError(f"{path}, record {number}: JSON can't hold it.")


def _write_parquet(rows: Iterable[Any], draft: Path, path: Path) -> int:
    """Write a table in Parquet's form; returns how many rows it has.

    Args:
        rows: The records.
        draft: Where to.
        path: The name for messages.
    """
    import pyarrow as pa
    from datasets import Dataset

    with quiet_datasets():
        dataset = rows if isinstance(rows, Dataset) else _table(rows, path)
        try:
            dataset.to_parquet(str(draft))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"{path}: Parquet can't hold it ({first_line(error)}).") from error
    return len(dataset)


def _table(rows: Iterable[Any], path: Path) -> Dataset:
    """Records as a table that has the fields of all of them.

    Raises:
        DataError: they have no fields, or a field has several kinds of values.
    """
    from datasets import Dataset

    records = [_record(path, number, row) for number, row in enumerate(rows, 1)]
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:
        raise DataError(f"{path}: the records have no fields.")
    columns = {name: [record.get(name) for record in records] for name in names}
    for name, values in columns.items():
        _check_column(path, name, values)
    return Dataset.from_dict(columns)


def _check_column(path: Path, name: str, values: list[Any]) -> None:
    """Refuse a column that a .parquet file can't hold.

    Raises:
        DataError: it has several kinds of values, or values of no kind that Arrow has.
    """
    import pyarrow as pa

    try:
        pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        kinds = {kind_of(value): n for n, value in reversed([*enumerate(values, 1)])}
        found = [f"{kind} in record {n}" for kind, n in kinds.items() if kind != "nothing"]
        told = " and ".join(sorted(found, key=lambda one: int(one.rsplit(" ", 1)[1])))
        raise DataError(
            f"{path}, field {name!r}: no column of a .parquet file can hold its values, with "
            f"{told} ({first_line(error)}). Make them one kind, or save as .jsonl."
        ) from error
