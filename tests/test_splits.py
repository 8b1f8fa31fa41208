"""Splits are disjoint and complete, divide no group, and are the same everywhere."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from llmcourse import company, data
from llmcourse.errors import DataError


def records(groups: list[int], seed: int = 0) -> list[dict[str, str]]:
    """Records in groups of these sizes, shuffled."""
    found = [
        {"question": f"Q{n} {k}?", "answer": "So.", "id": f"{n}.{k}", "fact": str(n)}
        for n, size in enumerate(groups)
        for k in range(size)
    ]
    random.Random(seed).shuffle(found)
    return found


def ids(parts: Any) -> dict[str, set[str]]:
    return {name: set(part["id"]) for name, part in parts.items()}


SIZES = strategies.lists(strategies.sampled_from([1, 1, 2, 5, 9]), min_size=20, max_size=80)


@given(SIZES, strategies.booleans(), strategies.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_nothing_is_lost_and_nothing_leaks(sizes: list[int], giant: bool, seed: int) -> None:
    groups = [*sizes, sum(sizes) // 2] if giant else sizes  # one fits only into the largest part
    rows = records(groups, seed)
    parts = data.split(rows, group="fact", seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    found = ids(parts)
    assert sum(map(len, found.values())) == len(rows)
    assert set.union(*found.values()) == {record["id"] for record in rows}
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(len(found[name]) - share * len(rows)) <= 9, (name, len(found[name]))
        others = set().union(*(set(parts[other]["fact"]) for other in parts if other != name))
        assert not set(parts[name]["fact"]) & others
    assert ids(data.split(records(groups, seed + 1), group="fact", seed=seed)) == found


QUESTIONS = strategies.lists(strategies.text("aB ?.é1", min_size=1), min_size=12, max_size=40)


@given(QUESTIONS, strategies.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_questions_that_are_the_same_are_never_split(texts: list[str], seed: int) -> None:
    """But for case, blanks and punctuation; each text comes in three ways of writing it."""
    rows = [
        {"question": way, "answer": "So.", "id": str(n)}
        for n, text in enumerate(texts)
        for way in (f"x {text}", f"  X {text.upper()} ?", f"x {text.lower().replace(' ', '  ')}")
    ]
    try:
        parts = data.split(rows, {"a": 0.5, "b": 0.5}, seed=seed)
    except DataError:  # nearly all of them ask the same
        return
    assert not set.intersection(*ids(parts).values())


def test_groups_of_one_give_the_shares_exactly_and_the_order_stays() -> None:
    rows = records([1] * 200)
    parts = data.split(rows, {"a": 0.5, "b": 0.3, "c": 0.2}, group="id")
    assert {name: len(part) for name, part in parts.items()} == {"a": 100, "b": 60, "c": 40}
    place = {record["id"]: n for n, record in enumerate(rows)}
    order = [place[name] for name in parts["a"]["id"]]
    assert order == sorted(order)


def test_the_split_of_seed_0_is_pinned() -> None:
    """The same on every machine; a change here changes everybody's results."""
    parts = data.split(records([2] * 40), group="fact", seed=0)
    assert sorted(set(parts["test"]["fact"])) == ["10", "20", "5", "8"]
    facts = data.split(company.records("questions"), group="fact")
    golden = ["f022", "f042", "f066", "f069", "f070", "f073"]
    assert sorted(set(facts["test"]["fact"]))[:6] == golden
    assert [len(part) for part in facts.values()] == [1110, 140, 140]


def test_what_can_not_be_split_is_refused() -> None:
    with pytest.raises(DataError, match="There is no column 'fct' to group by. There are: "):
        data.split(records([1] * 10), group="fct")
    with pytest.raises(DataError, match="would be empty: its share of 10 records in 2 groups"):
        data.split(records([5, 5]), group="fact")
