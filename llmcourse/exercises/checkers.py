"""The checkers that the tables in texts/*.toml can't say; an exercise names its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from llmcourse.exercises.checking import Case, Checker, function

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


def ask_all(answer: Any) -> str | None:
    """A loop that survives questions that fail; `ask` here fails where there is no "?"."""
    twice = "asked twice"  # what a loop returns here that calls `ask` twice for a question

    def with_ask(questions: list[str]) -> Any:
        asked: list[str] = []

        def ask(question: str) -> str:
            asked.append(question)
            if "?" not in question:
                raise ValueError("this is no question")
            return question.upper()

        answers = answer(ask, questions)
        return twice if len(asked) > len(questions) else answers

    once = (twice, "Call ask once for each question.")
    stale = "That is the answer to the question before: the bug of the loop in section 2."
    shift = "A question that fails must keep its place, or all later ones shift."
    missing = "If ask raises, None is in the list."
    mistakes = [(["A?", "A?", "C?"], stale), (["A?", "C?"], shift), once]
    return function(
        Case([["a?", "b?"]], ["A?", "B?"], "No question fails here.", [once]),
        Case([["a?", "b", "c?"]], ["A?", None, "C?"], missing, mistakes),
        Case([["b", "a?"]], [None, "A?"], "The first one may fail too."),
        Case([[]], [], "No question, no answer."),
    )(with_ask if callable(answer) else answer)


CHECKERS: dict[str, Checker] = {
    "rejected_pairs": rejected_pairs,
    "ask_all": ask_all,
}
