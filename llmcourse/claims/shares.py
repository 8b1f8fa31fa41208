"""The numbers of claims: shares with their intervals, and what is larger than what."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmcourse.errors import ClaimError


@dataclass(frozen=True)
class Share:
    """So many of so many, with what that says about the rate behind it.

    Attributes:
        count: How often it happened.
        of: Out of how many.
    """

    count: int
    of: int

    def __post_init__(self) -> None:
        try:
            counted, total = operator.index(self.count), operator.index(self.of)
        except TypeError:
            counted, total = -1, 0
        if not 0 <= counted <= total or total < 1:
            raise ClaimError(f"{self.count} of {self.of} is no share.")
        object.__setattr__(self, "count", counted)  # numpy's numbers become Python's
        object.__setattr__(self, "of", total)

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval for the rate behind the share, from 0 to 1.

        Wilson's score interval (Wilson, 1927): unlike the textbook's normal one it stays
        right for few prompts and for shares near 0 and 1.
        """
        z, n, p = 1.96, self.of, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = (round(100 * bound) for bound in self.interval)
        return f"{100 * self.value:.0f} % ({self.count} of {self.of}; 95 %: {low}–{high} %)"


def more_often(first: Share, second: Share) -> bool | None:
    """Whether the rate behind `first` is larger than that behind `second`.

    Returns:
        True or False where the 95 % interval of the difference of the rates leaves out zero,
        None where so few prompts can't tell. The interval is Newcombe's, made from the two
        Wilson intervals (Newcombe, 1998, method 10).

    Raises:
        ClaimError: one of them is no `Share`.
    """
    if not isinstance(first, Share) or not isinstance(second, Share):
        raise ClaimError("more_often compares two shares, as share(…) gives them.")
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    difference = first.value - second.value
    below = math.hypot(first.value - low_1, high_2 - second.value)
    above = math.hypot(high_1 - first.value, second.value - low_2)
    if difference - below > 0:
        return True
    return False if difference + above < 0 else None


def larger(first: Iterable[float], second: Iterable[float]) -> bool | None:
    """Whether the mean behind the numbers in `first` is larger than that behind `second`.

    Returns:
        True or False where the 95 % interval of the difference of the means leaves out zero,
        None where it does not, or where there are fewer than two numbers on a side. The interval
        is the percentile bootstrap's (Efron and Tibshirani, 1993) with 2,000 draws, the same at
        every run.

    Raises:
        ClaimError: one of them is empty, or holds something else than finite numbers.
    """
    one, two = _floats("first", first), _floats("second", second)
    if min(len(one), len(two)) < 2:
        return None
    dice = random.Random(0)

    def mean(values: list[float]) -> float:
        return sum(dice.choices(values, k=len(values))) / len(values)

    drawn = sorted(mean(one) - mean(two) for _ in range(2000))
    low, high = drawn[50], drawn[-51]
    return True if low > 0 else False if high < 0 else None


def _floats(name: str, values: Iterable[float]) -> list[float]:
    """Numbers to compare, as floats; a number's place in the message counts from 1."""
    numbers = []
    for place, value in enumerate(_in_order(name, values), 1):
        try:
            numbers.append(float(finite(value)))
        except (TypeError, ValueError, OverflowError):
            raise ClaimError(
                f"{name}: number {place} must be a finite number, not {short(value)}. "
                f"To compare how often something is true, use more_often."
            ) from None
    if not numbers:
        raise ClaimError(f"{name}: there are no numbers to compare.")
    return numbers


def _in_order(name: str, values: Any) -> list[Any]:
    """What is in a list or any other iterable that has an order."""
    if not isinstance(values, str | bytes | Mapping | set | frozenset):
        try:
            return list(values)
        except TypeError:
            pass
    raise ClaimError(f"{name} must be a list, not {type(values).__name__}.")


def share(outcomes: Iterable[Any]) -> Share:
    """The share of true values in an iterable of true and false.

    Raises:
        ClaimError: there are none, or something in it is neither true nor false.
    """
    held = []
    for place, outcome in enumerate(_in_order("outcomes", outcomes), 1):
        try:
            if outcome != outcome:  # not a number
                raise ValueError
            held.append(bool(outcome))
        except (ValueError, RuntimeError):  # numpy's and torch's, for an array of several
            raise ClaimError(
                f"outcomes: number {place} must be true or false, not {short(outcome)}."
            ) from None
    return Share(sum(held), len(held))


def finite(value: Any) -> int | float:
    """A finite number as Python's own; numpy's and torch's numbers are taken too.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    if callable(getattr(value, "item", None)):
        try:
            value = value.item()
        except RuntimeError as error:  # torch's, for a tensor of several
            raise ValueError from error
    if isinstance(value, str | bytes | bytearray | bool):
        raise TypeError
    number = value if isinstance(value, int) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def short(value: Any) -> str:
    """A wrong value for a message."""
    try:
        return f"{value!r:.60}"
    except Exception:  # an int of too many digits, or somebody else's class
        return f"<{type(value).__name__}>"
