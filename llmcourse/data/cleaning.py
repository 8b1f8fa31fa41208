"""Cleaning records: what can be fixed is fixed, the rest left out, and every change is listed."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.data import near_duplicates, patterns
from llmcourse.data.near_duplicates import jaccard, shingles
from llmcourse.data.records import as_records, question_of, text_fields, texts_of
from llmcourse.data.tables import mapped
from llmcourse.errors import SettingError
from llmcourse.templates import is_blank

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

STEPS = (
    "encoding",
    "html",
    "whitespace",
    "personal data",
    "blank",
    "duplicates",
    "near-duplicates",
    "contradictions",
)
# Two texts that differ in one of these say different things, however alike they are.
_DECISIVE = re.compile(r"\d+|\b(?:no|not|never|nicht|kein\w*|pas|jamais)\b|n['’]t\b", re.IGNORECASE)
NEAR = 0.9  # share of three-word shingles that question and answer must each have in common
Settle = Callable[[list[dict[str, Any]]], int | None]
Reasons = dict[int, tuple[str, str, str]]  # a record's place -> step, field, why it is left out


@dataclass(frozen=True)
class Cleaned:
    """Records after cleaning.

    Attributes:
        dataset: Those that stayed, with all their columns. Only `question`, `input` and `answer`,
            or `text`, and earlier turns are fixed; other columns keep their types and values.
        changes: What was done, as a table: record (its number in the input, from 1), step,
            action ("fixed" or "left out"), field, before, after. Of a record left out `after`
            says why. Personal data is still in `before`, so don't pass the table on.
    """

    dataset: Dataset
    changes: pandas.DataFrame


def clean(
    dataset: Any,
    *,
    steps: Sequence[str] = STEPS,
    keep: str | Collection[str] = (),
    settle: Settle | None = None,
) -> Cleaned:
    """Clean records and list every change; nothing is dropped silently.

    The steps, always in this order:

    - encoding: text decoded wrongly and control characters are fixed (`ftfy`); quotes stay.
    - html: left-over HTML is replaced by its readable text; code and "a < b" stay.
    - whitespace: blanks at the ends, runs of blanks within a line and of empty lines go.
      Indented lines keep their indent.
    - personal data: replaced by "[e-mail]", "[phone]" and so on. Names of people have no form
      that a pattern could find, so they stay, as in "Yours, Jane Roe, [address]".
    - blank: records without question or answer are left out.
    - duplicates: of the same records the first stays.
    - near-duplicates: the first stays of records with the same question and answer but for case
      and punctuation, and of long ones where both share 90 % of their three-word shingles and have
      the same numbers. A paraphrase of a question is none.
    - contradictions: all records are left out that answer the same question differently, since a
      program can't know which is right. Records whose other columns give the question another
      context (a passage, a history) are none. Leave the step out where questions have several
      right answers, as "Write a poem" has.

    Args:
        dataset: What `data.load_records` gives or takes; blank texts are fine here.
        steps: Those of `STEPS` to take.
        keep: Pieces that are no personal data, such as "@ferrowick.example" or "Quillon Lane";
            or a single one.
        settle: Is given the records of a contradiction and returns the place (from 0) of the
            right one, or None for none.

    Raises:
        DataError: the records can't be read.
        SettingError: `steps` is no list of `STEPS`, `keep` holds something that is no text or
            blank, or `settle` returned no place.
    """
    import pandas

    if isinstance(steps, str) or not set(steps) <= set(STEPS):
        raise SettingError(f"steps={steps!r}: There is no step but these: {STEPS}.")
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    if not all(isinstance(piece, str) and piece.strip() for piece in keep):
        raise SettingError(f"keep={keep!r:.80} must be pieces of text, such as ['Quillon Lane'].")
    changes: list[tuple[Any, ...]] = []
    fixed = _fixed(as_records(dataset, may_be_blank=True), steps, keep, changes)
    out = _left_out(fixed, steps, settle)
    # listed as they were read, before the others go and the numbers change
    for place, (step, field, why) in out.items():
        before = fixed[place]["answer"] if field == "answer" else question_of(fixed[place])
        changes.append((place + 1, step, "left out", field, before, why))
    left = fixed.select([place for place in range(len(fixed)) if place not in out])
    columns = ["record", "step", "action", "field", "before", "after"]
    table = pandas.DataFrame(changes, columns=columns).sort_values("record", kind="stable")
    return Cleaned(left, table.reset_index(drop=True))


# --- fixing ---------------------------------------------------------------------------------------


def _fixed(
    records: Dataset, steps: Sequence[str], keep: Collection[str], changes: list[tuple[Any, ...]]
) -> Dataset:
    """The records with their texts fixed; `changes` grows by what was done."""
    fixes: dict[str, Callable[[str], str]] = {
        "encoding": patterns.ungarbled,
        "html": patterns.without_markup,
        "whitespace": _single_spaced,
        "personal data": functools.partial(patterns.masked, keep=keep),
    }

    def fix(text: str | None, number: int, field: str) -> str:
        text = text or ""
        for _ in range(10):  # what one step uncovers may be another's: text that was escaped twice
            last = text
            for step, fixed in fixes.items():
                if step in steps and (after := fixed(text)) != text:
                    changes.append((number + 1, step, "fixed", field, text, after))
                    text = after
            if text == last:
                break
        return text

    def batch(columns: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        for name in text_fields(columns):
            pairs = zip(columns[name], numbers, strict=True)
            if name == "history":
                columns[name] = [
                    [turn | {"content": fix(turn["content"], n, name)} for turn in turns or ()]
                    for turns, n in pairs
                ]
            else:
                columns[name] = [fix(text, n, name) for text, n in pairs]
        return dict(columns)  # all of them: `datasets` takes only the changed ones otherwise

    return mapped(records, batch, records.features, workers=1)  # as `changes` is in this process


def _single_spaced(text: str) -> str:
    """`text` without superfluous blanks; code between ``` and indents stay as they are."""
    pieces = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    for place in range(0, len(pieces), 2):  # every second piece is code
        piece = re.sub(r"(?<=\S)[ \t\xa0]{2,}(?=\S)", " ", pieces[place].replace("\r\n", "\n"))
        pieces[place] = re.sub(r"\n{3,}", "\n\n", patterns.without_line_ends(piece))
    return "".join(pieces).strip()


# --- leaving out ----------------------------------------------------------------------------------


def _left_out(records: Dataset, steps: Sequence[str], settle: Settle | None) -> Reasons:
    """Which records are left out, and why."""
    out: Reasons = {}
    names = text_fields(records.column_names)
    texts = [texts_of(record) for record in records.select_columns(list(names))]
    # after fixing, so that what became the same is found
    table = mapped(
        near_duplicates.compared(records), near_duplicates.batch_keys, near_duplicates.KEYS
    ).to_pandas()
    if "blank" in steps:
        needed = [name for name in names if name not in ("input", "history")]
        for place in table.index[table.blank]:
            field = next(name for name in needed if is_blank(texts[place][name]))
            out[place] = ("blank", field, f"no {field}")
    # blank records are never compared: all of them would be copies of the first
    table = table[~table.blank]
    for step, same in (("duplicates", ["record"]), ("near-duplicates", ["question", "answer"])):
        if step in steps and len(table):
            first = table.index.to_series().groupby([table[name] for name in same])
            firsts = first.transform("first")
            for place, kept in firsts[firsts != firsts.index].items():
                out[place] = (step, "", f"the same as record {kept + 1}")
            table = table[firsts == firsts.index]
    if "near-duplicates" in steps:
        for low, high in near_duplicates.candidates(table[near_duplicates.RECORD]):
            if low not in out and high not in out and _is_near(texts[low], texts[high]):
                out[high] = ("near-duplicates", "", f"nearly the same as record {low + 1}")
        table = table.drop(index=out, errors="ignore")
    if "contradictions" in steps and "answer" in names:
        out |= _contradictions(records, table, settle)
    return out


def _is_near(one: dict[str, str], other: dict[str, str]) -> bool:
    """True where questions and answers are nearly the same, with the same numbers and negations."""
    parts = [(question_of(record), record.get("answer", "")) for record in (one, other)]
    for first, second in zip(*parts, strict=True):
        if _DECISIVE.findall(first) != _DECISIVE.findall(second):
            return False
        if first != second and jaccard(shingles(first), shingles(second)) < NEAR:
            return False
    return True


def _contradictions(records: Dataset, table: pandas.DataFrame, settle: Settle | None) -> Reasons:
    """All records of the questions that have different answers, but those settled as right.

    Raises:
        SettingError: `settle` returned no place.
    """
    out: Reasons = {}
    same = ["question", "context"]
    # only what comes twice is grouped, as a group for each of a million questions is slow
    for _, group in table[table.duplicated(same, keep=False)].groupby(same, sort=False):
        places = group.index.tolist()
        if group.answer.nunique() == 1:
            continue
        right = None if settle is None else settle([records[place] for place in places])
        if right is not None and right not in range(len(places)):
            raise SettingError(
                f"settle returned {right!r}; it is to return a place from 0 to {len(places) - 1}, "
                f"or None."
            )
        for n, place in enumerate(places):
            others = ", ".join(str(other + 1) for other in places if other != place)
            if n != right:
                out[place] = ("contradictions", "answer", f"another answer in record {others}")
    return out
