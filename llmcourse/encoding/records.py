"""Records to token ids and labels."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import parallel, templates
from llmcourse.encoding.checks import UNTRAINED, check_source
from llmcourse.encoding.tokens import end_ids, tokenized
from llmcourse.errors import CourseError, DataError, SettingError, TemplateError, whole

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TOO_LONG = ("leave out", "cut prompt", "cut completion", "error")
SHORTEST = 8  # tokens; a max_length below this is a mistake


@dataclass(frozen=True, eq=False)
class Encoded:
    """Records as token ids.

    Attributes:
        dataset: A row a record: `input_ids`, `labels` (the same ids, or -100 where not trained
            on), `length` (tokens) and `record` (its place in what was encoded, from 0).
        cut: Records whose prompt or completion was shortened.
        left_out: Records that have no row because they are too long.
        template: The template they were rendered with.
        max_length: The most tokens a row may have.
    """

    dataset: Dataset
    cut: list[int]
    left_out: list[int]
    template: str
    max_length: int

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(len(labels) for labels in self._labels())

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss is computed on."""
        return sum(int((labels != UNTRAINED).sum()) for labels in self._labels())

    def _labels(self) -> Iterator[Any]:
        """The labels of some thousand rows at a time, end to end as one array."""
        if len(self.dataset):
            for table in self.dataset.with_format("arrow").iter(5000):
                for chunk in table["labels"].chunks:
                    yield chunk.flatten().to_numpy()

    def as_text(self) -> str:
        """What became of the records, in a few lines."""
        tokens, trained = self.tokens, self.trained_tokens
        share = f" ({100 * trained / tokens:.0f} %)" if tokens else ""
        return "\n".join(
            [
                f"{len(self) + len(self.left_out):,} records in, template {self.template!r}, at "
                f"most {self.max_length:,} tokens each",
                f"{len(self):,} encoded; shortened: {_listed(self.cut)}; left out as too long: "
                f"{_listed(self.left_out)}",
                f"{tokens:,} tokens, {trained:,}{share} of them trained on",
            ]
        )


def _listed(numbers: Sequence[int]) -> str:
    """How many, and the first few of them."""
    if not numbers:
        return "none"
    more = ", …" if len(numbers) > 5 else ""
    return f"{len(numbers):,} (record {', '.join(map(str, numbers[:5]))}{more})"


@dataclass(frozen=True)
class _Way(parallel.Shared):
    """How a record is encoded; goes to the worker processes."""

    tokenizer: Any
    template: str
    system: str | None
    max_length: int
    too_long: str
    mask_prompt: bool
    end: list[int]


def encode(
    records: Dataset | Iterable[templates.Record],
    tokenizer: PreTrainedTokenizerBase,
    template: str = "qa",
    *,
    system: str | None = None,
    max_length: int = 512,
    too_long: str = "leave out",
    mask_prompt: bool = True,
    add_end: bool = True,
    workers: int | None = None,
) -> Encoded:
    """Turn records into token ids and labels: prompt, completion, end-of-sequence token.

    The rows go to disk as they are made, so a million records need little memory; the files go
    when the result does. A record with a `text` and no question is all completion. The first
    token of a row is never trained on, as nothing stands before it that could predict it.

    Args:
        records: A data set or a list of mappings with the fields in `templates.FIELDS`, or `text`.
            A data set is read as it is stored: a format or transform set on it changes nothing.
        tokenizer: The tokenizer of the model to be trained, or the model from `models.load`.
        template: Name in `templates.NAMES`.
        system: What the model is told before each question.
        max_length: The most tokens a row may have.
        too_long: What becomes of a longer record. "leave out": it gets no row. "cut prompt": the
            prompt loses its beginning (a beginning-of-sequence token stays), the completion stays
            whole; left out where even that does not fit. "cut completion": the completion loses
            its end and gets no end token, since the text does not end there; left out where the
            prompt alone fills the row. "error": a `DataError`. What was cut or left out is
            listed in the result.
        mask_prompt: False trains on the prompt as well.
        add_end: False leaves out the end token, and the model never learns to stop.
        workers: Processes; if not given 1 below 20,000 records, else one a usable core.

    Raises:
        SettingError: `max_length`, `too_long`, `system` or `workers` means nothing, or
            `tokenizer` is none or has no end-of-sequence token.
        TemplateError: see `templates.render`.
        DataError: there are no records, or one has a problem or is too long ("error").
        NoSpace: the disk is full.
    """
    import numpy

    if too_long not in TOO_LONG:
        raise SettingError(f"too_long={too_long!r} is not known. Use one of {TOO_LONG}.")
    max_length = whole("max_length", max_length, SHORTEST)
    if not isinstance(system, str | None):
        raise SettingError(f"system={system!r:.60} must be text, or None for no system text.")
    tokenizer = templates.tokenizer_of(tokenizer)
    if tokenizer.eos_token_id is None:
        raise SettingError(
            "This tokenizer has no end-of-sequence token, so a model could never learn to stop. "
            "Set tokenizer.eos_token, or use another model."
        )
    templates.render("Hi", template, tokenizer=tokenizer, system=system)  # fails for all or none
    source = _as_dataset(records)
    way = _Way(
        tokenizer, template, system, max_length, too_long, mask_prompt,
        end_ids(tokenizer, template) if add_end else [],
    )  # fmt: skip
    columns = {"input_ids": ["int32"], "labels": ["int32"], "length": "int32", "record": "int64"}
    many = parallel.workers_for(source, workers)
    with parallel.scratch(kept=True) as folder, parallel.within_reach(way):
        rows = parallel.map_rows(
            source, functools.partial(_encode_batch, way=way), columns | {"cut": "bool"}, folder,
            workers=many, description="Encoding",
        )  # fmt: skip
        dataset = parallel.with_files(rows.remove_columns("cut"), folder)
    record, cut = (rows.data.column(name).to_numpy() for name in ("record", "cut"))
    left_out = numpy.setdiff1d(numpy.arange(len(source)), record, assume_unique=True)
    return Encoded(dataset, record[cut].tolist(), left_out.tolist(), template, max_length)


