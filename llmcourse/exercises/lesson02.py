"""The exercises of lesson 02."""

from __future__ import annotations

import math
from typing import Any

from llmcourse.exercises.base import Exercise, number_of, shown, sorted_into, tried


def _pairs(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([5, 6, 7],), [(5, 6), (6, 7)], "Each id is read once, except the last one."),
            (([1, 1, 2],), [(1, 1), (1, 2)], "The place counts, not the value."),
            (([4],), [], "One id alone has nothing that comes next."),
            (([],), [], "An empty text gives no pairs."),
        ],
    )


def _loss_at_start(answer: Any) -> str | None:
    number = number_of(answer)
    if number is None:
        return f"A number is wanted, not {shown(answer, 40)}."
    right = math.log(256)
    if abs(number - right) < 0.01:
        return None
    for wrong, remark in (
        (8, "That is the logarithm to base 2, in bits. Losses here are in nats: the natural one."),
        (math.log10(256), "That is the logarithm to base 10. The natural one is wanted."),
        (-right, "The right size. But the loss is minus the logarithm of 1/256."),
        (1 / 256, "That is the probability of the right byte. The loss is minus its logarithm."),
        (256, "That is the perplexity. The loss is its logarithm."),
        (math.log(79), "That is for 79 signs. This model has 256."),
    ):
        if abs(number - wrong) < 0.001:
            return remark
    return "All 256 bytes are equally likely. Minus the logarithm of that probability is the loss."


_TASKS = {"route": "extraction", "slogan": "expansion", "mood": "extraction",
          "minutes": "expansion"}  # fmt: skip
_OTHER_NAMES = {"reading": "extraction", "read": "extraction", "extract": "extraction",
                "writing": "expansion", "write": "expansion", "expand": "expansion"}  # fmt: skip
_REMARKS = {
    "route": "A whole message goes in, the name of one department comes out.",
    "slogan": "A product's name goes in. All the words have to be made up.",
    "mood": "A message goes in, one word comes out.",
    "minutes": "Four key words go in, a page of minutes comes out.",
}


def _kinds(answer: Any) -> str | None:
    return sorted_into(answer, _TASKS, _OTHER_NAMES, lambda task, kind: _REMARKS[task])


TASKS = (
    Exercise(
        "02-1",
        "Write `pairs_of(ids)`: the list of (what is read, what must be guessed), one pair for "
        "each place of a text that has a next one.",
        _pairs,
        "A text of n tokens holds n - 1 exercises. That is why unlabelled text is enough.",
        ("What is read is the text without its last id. What is guessed is the text without ...",
         "zip(ids[:-1], ids[1:])"),
        "def pairs_of(ids):\n    return list(zip(ids[:-1], ids[1:], strict=True))",
    ),
    Exercise(
        "02-2",
        "A model reads bytes, of which there are 256 kinds, and knows nothing yet. What is its "
        "loss, in nats?",
        _loss_at_start,
        "If a fresh model's loss is far from the logarithm of its vocabulary, something is wrong "
        "with it or with the data. It is the cheapest test in all of training.",
        ("Look at section 2: how likely is each byte for a model that knows nothing?",
         "math.log(256), or minus the logarithm of 1/256"),
        "import math\n\nloss_at_start = math.log(256)",
    ),
    Exercise(
        "02-3",
        "Extraction or expansion? route: which department a message is for; slogan: a slogan for "
        "a kettle; mood: is this customer content; minutes: the minutes of a meeting from four "
        "key words.",
        _kinds,
        "Reading tasks have short outputs. So they cost little, and can be checked by a program.",
        ("Compare how much text goes in with how much comes out.",
         "Two of each."),
        'kinds = {"route": "extraction", "slogan": "expansion", "mood": "extraction",\n'
        '         "minutes": "expansion"}',
    ),
)  # fmt: skip
