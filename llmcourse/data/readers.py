"""Reading records one by one from files, frames, lists and the hub.

What can't be read as a record comes as a `Bad` in its place, so that the others still come.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from llmcourse.data.patterns import masked
from llmcourse.errors import DataError, SettingError, causes, first_line
from llmcourse.progress import quiet
from llmcourse.templates import listed

READERS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
LINED = (".jsonl", ".csv", ".tsv")  # files whose records are told by line
TABLES = (".csv", ".tsv", "the data frame")  # sources whose names of fields may be values
OTHER_FILES = (".txt", ".md", ".log", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".arrow", ".gz",
               ".zip")  # fmt: skip
LONGEST_LINE = 8_000_000  # bytes; more is a file without line ends, not a record
CHUNK = 5000


class Bad(str):
    """What is wrong with a record, standing in its place among the rows."""


Row = tuple[int, Any]  # where a record stands (line or number), and the record or a `Bad`


def kind_of(value: Any) -> str:
    """A value's kind in JSON's words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number",
             float: "a number", type(None): "nothing"}  # fmt: skip
    return names.get(type(value), type(value).__name__)


def named(fields: Iterable[Any]) -> str:
    """Names of fields for a message, without the personal data that a lost header makes of them."""
    return listed(masked(one[:200]) if isinstance(one, str) else one for one in fields)


def header_hint(source: str, fields: Iterable[Any]) -> str:
    """A question to add to a message where a table's names of fields look like values."""
    if not source.lower().endswith(TABLES):
        return ""
    values = any(_VALUE.search(str(one)[:200]) for one in fields)
    return " Is the first line a header? Some of these look like values." if values else ""


_VALUE = re.compile(r"@|^\W*\d|\d{4}|[.?!]$|(?:\w+\W+){4}\w")  # mail, number, sentence


def _distinct(source: str, columns: Iterable[Any]) -> None:
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
        _distinct("the data frame", source.columns)
        return "the data frame", enumerate(_of_frame(source), 1)
    if hasattr(source, "features"):
        return "the data set", enumerate(source.with_format(None), 1)
    if isinstance(source, Mapping):
        if source and all(hasattr(one, "features") for one in source.values()):
            names = ", ".join(map(str, source))
            raise DataError(
                f"This holds several splits ({names}); choose a split: x[{next(iter(source))!r}]."
            )
        raise DataError("A list of records is wanted, not one record. Put it into a list.")
    if not isinstance(source, Iterable):
        raise DataError(f"Records can't be read from {kind_of(source)}.")
    return "the list", enumerate(source, 1)


def _read_named(name: str, split: str) -> Iterable[Row]:
    """The rows of a file or of a data set on the hub."""
    if "\0" in name:
        raise DataError(f"{name!r} is no name of a file: it holds a NUL byte.")
    try:
        path = Path(name).expanduser()
        there = path.suffix.lower() in READERS or path.exists()
    except (OSError, RuntimeError) as error:  # a name too long; the home of nobody
        told = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{name:.200} can't be read: {told.rstrip('.')}.") from error
    if there:
        return _read_file(path, name)
    hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    beside = hub and path.parent.is_dir()
    if hub and (_is_cached(name) or not (beside or _is_like_a_file(path))):
        return _read_hub(name, split)
    here = f" in the folder {str(path.parent)!r}" if beside else ""
    raise DataError(
        f"{name}: no such file{here}. Name a file ({', '.join(READERS)}) or a data set on the hub "
        f"(owner/name)."
    )


def _is_like_a_file(path: Path) -> bool:
    """True where a name ends as files of data do, or nearly so: ".jsnl"."""
    kind = path.suffix.lower()
    return kind in OTHER_FILES or bool(difflib.get_close_matches(kind, READERS, 1, cutoff=0.75))


def _of_frame(frame: Any) -> Iterator[Any]:
    """A frame's rows as mappings, made in chunks: all at once would need its memory many times."""
    for start in range(0, len(frame), CHUNK):
        yield from frame.iloc[start : start + CHUNK].to_dict("records")


def _read_file(path: Path, name: str) -> Iterator[Row]:
    kind = path.suffix.lower()
    if kind not in READERS:
        what = "a folder" if path.is_dir() else f"of the kind {path.suffix or 'without ending'!r}"
        raise DataError(f"{name} is {what}. Records are read from {', '.join(READERS)}.")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".tsv": _read_csv,
               ".parquet": _read_parquet}  # fmt: skip
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name} is empty.")
        yield from readers[kind](path)
    except DataError:
        raise
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


# --- JSON -----------------------------------------------------------------------------------------

