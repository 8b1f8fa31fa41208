"""Loading records from anywhere, with every problem named by file, line and field.

Whatever a data set calls its parts, it comes out with the same columns: `question`, `input` and
`answer`, or `text`. Files are read record by record and go to disk as they are read, so a million
records need little memory.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from llmcourse.errors import DataError, NoSpace, first_line, is_disk_full
from llmcourse.files import no_space, scratch_path

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

# Schema -> our column: the field it is read from. The first schema a record has in full is taken.
SCHEMAS: dict[str, dict[str, str]] = {
    "question/answer": {"question": "question", "answer": "answer"},
    "instruction/response": {"question": "instruction", "answer": "response"},
    "instruction/output": {"question": "instruction", "answer": "output"},
    "prompt/completion": {"question": "prompt", "answer": "completion"},
    "input/output": {"question": "input", "answer": "output"},
    "messages": {"messages": "messages"},
    "text": {"text": "text"},
}
READERS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
LONGEST_LINE = 8_000_000  # bytes; more is a file without line ends, not a record


@dataclass(frozen=True)
class Problem:
    """Something wrong with a source or with one record in it.

    Attributes:
        source: The file, or what else was read.
        line: Where in it, counted from 1; 0 means the whole.
        field: The field concerned; "" means the record.
        problem: What is wrong, and the way out where there is one.
    """

    source: str
    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        place = f", line {self.line}" if self.line else ""
        return (
            f"{self.source}{place}{f', field {self.field!r}' if self.field else ''}: {self.problem}"
        )


class _Bad(str):
    """What is wrong with a record, standing in its place among the rows."""


Row = tuple[int, Any]  # a record's line, and the record or a `_Bad`


@overload
def load_records(
    source: Any, *, schema: str | None = ..., split: str = ..., strict: Literal[True] = ...
) -> Dataset: ...
@overload
def load_records(
    source: Any, *, schema: str | None = ..., split: str = ..., strict: Literal[False]
) -> tuple[Dataset, pandas.DataFrame]: ...
def load_records(
    source: Any, *, schema: str | None = None, split: str = "train", strict: bool = True
) -> Any:
    """Load records as a `datasets.Dataset` with the columns `question`, `input` and `answer`.

    Records of the schema "text" have `text` instead. Of "messages" the last answer and the
    question before it are taken; what was said earlier stands in `input`. The first record's
    other fields are kept as text columns. Blank lines in a file are passed over.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, .parquet), a pandas frame, a list of mappings,
            a `datasets.Dataset`, or a data set on the hub ("owner/name").
        schema: A key of `SCHEMAS`; found from the first record where not given.
        split: Which split of a hub data set.
        strict: True stops at the first problem. False leaves out the records that have one and
            returns the problems beside the data, as a table: source, line, field, problem.

    Raises:
        DataError: the source can't be read or holds no records, or a record has a problem.
        NoSpace: the disk is full.
    """
    import pandas

    if schema is not None and schema not in SCHEMAS:
        raise DataError(f"There is no schema {schema!r}. There are: {', '.join(SCHEMAS)}.")
    name, rows = _open(source, split)
    problems: list[Problem] = []
    good = _checked(name, rows, schema, strict, problems)
    first = next(good, None)
    if first is None:
        found = f" The first problem: {problems[0]}" if problems else ""
        raise DataError(f"{name} holds no records that can be used.{found}")
    dataset = _to_disk(itertools.chain([first], good), list(first))
    if strict:
        return dataset
    columns = ["source", "line", "field", "problem"]
    return dataset, pandas.DataFrame([vars(problem) for problem in problems], columns=columns)


def _to_disk(rows: Iterator[dict[str, str]], columns: list[str]) -> Dataset:
    """Write rows to an Arrow file as they come, and open it; it goes when the data set does."""
    import pyarrow as pa
    from datasets import Dataset

    path = scratch_path("arrow")
    schema = pa.schema([(column, pa.string()) for column in columns])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while chunk := list(itertools.islice(rows, 5000)):
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
        dataset = Dataset.from_file(str(path))
    except BaseException as error:
        _remove(path)
        if is_disk_full(error) and not isinstance(error, NoSpace):
            raise no_space(path.parent) from error
        raise
    weakref.finalize(dataset, _remove, path)
    return dataset


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # Windows keeps a file that is still mapped; it is in the cache folder


# --- checking -------------------------------------------------------------------------------------


def _checked(
    name: str, rows: Iterable[Row], schema: str | None, strict: bool, problems: list[Problem]
) -> Iterator[dict[str, str]]:
    """Yield the good records in our columns; raise at a bad one, or note it in `problems`."""
    extra: list[str] | None = None
    for line, record in rows:
        found: dict[str, str] | tuple[str, str]
        if isinstance(record, _Bad):
            found = ("", str(record))
        elif not isinstance(record, Mapping):
            found = ("", f"an object belongs here, not {_kind(record)}")
        else:
            schema = schema or _schema_of(record)
            found = _columns(record, schema)
        if isinstance(found, tuple):
            problem = Problem(name, line, *found)
            if strict:
                raise DataError(str(problem))
            problems.append(problem)
            continue
        if extra is None:
            used = set(SCHEMAS[schema].values()) | {"input"}
            extra = [field for field in record if field not in used and field not in found]
        yield found | {field: _as_text(record.get(field)) for field in extra}


def _schema_of(record: Mapping[str, Any]) -> str | None:
    fits = (name for name, fields in SCHEMAS.items() if set(fields.values()) <= set(record))
    return next(fits, None)


def _columns(record: Mapping[str, Any], schema: str | None) -> dict[str, str] | tuple[str, str]:
    """Our columns of a record, or (field, what is wrong with it)."""
    there = ", ".join(map(repr, record)) or "none"
    if schema is None:
        return "", (
            f"the fields ({there}) fit no known schema: {', '.join(SCHEMAS)}. Rename them, or "
            f"name the schema."
        )
    fields = SCHEMAS[schema]
    missing = [field for field in fields.values() if record.get(field) is None]
    if missing:
        other = _schema_of(record)
        mixed = f"; it looks like {other!r} in a file of {schema!r}" if other else ""
        return missing[0], f"missing (there are: {there}){mixed}"
    if schema == "messages":
        return _of_messages(record["messages"])
    columns: dict[str, str] = {}
    for column, field in fields.items():
        value = record[field]
        if not isinstance(value, str):
            return field, f"text belongs here, not {_kind(value)}"
        if not value.strip():
            return field, "blank"
        if trouble := _unwritable(value):
            return field, trouble
        columns[column] = value
    if schema == "text":
        return columns
    more = record.get("input") if "input" not in fields.values() else None
    if not isinstance(more, str | None):
        return "input", f"text belongs here, not {_kind(more)}"
    if trouble := _unwritable(more or ""):
        return "input", trouble
    return {"question": columns["question"], "input": more or "", "answer": columns["answer"]}


def _of_messages(turns: Any) -> dict[str, str] | tuple[str, str]:
    if not isinstance(turns, list | tuple) or not turns:
        return "messages", f"a list of turns belongs here, not {_kind(turns)}"
    said: list[tuple[str, str]] = []
    for number, turn in enumerate(turns, 1):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            return "messages", (
                f"turn {number} needs a role (system, user or assistant) and a content that is text"
            )
        if not content.strip():
            return "messages", f"turn {number} is blank"
        if trouble := _unwritable(content):
            return "messages", f"turn {number} has {trouble}"
        said.append((role, content))
    if [role for role, _ in said[-2:]] != ["user", "assistant"]:
        return "messages", "the last two turns must be the user's and the assistant's"
    earlier = "\n".join(f"{role.capitalize()}: {content}" for role, content in said[:-2])
    return {"question": said[-2][1], "input": earlier, "answer": said[-1][1]}


def _unwritable(text: str) -> str:
    """What is wrong with a text that UTF-8 has no bytes for; "" if nothing is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half a character ({text[error.start]!a}) at {error.start + 1}, as in damaged files"
    return ""


