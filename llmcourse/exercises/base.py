"""Exercises with `check()`, `hint()` and `solution()`; a wrong answer is told what is wrong.

The manner is the one people know from Kaggle Learn; values are passed in, nothing is read
behind the learner's back, and nothing is sent anywhere.
"""

from __future__ import annotations

import copy
import dis
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import CodeType
from typing import Any

from llmcourse.errors import CourseError, ExerciseError, first_line
from llmcourse.exercises import kept

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

    def ask(self) -> None:
        """Show the task with its number; outside a notebook as plain text."""
        from IPython import get_ipython
        from IPython.display import display

        number = self.name.split("-")[1]
        plain = f"{number}. {self.task}"
        if get_ipython() is None:
            print(plain)
        else:
            said = {"text/markdown": f"**{number}.** {self.task}", "text/plain": plain}
            display(said, raw=True)

    def check(self, answer: Any = ...) -> Outcome:
        """Check an answer: a value, or a function that is tried on examples.

        That it was solved is noted in `progress.json` of the work folder.
        """
        if answer is ... or answer is None:
            return Outcome("not tried", _UNTRIED)
        if _is_empty(answer):
            return Outcome("not tried", _UNWRITTEN if answer.__doc__ else _UNTRIED)
        try:
            trouble = self.checker(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the learner's code raises is told, not thrown
            told = error.args[0] if isinstance(error, _Stopped) else _named(error)
            return Outcome("raised", f"Your code stopped with {told}. Fix that first.")
        if trouble:
            return Outcome("wrong", trouble)
        try:
            kept.solved(self.name)
        except CourseError as error:
            return Outcome("right", f"{self.praise} (Not noted as solved. {error})")
        return Outcome("right", self.praise)

    def hint(self, number: int = 1) -> None:
        """Print the hint of that number, the first if none is given.

        Raises:
            ExerciseError: there is no hint of that number.
        """
        if not isinstance(number, int) or not 1 <= number <= len(self.hints):
            raise ExerciseError(
                f"There are {len(self.hints)} hints; {shown(number)} is none of them. Try hint(1)."
            )
        more = f" (hint({number + 1}) says more)" if number < len(self.hints) else ""
        print(self.hints[number - 1] + more)

    def solution(self) -> None:
        """Print a right answer."""
        print(self.answer)


_UNTRIED = "Put your answer in place of the dots, then run again."
_UNWRITTEN = "The function is not written yet. Put your code below its text, then run again."
_STEPS = ("RESUME", "NOP", "RETURN_VALUE")
_LOADS = ("LOAD_CONST", "RETURN_CONST", "LOAD_COMMON_CONSTANT")  # None, in all versions of Python


def _is_empty(function: Any) -> bool:
    """True for a function that is still dots, `pass` or a docstring: it only returns None."""
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and all(
        step.argval is None if step.opname in _LOADS else step.opname in _STEPS
        for step in dis.get_instructions(code)
    )


def _named(error: BaseException) -> str:
    """An error's type and message."""
    name, told = type(error).__name__, first_line(error)
    return name if told == name else f"{name}: {told}"


class _Stopped(Exception):
    """The learner's function raised on one of the examples."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 12


def shown(value: Any, room: int = 300) -> str:
    """`value` as a message shows it, in at most `room` signs, however large it is."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # a number of too many digits, or a learner's own class
        text = f"<{type(value).__name__}>"
    return text if len(text) <= room else f"{text[: room - 1]}…"


def tried(function: Any, cases: Sequence[tuple[tuple, Any, str]]) -> str | None:
    """Call `function` on each case; the first that differs is told, with its own remark.

    What the function yields one by one is read only as far as needed, so it may be endless.
    """
    if not callable(function):
        return f"A function is wanted here, not {shown(function, 40)}."
    for arguments, wanted, remark in cases:
        given = ", ".join(repr(argument) for argument in arguments)
        try:
            found = function(*copy.deepcopy(arguments))
            if isinstance(found, Iterator):
                found = list(islice(found, 100))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _Stopped(f"{_named(error)} (tried with {given}; {remark.rstrip('.')})") from error
        if found is None:
            return f"For {given} it gives None. Is the line with `return` missing?"
        if not same(found, wanted):
            if isinstance(found, set | frozenset):
                remark = "A set has no order and drops what comes twice: return a list."
            return f"For {given} it gives {shown(found)} instead of {wanted!r}. {remark}"
    return None


def same(found: Any, wanted: Any) -> bool:
    """Equal in value, whatever the kind of number or sequence; a set is no sequence."""
    if isinstance(wanted, str):
        return isinstance(found, str) and found == wanted
    if isinstance(wanted, float | int):
        number = number_of(found)
        return number is not None and math.isclose(number, wanted, abs_tol=1e-6)
    if isinstance(found, str | Mapping | set | frozenset):
        return False
    try:
        items = list(islice(found, len(wanted) + 1))
    except TypeError:
        return False
    return len(items) == len(wanted) and all(map(_same_item, items, wanted))


def _same_item(found: Any, wanted: Any) -> bool:
    """As `same`, for a part of a sequence: there an array of one number is no number."""
    if isinstance(wanted, float | int) and getattr(found, "shape", ()):
        return False
    return same(found, wanted)


def number_of(value: Any) -> float | None:
    """`value` as a float if it is one number of any kind.

    Fractions, numpy's and torch's numbers count, and their arrays of a single number.
    """
    try:
        if callable(getattr(value, "item", None)):
            value = value.item()
        return None if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def sorted_into(
    answer: Any,
    right: Mapping[str, str],
    other_names: Mapping[str, str],
    remark: Callable[[str, str], str],
) -> str | None:
    """What is wrong with a dict that gives each key one of a few names; None if nothing is.

    Args:
        answer: The learner's.
        right: The right name of each key.
        other_names: What a name may be called too, and the name that is meant.
        remark: What is said of a key and the wrong name it was given.
    """
    if not isinstance(answer, dict) or set(answer) != set(right):
        return f"A dict with the keys {', '.join(right)} is wanted."
    names = list(dict.fromkeys(right.values()))
    for key, name in right.items():
        given = str(answer[key]).strip().lower()
        given = other_names.get(given, given)
        if given not in names:
            return f"{key}: {shown(answer[key])} is none of {', '.join(names)}."
        if given != name:
            return f"{key}: {remark(key, given)}"
    return None
