"""The door: records from anywhere, checked once, with every problem named by file, line and field.

Whatever a data set calls its parts, it comes out as a `datasets.Dataset` with the same columns of
text: `question`, `input` and `answer`, or `text`. Earlier turns of a conversation are in `history`,
a list of {"role": …, "content": …}. What is behind the door takes this one form and trusts it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import turns
from llmcourse.data import formats
from llmcourse.data.formats import SCHEMAS, Invalid
from llmcourse.data.readers import LINED, Bad, Note, Row, field_names, opened
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.progress import quiet_datasets
from llmcourse.templates import FIELDS, is_blank

if TYPE_CHECKING:
    from datasets import Dataset

PAIR, TEXT = ("question", "input", "answer"), ("text",)
FIELD_NAMES = (*PAIR, *TEXT, "system", "history", "messages")
OTHER_HISTORY = "history (text)"  # the column of a `history` whose form is unknown
WEIGHTS = "weights of turns"  # the column that says which answers are not trained on
CHUNK = 5000  # records that become a table at once
_READ_AS = "Read as "  # begins what a data set's description says of how it was read


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
        named = f", field {field_names([self.field])}" if self.field else ""
        return f"{self.source}{place}{named}: {self.problem}"


@dataclass
class _Reading:
    """How records are read, and what was noted meanwhile.

    Attributes:
        schema: The one that was chosen; None finds it.
        fields: Our name -> the field that is meant by it.
        may_be_blank: Whether texts may be.
        problems: Grows by the records that can't be used; None raises at the first.
        formats: The name of each format -> how many records have it.
        notes: What was read in a way that one should know -> of how many records it is true.
    """

    schema: str | None = None
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    may_be_blank: bool = False
    problems: list[Problem] | None = None
    formats: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: Counter[str] = dataclasses.field(default_factory=Counter)

    def __str__(self) -> str:
        """A data set's description: a line of formats, then a line a note."""
        found = [f"{name} ({n:,})" for name, n in self.formats.most_common()]
        named = ", ".join(found) if len(found) > 1 else "".join(self.formats)
        counts = (f"{n:,} record{'s' * (n != 1)}: " if n else "" for n in self.notes.values())
        lines = (f"{count}{note}" for count, note in zip(counts, self.notes, strict=True))
        return "\n".join([_READ_AS + named, *lines])


def load_records(
    source: Any,
    *,
    schema: str | None = None,
    fields: Mapping[str, str] | None = None,
    split: str = "train",
    strict: bool = True,
) -> Any:
    """Load records as a `datasets.Dataset` with the columns `question`, `input` and `answer`.

    Records of the schema "text" have `text` instead. A conversation of any format that
    `data.formats` knows keeps its turns: the last two are question and answer, and those before are
    in `history`, a list of {"role": …, "content": …}; so are a `system` text and a `history` of
    pairs beside a question. Names of fields are matched without case and blanks. How the records
    were read is in the data set's description (`how_read`).
    All other fields are kept as text columns, empty where a record lacks one; one that is called
    like a column which was read from elsewhere ("answer" beside "output") is a problem of the
    record, unless `schema` says which of the two is meant. `input` is also read from `context`.
    Blank lines in a file are passed over.

    Args:
        source: A file (JSON in any layout, a table as spreadsheets write it, .xlsx, .parquet;
            packed or not), a pandas frame, a list of mappings or conversations, a data set of
            `datasets` (its format and transform are put aside), or a data set on the hub
            ("owner/name").
        schema: A key of `SCHEMAS`, or the names of any two fields as "question's/answer's"; found
            from the first record where not given.
        fields: Our name (`FIELD_NAMES`) -> what the field is called in the source.
        split: Which split of a hub data set.
        strict: True stops at the first problem. False leaves out the records that have one and
            returns the problems beside the data, as a table: source, line, field, problem.

    Raises:
        DataError: the source can't be read or holds no records, or a record has a problem.
        SettingError: there is no such schema or name, or the source is blank.
    """
    import pandas

    if schema is not None and not _fields(schema):
        raise SettingError(
            f"There is no schema {schema!r:.80}. There are: {', '.join(SCHEMAS)}; or name two "
            f"fields of your own, as question/answer."
        )
    fields = fields or {}
    if unknown := [name for name in fields if name not in FIELD_NAMES]:
        raise SettingError(
            f"fields={unknown[0]!r:.80}: no field of ours. There are: {', '.join(FIELD_NAMES)}."
        )
    name, rows = opened(source, split)
    problems: list[Problem] = []
    dataset = _dataset(name, rows, _Reading(schema, fields, problems=None if strict else problems))
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
        name, rows = opened(source)
        dataset = _dataset(name, rows, _Reading(may_be_blank=may_be_blank))
    if not dataset:
        raise DataError("There are no records.")
    return dataset


def how_read(dataset: Dataset) -> list[str]:
    """The format that records were read from, then notes on what was made of them; [] if unknown.

    Args:
        dataset: What `load_records` gives.
    """
    said = dataset.info.description or ""
    return said.removeprefix(_READ_AS).split("\n") if said.startswith(_READ_AS) else []


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


