"""Measured numbers and what models wrote, as pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmcourse import claims
from llmcourse.errors import DataError, whole
from llmcourse.generation import Answer
from llmcourse.plots.base import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    ROLE_COLOURS,
    SKY,
    STYLE,
    drawn,
    escaped,
    new_figure,
    show,
    table,
)  # fmt: skip
from llmcourse.stats import Share


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
        DataError: there are no shares, or something is none.
    """
    import matplotlib

    measured = {
        str(group): _named(f"shares[{group!r}]", values)
        for group, values in _named("shares", measured).items()
    }
    for group, values in measured.items():
        for name, value in values.items():
            if not isinstance(value, Share):
                raise DataError(
                    f"shares: {group!r}, {name!r} must be a share, stats.share(…), not "
                    f"{value!r:.60}"
                )
    with matplotlib.rc_context(STYLE):
        series = list(dict.fromkeys(name for group in measured.values() for name in group))
        bars = sum(len(group) for group in measured.values())
        figure, axes = new_figure(7.2, 1.1 + 0.42 * bars + 0.25 * len(measured))
        place, ticks, said = 0.0, [], []
        for group, values in measured.items():
            for name, value in values.items():
                colour = _colour(name, series)
                low, high = value.interval
                axes.barh(
                    place,
                    value.value,
                    color=colour,
                    height=0.8,
                    hatch=_hatch(name, series),
                    edgecolor="white",
                )
                for colour, width in (("white", 4.5), (INK, 1.8)):  # readable on any bar
                    axes.plot([low, high], [place, place], color=colour, linewidth=width)
                axes.text(
                    max(high, value.value) + 0.02, place,
                    value.text, va="center",
                )  # fmt: skip
                ticks.append((place, f"{group}: {name}" if group else name))
                said.append(f"{group} {name}: {value}".strip())
                place += 1
            place += 0.5
        axes.set_yticks([p for p, _ in ticks], [drawn(label) for _, label in ticks])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        _finish(axes, title, note or "share of prompts; the thin line is the 95 % interval")
    show(figure, caption, f"Bar chart. {title}. " + "; ".join(said) + ".")


def dots(measured: Mapping[str, Sequence[float]], title: str, *, caption: str, label: str) -> None:
    """Show one dot an answer, a row a model, with the mean as a bar.

    Args:
        measured: Role or name -> one number an answer.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.

    Raises:
        DataError: a row has no numbers, or something that is no finite number.
    """
    import matplotlib

    measured = {
        name: [_number(f"dots: {name!r}", value, finite=True) for value in _some("dots", name, row)]
        for name, row in _named("dots", measured).items()
    }
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 1.2 + 0.6 * len(measured))
        said = []
        for row, (name, values) in enumerate(measured.items()):
            colour, mean = _colour(name, list(measured)), sum(values) / len(values)
            # A fixed spread by order keeps dots apart without random draws.
            spread = [row + 0.24 * ((7 * n) % 11 / 5 - 1) for n in range(len(values))]
            axes.scatter(values, spread, color=colour, alpha=0.6, s=36, marker=_mark(row))
            axes.plot([mean, mean], [row - 0.4, row + 0.4], color=INK, linewidth=3)
            said.append(f"{name}: mean {mean:.2f}, from {min(values):.2f} to {max(values):.2f}")
        axes.set_yticks(range(len(measured)), [drawn(name) for name in measured])
        axes.set_ylim(len(measured) - 0.4, -0.6)
        _finish(axes, title, label)
    show(figure, caption, f"Dot plot. {title}. " + "; ".join(said) + ".")


