"""The door: records from anywhere, checked once, with every problem named by file, line and field.

Whatever a data set calls its parts, it comes out with the same columns: `question`, `input` and
`answer`, or `text`; earlier turns of a conversation are in `history`. What is behind the door
takes this one form and trusts it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from llmcourse.data.readers import LINED, Bad, Row, header_hint, kind_of, named, open_source
from llmcourse.data.tables import in_memory
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.progress import quiet_datasets
from llmcourse.templates import FIELDS, is_blank

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

PAIR, TEXT = ("question", "input", "answer"), ("text",)
OTHER_HISTORY = "history (text)"  # the column of a `history` that has no turns we know
ROLES = ("system", "user", "assistant")

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
    dataset = in_memory(_checked(name, rows, schema, strict, problems))
    if dataset is None:
        first = f" The first problem: {problems[0]}" if problems else ""
        raise DataError(f"{name} holds no records that can be used.{first}")
    if strict:
        return dataset
    columns = ["source", "line", "field", "problem"]
    return dataset, pandas.DataFrame([vars(problem) for problem in problems], columns=columns)


def as_records(source: Any, *, blank: bool = True) -> Dataset:
    """`source` in the one form: what `load_records` gives, or whatever it takes.

    A data set that has these columns already is taken as it is, but without its format, as a
    format or transform changes what comes out of it. So is a list of such records, whose other
    fields become text.

    Args:
        source: The records.
        blank: False refuses a blank question, answer or text.

    Raises:
        DataError: it holds no records, can't be read, or has a blank text where none may be.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(source, IterableDataset):
        raise DataError(
            "This is a stream (IterableDataset), which has no length and no places. Read it into "
            "a data set first: data.load_records(stream)."
        )
    if isinstance(source, Dataset) and _has_form(source.features):
        dataset = source.with_format(None)
        if own_fields(source.column_names) == PAIR and "input" not in source.column_names:
            with quiet_datasets():
                dataset = dataset.add_column("input", [""] * len(dataset))
    elif blank and isinstance(source, list | Dataset) and source and all(map(_is_record, source)):
        dataset = in_memory(_filled(source))
    else:
        dataset = load_records(source)
    if not len(dataset):
        raise DataError("There are no records.")
    if not blank:
        _require_text(dataset)
    return dataset


def _require_text(dataset: Dataset) -> None:
    """Refuse a blank question or answer; a text beside them may stand for both.

    Raises:
        DataError: with its record.
    """
    names = [name for name in own_fields(dataset.column_names) if name != "input"]
    texts = [*names, *({"text"} & set(dataset.column_names) - set(names))]
    numbers = itertools.count(1)
    for batch in dataset.select_columns(texts).iter(1000):
        spare = batch.get("text", [""] * len(batch[texts[0]]))
        for row in zip(spare, *map(batch.get, names), strict=True):
            number = next(numbers)
            blank = next(
                (n for n, text in zip(names, row[1:], strict=True) if is_blank(text)), None
            )
            if blank and is_blank(row[0]):
                raise DataError(
                    f"record {number}, field {blank!r}: blank. Mend it or leave it out."
                )


def own_fields(names: Iterable[str]) -> tuple[str, ...]:
    """The fields that hold a record's own text, where there are fields of these `names`.

    `text` beside question and answer is a field like any other.
    """
    return PAIR if {"question", "answer"} <= set(names) else TEXT


def _has_form(features: Mapping[str, Any]) -> bool:
    """True where a data set has the columns of records, as text."""
    kinds = {name: getattr(kind, "dtype", "") for name, kind in features.items()}
    needed = [name for name in own_fields(kinds) if name != "input" or name in kinds]
    ours = "system" not in kinds and kinds.get("history") not in ("string", "large_string")
    return ours and all(kinds.get(name) in ("string", "large_string") for name in needed)


def _is_record(record: Any) -> bool:
    """True for a mapping with the fields of a record, as text, blank or not."""
    if not isinstance(record, Mapping):
        return False
    own = own_fields(record)
    return all(name in record for name in own if name != "input") and all(
        isinstance(record.get(name), str | None) for name in own
    )


