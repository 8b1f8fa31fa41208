"""Which pairs are trained on and which are kept for the test."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmcourse import data
from llmcourse.data import alike
from llmcourse.errors import DataError, SettingError, whole
from llmcourse.own.writing import is_ours

LEAST, LEAST_TEST, SHARE = 10, 5, 0.2  # pairs, test pairs, and the share that is tested
WORDINGS = 10  # questions with one answer; where more have it, the answer is a label
HELD_OUT = {
    "wordings": "other wordings of facts that were trained on: the test asks whether the facts "
    "were learned",
    "facts": "questions whose answers were not trained on: tuning alone can have learned the "
    "manner of the answers, not these facts; retrieval can find them",
    "questions": "questions that were not trained on, whose answers were (they are labels): the "
    "test asks whether the right one is chosen",
    "your own": "the test questions that you gave",
}
_BY_ANSWER = "answer "
_GROUP = "llmcourse group"  # no column of a learner's


@dataclass(frozen=True)
class Parts:
    """The pairs in two parts.

    Attributes:
        train: Trained on.
        test: Never trained on.
        held_out: A key of `HELD_OUT`: what the test is about.
        notes: What one should know, such as pairs that were left out.
    """

    train: list[dict[str, str]] = field(repr=False)
    test: list[dict[str, str]] = field(repr=False)
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
    are labels, such as
    "positive", each of which belongs into both parts.

    Args:
        records: From `pairs` or `load_reviewed`. Where they have a field `split` with "train" and
            "test", that is kept to.
        test: Test pairs of your own; all `records` but the same questions are then trained on.
        hold_out: "wordings", "facts" or "questions"; if not given, questions where most answers
            are labels (each that of more than 10 questions; of fewer, where there are few pairs),
            wordings where most of the pairs that people wrote have a second one, else facts.
        seed: Another number gives another split.

    Raises:
        DataError: there are fewer than 10 pairs, or fewer than 5 can be held out.
        SettingError: `hold_out` or `seed` is out of range.
    """
    whole("seed", seed, 0)
    if hold_out not in (None, "wordings", "facts", "questions"):
        raise SettingError(f"hold_out={hold_out!r} must be 'wordings', 'facts' or 'questions'.")
    rows = [{**record} for record in records]
    if test is not None:
        return _given(rows, [{**record} for record in test])
    if len(rows) < LEAST:
        raise DataError(
            f"There {'is 1 pair' if len(rows) == 1 else f'are {len(rows)} pairs'}, and at least "
            f"{LEAST} are needed to train on some and test with others. Add documents, or write "
            f"pairs: a CSV file with the columns question and answer is read too."
        )
    if {"train", "test"} <= {_mark(row) for row in rows}:
        return _marked(rows)
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    if hold_out is None and 2 * sum(map(len, _labels(groups, len(rows)))) > len(rows):
        hold_out = "questions"
    several = {name: found for name, found in groups.items() if len(found) > 1}
    if hold_out is None:
        by_people = not any(map(is_ours, rows))
        repeated = 2 * sum(map(len, several.values())) > len(rows)
        hold_out = "wordings" if by_people and repeated and len(several) >= LEAST_TEST else "facts"
    wanted = max(LEAST_TEST, math.floor(SHARE * len(rows)))
    if hold_out == "wordings":
        return _wordings(rows, several, wanted, seed)
    if hold_out == "questions":
        return _questions(rows, wanted, seed)
    return _facts(rows, len(groups), wanted, seed)


def _labels(groups: Mapping[str, list[dict[str, str]]], count: int) -> list[list[dict[str, str]]]:
    """The groups whose one answer so many different questions have that it must be a label."""
    most = min(WORDINGS, max(LEAST_TEST, SHARE * count))
    return [found for name, found in groups.items()
            if name.startswith(_BY_ANSWER) and len(set(map(_asked, found))) > most]  # fmt: skip


def _asked(row: Mapping[str, Any]) -> str:
    """What a pair asks, its input included, however it is written."""
    return alike.wording(alike.asked(row))


def group_of(record: Mapping[str, Any]) -> str:
    """What a pair is about, as far as one can tell: what it was written from, or its answer."""
    if is_ours(record):
        if record.get("document") and record.get("heading"):
            return f"under {record['document']}#{record['heading']}"
        if record.get("source"):
            return f"source {alike.wording(str(record['source']))}"
    return f"{_BY_ANSWER}{alike.wording(str(record.get('answer', '')))}"


def _marked(rows: list[dict[str, str]]) -> Parts:
    """The parts that the records' own field names."""
    train, test = ([row for row in rows if _mark(row) == name] for name in ("train", "test"))
    others = len(rows) - len(train) - len(test)
    notes = [f"{others} pairs of other splits than train and test were not used."] * bool(others)
    parts = _given(train, test)
    return Parts(parts.train, parts.test, "your own", [*notes, *parts.notes])


