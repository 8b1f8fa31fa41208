"""The pictures: one palette, one typeface, every figure with a caption and alternative text.

Colours are from Okabe and Ito's set, which colour-blind people can tell apart
(https://jfly.uni-koeln.de/color/). No picture says anything by colour alone.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.errors import DataError
from llmcourse.progress import is_live

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, INK, PALE = "#56B4E9", "#F0E442", "#222222", "#F3F5F7"
SHADE = "#cfcfcf"  # beside PALE, where two kinds of box take turns and mean the same
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


def drawn(text: Any) -> str:
    """`text` for a figure: a dollar sign begins no formula, a control character is "�"."""
    return re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", "�", str(text)).replace("$", r"\$")


def escaped(text: Any) -> str:
    """`text` for Markdown, in which markup, HTML and formulas stay text, on one line."""
    line = html.escape(re.sub(r"\s*\n\s*", " ", str(text).strip()), quote=False)
    line = re.sub(r"[*_`\[\]|~]", lambda sign: f"&#{ord(sign[0])};", line)
    # Within an element of its own a sign begins no formula.
    return re.sub(r"[$\\]", lambda sign: f"<span>&#{ord(sign[0])};</span>", line)


def without_formulas(page: str) -> str:
    """An HTML page whose dollar signs and backslashes begin no formula."""
    if not re.search(r"[$\\]", page):
        return page
    return f'<div class="tex2jax_ignore mathjax_ignore">{page}</div>'


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
    import matplotlib
    from IPython.display import display

    kind, mime = ("svg", "image/svg+xml") if vector else ("png", "image/png")
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        when = {"Date": None} if vector else {}
        figure.savefig(buffer, format=kind, dpi=110, metadata=when)
    data = encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    more: dict[str, str] = {}
    if vector:
        # JupyterLab shows no SVG of a notebook that its reader has not run: dots stand in for it.
        dots = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            figure.savefig(dots, format="png", dpi=110)
        more["image/png"] = base64.b64encode(dots.getvalue()).decode("ascii")
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"'
        label += ' style="max-width:100%;height:auto"'  # a narrow page shrinks it, not cuts it
        data = buffer.getvalue().decode("utf-8").replace("<svg ", f"<svg {label} ", 1)
    shown = {mime: data, "text/plain": alt} | more
    if is_live():  # JupyterLab's own element for a picture has no alternative text
        shown["text/html"] = (
            f'<img src="data:{mime};base64,{encoded}" alt="{html.escape(alt, quote=True)}">'
        )
    display(shown, metadata={one: {"alt": alt} for one in (mime, *more)}, raw=True)
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
        rows: One sequence of cells a row.
        columns: The headings.
        caption: Below the table; plain text.
        widths: One number a column: its part of the whole width. Without it the browser shares
            the width out by what stands in the columns.

    Raises:
        DataError: a row has not one cell for each heading, or `widths` not one number.
    """
    from IPython.display import display

    columns = [str(name) for name in columns]
    rows = [_cells(row, number, columns) for number, row in enumerate(rows)]
    style = (
        "text-align:left;vertical-align:top;padding:4px 10px;white-space:pre-wrap;"
        "overflow-wrap:break-word"
    )

    def cell(tag: str, text: str, scope: str = "", width: str = "") -> str:
        return f'<{tag}{scope} style="{style}{width}">{html.escape(text)}</{tag}>'

    wide, shares = "", [""] * len(columns)
    if widths is not None:
        if len(widths) != len(columns):
            raise DataError(f"widths has {len(widths)} numbers for {len(columns)} columns.")
        wide = ' style="table-layout:fixed;width:100%"'
        shares = [f";width:{100 * width / sum(widths):.0f}%" for width in widths]
    head = "".join(
        cell("th", name, ' scope="col"', share) for name, share in zip(columns, shares, strict=True)
    )
    row = ' scope="row"'
    body = "".join(
        "<tr>" + cell("th", first, row) + "".join(cell("td", text) for text in rest) + "</tr>"
        for first, *rest in rows
    )
    page = f"<table{wide}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    plain = "\n\n".join(
        "\n".join(f"{name}: {text}" for name, text in zip(columns, cells, strict=True))
        for cells in rows
    )
    display({"text/html": without_formulas(page), "text/plain": plain}, raw=True)
    show_caption(caption)


def _cells(row: Any, number: int, columns: Sequence[str]) -> list[str]:
    """A table's row as text.

    Raises:
        DataError: it has not a cell for each column.
    """
    cells = None if isinstance(row, str) or not isinstance(row, Iterable) else [*map(str, row)]
    if not cells or len(cells) != len(columns):
        raise DataError(
            f"Row {number} (counted from 0) must have one cell for each of "
            f"{', '.join(map(repr, columns)) or 'no columns'}, but it is {row!r:.60}"
        )
    return cells
