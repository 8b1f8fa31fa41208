"""The exercises and the quiz of each lesson, from texts/*.toml.

An exercise there has `cases` for a function, a `number`, the limits that a number is `between`, or
a `sorting`.
A question has its options under their letters, each with the reason why it is right or wrong.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from llmcourse.exercises.checking import (
    Checker,
    Exercise,
    between,
    function,
    number,
    sorting,
)


@dataclass(frozen=True)
class Question:
    """A multiple-choice question.

    Attributes:
        name: "01-q2" is the second of lesson 01.
        text: The question.
        right: The letter of the right option.
        options: Letter -> the option, and the reason why it is right or wrong.
    """

    name: str
    text: str
    right: str
    options: dict[str, tuple[str, str]]

    def verdict(self, letter: str, reason: str = "") -> str:
        """Whether an option is right, and why."""
        mark = "✓ Right." if letter == self.right else "✗ Not this one."
        return f"{mark} {reason or self.options[letter][1]}"


def _checker(table: dict[str, Any]) -> Checker:
    """The checker that an exercise's table asks for."""
    if "cases" in table:
        return function(table["cases"])
    if "number" in table:
        return number(**table["number"])
    if "between" in table:
        return between(**table["between"])
    return sorting(**table["sorting"])


def _exercise(name: str, table: dict[str, Any]) -> Exercise:
    texts = {key: table[key].strip() for key in ("task", "praise", "answer")}
    return Exercise(name, checker=_checker(table), hints=tuple(table["hints"]), **texts)


def _question(name: str, table: dict[str, Any]) -> Question:
    # The keys of one letter are the options, in the file's order.
    options = {key: tuple(value) for key, value in table.items() if len(key) == 1}
    return Question(name, table["text"], table["right"], options)


EXERCISES: dict[str, tuple[Exercise, ...]] = {}
QUESTIONS: dict[str, tuple[Question, ...]] = {}
# Read when this module is imported: 45 kilobytes in all, and torch is not needed.
for _file in sorted(
    resources.files(__package__).joinpath("texts").iterdir(), key=lambda file: file.name
):
    _lesson, _tables = _file.name.removesuffix(".toml"), tomllib.loads(_file.read_text("utf-8"))
    EXERCISES[_lesson] = tuple(
        _exercise(f"{_lesson}-{n}", table) for n, table in enumerate(_tables["exercise"], 1)
    )
    QUESTIONS[_lesson] = tuple(
        _question(f"{_lesson}-q{n}", table) for n, table in enumerate(_tables["question"], 1)
    )
