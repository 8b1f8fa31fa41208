"""The diagrams that explain: drawn by code, sharp at any size."""

from __future__ import annotations

from llmcourse.errors import SettingError
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, SKY
from llmcourse.plots.sketch import Sketch

# Coordinates are tenths of an inch from the lower left corner (see `Sketch`). They were chosen by
# looking; `tests/pictures.py` finds words that are cut off, crossed by an arrow or on one another.
_METHODS = (
    ("Better prompt", ORANGE, ("question\n+ instructions\n+ examples", "model", "answer")),
    ("Retrieve (RAG)", BLUE, ("question\n+ passages found\nin your documents", "model", "answer")),
    ("Fine-tune", GREEN, ("question", "model trained\non your examples", "answer")),
)
# From 0 (none) to 3 (much); what the course says, to be measured in lesson 7.
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
        "Three ways to make a model do your work. They combine. The dots are what the course "
        "expects; lesson 7 measures them.",
        "Diagram. A better prompt puts instructions and examples before the question; retrieval "
        "puts passages found in your documents before it; fine-tuning changes the model and "
        f"leaves the question alone. {ratings}.",
    )


LESSONS = (
    ("00", "Start here", "this machine"),
    ("01", "Why fine-tune", "base against chat"),
    ("02", "Where it fits", "after pretraining"),
    ("03", "Instruction tuning", "a new behaviour"),
    ("04", "Data preparation", "text to tokens"),
    ("05", "Training", "steps and adapters"),
    ("06", "Evaluation", "is it better?"),
    ("07", "Prompt, retrieve, tune", "the comparison"),
    ("08", "Your own data", "the whole path"),
)


def lesson_map(here: str) -> None:
    """Show the way through the lessons, with the present one marked.

    Args:
        here: The lesson's number in two digits, as in `LESSONS`.

    Raises:
        SettingError: there is no such lesson.
    """
    keys = [key for key, _, _ in LESSONS]
    if here not in keys:
        raise SettingError(f"There is no lesson {here!r:.60}. There are: {', '.join(keys)}.")
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


_LEVELS_OF_CODE = (
    ("One line", "generate(model, question)", "everything chosen for you", GREEN),
    ("transformers", "tokenizer(…), model.generate(…)", "you choose the pieces", BLUE),
    ("PyTorch", "logits = model(ids).logits; ids + best", "you see every step", ORANGE),
)


def three_levels() -> None:
    """Show the same task at the levels of torch, transformers and the one-line call."""
    draw = Sketch(8.4, 3.6)
    for row, (name, code, about, colour) in enumerate(_LEVELS_OF_CODE):
        bottom = 24.5 - row * 11.5
        draw.box(1, bottom, 18, 9, name, colour, fill=PALE, fontsize=12, fontweight="bold")
        draw.box(21, bottom, 40, 9, code, colour, family="monospace", fontsize=9)
        draw.label(63, bottom + 4.5, about, ha="left")
        if row < 2:
            draw.arrow(10, bottom, 10, bottom - 2.5)
    draw.finish(
        "One task at three levels of abstraction. Each level calls the one below it.",
        "Diagram of three levels. Top: one line, generate(model, question), everything is chosen "
        "for you. Middle: transformers, tokenizer and model.generate, you choose the pieces. "
        "Bottom: PyTorch, the model's logits, and the best token put behind the text, you see "
        "every step. Arrows lead from each level down to the one it calls.",
    )


def from_zero_to_chat() -> None:
    """Show where fine-tuning comes: after pretraining, before use, and again and again."""
    draw = Sketch(9.6, 3.2)
    draw.box(2, 9, 18, 12, "nothing\n\nrandom weights", INK, fill=PALE)
    draw.box(39, 9, 18, 12, "base model\n\nknows what text\nlooks like", ORANGE, fill=PALE)
    draw.box(76, 9, 18, 12, "tuned model\n\ndoes what\nyou want", GREEN, fill=PALE)
    steps = (
        ("pretraining", "the web, unlabelled\nmonths, a data centre"),
        ("fine-tuning", "your records\nminutes, this machine"),
    )
    for column, (name, about) in enumerate(steps):
        left = 20 + column * 37
        draw.arrow(left, 15, left + 19, 15)
        draw.bold(left + 9.5, 19.6, name)
        draw.label(left + 9.5, 11.1, about, fontsize=9)
    # A loop above the box: fine-tuning starts from a tuned model as well.
    draw.arrow(90, 21, 81, 21, connectionstyle="arc3,rad=0.9")
    draw.label(85.5, 30, "again, with more\nor better records", fontsize=9)
    draw.finish(
        "Fine-tuning starts from a base model, or from a tuned one.",
        "Diagram from left to right. Nothing (random weights) becomes a base model by pretraining "
        "on the unlabelled web in months in a data centre. The base model, which knows what text "
        "looks like, becomes a tuned model, which does what you want, by fine-tuning on your "
        "records in minutes on this machine. An arrow leads from the tuned model back to itself: "
        "again, with more or better records.",
    )


