"""Which pairs are trained on and which are kept for the test."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llmcourse.data.near_duplicates import comparable
from llmcourse.data.records import question_of
from llmcourse.errors import DataError, SettingError
from llmcourse.own.source import is_ours

Rows = list[dict[str, Any]]
# Fewer say nothing: of 5 questions, 3 right ones mean a rate of 23 to 88 %.
LEAST, LEAST_TEST, SHARE = 10, 5, 0.2  # pairs, test pairs, and the share that is tested
WORDINGS = 10  # questions with one answer; where more have it, the answer is a label
# In the report and on the terminal: what a test can show depends on what is held out.
HELD_OUT = {
    "wordings": "paraphrases of questions that were trained on: the test asks whether the facts "
    "were learned",
    "facts": "questions whose answers were not trained on: tuning alone can have learned the "
    "style of the answers, not these facts; retrieval can find them",
    "questions": "questions that were not trained on, whose answers were (they are labels): the "
    "test asks whether the right one is chosen",
    "your own": "the test questions that you gave",
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
    apart. With "wordings", one paraphrase is taken out of each of several groups that have two or
    more. With "questions", the same question (and input) alone is kept together: for answers that
    are labels, such as "positive", each of which belongs in both parts.

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
    rows: Rows = list(map(dict, records))
    if test is not None:
        return _parts(rows, list(map(dict, test)), "your own")
    marked = _grouped(
        rows, lambda row: re.sub("^training$", "train", str(row.get("split", "")).strip().lower())
    )
    if {"train", "test"} <= set(marked):
        parts = _parts(marked["train"], marked["test"], "your own")
        if others := len(rows) - len(marked["train"]) - len(marked["test"]):
            parts.notes.append(f"{others} pairs of other splits than train and test were not used.")
        return parts
    if len(rows) < LEAST:
        raise DataError(
            f"There are {len(rows)} pairs, and at least {LEAST} are needed. Add documents, or "
            f"write pairs: a CSV file with the columns question and answer is read too."
        )
    groups = _grouped(rows, _fact)
    tests = {"wordings": _wordings, "facts": _facts, "questions": _questions}
    hold_out = hold_out or _suited(rows, groups)
    if hold_out not in tests:
        raise SettingError(f"hold_out={hold_out!r} must be one of: {', '.join(tests)}.")
    count = max(LEAST_TEST, math.floor(SHARE * len(rows)))
    chosen = tests[hold_out](rows, groups, count, seed)
    if len(chosen) < LEAST_TEST:
        raise DataError(
            f"Only {len(chosen)} of the {LEAST_TEST} test pairs needed can be held out with "
            f"{hold_out!r}. Write more pairs, hold out something else, or give test pairs."
        )
    tested = set(map(id, chosen))  # by identity: the same pair may be there twice
    train = [row for row in rows if id(row) not in tested]
    return _parts(train, [row for row in rows if id(row) in tested], hold_out)


def _parts(rows: Rows, test: Rows, held_out: str) -> Parts:
    """The rows to train on, without what the test asks.

    Raises:
        DataError: nothing is left.
    """
    # Data leakage: a question with two answers would be trained on with one and tested with the
    # other, and a pair that is there twice would be on both sides.
    tested = set(map(_question, test))
    train = [row for row in rows if _question(row) not in tested]
    if not train:
        raise DataError("Every pair is a test question too, so there is nothing to train on.")
    gone = len(rows) - len(train)
    note = f"{gone} pairs with a question of the test were not trained on."
    return Parts(train, test, held_out, [note] if gone else [])


# --- what belongs together ------------------------------------------------------------------------


def _question(row: Mapping[str, Any]) -> str:
    """What a pair asks, its input and the turns before included, however it is written."""
    return comparable(question_of(row))


def _answer(row: Mapping[str, Any]) -> str:
    return comparable(row.get("answer") or "")


def _fact(row: Mapping[str, Any]) -> str:
    """What a pair is about, as far as one can tell: what it was written from, or its answer."""
    # The model words one fact in several ways, so what it wrote goes by where it is from.
    if is_ours(row) and row.get("document") and row.get("heading"):
        return f"under {row['document']}#{row['heading']}"
    if is_ours(row) and row.get("source"):
        return f"source {comparable(row['source'])}"
    return f"{_BY_ANSWER}{_answer(row)}"


def _grouped(rows: Rows, key: Callable[[Mapping[str, Any]], str]) -> dict[str, Rows]:
    groups: dict[str, Rows] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _number(seed: int, text: str) -> str:
    """A random number for a text.

    Python's own shuffling depends on the order that the pairs are in; a hash of the text does not,
    so that a pair that is added moves few others from train to test.
    """
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _shuffled(texts: Iterable[str], seed: int) -> list[str]:
    return sorted(texts, key=partial(_number, seed))


# --- what is held out -----------------------------------------------------------------------------


def _suited(rows: Rows, groups: Mapping[str, Rows]) -> str:
    """The test that suits the pairs: see `hold_out` of `split`."""
    # Where many questions have one answer, it is a label ("positive"), not a fact.
    most = min(WORDINGS, max(LEAST_TEST, SHARE * len(rows)))
    answers = [group for name, group in groups.items() if name.startswith(_BY_ANSWER)]
    labelled = sum(len(group) for group in answers if len(set(map(_question, group))) > most)
    if 2 * labelled > len(rows):
        return "questions"
    # Two questions about a fact by a model may ask for different things; people's rarely do.
    # (a copy of a pair is no second wording)
    distinct = (len(set(map(_question, group))) for group in groups.values())
    several = [questions for questions in distinct if questions > 1]
    repeated = len(several) >= LEAST_TEST and 2 * sum(several) > len(rows)
    return "wordings" if repeated and not any(map(is_ours, rows)) else "facts"


def _wordings(rows: Rows, groups: Mapping[str, Rows], count: int, seed: int) -> Rows:
    """One paraphrase of each of several facts that have another one."""
    by_fact = {name: _grouped(group, _question) for name, group in groups.items()}
    several = [name for name, group in by_fact.items() if len(group) > 1]
    return [by_fact[n][_shuffled(by_fact[n], seed)[0]][0] for n in _shuffled(several, seed)[:count]]


def _facts(rows: Rows, groups: Mapping[str, Rows], count: int, seed: int) -> Rows:
    """Whole groups; where they are so large that too few fit in, a larger share of all."""
    chosen: Rows = []
    order = _shuffled(groups, seed)
    for limit in range(count, len(rows) // 2 + 1):
        chosen = []
        for name in order:
            if len(chosen) + len(groups[name]) <= limit:
                chosen += groups[name]
        if len(chosen) >= LEAST_TEST:
            break
    return chosen


def _questions(rows: Rows, groups: Mapping[str, Rows], count: int, seed: int) -> Rows:
    """Of each answer's questions the same share, at least one; single answers are one group."""
    shared = [set(map(_question, group)) for group in _grouped(rows, _answer).values()]
    single: set[str] = set().union(*(group for group in shared if len(group) == 1))
    chosen: set[str] = set()
    for group in (single, *(group for group in shared if len(group) > 1)):
        # Rounded up, so that a rare label is in the test too.
        chosen.update(_shuffled(group, seed)[: math.ceil(count * len(group) / len(rows))])
    return [row for row in rows if _question(row) in chosen]


def trimmed(rows: Rows, limit: int, *, like: Sequence[Mapping[str, Any]] = ()) -> Rows:
    """At most `limit` of the pairs, a random but reproducible choice, in their order.

    Args:
        rows: To choose from.
        limit: How many.
        like: Pairs about the same facts as these come first, so that what a test asks was taught.
    """
    # Of 20 facts in the test and 1,000 in the training, a plain cut to 100 pairs would teach two.
    tested = set(map(_fact, like))
    order = sorted(
        range(len(rows)),
        key=lambda n: (_fact(rows[n]) not in tested, _number(0, question_of(rows[n]))),
    )
    return [rows[number] for number in sorted(order[:limit])]