def _kind(value: Any) -> str:
    """A value's kind in JSON's words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number",
             float: "a number", type(None): "nothing"}  # fmt: skip
    return names.get(type(value), type(value).__name__)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")


# --- reading --------------------------------------------------------------------------------------


def _open(source: Any, split: str) -> tuple[str, Iterable[Row]]:
    """A source's name for messages, and its rows."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.suffix.lower() in READERS or path.exists():
            return str(source), _read_file(path, str(source))
        if str(source).count("/") == 1 and not str(source).startswith((".", "/", "~")):
            return str(source), _read_hub(str(source), split)
        raise DataError(
            f"{source}: no such file. Name a file ({', '.join(READERS)}) or a data set on the hub "
            f"(owner/name)."
        )
    if hasattr(source, "itertuples"):
        return "the data frame", enumerate(source.to_dict("records"), 1)
    if hasattr(source, "features"):
        return "the data set", enumerate(source, 1)
    if isinstance(source, Mapping):
        raise DataError("A list of records is wanted, not one record. Put it into a list.")
    if not isinstance(source, Iterable):
        raise DataError(f"Records can't be read from {_kind(source)}.")
    return "the list", enumerate(source, 1)


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


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number in itertools.count(1):
            raw = file.readline(LONGEST_LINE + 1)
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                yield number, _Bad(f"the line has over {LONGEST_LINE // 1_000_000} million bytes")
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LONGEST_LINE)
                continue
            try:
                if text := decoded(raw).strip():
                    yield number, _parsed(text)
            except DataError as error:
                yield number, _Bad(error)


def _parsed(text: str) -> Any:
    """The JSON value in `text`; a DataError says where it breaks off."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"no JSON: {error.msg.lower()} at column {error.colno}") from error
    except RecursionError as error:
        raise DataError("no record: it is nested too deeply") from error


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
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list):
        value = next(iter(value.values()))
    if not isinstance(value, list):
        raise DataError(f"{path}: a list of objects belongs here, not {_kind(value)}.")
    yield from enumerate(value, 1)


def _read_csv(path: Path) -> Iterator[Row]:
    try:
        text = decoded(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, _Bad(f"no row of a table: {error}")
            return
        if record is None:
            return
        if None in record:
            columns = len(reader.fieldnames or ())
            yield reader.line_num, _Bad(f"more cells than the {columns} columns")
        elif any(record.values()):
            yield reader.line_num, record


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        rows = (row for batch in file.iter_batches(5000) for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no parquet file: {first_line(error)}.") from error


def _read_hub(name: str, split: str) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name, split=split, streaming=True)
        yield from enumerate(dataset, 1)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} is no file here, and can't be had from the hub ({first_line(error)}). Check "
            f"the name, the split ({split}) and the network."
        ) from error
