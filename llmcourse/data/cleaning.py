"""Cleaning records: what can be mended is mended, the rest left out, and every change is listed."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data import alike, patterns
from llmcourse.data.measuring import Counter
from llmcourse.data.records import as_records, as_text
from llmcourse.errors import SettingError, whole
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

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
NEAR = 0.9  # share of three-word runs that question and answer must each have in common
COLUMNS = ("record", "step", "action", "field", "before", "after")
Record = dict[str, Any]
Settle = Callable[[list[Record]], int | None]


@dataclass(frozen=True)
class Cleaned:
    """Records after cleaning.

    Attributes:
        dataset: Those that stayed, with all their columns. Only `question`, `input` and `answer`,
            or `text`, are mended; the others keep their types and values.
        changes: What was done, as a table: record (its number in the input, from 1), step,
            action ("mended" or "left out"), field, before, after. Of a record left out `after`
            says why. What was personal stands under `before`, so don't pass the table on.
    """

    dataset: Dataset
    changes: pandas.DataFrame


@dataclass(frozen=True)
class _Keys:
    """What of a record is compared: the whole, what is asked, what is answered."""

    whole: int
    asked: int
    answered: int


def clean(
    dataset: Any,
    *,
    steps: Sequence[str] = STEPS,
    longest: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    keep: str | Collection[str] = (),
    settle: Settle | None = None,
) -> Cleaned:
    """Clean records and list every change; nothing is dropped silently.

    The steps, always in this order:

    - encoding: text decoded wrongly and control characters are mended (`ftfy`); quotes stay.
    - html: the readable text takes the place of left-over HTML; code and "a < b" stay.
    - whitespace: blanks at the ends, runs of blanks within a line and of empty lines go.
      Indented lines keep their indent.
    - personal data: "[e-mail]", "[phone]" and so on take its place. Names of people have no form
      that a pattern could find, so they stay, as in "Yours, Jane Roe, [address]".
    - blank: records without question or answer are left out.
    - duplicates: of the same records the first stays.
    - near-duplicates: the first stays of records with the same question and answer but for case
      and punctuation, and of long ones where both share 90 % of their three-word runs and have
      the same numbers. Another wording of a question is none.
    - contradictions: all records are left out that answer the same question differently, since a
      program can't know which is right. Records whose other columns give the question another
      context (a passage, a history) are none. Leave the step out where questions have several
      right answers, as "Write a poem" has.

    Args:
        dataset: A data set or list with these fields, blank ones and all; or what `load_records`
            takes, which then must have no problems. Of a list all fields become text.
        steps: Those of `STEPS` to take.
        longest: Leave out records longer than this, question and answer together, after "blank".
        tokenizer: Counts `longest` in tokens; None counts words.
        keep: Pieces that are no personal data, such as "@ferrowick.example" or "Quillon Lane";
            or a single one.
        settle: Is given the records of a contradiction and returns the place (from 0) of the
            right one, or None for none.

    Raises:
        DataError: the records can't be read.
        SettingError: `steps` is no list of `STEPS`, `longest` is below 1, `keep` holds something
            that is no text or blank, or `settle` returned no place.
    """
    import pandas

    if isinstance(steps, str) or not set(steps) <= set(STEPS):
        raise SettingError(f"steps={steps!r}: There is no step but these: {STEPS}.")
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    if not all(isinstance(piece, str) and piece.strip() for piece in keep):
        raise SettingError(f"keep={keep!r:.80} must be pieces of text, such as ['Quillon Lane'].")
    longest = None if longest is None else whole("longest", longest, 1)
    records = as_records(dataset)
    changes: list[tuple[Any, ...]] = []
    mended = _mended(records, steps, keep, changes)
    out = _left_out(mended, steps, longest, Counter(tokenizer), settle)
    for place, (step, field, why) in out.items():
        before = alike.asked(mended[place]) if field != "answer" else mended[place]["answer"]
        changes.append((place + 1, step, "left out", field, before, why))
    left = mended.select([place for place in range(len(mended)) if place not in out])
    table = pandas.DataFrame(changes, columns=list(COLUMNS)).sort_values("record", kind="stable")
    return Cleaned(left, table.reset_index(drop=True))


# --- mending --------------------------------------------------------------------------------------


def _mended(
    records: Dataset, steps: Sequence[str], keep: Collection[str], changes: list[tuple[Any, ...]]
) -> Dataset:
    """The records with their text mended; `changes` grows by what was done.

    The other columns go through as they are.
    """
    menders: dict[str, Callable[[str], str]] = {
        "encoding": patterns.ungarbled,
        "html": patterns.without_markup,
        "whitespace": _spaced,
        "personal data": lambda text: patterns.masked(text, keep),
    }

    def mend(text: str | None, number: int, field: str) -> str:
        text = text or ""
        for step, mender in menders.items():
            if step in steps and (after := mender(text)) != text:
                changes.append((number, step, "mended", field, text, after))
                text = after
        return text

    def batch(columns: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        for name in alike.fields(records):
            if name == "history":
                columns[name] = [
                    [turn | {"content": mend(turn["content"], n + 1, name)} for turn in turns or ()]
                    for n, turns in zip(numbers, columns[name], strict=True)
                ]
            else:
                texts = zip(columns[name], numbers, strict=True)
                columns[name] = [mend(text, n + 1, name) for text, n in texts]
        return columns

    with quiet_datasets():
        return records.map(
            batch,
            batched=True,
            with_indices=True,
            features=records.features,
            keep_in_memory=True,
            load_from_cache_file=False,
            new_fingerprint=uuid.uuid4().hex,
        )


def _spaced(text: str) -> str:
    """`text` without superfluous blanks; code between ``` and indents stay as they are."""
    pieces = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    for place in range(0, len(pieces), 2):
        piece = re.sub(r"(?<=\S)[ \t\xa0]{2,}(?=\S)", " ", pieces[place].replace("\r\n", "\n"))
        pieces[place] = re.sub(r"\n{3,}", "\n\n", patterns.without_line_ends(piece))
    return "".join(pieces).strip()


# --- leaving out ----------------------------------------------------------------------------------

Reason = tuple[str, str, str]  # step, field, why


def _left_out(
    records: Dataset,
    steps: Sequence[str],
    longest: int | None,
    counter: Counter,
    settle: Settle | None,
) -> dict[int, Reason]:
    """Which records are left out, and why."""
    out: dict[int, Reason] = {}
    keys: dict[int, _Keys] = {}
    unit = "words" if counter.tokenizer is None else "tokens"
    names = alike.fields(records)
    texts = [alike.texts_of(record) for record in records.select_columns(list(names))]
    for place, record in enumerate(texts):
        needed = [name for name in names if name not in ("input", "history")]
        blank = next((name for name in needed if templates.is_blank(record[name])), None)
        if blank and "blank" in steps:
            out[place] = ("blank", blank, f"no {blank}")
            continue
        size = sum(counter([alike.asked(record), record.get("answer", "")])) if longest else 0
        if longest and size > longest:
            out[place] = ("overlong", "", f"{size} {unit}")
        elif not blank:
            keys[place] = _keys(record)
    for step in ("duplicates", "near-duplicates"):
        if step in steps:
            out |= _repeated(keys, step)
            keys = {place: key for place, key in keys.items() if place not in out}
    if "near-duplicates" in steps:
        out |= _near(texts, list(keys))
    if "contradictions" in steps and "answer" in names:
        out |= _contradictions(records, {p: k for p, k in keys.items() if p not in out}, settle)
    return out


def _keys(record: Record) -> _Keys:
    """What `record` is compared by."""
    return _Keys(
        alike.number("\x1f".join(map(alike.tidied, record.values()))),
        alike.number(alike.wording(alike.asked(record))),
        alike.number(alike.wording(record.get("answer", ""))),
    )


def _repeated(keys: dict[int, _Keys], step: str) -> dict[int, Reason]:
    """All but the first of the records that are the same."""
    first: dict[Any, int] = {}
    out: dict[int, Reason] = {}
    for place, key in keys.items():
        same = key.whole if step == "duplicates" else (key.asked, key.answered)
        if first.setdefault(same, place) != place:
            out[place] = (step, "", f"the same as record {first[same] + 1}")
    return out


def _near(records: Sequence[Record], places: list[int]) -> dict[int, Reason]:
    """All but the first of long records whose parts are each nearly the same, numbers and all."""
    out: dict[int, Reason] = {}
    if len(places) < 2:
        return out
    texts = (" ".join(_parts(records[place])) for place in places)
    for low, high in _candidates(texts, places):
        if low not in out and high not in out and _is_near(records[low], records[high]):
            out[high] = ("near-duplicates", "", f"nearly the same as record {low + 1}")
    return out


def _candidates(texts: Iterator[str], places: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of `places` whose texts may be nearly the same."""
    import numpy as np

    blocks = []
    while block := list(itertools.islice(texts, 1000)):
        blocks.append(alike.bands(block))
    first, second, _ = alike.candidates(np.concatenate(blocks).T)
    for low, high in zip(first.tolist(), second.tolist(), strict=True):
        yield places[low], places[high]


def _parts(record: Record) -> tuple[str, str]:
    """What a record asks, and its answer."""
    return alike.asked(record), record.get("answer", "")


def _is_near(one: Record, other: Record) -> bool:
    """True where both parts are nearly the same and have the same numbers."""
    for first, second in zip(_parts(one), _parts(other), strict=True):
        if re.findall(r"\d+", first) != re.findall(r"\d+", second):
            return False
        if first != second and alike.overlap(alike.runs(first), alike.runs(second)) < NEAR:
            return False
    return True


def _contradictions(
    records: Dataset, keys: dict[int, _Keys], settle: Settle | None
) -> dict[int, Reason]:
    """All records of the questions that have different answers, but those settled as right."""
    given = records.select_columns(alike.context(records))
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, key in keys.items():
        around = map(as_text, given[place].values()) if given.column_names else ()
        groups.setdefault((key.asked, *around), []).append(place)
    out: dict[int, Reason] = {}
    for places in groups.values():
        if len({keys[place].answered for place in places}) == 1:
            continue
        right = _settled(records, places, settle)
        for n, place in enumerate(places):
            others = ", ".join(str(other + 1) for other in places if other != place)
            if n != right:
                out[place] = ("contradictions", "answer", f"another answer in record {others}")
    return out


def _settled(records: Dataset, places: list[int], settle: Settle | None) -> int | None:
    """Which of contradicting records is the right one, if `settle` knows it.

    Args:
        records: All of them.
        places: The places of those that contradict each other.
        settle: Says which of them is right, from 0.

    Raises:
        SettingError: it returned no place.
    """
    right = None if settle is None else settle([records[place] for place in places])
    if right is not None and right not in range(len(places)):
        raise SettingError(
            f"settle returned {right!r} for the records {', '.join(str(p + 1) for p in places)}; "
            f"it is to return a place from 0 to {len(places) - 1}, or None."
        )
    return right
