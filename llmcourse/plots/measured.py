"""Measured numbers and what models wrote, as pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import claims
from llmcourse.errors import DataError
from llmcourse.plots.base import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    ROLE_COLOURS,
    SKY,
    escape_markdown,
    label_text,
    new_figure,
    show,
    show_caption,
    styled,
    table,
)
from llmcourse.stats import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from llmcourse.generation import Answer

    Lines = Mapping[str, Sequence[tuple[float, float]]]  # name -> points (x, y)

# The marks of an axis from 0 to 1.
PERCENT = [0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"]


@styled
def shares(
    measured: Mapping[str, Mapping[str, Share]], title: str, *, caption: str, note: str = ""
) -> None:
    """Show shares as bars with their 95 % intervals.

    Args:
        measured: What is on each group's axis label -> model role or name -> its share.
        title: Above the picture.
        caption: Below it.
        note: Under the horizontal axis.

    Raises:
        DataError: there are no shares.
    """
    rows = [(group, name, share) for group in measured for name, share in measured[group].items()]
    note = note or "share of prompts; the thin line is the 95 % interval"
    figure, axes = chart(rows, 1.1 + 0.42 * len(rows) + 0.25 * len(measured), title, note)
    series = list(dict.fromkeys(name for _, name, _ in rows))
    groups = list(measured)
    places = []
    for row, (group, name, share) in enumerate(rows):
        places.append(row + 0.5 * groups.index(group))  # half a row between two groups
        draw_bar(axes, places[-1], share.value, share.text, name, series, interval=share.interval)
    name_bars(axes, [f"{group}: {name}" if group else name for group, name, _ in rows], places)
    axes.set_xlim(0, 1)
    axes.set_xticks(*PERCENT)
    texts = "; ".join(f"{group} {name}: {share}".strip() for group, name, share in rows)
    show(figure, caption, f"Bar chart. {title}. {texts}.")


@styled
def dots(measured: Mapping[str, Sequence[float]], title: str, *, caption: str, label: str) -> None:
    """Show one dot per answer, a row per model, with the mean as a bar.

    Args:
        measured: Role or name -> one number per answer, at least one.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.

    Raises:
        DataError: there are no rows.
    """
    figure, axes = chart(measured, 1.2 + 0.6 * len(measured), title, label)
    texts = []
    for row, (name, values) in enumerate(measured.items()):
        colour, mean = series_colour(name, list(measured)), sum(values) / len(values)
        # A fixed spread by order keeps dots apart without random draws: the picture stays the same.
        spread = [row + 0.24 * ((7 * n) % 11 / 5 - 1) for n in range(len(values))]
        axes.scatter(values, spread, color=colour, alpha=0.6, s=36, marker="os^D"[row % 4])
        axes.plot([mean, mean], [row - 0.4, row + 0.4], color=INK, linewidth=3)
        texts.append(f"{name}: mean {mean:.2f}, from {min(values):.2f} to {max(values):.2f}")
    name_bars(axes, measured)
    axes.set_ylim(len(measured) - 0.4, -0.6)
    show(figure, caption, f"Dot plot. {title}. " + "; ".join(texts) + ".")


def curve(
    lines: Lines,
    title: str,
    *,
    caption: str,
    labels: tuple[str, str],
    level: tuple[str, float] | None = None,
) -> None:
    """Show numbers over steps, a line per series, each told apart by its dashes too.

    A line has a gap where a number is NaN, as the loss of a training that diverged.

    Args:
        lines: Name -> points (x, y), at least one.
        title: Above the picture.
        caption: Below it.
        labels: Of the horizontal and the vertical axis, with units.
        level: A name and a height for a thin line across, to compare with.

    Raises:
        DataError: there are no lines.
    """
    figure, alt = curve_figure(lines, title, labels, level)
    show(figure, caption, alt)


@styled
def curve_figure(
    lines: Lines, title: str, labels: tuple[str, str], level: tuple[str, float] | None = None
) -> tuple[Figure, str]:
    """The picture of `curve`, and its alternative text."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = chart(lines, 3.2, title, *labels)
    texts: list[str] = []
    steps: list[float] = []
    for number, (name, points) in enumerate(lines.items()):
        xs, ys = zip(*points, strict=True)
        dashes, colour = ("-", "--", ":", "-.")[number % 4], series_colour(name, list(lines))
        # No line leads to a point without neighbours, so it needs a marker to be seen.
        finite = [False, *map(math.isfinite, ys), False]
        alone = [n for n in range(len(ys)) if finite[n : n + 3] == [False, True, False]]
        look = {"linestyle": dashes, "marker": "o" if alone else "", "markevery": alone or None}
        axes.plot(xs, ys, color=colour, lw=2, label=str(number), **look)
        texts.append(f"{name}: from {ys[0]:.2f} at {xs[0]:g} to {ys[-1]:.2f} at {xs[-1]:g}")
        steps += xs
    if level:
        axes.axhline(level[1], color="#777777", linewidth=1)
        axes.text(axes.get_xlim()[1], level[1], label_text(level[0]), ha="right", va="bottom")
        texts.append(f"thin line, {level[0]}: {level[1]:.2f}")
    if len(lines) > 1:
        # Named afterwards, as matplotlib leaves a label that begins with "_" out of a legend.
        for text, name in zip(axes.legend(frameon=False).get_texts(), lines, strict=True):
            text.set_text(label_text(name))
    if all(float(step).is_integer() for step in steps):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, f"Line chart. {title}. " + "; ".join(texts) + "."


