"""Exercises with `check()`, `hint()` and `solution()`, a quiz a lesson, and what was done."""

from __future__ import annotations

from llmcourse.errors import ExerciseError
from llmcourse.exercises.base import Exercise, Outcome, shown
from llmcourse.exercises.lessons import EXERCISES as _LESSONS
from llmcourse.exercises.quizzes import Quiz
from llmcourse.exercises.report import progress_text, summary

__all__ = ["Exercise", "Outcome", "Quiz", "lesson", "progress_text", "quiz", "summary"]


def lesson(number: str) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in order.

    Raises:
        ExerciseError: the lesson has none.
    """
    if not isinstance(number, str) or number not in _LESSONS:
        raise ExerciseError(f"Lesson {shown(number)} has no exercises. Try {', '.join(_LESSONS)}.")
    return _LESSONS[number]


def quiz(number: str) -> Quiz:
    """The quiz of a lesson; the last line of a cell shows it.

    Raises:
        ExerciseError: the lesson has none.
    """
    return Quiz(number)