def _valid(name: str, rows: Iterable[Row], how: _Reading) -> Iterator[dict[str, Any]]:
    """Yield the good records in our columns; note a bad one in `problems`, or raise at it."""
    schema = how.schema
    names = how.fields or {own: own for own in _fields(schema).values()}
    for line, row in rows:
        if isinstance(row, Note):
            how.notes[str(row)] += 0
            continue
        try:
            if isinstance(row, Bad):
                raise Invalid("", str(row))
            form, found, notes = formats.unified(row, how.schema, names)
            if schema is None or (name == "the list" and how.schema is None):
                # a file has one schema; a list may be put together from several sets
                schema = formats.schema_of(found) or schema
            record = _record(found, schema, how.schema is not None, how.may_be_blank)
            _require_utf8(record)
        except Invalid as invalid:
            problem = Problem(name, line, *invalid.args)
            if how.problems is None:
                raise DataError(str(problem)) from invalid
            how.problems.append(problem)
            continue
        how.formats[form] += 1
        how.notes.update(notes)
        if OTHER_HISTORY in record:
            how.notes["the history has no form that is known: a column that is not used"] += 1
        yield record


def _fields(schema: Any) -> dict[str, str]:
    """Our column: the field it is read from, of a schema; {} where it is none."""
    if not isinstance(schema, str):
        return {}
    question, _, answer = schema.partition("/")
    own = question.strip() and answer.strip() and question != answer
    return SCHEMAS.get(schema) or ({"question": question, "answer": answer} if own else {})


def _record(
    row: Mapping[str, Any], schema: str | None, chosen: bool, may_be_blank: bool
) -> dict[str, Any]:
    """A row in our columns.

    Raises:
        Invalid: it has a problem.
    """
    if schema is None:
        raise Invalid(
            "",
            f"the fields ({field_names(row) or 'none'}) fit no known schema. Say which are meant: "
            f"--fields question=Frage answer=Antwort, in Python fields={{'question': 'Frage', …}}; "
            f"or give a table a header",
        )
    fields = _fields(schema)
    if schema == "messages":
        used, said = {"messages"}, row.get("messages")
        if not isinstance(said, turns.Turns):
            raise Invalid("messages", f"missing (there are: {field_names(row) or 'none'})")
        try:
            record: dict[str, Any] = said.record()
        except ValueError as error:
            raise Invalid("messages", str(error)) from error
        if not record["answer"]:
            raise Invalid("messages", "there is no answer of the assistant")
        weights = [turn.pop("weight", 1) for turn in said if turn["role"] == "assistant"]
        if 0 in weights:
            record[WEIGHTS] = json.dumps(weights)
    elif schema == "text":
        used = {"text"}
        record = {"text": _text(row, "text", may_be_blank)}
    else:
        names = [name for name in FIELDS["input"] if name not in fields.values()]
        # an empty `input` beside a filled `context`, as some sets have it, is no input
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
    # What no template reads is kept too: a topic to split by, an id to find the record again.
    others = {field: value for field, value in row.items() if field not in used}
    for field, value in others.items():
        column = OTHER_HISTORY if field == "history" else str(field)
        try:
            text = as_text(value)
        except DataError as error:
            raise Invalid(column, str(error)) from error
        if column not in record:
            record[column] = text
        elif not (chosen or is_blank(text) or text.strip() == record[column].strip()):
            raise Invalid(
                column,
                f"it would be lost, as the column {column!r} is read from another field. Rename "
                f"one of the two or leave one out, or name the schema that is meant",
            )
    if record.get("history") == []:  # a pair like any other, with the same columns
        del record["history"]
    return record


def _text(row: Mapping[str, Any], field: str, may_be_blank: bool) -> str:
    """The text of a record's own field.

    Raises:
        Invalid: there is none.
    """
    value = row.get(field)
    if is_missing(value):
        if not may_be_blank:
            raise Invalid(field, f"missing (there are: {field_names(row) or 'none'})")
        return ""
    if not isinstance(value, str):
        raise Invalid(field, f"text belongs here, not {type(value).__name__}")
    if is_blank(value) and not may_be_blank:
        raise Invalid(field, "blank")
    return value


def read_turns(value: Any, system: Any = None) -> list[dict[str, Any]] | None:
    """The turns of a conversation, see `turns.read`; None where they have no form that is known."""
    try:
        read = turns.read(value, system)
        return [{name: turn[name] for name in ("role", "content")} for turn in read]
    except (ValueError, RecursionError):
        return None


def _require_utf8(record: Mapping[str, Any]) -> None:
    """Refuse half a character (a lone surrogate), which no file and no table can hold."""
    for field, value in record.items():
        texts = [value] if isinstance(value, str) else [turn["content"] for turn in value]
        try:
            "".join([field, *texts]).encode()
        except UnicodeEncodeError as error:
            piece = error.object[error.start]
            name = field.encode(errors="backslashreplace").decode()
            raise Invalid(name, f"half a character ({piece!a}), as in damaged files") from error


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


def _dataset(name: str, rows: Iterable[Row], how: _Reading) -> Dataset | None:
    """Records as a data set with the columns of all of them; None where there are none.

    Tables are made of some thousand records at a time, so that a million records are never in
    memory as Python's own objects.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo

    records = _valid(name, rows, how)
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kinds: dict[str, pa.DataType] = {}
    tables = []
    while chunk := list(itertools.islice(records, CHUNK)):
        names = dict.fromkeys(name for record in chunk for name in record)
        kinds |= {name: kind if name == "history" else pa.string() for name in names}
        blank = {name: [] if kinds[name] == kind else "" for name in names}
        schema = pa.schema([(name, kinds[name]) for name in names])
        tables.append(pa.Table.from_pylist([blank | record for record in chunk], schema=schema))
    for place, table in enumerate(tables):  # columns that came with a later chunk
        for name in kinds.keys() - set(table.column_names):
            blanks = [[] if kinds[name] == kind else ""] * len(table)
            table = table.append_column(name, pa.array(blanks, kinds[name]))
        tables[place] = table.select(list(kinds))
    info = DatasetInfo(description=str(how))
    return Dataset(pa.concat_tables(tables), info=info) if tables else None
