"""What the pictures of ideas share: boxes, arrows, bars, and numbers from the learner's ledger."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from llmcourse import claims
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, SKY, YELLOW, new_figure, show
from llmcourse.stats import Share, more_often

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
        self._own, self._published = claims.read(), claims.published()
        self.borrowed = False

    def value(self, claim: str, name: str) -> float | None:
        """A number, a share as a part of 1; None where it was not measured yet."""
        found = self._number(claim, name)
        return found.value if isinstance(found, Share) else found

    def text(self, claim: str, name: str) -> str:
        """A number for people, as in "42 % (10 of 24)"; "run lesson 05" where there is none."""
        found = self._number(claim, name)
        if found is None:
            return f"run lesson {claims.CLAIMS[claim].lesson}"
        mark = "" if claim in self._own else "*"
        return (found.text if isinstance(found, Share) else claims.shown(found)) + mark

    def texts(self, claim: str, what: str, roles: Iterable[str] = ("base", "tuned")) -> list[str]:
        """What was measured for each role, for people; see `text`."""
        return [self.text(claim, f"{role}: {what}") for role in roles]

    def change(self, claim: str, before: str, after: str) -> str:
        """Two numbers of a claim with an arrow between; the lesson once where there are none."""
        first, second = self.text(claim, before), self.text(claim, after)
        missing = first == second == f"run lesson {claims.CLAIMS[claim].lesson}"
        return first if missing else f"{first} → {second}"

    def too_close(self, claim: str, before: str, after: str) -> bool:
        """Whether two shares of a claim lie so near that chance may have made the difference."""
        # Of plain means there is no test here: the ledger has no single values.
        pair = [self._number(claim, name) for name in (before, after)]
        return all(isinstance(one, Share) for one in pair) and more_often(*pair) is None

    def _number(self, claim: str, name: str) -> Any:
        if claim in self._own:
            return claims.number(self._own[claim]["numbers"].get(name))
        found = self._published.get(claim, {}).get("numbers", {}).get(name)
        self.borrowed = self.borrowed or found is not None
        return claims.number(found)


class Sketch:
    """An empty drawing area whose units are a tenth of an inch, from its lower left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.figure, self.axes = new_figure(width, height)
        # Inches are the unit of fonts too, so text has the same size against boxes in each picture.
        self.axes.set(xlim=(0, width * 10), ylim=(0, height * 10))
        self.axes.set_axis_off()

    @cached_property
    def measured(self) -> Measured:
        """The learner's ledger; once it was read, the caption names it as the source."""
        return Measured()

    def label(self, x: float, y: float, text: str, **style: Any) -> None:
        """Text with its middle at (x, y), unless `style` says otherwise."""
        usual = {"ha": "center", "va": "center", "fontsize": 10, "color": INK}
        self.axes.text(x, y, text, **usual | style)

    def bold(self, x: float, y: float, text: str, **style: Any) -> None:
        """A bold label."""
        self.label(x, y, text, **{"fontweight": "bold", **style})

    def box(
        self, x: float, y: float, w: float, h: float, text: str, colour: str, **style: Any
    ) -> None:
        """A rounded box from its lower left corner, with its text in the middle."""
        from matplotlib.patches import FancyBboxPatch

        fill, rounded = style.pop("fill", "white"), "round,pad=0,rounding_size=1.2"
        frame = {"facecolor": fill, "edgecolor": colour, "linewidth": 1.8}
        self.axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=rounded, **frame))
        self.label(x + w / 2, y + h / 2, text, **style)

    def card(
        self, x: float, y: float, w: float, h: float, title: str, text: str, colour: str
    ) -> None:
        """A box with a bold title at its top and lines of text below it."""
        self.box(x, y, w, h, "", colour, fill=PALE)
        self.bold(x + w / 2, y + h - 1.2, title, va="top", fontsize=11)
        self.label(x + w / 2, y + h - 4, text, va="top", fontsize=SMALL, linespacing=1.35)

    def arrow(self, x: float, y: float, to_x: float, to_y: float, **style: Any) -> None:
        """An arrow from (x, y) to (to_x, to_y)."""
        look = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.5, **style}
        self.axes.annotate("", xy=(to_x, to_y), xytext=(x, y), arrowprops=look)

    def path(self, xs: list[float], ys: list[float]) -> None:
        """A line through points; its last piece is an arrow."""
        # An annotation draws the last piece only: matplotlib has no arrow with corners.
        self.axes.plot(xs[:-1], ys[:-1], color=INK, linewidth=1.5)
        self.arrow(xs[-2], ys[-2], xs[-1], ys[-1])

    def bar(
        self,
        x: float,
        y: float,
        length: float,
        part: float | None,
        text: str,
        colour: str,
        hatch: str | None = None,
    ) -> None:
        """A bar for a part of 1, on a pale track of `length`, with its number behind the track."""
        # The track shows where 100 % would be, as the picture has no axis.
        track = {"y": y, "height": 2.2, "left": x}
        self.axes.barh(width=length, facecolor=PALE, edgecolor="none", **track)
        look = {"facecolor": colour, "edgecolor": "white", "hatch": hatch, "linewidth": 0}
        self.axes.barh(width=length * (part or 0), **look, **track)
        self.label(x + length + 1, y, text, ha="left", fontsize=SMALL)

    def finish(self, caption: str, alt: str) -> None:
        """Show the picture; where it has measured numbers the caption says whose they are.

        Args:
            caption: What it says, without the word "Figure".
            alt: What is to be seen, numbers included.
        """
        source = ""
        if "measured" in self.__dict__:  # the property was read, so the ledger was
            source = " The numbers are from your own ledger."
            if self.measured.borrowed:
                source = (
                    ' The numbers are from your own ledger; one with "*" is the published one, '
                    "until you have run its lesson."
                )
        show(self.figure, f"Figure. {caption}{source}", alt, vector=True)


def one_line(text: str) -> str:
    """A label's text for the alternative text."""
    return " ".join(text.split())


# What the pictures without numbers have in their file instead of a colour.
_COLOURS = {"blue": BLUE, "green": GREEN, "ink": INK, "orange": ORANGE, "pale": PALE}
_COLOURS |= {"sky": SKY, "yellow": YELLOW}
_STILL = tomllib.loads(Path(__file__).with_name("still.toml").read_text(encoding="utf-8"))


def still(name: str) -> Callable[[], None]:
    """The function that shows a picture without numbers, from `still.toml`."""
    picture = _STILL[name]

    def coloured(value: Any) -> Any:
        return _COLOURS.get(value, value) if isinstance(value, str) else value

    def draw() -> None:
        sketch = Sketch(*picture["size"])
        for kind, *arguments in picture["draw"]:
            style = arguments.pop() if isinstance(arguments[-1], dict) else {}
            styled = {key: coloured(value) for key, value in style.items()}
            getattr(sketch, kind)(*map(coloured, arguments), **styled)
        sketch.finish(picture["caption"], picture["alt"])

    draw.__name__, draw.__doc__ = name, picture["about"]
    return draw