def curve(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    *,
    caption: str,
    labels: tuple[str, str],
    level: tuple[str, float] | None = None,
) -> None:
    """Show numbers over steps, a line a series, each told apart by its dashes too.

    A line has a gap where a number is none, as the loss of a training that went astray.

    Args:
        lines: Name -> points (x, y).
        title: Above the picture.
        caption: Below it.
        labels: Of the horizontal and the vertical axis, with units.
        level: A name and a height for a thin line across, to compare with.

    Raises:
        DataError: a series has no points, or something that is no pair of numbers.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    lines = {
        name: [_point(name, point) for point in _some("curve", name, points)]
        for name, points in _named("curve", lines).items()
    }
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 3.2)
        said = []
        for number, (name, points) in enumerate(lines.items()):
            xs, ys = zip(*points, strict=True)
            dashes = ("-", "--", ":", "-.")[number % 4]
            alone = {"marker": "o"} if len(points) == 1 else {}  # no line leads anywhere
            axes.plot(xs, ys, dashes, color=_colour(name, list(lines)), linewidth=2,
                      label=str(number), **alone)  # fmt: skip
            said.append(f"{name}: from {ys[0]:.2f} at {xs[0]:g} to {ys[-1]:.2f} at {xs[-1]:g}")
        if level:
            axes.axhline(level[1], color="#777777", linewidth=1)
            axes.text(axes.get_xlim()[1], level[1], drawn(level[0]), ha="right", va="bottom")
            said.append(f"thin line, {level[0]}: {level[1]:.2f}")
        if len(lines) > 1:
            legend = axes.legend(frameon=False)
            for text, name in zip(legend.get_texts(), lines, strict=True):
                text.set_text(drawn(name))  # a label that begins with "_" would be left out
        if all(float(x).is_integer() for points in lines.values() for x, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, title, *labels)
    show(figure, caption, f"Line chart. {title}. " + "; ".join(said) + ".")


def amounts(
    values: Mapping[str, float], title: str, *, caption: str, label: str, logarithmic: bool = False
) -> None:
    """Show one bar an amount, with its number; one that is not finite is told in words only.

    Args:
        values: Name -> amount.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.
        logarithmic: True where the amounts differ by many times; each mark is then so many times
            the one before.

    Raises:
        DataError: there are no amounts, something is no number, or `logarithmic` and one is
            below 0.
    """
    import matplotlib

    values = {
        name: _number(f"amounts: {name!r}", value)
        for name, value in _named("amounts", values).items()
    }
    low, high = _span(values, logarithmic)
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 1.1 + 0.45 * len(values))
        names = list(values)
        for row, (name, value) in enumerate(values.items()):
            size = value if math.isfinite(value) else 0
            axes.barh(row, size, color=_colour(name, names), height=0.75,
                      hatch=_hatch(name, names), edgecolor="white")  # fmt: skip
            axes.annotate(_amount(value), (max(size, low if logarithmic else 0), row),
                          xytext=(5, 0), textcoords="offset points", va="center")  # fmt: skip
        axes.set_yticks(range(len(names)), [drawn(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlim(low, high)
        if logarithmic:
            axes.set_xscale("log")
        _finish(axes, title, label)
    said = "; ".join(f"{name}: {_amount(value)}" for name, value in values.items())
    show(figure, caption, f"Bar chart. {title}. {said}.")


def _span(values: Mapping[str, float], logarithmic: bool) -> tuple[float, float]:
    """From where to where the axis of `amounts` goes.

    Raises:
        DataError: `logarithmic`, and an amount is below 0.
    """
    finite = [value for value in values.values() if math.isfinite(value)]
    most, least = max(finite, default=0.0), min(finite, default=0.0)
    if not logarithmic:
        return min(0.0, least * 1.25), max(most, 0.0) * 1.25 or -least * 0.25 or 1.0
    if least < 0:
        raise DataError(f"amounts: {least:g} has no place on a logarithmic axis.")
    smallest = min((value for value in finite if value > 0), default=1.0)
    low = 1.0 if smallest >= 1 else 10.0 ** math.floor(math.log10(smallest) - 1)
    return low, max(most, low) * 3e3


def _amount(value: float) -> str:
    """A number for people: three digits, or words where it is huge or none."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{'minus ' * (value < 0)}infinite"
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _named(chart: str, given: Any) -> dict[str, Any]:
    """What `chart` shows, by names that are text.

    Raises:
        DataError: it is no mapping, or there is nothing in it.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{chart}: a mapping of names is wanted, not {type(given).__name__}.")
    if not given:
        raise DataError(f"{chart}: there is nothing to show.")
    return {str(name): value for name, value in given.items()}


def _some(chart: str, name: str, given: Any) -> list[Any]:
    """The series `name` of `chart` as a list.

    Raises:
        DataError: it is none, or empty.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DataError(f"{chart}: {name!r} must be a list, not {given!r:.60}")
    values = list(given)
    if not values:
        raise DataError(f"{chart}: there is nothing to show for {name!r}.")
    return values


