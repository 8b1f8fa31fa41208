"""The exercises and the quiz questions of every lesson."""

from __future__ import annotations

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
    quiz_start,
    quiz_work,
)
from llmcourse.exercises.base import Exercise
from llmcourse.exercises.choices import Question

EXERCISES: dict[str, tuple[Exercise, ...]] = {
    "00": lesson00.TASKS, "01": lesson01.TASKS, "02": lesson02.TASKS, "03": lesson03.TASKS,
    "04": lesson04.TASKS, "05": lesson05.TASKS, "06": lesson06.TASKS,
    "07": lesson07.TASKS, "08": lesson08.TASKS,
}  # fmt: skip
QUESTIONS: dict[str, tuple[Question, ...]] = quiz_start.QUESTIONS | quiz_work.QUESTIONS


def question_name(lesson: str, number: int) -> str:
    """What a question's answer is kept under: "01-q2" is the second of lesson 01."""
    return f"{lesson}-q{number}"
