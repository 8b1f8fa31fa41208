"""Which pairs are trained on and which are kept for the test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmcourse.data.near_duplicates import comparable
from llmcourse.data.records import question_of
from llmcourse.errors import DataError, SettingError
from llmcourse.own.source import is_ours

Rows = list[dict[str, str]]
LEAST, LEAST_TEST, SHARE = 10, 5, 0.2  # pairs, test pairs, and the share that is tested
WORDINGS = 10  # questions with one answer; where more have it, the answer is a label
HELD_OUT = {
    "wordings": "paraphrases of questions that were trained on: the test asks whether the facts "
    "were learned",
    "facts": "questions whose answers were not trained on: tuning alone can have learned the "
    "style of the answers, not these facts; retrieval can find them",
    "questions": "questions that were not trained on, whose answers were (they are labels): the "
    "test asks whether the right one is chosen",
    "your own": "the test questions that you gave",
}
_ADVICE = {
    "wordings": "Write other wordings of some questions, or hold out facts",
    "facts": "What belongs together is not torn apart. Write pairs about more answers or headings",
    "questions": "Write more different questions",
    "your own": "Name a file with test pairs",
}
_BY_ANSWER = "answer "


@dataclass(frozen=True)
class Parts:
    """The pairs in two parts.

    Attributes:
        train: Trained on.
        test: Never trained on.
        held_out: A key of `HELD_OUT`: what the test is about.
        notes: What one should know, such as pairs that were left out.
    """

    train: Rows = field(repr=False)
    test: Rows = field(repr=False)
    held_out: str
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.train)} pairs to train on, {len(self.test)} to test with; the test has "
            f"{HELD_OUT[self.held_out]}."
        )


def split(
    records: Sequence[Mapping[str, Any]],
    *,
    test: Sequence[Mapping[str, Any]] | None = None,
    hold_out: str | None = None,
    seed: int = 0,
) -> Parts:
    """Split pairs into 80 % to train on and 20 %, at least 5, to test with.

    What belongs to one fact is a group: pairs with the same answer, and of pairs that were written
    here those about the same heading of a document. A learner's own columns decide nothing. Three
    tests are possible, and they ask different things (`HELD_OUT`). With "facts", no group is torn
    apart. With "wordings", one wording is taken out of each of several groups that have two or
    more. With "questions", the same question (and input) alone is kept together: for answers that
    are labels, such as "positive", each of which belongs into both parts.

    Args:
        records: From `pairs` or `load_reviewed`. Where they have a field `split` with "train" and
            "test", that decides.
        test: Test pairs of your own; all `records` but the same questions are then trained on.
        hold_out: "wordings", "facts" or "questions"; if not given, questions where most answers
            are labels (each that of more than 10 questions; of fewer, where there are few pairs),
            wordings where most of the pairs that people wrote have a second one, else facts.
        seed: Another number gives another split.

    Raises:
        DataError: there are fewer than 10 pairs, or fewer than 5 can be held out.
        SettingError: `hold_out` is none of these.
    """
    if hold_out not in (None, "wordings", "facts", "questions"):
        raise SettingError(f"hold_out={hold_out!r} must be 'wordings', 'facts' or 'questions'.")
    rows = [{**record} for record in records]
    if test is not None:
        return _parts(rows, [{**record} for record in test], "your own", least=1)
    if len(rows) < LEAST:
        raise DataError(
            f"There {'is 1 pair' if len(rows) == 1 else f'are {len(rows)} pairs'}, and at least "
            f"{LEAST} are needed to train on some and test with others. Add documents, or write "
            f"pairs: a CSV file with the columns question and answer is read too."
        )
    marked: dict[str, Rows] = {}
    for row in rows:
        marked.setdefault(str(row.get("split", "")).strip().lower(), []).append(row)
    if {"train", "test"} <= set(marked):
        train, test = marked["train"], marked["test"]
        others = len(rows) - len(train) - len(test)
        note = f"{others} pairs of other splits than train and test were not used."
        return _parts(train, test, "your own", [note] * bool(others), least=1)
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    hold_out = hold_out or _best_test(groups, rows)
    choose = {"wordings": _wordings, "questions": _questions, "facts": _facts}[hold_out]
    chosen = choose(groups, rows, max(LEAST_TEST, math.floor(SHARE * len(rows))), seed)
    ids = set(map(id, chosen))
    return _parts([row for row in rows if id(row) not in ids], chosen, hold_out)


def _best_test(groups: Mapping[str, Rows], rows: Rows) -> str:
    """The test that suits the pairs: see `hold_out` of `split`."""
    most = min(WORDINGS, max(LEAST_TEST, SHARE * len(rows)))
    labelled = [
        len(found)
        for name, found in groups.items()
        if name.startswith(_BY_ANSWER) and len(set(map(_asked, found))) > most
    ]
    if 2 * sum(labelled) > len(rows):
        return "questions"
    several = [len(found) for found in groups.values() if len(found) > 1]
    repeated = len(several) >= LEAST_TEST and 2 * sum(several) > len(rows)
    return "wordings" if repeated and not any(map(is_ours, rows)) else "facts"


def _parts(
    rows: Rows, test: Rows, held_out: str, notes: Sequence[str] = (), least: int = LEAST_TEST
) -> Parts:
    """The rows to train on, without what the test asks.

    Raises:
        DataError: nothing is left, or there are too few test pairs.
    """
    if len(test) < least:
        raise DataError(
            f"Only {len(test)} pairs can be held out for a test with {held_out!r}, and {least} are "
            f"needed. {_ADVICE[held_out]}."
        )
    asked = set(map(_asked, test))
    train = [row for row in rows if _asked(row) not in asked]
    if not train:
        raise DataError("Every pair is a test question too, so there is nothing to train on.")
    gone = len(rows) - len(train)
    note = f"{gone} pairs with a question of the test were not trained on."
    return Parts(train, test, held_out, [*notes, *[note] * bool(gone)])


def _asked(row: Mapping[str, Any]) -> str:
    """What a pair asks, its input included, however it is written."""
    return comparable(question_of(row))


def group_of(record: Mapping[str, Any]) -> str:
    """What a pair is about, as far as one can tell: what it was written from, or its answer."""
    if is_ours(record):
        if record.get("document") and record.get("heading"):
            return f"under {record['document']}#{record['heading']}"
        if record.get("source"):
            return f"source {comparable(str(record['source']))}"
    return f"{_BY_ANSWER}{comparable(str(record.get('answer', '')))}"


def _wordings(groups: Mapping[str, Rows], rows: Rows, wanted: int, seed: int) -> Rows:
    """One wording of each of several facts that have another one."""
    several = [name for name, found in groups.items() if len(set(map(_asked, found))) > 1]
    order = sorted(several, key=lambda name: _shuffled(seed, name))[:wanted]
    return [min(groups[name], key=lambda row: _shuffled(seed, _asked(row))) for name in order]


def _questions(groups: Mapping[str, Rows], rows: Rows, wanted: int, seed: int) -> Rows:
    """Of each answer's questions the same share, at least one; single answers are one group."""
    shared: dict[str, set[str]] = {}
    for row in rows:
        shared.setdefault(comparable(str(row.get("answer", ""))), set()).add(_asked(row))
    single = set().union(*(found for found in shared.values() if len(found) == 1))
    chosen: set[str] = set()
    for found in (single, *shared.values()):
        if len(found) > 1:
            order = sorted(found, key=lambda text: _shuffled(seed, text))
            chosen.update(order[: math.ceil(wanted * len(found) / len(rows))])
    return [row for row in rows if _asked(row) in chosen]