@styled
def amounts(values: Mapping[str, float], title: str, *, caption: str, label: str) -> None:
    """Show one bar per amount, with its number.

    Args:
        values: Name -> amount, at least 0.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.

    Raises:
        DataError: there are no amounts.
    """
    figure, axes = chart(values, 1.1 + 0.45 * len(values), title, label)
    for row, (name, value) in enumerate(values.items()):
        draw_bar(axes, row, value, amount(value), name, list(values))
    name_bars(axes, values)
    # Room for the number that is written behind the longest bar.
    axes.set_xlim(0, max(values.values()) * 1.25 or 1)
    texts = "; ".join(f"{name}: {amount(value)}" for name, value in values.items())
    show(figure, caption, f"Bar chart. {title}. {texts}.")


@styled
def stacked(
    rows: Mapping[str, Mapping[str, float]], title: str, *, caption: str, label: str
) -> None:
    """Show what amounts are made of: a bar per row, its parts end to end, the sum behind it.

    Args:
        rows: Name of a bar -> part -> amount, at least 0. A part that is 0 in all bars is left
            out; six others can be told apart.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.

    Raises:
        DataError: there are no rows.
    """
    figure, axes = chart(rows, 1.6 + 0.6 * len(rows), title, label)
    found = dict.fromkeys(part for parts in rows.values() for part, size in parts.items() if size)
    looks = [(colour, hatch) for hatch in (None, "///") for colour in (BLUE, ORANGE, GREEN)]
    ends = dict.fromkeys(rows, 0.0)
    for part, (colour, hatch) in zip(found, looks, strict=False):
        sizes = [parts.get(part, 0.0) for parts in rows.values()]
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": label_text(part)}
        axes.barh(range(len(rows)), sizes, left=list(ends.values()), height=0.7, **look)
        ends = {name: end + size for (name, end), size in zip(ends.items(), sizes, strict=True)}
    texts = []
    for place, (name, parts) in enumerate(rows.items()):
        note = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(amount(ends[name]), (ends[name], place), **note)
        made = ", ".join(f"{part} {amount(parts.get(part, 0.0))}" for part in found)
        texts.append(f"{name}: {amount(ends[name])} ({made})")
    name_bars(axes, rows)
    axes.set_xlim(0, max(ends.values()) * 1.15 or 1)
    axes.legend(frameon=False, loc="lower right")
    show(figure, caption, f"Stacked bar chart. {title}. {'; '.join(texts)}.")


