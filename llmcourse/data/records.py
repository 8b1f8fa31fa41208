"""The door: records from anywhere, checked once, with every problem named by file, line and field.

Whatever a data set calls its parts, it comes out as a `datasets.Dataset` with the same columns of
text: `question`, `input` and `answer`, or `text`. Earlier turns of a conversation are in `history`,
a list of {"role": …, "content": …}. What is behind the door takes this one form and trusts it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from llmcourse.data.readers import LINED, Bad, Row, field_names, open_source
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.progress import quiet_datasets
from llmcourse.templates import FIELDS, is_blank

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

PAIR, TEXT = ("question", "input", "answer"), ("text",)
OTHER_HISTORY = "history (text)"  # the column of a `history` whose form is unknown
ROLES = ("system", "user", "assistant")
CHUNK = 5000  # records that become a table at once

# Schema -> our column: the field it is read from. The first schema whose fields a record has is
# taken: the usual pairs of names, the other pairs, then names that may mean something else too.
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
            .csv, .tsv), elsewhere the record. 0 means the source.
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
        field = f", field {field_names([self.field])}" if self.field else ""
        return f"{self.source}{place}{field}: {self.problem}"


class _Invalid(Exception):
    """A field, and what is wrong with it."""


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

    Records of the schema "text" have `text` instead. A conversation keeps its turns: of
    "messages" the last two are question and answer, and those before are in `history`, a list of
    {"role": …, "content": …}; so are a `system` text and a `history` of pairs beside a question.
    All other fields are kept as text columns, empty where a record lacks one; one that is called
    like a column which was read from elsewhere ("answer" beside "output") is a problem of the
    record, unless `schema` says which of the two is meant. `input` is also read from `context`.
    Blank lines in a file are passed over.

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
    """
    import pandas

    if schema is not None and not _fields(schema):
        raise SettingError(
            f"There is no schema {schema!r:.80}. There are: {', '.join(SCHEMAS)}; or name two "
            f"fields of your own, as question/answer."
        )
    name, rows = open_source(source, split)
    problems: list[Problem] = []
    dataset = _dataset(_valid(name, rows, schema, None if strict else problems, False))
    if dataset is None:
        first = f" The first problem: {problems[0]}" if problems else ""
        raise DataError(f"{name} holds no records that can be used.{first}")
    if strict:
        return dataset
    columns = ["source", "line", "field", "problem"]
    return dataset, pandas.DataFrame([vars(problem) for problem in problems], columns=columns)


def as_records(source: Any, *, may_be_blank: bool = False) -> Dataset:
    """`source` in the form that is described above; whatever else `load_records` takes is loaded.

    A data set in that form is taken as it is, with its other columns, blank texts and all, but
    without its format, which would change what comes out of it.

    Args:
        source: The records.
        may_be_blank: True loads blank texts too: finding them is what `inspect` and `clean` do.

    Raises:
        DataError: it holds no records, can't be read, or a record has a problem.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(source, IterableDataset):
        raise DataError("This is a stream, which has no length. Load it: data.load_records(stream)")
    if isinstance(source, Dataset) and _has_form(source.features):
        dataset: Dataset | None = source.with_format(None)
        if "question" in text_fields(source.column_names) and "input" not in source.column_names:
            with quiet_datasets():
                dataset = source.with_format(None).add_column("input", [""] * len(source))
    else:
        name, rows = open_source(source)
        dataset = _dataset(_valid(name, rows, None, None, may_be_blank))
    if not dataset:
        raise DataError("There are no records.")
    return dataset


def _has_form(features: Mapping[str, Any]) -> bool:
    """True where a data set has the columns of records, as text."""
    kinds = {name: getattr(kind, "dtype", "") for name, kind in features.items()}
    # `load_records` reads these into `history`, a list of turns
    unread = "system" in kinds or kinds.get("history") in ("string", "large_string")
    pair = {"question", "answer"} <= kinds.keys()
    own = ("question", "answer", *({"input"} & kinds.keys())) if pair else TEXT
    return not unread and all(kinds.get(name) in ("string", "large_string") for name in own)


# --- the parts of a record ------------------------------------------------------------------------


def text_fields(names: Iterable[str]) -> tuple[str, ...]:
    """The fields that hold a record's own text; `text` beside a pair is a field like any other."""
    names = set(names)
    if {"question", "answer"} <= names:
        return ("history", *PAIR) if "history" in names else PAIR
    return TEXT


