"""All HTML of the course: one page, one table and a few parts, from the template `pages.html`.

Texts are escaped unless they are `Markup`, which only this module's functions and constants
written in the code should be. A page runs no scripts and fetches nothing from the network.
"""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from llmcourse.errors import DataError, first_line
from llmcourse.files import write_text

# Whatever a text in the page says, a browser runs nothing and fetches nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# A notebook's tables have no style sheet of their own, so each cell carries its style.
CELL = (
    "text-align:left;vertical-align:top;padding:4px 10px;white-space:pre-wrap;"
    "overflow-wrap:break-word"
)


def escape(text: Any) -> Markup:
    """`text` with markup escaped and control characters visible; `Markup` stays as it is."""
    if isinstance(text, Markup):
        return text
    # Control characters and halves of characters are no HTML; "�" shows that something was there.
    visible = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", "�", str(text))
    return Markup(html.escape(visible))


# The macros of the template, called like functions. `finalize` gets each value that they write.
_PARTS: Any = (
    jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=escape,
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error, not an empty text
        trim_blocks=True,
    )
    .get_template("pages.html")
    .module
)


def fill(template: str, *values: Any, **named: Any) -> Markup:
    """`template.format(…)` with every value escaped."""
    return Markup(template).format(*map(escape, values), **{n: escape(v) for n, v in named.items()})


def paragraph(text: Any) -> Markup:
    """A paragraph of plain text."""
    return fill("<p>{}</p>", text)


def bullets(lines: Iterable[Any], *, lettered: bool = False, style: str = "") -> Markup:
    """A list, with letters where `lettered`; nothing where there are no lines."""
    lines = list(lines)
    tag = Markup('ol type="A"') if lettered else "ul"
    return _PARTS.bullets(lines, tag, style) if lines else Markup("")


def details(summary: str, body: Any) -> Markup:
    """A part that opens on Enter or a click."""
    return _PARTS.details(summary, body)


def section(label: str, body: Any) -> Markup:
    """A part of a widget under its label."""
    return without_formulas(_PARTS.section(label, body))


def status(text: str, style: str = "") -> Markup:
    """A line that screen readers read out when it changes; nothing where there is no text."""
    return without_formulas(_PARTS.status(text, style)) if text else Markup("")


def picture(png: bytes, alt: str, caption: str) -> Markup:
    """A picture inside the page, with its alternative text."""
    return _PARTS.picture(base64.b64encode(png).decode("ascii"), alt, caption)


def table(
    columns: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    caption: str = "",
    *,
    shared: int = 0,
    widths: Sequence[float] | None = None,
    style: str = "",
) -> Markup:
    """A table whose rows begin with their heading.

    Args:
        columns: The headings.
        rows: One cell for each column.
        caption: Above the table, which then scrolls by itself, by keyboard too.
        shared: So many first cells are written once for neighbouring rows that share them.
        widths: One number per column: its part of the full width.
        style: Of each cell, for places that have no style sheet, like a notebook.
    """
    # Without shared cells every row is a group of its own.
    by = itertools.groupby(map(list, rows), key=lambda row: row[:shared] or id(row))
    groups = [list(group) for _, group in by]
    widths = widths or ()
    percent = [f"{100 * width / sum(widths):.0f}" for width in widths]
    return _PARTS.table(list(columns), groups, shared, caption, percent, style)


def output_table(
    columns: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    caption: str = "",
    widths: Sequence[float] | None = None,
) -> dict[str, str]:
    """A table as a notebook's output: HTML, and plain text for a viewer that shows no HTML.

    Everything is escaped, so that markup and formulas in what a model wrote stay text.

    Args:
        columns, rows, caption, widths: See `table`.
    """
    columns, rows = [*map(str, columns)], [[*map(str, row)] for row in rows]
    page = without_formulas(table(columns, rows, caption, widths=widths, style=CELL))
    lines = (map(": ".join, zip(columns, row, strict=True)) for row in rows)
    plain = "\n\n".join(map("\n".join, lines)) or f"{', '.join(columns)}: nothing"
    return {"text/html": str(page), "text/plain": plain}


def without_formulas(body: Any) -> Any:
    """HTML for a notebook whose dollar signs and backslashes begin no formula."""
    # Only where there is something to protect: the saved notebooks stay readable.
    if not re.search(r"[$\\]", body):
        return body
    return type(body)(f'<div class="tex2jax_ignore mathjax_ignore">{body}</div>')


def page(title: str, lead: str, sections: Mapping[str, Markup]) -> str:
    """A complete page: a title, a sentence, and sections (heading -> body) with links to them."""
    return str(_PARTS.page(title, lead, sections, POLICY))


def save(path: Path | str, text: str) -> Path:
    """Write a page; a reader sees the old file or the complete new one.

    Returns:
        The file's full path.

    Raises:
        DataError: `path` is no .html file, or can't be written.
        NoSpace: the disk is full.
    """
    target = Path(path).expanduser().absolute()
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise DataError(f"{path}: name a file that ends in .html.")
    try:
        write_text(target, text)
    except OSError as error:
        raise DataError(f"{path} can't be written ({first_line(error)}).") from error
    return target
