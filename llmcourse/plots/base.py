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
from llmcourse.errors import DataError
from llmcourse.progress import is_live

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, INK, PALE = "#56B4E9", "#F0E442", "#222222", "#F3F5F7"
SHADE = "#cfcfcf"  # beside PALE, where two kinds of box take turns and mean the same
# A notebook's tables have no style sheet of their own.
CELL = (
    "text-align:left;vertical-align:top;padding:4px 10px;white-space:pre-wrap;"
    "overflow-wrap:break-word"
)
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


# The style is one for the whole program, and a training may draw its losses in a thread.
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

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def drawn(text: Any) -> str:
    """`text` for a figure: a dollar sign begins no formula, a control character is "�"."""
    return re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", "�", str(text)).replace("$", r"\$")


def escaped(text: Any) -> str:
    """`text` for Markdown, in which markup, HTML and formulas stay text, on one line."""
    line = html.escape(re.sub(r"\s*\n\s*", " ", str(text).strip()), quote=False)
    line = re.sub(r"[*_`\[\]|~]", lambda sign: f"&#{ord(sign[0])};", line)
    # Within an element of its own a sign begins no formula.
    return re.sub(r"[$\\]", lambda sign: f"<span>&#{ord(sign[0])};</span>", line)


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
        display(Markdown(f"*{escaped(caption)}*"))


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
    image = encoded(figure, kind)
    data = base64.b64encode(image).decode("ascii")
    shown = {mime: data, "text/plain": alt}
    if vector:
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"'
        label += ' style="max-width:100%;height:auto"'  # a narrow page shrinks it, not cuts it
        shown[mime] = image.decode("utf-8").replace("<svg ", f"<svg {label} ", 1)
        # JupyterLab shows no SVG of a notebook that its reader has not run: the PNG stands in.
        shown["image/png"] = base64.b64encode(encoded(figure, "png")).decode("ascii")
    if is_live():  # JupyterLab's own element for a picture has no alternative text
        shown["text/html"] = (
            f'<img src="data:{mime};base64,{data}" alt="{html.escape(alt, quote=True)}">'
        )
    metadata = {kind: {"alt": alt} for kind in shown if kind.startswith("image/")}
    display(shown, metadata=metadata, raw=True)
    show_caption(caption)


class Canvas:
    """One place on the page whose picture is replaced by the next one drawn inside `with`."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __enter__(self) -> None:
        from IPython.utils.capture import capture_output

        self._capture = capture_output()
        self._taken = self._capture.__enter__()

    def __exit__(self, *raised: Any) -> None:
        from IPython.display import display

        self._capture.__exit__(*raised)
        for output in self._taken.outputs if raised[0] is None else []:
            if any(kind.startswith("image/") for kind in output.data):
                shown = {"metadata": output.metadata, "raw": True}
                if self._handle is None:
                    self._handle = display(output.data, display_id=True, **shown)
                else:
                    self._handle.update(output.data, **shown)


def table(
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str],
    *,
    caption: str = "",
    widths: Sequence[float] | None = None,
) -> None:
    """Show rows of text as a table that wraps long cells, the first column in bold.

    Everything is escaped, so that markup in what a model wrote stays text.

    Args:
        rows: One sequence of cells per row.
        columns: The headings.
        caption: Below the table; plain text.
        widths: One number per column: its part of the full width. Without it the browser shares
            the width out by the columns' contents.

    Raises:
        DataError: a row or `widths` has not one entry for each heading.
    """
    from IPython.display import display

    columns = [str(name) for name in columns]
    rows = [[*map(str, row)] for row in rows]
    for row in [*rows, columns if widths is None else widths]:
        if len(row) != len(columns):
            raise DataError(f"{row!r:.60} has {len(row)} entries for {len(columns)} columns.")
    page = pages.table(columns, rows, widths=widths, style=CELL)
    plain = "\n\n".join(
        "\n".join(f"{name}: {text}" for name, text in zip(columns, cells, strict=True))
        for cells in rows
    )
    display({"text/html": pages.without_formulas(page), "text/plain": plain}, raw=True)
    show_caption(caption)