def the_loop() -> None:
    """Show that data, training and evaluation follow one another in a circle."""
    draw = Sketch(9.0, 3.0)
    stages = (
        ("1  prepare data\n\nwhere kinds of\nfine-tuning differ most", BLUE),
        ("2  train\n\nmuch the same\nfor all kinds", ORANGE),
        ("3  evaluate\n\nread answers,\ncount, compare", GREEN),
    )
    for column, (text, colour) in enumerate(stages):
        left = 2 + column * 32
        draw.box(left, 13, 21, 11, text, colour, fill=PALE)
        if column < 2:
            draw.arrow(left + 21, 18.5, left + 32, 18.5)
    draw.path([76.5, 76.5, 12.5, 12.5, 12.5], [13, 6, 6, 8, 13])
    draw.label(44, 3.6, "improve the data, then repeat")
    draw.finish(
        "The loop. Each round improves the data by what the evaluation found.",
        "Diagram of three boxes in a row: 1 prepare data (where kinds of fine-tuning differ most), "
        "2 train (much the same for all kinds), 3 evaluate (read answers, count, compare). An "
        "arrow leads from evaluate back to prepare data: improve the data, then repeat.",
    )


def low_rank() -> None:
    """Show a linear layer with an adapter beside it, and one base with an adapter per customer."""
    draw = Sketch(9.6, 4.2)
    # Left, one layer: two paths from the input to the sum, one frozen and one trained.
    draw.bold(22, 40.2, "one layer", fontsize=12)
    draw.box(15, 1, 14, 4.5, "input", INK)
    draw.box(2, 12, 20, 14, "W\nfrozen\nout × in", BLUE, fill=PALE, fontsize=11)
    draw.box(30, 11.5, 10, 4.5, "A   rank × in", ORANGE, fontsize=8.5)
    draw.box(30, 22, 10, 4.5, "B   out × rank", ORANGE, fontsize=8.5)
    draw.bold(41, 19, "trained", color=ORANGE, ha="left")
    draw.arrow(19, 5.5, 12, 12)
    draw.arrow(25, 5.5, 35, 11.5)
    draw.arrow(35, 16, 35, 22)
    draw.label(36, 19, "rank", fontsize=8.5, ha="left")
    draw.arrow(12, 26, 20.5, 31.5)
    draw.arrow(35, 26.5, 24, 31.3)
    draw.label(31, 29.5, "× scale", fontsize=8.5, ha="left")
    draw.box(20, 31, 4, 4, "+", INK, fontsize=12)
    draw.arrow(24, 33, 32, 33)
    draw.label(32.5, 33, "output", fontsize=9, ha="left")
    draw.axes.plot([52, 52], [2, 40], color="#CCCCCC", linewidth=1)
    # Right, why that is useful: many adapters share the memory of one base.
    draw.bold(74, 40.2, "one base, an adapter per customer", fontsize=12)
    draw.box(56, 4, 36, 9, "base model, frozen, in memory once", BLUE, fill=PALE)
    for column, name in enumerate(("kettles", "law firm", "hospital")):
        left = 56 + column * 12.5
        draw.box(left, 19, 11, 7, f"{name}\nadapter", ORANGE, fontsize=9)
        draw.arrow(left + 5.5, 13, left + 5.5, 19)
        draw.arrow(left + 5.5, 26, left + 5.5, 31)
        draw.label(left + 5.5, 32.6, "answers", fontsize=9)
    draw.finish(
        "LoRA: the layer stays as it is; two thin matrices beside it learn the difference.",
        "Diagram of two parts. Left, one layer: the input goes both through the frozen matrix W "
        "(out times in) and through two thin trained matrices, A (rank times in) and then B (out "
        "times rank); the second result, times a scale, is added to the first. Right: one frozen "
        "base model, in memory once, carries an adapter for each of three customers, kettles, law "
        "firm and hospital, and each adapter gives its own answers.",
    )