def _as_dataset(records: Any) -> Dataset:
    """The records as a data set of the columns that templates read.

    Raises:
        DataError: they are no records, there are none, or one in a list has a problem.
    """
    from datasets import Dataset

    check_source(records)
    if isinstance(records, Mapping) or not isinstance(records, Iterable):
        raise DataError(f"A list of records or a data set is wanted, not {type(records).__name__}.")
    if hasattr(records, "features"):
        known = {name for names in templates.FIELDS.values() for name in names} | {"text"}
        wanted = [name for name in records.column_names if name in known]
        dataset = (records.select_columns(wanted) if wanted else records).with_format(None)
    else:
        rows = [_texts(record, number) for number, record in enumerate(records)]
        names = dict.fromkeys(name for row in rows for name in row)
        dataset = Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})
    if not len(dataset):
        raise DataError("There are no records to encode.")
    return dataset


def _texts(record: templates.Record, number: int) -> dict[str, str]:
    """A record's texts: `text`, or `question`, `input` and `answer`.

    Raises:
        DataError: one is missing, blank or no text; the message says which record and field.
    """
    here = f"Record {number} (counted from 0)"
    if not isinstance(record, Mapping):
        raise DataError(f"{here} is {type(record).__name__}; a mapping of fields is wanted.")
    there = {name: value for name, value in record.items() if value is not None}
    asked = any(name in there for name in templates.FIELDS["question"])
    roles = ["text"] if "text" in there and not asked else list(templates.FIELDS)
    found = {}
    for role in roles:
        usual = templates.FIELDS.get(role, (role,))
        name = next((name for name in usual if name in there), None)
        try:
            text = templates.get_field(there, role, needed=role != "input")
            text.encode()
        except TemplateError as error:
            raise DataError(f"{here}: {error}") from error
        except UnicodeEncodeError as error:
            raise DataError(
                f"{here}, field {name!r}: it has characters that are no text."
            ) from error
        if role != "input" and templates.is_blank(text):
            raise DataError(f"{here}, field {name!r}: blank. Mend it or leave it out.")
        found[role] = text
    return found


# --- one batch of records, in whichever process ---------------------------------------------------


def _encode_batch(batch: dict[str, list], numbers: list[int], way: _Way) -> dict[str, list]:
    """Rows for a batch of records; those that are left out have none.

    Raises:
        CourseError: a record has a problem; the message says which.
    """
    names = list(batch)
    rendered = [
        _rendered(_texts(dict(zip(names, values, strict=True)), number), number, way)
        for number, values in zip(numbers, zip(*batch.values(), strict=True), strict=True)
    ]
    rows: dict[str, list] = {"input_ids": [], "labels": [], "length": [], "record": [], "cut": []}
    for number, parts in zip(numbers, tokenized(rendered, way.tokenizer), strict=True):
        parts[-1] += way.end
        ids, labels = [], []
        for place, part in enumerate(parts):
            ids += part
            trained = place % 2 or not way.mask_prompt
            labels += part if trained else [UNTRAINED] * len(part)
        fitted = _fit(ids, labels, len(parts[-1]), number, way)
        if fitted is None:
            continue
        ids, labels = fitted
        rows["cut"].append(len(ids) < sum(map(len, parts)))
        rows["input_ids"].append(ids)
        rows["labels"].append([UNTRAINED, *labels[1:]])
        rows["length"].append(len(ids))
        rows["record"].append(number)
    return rows


def _rendered(record: dict[str, str], number: int, way: _Way) -> templates.Rendered:
    """A record's prompt and completion; a text is all completion.

    Raises:
        CourseError: see `templates.render`; the message says which record.
    """
    if "text" in record:
        controls = templates.Controls.of(way.tokenizer)
        return templates.Rendered(("", controls.as_text(record["text"])))
    try:
        return templates.render(record, way.template, tokenizer=way.tokenizer, system=way.system)
    except CourseError as error:
        raise type(error)(f"Record {number} (counted from 0): {error}") from error


def _fit(
    ids: list[int], labels: list[int], answer: int, number: int, way: _Way
) -> tuple[list[int], list[int]] | None:
    """A row within `max_length`; None leaves it out.

    Args:
        ids: All of the record.
        labels: Its labels.
        answer: How many of them, at the end, are the last answer and its end.
        number: Of the record.
        way: How to encode.

    Raises:
        DataError: it is too long, and `too_long` is "error".
    """
    size, start = way.max_length, len(ids) - answer
    if len(ids) <= size:
        return ids, labels
    if way.too_long == "error":
        raise DataError(
            f"Record {number} (counted from 0) has {len(ids)} tokens, and max_length is "
            f"{size}. Raise max_length, shorten the record, or choose what becomes of "
            f"such records: too_long={TOO_LONG[0]!r}, {TOO_LONG[1]!r} or {TOO_LONG[2]!r}."
        )
    if way.too_long == "cut prompt":
        begin = 1 if ids[:1] == [way.tokenizer.bos_token_id] else 0
        if size - answer - begin >= 1 and start > begin:
            rest = len(ids) - size + begin
            return ids[:begin] + ids[rest:], labels[:begin] + labels[rest:]
    if way.too_long == "cut completion" and start < size:
        return ids[:size], labels[:size]
    return None