def amount(value: float) -> str:
    """A number for people: three digits, or words where it is huge or not finite."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{'minus ' * (value < 0)}infinite"
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def chart(data: Any, height: float, title: str, across: str, up: str = "") -> tuple[Figure, Any]:
    """An empty chart with its title and what its axes show.

    Raises:
        DataError: there are no `data` to show in it.
    """
    if not data:
        raise DataError(f"There is nothing to show in the chart {title!r}.")
    figure, axes = new_figure(7.2, height)
    axes.set(xlabel=label_text(across), ylabel=label_text(up))
    axes.set_title(label_text(title), loc="left", fontweight="bold")
    return figure, axes


def name_bars(axes: Any, names: Sequence[str] | Mapping[str, Any], places: Any = None) -> None:
    """Write the names beside the bars, which lie in rows from the top, or at `places`."""
    axes.set_yticks(range(len(names)) if places is None else places, [*map(label_text, names)])
    axes.invert_yaxis()


def draw_bar(
    axes: Any,
    place: float,
    size: float,
    text: str,
    name: str,
    series: Sequence[str],
    interval: tuple[float, ...] = (),
) -> None:
    """A bar that differs in black and white too, with its interval and its text."""
    # Every second series is hatched: in black and white its bars differ too.
    hatch = "///" if list(series).index(name) % 2 else None
    look = {"color": series_colour(name, series), "hatch": hatch, "edgecolor": "white"}
    axes.barh(place, size, height=0.8, **look)
    # Dark on a wider white line, so that the interval is seen on the bar and beside it.
    for colour, width in (("white", 4.5), (INK, 1.8)) if interval else ():
        axes.plot(interval, [place, place], color=colour, linewidth=width)
    end = (max(size, *interval, 0), place)
    axes.annotate(text, end, xytext=(6, 0), textcoords="offset points", va="center")


def series_colour(name: str, series: Sequence[str]) -> str:
    """A role's own colour where `name` has one, else the next that no role here has.

    What comes before a colon decides, so that "told: reading" and "told: writing" look alike.
    """
    # Colours go by the heads' order, so that a series has one colour in all groups.
    heads = list(dict.fromkeys(one.split(":")[0].lower() for one in map(str, series)))
    roles = {h: next((c for role, c in ROLE_COLOURS.items() if role in h), None) for h in heads}
    free = [c for c in (BLUE, ORANGE, GREEN, PURPLE, SKY) if c not in roles.values()]
    others = [head for head in heads if roles[head] is None]
    head = str(name).split(":")[0].lower()
    return roles[head] or free[others.index(head) % len(free)]


@styled
def beside(
    claim_id: str,
    arms: Mapping[str, str],
    yours: Mapping[str, Share | float] | None = None,
    *,
    title: str,
    caption: str,
) -> None:
    """Show a claim's published result, a row per arm, and this run's numbers beside it.

    Args:
        claim_id: A key of `claims.CLAIMS`.
        arms: Label of a row -> name of the arm in `claims.result(claim_id)`.
        yours: Label of a row -> what was measured here; rows may be missing.
        title: Above the picture.
        caption: Below it; how large the published run is, and its command, are added.

    Raises:
        ClaimError: there is no such claim.
    """
    found, yours = _published(claim_id), yours or {}
    # What is not published stands alone, if it was measured here.
    published: dict[str, Any] = found.get("arms", {})
    rows: dict[str, dict[str, Any]] = {
        label: published.get(name, {})
        for label, name in arms.items()
        if name in published or label in yours
    }
    if not rows:
        show_caption(f"{caption} {found['said']}")
        return
    mine: dict[str, float] = {
        label: value.value if isinstance(value, Share) else value
        for label, value in yours.items()
        if label in rows
    }
    means = [row["mean"] for row in rows.values() if row]
    share = all(0 <= value <= 1 for value in (*means, *mine.values()))
    figure, axes = chart(rows, 1.3 + 0.45 * len(rows), title, "")
    text = claims.as_share if share else claims.shown
    texts = []
    for place, (label, row) in enumerate(rows.items()):
        said, end = [], 0.0
        if row:
            low, end = (row["mean"] if at is None else at for at in (row["low"], row["high"]))
            axes.plot([low, end], [place, place], color=BLUE, linewidth=2)
            axes.scatter([row["mean"]], [place], color=BLUE, s=55, zorder=3)
            said.append(f"published {text(row['mean'])} of {row['n']}")
        if label in mine:
            mark = {"marker": "D", "facecolors": "none", "edgecolors": ORANGE, "clip_on": False}
            axes.scatter([mine[label]], [place], s=60, **mark)
            end = max(end, mine[label])
            said.append(
                f"yours {yours[label] if isinstance(yours[label], Share) else text(mine[label])}"
            )
        number = text(row["mean"] if row else mine[label])
        axes.annotate(number, (end, place), (7, 0), textcoords="offset points", va="center")
        texts.append(f"{label}: {', '.join(said)}")
    name_bars(axes, rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if share:
        axes.set_xlim(0, 1)
        axes.set_xticks(*PERCENT)
    marks = ["dots: published run, with its 95 % interval"] * bool(means)
    axes.set_xlabel("; ".join(marks + ["diamonds: your run"] * bool(mine)))
    show(figure, f"{caption} {found['said']}", f"Dot plot. {title}. " + "; ".join(texts) + ".")


def _published(claim_id: str) -> dict[str, Any]:
    """A claim's published result, if there is one; `said` is what a caption says about it."""
    found = claims.result(claim_id)
    if not found:
        command = f"python -m experiments {claim_id}"
        return {"said": f"The published run has not measured this yet: {command}."}
    sizes = sorted({row["n"] for row in found["arms"].values()})
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return {**found, "said": _run_of(found, f"{size} questions")}


