"""The pictures: one palette, one typeface, every figure with a caption and alternative text.

Colours are from Okabe and Ito's set, which colour-blind people can tell apart
(https://jfly.uni-koeln.de/color/). No picture says anything by colour alone.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, INK, PALE = "#56B4E9", "#F0E442", "#222222", "#F3F5F7"
ROLE_COLOURS = {"base": ORANGE, "chat": BLUE, "tuned": GREEN}
STYLE = {
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


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in the course's style that no other plot's state can change."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
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
    with matplotlib.rc_context(STYLE):
        when = {"Date": None} if vector else {}
        figure.savefig(buffer, format=kind, dpi=110, metadata=when)
    data: str = base64.b64encode(buffer.getvalue()).decode("ascii")
    if vector:
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"'
        label += ' style="max-width:100%;height:auto"'  # a narrow page shrinks it, not cuts it
        data = buffer.getvalue().decode("utf-8").replace("<svg ", f"<svg {label} ", 1)
    display({mime: data, "text/plain": alt}, metadata={mime: {"alt": alt}}, raw=True)
    display(Markdown(f"*{caption}*"))


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
        "overflow-wrap:break-word"
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
