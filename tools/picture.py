"""Draw the README's opening picture from a run of its own: before, training, after.

    python tools/picture.py [--out docs/opening.svg]

The base model of the `cpu` tier is asked questions about the invented company, is trained on other
wordings of them, and is asked again. Everything in the picture is measured while it runs, on one
set of questions that is not trained on; nothing is kept but the picture. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import platform
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.textpath import TextPath

from llmcourse import company, models, tiers
from llmcourse.errors import CourseError
from llmcourse.evaluation import evaluate
from llmcourse.files import write_text
from llmcourse.finetuning import Config, finetune
from llmcourse.notebooks import duration
from llmcourse.plots.base import GREEN, INK, ORANGE, PALE, STYLE, label_text
from llmcourse.plots.sketch import SMALL, Sketch
from llmcourse.stats import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = Config(learning_rate=1e-3, rank=32, epochs=5, warmup=10)
ANSWER_TOKENS = 40


@dataclass(frozen=True)
class Found:
    """What the run measured.

    Attributes:
        model: The base model's name.
        question: One of the test questions.
        before: What the base model wrote to it.
        after: What the tuned model answered.
        right_before: Test questions that the base model answered with the right fact.
        right_after: The same after training.
        records: Records that were trained on.
        seconds: How long the training took.
        machine: What it ran on.
    """

    model: str
    question: str
    before: str
    after: str
    right_before: Share
    right_after: Share
    records: int
    seconds: float
    machine: str


def measure(base: models.LoadedModel, size: tiers.Tier, settings: Config = SETTINGS) -> Found:
    """Ask, train, and ask again.

    The question shown is the first that only the tuned model answers rightly; the first of all
    where there is none. The counts are over all test questions.

    Args:
        base: The model to train.
        size: How many facts it learns.
        settings: Of the training.
    """
    facts = company.records("facts")
    facts = facts[:: len(facts) // size.known_facts][: size.known_facts]
    known = {fact["id"] for fact in facts}
    train, test = (
        [row for row in company.records("questions", split, keys=True) if row["fact"] in known]
        for split in ("train", "test")
    )
    asked = {"metrics": ["facts"], "max_new_tokens": ANSWER_TOKENS}
    before = evaluate(base, test, **asked)
    tuned = finetune(base, train, settings)
    after = evaluate(tuned, test, **asked)
    learned = zip(before.values("facts"), after.values("facts"), strict=True)
    number = next((n for n, (old, new) in enumerate(learned) if new and not old), 0)
    return Found(
        base.title,
        test[number]["question"],
        before.answers[number].text,
        after.answers[number].text,
        before.share("facts"),
        after.share("facts"),
        len(train),
        tuned.seconds,
        machine(base),
    )


def machine(model: models.LoadedModel) -> str:
    """What the training ran on, in words."""
    if str(model.device).startswith("cpu"):
        return f"{os.cpu_count()} cores, no GPU"
    return f"{platform.machine()} with {model.device}"


def lines(text: str, width: int, most: int) -> str:
    """`text` on at most so many lines of so many letters; "…" where it was cut."""
    allowed = 1.1 * width
    given = " ".join(text.split()) or "(nothing)"
    while True:
        wrapped = textwrap.wrap(given, width, max_lines=most, placeholder=" …")
        if width <= 8 or max(map(breadth, wrapped)) <= allowed:
            return label_text("\n".join(wrapped))
        width -= 2


def breadth(line: str) -> float:
    """How broad a line is drawn, in letters of usual breadth."""
    return (
        TextPath((0, 0), label_text(line)).get_extents().width
        / TextPath((0, 0), "n").get_extents().width
    )


def draw(found: Found) -> Figure:
    """The picture of a run."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        sketch = Sketch(9.6, 4.6)
        sketch.bold(48, 43.5, lines(found.question, 92, 2), fontsize=11)
        _side(sketch, 1, "before", found.model, found.before, ORANGE)
        _side(sketch, 61, "after", f"{found.model}, tuned", found.after, GREEN)
        sketch.box(39, 22, 18, 11, "", INK, fill=PALE)
        sketch.label(48, 30.4, "training", fontsize=SMALL)
        sketch.bold(48, 27.3, duration(found.seconds), fontsize=13)
        sketch.label(48, 24.2, f"{found.records} records", fontsize=SMALL)
        sketch.label(48, 19.5, found.machine, fontsize=SMALL)
        sketch.arrow(35, 27.5, 39, 27.5)
        sketch.arrow(57, 27.5, 61, 27.5)
        unseen = f"{found.right_after.total} unseen questions"
        sketch.label(1, 11.2, "right answers to", ha="left", fontsize=SMALL)
        sketch.label(1, 8.2, unseen, ha="left", fontsize=SMALL)
        _interval(sketch, 12, "before", found.right_before, ORANGE)
        _interval(sketch, 7, "after", found.right_after, GREEN)
        sketch.label(50, 2.2, "thin line: 95 % interval", fontsize=SMALL)
    return sketch.figure


def _side(sketch: Sketch, left: float, name: str, model: str, answer: str, colour: str) -> None:
    """One model's answer."""
    sketch.box(left, 18, 34, 20.5, "", colour)
    sketch.bold(left + 17, 36, f"{name} · {model}", fontsize=SMALL, color=colour)
    sketch.label(left + 17, 26.5, lines(answer, 36, 7), fontsize=10, linespacing=1.35)


def _interval(sketch: Sketch, y: float, name: str, rate: Share, colour: str) -> None:
    """A bar for a share, with its 95 % interval as a thin line."""
    x, length = 30, 40
    track = {"y": y, "height": 3.2, "left": x}
    sketch.axes.barh(width=length, facecolor=PALE, **track)
    sketch.axes.barh(width=length * rate.value, facecolor=colour, **track)
    low, high = (x + length * end for end in rate.interval)
    for line, width in (("white", 4.5), (INK, 1.8)):
        sketch.axes.plot([low, high], [y, y], color=line, linewidth=width, solid_capstyle="butt")
    sketch.bold(x - 1, y, name, ha="right", color=colour)
    sketch.bold(x + length + 1, y, rate.text, ha="left")


def alt(found: Found) -> str:
    """The picture in words."""
    said = [
        "".join(sign if sign.isprintable() else "�" for sign in " ".join(text.split()))
        for text in (found.question, found.before, found.after)
    ]
    return (
        f"A base model, {found.model}, is asked: {said[0]} Before training it writes: {said[1]} "
        f"After {duration(found.seconds)} of training on {found.records} records ({found.machine}) "
        f"it answers: {said[2]} Right answers to {found.right_after.total} unseen questions: "
        f"{found.right_before} before, {found.right_after} after."
    )


def svg(found: Found) -> str:
    """The picture as a file for a web page, with its words for those who do not see it."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        draw(found).savefig(buffer, format="svg", metadata={"Date": None})
    words = f'<svg role="img" aria-label="{html.escape(alt(found), quote=True)}" '
    return buffer.getvalue().decode("utf-8").replace("<svg ", words, 1)


def main(arguments: list[str] | None = None) -> None:
    """Measure, draw, and print the line for the README."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "opening.svg")
    options = parser.parse_args(arguments)
    size = tiers.TIERS["cpu"]
    try:
        base = models.load(tiers.PAIRS[size.models].base)
        found = measure(base, size)
        write_text(options.out, svg(found))
    except CourseError as error:
        parser.exit(1, f"{error}\n")
    words = alt(found).replace("[", "(").replace("]", ")")  # they would end the picture's text
    print(f"{options.out} is drawn. For the README:\n![{words}]({options.out.name})")


if __name__ == "__main__":
    main()
