"""Reading rows one by one from files, frames, lists and the hub.

What can't be read as a row comes as a `Bad` in its place, so that the others still come.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcourse.data.patterns import masked
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.progress import quiet
from llmcourse.templates import listed

LINED = (".jsonl", ".csv", ".tsv")  # files in which a record has a line
CHUNK = 5000  # rows of a frame or table that become Python's own at once
# Names that end so are meant as files, not as data sets of the hub ("owner/name").
_FILE = re.compile(r"\.(?:jso?n\w*|csv|tsv|parq\w*|txt|md|log|xlsx?|xml|ya?ml|arrow|gz|zip)$", re.I)


class Bad(str):
    """What is wrong with a row, in its place among the rows."""


Row = tuple[int, Any]  # where a row is (line or number), and the row or a `Bad`


def field_names(fields: Iterable[Any]) -> str:
    """Names of fields for a message; of a table without a header they may be personal data."""
    return listed(masked(one[:200]) if isinstance(one, str) else one for one in fields)


def open_source(source: Any, split: str = "train") -> tuple[str, Iterable[Row]]:
    """A source's name for messages, and its rows.

    Args:
        source: See `load_records`.
        split: Which split of a data set on the hub.

    Raises:
        SettingError: the source is a blank name.
        DataError: it is nothing that has records, or its rows can't be read (raised while reading).
    """
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise SettingError(f"The source {str(source)!r} is blank. Name a file or a data set.")
        return str(source), _read_named(str(source), split)
    if hasattr(source, "itertuples"):
        _require_distinct("the data frame", source.columns)
        # in chunks, as all at once would need the frame's memory many times
        chunks = (source.iloc[n : n + CHUNK] for n in range(0, len(source), CHUNK))
        rows = itertools.chain.from_iterable(chunk.to_dict("records") for chunk in chunks)
        return "the data frame", enumerate(rows, 1)
    if hasattr(source, "features"):
        return "the data set", enumerate(source.with_format(None), 1)
    if isinstance(source, Mapping):
        if source and all(hasattr(one, "features") for one in source.values()):
            raise DataError(f"This holds several splits ({', '.join(source)}); choose a split.")
        raise DataError("This is one record. Put it into a list.")
    if not isinstance(source, Iterable):
        raise DataError(f"Records can't be read from {type(source).__name__}.")
    return "the list", enumerate(source, 1)


def _require_distinct(source: str, columns: Iterable[Any]) -> None:
    """Refuse a table in which one column would hide another of its name."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise DataError(
            f"{source}: several columns are called {field_names(repeated)}. Rename them."
        )


# --- files ----------------------------------------------------------------------------------------


def _read_named(name: str, split: str) -> Iterable[Row]:
    """The rows of a file, or of a data set on the hub."""
    # the functions of `os.path` answer where Path's raise: a name that is too long, no home folder
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    if os.path.exists(path):  # noqa: PTH110
        return _read_file(path, name)
    on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if on_hub and not _FILE.search(name) and not os.path.isdir(path.parent):  # noqa: PTH112
        return _read_hub(name, split)
    raise DataError(
        f"{name:.200}: no such file. Name a file ({', '.join(_READERS)}) or a data set on the hub "
        f"(owner/name)."
    )


def _read_file(path: Path, name: str) -> Iterator[Row]:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{name} is none of the files that are read: {', '.join(_READERS)}.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name} is empty.")
        yield from read(path)
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or first_line(error)}.") from error


def decoded(raw: bytes) -> str:
    """UTF-8 text without byte-order mark.

    Raises:
        DataError: it is something else; the message says where and has no full stop.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"it is not UTF-8 (byte {raw[error.start]:#04x} at {error.start + 1}). Save it as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError("it holds NUL bytes, as UTF-16 or damaged files do. Save it as UTF-8")
    return text


def _parsed(text: str) -> Any:
    """The JSON value in `text`.

    Raises:
        DataError: it is none; the message says where it breaks off.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter: nested too deeply
        raise DataError(f"no JSON: {first_line(error).lower()}") from error


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                if text := decoded(raw).strip():
                    yield number, _parsed(text)
            except DataError as error:
                yield number, Bad(error)


