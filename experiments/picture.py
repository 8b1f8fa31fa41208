"""Draw the README's opening picture from the published run's answers.

    python -m experiments structured-output     made them, and goes on where one is missing
    python -m experiments.picture [--out docs/opening.svg]

An order desk needs five fields of each customer's message as JSON. The picture shows what the chat
model wrote after five examples in the prompt, and what it wrote after training on other messages;
below, how many messages of the test each way got all right, beside rules that a programmer wrote.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.textpath import TextPath

from experiments.__main__ import ANSWERS
from experiments.desk import CLAIMS
from experiments.run import SIZES, Run
from llmcourse import tiers
from llmcourse.company import desk
from llmcourse.files import work_dir, write_text
from llmcourse.models import PACKAGED
from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, STYLE, label_text
from llmcourse.plots.sketch import SMALL, Sketch
from llmcourse.stats import Score, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
ARMS = {  # in the picture: in `experiments.desk`
    "five examples": "desk, few-shot, seed 0, messages",
    "rules": "rules, seed 0, messages",
    "tuned": "desk, tuned chat, seed 0, messages",
}
COLOURS = {"five examples": ORANGE, "rules": BLUE, "tuned": GREEN}


@dataclass(frozen=True)
class Found:
    """What the picture shows.

    Attributes:
        model: The chat model's name.
        message: A test message: the first with all five fields in it of which the tuned model alone
            gets all right.
        answer: The right answer, as JSON.
        few_shot: What the model wrote after five examples.
        tuned: What the tuned model wrote.
        right: Way -> share of the test messages with all five fields right.
        records: Messages that were trained on.
    """

    model: str
    message: str
    answer: str
    few_shot: str
    tuned: str
    right: Mapping[str, Score]
    records: int


def published(run: Run) -> Found:
    """The picture of a run's answers; what is not kept yet is measured first.

    Args:
        run: See `experiments.run`.
    """
    CLAIMS["structured-output"](run)
    kept: dict[str, Any] = {name: run.kept(what, dict) for name, what in ARMS.items()}
    test = desk.records("test")
    alone = [
        place
        for place, record in enumerate(test[: len(kept["tuned"]["answers"])])
        if "null" not in record["answer"]
        and [kept[name]["all right"][place] for name in ARMS] == [0, 0, 1]
    ]
    number = alone[0] if alone else 0
    return Found(
        PACKAGED[run.pair["chat"]].title if run.pair["chat"] in PACKAGED else run.pair["chat"],
        test[number]["question"],
        test[number]["answer"],
        kept["five examples"]["answers"][number],
        kept["tuned"]["answers"][number],
        {name: Score.of_values(found["all right"]) for name, found in kept.items()},
        len(desk.records("train")),
    )


def lines(text: str, width: int, most: int) -> str:
    """`text` on at most so many lines of so many letters; "…" where it was cut."""
    allowed = 1.1 * width
    given = " ".join(text.split()) or "(nothing)"
    while True:
        wrapped = textwrap.wrap(given, width, max_lines=most, placeholder=" …")
        if width <= 8 or max(map(breadth, wrapped)) <= allowed:
            return label_text("\n".join(wrapped))
        width -= 2


def marked(text: str, answer: str) -> str:
    """A line for each field and whether it is right; what is no JSON as it was written."""
    right = json.loads(answer)
    if not desk.scores(text, right)["valid"]:
        return lines(text, 36, 7)
    filed = json.loads(text)
    ok = {field for field in right if field in filed and filed[field] == right[field]}
    return "\n".join(
        lines(f"{'✓' if field in ok else '✗'}  {field}: {json.dumps(filed.get(field))}", 40, 1)
        for field in right
    )


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
        sketch = Sketch(9.6, 4.9)
        sketch.bold(48, 46, lines(found.message, 92, 3), fontsize=11)
        for left, name, text, colour in (
            (1, "five examples in the prompt", found.few_shot, ORANGE),
            (61, "tuned", found.tuned, GREEN),
        ):
            sketch.box(left, 21, 34, 20, "", colour)
            sketch.bold(left + 17, 38.6, name, fontsize=SMALL, color=colour)
            shown = {"fontsize": 10.5, "linespacing": 1.5, "multialignment": "left"}
            sketch.label(left + 17, 29.3, marked(text, found.answer), **shown)
        sketch.box(39, 25, 18, 10, "", INK, fill=PALE)
        sketch.label(48, 32.4, "training", fontsize=SMALL)
        sketch.bold(48, 29.8, f"{found.records} messages", fontsize=12)
        sketch.label(48, 26.9, found.model, fontsize=SMALL)
        sketch.arrow(35, 30, 39, 30)
        sketch.arrow(57, 30, 61, 30)
        total = found.right["tuned"].total
        sketch.label(1, 13.6, "all five fields right", ha="left", fontsize=SMALL)
        sketch.label(1, 10.6, f"in {total} unseen messages", ha="left", fontsize=SMALL)
        for row, (name, rate) in enumerate(found.right.items()):
            _interval(sketch, 15.5 - 4.6 * row, name, rate, COLOURS[name])
        sketch.label(58, 1.6, "thin line: 95 % interval", fontsize=SMALL)
    return sketch.figure


def _interval(sketch: Sketch, y: float, name: str, rate: Score, colour: str) -> None:
    """A bar for a share, with its 95 % interval as a thin line."""
    x, length = 38, 40
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
        for text in (found.message, found.few_shot, found.tuned)
    ]
    shares = ", ".join(f"{name} {percent(rate.mean)} %" for name, rate in found.right.items())
    return (
        f"A customer writes: {said[0]} After five examples in the prompt, {found.model} makes "
        f"this of it: {said[1]} After training on {found.records} other messages: {said[2]} All "
        f"five fields right in {found.right['tuned'].total} unseen messages: {shares}."
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
    """Draw, and print the line for the README."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "opening.svg")
    options = parser.parse_args(arguments)
    size = SIZES["published"]
    pair = {"base": tiers.PAIRS["packaged"].base, "chat": tiers.PAIRS["packaged"].chat}
    folder = work_dir() / "experiments" / size.name
    # one seed: the picture shows single answers
    found = published(Run(folder, replace(size, seeds=1), pair, ANSWERS))
    write_text(options.out, svg(found))
    words = alt(found).replace("[", "(").replace("]", ")")  # they would end the picture's text
    print(f"{options.out} is drawn. For the README:\n![{words}]({options.out.name})")


if __name__ == "__main__":
    main()
