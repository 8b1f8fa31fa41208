"""The pictures: one palette, one typeface, every figure with a caption and alternative text.

Colours are from Okabe and Ito's set, which colour-blind people can tell apart
(https://jfly.uni-koeln.de/color/). No picture says anything by colour alone.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import claims
from llmcourse.claims import Share
from llmcourse.generation import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, INK, PALE = "#56B4E9", "#F0E442", "#222222", "#F3F5F7"
ROLE_COLOURS = {"base": ORANGE, "chat": BLUE, "tuned": GREEN}
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "svg.hashsalt": "llmcourse",
}


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in the course's style that no other plot's state can change."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, columns)


def show(figure: Figure, caption: str, alt: str, *, vector: bool = False) -> None:
    """Display a figure with its alternative text, and its caption below it.

    Args:
        figure: What to show.
        caption: What it says, in a sentence.
        alt: What is to be seen, for people who don't see it.
        vector: True draws lines that stay sharp at any size (for diagrams).
    """
    import matplotlib
    from IPython.display import Markdown, display

    kind, mime = ("svg", "image/svg+xml") if vector else ("png", "image/png")
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        when = {"Date": None} if vector else {}
        figure.savefig(buffer, format=kind, dpi=110, metadata=when)
    data: str = base64.b64encode(buffer.getvalue()).decode("ascii")
    if vector:
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"'
        data = buffer.getvalue().decode("utf-8").replace("<svg ", f"<svg {label} ", 1)
    display({mime: data, "text/plain": alt}, metadata={mime: {"alt": alt}}, raw=True)
    display(Markdown(f"*{caption}*"))


# --- measured numbers ---------------------------------------------------------------------------


def shares(
    measured: Mapping[str, Mapping[str, Share]], title: str, *, caption: str, note: str = ""
) -> None:
    """Show shares as bars with their 95 % intervals.

    Args:
        measured: What is on each group's axis label -> model role or name -> its share.
        title: Above the picture.
        caption: Below it.
        note: Under the horizontal axis.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        series = list(dict.fromkeys(name for group in measured.values() for name in group))
        bars = sum(len(group) for group in measured.values())
        figure, axes = _figure(7.2, 1.1 + 0.42 * bars + 0.25 * len(measured))
        place, ticks, said = 0.0, [], []
        for group, values in measured.items():
            for name, value in values.items():
                colour = _colour(name, series)
                low, high = value.interval
                axes.barh(
                    place,
                    value.value,
                    color=colour,
                    height=0.8,
                    hatch=_hatch(name, series),
                    edgecolor="white",
                )
                for colour, width in (("white", 4.5), (INK, 1.8)):  # readable on any bar
                    axes.plot([low, high], [place, place], color=colour, linewidth=width)
                axes.text(
                    max(high, value.value) + 0.02, place,
                    f"{100 * value.value:.0f} %  ({value.count} of {value.of})", va="center",
                )  # fmt: skip
                ticks.append((place, f"{group}: {name}" if group else name))
                said.append(f"{group} {name}: {value}".strip())
                place += 1
            place += 0.5
        axes.set_yticks([p for p, _ in ticks], [label for _, label in ticks])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel(note or "share of prompts; the thin line is the 95 % interval")
        axes.set_title(title, loc="left", fontweight="bold")
    show(figure, caption, f"Bar chart. {title}. " + "; ".join(said) + ".")


def dots(measured: Mapping[str, Sequence[float]], title: str, *, caption: str, label: str) -> None:
    """Show one dot an answer, a row a model, with the mean as a bar.

    Args:
        measured: Role or name -> one number an answer.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(7.2, 1.2 + 0.6 * len(measured))
        said = []
        for row, (name, values) in enumerate(measured.items()):
            if not values:
                raise ValueError(f"dots needs at least one number for {name!r}")
            colour, mean = _colour(name, list(measured)), sum(values) / len(values)
            # A fixed spread by order keeps dots apart without random draws.
            spread = [row + 0.24 * ((7 * n) % 11 / 5 - 1) for n in range(len(values))]
            axes.scatter(values, spread, color=colour, alpha=0.6, s=36, marker=_mark(row))
            axes.plot([mean, mean], [row - 0.4, row + 0.4], color=INK, linewidth=3)
            said.append(f"{name}: mean {mean:.2f}, from {min(values):.2f} to {max(values):.2f}")
        axes.set_yticks(range(len(measured)), list(measured))
        axes.set_ylim(len(measured) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.set_title(title, loc="left", fontweight="bold")
    show(figure, caption, f"Dot plot. {title}. " + "; ".join(said) + ".")


def _colour(name: str, series: Sequence[str]) -> str:
    for role, colour in ROLE_COLOURS.items():
        if role in name.lower():
            return colour
    return (BLUE, ORANGE, GREEN, PURPLE, SKY)[series.index(name) % 5]


def _hatch(name: str, series: Sequence[str]) -> str | None:
    """A pattern beside the colour, so that bars differ in black and white as well."""
    return None if series.index(name) % 2 == 0 else "///"


def _mark(row: int) -> str:
    return "os^D"[row % 4]


# --- what models wrote ---------------------------------------------------------------------------


def side_by_side(
    columns: Mapping[str, Sequence[Answer]], *, caption: str = "", characters: int = 420
) -> None:
    """Show what several models wrote to the same prompts, in columns.

    "■" marks an answer that ended by itself, "…" one that the limit cut off.

    Args:
        columns: Heading -> that model's answers, all to the same prompts.
        caption: Below the table.
        characters: Longest text shown of each answer.
    """
    asked = {tuple(answer.prompt for answer in answers) for answers in columns.values()}
    if len(asked) != 1:
        raise ValueError("side_by_side needs answers to the same prompts in every column")
    rows = [
        [answers[0].prompt, *(_shortened(answer, characters) for answer in answers)]
        for answers in zip(*columns.values(), strict=True)
    ]
    table(rows, ["prompt", *columns], caption=caption)


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str], *, caption: str = "") -> None:
    """Show rows of text as a table that wraps long cells, the first column in bold.

    Everything is escaped, so that markup in what a model wrote stays text.

    Args:
        rows: One sequence of cells a row.
        columns: The headings.
        caption: Below the table.
    """
    from IPython.display import Markdown, display

    rows = [[str(cell) for cell in row] for row in rows]
    style = (
        "text-align:left;vertical-align:top;padding:4px 10px;white-space:pre-wrap;"
        "overflow-wrap:anywhere"
    )

    def cell(tag: str, text: str, scope: str = "") -> str:
        return f'<{tag}{scope} style="{style}">{html.escape(text)}</{tag}>'

    head = "".join(cell("th", name, ' scope="col"') for name in columns)
    row = ' scope="row"'
    body = "".join(
        "<tr>" + cell("th", first, row) + "".join(cell("td", text) for text in rest) + "</tr>"
        for first, *rest in rows
    )
    page = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    plain = "\n\n".join(
        "\n".join(f"{name}: {text}" for name, text in zip(columns, cells, strict=True))
        for cells in rows
    )
    display({"text/html": page, "text/plain": plain}, raw=True)
    if caption:
        display(Markdown(f"*{caption}*"))


def ledger(lesson: str | None = None) -> None:
    """Show this tier's ledger, or one lesson's rows of it, as a table."""
    rows = claims.rows(lesson=lesson)
    notes = "; ".join(claims.notes(lesson=lesson))
    table(
        [row.values() for row in rows],
        ["claim", "measured", "value", "holds here"],
        caption=f"Notes. {notes}" if notes else "",
    )


def _shortened(answer: Answer, characters: int) -> str:
    text = answer.text.strip("\n") or "(nothing)"
    if len(text) > characters:
        return text[:characters].rstrip() + " […]"
    return text + (" ■" if answer.finished else " …")


# --- diagrams ------------------------------------------------------------------------------------


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing area whose units are a tenth of an inch."""
    figure, axes = _figure(width, height)
    axes.set_xlim(0, width * 10)
    axes.set_ylim(0, height * 10)
    axes.set_axis_off()
    return figure, axes


