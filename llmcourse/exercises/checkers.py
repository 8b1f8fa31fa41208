"""The checkers that the tables in texts/*.toml can't say; an exercise names its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from llmcourse.exercises.checking import Checker

_BAD_PAIRS = {
    2: "Pair 2 breaks off in the middle of a sentence. A model that learns from it learns to.",
    4: "Pair 4 does not answer: it asks back.",
    5: "Pair 5 has a number that is not in the passage.",
}


def rejected_pairs(answer: Iterable[int]) -> str | None:
    """The numbers of the pairs of lesson 03 that should not go into training."""
    try:
        chosen = {float(number) for number in islice(answer, 100)}  # numpy's numbers too
    except (TypeError, ValueError):
        return "Your answer must be a set of whole numbers, such as {1, 6}."
    if odd := chosen - set(range(1, 7)):
        return f"There are pairs 1 to 6; {min(odd):g} is none of them."
    if good := chosen - set(_BAD_PAIRS):
        return f"Pair {min(good):g} is fine: the form is right, and all it says is in the passage."
    return next((why for pair, why in _BAD_PAIRS.items() if pair not in chosen), None)


CHECKERS: dict[str, Checker] = {
    "rejected_pairs": rejected_pairs,
}
