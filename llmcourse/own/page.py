"""The report's two pictures, each with its alternative text and caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmcourse import pages
from llmcourse.plots import base as look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(figure: Figure, alt: str, caption: str) -> pages.Markup:
    """A figure inside the page, with its alternative text."""
    return pages.picture(look.encoded(figure, "png"), alt, caption)


def losses(
    history: Sequence[Mapping[str, float]], held_out: Sequence[Mapping[str, float]]
) -> pages.Markup:
    """The loss after each update, and that on pairs kept out of training, as a picture."""
    import matplotlib

    with matplotlib.rc_context(look.STYLE):
        figure, axes = look.new_figure(7.2, 3.2)
        axes.plot([row["step"] for row in history], [row["loss"] for row in history], "-",
                  color=look.BLUE, linewidth=1.5, label="training pairs")  # fmt: skip
        if held_out:
            axes.plot([row["step"] for row in held_out], [row["loss"] for row in held_out], "--o",
                      color=look.ORANGE, linewidth=2, label="pairs kept out")  # fmt: skip
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("update")
        axes.set_ylabel("loss, nats a token")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    said = [_told("training pairs", history), _told("pairs kept out", held_out)]
    return picture(figure, f"Line chart. Loss: {'; '.join(filter(None, said))}.",
                   "Loss of the answers' tokens. Training may go down to nearly nothing; the test "
                   "pairs' loss says whether that helps.")  # fmt: skip


def _told(name: str, rows: Sequence[Mapping[str, float]]) -> str:
    if not rows:
        return ""
    first, last = rows[0], rows[-1]
    return (
        f"{name}: {first['loss']:.2f} at update {first['step']:g}, {last['loss']:.2f} at update "
        f"{last['step']:g}"
    )


def bars(scores: Mapping[str, Mapping[str, float]], label: str, caption: str) -> pages.Markup:
    """A mean a way as a bar with its interval, as a picture."""
    import matplotlib

    with matplotlib.rc_context(look.STYLE):
        figure, axes = look.new_figure(7.2, 0.9 + 0.5 * len(scores))
        for place, score in enumerate(scores.values()):
            axes.barh(place, score["mean"], color=look.BLUE, height=0.6)
            axes.plot([score["low"], score["high"]], [place, place], color=look.INK, linewidth=1.5)
            axes.text(score["high"], place, f" {score['mean']:.3g}", va="center")
        axes.set_yticks(range(len(scores)), [look.drawn(name) for name in scores])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.margins(x=0.1)
        axes.set_xlabel(label)
    said = "; ".join(
        f"{name}: {score['mean']:.3g}, 95 % interval {score['low']:.3g} to {score['high']:.3g}"
        for name, score in scores.items()
    )
    return picture(figure, f"Bar chart. {label}. {said}.", caption)