def _read_json(path: Path) -> Iterator[Row]:
    try:
        value = _parsed(decoded(path.read_bytes()))
    except DataError as error:
        lines = "extra data" in str(error)  # behind the first value comes another
        hint = " A file with one object a line should end in .jsonl." if lines else ""
        raise DataError(f"{path}: {error}.{hint}") from error
    if isinstance(value, dict) and len(value) == 1:  # {"data": [...]}
        [value] = value.values()
    if not isinstance(value, list):
        raise DataError(f"{path}: a list of objects belongs here, not {type(value).__name__}.")
    yield from enumerate(value, 1)


def separator_of(path: Path) -> str:
    """What separates the cells of a table: a spreadsheet's language may make it a semicolon."""
    with path.open("rb") as file:
        head = file.readline()
    return max(",;\t", key=lambda mark: head.count(mark.encode()))


def _read_csv(path: Path) -> Iterator[Row]:
    """Rows as mappings; bytes that are no UTF-8 are carried along and reported with their row."""
    csv.field_size_limit(2**31 - 1)  # the usual limit is 128 kB
    # a wrong byte becomes a surrogate, which `_csv_rows` finds: the other rows can still be read
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(path)
    columns: list[str] | None = None
    for line, cells in _csv_rows(list(io.StringIO(text, newline="")), separator):
        if columns is None and isinstance(cells, Bad):
            raise DataError(f"{path}: {cells}.")
        if isinstance(cells, Bad):
            yield line, cells
        elif columns is None and cells:
            columns = [cell.strip() or f"column {n}" for n, cell in enumerate(cells, 1)]
            _require_distinct(str(path), columns)
        elif columns and len(cells) > len(columns):
            yield line, Bad(f"more cells than the {len(columns)} columns")
        elif columns and any(cells):
            yield line, dict(itertools.zip_longest(columns, cells))


def _csv_rows(lines: list[str], separator: str) -> Iterator[tuple[int, Any]]:
    """The line that each row begins in, and its cells, or what is wrong with it.

    After a bad row the next line begins another, so that an open quote swallows no others.
    """
    start = 0
    while start < len(lines):
        begin = start
        rows = csv.reader(itertools.islice(lines, begin, None), delimiter=separator, strict=True)
        try:
            for cells in rows:
                decoded("".join(cells).encode("utf-8", "surrogateescape"))
                yield start + 1, cells
                start = begin + rows.line_num
            return
        except (csv.Error, DataError) as error:
            yield start + 1, Bad(f"no row of a table: {error}")
        start += 1


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        _require_distinct(str(path), file.schema_arrow.names)
        rows = (row for batch in file.iter_batches(CHUNK) for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no parquet file: {first_line(error)}.") from error


_READERS = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}


# --- the hub --------------------------------------------------------------------------------------


def _read_hub(name: str, split: str) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        with quiet():
            ask_hub(name)
            dataset = load_dataset(name, split=split, streaming=True)
        yield from enumerate(dataset, 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise hub_error(name, split, error) from error


def ask_hub(name: str) -> None:
    """Ask the hub once for a data set; `load_dataset` would try for half a minute.

    Raises:
        OSError: there is no network, or no such data set that one may see.
    """
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(name, timeout=10)
    except (OSError, ValueError):
        raise
    except Exception as error:  # the hub's client has changed its errors of the network before
        raise ConnectionError(first_line(error)) from error


def hub_error(name: str, split: str, error: Exception) -> DataError:
    """What a failed read from the hub means; the hub's own words say whether it is gated."""
    return DataError(
        f"{name} is no file here, and the hub does not give it ({first_line(error).rstrip('.')}). "
        f"Check the name, the split ({split}), your login (`hf auth login`) and the network; "
        f"HF_HUB_OFFLINE=1 takes a copy that was kept here before."
    )