_TOO_LONG = f"the line has over {LONGEST_LINE // 1_000_000} million bytes"


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number in itertools.count(1):
            raw = file.readline(LONGEST_LINE + 1)
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                yield number, Bad(_TOO_LONG)
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LONGEST_LINE)
                continue
            try:
                if text := decoded(raw).strip():
                    yield number, _parsed(text)
            except DataError as error:
                yield number, Bad(error)


def _parsed(text: str) -> Any:
    """The JSON value in `text`; a DataError says where it breaks off."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"no JSON: {error.msg.lower()} at column {error.colno}") from error
    except RecursionError as error:
        raise DataError("no record: it is nested too deeply") from error
    except ValueError as error:  # Python refuses to read thousands of digits
        raise DataError("no record: a number in it has too many digits") from error


def _read_json(path: Path) -> Iterator[Row]:
    try:
        value = json.loads(decoded(path.read_bytes()))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: no JSON: {error.msg.lower()} at column {error.colno}. "
            f"A file with one object a line should end in .jsonl."
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply to be records.") from error
    except ValueError as error:
        raise DataError(f"{path}: a number in it has too many digits.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list):
        value = next(iter(value.values()))
    if not isinstance(value, list):
        raise DataError(f"{path}: a list of objects belongs here, not {kind_of(value)}.")
    yield from enumerate(value, 1)


# --- tables ---------------------------------------------------------------------------------------


class _Lines:
    """A file's lines one by one, numbered; one can go back to what a bad row has swallowed.

    Attributes:
        number: Of the line given last.
        taken: The lines given since `begin`.
    """

    def __init__(self, file: TextIO) -> None:
        self.number = 0
        self.taken: list[str] = []
        self._file = file
        self._again: list[str] = []  # last first

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        again = bool(self._again)
        line = self._again.pop() if again else self._file.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        if len(line) <= LONGEST_LINE:
            return line
        while line and not again and not line.endswith(("\n", "\r")):
            line = self._file.readline(LONGEST_LINE)
        raise csv.Error(_TOO_LONG)

    def begin(self) -> int:
        """Begin a row; the number of its first line."""
        self.taken = []
        return self.number + 1

    def go_back(self) -> None:
        """Go back to the second line of the row, so that an open quote swallows no others."""
        swallowed = self.taken[1:]
        self._again += reversed(swallowed)
        self.number -= len(swallowed)


def _read_csv(path: Path) -> Iterator[Row]:
    """Rows as mappings; bytes that are no UTF-8 are carried along and told with their row."""
    csv.field_size_limit(max(LONGEST_LINE, csv.field_size_limit()))
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        columns: list[str] | None = None
        for line, cells in _rows(lines, csv.reader(lines, delimiter=separator, strict=True)):
            if columns is None:
                if isinstance(cells, Bad):
                    raise DataError(f"{path}: {cells}.")
                columns = [cell or f"column {n}" for n, cell in enumerate(cells, 1)]
                _distinct(str(path), columns)
            elif isinstance(cells, Bad):
                yield line, cells
            elif len(cells) > len(columns):
                yield line, Bad(f"more cells than the {len(columns)} columns")
            elif any(cells):
                yield line, dict(itertools.zip_longest(columns, cells))


def _rows(lines: _Lines, reader: Iterator[list[str]]) -> Iterator[tuple[int, Any]]:
    """The line each row begins in, and its cells or what is wrong with it; no blank lines."""
    while True:
        line = lines.begin()
        try:
            cells = next(reader)
            decoded("".join(lines.taken).encode("utf-8", "surrogateescape"))
        except StopIteration:
            return
        except csv.Error as error:
            lines.go_back()
            yield line, Bad(f"no row of a table: {error}")
        except DataError as error:
            yield line, Bad(error)
        else:
            if cells:
                yield line, cells


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        _distinct(str(path), file.schema_arrow.names)
        rows = (row for batch in file.iter_batches(CHUNK) for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no parquet file: {first_line(error)}.") from error


# --- the hub --------------------------------------------------------------------------------------


def _is_cached(name: str) -> bool:
    """True where `datasets` keeps a copy of a data set of the hub."""
    from datasets import config, naming

    owner, _, own = name.partition("/")
    return Path(
        config.HF_DATASETS_CACHE, f"{owner}___{naming.camelcase_to_snakecase(own)}"
    ).is_dir()


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

    if _is_cached(name) or constants.HF_HUB_OFFLINE:
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
        way = f"Check the name, the split ({split}) and the network"
    return DataError(
        f"{name} is no file here, and can't be had from the hub ({first_line(error).rstrip('.')}). "
        f"{way}."
    )