def _run_of(found: Mapping[str, Any], size: str) -> str:
    seeds = f", {found['seeds']} seeds where trained" if found["seeds"] > 1 else ""
    return f"Published: {size}{seeds}; {found['command']}."


@styled
def forgetting(yours: Mapping[str, tuple[float, float]] | None = None, *, caption: str) -> None:
    """Show what each arm of the published claim `forgetting` learned, and what that cost.

    Args:
        yours: Name of an arm -> perplexity on general texts and share of facts right, measured
            here; arms may be missing.
        caption: Below it; how large the published run is, and its command, are added.
    """
    found, yours = _published("forgetting"), yours or {}
    if "arms" not in found:
        show_caption(f"{caption} {found['said']}")
        return
    arms, title = found["arms"], "Learning against forgetting"
    names = [name.removesuffix(": loss") for name in arms if name.endswith(": loss")]
    across = "perplexity on general texts; further left, less is forgotten"
    figure, axes = chart(names, 4, title, across, "facts right")
    texts = []
    for name, mark, colour in zip(names, "osD^P", (BLUE, SKY, ORANGE, PURPLE, GREEN), strict=False):
        loss, right = arms[f"{name}: loss"], arms[f"{name}: right"]
        x, y = math.exp(loss["mean"]), right["mean"]  # the exponential of a loss is a perplexity
        lows, highs = (math.exp(loss["low"]), right["low"]), (math.exp(loss["high"]), right["high"])
        axes.plot([lows[0], highs[0]], [y, y], color=colour)
        axes.plot([x, x], [lows[1], highs[1]], color=colour)
        axes.scatter([x], [y], color=colour, marker=mark, s=70, zorder=3, label=name)
        texts.append(f"{name}: perplexity {amount(x)}, {claims.as_share(y)} right")
        if name in yours:
            axes.scatter(*yours[name], marker=mark, s=110, facecolors="none", edgecolors=INK)
            texts[-1] += f", yours {amount(yours[name][0])}, {claims.as_share(yours[name][1])}"
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_ylim(-0.03, 1)
    axes.set_yticks(*PERCENT)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    size = f"{arms[f'{names[0]}: right']['n']} questions, {arms[f'{names[0]}: loss']['n']} texts"
    mine = " Hollow marks: your run." if yours else ""
    caption = f"{caption}{mine} {_run_of(found, size)}"
    show(figure, caption, f"Scatter plot. {title}. " + "; ".join(texts) + ".")


def side_by_side(
    columns: Mapping[str, Sequence[Answer]], *, caption: str = "", characters: int = 420
) -> None:
    """Show what several models wrote to the same prompts, in columns.

    "■" marks an answer that ended by itself, "…" one that the limit cut off.

    Args:
        columns: Heading -> that model's answers, all to the same prompts.
        caption: Below the table.
        characters: Longest text shown of each answer.

    Raises:
        DataError: the columns answer different prompts, or there are no answers.
    """
    prompts = {tuple(answer.prompt for answer in answers) for answers in columns.values()}
    if len(prompts) != 1 or () in prompts:
        raise DataError("side_by_side needs answers to the same prompts in every column.")

    def shortened(answer: Answer) -> str:
        text = answer.text.strip("\n") or "(nothing)"
        if len(text) > characters:
            return text[:characters].rstrip() + " […]"
        return text + (" ■" if answer.finished else " …")

    rows = [
        [answers[0].prompt, *map(shortened, answers)]
        for answers in zip(*columns.values(), strict=True)
    ]
    # Columns of one width: otherwise the longest text squeezes the others.
    table(rows, ["prompt", *columns], caption=caption, widths=[3] + [4] * len(columns))


def ledger(lesson: str | None = None) -> None:
    """Show this tier's ledger, or one lesson's rows of it, as a table."""
    from IPython.display import Markdown, display

    rows = [  # a claim is written once, in the first row of its numbers
        [f"{claims.CLAIMS[claim].text} ({claim})" if claim else "", *others]
        for claim, *others in claims.rows(lesson=lesson)
    ]
    caption = "Table. The claims, and what was measured for them on this machine."
    columns = ["claim", "measured", "value", "holds here"]
    table(rows, columns, caption=caption, widths=[5, 4, 4, 2])
    if notes := claims.notes(lesson=lesson):
        lines = "\n".join(f"- {escape_markdown(note)}" for note in notes)
        display(Markdown(f"How the numbers came about:\n\n{lines}"))
