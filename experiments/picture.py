"""Draw the README's opening picture from a run of its own: before, training, after.

    python -m experiments.picture [--out docs/opening.svg]

The base model of the `cpu` tier is told to write the JSON that an order desk needs of a customer's
message, is trained on other messages, and is asked again. Everything in the picture is measured
while it runs, on messages that are not trained on; nothing is kept but the picture. Takes a few
minutes.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.textpath import TextPath

from experiments.desk import prompted
from experiments.run import Record
from llmcourse import models, tiers
from llmcourse.company import desk
from llmcourse.errors import CourseError
from llmcourse.files import write_text
from llmcourse.finetuning import Config, finetune
from llmcourse.generation import generate
from llmcourse.notebooks import duration
from llmcourse.plots.base import GREEN, INK, ORANGE, PALE, STYLE, label_text
from llmcourse.plots.sketch import SMALL, Sketch
from llmcourse.stats import Score, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = Config(epochs=3)


@dataclass(frozen=True)
class Found:
    """What the run measured.

    Attributes:
        model: The model's name.
        message: One of the test messages.
        before: What the model wrote when it was told the schema.
        after: What the tuned model wrote to the message alone.
        right_before: Share of the fields that were right, over all test messages.
        right_after: The same after training.
        records: Messages that were trained on.
        seconds: How long the training took.
        machine: What it ran on.
    """

    model: str
    message: str
    before: str
    after: str
    right_before: Score
    right_after: Score
    records: int
    seconds: float
    machine: str


def measure(model: models.LoadedModel, size: tiers.Tier, settings: Config = SETTINGS) -> Found:
    """Ask, train, and ask again.

    The message shown is the first that only the tuned model reads rightly; the first of all where
    there is none. The shares are over all test messages.

    Args:
        model: The model to train.
        size: How many messages are asked, at least.
        settings: Of the training.
    """
    train = desk.records("train")
    test = desk.records("test")
    if size.name == "smoke":
        train, test = train[:6], test[:3]
    before = prompted(model)(test)
    tuned = finetune(model, train, settings)
    answers = generate(tuned, [r["question"] for r in test], max_new_tokens=desk.LONGEST)
    after = [answer.text.strip() for answer in answers]
    old, new = _scores(before, test), _scores(after, test)
    learned = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if b == 1 > a]
    number = next((n for n in learned if len(test[n]["question"]) < 220), 0)
    return Found(
        model.title,
        test[number]["question"],
        before[number],
        after[number],
        Score.of_values(old),
        Score.of_values(new),
        len(train),
        tuned.seconds,
        machine(model),
    )


def _scores(texts: Sequence[str], records: Sequence[Record]) -> list[float]:
    return [
        desk.scores(text, json.loads(record["answer"]))["fields right"]
        for text, record in zip(texts, records, strict=True)
    ]


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
        sketch.bold(48, 43.5, lines(found.message, 92, 3), fontsize=11)
        _side(sketch, 1, "before", found.model, found.before, ORANGE)
        _side(sketch, 61, "after", f"{found.model}, tuned", found.after, GREEN)
        sketch.box(39, 22, 18, 11, "", INK, fill=PALE)
        sketch.label(48, 30.4, "training", fontsize=SMALL)
        sketch.bold(48, 27.3, duration(found.seconds), fontsize=13)
        sketch.label(48, 24.2, f"{found.records} messages", fontsize=SMALL)
        sketch.label(48, 19.5, found.machine, fontsize=SMALL)
        sketch.arrow(35, 27.5, 39, 27.5)
        sketch.arrow(57, 27.5, 61, 27.5)
        unseen = f"{found.right_after.total} unseen messages"
        sketch.label(1, 11.2, "fields right in", ha="left", fontsize=SMALL)
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


def _interval(sketch: Sketch, y: float, name: str, rate: Score, colour: str) -> None:
    """A bar for a mean share, with its 95 % interval as a thin line."""
    x, length = 30, 40
    track = {"y": y, "height": 3.2, "left": x}
    sketch.axes.barh(width=length, facecolor=PALE, **track)
    sketch.axes.barh(width=length * rate.mean, facecolor=colour, **track)
    low, high = (x + length * end for end in (rate.low, rate.high))
    for line, width in (("white", 4.5), (INK, 1.8)):
        sketch.axes.plot([low, high], [y, y], color=line, linewidth=width, solid_capstyle="butt")
    sketch.bold(x - 1, y, name, ha="right", color=colour)
    sketch.bold(x + length + 1, y, f"{percent(rate.mean)} %", ha="left")


def alt(found: Found) -> str:
    """The picture in words."""
    said = [
        "".join(sign if sign.isprintable() else "�" for sign in " ".join(text.split()))
        for text in (found.message, found.before, found.after)
    ]
    shares = [f"{percent(score.mean)} %" for score in (found.right_before, found.right_after)]
    return (
        f"{found.model} is told to write the JSON that an order desk needs of this message: "
        f"{said[0]} Before training it writes: {said[1]} After {duration(found.seconds)} of "
        f"training on {found.records} other messages ({found.machine}) it writes: {said[2]} "
        f"Fields right in {found.right_after.total} unseen messages: {shares[0]} before, "
        f"{shares[1]} after."
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
        found = measure(models.load(tiers.PAIRS[size.models].base), size)
        write_text(options.out, svg(found))
    except CourseError as error:
        parser.exit(1, f"{error}\n")
    words = alt(found).replace("[", "(").replace("]", ")")  # they would end the picture's text
    print(f"{options.out} is drawn. For the README:\n![{words}]({options.out.name})")


if __name__ == "__main__":
    main()
