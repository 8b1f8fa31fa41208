"""The diagrams that explain: drawn by code, sharp at any size."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from llmcourse import encoding
from llmcourse.claims import LESSONS
from llmcourse.errors import one_of
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, PURPLE, SKY, label_text
from llmcourse.plots.sketch import SMALL, Sketch, still
from llmcourse.stats import percent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

from_zero_to_chat = still("from_zero_to_chat")
instruction_data = still("instruction_data")
instruction_tuning = still("instruction_tuning")
the_loop = still("the_loop")
three_levels = still("three_levels")

# Coordinates are tenths of an inch from the lower left corner (see `Sketch`). They were chosen by
# looking; `tests/pictures.py` finds words that are cut off, crossed by an arrow or on one another.
_METHODS = (
    ("Better prompt", ORANGE, ("question\n+ instructions\n+ examples", "model", "answer")),
    ("Retrieve (RAG)", BLUE, ("question\n+ passages found\nin your documents", "model", "answer")),
    ("Fine-tune", GREEN, ("question", "model trained\non your examples", "answer")),
)
# From 0 (none) to 3 (much); what one expects; lesson 7 measures the last two.
_TRADE_OFFS = (
    ("Data needed", (0, 2, 3)),
    ("Cost to start", (0, 2, 3)),
    ("Knowledge needed", (1, 2, 3)),
    ("Makes things up", (3, 1, 2)),
    ("Tokens per request", (2, 3, 1)),
)
_RATINGS = ("none", "little", "some", "much")


def three_methods() -> None:
    """Show prompting, retrieval and fine-tuning side by side, with what each asks of you."""
    draw = Sketch(9.6, 5.6)
    for column, (name, colour, (question, model, answer)) in enumerate(_METHODS):
        left = 22 + column * 25
        draw.bold(left + 10, 53.6, name, fontsize=13, color=colour)
        draw.box(left, 42, 20, 8, question, colour)
        draw.box(left, 32.5, 20, 6, model, colour, fill=PALE, fontweight="bold")
        draw.box(left, 25, 20, 4, answer, colour)
        draw.arrow(left + 10, 42, left + 10, 38.5)
        draw.arrow(left + 10, 32.5, left + 10, 29)
    # Filled dots and a word for each rating: neither colour nor counting is needed to read it.
    for row, (label, values) in enumerate(_TRADE_OFFS):
        height = 19 - row * 4.2
        draw.bold(1, height, label, ha="left")
        for column, value in enumerate(values):
            left, colour = 22 + column * 25, _METHODS[column][1]
            for dot in range(3):
                fill = colour if dot < value else "white"
                draw.axes.scatter(left + 3 + dot * 3, height, s=75, color=fill, edgecolor=colour)
            draw.label(left + 12, height, _RATINGS[value], ha="left")
    # The alternative text has every rating too, from the same table.
    ratings = "; ".join(
        f"{label}: " + ", ".join(f"{_METHODS[c][0]} {_RATINGS[v]}" for c, v in enumerate(values))
        for label, values in _TRADE_OFFS
    )
    draw.finish(
        "Three ways to make a model do your work. They combine. The dots are expectations; "
        "lesson 7 measures the last two rows.",
        "Diagram. A better prompt puts instructions and examples before the question; retrieval "
        "puts passages found in your documents before it; fine-tuning changes the model and "
        f"leaves the question alone. {ratings}.",
    )


def lesson_map(here: str) -> None:
    """Show the way through the lessons, with the present one marked.

    Args:
        here: The lesson's number in two digits, as in `LESSONS`.

    Raises:
        SettingError: there is no such lesson.
    """
    one_of("lesson", here, [key for key, _, _ in LESSONS])
    draw = Sketch(9.6, 3.4)
    for number, (key, name, about) in enumerate(LESSONS):
        row, column = divmod(number, 5)  # nine lessons: five boxes in the first row
        left, bottom = 1 + column * 19.2, 19 - row * 16
        fill, colour = (SKY, INK) if key == here else (PALE, BLUE)
        text = f"{key}\n{name}\n{about}"
        draw.box(left, bottom, 16, 11, text, colour, fill=fill, fontsize=8.4)
        if key == here:  # below a box of the second row: an arrow comes in from above
            draw.label(left + 8, bottom + (-1.8 if row else 12.6), "you are here", fontsize=9)
        if column < 4 and number < len(LESSONS) - 1:
            draw.arrow(left + 16, bottom + 5.5, left + 19.2, bottom + 5.5)
    # From the end of the first row to the start of the second, between the two.
    draw.path([85.8, 85.8, 9, 9, 9], [19, 16.5, 16.5, 15.9, 14])
    names = ", ".join(f"{key} {name} ({about})" for key, name, about in LESSONS)
    draw.finish(
        "The way through the course. Every lesson also runs alone.",
        f"Map of the nine lessons in order: {names}. You are at {here}.",
    )


def low_rank(layers: Mapping[str, tuple[int, int]], rank: int) -> None:
    """Show linear layers and the two thin matrices of an adapter beside each, to one scale.

    Args:
        layers: Name -> (outputs, inputs) of its weight matrix; three fit side by side.
        rank: Of the adapter.
    """
    from matplotlib.patches import Rectangle

    draw, words = Sketch(9.6, 4.2), []
    scale = 26 / max(max(shape) for shape in layers.values())  # tenths of an inch per number
    thin = rank * scale

    def matrix(x: float, y: float, w: float, h: float, colour: str, fill: str) -> None:
        draw.axes.add_patch(Rectangle((x, y), w, h, edgecolor=colour, facecolor=fill, linewidth=1))

    for column, (name, (outputs, inputs)) in enumerate(layers.items()):
        w, h, middle = inputs * scale, outputs * scale, 96 / len(layers) * (column + 0.5)
        x, y = middle - w / 2, 9.0
        matrix(x, y, w, h, BLUE, PALE)
        matrix(x + w + 0.7, y, thin, h, ORANGE, ORANGE)  # as high as W
        matrix(x, y + h + 0.7, w, thin, ORANGE, ORANGE)  # as wide as W
        draw.label(middle, y + h / 2, f"{outputs} × {inputs}", fontsize=SMALL)
        draw.bold(x + w + thin + 2.2, y + h / 2, "B", color=ORANGE)
        draw.bold(middle, y + h + thin + 2.4, "A", color=ORANGE)
        frozen, trained = outputs * inputs, rank * (outputs + inputs)
        part = f"{trained:,} trained ({percent(trained / frozen)} %)"
        draw.bold(middle, 6.6, name)
        draw.label(middle, 4.2, f"{frozen:,} frozen", fontsize=SMALL)
        draw.label(middle, 2, part, fontsize=SMALL)
        words.append(f"{name}: W {outputs} × {inputs}, {frozen:,} frozen; {part}")
    draw.finish(
        f"Layers W (blue) and their adapters of rank {rank}, B and A (orange), drawn to scale. "
        "B times A has the shape of W, and far fewer numbers.",
        f"Diagram. Beside each weight matrix W lie two thin trained matrices: B, as high as W and "
        f"{rank} wide, and A, as wide as W and {rank} high. {'. '.join(words)}.",
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