def _number(here: str, value: Any, *, finite: bool = False) -> float:
    """`value` as a float.

    Raises:
        DataError: it is no number, or not a finite one where one is wanted.
    """
    try:
        number = None if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = None
    if number is None or (finite and not math.isfinite(number)):
        kind = "a finite number" if finite else "a number"
        raise DataError(f"{here} must be {kind}, not {value!r:.60}")
    return number


def _point(name: str, point: Any) -> tuple[float, float]:
    """A point of a curve.

    Raises:
        DataError: it is no pair of numbers.
    """
    try:
        x, y = point
    except (TypeError, ValueError) as error:
        raise DataError(f"curve: {name!r} must have points (x, y), not {point!r:.60}") from error
    return _number(f"curve: {name!r}, x", x, finite=True), _number(f"curve: {name!r}, y", y)


def _finish(axes: Any, title: str, across: str, up: str = "") -> None:
    """What every picture ends with: its title and what its axes show."""
    axes.set_xlabel(drawn(across))
    axes.set_ylabel(drawn(up))
    axes.set_title(drawn(title), loc="left", fontweight="bold")


def _colour(name: str, series: Sequence[str]) -> str:
    """A role's own colour where `name` has one, else the next that no role here has.

    What stands before a colon decides, so that "told: reading" and "told: writing" look alike.
    """
    heads = list(dict.fromkeys(one.split(":")[0].lower() for one in series))
    roles = {head: _role_colour(head) for head in heads}
    taken = set(roles.values())
    free = [one for one in (BLUE, ORANGE, GREEN, PURPLE, SKY) if one not in taken]
    others = [head for head in heads if roles[head] is None]
    head = name.split(":")[0].lower()
    return roles[head] or free[others.index(head) % len(free)]


def _role_colour(head: str) -> str | None:
    """The colour of the role that is named in `head`; None where none is."""
    return next((colour for role, colour in ROLE_COLOURS.items() if role in head), None)


def _hatch(name: str, series: Sequence[str]) -> str | None:
    """A pattern beside the colour, so that bars differ in black and white as well."""
    return None if series.index(name) % 2 == 0 else "///"


def _mark(row: int) -> str:
    """A marker that differs from the rows beside it."""
    return "os^D"[row % 4]


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
        DataError: there are no answers, or the columns answer different prompts.
        SettingError: `characters` is below 1.
    """
    characters = whole("characters", characters, 1)
    columns = {
        name: _some("side_by_side", name, answers)
        for name, answers in _named("side_by_side", columns).items()
    }
    for name, answers in columns.items():
        if not all(isinstance(answer, Answer) for answer in answers):
            raise DataError(f"side_by_side: {name!r} must be what generate gave, not texts.")
    asked = {tuple(answer.prompt for answer in answers) for answers in columns.values()}
    if len(asked) != 1:
        raise DataError("side_by_side needs answers to the same prompts in every column.")
    rows = [
        [answers[0].prompt, *(_shortened(answer, characters) for answer in answers)]
        for answers in zip(*columns.values(), strict=True)
    ]
    # Columns of one width: otherwise the longest text squeezes the others.
    table(rows, ["prompt", *columns], caption=caption, widths=[3] + [4] * len(columns))


def ledger(lesson: str | None = None) -> None:
    """Show this tier's ledger, or one lesson's rows of it, as a table."""
    from IPython.display import Markdown, display

    rows = claims.rows(lesson=lesson)
    for row in rows:
        if row["claim"]:
            row["claim"] = f"{claims.CLAIMS[row['claim']].text} ({row['claim']})"
    table(
        [row.values() for row in rows],
        ["claim", "measured", "value", "holds here"],
        caption="Table. The claims, and what was measured for them on this machine.",
        widths=[5, 4, 4, 2],
    )
    if notes := claims.notes(lesson=lesson):
        display(Markdown("How the numbers came about:\n\n" + "\n".join(
            f"- {escaped(note)}" for note in notes)))  # fmt: skip


def _shortened(answer: Answer, characters: int) -> str:
    """The answer for a table, with a sign for how it ended."""
    text = answer.text.strip("\n") or "(nothing)"
    if len(text) > characters:
        return text[:characters].rstrip() + " […]"
    return text + (" ■" if answer.finished else " …")
