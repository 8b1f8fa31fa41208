"""Exercises with `check()`, `hint()` and `solution()`; a message names the likely mistake.

They work the way people know from Kaggle Learn. Answers are passed in: nothing is read from the
learner's notebook, and nothing is sent anywhere.
"""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llmcourse.errors import CourseError, ExerciseError, first_line
from llmcourse.exercises import kept

# A checker returns None for a right answer, and says what is wrong otherwise.
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
        mark = {"right": "✓ Right.", "wrong": "✗ Not yet."}.get(self.kind, "○")
        return f"{mark} {self.message}"


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
            markdown = f"**{number}.** {self.task}"
            display({"text/markdown": markdown, "text/plain": plain}, raw=True)

    def check(self, answer: Any = ...) -> Outcome:
        """Check an answer: a value, or a function that is called with examples.

        A right answer is noted in `progress.json` of the work folder.
        """
        if answer is ... or answer is None:
            return Outcome("not tried", "Put your answer in place of the dots, then run again.")
        try:
            mistake = self.checker(answer)
        except NotWritten:
            return Outcome(
                "not tried",
                "Your function returns None. Put your code in place of the dots; it must end with "
                "`return` and the result.",
            )
        # The learner's code may raise anything, and may call exit(); Ctrl-C still stops it.
        except (Exception, SystemExit) as error:
            cause = str(error) if isinstance(error, CallFailed) else error_text(error)
            return Outcome("raised", f"Your code stopped with {cause}. Fix that first.")
        if mistake:
            return Outcome("wrong", mistake)
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
        if number not in range(1, len(self.hints) + 1):
            raise ExerciseError(
                f"There are {len(self.hints)} hints; {number!r:.40} is none of them. Try hint(1)."
            )
        more = f" (hint({number + 1}) says more)" if number < len(self.hints) else ""
        print(self.hints[number - 1] + more)

    def solution(self) -> None:
        """Print a right answer."""
        print(self.answer)


# --- functions, called with examples --------------------------------------------------------------


class NotWritten(Exception):
    """The learner's function returns nothing yet."""


class CallFailed(Exception):
    """The learner's function raised; the message has the arguments that it was called with."""


def function(cases: Sequence[Mapping[str, Any]]) -> Checker:
    """A checker that calls a function with each case; the first that differs is named.

    Args:
        cases: Each with its `call` (the arguments), what it `gives`, a `note` for those whose
            function returns something else, and where known `mistakes`: results of likely
            mistakes, each with what to say of it.
    """

    def check(answer: Any) -> str | None:
        if not callable(answer):
            return f"Your answer must be a function, not {shown(answer, 40)}."
        for case in cases:
            arguments = ", ".join(map(repr, case["call"]))
            try:
                # A copy, as the learner's code may change what it is given.
                result = answer(*copy.deepcopy(case["call"]))
                if isinstance(result, Iterator):  # `yield` is as good as a list; it may be endless
                    result = list(islice(result, 100))
            except (Exception, SystemExit) as error:
                where = f"called with {arguments}; {case['note'].rstrip('.')}"
                raise CallFailed(f"{error_text(error)} ({where})") from error
            # A stub returns None, as does a function that prints. Later cases may want None.
            if result is None and case is cases[0]:
                raise NotWritten
            if not same(result, case["gives"]):
                # The result of a usual mistake is known: its note says more than the case's.
                notes = [note for value, note in case.get("mistakes", ()) if same(result, value)]
                if isinstance(result, AbstractSet):
                    notes = ["A set has no order and drops duplicates: return a list."]
                note = notes[0] if notes else case["note"]
                return (
                    f"For {arguments} it returns {shown(result)} instead of {case['gives']}. {note}"
                )
        return None

    return check


def same(value: Any, right: Any) -> bool:
    """Equal in value, whatever the kind of number or sequence; a set is no sequence."""
    if right is None or isinstance(right, str):
        return isinstance(value, str | None) and value == right
    if not isinstance(right, list):
        number = number_of(value)
        return number is not None and math.isclose(number, right, abs_tol=1e-6)
    if isinstance(value, str | Mapping | AbstractSet) or not isinstance(value, Iterable):
        return False
    # Arrays and tensors too; one item more than needed is enough to see that it is too long.
    items = value.tolist() if hasattr(value, "tolist") else list(islice(value, len(right) + 1))
    return len(items) == len(right) and all(map(same, items, right))


def number_of(value: Any) -> float | None:
    """`value` as a float if it is one number of any kind, numpy's, torch's and fractions too."""
    try:
        value = value.item() if hasattr(value, "item") else value
        # float("5") would take a text for a number, and True for 1.
        return None if isinstance(value, str | bytes | bool) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


# --- values ---------------------------------------------------------------------------------------


def number(
    right: float, tolerance: float, mistakes: Sequence[tuple[float, str]], otherwise: str
) -> Checker:
    """A checker of one number.

    Args:
        right: The right one.
        tolerance: The largest relative difference that counts as equal.
        mistakes: Results of likely mistakes, each with what to say of it.
        otherwise: What to say of other numbers.
    """

    def check(answer: Any) -> str | None:
        value = number_of(answer)
        if value is None:
            return f"Your answer must be a number, without quotes, not {shown(answer, 40)}."
        for result, note in [(right, None), *mistakes]:
            if math.isclose(value, result, rel_tol=tolerance):
                return note
        return otherwise

    return check


def between(low: float, high: float, below: str, above: str) -> Checker:
    """A checker of a number that a learner measured, which differs a little between machines.

    Args:
        low: The smallest plausible one.
        high: The largest.
        below: What to say of smaller numbers.
        above: What to say of larger ones.
    """

    def check(answer: Any) -> str | None:
        value = number_of(answer)
        if value is None:
            return f"Your answer must be a number, without quotes, not {shown(answer, 40)}."
        return None if low <= value <= high else above if value > high else below

    return check


def sorting(
    right: Mapping[str, str],
    notes: Mapping[str, str | Mapping[str, str]],
    synonyms: Mapping[str, Sequence[str]],
) -> Checker:
    """A checker of a dict that gives each key one of a few names.

    Args:
        right: The right name of each key.
        notes: What to say of a key with a wrong name; where it matters, for each wrong name.
        synonyms: Other words for a name.
    """

    def check(answer: Any) -> str | None:
        if not isinstance(answer, Mapping) or set(answer) != set(right):
            return f"Your answer must be a dict with the keys {', '.join(right)}."
        names = {word: name for name in right.values() for word in (name, *synonyms.get(name, ()))}
        for key, name in right.items():
            chosen = names.get(str(answer[key]).strip().lower())
            if chosen is None:
                options = ", ".join(dict.fromkeys(right.values()))
                return f"{key}: {shown(answer[key])} is none of {options}."
            if chosen != name:
                note = notes[key]
                return f"{key}: {note if isinstance(note, str) else note[chosen]}"
        return None

    return check


# --- messages -------------------------------------------------------------------------------------

# An answer may be a list of millions, or a text of megabytes: `repr` of it would take minutes.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 12


def shown(value: Any, longest: int = 300) -> str:
    """`value` for a message, in at most `longest` characters, however large it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def error_text(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
