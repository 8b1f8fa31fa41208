"""Exercises with `check()`, `hint()` and `solution()`, a module a lesson."""

from __future__ import annotations

from llmcourse.errors import ExerciseError
from llmcourse.exercises import (
    lesson00,
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
)
from llmcourse.exercises.base import Exercise, Outcome, shown

__all__ = ["Exercise", "Outcome", "lesson"]

_LESSONS: dict[str, tuple[Exercise, ...]] = {
    "00": lesson00.TASKS, "01": lesson01.TASKS, "02": lesson02.TASKS, "03": lesson03.TASKS,
    "04": lesson04.TASKS, "05": lesson05.TASKS, "06": lesson06.TASKS,
    "07": lesson07.TASKS, "08": lesson08.TASKS,
}  # fmt: skip


def lesson(number: str) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in order.

    Raises:
        ExerciseError: the lesson has none.
    """
    if not isinstance(number, str) or number not in _LESSONS:
        raise ExerciseError(f"Lesson {shown(number)} has no exercises. Try {', '.join(_LESSONS)}.")
    return _LESSONS[number]
