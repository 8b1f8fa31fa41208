"""A judge reads both orders; a position bias is no verdict; Elo knows how sure it is."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from llmcourse import stats, templates, tiers
from llmcourse.errors import DataError
from llmcourse.evaluation import judge as judging
from llmcourse.evaluation.judge import Rating, Verdict, elo, judged_against, position_bias, prefer
from llmcourse.models import LoadedModel
from tests.conftest import get_peft_model

QUESTIONS = ["What is a lake?", "Who founded the company, and when did that happen?", "Why?"]
FIRST = ["Water with land around it.", "Ada Ferrow did, in 1987.", "So."]
SECOND = ["A kind of cheese that is made from the milk of goats.", "Nobody.", "Because it rains."]


def verdict(at_a: float, at_b: float) -> Verdict:
    return Verdict((at_a, at_b), (0.5, 0.5))


def test_the_margins_are_what_one_plain_pass_over_each_prompt_gives(tiny: LoadedModel) -> None:
    names = "{question} {a}"  # names of the prompt's parts in an answer stay text
    (found,) = prefer(tiny, ["What is a lake?"], ["Water."], [names])
    letters = [
        [tiny.tokenizer(text).input_ids for text in (letter, f" {letter}")] for letter in "AB"
    ]
    for place, (a, b) in enumerate((("Water.", names), (names, "Water."))):
        asked = judging.PROMPT.format(question="What is a lake?", a=a, b=b)
        text = templates.render(asked, tiny.template, tokenizer=tiny.tokenizer).prompt
        ids = tiny.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            likely = tiny.model(ids).logits[0, -1].softmax(-1)
        p_a, p_b = (sum(float(likely[ids[0]]) for ids in forms) for forms in letters)
        sign = 1 if place == 0 else -1
        wanted = sign * (torch.tensor(p_a).log() - torch.tensor(p_b).log()).item()
        assert found.margins[place] == pytest.approx(wanted, abs=1e-5)
        assert found.mass[place] == pytest.approx(p_a + p_b, rel=1e-4)


def test_neither_the_batch_nor_an_untrained_adapter_changes_a_verdict(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig

    one_at_a_time = dataclasses.replace(tiers.current(), batch_size=1)
    with monkeypatch.context() as patched:
        patched.setattr(tiers, "current", lambda: one_at_a_time)
        alone = prefer(tiny, QUESTIONS, FIRST, SECOND)
    swapped = prefer(tiny, QUESTIONS, SECOND, FIRST)
    seen: list[tuple[int, int]] = []
    tiny.model.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: seen.append(tuple(logits.shape[:2])) or None
    )
    together = prefer(tiny, QUESTIONS, FIRST, SECOND)
    assert seen == [(6, 1)], "only the last logits are computed"
    tiny.model = get_peft_model(tiny.model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted = prefer(tiny, QUESTIONS, FIRST, SECOND)
    other = {"first": "second", "second": "first", "tie": "tie"}
    for one, two, three, four in zip(alone, together, adapted, swapped, strict=True):
        assert two.margins == pytest.approx(one.margins, abs=1e-5)
        assert three.margins == pytest.approx(one.margins, abs=1e-5)
        assert four.margins == pytest.approx((-one.margins[1], -one.margins[0]), abs=1e-5)
        assert four.mass == pytest.approx(one.mass[::-1], rel=1e-4)
        assert four.winner == other[one.winner] and four.position == one.position


# --- how far a judge can be trusted ---------------------------------------------------------------


def test_a_verdict_needs_both_orders() -> None:
    for margins, *expected in (
        ((1.0, 2.0), "first", "", "first"),
        ((-1.0, -2.0), "second", "", "second"),
        ((3.0, -1.0), "tie", "A", "first"),
        ((-1.0, 0.5), "tie", "B", "second"),
        ((0.0, 0.0), "tie", "", "tie"),
    ):
        found = verdict(*margins)
        assert [found.winner, found.position, found.balanced] == expected
    assert position_bias([verdict(3, -1), verdict(1, 1)]) == stats.Share(1, 2)


def test_the_judge_is_held_against_pairs_with_one_right_answer() -> None:
    found = [verdict(1, 1), verdict(-1, -1), verdict(3, -1), verdict(1, 1), verdict(1, 1)]
    against = judged_against(found, [1, 1, 1, 1, 0], [0, 0, 0, 1, 0])
    assert against == stats.Share(1, 3)
    balanced = judged_against(found, [1, 1, 1, 1, 0], [0, 0, 0, 1, 0], balanced=True)
    assert balanced == stats.Share(2, 3)
    with pytest.raises(DataError, match="In no pair"):
        judged_against([verdict(1, 1)], [True], [True])


# --- ratings --------------------------------------------------------------------------------------


def test_results_in_a_row_follow_elos_formula() -> None:
    a = b = 1000.0
    for _ in range(5):
        moved = 16 * (1 - 1 / (1 + 10 ** ((b - a) / 400)))
        a, b = a + moved, b - moved
    found = elo([("a", "b", "a")] * 5)
    assert found["a"].value == pytest.approx(a) and found["b"].value == pytest.approx(b)
    assert elo([("a", "b", "tie")])["a"] == Rating(1000, 1000, 1000)


def results(count: int) -> list[tuple[str, str, str]]:
    """Three players of whom each beats the next three times in four."""
    rng = random.Random(0)
    pairs = [rng.sample("abc", 2) for _ in range(count)]
    return [(*pair, min(pair) if rng.random() < 0.75 else max(pair)) for pair in pairs]


def test_the_better_come_first_in_any_order_and_more_results_are_surer() -> None:
    few, many = elo(results(15)), elo(results(600))
    assert list(many) == ["a", "b", "c"]
    assert sum(rating.value for rating in many.values()) == pytest.approx(3000)
    assert all(r.low < r.value < r.high for found in (few, many) for r in found.values())
    assert many["a"].low > many["b"].high > many["b"].low > many["c"].high
    mixed = [(other, one, winner) for one, other, winner in results(15)]
    random.Random(5).shuffle(mixed)
    assert elo(mixed) == few
    for wrong in ([], [("a", "b", "c")], [("a", "a", "a")]):
        with pytest.raises(DataError):
            elo(wrong)
