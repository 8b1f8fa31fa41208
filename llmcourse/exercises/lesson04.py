"""The exercises of lesson 04."""

from __future__ import annotations

from typing import Any

from llmcourse.exercises.base import Exercise, tried


def _labels(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([7, 8, 9], [4, 5], 2), [-100, -100, -100, 4, 5, 2],
             "The prompt's places get -100, then come completion and end token."),
            (([7], [4], 1), [-100, 4, 1], "The end token is the one that is passed in."),
            (([7, 8], [], 2), [-100, -100, 2], "An empty completion still ends."),
        ],
    )  # fmt: skip


def _pad(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([[5, 6, 7], [8]], 0), [[5, 6, 7], [8, 0, 0]],
             "All rows get the length of the longest; padding stands on the right."),
            (([[5], [6]], 0), [[5], [6]], "Rows of one length need no padding."),
            (([[1, 2], [3], []], 9), [[1, 2], [3, 9], [9, 9]],
             "The padding id is the one that is passed in."),
        ],
    )  # fmt: skip


def _leaks(answer: Any) -> str | None:
    train = ["How tall is the lamp?", "What does it cost?"]
    return tried(
        answer,
        [
            ((train, ["Who made it?"]), [], "This question is not in training."),
            ((train, ["What does it cost?"]), ["What does it cost?"], "It stands in both."),
            ((train, ["how tall is the lamp", "Who made it?"]), ["how tall is the lamp"],
             "Capitals and the question mark do not make another question."),
            ((train, ["WHAT does it cost ??"]), ["WHAT does it cost ??"],
             "Compare words only: no capitals, no signs. Return the question as it was."),
        ],
    )  # fmt: skip


TASKS = (
    Exercise(
        "04-1",
        "Write `labels_of(prompt, completion, end)` for lists of ids: the labels of the whole row.",
        _labels,
        "Three decisions in one line: no loss on the prompt, loss on the answer, and loss on the "
        "end token, without which the model never stops.",
        ("A list times a number repeats it: [-100] * 3.",
         "[-100] * len(prompt) + completion + [end]"),
        "def labels_of(prompt, completion, end):\n"
        "    return [-100] * len(prompt) + completion + [end]",
    ),
    Exercise(
        "04-2",
        "Write `pad_rows(rows, pad_id)`: the rows, each filled up on the right to the length of "
        "the longest.",
        _pad,
        "For training the side hardly matters, as the mask hides the padding; right is the custom. "
        "For generating it must be left: the model goes on after the last token.",
        ("How long is the longest row? max(len(row) for row in rows)",
         "row + [pad_id] * (width - len(row))"),
        "def pad_rows(rows, pad_id):\n"
        "    width = max(len(row) for row in rows)\n"
        "    return [row + [pad_id] * (width - len(row)) for row in rows]",
    ),
    Exercise(
        "04-3",
        "Write `leaks(train, test)`: the list of test questions that stand in training too, "
        "whatever their capitals and punctuation.",
        _leaks,
        "Exact copies are the easy half. `data.inspect` also finds those that are nearly the same.",
        (r"Make a key of each question: its lower-case words, as re.findall(r'\w+', ...) finds.",
         "Put the keys of train into a set; a list can't go into a set, a tuple can."),
        "import re\n\n\ndef leaks(train, test):\n"
        '    def key(text):\n'
        '        return tuple(re.findall(r"\\w+", text.lower()))\n\n'
        "    known = {key(text) for text in train}\n"
        "    return [text for text in test if key(text) in known]",
    ),
)  # fmt: skip
