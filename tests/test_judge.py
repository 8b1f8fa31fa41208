"""A judge hears both orders; a liking for a place is no verdict; Elo knows how sure it is."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmcourse import stats, templates
from llmcourse.errors import DataError, NotFinite, PromptError, SettingError
from llmcourse.evaluation import judge as judging
from llmcourse.evaluation.judge import (
    Rating,
    Verdict,
    elo,
    judged_against,
    position_bias,
    prefer,
)
from llmcourse.models import LoadedModel

QUESTIONS = ["What is a lake?", "Who founded the company, and when did that happen?", "Why?"]
FIRST = ["Water with land around it.", "Ada Ferrow did, in 1987.", "So."]
SECOND = ["A kind of cheese that is made from the milk of goats.", "Nobody.", "Because it rains."]


def verdict(at_a: float, at_b: float) -> Verdict:
    return Verdict((at_a, at_b), (0.5, 0.5))


def test_swapping_the_answers_swaps_the_verdict(tiny: LoadedModel) -> None:
    found = prefer(tiny, QUESTIONS, FIRST, SECOND, progress=False)
    swapped = prefer(tiny, QUESTIONS, SECOND, FIRST, progress=False)
    other = {"first": "second", "second": "first", "tie": "tie"}
    for one, two in zip(found, swapped, strict=True):
        assert two.margins == pytest.approx((-one.margins[1], -one.margins[0]), abs=1e-5)
        assert two.mass == pytest.approx(one.mass[::-1], rel=1e-4)
        assert two.winner == other[one.winner] and two.place == one.place


def test_the_margins_are_what_one_plain_pass_over_each_prompt_gives(tiny: LoadedModel) -> None:
    (found,) = prefer(tiny, ["What is a lake?"], ["Water."], ["A cheese."], criterion="It is true.")
    letters = [
        [tiny.tokenizer(text).input_ids for text in (letter, f" {letter}")] for letter in "AB"
    ]
    assert all(len(ids) == 1 for forms in letters for ids in forms)
    for place, (a, b) in enumerate((("Water.", "A cheese."), ("A cheese.", "Water."))):
        asked = judging.PROMPT.format(criterion="It is true.", question="What is a lake?", a=a, b=b)
        text = templates.render(asked, tiny.template, tokenizer=tiny.tokenizer).prompt
        ids = tiny.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            likely = tiny.model(ids).logits[0, -1].softmax(-1)
        p_a, p_b = (sum(float(likely[ids[0]]) for ids in forms) for forms in letters)
        sign = 1 if place == 0 else -1
        wanted = sign * (torch.tensor(p_a).log() - torch.tensor(p_b).log()).item()
        assert found.margins[place] == pytest.approx(wanted, abs=1e-5)
        assert found.mass[place] == pytest.approx(p_a + p_b, rel=1e-4)


def test_the_batch_changes_nothing_and_only_the_last_logits_are_computed(tiny: LoadedModel) -> None:
    alone = prefer(tiny, QUESTIONS, FIRST, SECOND, batch_size=1, progress=False)
    seen: list[tuple[int, int, bool]] = []

    def look(_: Any, states: tuple[torch.Tensor], logits: torch.Tensor) -> None:
        seen.append((*logits.shape[:2], states[0].is_contiguous()))

    tiny.model.get_output_embeddings().register_forward_hook(look)
    together = prefer(tiny, QUESTIONS, FIRST, SECOND, batch_size=4, progress=False)
    assert seen == [(4, 1, True), (2, 1, True)]
    for one, two in zip(alone, together, strict=True):
        assert two.margins == pytest.approx(one.margins, abs=1e-5)


def test_a_judge_with_an_adapter_reads_as_its_base_until_it_is_trained(tiny: LoadedModel) -> None:
    from peft import LoraConfig, get_peft_model

    plain = prefer(tiny, QUESTIONS, FIRST, SECOND, progress=False)
    adapted = get_peft_model(tiny.model, LoraConfig(r=2, target_modules=["q_proj"]))
    widths: list[int] = []
    adapted.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: widths.append(logits.shape[1])
    )
    tuned = dataclasses.replace(tiny, model=adapted)
    for one, two in zip(plain, prefer(tuned, QUESTIONS, FIRST, SECOND), strict=True):
        assert two.margins == pytest.approx(one.margins, abs=1e-5)
    assert set(widths) == {1}


def test_a_judge_that_always_says_a_is_a_tie_and_biased(tiny: LoadedModel) -> None:
    (a,) = tiny.tokenizer("A").input_ids

    def like_a(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., a] += 50
        return logits

    tiny.model.get_output_embeddings().register_forward_hook(like_a)
    found = prefer(tiny, QUESTIONS, FIRST, SECOND, progress=False)
    assert [(v.winner, v.place) for v in found] == [("tie", "A")] * 3
    assert all(min(v.mass) > 0.99 for v in found)
    assert position_bias(found) == stats.Share(3, 3)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a judge prefer the answer that has a certain word in it."""

    def so(word: str, most: int = 100) -> None:
        def next_token(judge: LoadedModel, batch: list[list[int]]) -> torch.Tensor:
            if len(batch) > most:
                raise RuntimeError("CUDA out of memory")
            likely = torch.full((len(batch), len(judge.tokenizer)), -9.0)
            for row, ids in zip(likely, batch, strict=True):
                at_a, at_b = judge.tokenizer.decode(ids).split("Answer A:")[1].split("Answer B:")
                for letter, text in (("A", at_a), ("B", at_b)):
                    if word in text:
                        row[judge.tokenizer(letter).input_ids[0]] = -0.1
            return likely

        monkeypatch.setattr(judging, "_next_token", next_token)

    return so


