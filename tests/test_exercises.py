"""Checkers accept right answers of any form, and say what is wrong with the usual wrong ones."""

from __future__ import annotations

import itertools
import json
import math
import re
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from llmcourse import exercises, models, tiers
from llmcourse.errors import ExerciseError
from llmcourse.exercises.lessons import EXERCISES
from tests.conftest import ROOT
from tests.small_models import small_cache

BY_NAME = {task.name: task for tasks in EXERCISES.values() for task in tasks}
METHODS = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}
SOLVED: dict[str, Any] = {}  # the functions of the printed solutions
for task in BY_NAME.values():
    if "def " in task.answer and "llmcourse" not in task.answer:
        exec(task.answer, SOLVED)
S = SimpleNamespace(**SOLVED)


def every_field(text: str, wanted: str) -> float:
    """As `stated_right`, but a field that nothing is said of counts as right."""
    rows = json.loads(wanted).items()
    return np.mean([json.loads(text).get(k) == v for k, v in rows])


# Each form of an answer; the solutions here and those in notebooks/solutions are tried as well.
RIGHT = [
    ("00-1", np.float32(0.27)),
    ("00-1", Fraction(27, 100)),
    ("00-1", np.array([0.268])),
    ("00-2", {"once": " Prompt", "voice": "finetune", "prices": "RAG"}),
    ("00-3", np.int64(200)),
    ("01-1", lambda ids, end: np.array(S.cut(ids, end), dtype=int)),
    ("02-1", lambda ids: itertools.pairwise(ids)),
    ("02-1", lambda ids: torch.tensor([ids[:-1], ids[1:]]).T),
    ("02-2", lambda ids: torch.tensor(S.counting_loss(ids))),
    ("03-1", lambda ids: (label for label in S.labels_of(ids))),
]
# Two for each exercise: a usual mistake, and another one or an answer that is no answer.
WRONG: list[tuple[str, Any, str]] = [
    ("00-1", 0.54, "That is float32"),
    ("00-1", "0.27", "without quotes"),
    ("00-2", METHODS | {"prices": "fine-tune"}, "trained in daily"),
    ("00-2", {"prices": "rag"}, "keys prices, voice, once"),
    ("00-3", 64, "Is the limit 200"),
    ("00-3", "200", "without quotes"),
    ("00-3", 206, "without those of the prompt"),
    ("01-1", lambda ids, end: ids[: ids.index(end) + 1] if end in ids else ids, "before the first"),
    ("01-1", lambda ids, end: itertools.count(5), "[5, 6, 7"),
    ("01-2", lambda batch, end: np.mean([end in row[:-1] for row in batch]), "end of a row"),
    ("01-2", 0.5, "must be a function"),
    ("01-3", 8, "full stop"),
    ("02-1", lambda ids: list(zip(ids, ids, strict=True)), "Each id is read once"),
    ("02-1", lambda ids: {*itertools.pairwise(ids)}, "A set has no order"),
    ("02-2", lambda ids: S.counting_loss(ids) / math.log(2), "base 2"),
    ("02-2", lambda ids: S.counting_loss(ids) * (len(ids) - 1), "sum over all pairs"),
    ("02-3", 8, "Does the prompt end in"),
    ("02-3", np.array([2, 8]), "must be a number"),
    ("03-1", lambda ids: [-100 if n == 2 else n for n in S.labels_of(ids)], "never stops"),
    ("03-1", lambda ids: [-100] * 10 + ids[10:], "two turns of the assistant"),
    ("03-2", lambda ids, labels: "none", "not the 2 after it"),
    ("03-2", lambda *rows: S.mask_fault(*rows).replace("shifted", "prompt"), "first"),
    ("03-3", 3.83, "nearer to the loss with the turns before"),
    ("03-3", 2210.0, "a mean per token"),
    ("04-1", lambda prompt, answer, end, limit: (prompt + answer + [end])[:limit], "cuts the end"),
    ("04-1", lambda prompt, answer, end, limit: (prompt + answer + [end])[-limit:], "leave such"),
    ("04-2", lambda pairs, end, limit: S.trained_share(pairs, end, 99), "cut to five"),
    ("04-2", lambda ps, end, _: np.mean([S.trained_share([p], end, 99) for p in ps]), "mean"),
    ("04-3", 8, "padding_side set before"),
    ("05-1", lambda matrices, rank: sum(rank * o for o, _ in matrices), "one of the two matrices"),
    ("05-1", lambda matrices, rank: sum(o * i for o, i in matrices), "the frozen layer"),
    ("05-2", lambda *given: S.largest_rank(*given) + 1, "round down"),
    ("05-2", lambda m, gb: int(gb * 1e9 / 16 / sum(map(sum, m))), "needs room, too"),
    ("05-3", 0.12, "Is it rank=1"),
    ("06-1", lambda text, wanted: float(text == wanted), "One of the two stated fields"),
    ("06-1", every_field, "must not count as"),
    ("06-2", lambda *texts: S.by_chance(*texts) / 2, "Either way may win"),
    ("06-2", lambda a, b, c: sum(x != y for x, y in zip(a, b, strict=True)), "Six wins, no loss"),
    ("06-3", 10, "Did you leave them out"),
    ("07-1", lambda ranks, k: np.mean([rank <= k for rank in ranks]), "it is no rank"),
    ("07-1", lambda ranks, k: np.mean([0 < rank <= k for rank in ranks if rank]), "One of four"),
    ("07-2", lambda ranks, wanted: max(ranks), "no k reaches"),
    ("07-2", lambda ranks, wanted: min(max(ranks), 3), "the twelfth place"),
    ("07-3", 0.802, "In per cent"),
    ("07-3", 91, "in every passage"),
    ("08-1", lambda s, a, t: a[s.index(max(s))], "nothing known is similar enough"),
    ("08-2", lambda asked, a, t: sum(S.worth([q], a, t) == 1 for q in asked), "counts -1"),
    ("08-2", lambda asked, a, t: sum(S.worth([q], a, t) or -1 for q in asked), "nothing is taken"),
    ("08-3", 14, "Is the threshold 0"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers_are_accepted(name: str, answer: Any) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "right", outcome


@pytest.mark.parametrize(("name", "answer", "message"), WRONG)
def test_a_wrong_answers_likely_mistake_is_named(name: str, answer: Any, message: str) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "wrong", outcome
    assert message in outcome.message


def test_every_exercise_is_tried_with_wrong_answers() -> None:
    assert {name for name, *_ in WRONG} == set(BY_NAME)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.model) if "models.load" in task.answer else name
        for name, task in BY_NAME.items()
    ],
)
def test_the_printed_solution_is_right_and_all_hints_print(
    name: str,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    task = BY_NAME[name]
    loaded = {"base": "base32", "chat": "chat32", tiers.pair().learner: "chat32"}  # once for all
    usual = models.load

    def load(name: str, **settings: Any) -> models.LoadedModel:
        if settings:  # (the fixtures load as well)
            return usual(name, **settings)
        return request.getfixturevalue(loaded[name])

    monkeypatch.setattr(models, "load", load)
    task.solution()
    printed, space = capsys.readouterr().out, {}
    try:
        answer = eval(printed)
    except SyntaxError:
        for earlier in EXERCISES[name[:2]]:  # an exercise may use the ones before it
            if earlier is task:
                break
            exec(earlier.answer, space)
        exec(printed, space)
        answer = space[re.findall(r"^(?:def )?(\w+)(?:\(| = )", printed, flags=re.M)[-1]]
    assert task.check(answer).kind == "right"
    for number in range(1, len(task.hints) + 1):
        task.hint(number)
    assert task.hints[-1] in capsys.readouterr().out
    with pytest.raises(ExerciseError, match=f"{len(task.hints)} hints; 9 is none"):
        task.hint(9)


@pytest.mark.model
@pytest.mark.parametrize("lesson", EXERCISES)
def test_the_solutions_notebook_runs(lesson: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small models, so that only what a model measured may differ from what is right."""
    monkeypatch.setenv("LLMCOURSE_CACHE", small_cache())
    kinds: list[str] = []
    check = exercises.Exercise.check

    def noted(task: exercises.Exercise, answer: Any = ...) -> Any:
        kinds.append(check(task, answer).kind)

    monkeypatch.setattr(exercises.Exercise, "check", noted)
    [path] = (ROOT / "notebooks" / "solutions").glob(f"{lesson}_*.ipynb")
    cells = json.loads(path.read_text("utf-8"))["cells"]
    exec("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"), {})
    assert kinds[:2] == ["right"] * 2 and kinds[2] in ("right", "wrong") and len(kinds) == 3


def test_an_answer_that_is_not_there_yet_is_not_tried() -> None:
    def dots(ids: list[int], end: int) -> list[int]: ...

    def prints(ids: list[int], end: int) -> None:
        print(ids, end="")

    for nothing in (..., None, dots, prints):
        assert BY_NAME["01-1"].check(nothing).kind == "not tried"


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("00-2", METHODS | {"prices": "x" * 3_000_000}),
        ("01-1", lambda ids, end: [["x" * 9_000] * 90] * 90),
        ("02-2", Unprintable()),
    ],
)
def test_messages_stay_short_whatever_the_answer(name: str, answer: Any) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "wrong" and len(outcome.message) < 600


def test_code_that_raises_is_named_with_the_call() -> None:
    def empties(ids: list[int], end: int) -> list[int]:
        ids.clear()
        return ids[0]

    def quits(ids: list[int], end: int) -> list[int]:
        raise SystemExit

    for _ in range(2):  # the examples are not changed by what the learner's code does to them
        outcome = BY_NAME["01-1"].check(empties)
        assert outcome.kind == "raised"
        assert "IndexError" in outcome.message and "with [5, 6, 2, 0, 0], 2" in outcome.message
    assert BY_NAME["01-1"].check(quits).kind == "raised"


def test_a_lesson_without_exercises_is_named() -> None:
    for call in (exercises.lesson, exercises.quiz):
        with pytest.raises(ExerciseError, match="Lesson '99' has no exercises"):
            call("99")


def test_a_task_is_shown_with_its_number(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    BY_NAME["02-1"].ask()
    assert capsys.readouterr().out.startswith("1. Write `pairs_of(ids)`: ")
    displayed: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: displayed.append(data))
    BY_NAME["02-2"].ask()
    assert displayed[0]["text/markdown"].startswith("**2.** The simplest language model")
