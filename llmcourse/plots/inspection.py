"""What `data.inspect` found, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcourse.errors import DataError
from llmcourse.plots.base import BLUE, ORANGE, PURPLE, STYLE, drawn, new_figure, show, table

if TYPE_CHECKING:
    from llmcourse.data import Report

COLOURS = {"prompt": (BLUE, None), "answer": (ORANGE, "///"), "text": (BLUE, None)}
MOST = 6  # rows for the values of one column


def inspection(report: Report) -> None:
    """Show how long the records are and how many have which trouble; then the label balance.

    Args:
        report: What `data.inspect` gave.

    Raises:
        DataError: it is something else.
    """
    import matplotlib

    if not hasattr(report, "findings"):
        raise DataError(f"A report is wanted, data.inspect(records), not {type(report).__name__}.")

    with matplotlib.rc_context(STYLE):
        rows = max(8, sum(one.count > 0 for one in report.findings))
        figure, (left, right) = new_figure(9.6, 1.2 + 0.24 * rows, columns=2)
        _lengths(left, report)
        _findings(right, report)
    caption = (
        f"Figure. {report.name}: how long the {report.records:,} records are, and how many have "
        f"which trouble"
    )
    absent = ", ".join(one.kind for one in report.findings if not one.count)
    caption += f" (looked for and not found: {absent})." if absent else "."
    show(figure, caption, _told(report))
    rows = [
        [column, value, f"{count:,}", f"{100 * count / report.records:.1f} %"]
        for column, values in report.labels.items()
        for value, count in _most(values)
    ]
    if rows:
        columns = ["column", "value", "records", "share"]
        table(rows, columns, caption="Table. How often each value of a column comes.")


def _most(values: dict[str, int]) -> list[tuple[str, int]]:
    """The values with their counts; of many, those that come most often, and one for the rest."""
    counted = [(value or "(none)", count) for value, count in values.items()]
    if len(counted) <= MOST:
        return counted
    counted.sort(key=lambda pair: -pair[1])
    rest = counted[MOST - 1 :]
    return [*counted[: MOST - 1], (f"{len(rest)} others", sum(count for _, count in rest))]


def _lengths(axes: Any, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    for part, of in report.lengths.items():
        colour, hatch = COLOURS[part]
        axes.stairs(
            of.counts, of.edges, fill=True, color=colour, alpha=0.35, hatch=hatch, label=part
        )
        axes.stairs(of.counts, of.edges, color=colour, linewidth=1.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(drawn(f"length in {report.unit}"))
    axes.set_ylabel("records")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("Lengths", loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _findings(axes: Any, report: Report) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title("Trouble", loc="left", fontweight="bold")
    found = [one for one in report.findings if one.count]
    if not found:  # an empty frame would look like a picture that failed
        axes.text(0.5, 0.5, "none found", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return
    counts = [one.count for one in found]
    axes.barh(range(len(counts)), counts, color=PURPLE, hatch="...", edgecolor="white")
    most = max(counts)
    for place, count in enumerate(counts):
        axes.text(count + 0.02 * most, place, f"{count:,}", va="center")
    axes.set_yticks(range(len(counts)), [one.kind for one in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * most)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("records")


def _told(report: Report) -> str:
    """The picture in words."""
    sizes = "; ".join(
        f"{part}: from {of.minimum:,} to {of.maximum:,} {report.unit}, half of them up to "
        f"{of.median:,.0f} and 95 % up to {of.p95:,.0f}"
        for part, of in report.lengths.items()
    )
    counts = ", ".join(f"{one.kind} {one.count:,}" for one in report.findings)
    return (
        f"Two charts of {report.records:,} records. Left, histograms of their lengths: {sizes}; "
        f"a record is overlong above {report.longest:,}. Right, bars for the trouble found: "
        f"{counts}."
    )
