"""The diagrams that explain: drawn by code, sharp at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcourse.errors import SettingError
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, SKY, new_figure, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing area whose units are a tenth of an inch."""
    figure, axes = new_figure(width, height)
    axes.set_xlim(0, width * 10)
    axes.set_ylim(0, height * 10)
    axes.set_axis_off()
    return figure, axes


def draw_box(
    axes: Axes, x: float, y: float, w: float, h: float, text: str, colour: str, **style: Any
) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (x, y), w, h, boxstyle="round,pad=0,rounding_size=1.2",
            facecolor=style.pop("fill", PALE), edgecolor=colour, linewidth=1.8,
        )
    )  # fmt: skip
    axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", **style)


def draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any
) -> None:
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.5, **style},
    )  # fmt: skip


_WAYS = (
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


def three_ways() -> None:
    """Show prompting, retrieval and fine-tuning side by side, with what each asks of you."""
    figure, axes = canvas(9.6, 5.6)
    levels = {0: "none", 1: "little", 2: "some", 3: "much"}
    for column, (name, colour, steps) in enumerate(_WAYS):
        left = 22 + column * 25
        axes.text(left + 10, 53, name, ha="center", fontsize=13, fontweight="bold", color=colour)
        for row, (text, height) in enumerate(zip(steps, (8, 6, 4), strict=True)):
            bottom = (42, 32.5, 25)[row]
            fill = "white" if row != 1 else PALE
            weight = "bold" if row == 1 else "normal"
            draw_box(axes, left, bottom, 20, height, text, colour, fill=fill, fontweight=weight)
        draw_arrow(axes, (left + 10, 42), (left + 10, 38.5))
        draw_arrow(axes, (left + 10, 32.5), (left + 10, 29))
    for row, (label, values) in enumerate(_TRADE_OFFS):
        height = 19 - row * 4.2
        axes.text(1, height, label, va="center", fontweight="bold")
        for column, value in enumerate(values):
            left = 22 + column * 25
            colour = _WAYS[column][1]
            for dot in range(3):
                filled = colour if dot < value else "white"
                axes.scatter(left + 3 + dot * 3, height, s=75, color=filled, edgecolor=colour)
            axes.text(left + 12, height, levels[value], va="center")
    said = "; ".join(
        f"{label}: " + ", ".join(f"{_WAYS[c][0]} {levels[v]}" for c, v in enumerate(values))
        for label, values in _TRADE_OFFS
    )
    show(
        figure,
        "Figure. Three ways to make a model do your work. They combine. The dots are what the "
        "course expects; lesson 7 measures them.",
        "Diagram. A better prompt puts instructions and examples before the question; retrieval "
        "puts passages found in your documents before it; fine-tuning changes the model and "
        f"leaves the question alone. {said}.",
        vector=True,
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
    figure, axes = canvas(9.6, 3.4)
    for number, (key, name, about) in enumerate(LESSONS):
        row, column = divmod(number, 5)
        left, bottom = 1 + column * 19.2, 19 - row * 16
        now = key == here
        fill, colour = (SKY, INK) if now else (PALE, BLUE)
        draw_box(
            axes, left, bottom, 16, 11, f"{key}\n{name}\n{about}", colour, fill=fill, fontsize=8.4
        )
        if now:
            beside = bottom + 12 if row == 0 else bottom - 2.4  # an arrow comes in from above
            axes.text(left + 8, beside, "you are here", ha="center", fontsize=9)
        if column < 4 and number < len(LESSONS) - 1:
            draw_arrow(axes, (left + 16, bottom + 5.5), (left + 19.2, bottom + 5.5))
    axes.plot([85.8, 85.8, 9, 9], [19, 16.5, 16.5, 15], color="#555555", linewidth=1.5)
    draw_arrow(axes, (9, 16), (9, 14))
    names = ", ".join(f"{key} {name} ({about})" for key, name, about in LESSONS)
    show(
        figure,
        "Figure. The way through the course. Every lesson also runs alone.",
        f"Map of the nine lessons in order: {names}. You are at {here}.",
        vector=True,
    )


def three_heights() -> None:
    """Show the same job at the heights of torch, transformers and the one-line call."""
    figure, axes = canvas(8.4, 3.6)
    floors = (
        ("One line", "generate(model, question)", "everything chosen for you", GREEN),
        ("transformers", "tokenizer(…), model.generate(…)", "you choose the pieces", BLUE),
        ("PyTorch", "scores = model(ids).logits; ids + best", "you see every step", ORANGE),
    )
    for row, (name, code, about, colour) in enumerate(floors):
        bottom = 24.5 - row * 11.5
        draw_box(axes, 1, bottom, 18, 9, name, colour, fontsize=12, fontweight="bold")
        draw_box(
            axes, 21, bottom, 40, 9, code, colour, fill="white", family="monospace", fontsize=9
        )
        axes.text(63, bottom + 4.5, about, va="center")
        if row < 2:
            draw_arrow(axes, (10, bottom), (10, bottom - 2.5))
    show(
        figure,
        "Figure. One job at three heights. Each floor calls the one below it.",
        "Diagram of three floors. Top: one line, generate(model, question), everything is chosen "
        "for you. Middle: transformers, tokenizer and model.generate, you choose the pieces. "
        "Bottom: PyTorch, the model's scores, and the best token put behind the text, you see "
        "every step. Arrows lead from each floor down to the one it calls.",
        vector=True,
    )


def from_zero_to_chat() -> None:
    """Show where fine-tuning stands: after pretraining, before use, and again and again."""
    figure, axes = canvas(9.6, 3.2)
    stages = (
        ("nothing", "random weights", PALE, INK),
        ("base model", "knows what text\nlooks like", PALE, ORANGE),
        ("tuned model", "does what\nyou want", PALE, GREEN),
    )
    for column, (name, about, fill, colour) in enumerate(stages):
        left = 2 + column * 37
        draw_box(axes, left, 9, 18, 12, f"{name}\n\n{about}", colour, fill=fill)
    steps = (
        ("pretraining", "the web, unlabelled\nmonths, a data centre"),
        ("fine-tuning", "your records\nminutes, this machine"),
    )
    for column, (name, about) in enumerate(steps):
        left = 20 + column * 37
        draw_arrow(axes, (left, 15), (left + 19, 15))
        axes.text(left + 9.5, 19, name, ha="center", fontweight="bold")
        axes.text(left + 9.5, 9.5, about, ha="center", fontsize=9)
    axes.annotate(
        "", xy=(81, 21), xytext=(90, 21),
        arrowprops={"arrowstyle": "-|>", "color": "#555555", "connectionstyle": "arc3,rad=0.9"},
    )  # fmt: skip
    axes.text(85.5, 28.5, "again, with more\nor better records", ha="center", fontsize=9)
    show(
        figure,
        "Figure. Fine-tuning starts from a base model, or from a tuned one.",
        "Diagram from left to right. Nothing (random weights) becomes a base model by pretraining "
        "on the unlabelled web in months in a data centre. The base model, which knows what text "
        "looks like, becomes a tuned model, which does what you want, by fine-tuning on your "
        "records in minutes on this machine. An arrow leads from the tuned model back to itself: "
        "again, with more or better records.",
        vector=True,
    )


def the_loop() -> None:
    """Show that data, training and evaluation follow one another in a circle."""
    figure, axes = canvas(9.0, 3.0)
    stages = (
        ("1  prepare data", "where kinds of\nfine-tuning differ most", BLUE),
        ("2  train", "much the same\nfor all kinds", ORANGE),
        ("3  evaluate", "read answers,\ncount, compare", GREEN),
    )
    for column, (name, about, colour) in enumerate(stages):
        left = 2 + column * 32
        draw_box(axes, left, 13, 21, 11, f"{name}\n\n{about}", colour)
        if column < 2:
            draw_arrow(axes, (left + 21, 18.5), (left + 32, 18.5))
    axes.plot([76.5, 76.5, 12.5, 12.5], [13, 6, 6, 8], color="#555555", linewidth=1.5)
    draw_arrow(axes, (12.5, 7), (12.5, 13))
    axes.text(44, 3, "mend the data, then once more", ha="center")
    show(
        figure,
        "Figure. The loop. Each round mends the data by what the evaluation found.",
        "Diagram of three boxes in a row: prepare data (where kinds of fine-tuning differ most), "
        "train (much the same for all kinds), evaluate (read answers, count, compare). An arrow "
        "leads from evaluate back to prepare data: mend the data, then once more.",
        vector=True,
    )


def low_rank() -> None:
    """Show a linear layer with an adapter beside it, and one base with an adapter a customer."""
    figure, axes = canvas(9.6, 4.2)
    axes.text(22, 39.5, "one layer", ha="center", fontsize=12, fontweight="bold")
    draw_box(axes, 15, 1, 14, 4.5, "input", INK, fill="white")
    draw_box(axes, 2, 12, 20, 14, "W\nfrozen\nout × in", BLUE, fontsize=11)
    draw_box(axes, 30, 11.5, 10, 4.5, "A   rank × in", ORANGE, fill="white", fontsize=8.5)
    draw_box(axes, 30, 22, 10, 4.5, "B   out × rank", ORANGE, fill="white", fontsize=8.5)
    axes.text(41, 19, "trained", va="center", color=ORANGE, fontweight="bold")
    draw_arrow(axes, (19, 5.5), (12, 12))
    draw_arrow(axes, (25, 5.5), (35, 11.5))
    draw_arrow(axes, (35, 16), (35, 22))
    axes.text(36, 19, "rank", fontsize=8.5, va="center", ha="left")
    draw_arrow(axes, (12, 26), (20.5, 31.5))
    draw_arrow(axes, (35, 26.5), (24, 31.3))
    axes.text(31, 29, "× scale", fontsize=8.5)
    draw_box(axes, 20, 31, 4, 4, "+", INK, fill="white", fontsize=12)
    draw_arrow(axes, (24, 33), (32, 33))
    axes.text(32.5, 33, "output", va="center", fontsize=9)
    axes.plot([52, 52], [2, 40], color="#CCCCCC", linewidth=1)
    axes.text(74, 39.5, "one base, an adapter a customer", ha="center", fontsize=12,
              fontweight="bold")  # fmt: skip
    draw_box(axes, 56, 4, 36, 9, "base model, frozen, in memory once", BLUE)
    for column, name in enumerate(("kettles", "law firm", "hospital")):
        left = 56 + column * 12.5
        draw_box(axes, left, 19, 11, 7, f"{name}\nadapter", ORANGE, fill="white", fontsize=9)
        draw_arrow(axes, (left + 5.5, 13), (left + 5.5, 19))
        draw_arrow(axes, (left + 5.5, 26), (left + 5.5, 31))
        axes.text(left + 5.5, 32, "answers", ha="center", fontsize=9)
    show(
        figure,
        "Figure. LoRA: the layer stays as it is; two thin matrices beside it learn the difference.",
        "Diagram of two parts. Left, one layer: the input goes both through the frozen matrix W "
        "(out times in) and through two thin trained matrices, A (rank times in) and then B (out "
        "times rank); the second result, times a scale, is added to the first. Right: one frozen "
        "base model, in memory once, carries an adapter for each of three customers, kettles, law "
        "firm and hospital, and each adapter gives its own answers.",
        vector=True,
    )
