"""The pictures: one palette, one typeface, every figure with a caption and alternative text.

Colours are from Okabe and Ito's set, which colour-blind people can tell apart
(https://jfly.uni-koeln.de/color/). No picture says anything by colour alone.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import pages
from llmcourse.progress import is_live

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, INK, PALE = "#56B4E9", "#F0E442", "#222222", "#F3F5F7"
SHADE = "#cfcfcf"  # beside PALE, where two kinds of box take turns and mean the same
# A role has the same colour in every picture of the course.
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
    "svg.hashsalt": "llmcourse",  # else the ids in an SVG are random, and each run differs
}
# matplotlib has one style for the entire program, and a training may draw its losses in a thread.
_DRAWING = threading.RLock()


def styled(draw: Callable) -> Callable:
    """Draw in the course's style, whatever style the notebook has set for its own plots."""

    @functools.wraps(draw)
    def in_style(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with _DRAWING, matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


@styled
def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    """A figure in the course's style that no other plot's state can change."""
    from matplotlib.figure import Figure

    # Not pyplot's `figure`, which would change the notebook's current figure and stay in memory.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def label_text(text: Any) -> str:
    """`text` for a figure: a dollar sign begins no formula, a control character is "�"."""
    return re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", "�", str(text)).replace("$", r"\$")


def escape_markdown(text: Any) -> str:
    """`text` for Markdown, in which markup, HTML and formulas stay text, on one line."""
    line = html.escape(re.sub(r"\s*\n\s*", " ", str(text).strip()), quote=False)
    line = re.sub(r"[*_`\[\]|~]", lambda match: f"&#{ord(match[0])};", line)
    # MathJax looks for formulas within one element: alone in its own, "$" begins none.
    return re.sub(r"[$\\]", lambda match: f"<span>&#{ord(match[0])};</span>", line)


@styled
def encoded(figure: Figure, kind: str) -> bytes:
    """A figure as a file: "png", or "svg" without a date, so that it is the same each time."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def show_caption(caption: Any) -> None:
    """Show `caption` in italics, letter for letter; nothing where there is none."""
    from IPython.display import Markdown, display

    if caption:
        display(Markdown(f"*{escape_markdown(caption)}*"))


def show(figure: Figure, caption: str, alt: str, *, vector: bool = False) -> None:
    """Display a figure with its alternative text, and its caption below it.

    Args:
        figure: What to show.
        caption: What it says, in a sentence; plain text.
        alt: What is to be seen, for people who don't see it.
        vector: True draws lines that stay sharp at any size (for diagrams).
    """
    from IPython.display import display

    kind, mime = ("svg", "image/svg+xml") if vector else ("png", "image/png")
    image, words = encoded(figure, kind), html.escape(alt, quote=True)
    data = base64.b64encode(image).decode("ascii")
    shown = {mime: data, "text/plain": alt}
    if vector:
        # A narrow page shrinks it instead of cutting it off.
        label = f'role="img" aria-label="{words}" style="max-width:100%;height:auto"'
        shown[mime] = image.decode("utf-8").replace("<svg ", f"<svg {label} ", 1)
        # JupyterLab shows no SVG of a notebook that its reader has not run, but a PNG.
        shown["image/png"] = base64.b64encode(encoded(figure, "png")).decode("ascii")
    if is_live():  # JupyterLab's own element for a picture has no alternative text
        shown["text/html"] = f'<img src="data:{mime};base64,{data}" alt="{words}">'
    # nbconvert and our own site take the alternative text from the output's metadata.
    metadata = {kind: {"alt": alt} for kind in shown if kind.startswith("image/")}
    display(shown, metadata=metadata, raw=True)
    show_caption(caption)


def table(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    caption: str = "",
    widths: Sequence[float] | None = None,
) -> None:
    """Show rows of text as a table that wraps long cells, the first column in bold.

    Args:
        rows: One sequence of cells per row.
        columns: The headings.
        caption: Below the table; plain text.
        widths: One number per column: its part of the full width. Without it the browser shares
            the width out by the columns' contents.
    """
    from IPython.display import display

    display(pages.output_table(columns, rows, widths=widths), raw=True)
    show_caption(caption)
