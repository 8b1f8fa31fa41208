"""Reading rows one by one from files, frames, lists and the hub.

What can't be read as a row comes as a `Bad` in its place, so that the others still come.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import lzma
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from llmcourse.data.formats import is_known, threaded, unwrapped
from llmcourse.data.patterns import masked
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.progress import quiet
from llmcourse.templates import listed

PACKED = (".gz", ".bz2", ".xz", ".zst")
# Files in which a record has a line.
_LINED = (".jsonl", ".ndjson", ".csv", ".tsv", ".tab", ".txt")
LINED = tuple(kind + packed for kind in _LINED for packed in ("", *PACKED))
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATOR = re.compile(r'\s*"?sep=(.)"?[ \t,;]*\r?\n', re.I)  # a first line that Excel reads
# (RuntimeError: an archive with a password)
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)
CHUNK = 5000  # rows of a frame or table that become Python's own at once
# Names that end so are meant as files, not as data sets of the hub ("owner/name").
_FILE = re.compile(
    r"\.(?:jso?n\w*|csv|tsv|parq\w*|txt|md|log|xlsx?|xml|ya?ml|arrow|gz|zip|tab|ods|zst|xz|bz2)$",
    re.I,
)


class Bad(str):
    """What is wrong with a row, in its place among the rows."""


class Note(str):
    """What one should know of how the rows were read, among the rows."""


Row = tuple[int, Any]  # where a row is (line or number), and the row or a `Bad`


def field_names(fields: Iterable[Any]) -> str:
    """Names of fields for a message; of a table without a header they may be personal data."""
    return listed(masked(one[:200]) if isinstance(one, str) else one for one in fields)


def open_source(source: Any, split: str = "train") -> tuple[str, Iterable[Row]]:
    """A source's name for messages, and its rows; see `opened`."""
    name, rows = opened(source, split)
    return name, (pair for pair in rows if not isinstance(pair[1], Note))


def opened(source: Any, split: str = "train") -> tuple[str, Iterable[Row]]:
    """A source's name for messages, and its rows, with notes among them.

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
        plain = ({name: _lists(cell) for name, cell in row.items()} for row in rows)
        return "the data frame", enumerate(plain, 1)
    if hasattr(source, "features"):
        return "the data set", enumerate(source.with_format(None), 1)
    if isinstance(source, Mapping):
        if source and all(hasattr(one, "features") for one in source.values()):
            raise DataError(f"This holds several splits ({', '.join(source)}); choose a split.")
        raise DataError("This is one record. Put it into a list.")
    if not isinstance(source, Iterable):
        raise DataError(f"Records can't be read from {type(source).__name__}.")
    return "the list", enumerate(source, 1)


def _lists(cell: Any) -> Any:
    """A cell of a frame; arrays in it, as pandas reads them from parquet, become lists."""
    if isinstance(cell, dict):
        return {name: _lists(one) for name, one in cell.items()}
    return [_lists(one) for one in cell] if getattr(cell, "shape", ()) else cell


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
        return threaded(_read_file(path, name))
    on_hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if on_hub and not _FILE.search(name) and not os.path.isdir(path.parent):  # noqa: PTH112
        return threaded(_read_hub(name, split))
    raise DataError(
        f"{name:.200}: no such file. Name a file ({', '.join(TABLES)}) or a data set on the hub "
        f"(owner/name)."
    )


def _read_file(path: Path, name: str) -> Iterator[Row]:
    try:
        if not path.is_dir() and path.stat().st_size == 0:
            raise DataError(f"{name} is empty.")
        if path.suffix.lower() == ".zip":
            yield from _read_zip(path)
            return
        with _opened(path) as (file, kind):
            read = TABLES.get(kind)
            if read is None:
                raise DataError(f"{name} is none of the files that are read: {', '.join(TABLES)}.")
            yield from read(path, file)
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{name} can't be read: {reason}.") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A file, unpacked if need be, and its kind."""
    from fsspec.implementations.local import LocalFileSystem

    name = path.stem if path.suffix.lower() in PACKED else path.name
    with LocalFileSystem().open(str(path), "rb", compression="infer") as file:
        yield file, Path(name).suffix.lower()