def _box(
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


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
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
    figure, axes = _canvas(9.6, 5.6)
    levels = {0: "none", 1: "little", 2: "some", 3: "much"}
    for column, (name, colour, steps) in enumerate(_WAYS):
        left = 22 + column * 25
        axes.text(left + 10, 53, name, ha="center", fontsize=13, fontweight="bold", color=colour)
        for row, (text, height) in enumerate(zip(steps, (8, 6, 4), strict=True)):
            bottom = (42, 32.5, 25)[row]
            fill = "white" if row != 1 else PALE
            weight = "bold" if row == 1 else "normal"
            _box(axes, left, bottom, 20, height, text, colour, fill=fill, fontweight=weight)
        _arrow(axes, (left + 10, 42), (left + 10, 38.5))
        _arrow(axes, (left + 10, 32.5), (left + 10, 29))
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
    """Show the way through the lessons, with the present one marked."""
    figure, axes = _canvas(9.6, 3.4)
    for number, (key, name, about) in enumerate(LESSONS):
        row, column = divmod(number, 5)
        left, bottom = 1 + column * 19.2, 19 - row * 16
        now = key == here
        fill, colour = (SKY, INK) if now else (PALE, BLUE)
        _box(axes, left, bottom, 16, 11, f"{key}\n{name}\n{about}", colour, fill=fill, fontsize=8.4)
        if now:
            axes.text(left + 8, bottom + 12, "you are here", ha="center", fontsize=9)
        if column < 4 and number < len(LESSONS) - 1:
            _arrow(axes, (left + 16, bottom + 5.5), (left + 19.2, bottom + 5.5))
    axes.plot([85.8, 85.8, 9, 9], [19, 16.5, 16.5, 15], color="#555555", linewidth=1.5)
    _arrow(axes, (9, 16), (9, 14))
    names = ", ".join(f"{key} {name} ({about})" for key, name, about in LESSONS)
    show(
        figure,
        "Figure. The way through the course. Every lesson also runs alone.",
        f"Map of the nine lessons in order: {names}. You are at {here}.",
        vector=True,
    )


def three_heights() -> None:
    """Show the same job at the heights of torch, transformers and the one-line call."""
    figure, axes = _canvas(8.4, 3.6)
    floors = (
        ("One line", "generate(model, question)", "everything chosen for you", GREEN),
        ("transformers", "tokenizer(…), model.generate(…)", "you choose the pieces", BLUE),
        ("PyTorch", "scores = model(ids).logits; ids + best", "you see every step", ORANGE),
    )
    for row, (name, code, about, colour) in enumerate(floors):
        bottom = 24.5 - row * 11.5
        _box(axes, 1, bottom, 18, 9, name, colour, fontsize=12, fontweight="bold")
        _box(axes, 21, bottom, 40, 9, code, colour, fill="white", family="monospace", fontsize=9)
        axes.text(63, bottom + 4.5, about, va="center")
        if row < 2:
            _arrow(axes, (10, bottom), (10, bottom - 2.5))
    show(
        figure,
        "Figure. One job at three heights. Each floor calls the one below it.",
        "Diagram of three floors. Top: one line, generate(model, question), everything is chosen "
        "for you. Middle: transformers, tokenizer and model.generate, you choose the pieces. "
        "Bottom: PyTorch, the model's scores, and the best token put behind the text, you see "
        "every step. Arrows lead from each floor down to the one it calls.",
        vector=True,
    )