def _filled(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records with their own fields as they are and all others as text."""
    own: tuple[str, ...] = ()
    for number, record in enumerate(records, 1):
        own = own or own_fields(record)
        if own_fields(record) != own:
            odd = next(name for name in own_fields(record) if name in record)
            raise DataError(
                f"the list, record {number}, field {odd!r}: the records before have "
                f"{' and '.join(own)}. Give all of them the same fields."
            )
        try:
            found = {name: _written(name, record.get(name) or "") for name in own}
            yield _with_others(found, record, set(own))
        except _Wrong as wrong:
            raise DataError(str(Problem("the list", number, *wrong.args))) from wrong


# --- checking -------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A field, and what is wrong with it."""


def _checked(
    name: str, rows: Iterable[Row], schema: str | None, strict: bool, problems: list[Problem]
) -> Iterator[dict[str, Any]]:
    """Yield the good records in our columns; raise at a bad one, or note it in `problems`."""
    chosen = schema is not None
    for line, row in rows:
        try:
            if isinstance(row, Bad) or not isinstance(row, Mapping):
                told = (
                    row if isinstance(row, Bad) else f"an object belongs here, not {kind_of(row)}"
                )
                raise _Wrong("", str(told))
            if not chosen and name == "the list":  # may be put together from several sets
                schema = _schema_of(row) or schema
            schema = schema or _schema_of(row)
            yield _record(row, schema, name, chosen)
        except _Wrong as wrong:
            problem = Problem(name, line, *wrong.args)
            if strict:
                raise DataError(str(problem)) from wrong
            problems.append(problem)


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


def _record(
    row: Mapping[str, Any], schema: str | None, source: str, chosen: bool
) -> dict[str, Any]:
    """A row in our columns.

    Raises:
        _Wrong: with its field.
    """
    if schema is None:
        raise _Wrong(
            "",
            (
                f"the fields ({named(row) or 'none'}) fit no known schema: {', '.join(SCHEMAS)}. "
                f"Rename them, or name the schema.{header_hint(source, row)}"
            ),
        )
    fields = _fields(schema)
    missing = next((field for field in fields.values() if is_missing(row.get(field))), None)
    if missing is not None:
        other = _schema_of(row)
        mixed = f"; it looks like {other!r} in a file of {schema!r}"
        told = f"missing (there are: {named(row) or 'none'})"
        raise _Wrong(missing, told + (mixed if other not in (None, schema) else ""))
    if schema == "messages":
        turns = _turns(row["messages"])
        found = {"question": turns[-2]["content"], "input": "", "answer": turns[-1]["content"]}
        if not chosen:
            _require_unhidden(row, found, dict.fromkeys(found, "messages"))
        return _with_others(found | {"history": turns[:-2]}, row, {"messages"})
    found = {}
    for column, field in fields.items():
        if not isinstance(row[field], str):
            raise _Wrong(field, f"text belongs here, not {kind_of(row[field])}")
        if is_blank(row[field]):
            raise _Wrong(field, "blank")
        found[column] = _written(field, row[field])
    if schema == "text":
        return _with_others(found, row, {"text"})
    names = [name for name in FIELDS["input"] if name not in fields.values()]
    more = next((n for n in names if not is_missing(row.get(n)) and row[n] != ""), names[0])
    extra = "" if is_missing(row.get(more)) else row[more]
    if not isinstance(extra, str):
        raise _Wrong(more, f"text belongs here, not {kind_of(extra)}")
    found = {
        "question": found["question"],
        "input": "" if is_blank(extra) else _written(more, extra),
        "answer": found["answer"],
    }
    if not chosen:
        _require_unhidden(row, found, fields | {"input": more})
    used = {*fields.values(), next((name for name in names if name in row), "")}
    return _with_others(found, row, used)


def _require_unhidden(
    row: Mapping[str, Any], found: Mapping[str, str], read_from: Mapping[str, str]
) -> None:
    """Refuse a field that is called like a column which is read from another one.

    Raises:
        _Wrong: with that field.
    """
    for column, field in read_from.items():
        value = row.get(column)
        same = isinstance(value, str) and value.strip() in ("", found[column].strip())
        if not (same or is_missing(value) or column in read_from.values()):
            raise _Wrong(
                column,
                (
                    f"it would be lost, as the column {column!r} is read from {field!r}. Rename "
                    f"one of the two or leave one out, or name the schema that is meant"
                ),
            )


def _turns(given: Any) -> list[dict[str, str]]:
    """A conversation's turns, the last two the user's and the assistant's.

    Raises:
        _Wrong: they are none.
    """
    if not isinstance(given, list | tuple) or not given:
        raise _Wrong("messages", f"a list of turns belongs here, not {kind_of(given)}")
    turns = []
    for number, turn in enumerate(given, 1):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if role not in ROLES or not isinstance(content, str):
            raise _Wrong(
                "messages",
                (
                    f"turn {number} needs a role (system, user or assistant) and a content that "
                    f"is text"
                ),
            )
        if is_blank(content):
            raise _Wrong("messages", f"turn {number} is blank")
        turns.append({"role": role, "content": _written("messages", content)})
    if [turn["role"] for turn in turns[-2:]] != ["user", "assistant"]:
        raise _Wrong("messages", "the last two turns must be the user's and the assistant's")
    return turns


def earlier_turns(given: Any, system: Any) -> list[dict[str, str]] | None:
    """Earlier turns from a system text and pairs of question and answer, or turns.

    None where there are none in a form that is known.
    """
    if isinstance(given, str) and given.startswith("["):  # as a table has it
        try:
            given = json.loads(given)
        except ValueError:
            return None
    pairs = list(given) if isinstance(given, list | tuple) else []
    if not pairs and not (is_missing(given) or given in ("", [])):
        return None
    if not (isinstance(system, str) or is_missing(system)):
        return None
    turns = []
    if system and isinstance(system, str) and not is_blank(system):
        turns.append({"role": "system", "content": system})
    for pair in pairs:
        if isinstance(pair, Mapping):
            turns.append({name: pair.get(name) for name in ("role", "content")})
        elif isinstance(pair, list | tuple) and len(pair) == 2:
            roles = zip(("user", "assistant"), pair, strict=True)
            turns += [{"role": role, "content": content} for role, content in roles]
        else:
            return None
    if any(t["role"] not in ROLES or not isinstance(t["content"], str) for t in turns):
        return None
    return [
        {"role": turn["role"], "content": _written("history", turn["content"])} for turn in turns
    ]


def _with_others(found: dict[str, Any], row: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """A record's columns with its earlier turns, and its other fields as text.

    Raises:
        _Wrong: one can't be kept, or two would have one name.
    """
    if "question" in found and "history" not in found:
        turns = earlier_turns(row.get("history"), row.get("system"))
        if turns is not None:
            found, used = found | {"history": turns}, used | {"history", "system"}
    columns = {name: value for name, value in found.items() if value != []}
    for field, value in row.items():
        if field in used or field in found:
            continue
        column = OTHER_HISTORY if field == "history" else str(field)
        if column in columns:
            raise _Wrong("", f"two fields are called {named([column])}. Rename one of them")
        if trouble := unwritable(column):
            raise _Wrong("", f"the name of the field {named([column])} has {trouble}")
        try:
            columns[column] = as_text(value)
        except DataError as error:
            raise _Wrong(column, str(error)) from error
    return columns


def _written(field: str, text: str) -> str:
    """`text`, which UTF-8 has bytes for.

    Raises:
        _Wrong: it has none.
    """
    if trouble := unwritable(text):
        raise _Wrong(field, trouble)
    return text


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


def as_text(value: Any) -> str:
    """A value as text: as JSON where it is none.

    Raises:
        DataError: it is nested too deeply, or in itself.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if is_missing(value):
        return ""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError as error:
        raise DataError("it is nested too deeply to be kept as text") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"it can't be kept as text: {first_line(error).lower()}") from error
    return text.encode("utf-8", "replace").decode("utf-8")