def _read_zip(path: Path) -> Iterator[Row]:
    """The rows of an archive's files, one after the other; of several, each names its file."""
    with zipfile.ZipFile(path) as archive:
        names = [one for one in archive.namelist() if not re.search(r"/$|^__MACOSX|(^|/)\.", one)]
        kinds = {name: Path(name).suffix.lower() for name in names}
        several = len(names) > 1
        # (a text among several files is about them)
        read = [n for n in names if kinds[n] in TABLES and not (several and kinds[n] == ".txt")]
        if not read:
            raise DataError(
                f"{path} holds no file with records ({listed(names) or 'nothing'}). Unpack it; "
                f"where it has documents, name their folder."
            )
        if others := [name for name in names if name not in read]:
            yield 0, Note(f"of the archive these are not read: {listed(others)}")
        count = 0
        for name in read:
            with archive.open(name) as file:
                rows = TABLES[kinds[name]](path, file)
                for row in _of_several(name, rows) if several else (row for _, row in rows):
                    count += not isinstance(row, Note)
                    yield count, row


def _of_several(name: str, rows: Iterable[Row], column: str = "file") -> Iterator[Any]:
    """The rows of one of several files, marked with its name; a bad file stops no other."""
    try:
        for _, row in rows:
            if isinstance(row, Bad):
                row = Bad(f"{name}: {row}")
            yield {column: name, **row} if isinstance(row, Mapping) else row
    except DataError as error:
        yield Bad(f"{name}: {str(error).rstrip('.')}")


