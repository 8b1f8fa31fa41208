"""Measured numbers and what models wrote, as pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse import claims
from llmcourse.claims import Share
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
    new_figure,
    show,
    table,
)  # fmt: skip


def shares(
    measured: Mapping[str, Mapping[str, Share]], title: str, *, caption: str, note: str = ""
) -> None:
    """Show shares as bars with their 95 % intervals.

    Args:
        measured: What is on each group's axis label -> model role or name -> its share.
        title: Above the picture.
        caption: Below it.
        note: Under the horizontal axis.
    """
    import matplotlib

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
                    f"{100 * value.value:.0f} %  ({value.count} of {value.of})", va="center",
                )  # fmt: skip
                ticks.append((place, f"{group}: {name}" if group else name))
                said.append(f"{group} {name}: {value}".strip())
                place += 1
            place += 0.5
        axes.set_yticks([p for p, _ in ticks], [label for _, label in ticks])
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
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 1.2 + 0.6 * len(measured))
        said = []
        for row, (name, values) in enumerate(measured.items()):
            if not values:
                raise ValueError(f"dots needs at least one number for {name!r}")
            colour, mean = _colour(name, list(measured)), sum(values) / len(values)
            # A fixed spread by order keeps dots apart without random draws.
            spread = [row + 0.24 * ((7 * n) % 11 / 5 - 1) for n in range(len(values))]
            axes.scatter(values, spread, color=colour, alpha=0.6, s=36, marker=_mark(row))
            axes.plot([mean, mean], [row - 0.4, row + 0.4], color=INK, linewidth=3)
            said.append(f"{name}: mean {mean:.2f}, from {min(values):.2f} to {max(values):.2f}")
        axes.set_yticks(range(len(measured)), list(measured))
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

    Args:
        lines: Name -> points (x, y).
        title: Above the picture.
        caption: Below it.
        labels: Of the horizontal and the vertical axis, with units.
        level: A name and a height for a thin line across, to compare with.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 3.2)
        said = []
        for number, (name, points) in enumerate(lines.items()):
            xs, ys = zip(*points, strict=True)
            dashes = ("-", "--", ":", "-.")[number % 4]
            axes.plot(xs, ys, dashes, color=_colour(name, list(lines)), linewidth=2, label=name)
            said.append(f"{name}: from {ys[0]:.2f} at {xs[0]:g} to {ys[-1]:.2f} at {xs[-1]:g}")
        if level:
            axes.axhline(level[1], color="#777777", linewidth=1)
            axes.text(axes.get_xlim()[1], level[1], level[0], ha="right", va="bottom")
            said.append(f"thin line, {level[0]}: {level[1]:.2f}")
        if len(lines) > 1:
            axes.legend(frameon=False)
        _finish(axes, title, *labels)
    show(figure, caption, f"Line chart. {title}. " + "; ".join(said) + ".")


def amounts(
    values: Mapping[str, float], title: str, *, caption: str, label: str, logarithmic: bool = False
) -> None:
    """Show one bar an amount, with its number.

    Args:
        values: Name -> amount.
        title: Above the picture.
        caption: Below it.
        label: Of the horizontal axis, with its unit.
        logarithmic: True where the amounts differ by many times; each mark is then so many times
            the one before.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(7.2, 1.1 + 0.45 * len(values))
        names = list(values)
        for row, (name, value) in enumerate(values.items()):
            axes.barh(row, value, color=_colour(name, names), height=0.75,
                      hatch=_hatch(name, names), edgecolor="white")  # fmt: skip
            axes.annotate(_amount(value), (value, row), xytext=(5, 0),
                          textcoords="offset points", va="center")  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(1, max(values.values()) * 3e3)
        else:
            axes.set_xlim(0, max(values.values()) * 1.25)
        _finish(axes, title, label)
    said = "; ".join(f"{name}: {_amount(value)}" for name, value in values.items())
    show(figure, caption, f"Bar chart. {title}. {said}.")


def _amount(value: float) -> str:
    """A number for people: three digits, or words where it is huge."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _finish(axes: Any, title: str, across: str, up: str = "") -> None:
    """What every picture ends with: its title and what its axes show."""
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, loc="left", fontweight="bold")


def _colour(name: str, series: Sequence[str]) -> str:
    """A role's own colour where `name` has one, else the next of the palette."""
    for role, colour in ROLE_COLOURS.items():
        if role in name.lower():
            return colour
    return (BLUE, ORANGE, GREEN, PURPLE, SKY)[series.index(name) % 5]


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
    """
    asked = {tuple(answer.prompt for answer in answers) for answers in columns.values()}
    if len(asked) != 1:
        raise ValueError("side_by_side needs answers to the same prompts in every column")
    rows = [
        [answers[0].prompt, *(_shortened(answer, characters) for answer in answers)]
        for answers in zip(*columns.values(), strict=True)
    ]
    table(rows, ["prompt", *columns], caption=caption)


def ledger(lesson: str | None = None) -> None:
    """Show this tier's ledger, or one lesson's rows of it, as a table."""
    rows = claims.rows(lesson=lesson)
    notes = "; ".join(claims.notes(lesson=lesson))
    table(
        [row.values() for row in rows],
        ["claim", "measured", "value", "holds here"],
        caption=f"Notes. {notes}" if notes else "",
    )


def _shortened(answer: Answer, characters: int) -> str:
    """The answer for a table, with a sign for how it ended."""
    text = answer.text.strip("\n") or "(nothing)"
    if len(text) > characters:
        return text[:characters].rstrip() + " […]"
    return text + (" ■" if answer.finished else " …")
