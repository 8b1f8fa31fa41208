"""What widgets and quizzes share: whether a person is there, the plain table, parts of a page.

What ipywidgets gives to people who use the keyboard or a screen reader: every control here is a
plain button, text box, list or check box of the browser, so Tab goes to it, Enter and Space work,
and its description is its label. In a list Space comes first, then arrows and Enter: JupyterLab
takes the arrow keys of a closed list for its own. What it does not give: shortcuts for a
widget, labels that are not seen, a caption of a group, or (before ipywidgets 8) putting the focus
somewhere. Sliders have no label in it, so numbers are typed here. A line that is read out when it
changes is plain HTML (`pages.status`); whether it is read out is up to browser and reader.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from llmcourse import pages
from llmcourse.errors import CourseError
from llmcourse.pages import Markup
from llmcourse.progress import is_live

VIEW = "application/vnd.jupyter.widget-view+json"
LONGEST = 400  # characters of a text in a plain table
DOUBLE = 0.4  # seconds within which a second press of the same button is a double click
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4;padding:4px 12px 8px 0"


class Widget(ABC):
    """A widget: controls for a person, and plain text and tables for everyone else.

    The last line of a cell shows it, or `show`. The output carries both, so that a saved notebook
    shows the plain part without any widget state. Controls are made when they are first needed:
    where a program runs the notebook, no widget state gets into the file.
    """

    @abstractmethod
    def build(self) -> Any:
        """Make the controls and put them on a page, as one widget."""

    @abstractmethod
    def fallback(self) -> dict[str, Any]:
        """What is shown where nobody can use controls: a notebook's output by kind."""

    @cached_property
    def widget(self) -> Any:
        """The controls as one widget."""
        return self.build()

    @cached_property
    def html(self) -> dict[str, Any]:
        """Places for HTML by name; "left" and "right" share a line where the page is wide."""
        import ipywidgets as w

        # 18em wide or more: two texts beside each other on a desktop, below each other on a phone.
        half = {"flex": "1 1 18em", "min_width": "0"}
        return defaultdict(w.HTML, {s: w.HTML(layout=w.Layout(**half)) for s in ("left", "right")})

    def put(self, **texts: str) -> None:
        """Put HTML into its places."""
        for name, text in texts.items():
            self.html[name].value = text

    def show(self) -> None:
        """Show the controls, or the plain part where nobody can use them."""
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the plain part, and the controls where a person can use them."""
        bundle = self.fallback()
        if is_live():
            model_id = self.widget.model_id
            # A front end shows the richest kind that it knows: the controls, else the table.
            bundle[VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle


class Threaded(Widget):
    """A widget whose work runs in a thread, so that the kernel stays free for other cells."""

    def __init__(self) -> None:
        self.stopping = threading.Event()  # set by the page, read by the work
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

    def begin(self, work: Callable[[], object]) -> None:
        """Do `work` in a thread that ends with the kernel; returns at once."""
        self.stopping.clear()
        # A daemon thread does not keep a kernel alive that is to be shut down.
        self._thread = threading.Thread(target=work, name="llmcourse widget", daemon=True)
        self._thread.start()


# --- parts of a page ------------------------------------------------------------------------------


def plain_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str
) -> dict[str, Any]:
    """A table for `Widget.fallback`, its long texts cut off."""
    return pages.output_table(columns, [[cut(str(cell)) for cell in row] for row in rows], caption)


def cut(text: str, longest: int = LONGEST) -> str:
    """`text`, cut off after so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def part(label: str, text: str) -> Markup:
    """A text under its label; markup and formulas in it stay text."""
    body = text if text.strip() else Markup("<i>(no text)</i>")
    return pages.section(label, pages.fill('<div style="{}">{}</div>', TEXT, body))


def saving_error(save: Callable[[], object]) -> str:
    """Save something for the page; returns what went wrong in words, "" where nothing did."""
    try:
        save()
    except CourseError as error:
        return f"Not saved. {error}"
    return ""


# --- controls -------------------------------------------------------------------------------------


def make_buttons(texts: Mapping[str, str], pressed: Callable[[str], object]) -> dict[str, Any]:
    """Buttons by name; `pressed` is called with the name."""
    made = {name: control("Button", text) for name, text in texts.items()}
    for name, button in made.items():
        # `name=name` binds this button's name; the loop's variable would be the last one's.
        button.on_click(lambda _, name=name: pressed(name))
    return made


def once(pressed: Callable[[str], bool], *others: str) -> Callable[[str], None]:
    """`pressed`, but not for a double click: its second half would act on what nobody has read.

    Args:
        pressed: What a button does; gets its name, and returns False if it did nothing.
        others: Buttons that may be pressed as fast as one likes.
    """
    last_name, last_time = "", -DOUBLE

    def guarded(name: str) -> None:
        nonlocal last_name, last_time
        if name not in others and name == last_name and time.monotonic() - last_time < DOUBLE:
            return
        if pressed(name):
            last_name, last_time = name, time.monotonic()

    return guarded


def control(kind: str, label: str, width: str = "auto", **settings: Any) -> Any:
    """A control of ipywidgets, such as "Dropdown", whose label is written out."""
    import ipywidgets as w

    # By default ipywidgets cuts long descriptions off. A button has none: its text is inside.
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
