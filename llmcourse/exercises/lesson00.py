"""The exercises of lesson 00."""

from __future__ import annotations

from typing import Any

from llmcourse.exercises.base import Exercise, number_of, shown, sorted_into


def _weight_gigabytes(answer: Any) -> str | None:
    number = number_of(answer)
    if number is None:
        return f"A number of gigabytes is wanted, without quotes, not {shown(answer, 40)}."
    right = 0.27
    if abs(number - right) <= 0.015:
        return None
    for factor, remark in (
        (2, "That is float32, with 4 bytes a weight. bfloat16 has 16 bits."),
        (8, "You multiplied by 16: those are bits. A byte has 8 of them."),
        (0.5, "That counts one byte a weight. 16 bits are two bytes."),
        (0.25, "That counts 4 bits a weight. bfloat16 has 16."),
        (1000, "That is the number of megabytes. Gigabytes are wanted."),
        (1e9, "That is the number of bytes. A gigabyte is a billion of them."),
    ):
        if abs(number / factor - right) <= 0.015:
            return remark
    return "Multiply the number of weights by the bytes of each, then divide by a billion."


_WISHES = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}
_OTHER_NAMES = {"prompting": "prompt", "better prompt": "prompt", "rag": "retrieve",
                "retrieval": "retrieve", "finetune": "fine-tune", "fine tune": "fine-tune",
                "fine-tuning": "fine-tune", "finetuning": "fine-tune"}  # fmt: skip
_REMARKS = {
    ("prices", "fine-tune"): "Prices that change daily would have to be trained in daily. What "
    "can be looked up at the moment of the question?",
    ("prices", "prompt"): "Typing all prices into every prompt works for a short list only. What "
    "puts in just those that the question is about?",
    ("voice", "prompt"): "That has to be said again each time, and is read again each time. Which "
    "way changes how the model behaves without saying it?",
    ("voice", "retrieve"): "Passages bring facts. A manner wanted in every answer, on every "
    "subject, is behaviour. Which way changes that?",
    ("once", "retrieve"): "For one letter an index costs more than it brings. What costs nothing "
    "to start?",
    ("once", "fine-tune"): "For one letter, gathering examples and training cost more than they "
    "bring. What costs nothing to start?",
}


def _ways(answer: Any) -> str | None:
    return sorted_into(answer, _WISHES, _OTHER_NAMES, lambda wish, way: _REMARKS[wish, way])


TASKS = (
    Exercise(
        "00-1",
        "How many gigabytes do the 135 million weights of the chat model take in bfloat16?",
        _weight_gigabytes,
        "135 million weights at 2 bytes each are 0.27 GB. Running a model needs somewhat more "
        "than its weights; ordinary full training in float32 eight times as much (weights, "
        "gradients and two averages that the optimiser keeps, 4 bytes each). Lesson 5 gets by "
        "with less.",
        ("How many bits has bfloat16, and how many bytes are that?",
         "135e6 weights times 2 bytes, divided by 1e9."),
        "135e6 * 2 / 1e9",
    ),
    Exercise(
        "00-2",
        "Which way fits which wish: prompt, retrieve or fine-tune?",
        _ways,
        "What changes is looked up, what should always be so is trained, what is wanted once "
        "is said in the prompt.",
        ("Ask of each: does it change, is it wanted always, or is it wanted once?",
         "Prices change daily: look them up when asked."),
        '{"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}',
    ),
)  # fmt: skip
