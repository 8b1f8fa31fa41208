"""The exercises of lesson 07."""

from __future__ import annotations

import math
from typing import Any

from llmcourse.exercises.base import Exercise, number_of, sorted_into, tried


def _break_even(answer: Any) -> str | None:
    if callable(answer):
        found = number_of(answer(60, 0.5, 0.2))
        if found is not None and math.isclose(found, 60 / 0.5):
            return "Tuning saves only the difference of the two, not the whole long prompt's time."
        if found is not None and math.isclose(found, 60 * (0.5 - 0.2)):
            return "Set-up divided by what each question saves, not times it."
    return tried(
        answer,
        [
            ((60, 0.5, 0.2), 200, "60 seconds, at 0.3 saved a question."),
            ((0, 0.5, 0.2), 0, "Without set-up it pays at once."),
            ((60, 0.2, 0.2), math.inf, "Nothing is saved, so it never pays: infinity."),
            ((60, 0.2, 0.5), math.inf, "Each question costs more, so it never pays: infinity."),
        ],
    )  # fmt: skip


_RIGHT = {
    "prices change weekly": "retrieve",
    "answers in the house style": "tune",
    "a sign-off that lawyers wrote": "prompt",
    "which passage says so?": "retrieve",
}
_NAMES = {
    "retrieval": "retrieve", "rag": "retrieve", "fine-tune": "tune", "finetune": "tune",
    "fine-tuning": "tune", "tuning": "tune", "prompting": "prompt",
}  # fmt: skip
_REMARKS = {
    "prices change weekly": "What is in the weights is old by next week. Look it up each time.",
    "answers in the house style": "A manner is the same for all questions, and no passage holds "
    "it. In a prompt it would be paid for each time, and forgotten now and then.",
    "a sign-off that lawyers wrote": "It must come word for word, and is short. The simplest way "
    "does it (or a line of code).",
    "which passage says so?": "Only one way has the passage at hand when it answers.",
}


def _sorted(answer: Any) -> str | None:
    return sorted_into(answer, _RIGHT, _NAMES, lambda key, _: _REMARKS[key])


def _made_up(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([True, False], [False, False]), 0.5,
             "The second is wrong and does not say so: half of all answers."),
            (([False, False], [True, False]), 0.5, "The first is honest: it says it can't tell."),
            (([True, True], [False, True]), 0.0, "A right answer is never made up."),
            (([False] * 4, [False, True, True, False]), 0.5, "Of all answers, not of the wrong."),
            (([True, True, True, False], [False] * 4), 0.25, "Of all answers, not of the wrong."),
        ],
    )  # fmt: skip


TASKS = (
    Exercise(
        "07-1",
        "Write `break_even(setup, with_prompt, tuned)`: after how many questions tuning has paid "
        "for itself. setup: seconds to train; with_prompt and tuned: seconds a question. "
        "math.inf where it never does.",
        _break_even,
        "So a fine-tuning pays by volume. Retrieval has a set-up as well, if a small one.",
        ("How much does each question save?",
         "setup / (with_prompt - tuned), and infinity where nothing is saved."),
        "def break_even(setup, with_prompt, tuned):\n"
        "    saved = with_prompt - tuned\n"
        "    return setup / saved if saved > 0 else float('inf')",
    ),
    Exercise(
        "07-2",
        'What suits best: "prompt", "retrieve" or "tune"? Give a dict from each of four needs to '
        'one of the three: "prices change weekly", "answers in the house style", "a sign-off that '
        'lawyers wrote", "which passage says so?".',
        _sorted,
        "Facts that change are looked up, manners are tuned, fixed words are given.",
        ("Ask of each: does it change? Is it the same for all questions?",
         "Two of them need the documents at hand, one is a manner, one is a fixed text."),
        "{'prices change weekly': 'retrieve', 'answers in the house style': 'tune',\n"
        " 'a sign-off that lawyers wrote': 'prompt', 'which passage says so?': 'retrieve'}",
    ),
    Exercise(
        "07-3",
        "Write `made_up(right, refused)`: the share of all answers that are wrong and said without "
        "a word of doubt. right and refused are lists of True and False, one an answer.",
        _made_up,
        "Accuracy alone hides this: a model that says it does not know is worth more than one that "
        "is as often right and always sure.",
        ("An answer counts when two things are not so.",
         "Count those with `not r and not d`, and divide by all."),
        "def made_up(right, refused):\n"
        "    bad = sum(not r and not d for r, d in zip(right, refused))\n"
        "    return bad / len(right)",
    ),
)  # fmt: skip
