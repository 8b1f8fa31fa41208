"""Saving records, so that a reader sees the old file or the whole new one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmcourse.errors import DataError, first_line
from llmcourse.files import replacing
from llmcourse.progress import quiet_datasets

WRITERS = (".jsonl", ".parquet")


def save_records(records: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write records to a .jsonl or .parquet file, replacing an older one.

    Args:
        records: A `datasets.Dataset` or any mappings; they are written as they come.
        path: Where to; the folder is made if need be.

    Returns:
        The path.

    Raises:
        DataError: another ending, no records, or the place can't be written to.
        NoSpace: the disk is full; an older file stays.
    """
    target = Path(path).expanduser()
    kind = target.suffix.lower()
    if kind not in WRITERS:
        raise DataError(f"{path}: records are written to {' and '.join(WRITERS)} files.")
    write = _write_jsonl if kind == ".jsonl" else _write_parquet
    try:
        with replacing(target) as draft:
            if not write(records, draft):
                raise DataError(f"{path}: there are no records to write.")
    except OSError as error:
        told = error.strerror or first_line(error)
        raise DataError(f"{path} can't be written: {told}.") from error
    return target


def _write_jsonl(records: Iterable[Mapping[str, Any]], draft: Path) -> int:
    """Write one JSON object a line; returns how many."""
    count = 0
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(dict(record), ensure_ascii=False, default=str) + "\n")
            count += 1
    return count


def _write_parquet(records: Iterable[Mapping[str, Any]], draft: Path) -> int:
    """Write a table in Parquet's form; returns how many rows it has."""
    import datasets

    whole = isinstance(records, datasets.Dataset)
    dataset = records if whole else datasets.Dataset.from_list([dict(r) for r in records])
    with quiet_datasets():
        dataset.to_parquet(str(draft))
    return len(dataset)
