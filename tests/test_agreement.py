"""Agreement beyond chance, and files that keep several people's labels."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmcourse import stats
from llmcourse.errors import DataError
from llmcourse.evaluation.agreement import (
    agreement,
    agreement_by_class,
    load_labels,
    save_labels,
)


def test_kappa_is_cohens_formula_on_any_table() -> None:
    rng = random.Random(1)
    for _ in range(50):
        one = rng.choices("abcd", k=30)
        other = [label if rng.random() < 0.6 else rng.choice("abcd") for label in one]
        table = (
            np.array(
                [[Counter(zip(one, other, strict=True))[a, b] for b in "abcd"] for a in "abcd"]
            )
            / 30
        )
        chance = (table.sum(0) * table.sum(1)).sum()
        wanted = (np.trace(table) - chance) / (1 - chance)
        assert agreement(one, other).kappa == pytest.approx(wanted)
        assert agreement(other, one).kappa == pytest.approx(wanted)


def test_the_ends_of_the_scale() -> None:
    assert agreement([1, 0, 1, 0], [1, 0, 1, 0]).kappa == 1
    assert agreement([1, 0, 1, 0], [0, 1, 0, 1]).kappa == -1
    assert agreement([1, 1, 0, 0], [1, 0, 1, 0]).kappa == 0
    assert agreement(["a", "a"], ["b", "b"]) == agreement(["b", "b"], ["a", "a"])
    assert agreement(["a", "a"], ["b", "b"]).kappa == 0


def test_one_label_everywhere_says_that_kappa_cannot_tell() -> None:
    found = agreement(["fine"] * 4, ["fine"] * 4)
    assert found.share == stats.Share(4, 4)
    assert (found.kappa, found.one_label) == (0.0, True)
    assert "can't tell" in str(found)
    assert not agreement(["fine"] * 4, ["fine"] * 3 + ["wrong"]).one_label


def test_mappings_are_matched_by_record_and_not_by_order() -> None:
    one = {"q1": "fine", "q2": "wrong", "q3": "wrong"}
    other = {"q3": "wrong", "q1": "fine", "q2": "fine"}
    assert agreement(one, other) == agreement(["fine", "wrong", "wrong"], ["fine", "fine", "wrong"])


def test_each_label_of_several_is_compared_by_itself() -> None:
    one = [{"long", "wrong"}, {"wrong"}, set(), ["long"]]
    other = [["wrong"], ("wrong",), frozenset(), {"long"}]
    found = agreement_by_class(one, other)
    assert list(found) == ["long", "wrong"]
    assert found["wrong"].share == stats.Share(4, 4) and found["wrong"].kappa == 1
    assert found["long"] == agreement([1, 0, 0, 1], [0, 0, 0, 1])
    assert agreement_by_class([[], []], [[], []]) == {}
    assert agreement_by_class({"b": ["x"], "a": []}, {"a": [], "b": ["x"]})["x"].kappa == 1


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (["a"], ["a", "b"], "there are 1 labels against 2"),
        ([], [], "no labels to compare"),
        ({"a", "b"}, ["a", "b"], "not set"),
        (["a", None], ["a", "b"], r"Record 1 \(counted from 0\) has no label"),
        (["a", "b"], [float("nan"), "b"], r"Record 0 \(counted from 0\) has no label: nan"),
        ([["a"]], [["a"]], "use agreement_by_class"),
        ({"q": "a", "r": "b"}, {"q": "a"}, "1 records have labels of one side only.* 'r'"),
    ],
)
def test_what_cannot_be_compared_is_refused(one: Any, other: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        agreement(one, other)


def test_several_labels_must_be_a_collection_of_texts() -> None:
    for labels in ("long", None, [1]):
        with pytest.raises(DataError, match=r"Record 1 \(counted from 0\) must have a list or set"):
            agreement_by_class([["long"], ["long"]], [["long"], labels])


# --- files ----------------------------------------------------------------------------------------


def test_two_peoples_labels_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    assert save_labels(path, {"Who?": "wrong", "Wörter?": "fine", 3: True}, "Ada") == path
    save_labels(path, {"Who?": "wrong", "Wörter?": "fine", 3: False}, "Ben")
    save_labels(path, {"Who?": "fine"}, "Ben")  # replaces his own old label and no other
    found = load_labels(path)
    assert found == {
        "Ada": {"Who?": "wrong", "Wörter?": "fine", 3: True},
        "Ben": {"Who?": "fine", "Wörter?": "fine", 3: False},
    }
    assert agreement(found["Ada"], found["Ben"]).share == stats.Share(1, 3)
    lines = path.read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {"id": "Who?", "label": "wrong", "who": "Ada"}
    assert "Wörter?" in lines[1] and len(lines) == 6


def test_several_labels_a_record_and_numpys_numbers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    save_labels(path, {np.int64(1): {"wrong", "long"}, 2: [], 3: ("long",), 4: np.bool_(True)}, "A")
    assert load_labels(path) == {"A": {1: ["long", "wrong"], 2: [], 3: ["long"], 4: True}}


LINE = '{"id": "q", "label": "fine", "who": "Ada"}\n'


@pytest.mark.parametrize(
    ("labels", "who", "message"),
    [
        ({"q": 0.5}, "Ada", "record 'q': a label is text"),
        ({1.5: "fine"}, "Ada", "a record is named by a text or a whole number, not by 1.5"),
        ({"q": "fine"}, " ", "who must be a name"),
    ],
)
def test_what_cannot_be_kept_leaves_the_file_as_it_is(
    labels: Any, who: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(LINE, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        save_labels(path, labels, who)
    assert path.read_text("utf-8") == LINE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINE + "{oops\n", "labels.jsonl, line 2: not JSON"),
        (LINE + "[1]\n", "line 2: not an object"),
        (LINE + "\n" + LINE, "line 3: Ada has labelled 'q' before"),
        (LINE + '{"id": "r", "label": "fine"}\n', "line 2: a label has the fields id, label, who"),
        (LINE + '{"id": "r", "label": 0.5, "who": "Ada"}\n', "line 2: record 'r': a label is"),
    ],
)
def test_a_damaged_file_is_reported_by_line_and_not_overwritten(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(text, encoding="utf-8")
    for use in (lambda: load_labels(path), lambda: save_labels(path, {"r": "fine"}, "Ben")):
        with pytest.raises(DataError, match=message):
            use()
    assert path.read_text("utf-8") == text


def test_places_where_no_labels_can_be_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.jsonl can't be read"):
        load_labels(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"name ends in \.jsonl"):
        save_labels(tmp_path / "labels.csv", {"q": "fine"}, "Ada")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="labels.jsonl can't be written"):
        save_labels(tmp_path / "file" / "labels.jsonl", {"q": "fine"}, "Ada")
