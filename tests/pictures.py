"""What is wrong with a picture: words cut off or on one another, arrows through words, colours."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.path import Path as Line
from matplotlib.text import Annotation

from llmcourse.plots import base, sketch

PALETTE = {
    base.BLUE,
    base.ORANGE,
    base.GREEN,
    base.PURPLE,
    base.SKY,
    base.YELLOW,
    base.INK,
    base.PALE,
    "#FFFFFF",
}


def texts(figure: Figure) -> list[Any]:
    """The words in a picture; an arrow is an annotation without any."""
    return [text for text in figure.axes[0].texts if text.get_text().strip()]


def extents(figure: Figure) -> dict[Any, Any]:
    """Where each text lies, in pixels, after the picture was laid out."""
    FigureCanvasAgg(figure).draw()
    return {text: text.get_window_extent() for text in texts(figure)}


def within(inner: Any, outer: Any) -> bool:
    """Whether one rectangle lies in another."""
    across = outer.x0 <= inner.x0 and inner.x1 <= outer.x1
    return across and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def misplaced(figure: Figure) -> list[str]:
    """Words that are too small, cut off, on one another, or on the edge of a box."""
    found, places = [], extents(figure)
    for text, place in places.items():
        if text.get_fontsize() < sketch.SMALL:
            found.append(f"too small: {text.get_text()!r}")
        if not within(place, figure.bbox):
            found.append(f"cut off: {text.get_text()!r}")
    for (one, first), (other, second) in itertools.combinations(places.items(), 2):
        if first.overlaps(second):
            found.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    for box, (text, place) in itertools.product(boxes, places.items()):
        frame = box.get_window_extent()
        if frame.overlaps(place) and not within(place, frame):
            found.append(f"{text.get_text()!r} runs over the edge of a box")
    return found


def arrows(figure: Figure) -> list[Annotation]:
    """The arrows of a picture."""
    found = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    return [text for text in found if text.arrow_patch is not None]


def crossed(figure: Figure) -> list[str]:
    """Words that an arrow or a line goes through."""
    places, axes = extents(figure), figure.axes[0]
    lines = [axes.transData.transform([arrow.xyann, arrow.xy]) for arrow in arrows(figure)]
    lines += [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    return [
        f"a line crosses {text.get_text()!r}"
        for line, (text, place) in itertools.product(lines, places.items())
        if Line(line).intersects_bbox(place, filled=False)
    ]


def strange_colours(figure: Figure) -> set[str]:
    """Colours that are not in the palette."""
    axes = figure.axes[0]
    used = {to_hex(text.get_color()) for text in texts(figure)}
    for patch in axes.patches:
        used |= {to_hex(c) for c in (patch.get_facecolor(), patch.get_edgecolor()) if c[3]}
    used |= {to_hex(line.get_color()) for line in axes.lines}
    used |= {to_hex(arrow.arrow_patch.get_edgecolor()) for arrow in arrows(figure)}
    return {colour.upper() for colour in used} - {colour.upper() for colour in PALETTE}
