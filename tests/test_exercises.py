"""Checkers accept right answers of any form, and say what is wrong with the usual wrong ones."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from llmcourse import exercises
from llmcourse.errors import ExerciseError

BY_NAME = {task.name: task for tasks in exercises._LESSONS.values() for task in tasks}


def counted(text: str) -> float:
    words = text.lower().split()
    seen: set[str] = set()
    again = 0
    for word in words:
        again += word in seen
        seen.add(word)
    return again / max(1, len(words))


def by_loop(ids: list[int], end: int) -> list[int]:
    kept = []
    for token in ids:
        if token == end:
            break
        kept.append(token)
    return kept


RIGHT = [
    ("00-1", 0.27), ("00-1", np.float32(0.27)), ("00-1", Fraction(27, 100)),
    ("00-1", np.array(0.268)),
    ("00-2", {"once": " Prompt", "voice": "finetune", "prices": "RAG"}),
    ("01-1", counted),
    ("01-1", lambda text: Fraction(round(counted(text) * 20), 20)),
    ("01-2", "<s>[INST] <<SYS>>\r\nBe brief.\r\n<</SYS>>\n\nWhat is a lake? [/INST]\n"),
    ("01-3", by_loop),
    ("01-3", lambda ids, end: tuple(by_loop(ids, end))),
    ("01-3", lambda ids, end: np.array(by_loop(ids, end), dtype=int)),
    ("01-3", lambda ids, end: torch.tensor(by_loop(ids, end))),
]  # fmt: skip
LAKE = "<<SYS>>\nBe brief.\n<</SYS>>"
WRONG: list[tuple[str, Any, str]] = [
    ("00-1", 0.54, "That is float32"),
    ("00-1", 2.16, "those are bits"),
    ("00-1", 0.135, "one byte a weight"),
    ("00-1", 0.07, "4 bits a weight"),
    ("00-1", 270, "megabytes"),
    ("00-1", 270e6, "bytes. A gigabyte"),
    ("00-1", 3, "Multiply the number of weights"),
    ("00-1", "0.27", "without quotes"),
    ("00-1", True, "A number of gigabytes is wanted"),
    ("00-2", {"prices": "fine-tune", "voice": "fine-tune", "once": "prompt"}, "trained in daily"),
    ("00-2", {"prices": "prompt", "voice": "fine-tune", "once": "prompt"}, "a short list only"),
    ("00-2", {"prices": "retrieve", "voice": "prompt", "once": "prompt"}, "said again each time"),
    ("00-2", {"prices": "retrieve", "voice": "rag", "once": "prompt"}, "Passages bring facts"),
    ("00-2", {"prices": "retrieve", "voice": "fine-tune", "once": "retrieve"}, "an index costs"),
    ("00-2", {"prices": "rag"}, "keys prices, voice, once"),
    ("00-2", {"prices": "…", "voice": "…", "once": "…"}, "'…' is none of prompt"),
    (
        "01-1",
        lambda text: len(set(text.split())) / max(1, len(text.split())),
        "nothing is repeated",
    ),
    ("01-1", lambda text: 1 - len(set(text.split())) / max(1, len(text.split())), "Capitals"),
    ("01-1", lambda text: 1 - len(set(text)) / max(1, len(text)), "instead of"),
    ("01-1", lambda text: print(end=""), "Is the line with `return` missing?"),
    ("01-1", 0.5, "A function is wanted"),
    ("01-2", f"{LAKE}\n\nWhat is a lake?", "starts with the tag [INST]"),
    ("01-2", f"[INST] {LAKE}\n\nWhat is a lake?", "ends with the closing tag"),
    ("01-2", "[INST] Be brief. What is a lake? [/INST]", "between <<SYS>> and <</SYS>>"),
    ("01-2", f"[INST] What is a lake? {LAKE} [/INST]", "The system text comes first"),
    ("01-2", f"[INST] {LAKE}\n\n [/INST]", "The question itself is missing"),
    ("01-2", f"[INST]{LAKE}\n\nWhat is a lake? [/INST]", "right up to '[INST]'; then comes '<<S'"),
    ("01-2", 5, "A text is wanted"),
    ("01-3", lambda ids, end: ids[: ids.index(end) + 1] if end in ids else ids, "before the first"),
    ("01-3", lambda ids, end: [i for i in ids if i != end], "before the first"),
    ("01-3", lambda ids, end: ids[:2], "everything is kept"),
    ("01-3", lambda ids, end: str(ids), "before the first"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers_are_accepted(name: str, answer: Any) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "right", outcome


@pytest.mark.parametrize(("name", "answer", "message"), WRONG)
def test_wrong_answers_are_told_what_is_wrong(name: str, answer: Any, message: str) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "wrong", outcome
    assert message in outcome.message


def test_every_exercise_has_three_typical_wrong_answers() -> None:
    for name in BY_NAME:
        assert sum(wrong[0] == name for wrong in WRONG) >= 3, name


@pytest.mark.parametrize("name", BY_NAME)
def test_not_tried_raised_and_the_printed_solution(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    task = BY_NAME[name]
    assert task.check().kind == task.check(...).kind == task.check(None).kind == "not tried"

    def still_the_dots(ids: Any, end: Any = 0) -> Any: ...

    assert task.check(still_the_dots).kind == "not tried"
    task.solution()
    printed = capsys.readouterr().out
    space: dict[str, Any] = {}
    if "=" in printed.split("\n")[0] or printed.startswith("def"):
        exec(printed, space)
        answer = next(value for key, value in space.items() if key != "__builtins__")
    else:
        answer = eval(printed)
    assert task.check(answer).kind == "right"
    for number in range(1, len(task.hints) + 1):
        task.hint(number)
    assert task.hints[-1] in capsys.readouterr().out
    with pytest.raises(ExerciseError, match=f"{len(task.hints)} hints"):
        task.hint(9)


def test_code_that_stops_is_told_as_such() -> None:
    outcome = BY_NAME["01-1"].check(lambda text: len(text) / 0)
    assert outcome.kind == "raised" and "ZeroDivisionError" in outcome.message

    # The example that stopped it is named, and the learner's own objects are not touched.
    def emptying(ids: list[int], end: int) -> list[int]:
        ids.clear()
        return ids[0]

    outcome = BY_NAME["01-3"].check(emptying)
    assert "IndexError" in outcome.message and "tried with [5, 6, 2, 0, 0], 2" in outcome.message

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (SystemExit(1), Mute()):

        def stops(ids: list[int], end: int, error: BaseException = error) -> list[int]:
            raise error

        assert BY_NAME["01-3"].check(stops).kind == "raised"

    def endless(ids: list[int], end: int) -> list[int]:
        return endless(ids, end)

    assert BY_NAME["01-3"].check(endless).kind == "raised"


def test_checkers_do_not_change_the_learners_objects() -> None:
    given = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}
    before = dict(given)
    random.seed(1)
    BY_NAME["00-2"].check(given)
    assert given == before


def test_lessons_without_exercises_are_told() -> None:
    with pytest.raises(ExerciseError, match="Lesson '99' has no exercises"):
        exercises.lesson("99")
