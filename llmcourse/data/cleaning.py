"""Cleaning records: what can be mended is mended, the rest left out, and every change is listed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.data import alike, patterns
from llmcourse.data.measuring import Counter
from llmcourse.errors import SettingError, whole
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

STEPS = (
    "encoding", "html", "whitespace", "personal data", "blank", "duplicates", "near-duplicates",
    "contradictions",
)  # fmt: skip
NEAR = 0.9  # share of three-word runs that question and answer must each have in common
COLUMNS = ("record", "step", "action", "field", "before", "after")
Record = dict[str, str]
Settle = Callable[[list[Record]], int | None]


@dataclass(frozen=True)
class Cleaned:
    """Records after cleaning.

    Attributes:
        dataset: Those that stayed, with all their columns.
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
    keep: Collection[str] = (),
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
      program can't know which is right. Leave the step out where questions have several right
      answers, as "Write a poem" has.

    Args:
        dataset: A data set or list with these fields, blank ones and all; or what `load_records`
            takes, which then must have no problems.
        steps: Those of `STEPS` to take.
        longest: Leave out records longer than this, question and answer together, after "blank".
        tokenizer: Counts `longest` in tokens; None counts words.
        keep: Pieces that are no personal data, such as "@ferrowick.example" or "Quillon Lane".
        settle: Is given the records of a contradiction and returns the place (from 0) of the
            right one, or None for none.

    Raises:
        DataError: the records can't be read.
        SettingError: `steps` is no list of `STEPS`, `longest` is below 1, or `settle` returned no
            place.
        NoSpace: the disk is full.
    """
    import pandas

    from llmcourse.data.records import _to_disk

    steps = _known(steps)
    longest = None if longest is None else whole("longest", longest, 1)
    records = alike.as_records(dataset)
    changes: list[tuple[Any, ...]] = []
    counter = Counter(tokenizer)
    with quiet_datasets():
        mended = _to_disk(_mended(records, steps, keep, changes), records.column_names)
        out = _left_out(mended, steps, longest, counter, settle)
    for place, (step, field, why) in out.items():
        before = alike.asked(mended[place]) if field != "answer" else mended[place]["answer"]
        changes.append((place + 1, step, "left out", field, before, why))
    left = mended.select([place for place in range(len(mended)) if place not in out])
    left.source = mended  # its file goes when it does
    table = pandas.DataFrame(changes, columns=list(COLUMNS)).sort_values("record", kind="stable")
    return Cleaned(left, table.reset_index(drop=True))


def _known(steps: Any) -> tuple[str, ...]:
    """The steps to take.

    Raises:
        SettingError: they are no list, or one of them does not exist.
    """
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise SettingError(
            f"steps={steps!r} is no list of steps. There is no step but these: {STEPS}."
        )
    steps = tuple(steps)
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise SettingError(f"There is no step {unknown!r}. There are: {STEPS}.")
    return steps


# --- mending --------------------------------------------------------------------------------------


def _mended(
    records: Dataset, steps: Sequence[str], keep: Collection[str], changes: list[tuple[Any, ...]]
) -> Iterator[Record]:
    """Each record with its text mended; `changes` grows by what was done."""
    menders: dict[str, Callable[[str], str]] = {
        "encoding": patterns.ungarbled,
        "html": patterns.without_markup,
        "whitespace": _spaced,
        "personal data": lambda text: patterns.masked(text, keep),
    }
    for number, record in enumerate(records, 1):
        texts = {name: "" if value is None else str(value) for name, value in record.items()}
        for field, step in itertools.product(alike.fields(records), menders):
            before = texts[field]
            if step in steps and (after := menders[step](before)) != before:
                texts[field] = after
                changes.append((number, step, "mended", field, before, after))
        yield texts


def _spaced(text: str) -> str:
    """`text` without superfluous blanks; code between ``` and indents stay as they are."""
    pieces = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    for place in range(0, len(pieces), 2):
        piece = re.sub(r"(?<=\S)[ \t\xa0]{2,}(?=\S)", " ", pieces[place].replace("\r\n", "\n"))
        piece = re.sub(r"[ \t\xa0]+(?=\n)", "", piece)
        pieces[place] = re.sub(r"\n{3,}", "\n\n", piece)
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
    names = alike.fields(records)
    unit = "words" if counter.tokenizer is None else "tokens"
    for place, record in enumerate(records.select_columns(list(names))):
        blank = next((n for n in names if n != "input" and not record[n].strip()), None)
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
        out |= _near(records, list(keys))
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


def _near(records: Dataset, places: list[int]) -> dict[int, Reason]:
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
    groups: dict[int, list[int]] = {}
    for place, key in keys.items():
        groups.setdefault(key.asked, []).append(place)
    out: dict[int, Reason] = {}
    for places in groups.values():
        if len({keys[place].answered for place in places}) == 1:
            continue
        right = _settled([records[place] for place in places], settle)
        for n, place in enumerate(places):
            others = ", ".join(str(other + 1) for other in places if other != place)
            if n != right:
                out[place] = ("contradictions", "answer", f"another answer in record {others}")
    return out


def _settled(records: list[Record], settle: Settle | None) -> int | None:
    """The place of the right one of contradicting records, if `settle` knows it."""
    right = settle(records) if settle else None
    if right is not None and right not in range(len(records)):
        raise SettingError(
            f"settle returned {right!r}; it is to return a place from 0 to {len(records) - 1}, or "
            f"None."
        )
    return right
