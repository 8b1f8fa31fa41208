"""The pictures of instruction fine-tuning: what it is, its data, and what is trained on."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from llmcourse import encoding
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, PURPLE, SKY, label_text
from llmcourse.plots.sketch import SMALL, Sketch, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PAIRS = (
    ("Name three fruits.", "Apple, pear, plum."),
    ("Is this mail friendly? …", "No."),
    ("Write a slogan for a lamp.", "Light that stays up late."),
)


def instruction_tuning() -> None:
    """Show how pairs of request and answer make a model that follows instructions."""
    draw = Sketch(9.6, 3.2)
    draw.card(1, 7, 19, 12, "base model", "continues text,\nand seldom stops", ORANGE)
    draw.card(76, 7, 19, 12, "tuned model", "does what is asked,\nand stops", GREEN)
    draw.bold(48, 29.5, "pairs of request and answer, of many kinds")
    for row, (request, answer) in enumerate(_PAIRS):
        bottom = 21 - row * 7.2
        draw.box(25, bottom, 24, 5.4, request, BLUE, fontsize=SMALL)
        draw.box(52, bottom, 19, 5.4, answer, BLUE, fill=PALE, fontsize=SMALL)
        draw.arrow(49, bottom + 2.7, 52, bottom + 2.7)
    draw.label(48, 3.2, "each answer with an end token: done", fontsize=SMALL)
    draw.arrow(20, 13, 25, 13)
    draw.arrow(71, 13, 76, 13)
    draw.finish(
        "Instruction fine-tuning: the kind that made GPT-3, which continued text, into ChatGPT.",
        "Diagram. From a base model, which continues text and seldom stops, arrows lead through "
        "pairs of request and answer to a tuned model, which does what is asked and stops. The "
        f"pairs: {'; '.join(map(' '.join, _PAIRS))} Each answer has an end token.",
    )


_FOUND = ("FAQ pages", "support mails", "chat channels")
_MADE = (
    ("README, manual", "a template", "What does … say\nabout …?"),
    ("passages", "a model writes", "question and\nanswer to each"),
    ("a few seed tasks", "a model writes", "new tasks and\nanswers (Alpaca)"),
)


def instruction_data() -> None:
    """Show where instruction data come from: found as pairs, or made and filtered."""
    draw = Sketch(9.6, 4.2)
    draw.bold(13, 39.5, "pairs already", fontsize=12, color=GREEN)
    draw.bold(64, 39.5, "made of what you have", fontsize=12, color=BLUE)
    for row, (name, (source, how, what)) in enumerate(zip(_FOUND, _MADE, strict=True)):
        bottom = 30.5 - row * 8.5
        draw.box(2, bottom, 22, 6, name, GREEN)
        draw.box(33, bottom, 19, 6, source, BLUE)
        draw.arrow(52, bottom + 3, 74, bottom + 3)
        draw.label(63, bottom + 4.6, how, fontsize=SMALL)
        draw.box(74, bottom, 20, 6, what, BLUE, fontsize=SMALL)
    draw.box(74, 3.5, 20, 5.5, "filters", ORANGE, fill=PALE, fontweight="bold")
    draw.arrow(84, 13.5, 84, 9)
    draw.box(28, 3.5, 30, 5.5, "pairs to read, then to train on", INK, fill=PALE)
    draw.arrow(74, 6.2, 58, 6.2)
    draw.path([13, 13, 28], [13.5, 6.2, 6.2])
    draw.finish(
        "Where instruction data come from. A model's pairs are filtered, then read by a person.",
        f"Diagram. Left, pairs already: {', '.join(_FOUND)}. Right, made of what you have: "
        + "; ".join(f"{source}, {how}: {one_line(what)}" for source, how, what in _MADE)
        + ". What was made goes through filters; all of it becomes pairs to read, then to train "
        "on.",
    )


_ROLES = {"system": PURPLE, "user": BLUE, "assistant": GREEN}


def conversation(messages: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase) -> None:
    """Show a conversation as its chat template renders it, and what of it is trained on.

    Args:
        messages: Turns with `role` and `content`; the last two are the user's and the assistant's.
        tokenizer: Whose chat template it is.

    Raises:
        DataError, TemplateError: see `encoding.encode`.
    """
    row = encoding.encode([{"messages": messages}], tokenizer, "chat").dataset[0]
    turns, start = [], 0
    for number, message in enumerate(messages, 1):
        rendered = tokenizer.apply_chat_template(messages[:number], tokenize=False)
        end = len(tokenizer(rendered, add_special_tokens=False).input_ids)
        trained = [label != encoding.UNTRAINED for label in row["labels"][start:end]]
        tokens = zip(row["input_ids"][start:end], trained, strict=True)
        lines = [
            (line, new)
            for new, run in itertools.groupby(tokens, key=itemgetter(1))
            for part in tokenizer.decode([token for token, _ in run]).splitlines()
            for line in textwrap.wrap(part, 90)  # as many characters as the picture is wide
        ]
        note = f"{sum(trained)} tokens" if any(trained) else "read only"
        turns.append((message["role"], note, lines))
        start = end
    top = sum(2.2 * len(lines) + 2 for *_, lines in turns)
    draw = Sketch(9.6, (top + 4) / 10)
    for place, heading in ((6, "role"), (46, "what the model reads"), (91, "trained on")):
        draw.bold(place, top + 2, heading)
    for role, note, lines in turns:
        size = 2.2 * len(lines)
        draw.box(1, top - size, 10, size, role, _ROLES[role], fill=PALE)
        draw.label(91, top - size / 2, note)
        for number, (line, new) in enumerate(lines):
            ground = {"facecolor": SKY, "edgecolor": "none", "pad": 1} if new else None
            style = {"ha": "left", "family": "monospace", "fontsize": SMALL, "bbox": ground}
            draw.label(13, top - 1.1 - 2.2 * number, label_text(line), **style)
        top -= size + 2
    draw.finish(
        "A conversation as its chat template renders it. What is trained on is on blue: each turn "
        "of the assistant, with the token that ends it.",
        "Diagram. A row for each turn, what is trained on in brackets. "
        + " ".join(
            f"{role}, {note}: {' '.join(f'[{line}]' if new else line for line, new in lines)}"
            for role, note, lines in turns
        ),
    )
