"""What all widgets share: whether a person is there, the plain stand-in, and text on the page.

What ipywidgets gives to people who use the keyboard or a screen reader: every control here is a
plain button, text box, list or check box of the browser, so Tab goes to it, Enter and Space work,
and its description is its label. In a list Space comes first, then arrows and Enter: JupyterLab
takes the arrow keys of a closed list for its own. What it does not give: shortcuts for a whole
widget, labels that are not seen, a caption of a group, or (before ipywidgets 8) putting the focus
somewhere. Sliders have no label in it, so numbers are typed here. A line that is read out when it
changes is plain HTML (`status`); whether it is read out is up to browser and reader.
"""

from __future__ import annotations

import html
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.errors import CourseError
from llmcourse.pages import without_formulas
from llmcourse.progress import is_live

if TYPE_CHECKING:
    import ipywidgets

VIEW = "application/vnd.jupyter.widget-view+json"
LONGEST = 400  # signs of a text in a plain table
DOUBLE = 0.4  # seconds within which a second press of the same button is a double click
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4;padding:4px 12px 8px 0"


class Shown(ABC):
    """Something with controls for a person, and a plain table for everyone else.

    The last line of a cell shows it, or `show`. The controls have the plain table with them, so
    that a saved notebook shows it without any widget state. A subclass makes its page, whose
    `box` is the whole, in `_make`, and shows its table in `_show_plain`.
    """

    _page: Any = None

    @abstractmethod
    def _make(self) -> Any:
        """The page with the controls."""

    @abstractmethod
    def _show_plain(self) -> None:
        """Show the plain table."""

    @property
    def page(self) -> Any:
        """The controls, made once."""
        if self._page is None:
            self._page = self._make()
        return self._page

    @property
    def widget(self) -> ipywidgets.Widget:
        """The whole as one widget."""
        return self.page.box

    def show(self) -> None:
        """Show the controls, or the plain table where nobody can use them."""
        from IPython.display import display

        if is_live():
            display(self._repr_mimebundle_(), raw=True)
        else:
            self._show_plain()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the plain table, and the controls where a person can use them."""
        bundle = {"text/plain": repr(self)} | self._plain()
        if is_live():
            model_id = self.widget.model_id
            bundle[VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle

    def _plain(self) -> dict[str, Any]:
        """The plain table as data of a notebook's output; none outside IPython."""
        from IPython.utils.capture import capture_output

        with capture_output() as captured:
            self._show_plain()
        return captured.outputs[0].data if captured.outputs else {}


def cut(text: str, longest: int = LONGEST) -> str:
    """`text` for a plain table: at most so many signs."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def status(text: str) -> str:
    """A line that screen readers read out when it changes."""
    return f'<div role="status" aria-live="polite">{html.escape(text)}</div>' if text else ""


def part(label: str, text: str) -> str:
    """A text under its label; markup and formulas in it stay text."""
    body = html.escape(text) if text.strip() else "<i>(no text)</i>"
    return section(label, f'<div style="{TEXT}">{body}</div>')


def section(label: str, page: str) -> str:
    """HTML under a label; formulas in it stay text."""
    name = html.escape(label, quote=True)
    return without_formulas(f'<section aria-label="{name}"><b>{name}</b>{page}</section>')


def told(act: Callable[[], object], failed: str = "") -> str:
    """Do something for the page; returns what went wrong in words, "" where nothing did."""
    try:
        act()
    except CourseError as error:
        return f"{failed} {error}".strip()
    return ""


def buttons(texts: Mapping[str, str], pressed: Callable[[str], object]) -> dict[str, Any]:
    """Buttons by name; `pressed` is called with the name."""
    import ipywidgets as w

    made = {}
    for name, text in texts.items():
        made[name] = w.Button(description=text, layout=w.Layout(width="auto"))
        made[name].on_click(lambda _, name=name: pressed(name))
    return made


def once(pressed: Callable[[str], bool | None], *others: str) -> Callable[[str], None]:
    """`pressed`, but not for a double click, whose second half would go to what nobody has read.

    Args:
        pressed: What a button does; gets its name, and returns False where it did nothing.
        others: Buttons that may be pressed as fast as one likes.
    """
    last = ["", -DOUBLE]

    def guarded(name: str) -> None:
        if name not in others and name == last[0] and time.monotonic() - last[1] < DOUBLE:
            return
        if pressed(name) is not False:
            last[:] = name, time.monotonic()

    return guarded


def row(*children: Any) -> ipywidgets.HBox:
    """Controls beside each other, below each other where the page is narrow."""
    import ipywidgets as w

    return w.HBox(list(children), layout=w.Layout(flex_flow="row wrap"))


def wide(**more: Any) -> dict[str, Any]:
    """Settings of a control as wide as the page whose label is written out."""
    import ipywidgets as w

    return {"layout": w.Layout(width="98%"), "style": {"description_width": "initial"}, **more}


def narrow(width: str = "auto") -> dict[str, Any]:
    """Settings of a small control whose label is written out."""
    import ipywidgets as w

    return {"layout": w.Layout(width=width), "style": {"description_width": "initial"}}


def halves() -> list[Any]:
    """Two places for HTML beside each other, below each other where the page is narrow."""
    import ipywidgets as w

    return [w.HTML(layout=w.Layout(flex="1 1 18em", min_width="0")) for _ in range(2)]