def _mark(row: Mapping[str, str]) -> str:
    """The split that a pair's own field names, however it is capitalised."""
    return str(row.get("split", "")).strip().lower()


def _given(rows: list[dict[str, str]], test: list[dict[str, str]]) -> Parts:
    """All pairs to train on but those that the test asks.

    Raises:
        DataError: nothing is left.
    """
    if not test:
        raise DataError("There are no test pairs.")
    asked = set(map(_asked, test))
    train = [row for row in rows if _asked(row) not in asked]
    if not train:
        raise DataError("Every pair is a test question too, so there is nothing to train on.")
    gone = len(rows) - len(train)
    told = f"{gone} pairs with a question of the test were not trained on."
    return Parts(train, test, "your own", [told] * bool(gone))


def _wordings(
    rows: list[dict[str, str]], several: Mapping[str, list[dict[str, str]]], wanted: int, seed: int
) -> Parts:
    order = sorted(several, key=lambda name: _chance(seed, name))
    chosen = []
    for name in order[:wanted]:
        if len(set(map(_asked, several[name]))) > 1:
            chosen.append(min(several[name], key=lambda row: _chance(seed, alike.asked(row))))
    if len(chosen) < LEAST_TEST:
        raise DataError(
            f"Only {len(chosen)} facts have a second wording, and {LEAST_TEST} are needed to hold "
            f"wordings out. Write other wordings of some questions, or hold out facts."
        )
    asked = set(map(_asked, chosen))
    return Parts([row for row in rows if _asked(row) not in asked], chosen, "wordings")


def _questions(rows: list[dict[str, str]], wanted: int, seed: int) -> Parts:
    """Of each answer's questions the same share for the test, one at least."""
    shared: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        shared.setdefault(alike.wording(str(row.get("answer", ""))), []).append(row)
    alone = [row for found in shared.values() if len(found) == 1 for row in found]
    chosen: set[str] = set()
    for found in (alone, *(found for found in shared.values() if len(found) > 1)):
        asked = sorted(set(map(_asked, found)), key=lambda text: _chance(seed, text))
        if len(asked) > 1:
            chosen.update(asked[: math.ceil(wanted * len(asked) / len(rows))])
    test = [row for row in rows if _asked(row) in chosen]
    train = [row for row in rows if _asked(row) not in chosen]
    if not train or len(test) < LEAST_TEST:
        raise DataError(
            f"Only {len(test)} pairs can be held out, and {LEAST_TEST} are needed: there are too "
            f"few different questions. Write more of them."
        )
    return Parts(train, test, "questions")


def _facts(rows: list[dict[str, str]], groups: int, wanted: int, seed: int) -> Parts:
    """Whole groups for the test; where they are so large that too few fit in, a larger share."""
    columns = dict.fromkeys(key for row in rows for key in row)
    full = [dict.fromkeys(columns, "") | row | {_GROUP: group_of(row)} for row in rows]
    most = 0
    for count in range(wanted, len(rows) // 2 + 1):
        shares = {"train": 1 - count / len(rows), "test": count / len(rows)}
        try:
            found = data.split(full, shares, group=_GROUP, seed=seed)
        except DataError:
            continue  # a part would be empty
        train, test = ([_without_group(row) for row in found[name]] for name in shares)
        asked = set(map(_asked, test))
        kept = [row for row in train if _asked(row) not in asked]
        gone = len(train) - len(kept)
        if kept and len(test) >= LEAST_TEST:
            told = f"{gone} pairs with a question of the test were not trained on."
            return Parts(kept, test, "facts", [told] * bool(gone))
        most = max(most, len(test))
    raise DataError(
        f"The pairs are about {groups} answers or headings only. Of these, {most} pairs "
        f"can be held out without tearing what belongs together apart, and {LEAST_TEST} are "
        f"needed. Write pairs about more."
    )


def _without_group(row: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name != _GROUP}


def developed(
    rows: Sequence[dict[str, str]],
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Pairs to learn from, and every eighth, on which the loss is looked at on the way."""
    return [row for place, row in enumerate(rows) if place % 8 != 4], list(rows[4::8])


def trimmed(
    rows: list[dict[str, str]],
    limit: int,
    *,
    like: Sequence[Mapping[str, str]] = (),
    seed: int = 0,
) -> list[dict[str, str]]:
    """At most `limit` of the pairs, chosen by chance but always the same, in their order.

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
        return group_of(rows[place]) not in first, _chance(seed, alike.asked(rows[place]))

    return [rows[place] for place in sorted(sorted(range(len(rows)), key=order)[:limit])]


def _chance(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).hexdigest()
