"""Loading records from anywhere, with every problem named by file, line and field.

Whatever a data set calls its parts, it comes out with the same columns: `question`, `input` and
`answer`, or `text`. Files are read record by record and go to disk as they are read, so a million
records need little memory.
"""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from llmcourse.data.readers import LINED, Bad, Row, header_hint, kind_of, named, open_source
from llmcourse.errors import DataError, NoSpace, SettingError, first_line, is_disk_full
from llmcourse.files import no_space, scratch_path
from llmcourse.templates import FIELDS, is_blank

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

CHUNK = 5000  # rows that are written at once

# Schema -> our column: the field it is read from. The first schema a record has in full is taken:
# the usual pairs of names, the other pairs, then the names that may also be something else's.
_USUAL = ("question/answer", "instruction/response", "instruction/output", "prompt/completion")
_PAIRS = (f"{question}/{answer}" for question in FIELDS["question"] for answer in FIELDS["answer"])
SCHEMAS: dict[str, dict[str, str]] = {
    **{
        name: dict(zip(("question", "answer"), name.split("/"), strict=True))
        for name in dict.fromkeys((*_USUAL, *_PAIRS))
    },
    "input/output": {"question": "input", "answer": "output"},
    "messages": {"messages": "messages"},
    "text": {"text": "text"},
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with a source or with one record in it.

    Attributes:
        source: The file, or what else was read.
        line: Where in it, counted from 1: the line of a file that has one record a line (.jsonl,
            .csv, .tsv), elsewhere the record. 0 means the whole.
        field: The field concerned; "" means the record.
        problem: What is wrong, and the way out where there is one.
    """

    source: str
    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        unit = "line" if self.source.lower().endswith(LINED) else "record"
        place = f", {unit} {self.line}" if self.line else ""
        field = f", field {named([self.field])}" if self.field else ""
        return f"{self.source}{place}{field}: {self.problem}"


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
    question before it are taken; what was said earlier stands in `input`. All other fields are
    kept as text columns, empty where a record lacks one; one that is called like a column which
    was read from elsewhere ("answer" beside "output") is a problem of the record, unless `schema`
    says which of the two is meant. `input` is also read from `context`. Blank lines in a file
    are passed over.

    Args:
        source: A file (.jsonl, .json, .csv, .tsv, .parquet), a pandas frame, a list of mappings,
            a data set of `datasets` (its format and transform are put aside), or a data set on
            the hub ("owner/name").
        schema: A key of `SCHEMAS`, or the names of any two fields as "question's/answer's"; found
            from the first record where not given.
        split: Which split of a hub data set.
        strict: True stops at the first problem. False leaves out the records that have one and
            returns the problems beside the data, as a table: source, line, field, problem.

    Raises:
        DataError: the source can't be read or holds no records, or a record has a problem.
        SettingError: there is no such schema, or the source is blank.
        NoSpace: the disk is full.
    """
    import pandas

    if schema is not None and not _fields(schema):
        raise SettingError(
            f"There is no schema {schema!r:.80}. There are: {', '.join(SCHEMAS)}; or name two "
            f"fields of your own, as question/answer."
        )
    name, rows = open_source(source, split)
    problems: list[Problem] = []
    good = _checked(name, rows, schema, strict, problems)
    first = next(good, None)
    if first is None:
        found = f" The first problem: {problems[0]}" if problems else ""
        raise DataError(f"{name} holds no records that can be used.{found}")
    dataset = _to_disk(itertools.chain([first], good))
    if strict:
        return dataset
    columns = ["source", "line", "field", "problem"]
    return dataset, pandas.DataFrame([vars(problem) for problem in problems], columns=columns)


def _to_disk(rows: Iterator[dict[str, str]]) -> Dataset:
    """Write rows to an Arrow file as they come, and open it; it goes when the data set does.

    The last row of a chunk has all columns so far. Where one is new, another file begins, and in
    the end all are written as one.
    """
    import pyarrow as pa
    from datasets import Dataset

    paths: list[Path] = []
    try:
        chunk = list(itertools.islice(rows, CHUNK))
        while chunk:
            columns = list(chunk[-1])
            schema = pa.schema([(column, pa.string()) for column in columns])
            with _begun(paths) as file, pa.ipc.new_stream(file, schema) as writer:
                while chunk and list(chunk[-1]) == columns:
                    filled = (dict.fromkeys(columns, "") | row for row in chunk)
                    whole = len(chunk[0]) == len(columns)
                    given = chunk if whole else list(filled)
                    writer.write_batch(pa.RecordBatch.from_pylist(given, schema=schema))
                    chunk = list(itertools.islice(rows, CHUNK))
        if len(paths) > 1:
            _as_one(paths)
        dataset = Dataset.from_file(str(paths[-1]))
    except BaseException as error:
        for path in paths:
            _remove(path)
        if is_disk_full(error) and not isinstance(error, NoSpace):
            raise no_space(paths[-1].parent) from error
        raise
    for path in paths[:-1]:
        _remove(path)
    weakref.finalize(dataset, _remove, paths[-1])
    return dataset


def _begun(paths: list[Path]) -> Any:
    """A new file, its path put at the end of `paths`."""
    import pyarrow as pa

    paths.append(scratch_path("arrow"))
    return pa.OSFile(str(paths[-1]), "wb")


def _as_one(paths: list[Path]) -> None:
    """Write what is in the files as one more file, with the columns of the last."""
    import pyarrow as pa

    parts = list(paths)
    with pa.memory_map(str(parts[-1])) as last, pa.ipc.open_stream(last) as reader:
        schema = reader.schema
    with _begun(paths) as file, pa.ipc.new_stream(file, schema) as writer:
        for part in parts:
            with pa.memory_map(str(part)) as source, pa.ipc.open_stream(source) as reader:
                for batch in reader:
                    blank = pa.repeat(pa.scalar(""), len(batch))
                    arrays = [
                        batch.column(name) if name in batch.schema.names else blank
                        for name in schema.names
                    ]
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


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
    extra: dict[str, Any] = {}
    known: set[Any] = set()  # fields that have been looked at
    chosen = schema is not None
    for line, record in rows:
        found: dict[str, str] | tuple[str, str]
        if isinstance(record, Bad):
            found = ("", str(record))
        elif not isinstance(record, Mapping):
            found = ("", f"an object belongs here, not {kind_of(record)}")
        else:
            schema = schema or _schema_of(record)
            found = _columns(record, schema, name)
            if isinstance(found, dict):
                lost = None if chosen else _lost(record, schema, found)
                others = lost or extra
                if not lost and not record.keys() <= known:
                    new = _extra(record, schema, found)
                    others = new if isinstance(new, tuple) else extra | new
                found = others if isinstance(others, tuple) else _joined(found, record, others)
                if isinstance(found, dict) and others is not extra:
                    extra, known = others, known | record.keys()
        if isinstance(found, tuple):
            problem = Problem(name, line, *found)
            if strict:
                raise DataError(str(problem))
            problems.append(problem)
            continue
        yield found


def _fields(schema: Any) -> dict[str, str]:
    """Our column: the field it is read from, of a schema; {} where it is none."""
    if not isinstance(schema, str):
        return {}
    if schema in SCHEMAS:
        return SCHEMAS[schema]
    question, slash, answer = schema.partition("/")
    own = slash and question.strip() and answer.strip() and question != answer
    return {"question": question, "answer": answer} if own else {}


def _schema_of(record: Mapping[str, Any]) -> str | None:
    fits = (name for name, fields in SCHEMAS.items() if set(fields.values()) <= set(record))
    return next(fits, None)


def _columns(
    record: Mapping[str, Any], schema: str | None, source: str
) -> dict[str, str] | tuple[str, str]:
    """Our columns of a record, or (field, what is wrong with it)."""
    if schema is None:
        return "", (
            f"the fields ({named(record) or 'none'}) fit no known schema: {', '.join(SCHEMAS)}. "
            f"Rename them, or name the schema.{header_hint(source, record)}"
        )
    fields = _fields(schema)
    missing = [field for field in fields.values() if is_missing(record.get(field))]
    if missing:
        other = _schema_of(record)
        mixed = f"; it looks like {other!r} in a file of {schema!r}"
        told = f"missing (there are: {named(record) or 'none'})"
        return missing[0], told + (mixed if other not in (None, schema) else "")
    if schema == "messages":
        return _of_messages(record["messages"])
    columns: dict[str, str] = {}
    for column, field in fields.items():
        value = record[field]
        if not isinstance(value, str):
            return field, f"text belongs here, not {kind_of(value)}"
        if is_blank(value):
            return field, "blank"
        if trouble := unwritable(value):
            return field, trouble
        columns[column] = value
    if schema == "text":
        return columns
    name = _more(record, schema)
    more = record[name] if name else ""
    if not isinstance(more, str):
        return name, f"text belongs here, not {kind_of(more)}"
    if trouble := unwritable(more):
        return name, trouble
    return {"question": columns["question"], "input": more, "answer": columns["answer"]}


def _more_names(schema: str) -> list[str]:
    """The fields that the text beside the question may be read from."""
    fields = _fields(schema)
    return [n for n in FIELDS["input"] if "question" in fields and n not in fields.values()]


def _more(record: Mapping[str, Any], schema: str) -> str:
    """The first of these fields that holds something; "" where none does."""
    names = _more_names(schema)
    return next((n for n in names if not is_missing(record.get(n)) and record[n] != ""), "")


def _of_messages(turns: Any) -> dict[str, str] | tuple[str, str]:
    if not isinstance(turns, list | tuple) or not turns:
        return "messages", f"a list of turns belongs here, not {kind_of(turns)}"
    said: list[tuple[str, str]] = []
    for number, turn in enumerate(turns, 1):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            return "messages", (
                f"turn {number} needs a role (system, user or assistant) and a content that is text"
            )
        if is_blank(content):
            return "messages", f"turn {number} is blank"
        if trouble := unwritable(content):
            return "messages", f"turn {number} has {trouble}"
        said.append((role, content))
    if [role for role, _ in said[-2:]] != ["user", "assistant"]:
        return "messages", "the last two turns must be the user's and the assistant's"
    earlier = "\n".join(f"{role.capitalize()}: {content}" for role, content in said[:-2])
    return {"question": said[-2][1], "input": earlier, "answer": said[-1][1]}


def unwritable(text: str) -> str:
    """What is wrong with a text that UTF-8 has no bytes for; "" if nothing is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half a character ({text[error.start]!a}) at {error.start + 1}, as in damaged files"
    return ""


def is_missing(value: Any) -> bool:
    """Nothing, or what a frame has for it: NaN, NA and NaT, which are not equal to themselves."""
    unequal = isinstance(value, float) and value != value
    return value is None or unequal or type(value).__name__ in ("NAType", "NaTType")


def _extra(
    record: Mapping[str, Any], schema: str, found: dict[str, str]
) -> dict[str, Any] | tuple[str, str]:
    """The columns for a record's other fields, and the field each is read from."""
    used = {*_fields(schema).values(), *[n for n in _more_names(schema) if n in record][:1]}
    extra: dict[str, Any] = {}
    for field in record:
        column = str(field)
        if field in used or field in found:
            continue
        if trouble := unwritable(column):
            return "", f"the name of the field {named([column])} has {trouble}"
        if column in extra or column in found:
            return "", f"two fields are called {named([column])}. Rename one of them"
        extra[column] = field
    return extra


def _lost(record: Mapping[str, Any], schema: str, found: dict[str, str]) -> tuple[str, str] | None:
    """(field, what is wrong) where a field is called like a column that says something else."""
    read_from = _fields(schema) | {"input": _more(record, schema)}
    for column in found:
        value = record.get(column)
        same = isinstance(value, str) and value.strip() in ("", found[column].strip())
        if not (same or is_missing(value) or column in read_from.values()):
            source = read_from.get(column) or "messages"
            return column, (
                f"it would be lost, as the column {column!r} is read from {source!r}. Rename one "
                f"of the two or leave one out, or name the schema that is meant"
            )
    return None


def _joined(
    found: dict[str, str], record: Mapping[str, Any], extra: dict[str, Any]
) -> dict[str, str] | tuple[str, str]:
    """A record's columns with those of its other fields, or (field, what is wrong with it)."""
    columns = dict(found)
    for column, field in extra.items():
        try:
            columns[column] = as_text(record.get(field))
        except DataError as error:
            return column, str(error)
    return columns


def as_text(value: Any) -> str:
    if is_missing(value):
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(
            value, ensure_ascii=False, default=str
        )  # fmt: skip
    except RecursionError as error:
        raise DataError("it is nested too deeply to be kept as text") from error
    except (TypeError, ValueError) as error:
        told = first_line(error).lower()
        raise DataError(f"it can't be kept as text: {told}") from error
    return text.encode("utf-8", "replace").decode("utf-8")
