"""Saving records, so that a reader sees the old file or the whole new one."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmcourse.data.readers import open_source
from llmcourse.data.records import is_missing, unwritable
from llmcourse.errors import DataError, first_line
from llmcourse.files import replacing
from llmcourse.progress import quiet_datasets

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
    target = Path(path).expanduser()
    if target.suffix.lower() not in WRITERS:
        raise DataError(
            f"{path}: records are written to {' and '.join(WRITERS)} files. Let the name end so."
        )
    if hasattr(records, "itertuples") and any(name is not None for name in records.index.names):
        records = records.reset_index()
    if isinstance(records, str | bytes | Path):
        raise DataError(f"A list of records is wanted, not {type(records).__name__}.")
    rows = (_record(row, number) for number, row in open_source(records, "train")[1])
    write = _write_jsonl if target.suffix.lower() == ".jsonl" else _write_parquet
    try:
        with replacing(target) as draft:
            if not write(rows, draft):
                raise DataError("there are no records to write")
    except DataError as error:
        raise DataError(f"{path}: {str(error).rstrip('.')}.") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DataError(f"{path} can't be written: {reason}.") from error
    return target


def _record(row: Any, number: int) -> dict[str, Any]:
    """A record in Python's own kinds.

    Raises:
        DataError: it is no record, or has half a character.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"record {number}: an object belongs here, not {type(row).__name__}")
    record: dict[str, Any] = {}
    for name, value in row.items():
        try:
            record[_plain(name)] = _plain(value)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise DataError(f"record {number}, field {name!r}: {reason}") from error
    return record


def _plain(value: Any) -> Any:
    """A value with Python's own numbers and lists in it, and None where there is none."""
    if isinstance(value, str):
        if trouble := unwritable(value):
            raise ValueError(trouble)
        return value
    if is_missing(value):
        return None
    if isinstance(value, Mapping):
        return {_plain(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if not hasattr(value, "tolist"):
        return value
    # A number or an array of NumPy, or a tensor. Nanoseconds would come out as bare numbers.
    time = getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M")
    return _plain((value.astype(f"{value.dtype.kind}8[us]") if time else value).tolist())


def _write_jsonl(rows: Iterable[dict[str, Any]], draft: Path) -> int:
    """Write one JSON object a line; returns how many."""

    def worded(value: Any) -> str:
        if isinstance(value, _WORDED):
            return str(value)
        raise ValueError(f"{type(value).__name__} can't be in a .jsonl file")

    number = 0
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        for number, record in enumerate(rows, 1):
            for name, value in record.items():
                try:
                    json.dumps(value, allow_nan=False, default=worded)
                except (ValueError, TypeError) as error:
                    told = f"record {number}, field {name!r}: {first_line(error)}"
                    raise DataError(told) from error
            file.write(json.dumps(record, ensure_ascii=False, default=worded) + "\n")
    return number


def _write_parquet(rows: Iterable[dict[str, Any]], draft: Path) -> int:
    """Write a table that has the fields of all records; returns how many rows it has."""
    import pyarrow as pa
    from datasets import Dataset

    records = list(rows)
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:
        raise DataError("the records have no fields")
    name = ""
    try:
        columns = {}
        for name in names:
            columns[name] = pa.array([record.get(name) for record in records])
        with quiet_datasets():
            Dataset(pa.table(columns)).to_parquet(str(draft))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"field {name!r}: a .parquet file can't hold its values ({first_line(error)}). Make "
            f"them one kind, or save as .jsonl"
        ) from error
    return len(records)
