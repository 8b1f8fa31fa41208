"""Reading rows one by one from files, frames, lists and the hub.

What can't be read as a row comes as a `Bad` in its place, so that the others still come.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcourse.data.patterns import masked
from llmcourse.errors import DataError, SettingError, causes, first_line
from llmcourse.progress import quiet
from llmcourse.templates import listed

LINED = (".jsonl", ".csv", ".tsv")  # files whose records are told by line
READERS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
CHUNK = 5000  # rows of a frame or table that become Python's own at once
# Names that end so are meant as files, not as data sets of the hub ("owner/name").
_FILE = re.compile(r"\.(?:jso?n\w*|csv|tsv|parq\w*|txt|md|log|xlsx?|xml|ya?ml|arrow|gz|zip)$", re.I)


class Bad(str):
    """What is wrong with a row, in its place among the rows."""


Row = tuple[int, Any]  # where a row is (line or number), and the row or a `Bad`


def kind_of(value: Any) -> str:
    """A value's kind in JSON's words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)


def named(fields: Iterable[Any]) -> str:
    """Names of fields for a message, without the personal data that a lost header makes of them."""
    return listed(masked(one[:200]) if isinstance(one, str) else one for one in fields)


def header_hint(source: str, fields: Iterable[Any]) -> str:
    """A question to add to a message where a table's names of fields look like values."""
    values = any(_VALUE.search(str(one)[:200]) for one in fields)
    if not values or not source.lower().endswith((".csv", ".tsv", "the data frame")):
        return ""
    return " Is the first line a header? Some of these look like values."


_VALUE = re.compile(r"@|^\W*\d|\d{4}|[.?!]$|(?:\w+\W+){4}\w")  # mail, number, sentence


def _require_distinct(source: str, columns: Iterable[Any]) -> None:
    """Refuse a table in which one column would hide another of its name."""
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise DataError(
            f"{source}: several columns are called {named(twice)}. Rename them, or leave out all "
            f"but one.{header_hint(source, twice)}"
        )


def open_source(source: Any, split: str) -> tuple[str, Iterable[Row]]:
    """A source's name for messages, and its rows."""
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise SettingError(
                f"The source {str(source)!r} is blank. Name a file ({', '.join(READERS)}) or a "
                f"data set on the hub (owner/name)."
            )
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
            raise DataError(
                f"This holds several splits ({', '.join(map(str, source))}); choose a split: "
                f"x[{next(iter(source))!r}]."
            )
        raise DataError("A list of records is wanted, not one record. Put it into a list.")
    if not isinstance(source, Iterable):
        raise DataError(f"Records can't be read from {kind_of(source)}.")
    return "the list", enumerate(source, 1)


def _read_named(name: str, split: str) -> Iterable[Row]:
    """The rows of a file or of a data set on the hub."""
    try:
        path = Path(name).expanduser()
        is_file = path.suffix.lower() in READERS or path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long; the home of nobody; NUL
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{name!r:.200} can't be read: {reason.rstrip('.')}.") from error
    if is_file:
        return _read_file(path, name)
    on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if on_hub and not _FILE.search(name) and not path.parent.is_dir():
        return _read_hub(name, split)
    raise DataError(
        f"{name}: no such file. Name a file ({', '.join(READERS)}) or a data set on the hub "
        f"(owner/name)."
    )


def _read_file(path: Path, name: str) -> Iterator[Row]:
    readers = {
        ".jsonl": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    kind = path.suffix.lower()
    if kind not in readers:
        what = "a folder" if path.is_dir() else f"of the kind {path.suffix or 'without ending'!r}"
        raise DataError(f"{name} is {what}. Records are read from {', '.join(READERS)}.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name} is empty.")
        yield from readers[kind](path)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file.") from error
    except OSError as error:
        raise DataError(f"{name} can't be read: {error.strerror or first_line(error)}.") from error


def decoded(raw: bytes) -> str:
    """UTF-8 text without byte-order mark, or a DataError whose message says what is wrong."""
    if b"\0" in raw:
        raise DataError("it holds NUL bytes, as UTF-16 or damaged files do. Save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        sign = raw[error.start : error.start + 1].decode("latin-1")
        raise DataError(
            f"it is not UTF-8 (byte {raw[error.start]:#04x} at {error.start + 1}, in Latin-1 "
            f"{sign!r}). Save it as UTF-8"
        ) from error


def _parsed(text: str) -> Any:
    """The JSON value in `text`; a DataError says where it breaks off."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise DataError(f"no JSON: {error.msg.lower()} at {line}column {error.colno}") from error
    except RecursionError as error:
        raise DataError("no record: it is nested too deeply") from error
    except ValueError as error:  # Python refuses to read thousands of digits
        raise DataError("no record: a number in it has too many digits") from error


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
        hint = " A file with one object a line should end in .jsonl" * ("extra data" in str(error))
        raise DataError(f"{path}: {error}.{hint}") from error
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list):
        value = next(iter(value.values()))
    if not isinstance(value, list):
        raise DataError(f"{path}: a list of objects belongs here, not {kind_of(value)}.")
    yield from enumerate(value, 1)


def _read_csv(path: Path) -> Iterator[Row]:
    """Rows as mappings; bytes that are no UTF-8 are carried along and told with their row."""
    csv.field_size_limit(2**31 - 1)  # the usual limit is 128 kB
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    columns: list[str] | None = None
    for line, cells in _csv_rows(list(io.StringIO(text, newline="")), separator):
        if columns is None and isinstance(cells, Bad):
            raise DataError(f"{path}: {cells}.")
        if isinstance(cells, Bad):
            yield line, cells
        elif columns is None and cells:
            columns = [cell or f"column {n}" for n, cell in enumerate(cells, 1)]
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
        except csv.Error as error:
            yield start + 1, Bad(f"no row of a table: {error}")
        except DataError as error:
            yield start + 1, Bad(error)
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
    """What a failed read from the hub means."""
    from huggingface_hub import errors as hub

    kinds = tuple(causes(error))
    if any(isinstance(one, hub.GatedRepoError) for one in kinds):
        way = "It is gated: accept its terms on its hub page, then log in with `hf auth login`"
    elif any(isinstance(one, hub.RepositoryNotFoundError) for one in kinds):
        way = "The hub has none of this name that you may see. Check the spelling"
    else:
        way = (
            f"Check the name, the split ({split}) and the network; HF_HUB_OFFLINE=1 takes a copy "
            f"that was kept here before"
        )
    return DataError(
        f"{name} is no file here, and can't be had from the hub ({first_line(error).rstrip('.')}). "
        f"{way}."
    )
