"""What all widgets share: whether a person is there, the plain table, and parts of a page.

What ipywidgets gives to people who use the keyboard or a screen reader: every control here is a
plain button, text box, list or check box of the browser, so Tab goes to it, Enter and Space work,
and its description is its label. In a list Space comes first, then arrows and Enter: JupyterLab
takes the arrow keys of a closed list for its own. What it does not give: shortcuts for a
widget, labels that are not seen, a caption of a group, or (before ipywidgets 8) putting the focus
somewhere. Sliders have no label in it, so numbers are typed here. A line that is read out when it
changes is plain HTML (`status`); whether it is read out is up to browser and reader.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from llmcourse import pages
from llmcourse.errors import CourseError
from llmcourse.pages import Markup
from llmcourse.plots.base import CELL
from llmcourse.progress import is_live

VIEW = "application/vnd.jupyter.widget-view+json"
LONGEST = 400  # characters of a text in a plain table
DOUBLE = 0.4  # seconds within which a second press of the same button is a double click
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4;padding:4px 12px 8px 0"

Table = tuple[Sequence[str], Sequence[Sequence[Any]], str]  # headings, rows and caption


class Widget(ABC):
    """A widget: controls for a person, and a plain table for everyone else.

    The last line of a cell shows it, or `show`. The controls carry the plain table, so that a
    saved notebook shows it without any widget state. Controls are made when they are first needed:
    where a program runs the notebook, no widget state gets into the file.
    """

    @abstractmethod
    def _build(self) -> Any:
        """Put the controls on a page."""

    def _table(self) -> Table:
        """The plain table: headings, rows and a caption."""
        raise NotImplementedError

    @cached_property
    def widget(self) -> Any:
        """The controls as one widget."""
        return self._build()

    @cached_property
    def _html(self) -> dict[str, Any]:
        """Places for HTML by name; "left" and "right" share a line where the page is wide."""
        import ipywidgets as w

        half = {"flex": "1 1 18em", "min_width": "0"}
        return defaultdict(w.HTML, {s: w.HTML(layout=w.Layout(**half)) for s in ("left", "right")})

    def _put(self, **texts: str) -> None:
        """Put HTML into its places."""
        for name, text in texts.items():
            self._html[name].value = text

    def show(self) -> None:
        """Show the controls, or the plain table where nobody can use them."""
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the plain table, and the controls where a person can use them."""
        bundle = self._static()
        if is_live():
            model_id = self.widget.model_id
            bundle[VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle

    def _static(self) -> dict[str, Any]:
        """The plain table as HTML and as text."""
        columns, rows, caption = self._table()
        if not rows:
            return {"text/plain": repr(self)}
        rows = [[cut(str(cell)) for cell in row] for row in rows]
        lines = [map(": ".join, zip(columns, row, strict=True)) for row in rows]
        table = pages.without_formulas(pages.table(columns, rows, caption, style=CELL))
        return {"text/html": str(table), "text/plain": "\n\n".join(map("\n".join, lines))}


class Threaded(Widget):
    """A widget whose work runs in a thread, so that the kernel stays free for other cells."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of the work, at most so long; returns whether it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _begin(self, work: Callable[[], object]) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=work, name="llmcourse widget", daemon=True)
        self._thread.start()


def cut(text: str, longest: int = LONGEST) -> str:
    """`text`, cut off behind so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def status(text: str) -> Markup:
    """A line that screen readers read out when it changes."""
    return pages.status(text) if text else Markup("")


def part(label: str, text: str) -> Markup:
    """A text under its label; markup and formulas in it stay text."""
    body = text if text.strip() else Markup("<i>(no text)</i>")
    return pages.section(label, pages.fill('<div style="{}">{}</div>', TEXT, body))


def problem(act: Callable[[], object]) -> str:
    """Do something for the page; returns what went wrong in words, "" where nothing did."""
    try:
        act()
    except CourseError as error:
        return f"Not saved. {error}"
    return ""


def make_buttons(texts: Mapping[str, str], pressed: Callable[[str], object]) -> dict[str, Any]:
    """Buttons by name; `pressed` is called with the name."""
    made = {name: control("Button", text) for name, text in texts.items()}
    for name, button in made.items():
        button.on_click(lambda _, name=name: pressed(name))
    return made


def once(pressed: Callable[[str], bool], *others: str) -> Callable[[str], None]:
    """`pressed`, but not for a double click: its second half would act on what nobody has read.

    Args:
        pressed: What a button does; gets its name, and returns False if it did nothing.
        others: Buttons that may be pressed as fast as one likes.
    """
    last = ["", -DOUBLE]

    def guarded(name: str) -> None:
        if name not in others and name == last[0] and time.monotonic() - last[1] < DOUBLE:
            return
        if pressed(name):
            last[:] = name, time.monotonic()

    return guarded


def control(kind: str, label: str, width: str = "auto", **settings: Any) -> Any:
    """A control of ipywidgets, such as "Dropdown", whose label is written out."""
    import ipywidgets as w

    style = {} if kind == "Button" else {"style": {"description_width": "initial"}}
    return getattr(w, kind)(description=label, layout=w.Layout(width=width), **style, **settings)


def row(*children: Any) -> Any:
    """Controls beside each other, below each other where the page is narrow."""
    import ipywidgets as w

    return w.HBox(children, layout=w.Layout(flex_flow="row wrap"))


def column(*children: Any) -> Any:
    """Controls below each other."""
    import ipywidgets as w

    return w.VBox(children)
