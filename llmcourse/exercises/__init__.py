"""Exercises with `check()`, `hint()` and `solution()`, a quiz per lesson, and what was solved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcourse.errors import ExerciseError
from llmcourse.exercises.checking import Exercise, Outcome
from llmcourse.exercises.lessons import EXERCISES
from llmcourse.exercises.report import progress_text, summary

if TYPE_CHECKING:
    from llmcourse.exercises.quizzes import Quiz

__all__ = ["Exercise", "Outcome", "lesson", "progress_text", "quiz", "summary"]


def lesson(number: str) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in order.

    Raises:
        ExerciseError: the lesson has none.
    """
    _require(number)
    return EXERCISES[number]


def quiz(number: str) -> Quiz:
    """The quiz of a lesson; the last line of a cell shows it.

    Raises:
        ExerciseError: the lesson has none.
    """
    from llmcourse.exercises.quizzes import Quiz  # loads the widgets, and torch with them

    _require(number)
    return Quiz(number)


def _require(number: str) -> None:
    if number not in EXERCISES:
        raise ExerciseError(
            f"Lesson {number!r:.40} has no exercises and no quiz. Try {', '.join(EXERCISES)}."
        )
