"""What the pictures of ideas share: boxes, arrows, bars, and numbers from the learner's ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcourse import claims
from llmcourse.plots.base import INK, PALE, show
from llmcourse.plots.diagrams import draw_arrow, draw_box
from llmcourse.stats import Share, more_often

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 9  # points; the smallest type in a picture


class Measured:
    """This tier's ledger for pictures.

    A claim that was not measured here yet has its published numbers, marked with "*"; a number
    that is in neither is the lesson to run.

    Attributes:
        borrowed: True once a published number was asked for.
    """

    def __init__(self) -> None:
        """Read the ledger.

        Raises:
            ClaimError: it can't be read.
        """
        self._entries, self._published = claims.read(), claims.published()
        self.borrowed = False

    def value(self, claim: str, name: str) -> float | None:
        """A number, a share as a part of 1; None where it was not measured yet."""
        found = self._raw(claim, name)
        return found.value if isinstance(found, Share) else found

    def said(self, claim: str, name: str) -> str:
        """A number for people, as in "42 % (10 of 24)"; "run lesson 05" where there is none."""
        found = self._raw(claim, name)
        if found is None:
            return f"run lesson {claims.CLAIMS[claim].lesson}"
        mark = "" if claim in self._entries else "*"
        return (found.text if isinstance(found, Share) else claims.shown(found)) + mark

    def change(self, claim: str, before: str, after: str) -> str:
        """Two numbers of a claim with an arrow between; the lesson once where there are none."""
        first, second = self.said(claim, before), self.said(claim, after)
        return first if first == second == self._absent(claim) else f"{first} → {second}"

    def too_close(self, claim: str, before: str, after: str) -> bool:
        """Whether two shares of a claim lie so near that chance may have made the difference."""
        pair = [self._raw(claim, name) for name in (before, after)]
        return all(isinstance(one, Share) for one in pair) and more_often(*pair) is None

    def _absent(self, claim: str) -> str:
        return f"run lesson {claims.CLAIMS[claim].lesson}"

    def _raw(self, claim: str, name: str) -> Any:
        if claim in self._entries:
            return claims.number(self._entries[claim]["numbers"].get(name))
        found = self._published.get(claim, {}).get("numbers", {}).get(name)
        self.borrowed = self.borrowed or found is not None
        return claims.number(found)


def box(
    axes: Axes, x: float, y: float, w: float, h: float, text: str, colour: str, **style: Any
) -> None:
    """A rounded box from its lower left corner, with its text in the middle."""
    draw_box(axes, x, y, w, h, text, colour, **{"fill": "white", "color": INK, **style})


def card(
    axes: Axes, x: float, y: float, w: float, h: float, title: str, text: str, colour: str
) -> None:
    """A box with a bold title at its top and lines of text below it."""
    draw_box(axes, x, y, w, h, "", colour, fill=PALE)
    middle = x + w / 2
    label(axes, middle, y + h - 1.2, title, va="top", fontweight="bold", fontsize=11)
    label(axes, middle, y + h - 4.0, text, va="top", fontsize=SMALL, linespacing=1.35)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    """An arrow from `start` to `end`."""
    draw_arrow(axes, start, end, **{"color": INK, **style})


def label(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text with its middle at (x, y), unless `style` says otherwise."""
    usual = {"ha": "center", "va": "center", "fontsize": 10, "color": INK}
    axes.text(x, y, text, **usual | style)


def bar(
    axes: Axes, x: float, y: float, length: float, part: float | None, text: str, colour: str,
    *, hatch: str | None = None,
) -> None:  # fmt: skip
    """A bar for a part of 1, on a pale track of `length`, with its number behind the track."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y - 1.1), length, 2.2, facecolor=PALE, edgecolor="none"))
    if part:
        axes.add_patch(
            Rectangle((x, y - 1.1), length * part, 2.2, facecolor=colour, edgecolor="white",
                      hatch=hatch, linewidth=0)
        )  # fmt: skip
    label(axes, x + length + 1, y, text, ha="left", fontsize=SMALL)


def finish(figure: Figure, caption: str, alt: str, *, measured: Measured | None = None) -> None:
    """Show a picture; where it has measured numbers the caption says whose they are.

    Args:
        figure: The picture.
        caption: What it says, without the word "Figure".
        alt: What is to be seen, numbers included.
        measured: What the numbers in it were taken from, where there are any.
    """
    source = " The numbers are from your own ledger." if measured else ""
    if measured and measured.borrowed:
        source = (
            ' The numbers are from your own ledger; one with "*" is the published one, until you '
            "have run its lesson."
        )
    show(figure, f"Figure. {caption}{source}", f"Diagram. {alt}", vector=True)