def decoded(raw: bytes) -> str:
    """UTF-8 text without byte-order mark, or UTF-16 with one.

    Raises:
        DataError: it is something else; the message says where and has no full stop.
    """
    try:
        text = raw.decode("utf-16" if raw.startswith(_WIDE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"it is not UTF-8 (byte {raw[error.start]:#04x} at {error.start + 1}). Save it as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError("it holds NUL bytes, as UTF-16 or damaged files do. Save it as UTF-8")
    return text


def any_text(raw: bytes) -> tuple[str, str]:
    """Text in the encoding of a spreadsheet or an old system, and which; "" for Unicode.

    Bytes of UTF-8 that are damaged come as surrogates.
    """
    try:
        return decoded(raw), ""
    except DataError:
        text = raw.decode("utf-8-sig", "surrogateescape")
    # where most letters of several bytes are right, it is UTF-8 with a damage, and no code page
    damaged = sum("\udc80" <= one <= "\udcff" for one in text)
    if "\0" in text or sum(one > "\x7f" for one in text) >= 2 * damaged:
        return text, ""
    import chardet

    # (only what is not ASCII tells code pages apart, and it is slow)
    sample = b"\n".join(line for line in raw.splitlines() if not line.isascii())[:20_000]
    name = "mac_roman" if b"\r" in raw and b"\n" not in raw else chardet.detect(sample)["encoding"]
    try:
        return raw.decode(name or "cp1252"), name or "cp1252"
    except (UnicodeDecodeError, LookupError):
        return raw.decode("latin-1"), "latin-1"


def _read_json(path: Path, file: IO[bytes]) -> Iterator[Row]:
    """The records of JSON in any layout: one or several a line, over lines, in a list.

    A place is a line in a file whose name says that it has lines, else the number of a record.
    """
    lined = str(path).lower().endswith(LINED)
    raw = file.read()
    if raw.startswith(_WIDE):
        raw = decoded(raw).encode()
    pieces: list[bytes] = raw.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not _has_lines(pieces):
        with suppress(DataError):  # then line by line, which names the line
            decoded(raw)
            pieces = [b"\n".join(pieces)]
    count = 0
    for number, piece in enumerate(pieces, 1):
        try:
            text = decoded(piece)
            values = _values(text, lined) if text.strip() else iter(())
        except DataError as error:
            values = iter([(0, Bad(error))])
        for line, value in values:
            for row in [value] if isinstance(value, Bad) else unwrapped(value):
                count += 1
                yield number + line if lined else count, row


def _has_lines(pieces: list[bytes]) -> bool:
    """Whether the first line is complete by itself."""
    first = next((piece.strip() for piece in pieces if piece.strip()), b"").decode(errors="replace")
    try:
        json.loads(first)
        return True
    except (ValueError, RecursionError):
        values = [] if first.startswith("[") else _values(first, True)
        return not any(isinstance(value, Bad) for _, value in values or [(0, Bad())])


def _values(text: str, lined: bool) -> Iterator[tuple[int, Any]]:
    """The JSON values in a text, and the line (from 0) that each begins in.

    The elements of a list come one by one where lines count, or where it is no JSON as a whole.
    After what is none, the next line that begins an object begins another value.
    """
    listed = text.lstrip().startswith("[")
    if not (lined and listed and "\n" in text):
        try:
            yield 0, json.loads(text)
            return
        except RecursionError:
            yield 0, Bad("no JSON: it is nested too deeply")
            return
        except ValueError:
            pass
    decode, line, last = json.JSONDecoder().raw_decode, 0, 0
    place = text.index("[") + 1 if listed else 0
    between = re.compile(r"(?:[\s,]|\](?:\s*\[)?)*" if listed else r"[\s,]*")
    while (begin := between.match(text, place).end()) < len(text):  # type: ignore[union-attr]
        line += text.count("\n", last, begin)
        last = begin
        try:
            value, place = decode(text, begin)
            yield line, value
        except (ValueError, RecursionError) as error:
            yield line, Bad(f"no JSON: {_hint(error, text)}")
            indent = begin - text.rfind("\n", 0, begin) - 1
            after = re.compile(rf"\n(?=[ \t]{{0,{indent}}}[{{\[])").search(text, begin)
            place = after.end() if after else len(text)


def _hint(error: Exception, text: str) -> str:
    """What is wrong with JSON, in a line."""
    place = getattr(error, "pos", 0)
    many = text[place : place + 1] in ("}", "]") and text[:place].rstrip().endswith(",")
    said = first_line(error).lower()
    many |= "trailing comma" in said  # from Python 3.13 on
    return f"{said}; a comma before it is too many" if many else said


def separator_of(text: str) -> str:
    """What separates the cells of a table: a spreadsheet's language may make it a semicolon."""
    if said := _SEPARATOR.match(text):
        return said[1]
    head = list(itertools.islice(io.StringIO(text, newline=""), 20))

    def fits(mark: str) -> tuple[bool, bool, float, int]:
        """Whether names are known, whether there are several, how many rows have as many."""
        rows = [row for row in csv.reader(head, delimiter=mark) if row]
        names = rows[0] if rows else []
        same = sum(len(row) == len(names) for row in rows) / max(1, len(rows))
        return any(map(is_known, rows)), len(names) > 1, same, len(names)

    return max(",;\t|", key=fits)


def _read_csv(path: Path, file: IO[bytes]) -> Iterator[Row]:
    """Rows as mappings; bytes that are no UTF-8 are carried along and reported with their row."""
    csv.field_size_limit(2**31 - 1)  # the usual limit is 128 kB
    text, encoding = any_text(file.read())
    if encoding:
        yield 0, Note(f"read as {encoding}; if letters are wrong, save the file as UTF-8")
    separator = separator_of(text)
    lines = list(io.StringIO(text, newline=""))
    is_text = path.suffix.lower() == ".txt" and separator != "\t"
    if is_text and not any(map(is_known, csv.reader(lines[:1], delimiter=separator))):
        raise DataError(f"{path} is a text and no table. Name the folder that it is in.")
    skipped = 1 if _SEPARATOR.match(text) else 0
    yield from _named(path, _csv_rows(lines, separator, skipped))


def _named(path: Path, rows: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    """Rows of cells as mappings, by the names in the first; a title above it is passed over."""
    rows = iter(rows)
    head = list(itertools.islice(rows, 10))
    filled = [[] if isinstance(cells, Bad) else [*filter(None, cells)] for _, cells in head]
    begin = next((n for n, cells in enumerate(filled) if is_known(cells)), 0)
    if any(len(cells) >= len(filled[begin]) for cells in filled[:begin]):
        begin = 0  # names that are not known, and not a title
    if any(filled[:begin]):
        title = listed(itertools.chain(*filled[:begin]))
        yield 0, Note(f"above the names of the columns, not used: {title}")
    columns: list[str] | None = None
    for line, cells in itertools.chain(head[begin:], rows):
        if columns is None and isinstance(cells, Bad):
            raise DataError(f"{path}: {cells}.")
        if isinstance(cells, Bad):
            yield line, cells
        elif columns is None and cells:
            columns = [cell.strip() or f"column {n}" for n, cell in enumerate(cells, 1)]
            _require_distinct(str(path), columns)
        elif columns and any(cells[len(columns) :]):
            yield line, Bad(f"more cells than the {len(columns)} columns")
        elif columns and any(cells):
            yield line, dict(itertools.zip_longest(columns, cells[: len(columns)]))


def _csv_rows(lines: list[str], separator: str, start: int = 0) -> Iterator[tuple[int, Any]]:
    """The line that each row begins in, and its cells, or what is wrong with it.

    After a bad row the next line begins another, so that an open quote swallows no others.
    """
    while start < len(lines):
        begin = start
        rest = (lines[n] for n in range(begin, len(lines)))  # (islice would walk from the start)
        rows = csv.reader(rest, delimiter=separator, strict=True)
        try:
            for cells in rows:
                decoded("".join(cells).encode("utf-8", "surrogateescape"))
                yield start + 1, cells
                start = begin + rows.line_num
            return
        except (csv.Error, DataError) as error:
            yield start + 1, Bad(f"no row of a table: {error}")
        start += 1


def _read_sheets(path: Path, file: IO[bytes]) -> Iterator[Row]:
    """The rows of a workbook's sheets, one after the other; a second sheet's are marked."""
    import pandas

    try:
        sheets = pandas.read_excel(
            io.BytesIO(file.read()),
            sheet_name=None,
            header=None,
            dtype=object,
            keep_default_na=False,
        )
    except ImportError as error:
        raise DataError(
            f"{path}: for spreadsheets the package {error.name or 'openpyxl'} is needed: "
            f"pip install openpyxl. Or save the table as CSV"
        ) from error
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} is no spreadsheet that can be read ({first_line(error).rstrip('.')}). Open it "
            f"in a spreadsheet program and save it as .xlsx."
        ) from error
    count = 0
    for name, sheet in sheets.items():
        values = sheet.itertuples(index=False)
        rows = _named(path, enumerate([_cell(value) for value in row] for row in values))
        several = _of_several(name, rows, "sheet") if len(sheets) > 1 else (row for _, row in rows)
        for row in several:
            count += not isinstance(row, Note)
            yield count, row
    if any(not isinstance(v, str) and _cell(v) for s in sheets.values() for v in s.to_numpy().flat):
        yield 0, Note("numbers and dates of a spreadsheet are read as text")


def _cell(value: Any) -> str:
    """A cell as text, as a spreadsheet shows it: a whole number has no point."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).removesuffix(" 00:00:00")  # a day


def _read_parquet(path: Path, file: IO[bytes]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(file)
        _require_distinct(str(path), table.schema_arrow.names)
        rows = (row for batch in table.iter_batches(CHUNK) for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no parquet file: {first_line(error)}.") from error


# Endings of files with records, unpacked -> what reads them.
TABLES = {
    **dict.fromkeys((".jsonl", ".json", ".ndjson"), _read_json),
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), _read_csv),
    ".parquet": _read_parquet,
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods"), _read_sheets),
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
