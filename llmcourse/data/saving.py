"""Saving records, so that a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmcourse.data.readers import open_source
from llmcourse.data.records import is_missing
from llmcourse.errors import DataError, first_line
from llmcourse.files import replacing
from llmcourse.progress import quiet_datasets

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
    write = {".jsonl": _write_jsonl, ".parquet": _write_parquet}.get(target.suffix.lower())
    if write is None or isinstance(records, str | bytes | Path):
        raise DataError(f"{path}: a list of records is written to a .jsonl or .parquet file.")
    if hasattr(records, "itertuples") and any(name is not None for name in records.index.names):
        records = records.reset_index()
    rows = (_mapping(row, number) for number, row in open_source(records)[1])
    try:
        with replacing(target) as draft:
            write(rows, draft)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DataError(f"{path} can't be written: {reason}.") from error
    return target


def _mapping(row: Any, number: int) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise DataError(f"record {number}: an object belongs here, not {type(row).__name__}")
    return row


def _write_jsonl(records: Iterable[Mapping[str, Any]], draft: Path) -> None:
    """Write one JSON object a line."""
    number = 0
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        for number, record in enumerate(records, 1):
            try:
                # read back, as only then every NaN is seen, however deep it is nested
                plain = json.loads(json.dumps(record, default=_plain), parse_constant=_nothing)
                file.write(json.dumps(plain, ensure_ascii=False) + "\n")
            except (ValueError, TypeError, RecursionError) as error:  # half a character is one too
                raise DataError(f"record {number}: {first_line(error)}") from error
    if not number:
        raise DataError("there are no records to write")


def _plain(value: Any) -> Any:
    """What JSON has no form for: in words, or as Python's own number or list."""
    if is_missing(value):
        return None
    if getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M"):
        # a time of NumPy: its nanoseconds would come out as bare numbers
        return value.astype(f"{value.dtype.kind}8[us]").tolist()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, _WORDED):
        return str(value)
    raise ValueError(f"{type(value).__name__} has no form in JSON")


def _nothing(constant: str) -> None:
    """NaN means that there is no value."""
    if constant != "NaN":
        raise ValueError(f"{constant} has no form in JSON")


def _write_parquet(records: Iterable[Mapping[str, Any]], draft: Path) -> None:
    """Write a table that has the fields of all records."""
    import pyarrow as pa
    from datasets import Dataset

    rows = list(records)  # a table needs all its columns before the first row is written
    if not rows:
        raise DataError("there are no records to write")
    columns: dict[str, pa.Array] = {}
    name = ""
    try:
        for name in dict.fromkeys(name for row in rows for name in row):
            columns[name] = pa.array([row.get(name) for row in rows], from_pandas=True)
        with quiet_datasets():
            Dataset(pa.table(columns)).to_parquet(str(draft))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"field {name!a}: a .parquet file can't hold its values ({first_line(error)}). Make "
            f"them one kind, or save as .jsonl"
        ) from error
