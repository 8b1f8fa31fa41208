"""The pictures of instruction fine-tuning: what it is, its data, and what carries over."""

from __future__ import annotations

from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE
from llmcourse.plots.sketch import SMALL, Sketch, one_line
from llmcourse.plots.why import FACTS

_PAIRS = (
    ("Name three fruits.", "Apple, pear, plum."),
    ("Is this mail friendly? …", "No."),
    ("Write a slogan for a lamp.", "Light that stays up late."),
)


def instruction_tuning() -> None:
    """Show how pairs of request and answer make a model that follows instructions."""
    draw = Sketch(9.6, 4.2)
    draw.card(1, 17, 19, 12, "base model", "continues text,\nand seldom stops", ORANGE)
    draw.card(76, 17, 19, 12, "tuned model", "does what is asked,\nand stops", GREEN)
    draw.bold(48, 39.5, "pairs of request and answer, of many kinds")
    for row, (request, answer) in enumerate(_PAIRS):
        bottom = 31 - row * 7.2
        draw.box(25, bottom, 24, 5.4, request, BLUE, fontsize=SMALL)
        draw.box(52, bottom, 19, 5.4, answer, BLUE, fill=PALE, fontsize=SMALL)
        draw.arrow(49, bottom + 2.7, 52, bottom + 2.7)
    draw.label(48, 13.2, "each answer with an end token: done", fontsize=SMALL)
    draw.arrow(20, 23, 25, 23)
    draw.arrow(71, 23, 76, 23)
    base, tuned = draw.measured.texts("synthetic-data", "proper, finished")
    draw.bold(48, 7.5, "proper, finished answers to new instructions")
    draw.label(10.5, 3, base, fontsize=11)
    draw.label(85.5, 3, tuned, fontsize=11)
    draw.arrow(22, 3, 74, 3)  # the numbers are below the models that they belong to
    draw.finish(
        "Instruction fine-tuning: the kind that made GPT-3, which continued text, into ChatGPT.",
        "Diagram. From a base model, which continues text and seldom stops, arrows lead through "
        "pairs of request and answer to a tuned model, which does what is asked and stops. The "
        f"pairs: {'; '.join(map(' '.join, _PAIRS))} Each answer has an end token. Proper, finished "
        f"answers to new instructions: base {base}, tuned {tuned}.",
    )


_FOUND = ("FAQ pages", "support mails", "chat channels")
_MADE = (
    ("README, manual", "a template", "What does … say\nabout …?"),
    ("passages", "a model writes", "question and\nanswer to each"),
    ("a few seed tasks", "a model writes", "new tasks and\nanswers (Alpaca)"),
)


def instruction_data() -> None:
    """Show where instruction data come from: found as pairs, or made and filtered."""
    draw = Sketch(9.6, 4.8)
    draw.bold(13, 45.5, "pairs already", fontsize=12, color=GREEN)
    draw.bold(64, 45.5, "made of what you have", fontsize=12, color=BLUE)
    for row, (name, (source, how, what)) in enumerate(zip(_FOUND, _MADE, strict=True)):
        bottom = 36.5 - row * 8.5
        draw.box(2, bottom, 22, 6, name, GREEN)
        draw.box(33, bottom, 19, 6, source, BLUE)
        draw.arrow(52, bottom + 3, 74, bottom + 3)
        draw.label(63, bottom + 4.6, how, fontsize=SMALL)
        draw.box(74, bottom, 20, 6, what, BLUE, fontsize=SMALL)
    draw.box(74, 9.5, 20, 5.5, "filters", ORANGE, fill=PALE, fontweight="bold")
    draw.arrow(84, 19.5, 84, 15)
    draw.box(28, 9.5, 30, 5.5, "pairs to read, then to train on", INK, fill=PALE)
    draw.arrow(74, 12.2, 58, 12.2)
    draw.path([13, 13, 28], [19.5, 12.2, 12.2])
    written = draw.measured.text("synthetic-data", "records written")
    passed = draw.measured.text("synthetic-data", "records that passed")
    draw.bold(48, 3, f"the last method here: written {written}, passed the filters {passed}")
    draw.finish(
        "Where instruction data come from. A model's pairs are filtered, then read by a person.",
        f"Diagram. Left, pairs already: {', '.join(_FOUND)}. Right, made of what you have: "
        + "; ".join(f"{source}, {how}: {one_line(what)}" for source, how, what in _MADE)
        + ". What was made goes through filters; all of it becomes pairs to read, then to train "
        f"on. The last method here: written {written}, passed the filters {passed}.",
    )