def test_a_judge_that_reads_is_consistent(tiny: LoadedModel, reads: Callable) -> None:
    reads("right")
    one = ["The right one.", "No.", "Neither.", "right"]
    other = ["No.", "That is the right one, is it not?", "None.", "right"]
    questions = [f"Question {number}?" for number in range(4)]
    found = prefer(tiny, questions, one, other, batch_size=3, progress=False)
    assert [v.winner for v in found] == ["first", "second", "tie", "tie"]
    assert [v.place for v in found] == [""] * 4
    assert position_bias(found) == stats.Share(0, 4)


def test_memory_that_runs_out_halves_the_batch(tiny: LoadedModel, reads: Callable) -> None:
    reads("Ada", most=1)
    found = prefer(tiny, QUESTIONS, FIRST, SECOND, batch_size=6, progress=False)
    assert found[1].winner == "first"
    reads("Ada", most=0)
    with pytest.raises(PromptError, match="memory is too small for one prompt"):
        prefer(tiny, QUESTIONS, FIRST, SECOND, progress=False)


def test_names_of_parts_in_an_answer_stay_text() -> None:
    sent = judging._prompt("{a}", "{b}", "{question}", "{criterion} {other} \\1")
    assert "better? {a}\n" in sent and "Question: {b}\n" in sent
    assert "Answer A: {question}\n" in sent and "Answer B: {criterion} {other} \\1\n" in sent


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"second": ["one"]}, DataError, "3 questions, 3 first and 1 second answers"),
        (
            {"first": ["x", None, "z"]},
            DataError,
            r"Pair 1 \(counted from 0\): an answer is missing",
        ),
        ({"questions": ["Why?", " ", "Who?"]}, PromptError, r"Pair 1 \(counted from 0\): The q"),
        (
            {"second": ["a", "b", "word " * 300]},
            PromptError,
            r"Pair 2 .*tokens, but .* at most 255",
        ),
        ({"judge": "chat"}, SettingError, "load the model first"),
    ],
)
def test_what_cannot_be_judged_is_told_before_any_work(
    change: dict[str, Any], error: type, message: str, tiny: LoadedModel, reads: Callable
) -> None:
    reads("", most=0)  # reading anything would fail for want of memory
    given = {"judge": tiny, "questions": QUESTIONS, "first": FIRST, "second": SECOND} | change
    with pytest.raises(error, match=message):
        prefer(**given, progress=False)