def texts_of(record: Mapping[str, Any]) -> dict[str, str]:
    """A record's own fields as texts; the earlier turns of a conversation are one."""
    texts = {}
    for name in text_fields(record):
        value = record.get(name) or ""
        texts[name] = value if isinstance(value, str) else "\n".join(t["content"] for t in value)
    return texts


def question_of(record: Mapping[str, Any]) -> str:
    """What a record asks: its question with the input and the turns before, or its text."""
    texts = texts_of(record)
    return "\n".join(text for name, text in texts.items() if text and name != "answer")


# --- checking and normalising ---------------------------------------------------------------------


def _valid(
    name: str,
    rows: Iterable[Row],
    schema: str | None,
    problems: list[Problem] | None,
    may_be_blank: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the good records in our columns; note a bad one in `problems`, or raise at it."""
    chosen = schema is not None
    for line, row in rows:
        try:
            if isinstance(row, Bad):
                raise _Invalid("", str(row))
            if not isinstance(row, Mapping):
                raise _Invalid("", f"an object belongs here, not {type(row).__name__}")
            if schema is None or (name == "the list" and not chosen):
                # a file has one schema; a list may be put together from several sets
                schema = _schema_of(row) or schema
            record = _record(row, schema, chosen, may_be_blank)
            _require_utf8(record)
            yield record
        except _Invalid as invalid:
            problem = Problem(name, line, *invalid.args)
            if problems is None:
                raise DataError(str(problem)) from invalid
            problems.append(problem)


def _fields(schema: Any) -> dict[str, str]:
    """Our column: the field it is read from, of a schema; {} where it is none."""
    if not isinstance(schema, str):
        return {}
    question, _, answer = schema.partition("/")
    own = question.strip() and answer.strip() and question != answer
    return SCHEMAS.get(schema) or ({"question": question, "answer": answer} if own else {})


def _schema_of(row: Mapping[str, Any]) -> str | None:
    """The first schema whose fields a row has."""
    return next((n for n, fields in SCHEMAS.items() if row.keys() >= set(fields.values())), None)


def _record(
    row: Mapping[str, Any], schema: str | None, chosen: bool, may_be_blank: bool
) -> dict[str, Any]:
    """A row in our columns.

    Raises:
        _Invalid: it has a problem.
    """
    if schema is None:
        raise _Invalid(
            "",
            f"the fields ({field_names(row) or 'none'}) fit no known schema: {', '.join(SCHEMAS)}. "
            f"Rename them, name the schema, or give a table a header",
        )
    fields = _fields(schema)
    if schema == "messages":
        used, turns = {"messages"}, read_turns(row.get("messages")) or []
        roles = [turn["role"] for turn in turns]
        if roles[-2:] != ["user", "assistant"] or any(is_blank(t["content"]) for t in turns):
            raise _Invalid(
                "messages",
                f"turns belong here, each with a role ({', '.join(ROLES)}) and its content as "
                f"text; the last two are the user's and the assistant's",
            )
        question, answer = (turn["content"] for turn in turns[-2:])
        record: dict[str, Any] = {"question": question, "input": "", "answer": answer}
        record |= {"history": turns[:-2]}
    elif schema == "text":
        used = {"text"}
        record = {"text": _text(row, "text", may_be_blank)}
    else:
        names = [name for name in FIELDS["input"] if name not in fields.values()]
        context = next((name for name in names if not is_empty(row.get(name))), names[0])
        read = {"question": fields["question"], "input": context, "answer": fields["answer"]}
        used = {*read.values(), *(name for name in names if is_empty(row.get(name)))}
        record = {
            column: _text(row, field, may_be_blank or column == "input")
            for column, field in read.items()
        }
        history = read_turns(row.get("history"), row.get("system"))
        if history is not None:
            used |= {"history", "system"}
            record |= {"history": history}
    others = {field: value for field, value in row.items() if field not in used}
    for field, value in others.items():
        column = OTHER_HISTORY if field == "history" else str(field)
        try:
            text = as_text(value)
        except DataError as error:
            raise _Invalid(column, str(error)) from error
        if column not in record:
            record[column] = text
        elif not (chosen or is_blank(text) or text.strip() == record[column].strip()):
            raise _Invalid(
                column,
                f"it would be lost, as the column {column!r} is read from another field. Rename "
                f"one of the two or leave one out, or name the schema that is meant",
            )
    if record.get("history") == []:
        del record["history"]
    return record


def _text(row: Mapping[str, Any], field: str, may_be_blank: bool) -> str:
    """The text of a record's own field.

    Raises:
        _Invalid: there is none.
    """
    value = row.get(field)
    if is_missing(value):
        if not may_be_blank:
            raise _Invalid(field, f"missing (there are: {field_names(row) or 'none'})")
        return ""
    if not isinstance(value, str):
        raise _Invalid(field, f"text belongs here, not {type(value).__name__}")
    if is_blank(value) and not may_be_blank:
        raise _Invalid(field, "blank")
    return value


def read_turns(value: Any, system: Any = None) -> list[dict[str, str]] | None:
    """The turns of a conversation; None where they have no form that is known.

    Args:
        value: A list of turns or of pairs (question, answer), or such a list as JSON, as a cell of
            a table has it. Nothing is an empty list.
        system: A system text, put first.
    """
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if hasattr(value, "tolist"):  # an array of NumPy, as in a frame read from parquet
        value = value.tolist()
    value = [] if is_empty(value) else value
    if not isinstance(value, list | tuple) or not (is_empty(system) or isinstance(system, str)):
        return None
    turns: list[tuple[Any, Any]] = [] if is_blank(system) else [("system", system)]
    for turn in value:
        if isinstance(turn, Mapping):
            turns.append((turn.get("role"), turn.get("content")))
        elif isinstance(turn, list | tuple) and len(turn) == 2:
            turns += zip(("user", "assistant"), turn, strict=True)
        else:
            return None
    if any(role not in ROLES or not isinstance(content, str) for role, content in turns):
        return None
    return [{"role": role, "content": content} for role, content in turns]


def _require_utf8(record: Mapping[str, Any]) -> None:
    """Refuse half a character (a lone surrogate), which no file and no table can hold."""
    for field, value in record.items():
        texts = [value] if isinstance(value, str) else [turn["content"] for turn in value]
        try:
            "".join([field, *texts]).encode()
        except UnicodeEncodeError as error:
            piece = error.object[error.start]
            name = field.encode(errors="backslashreplace").decode()
            raise _Invalid(name, f"half a character ({piece!a}), as in damaged files") from error


def is_missing(value: Any) -> bool:
    """Nothing, or what a frame has for it: NaN, NA and NaT, which are not equal to themselves."""
    unequal = isinstance(value, float) and value != value
    return value is None or unequal or type(value).__name__ in ("NAType", "NaTType")


def is_empty(value: Any) -> bool:
    """True for a missing value, and for a text or list with nothing in it."""
    return is_missing(value) or (isinstance(value, str | list) and not value)


def as_text(value: Any) -> str:
    """A value as text: as JSON where it is none, "" where it is missing.

    Raises:
        DataError: it can't be written as JSON, as it is nested too deeply or in itself.
    """
    if isinstance(value, str):
        return value
    try:
        return "" if is_missing(value) else json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"it can't be kept as text ({first_line(error).lower()})") from error


def _dataset(records: Iterator[dict[str, Any]]) -> Dataset | None:
    """Records as a data set with the columns of all of them; None where there are none.

    Tables are made of some thousand records at a time, so that a million records are never in
    memory as Python's own objects.
    """
    import pyarrow as pa
    from datasets import Dataset

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kinds: dict[str, pa.DataType] = {}
    tables = []
    while chunk := list(itertools.islice(records, CHUNK)):
        names = dict.fromkeys(name for record in chunk for name in record)
        kinds |= {name: turns if name == "history" else pa.string() for name in names}
        blank = {name: [] if kinds[name] == turns else "" for name in names}
        schema = pa.schema([(name, kinds[name]) for name in names])
        tables.append(pa.Table.from_pylist([blank | record for record in chunk], schema=schema))
    for place, table in enumerate(tables):  # columns that came with a later chunk
        for name in kinds.keys() - set(table.column_names):
            blanks = [[] if kinds[name] == turns else ""] * len(table)
            table = table.append_column(name, pa.array(blanks, kinds[name]))
        tables[place] = table.select(list(kinds))
    return Dataset(pa.concat_tables(tables)) if tables else None