_KINDS = ("asking for facts", "explaining", "listing", "how-to", "advising")
_HELD_OUT = ("comparing", "coding")


def carries_over() -> None:
    """Show that tuning on some kinds of tasks helps with kinds that were held out."""
    draw = Sketch(9.6, 3.8)
    draw.bold(13, 35.5, "kinds of the seed tasks", color=BLUE)
    for row, kind in enumerate(_KINDS):
        draw.box(3, 29 - row * 6, 20, 4.6, kind, BLUE)
        draw.arrow(23, 31.3 - row * 6, 33, 19.3)
    draw.card(33, 13, 24, 13, "a new behaviour", "read the request,\nanswer it, stop", GREEN)
    draw.bold(79, 35.5, "kinds held out", color=ORANGE)
    for row, kind in enumerate(_HELD_OUT):
        draw.box(69, 26 - row * 9, 20, 6, kind, ORANGE)
        draw.arrow(57, 19.3, 69, 29 - row * 9)
    base, tuned = draw.measured.texts("generalises", "proper, finished; kinds held out")
    draw.bold(79, 12, "proper, finished answers")
    draw.label(79, 8, f"base: {base}")
    draw.label(79, 4, f"tuned: {tuned}")
    draw.finish(
        "The form of an answer carries over to kinds that were not in the pairs. Whether it is "
        "right is another matter.",
        f"Diagram. Kinds of seed tasks, such as {', '.join(_KINDS)}, lead to a new behaviour: "
        "read the request, answer it, stop. From it arrows lead to kinds that were held out: "
        f"{' and '.join(_HELD_OUT)}. Proper, finished answers to those: base {base}, tuned "
        f"{tuned}.",
    )


def meets_pretraining() -> None:
    """Show what a tuned model knows: what it read in pretraining, in the pairs, or nowhere."""
    draw = Sketch(9.6, 4.8)
    # Three of the four boxes have a number from the ledger; for the first nothing was measured.
    form = draw.measured.text("generalises", "tuned: proper, finished; kinds held out")
    learned = draw.measured.text(FACTS[0], FACTS[2])
    invented = draw.measured.text("hallucination", "untuned, untaught: confident and wrong")
    agree = "the safest ground:\nknowledge and form agree"
    other = "asked to compare things: the form\ncarries over, and knowledge may come out"
    new = "a new fact: learned, if it is seen\noften and in several wordings"
    nowhere = "the form of an answer without\na fact: it is made up"
    cells = (
        ("known, and in the pairs", agree, "", GREEN),
        ("known, not in the pairs", other, f"proper in form: {form}", BLUE),
        ("not known, in the pairs", new, f"facts right: {learned}", BLUE),
        ("not known, nowhere", nowhere, f"confident and wrong, untuned: {invented}", ORANGE),
    )
    draw.bold(36, 45.5, "in the tuning pairs")
    draw.bold(76, 45.5, "not in the tuning pairs")
    draw.bold(7.5, 33, "read in\npretraining")
    draw.bold(7.5, 11.5, "never read")
    texts = []
    for number, (name, about, value, colour) in enumerate(cells):
        left, bottom = 17 + (number % 2) * 39.5, 23 - (number // 2) * 21.5
        draw.card(left, bottom, 38, 20, name, about, colour)
        draw.bold(left + 19, bottom + 4, value, fontsize=SMALL)
        texts.append(f"{name}: {one_line(about)}" + (f"; {value}" if value else ""))
    draw.finish(
        "A behaviour that was tuned meets knowledge that was there before.",
        "Diagram. A table of four boxes: rows are read in pretraining and never read, columns are "
        "in the tuning pairs and not in them. " + ". ".join(texts) + ".",
    )
