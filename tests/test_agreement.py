"""Agreement beyond chance, and files that keep several people's labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import stats
from llmcourse.errors import DataError
from llmcourse.evaluation import agreement, agreement_by_class, load_labels, save_labels


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abcd")] * 2), min_size=1))
def test_kappa_is_cohens_formula_on_any_table(pairs: list[tuple[str, str]]) -> None:
    one, other = zip(*pairs, strict=True)
    table = np.array([[pairs.count((a, b)) for b in "abcd"] for a in "abcd"]) / len(pairs)
    chance = (table.sum(0) * table.sum(1)).sum()
    found = agreement(one, other)
    assert found == agreement(other, one) and found.share.value == pytest.approx(np.trace(table))
    assert found.one_label == (len(set(one + other)) == 1)
    if not found.one_label:
        assert found.kappa == pytest.approx((np.trace(table) - chance) / (1 - chance))
    else:
        assert found.kappa == 0 and "can't tell" in str(found)


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
    with pytest.raises(DataError, match="use agreement"):
        agreement_by_class(["long"], ["long"])


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
    save_labels(path, {np.int64(1): {"wrong", "long"}, 2: [], 4: np.bool_(True)}, "Cy")
    assert load_labels(path)["Cy"] == {1: ["long", "wrong"], 2: [], 4: True}


LINE = '{"id": "q", "label": "fine", "who": "Ada"}\n'


@pytest.mark.parametrize("bad", ["{oops", "[1]", '{"id": "r", "label": "fine"}'])
def test_a_damaged_file_is_reported_by_line_and_not_overwritten(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{LINE}{bad}\n", encoding="utf-8")
    for use in (lambda: load_labels(path), lambda: save_labels(path, {"r": "fine"}, "Ben")):
        with pytest.raises(DataError, match=r"labels.jsonl, line 2: "):
            use()
    assert path.read_text("utf-8") == f"{LINE}{bad}\n"