def test_a_tokenizer_without_the_letters_and_a_broken_model_cannot_judge(tiny: LoadedModel) -> None:
    mute = dataclasses.replace(tiny, tokenizer=lambda text, **_: SimpleNamespace(input_ids=[5, 6]))
    with pytest.raises(SettingError, match="no token of its own for the letter A or B"):
        prefer(mute, QUESTIONS, FIRST, SECOND, progress=False)
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(NotFinite):
        prefer(tiny, QUESTIONS, FIRST, SECOND, progress=False)


# --- how far a judge can be trusted ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("margins", "winner", "place", "balanced"),
    [
        ((1.0, 2.0), "first", "", "first"),
        ((-1.0, -2.0), "second", "", "second"),
        ((3.0, -1.0), "tie", "A", "first"),
        ((-1.0, 0.5), "tie", "B", "second"),
        ((2.0, -2.0), "tie", "A", "tie"),
        ((0.0, 1.0), "tie", "", "first"),
        ((0.0, 0.0), "tie", "", "tie"),
    ],
)
def test_a_verdict_needs_both_orders(
    margins: tuple[float, float], winner: str, place: str, balanced: str
) -> None:
    found = verdict(*margins)
    assert (found.winner, found.place, found.balanced) == (winner, place, balanced)


def test_the_judge_is_held_against_pairs_with_one_right_answer() -> None:
    found = [verdict(1, 1), verdict(-1, -1), verdict(3, -1), verdict(1, 1), verdict(1, 1)]
    against = judged_against(found, [1, 1, 1, 1, 0], [0, 0, 0, 1, 0])
    assert (against.right, against.ties) == (stats.Share(1, 3), 1)
    assert str(against).endswith("; ties: 1")
    balanced = judged_against(found, [1, 1, 1, 1, 0], [0, 0, 0, 1, 0], balanced=True)
    assert (balanced.right, balanced.ties) == (stats.Share(2, 3), 0)
    assert position_bias(found) == stats.Share(1, 5)
    with pytest.raises(DataError, match="In none of the 1 pairs"):
        judged_against([verdict(1, 1)], [True], [True])
    with pytest.raises(DataError, match="1 verdicts, 2 first and 1 second"):
        judged_against([verdict(1, 1)], [True, False], [True])


# --- ratings --------------------------------------------------------------------------------------


def test_results_in_a_row_follow_elos_formula() -> None:
    a = b = 1500.0
    for _ in range(5):
        moved = 24 * (1 - 1 / (1 + 10 ** ((b - a) / 400)))
        a, b = a + moved, b - moved
    found = elo([("a", "b", "a")] * 5, start=1500, k=24)
    assert found["a"].value == pytest.approx(a) and found["b"].value == pytest.approx(b)
    assert elo([("a", "b", "tie")])["a"] == Rating(1000, 1000, 1000)


def results(count: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """Three players of whom each beats the next three times in four."""
    rng = random.Random(seed)
    pairs = [rng.sample("abc", 2) for _ in range(count)]
    return [
        (one, other, min(one, other) if rng.random() < 0.75 else max(one, other))
        for one, other in pairs
    ]


def test_neither_the_order_nor_the_sides_matter() -> None:
    given = results(40)
    mixed = [(other, one, winner) for one, other, winner in given]
    random.Random(5).shuffle(mixed)
    assert elo(given) == elo(mixed)
    assert elo(given, seed=1) != elo(given, seed=2)


def test_the_better_stands_first_and_more_results_are_surer() -> None:
    few, many = elo(results(15)), elo(results(600))
    assert list(many) == ["a", "b", "c"]
    assert sum(rating.value for rating in many.values()) == pytest.approx(3000)
    for found in (few, many):
        for rating in found.values():
            assert rating.low < rating.value < rating.high
    assert many["a"].low > many["b"].high > many["b"].low > many["c"].high
    assert str(Rating(1041.6, 1010, 1075)) == "1042 (95 %: 1010–1075)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "There are no results"),
        ([("a", "b", "c")], r"Result 0 \(counted from 0\) must be two different"),
        ([("a", "b", "a"), ("a", "a", "a")], "Result 1 "),
        ([("a", "b")], "Result 0 "),
    ],
)
def test_what_is_not_a_result_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        elo(given)
