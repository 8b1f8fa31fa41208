"""The exercises of lesson 08."""

from __future__ import annotations

import math
from typing import Any

from llmcourse.exercises.base import Exercise, number_of, tried


def _leaks(answer: Any) -> str | None:
    return tried(
        answer,
        [
            ((["Who rows?", "When?"], ["Where?"]), [], "None of the test is in the training."),
            ((["Who rows?"], ["Who rows?", "Where?"]), ["Who rows?"], "The first one is in both."),
            ((["who rows?"], ["Who Rows?"]), ["Who Rows?"],
             "Case does not matter; give the question as the test has it."),
            ((["Who  rows?"], [" Who rows? "]), [" Who rows? "],
             "Blanks do not matter; give the question as the test has it."),
            ((["a", "b"], ["b", "a"]), ["b", "a"], "In the order of the test."),
        ],
    )  # fmt: skip


def _gigabytes(answer: Any) -> str | None:
    if callable(answer):
        found = number_of(answer(10, 14.0, 0.1))
        for wrong, remark in (
            (10 * (14.0 + 0.1), "All customers share one base: it is in memory once."),
            (10 * 14.0, "That is a whole model for each. With adapters, the base is there once."),
            (14.0 + 0.1, "That is one customer. Each further one needs an adapter of its own."),
        ):
            if found is not None and math.isclose(found, wrong):
                return remark
    remark = "The base once, and an adapter for each customer."
    return tried(
        answer,
        [((10, 14.0, 0.1), 15.0, remark), ((1, 0.5, 0.02), 0.52, remark), ((0, 3, 1), 3, remark)],
    )


TASKS = (
    Exercise(
        "08-1",
        "Write `leaks(train, test)`: the test questions that stand among the training questions "
        "too, whatever their case and blanks, in the order of the test.",
        _leaks,
        "Run this on your own split before you believe a high score.",
        ("Bring both to one form first: lower case, single blanks.",
         '" ".join(question.lower().split()) is such a form; compare by it, give the original.'),
        "def leaks(train, test):\n"
        "    known = {' '.join(question.lower().split()) for question in train}\n"
        "    return [q for q in test if ' '.join(q.lower().split()) in known]",
    ),
    Exercise(
        "08-2",
        "Write `gigabytes(customers, base, adapter)`: the memory for the weights when each "
        "customer has an adapter (of so many gigabytes) on one base (of so many).",
        _gigabytes,
        "The base is in memory once, so a hundred customers cost far less than a hundred models. "
        "That is how many tuned models are served.",
        ("How often is the base in memory?", "base + customers * adapter"),
        "def gigabytes(customers, base, adapter):\n    return base + customers * adapter",
    ),
)  # fmt: skip
