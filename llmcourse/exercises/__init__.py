"""Exercises with `check()`, `hint()` and `solution()`, a quiz per lesson, and what was solved."""

from __future__ import annotations

from llmcourse.errors import ExerciseError
from llmcourse.exercises.checking import Exercise, Outcome
from llmcourse.exercises.lessons import EXERCISES
from llmcourse.exercises.quizzes import Quiz
from llmcourse.exercises.report import progress_text, summary

__all__ = ["Exercise", "Outcome", "lesson", "progress_text", "quiz", "summary"]


def lesson(number: str) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in order.

    Raises:
        ExerciseError: the lesson has none.
    """
    if number not in EXERCISES:
        raise ExerciseError(
            f"Lesson {number!r:.40} has no exercises and no quiz. Try {', '.join(EXERCISES)}."
        )
    return EXERCISES[number]


def quiz(number: str) -> Quiz:
    """The quiz of a lesson; the last line of a cell shows it.

    Raises:
        ExerciseError: the lesson has none.
    """
    lesson(number)  # every lesson with exercises has a quiz, and no other one
    return Quiz(number)
