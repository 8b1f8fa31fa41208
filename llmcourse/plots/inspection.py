"""What `data.inspect` found, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmcourse.plots.base import BLUE, ORANGE, PURPLE, label_text, new_figure, show, styled, table

if TYPE_CHECKING:
    from llmcourse.data import Report

COLOURS = {"prompt": (BLUE, None), "answer": (ORANGE, "///"), "text": (BLUE, None)}
MOST = 6  # rows for the values of one column


@styled
def inspection(report: Report) -> None:
    """Show how long the records are and how many have which problem; then the label balance.

    Args:
        report: What `data.inspect` gave.
    """
    # As high as the bars need, and never so low that the histogram can't be read.
    rows = max(8, sum(one.count > 0 for one in report.findings))
    figure, (left, right) = new_figure(9.6, 1.2 + 0.24 * rows, columns=2)
    _draw_lengths(left, report)
    _draw_findings(right, report)
    caption = (
        f"Figure. {report.name}: how long the {report.records:,} records are, and how many have "
        f"which problem"
    )
    absent = ", ".join(one.kind for one in report.findings if not one.count)
    caption += f" (looked for and not found: {absent})." if absent else "."
    show(figure, caption, _alt_text(report))
    labels = [
        [column, value, f"{count:,}", f"{100 * count / report.records:.1f} %"]
        for column, values in report.labels.items()
        for value, count in _most_frequent(values)
    ]
    if labels:
        columns = ["column", "value", "records", "share"]
        table(labels, columns, caption="Table. How often each value of a column comes.")


def _most_frequent(values: dict[str, int]) -> list[tuple[str, int]]:
    """The values with their counts; of many, those that come most often, and one for the rest."""
    counted = [(value or "(none)", count) for value, count in values.items()]
    if len(counted) <= MOST:
        return counted
    counted.sort(key=lambda pair: -pair[1])
    rest = counted[MOST - 1 :]
    return [*counted[: MOST - 1], (f"{len(rest)} others", sum(count for _, count in rest))]


def _draw_lengths(axes: Any, report: Report) -> None:
    for part, lengths in report.lengths.items():
        colour, hatch = COLOURS[part]
        # Half transparent, as the two histograms overlap; hatched, for readers without colours.
        look = {"color": colour, "alpha": 0.35, "hatch": hatch}
        axes.stairs(lengths.counts, lengths.edges, fill=True, label=part, **look)
        axes.stairs(lengths.counts, lengths.edges, color=colour, linewidth=1.5)
    axes.set(xlabel=label_text(f"length in {report.unit}"), ylabel="records")
    axes.set_xlim(left=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title("Lengths", loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _draw_findings(axes: Any, report: Report) -> None:
    axes.set_title("Problems", loc="left", fontweight="bold")
    counts = {one.kind: one.count for one in report.findings if one.count}
    if not counts:  # an empty frame would look like a picture that failed
        axes.text(0.5, 0.5, "none found", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return
    bars = axes.barh(list(counts), counts.values(), color=PURPLE, hatch="...", edgecolor="white")
    axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=4)
    axes.invert_yaxis()
    # Room for the number behind the longest bar.
    axes.set_xlim(0, 1.2 * max(counts.values()))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("records")


def _alt_text(report: Report) -> str:
    """The picture in words."""
    sizes = "; ".join(
        f"{part}: from {of.minimum:,} to {of.maximum:,} {report.unit}, half of them up to "
        f"{of.median:,.0f} and 95 % up to {of.p95:,.0f}"
        for part, of in report.lengths.items()
    )
    counts = ", ".join(f"{one.kind} {one.count:,}" for one in report.findings)
    return (
        f"Two charts of {report.records:,} records. Left, histograms of their lengths: {sizes}; "
        f"a record is overlong above {report.longest:,}. Right, bars for the problems found: "
        f"{counts}."
    )
