"""Exercises with `check()`, `hint()` and `solution()`; a wrong answer is told what is wrong.

The manner is the one people know from Kaggle Learn; values are passed in, nothing is read
behind the learner's back, and nothing is sent anywhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse.errors import ExerciseError, first_line

# A checker returns None for a right answer and says what is wrong otherwise.
Checker = Callable[[Any], str | None]


@dataclass(frozen=True)
class Outcome:
    """What a check found; shown as its message.

    Attributes:
        kind: "right", "wrong", "not tried" or "raised".
        message: For the learner.
    """

    kind: str
    message: str

    def __repr__(self) -> str:
        sign = {"right": "✓ Right.", "wrong": "✗ Not yet."}.get(self.kind, "○")
        return f"{sign} {self.message}"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: "01-2" is the second of lesson 01.
        task: What to do, in a sentence.
        checker: See `Checker`.
        praise: What a right answer shows.
        hints: One after the other, from vague to plain.
        answer: A right answer as Python source.
    """

    name: str
    task: str
    checker: Checker
    praise: str
    hints: tuple[str, ...]
    answer: str

    def check(self, answer: Any = ...) -> Outcome:
        """Check an answer: a value, or a function that is tried on examples."""
        if answer is ... or answer is None or _is_empty(answer):
            return Outcome("not tried", "Put your answer in place of the dots, then run again.")
        try:
            trouble = self.checker(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the learner's code raises is told, not thrown
            told = error.args[0] if isinstance(error, _Stopped) else _named(error)
            return Outcome("raised", f"Your code stopped with {told}. Fix that first.")
        return Outcome("wrong", trouble) if trouble else Outcome("right", self.praise)

    def hint(self, number: int = 1) -> None:
        """Print the hint of that number, the first if none is given."""
        if not 1 <= number <= len(self.hints):
            raise ExerciseError(f"There are {len(self.hints)} hints; {number} is none of them.")
        more = f" (hint {number + 1} says more)" if number < len(self.hints) else ""
        print(self.hints[number - 1] + more)

    def solution(self) -> None:
        """Print a right answer."""
        print(self.answer)


def _untouched() -> None: ...


def _is_empty(function: Any) -> bool:
    """True for a function whose body is still the dots."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_code == _untouched.__code__.co_code


def _named(error: BaseException) -> str:
    """An error's type and message."""
    name, told = type(error).__name__, first_line(error)
    return name if told == name else f"{name}: {told}"


class _Stopped(Exception):
    """The learner's function raised on one of the examples."""


def tried(function: Any, cases: Sequence[tuple[tuple, Any, str]]) -> str | None:
    """Call `function` on each case; the first that differs is told, with its own remark."""
    if not callable(function):
        return f"A function is wanted here, not {function!r:.40}."
    for arguments, wanted, remark in cases:
        shown = ", ".join(repr(argument) for argument in arguments)
        try:
            found = function(*copy.deepcopy(arguments))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _Stopped(f"{_named(error)} (tried with {shown}; {remark})") from error
        if found is None:
            return f"For {shown} it gives None. Is the line with `return` missing?"
        if not same(found, wanted):
            return f"For {shown} it gives {found!r} instead of {wanted!r}. {remark}"
    return None


def same(found: Any, wanted: Any) -> bool:
    """Equal in value, whatever the kind of number or sequence."""
    if isinstance(wanted, str):
        return found == wanted
    if isinstance(wanted, float | int):
        number = number_of(found)
        return number is not None and math.isclose(number, wanted, abs_tol=1e-6)
    if isinstance(found, str | Mapping):
        return False
    try:
        items = list(found)
    except TypeError:
        return False
    if isinstance(wanted, set):
        return len(set(items)) == len(items) and set(items) == wanted
    return len(items) == len(wanted) and all(map(same, items, wanted))


def number_of(value: Any) -> float | None:
    """`value` as a float if it is a number of any kind (numpy's and fractions too)."""
    if isinstance(value, str | bytes | bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
