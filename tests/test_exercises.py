"""Checkers accept right answers of any form, and say what is wrong with the usual wrong ones."""

from __future__ import annotations

import random
from typing import Any

import pytest

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
    ("00-1", 0.536), ("00-1", 0.5), ("00-1", 0.54),
    ("00-2", {"once": "Prompt", "voice": "fine-tune", "prices": "RETRIEVE"}),
    ("01-1", counted),
    ("01-2", "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is a lake? [/INST]\n"),
    ("01-3", by_loop),
    ("01-3", lambda ids, end: tuple(by_loop(ids, end))),
]  # fmt: skip
WRONG: list[tuple[str, Any, str]] = [
    ("00-1", 1.07, "That is float32"),
    ("00-1", 4.3, "those are bits"),
    ("00-1", 0.27, "one byte a weight"),
    ("00-1", 536, "megabytes"),
    ("00-1", 536e6, "bytes. A gigabyte"),
    ("00-1", 3, "Multiply the number of weights"),
    ("00-1", "0.5 GB", "A number of gigabytes is wanted"),
    ("00-2", {"prices": "fine-tune", "voice": "fine-tune", "once": "prompt"}, "trained in daily"),
    ("00-2", {"prices": "retrieve", "voice": "prompt", "once": "prompt"}, "behaviour"),
    ("00-2", {"prices": "retrieve", "voice": "fine-tune", "once": "retrieve"}, "one letter"),
    ("00-2", {"prices": "rag"}, "keys prices, voice, once"),
    ("00-2", {"prices": "buy", "voice": "fine-tune", "once": "prompt"}, "'buy' is none of"),
    (
        "01-1",
        lambda text: len(set(text.split())) / max(1, len(text.split())),
        "nothing is repeated",
    ),
    ("01-1", lambda text: 1 - len(set(text.split())) / max(1, len(text.split())), "Capitals"),
    ("01-1", lambda text: 1 - len(set(text)) / max(1, len(text)), "instead of"),
    ("01-1", 0.5, "A function is wanted"),
    ("01-2", "<<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is a lake?", "does not start with the tag"),
    ("01-2", "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhat is a lake?", "closing tag"),
    ("01-2", "[INST] Be brief. What is a lake? [/INST]", "between <<SYS>> and <</SYS>>"),
    ("01-2", "[INST]<<SYS>>\nBe brief.\n<</SYS>>\nWhat is a lake?[/INST]", "sign by sign"),
    ("01-3", lambda ids, end: ids[: ids.index(end) + 1] if end in ids else ids, "before the first"),
    ("01-3", lambda ids, end: [i for i in ids if i != end], "before the first"),
    ("01-3", lambda ids, end: ids[:2], "everything is kept"),
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
