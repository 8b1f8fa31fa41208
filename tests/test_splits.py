"""Splits are disjoint and whole, tear no group apart, and are the same everywhere."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from llmcourse import company, data
from llmcourse.errors import DataError, SettingError

pytestmark = pytest.mark.usefixtures("own_cache")


def records(groups: list[int], seed: int = 0) -> list[dict[str, str]]:
    """Records in groups of these sizes, shuffled."""
    found = [
        {"question": f"Q{n} {k}?", "answer": "So.", "id": f"{n}.{k}", "fact": str(n)}
        for n, size in enumerate(groups)
        for k in range(size)
    ]
    random.Random(seed).shuffle(found)
    return found


def ids(parts: object) -> dict[str, set[str]]:
    return {name: set(part["id"]) for name, part in parts.items()}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_groups_nothing_is_lost_or_torn_apart(seed: int) -> None:
    dice = random.Random(seed)
    groups = [dice.choice((1, 1, 2, 5, 9)) for _ in range(dice.randint(20, 200))]
    if seed % 2:
        groups.append(sum(groups) // 2)  # one that fits only into the largest part
    given = records(groups, seed)
    parts = data.split(given, group="fact", seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    found = ids(parts)
    assert sum(map(len, found.values())) == len(given)
    assert set.union(*found.values()) == {record["id"] for record in given}
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert len(found[name]) > 0
        assert abs(len(found[name]) - share * len(given)) <= 9, (name, len(found[name]))
        others = set().union(*(set(parts[other]["fact"]) for other in parts if other != name))
        assert not set(parts[name]["fact"]) & others
    again = data.split(records(groups, seed + 100), group="fact", seed=seed)
    assert ids(again) == found


def test_groups_of_one_give_the_shares_exactly() -> None:
    parts = data.split(records([1] * 200), {"a": 0.5, "b": 0.3, "c": 0.2}, group="id")
    assert {name: len(part) for name, part in parts.items()} == {"a": 100, "b": 60, "c": 40}


def test_the_seed_changes_the_split_and_the_order_within_stays() -> None:
    given = records([3] * 60)
    first, second = (data.split(given, group="fact", seed=seed) for seed in (0, 1))
    assert ids(first)["test"] != ids(second)["test"]
    place = {record["id"]: n for n, record in enumerate(given)}
    order = [place[name] for name in first["train"]["id"]]
    assert order == sorted(order)


def test_questions_that_are_the_same_stay_together() -> None:
    given = []
    for n in range(60):
        for question in (f"Where is house {n}?", f"WHERE is  house {n} ??"):
            given.append({"question": question, "answer": f"There {len(given)}.", "id": str(n)})
    given += [
        {"question": "Translate.", "input": str(n), "answer": "x", "id": f"t{n}"} for n in range(60)
    ]
    found = ids(data.split(given))
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert any(name.startswith("t") for name in found["test"])  # the input tells them apart
    texts = [{"text": f"Text {n // 2}", "id": str(n // 2)} for n in range(100)]
    assert not set.intersection(*ids(data.split(texts, {"a": 0.5, "b": 0.5})).values())


def test_the_split_of_seed_0_is_pinned() -> None:
    """The same on every machine; a change here changes everybody's results."""
    parts = data.split(records([2] * 40), group="fact", seed=0)
    assert sorted(set(parts["test"]["fact"])) == GOLDEN
    facts = data.split(company.records("questions"), group="fact")
    assert sorted(set(facts["test"]["fact"]))[:6] == GOLDEN_FACTS
    assert [len(part) for part in facts.values()] == [1110, 140, 140]


GOLDEN = ["10", "20", "5", "8"]
GOLDEN_FACTS = ["f022", "f042", "f066", "f069", "f070", "f073"]


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {"a": 0.5},
        {"a": 1.2, "b": -0.2},
        {"a": 1.0, "b": 0.0},
        {"a": float("nan"), "b": 1.0},
        {"a": 0.5, "b": 0.6},
    ],
)
def test_shares_that_are_none_are_told(shares: dict) -> None:
    with pytest.raises(SettingError, match="must be above 0 and sum to 1; they are: "):
        data.split(records([1] * 10), shares)


@pytest.mark.parametrize(
    "options",
    [
        {"shares": [0.8, 0.2]},
        {"shares": None},
        {"shares": {"a": "0.5", "b": 0.5}},
        {"shares": {1: 0.5, "b": 0.5}},
        {"seed": 1.5},
        {"seed": "0"},
        {"seed": -1},
    ],
)
def test_settings_that_mean_nothing_are_told(options: dict) -> None:
    with pytest.raises(SettingError, match=f"^{next(iter(options))}"):
        data.split(records([1] * 10), **options)


def test_what_can_not_be_split_is_told() -> None:
    with pytest.raises(DataError, match="There is no column 'fct' to group by. There are: "):
        data.split(records([1] * 10), group="fct")
    with pytest.raises(DataError, match=r"10 records in 2 group\(s\) can't fill 3 parts"):
        data.split(records([5, 5]), group="fact")
    with pytest.raises(DataError, match="The part 'b' would be empty: its share of 10 records"):
        data.split(records([1] * 10), {"a": 0.999, "b": 0.001})
    with pytest.raises(DataError, match="holds no records"):
        data.split([])


def test_the_parts_can_be_read_when_the_whole_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("".join(f'{{"question": "Q{n}", "answer": "A"}}\n' for n in range(50)))
    parts = data.split(data.load_records(path))
    assert data.inspect(parts["train"], workers=2).records == len(parts["train"]) == 40