def _facts(groups: Mapping[str, Rows], rows: Rows, wanted: int, seed: int) -> Rows:
    """Whole groups; where they are so large that too few fit in, a larger share of all."""
    order = sorted(groups, key=lambda name: _shuffled(seed, name))
    chosen: set[str] = set()
    for limit in range(wanted, len(rows) // 2 + 1):
        chosen, count = set(), 0
        for name in order:
            if count + len(groups[name]) <= limit:
                chosen.add(name)
                count += len(groups[name])
        if count >= LEAST_TEST:
            break
    return [row for row in rows if group_of(row) in chosen]


def developed(rows: Sequence[dict[str, str]]) -> tuple[Rows, Rows]:
    """Pairs to learn from, and every eighth, whose loss is measured on the way."""
    return [row for place, row in enumerate(rows) if place % 8 != 4], list(rows[4::8])


def trimmed(
    rows: Rows, limit: int, *, like: Sequence[Mapping[str, str]] = (), seed: int = 0
) -> Rows:
    """At most `limit` of the pairs, a random but reproducible choice, in their order.

    Args:
        rows: To choose from.
        limit: How many.
        like: Pairs about the same facts as these come first, so that what a test asks was taught.
        seed: Another number gives another choice.
    """
    if len(rows) <= limit:
        return rows
    first = {group_of(row) for row in like}

    def order(place: int) -> tuple[bool, str]:
        return group_of(rows[place]) not in first, _shuffled(seed, question_of(rows[place]))

    return [rows[place] for place in sorted(sorted(range(len(rows)), key=order)[:limit])]


def _shuffled(seed: int, text: str) -> str:
    """A key that sorts texts in a random order, the same on every machine."""
    return hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).hexdigest()
