"""The pictures of instruction fine-tuning: what it is, its data, and what carries over."""

from __future__ import annotations

from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE
from llmcourse.plots.diagrams import canvas
from llmcourse.plots.sketch import SMALL, Measured, arrow, box, card, finish, label

_PAIRS = (
    ("Name three fruits.", "Apple, pear, plum."),
    ("Is this mail friendly? …", "No."),
    ("Write a slogan for a lamp.", "Light that stays up late."),
)


def instruction_tuning() -> None:
    """Show how pairs of request and answer make a model that follows instructions."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.2)
    card(axes, 1, 17, 19, 12, "base model", "continues text,\nand seldom stops", ORANGE)
    card(axes, 76, 17, 19, 12, "tuned model", "does what is asked,\nand stops", GREEN)
    label(axes, 48, 39.5, "pairs of request and answer, of many kinds", fontweight="bold")
    for row, (request, answer) in enumerate(_PAIRS):
        bottom = 31 - row * 7.2
        box(axes, 25, bottom, 24, 5.4, request, BLUE, fontsize=SMALL)
        box(axes, 52, bottom, 19, 5.4, answer, BLUE, fill=PALE, fontsize=SMALL)
        arrow(axes, (49, bottom + 2.7), (52, bottom + 2.7))
    label(axes, 48, 13.2, "each answer with an end token: done", fontsize=SMALL)
    arrow(axes, (20, 23), (25, 23))
    arrow(axes, (71, 23), (76, 23))
    told = [measured.said("synthetic-data", f"{role}: proper, finished")
            for role in ("base", "tuned")]  # fmt: skip
    label(axes, 48, 7.5, "proper, finished answers to new instructions", fontweight="bold")
    label(axes, 10.5, 3, told[0], fontsize=11)
    label(axes, 85.5, 3, told[1], fontsize=11)
    arrow(axes, (22, 3), (74, 3))
    finish(
        figure,
        "Instruction fine-tuning: the kind that made GPT-3, which continued text, into ChatGPT.",
        "From a base model, which continues text and seldom stops, arrows lead through pairs of "
        "request and answer to a tuned model, which does what is asked and stops. The pairs: "
        + "; ".join(f"{request} {answer}" for request, answer in _PAIRS)
        + " Each answer has an end token. Proper, finished answers to new instructions: base "
        f"{told[0]}, tuned {told[1]}.",
        measured=measured,
    )


_FOUND = ("FAQ pages", "support mails", "chat channels")
_MADE = (
    ("README, manual", "a template", "What does … say\nabout …?"),
    ("passages", "a model writes", "question and\nanswer to each"),
    ("a few seed tasks", "a model writes", "new tasks and\nanswers (Alpaca)"),
)


def instruction_data() -> None:
    """Show where instruction data come from: found as pairs, or made and filtered."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.8)
    label(axes, 13, 45.5, "pairs already", fontsize=12, fontweight="bold", color=GREEN)
    for row, name in enumerate(_FOUND):
        box(axes, 2, 36.5 - row * 8.5, 22, 6, name, GREEN)
    label(axes, 64, 45.5, "made of what you have", fontsize=12, fontweight="bold", color=BLUE)
    for row, (source, how, what) in enumerate(_MADE):
        bottom = 36.5 - row * 8.5
        box(axes, 33, bottom, 19, 6, source, BLUE)
        arrow(axes, (52, bottom + 3), (74, bottom + 3))
        label(axes, 63, bottom + 4.6, how, fontsize=SMALL)
        box(axes, 74, bottom, 20, 6, what, BLUE, fontsize=SMALL)
    box(axes, 74, 9.5, 20, 5.5, "filters", ORANGE, fill=PALE, fontweight="bold")
    arrow(axes, (84, 19.5), (84, 15))
    box(axes, 28, 9.5, 30, 5.5, "pairs to read, then to train on", INK, fill=PALE)
    arrow(axes, (74, 12.2), (58, 12.2))
    axes.plot([13, 13], [19.5, 12.2], color=INK, linewidth=1.5)
    arrow(axes, (13, 12.2), (28, 12.2))
    written = measured.said("synthetic-data", "records written")
    passed = measured.said("synthetic-data", "records that passed")
    label(axes, 48, 3, f"the last way here: written {written}, passed the filters {passed}",
          fontweight="bold")  # fmt: skip
    finish(
        figure,
        "Where instruction data come from. A model's pairs are filtered, then read by a person.",
        f"Left, pairs already: {', '.join(_FOUND)}. Right, made of what you have: "
        + "; ".join(f"{s}, {how}: {' '.join(what.split())}" for s, how, what in _MADE)
        + ". What was made goes through filters; all of it becomes pairs to read, then to train "
        f"on. The last way here: written {written}, passed the filters {passed}.",
        measured=measured,
    )


_KINDS = ("asking for facts", "explaining", "listing", "how-to", "advising")
_HELD_OUT = ("comparing", "coding")


def carries_over() -> None:
    """Show that tuning on some kinds of tasks helps with kinds that were held out."""
    measured = Measured()
    figure, axes = canvas(9.6, 3.8)
    label(axes, 13, 35.5, "kinds of the seed tasks", fontweight="bold", color=BLUE)
    for row, kind in enumerate(_KINDS):
        box(axes, 3, 29 - row * 6, 20, 4.6, kind, BLUE)
        arrow(axes, (23, 31.3 - row * 6), (33, 19.3))
    card(axes, 33, 13, 24, 13, "a new behaviour", "read the request,\nanswer it, stop", GREEN)
    label(axes, 79, 35.5, "kinds held out", fontweight="bold", color=ORANGE)
    for row, kind in enumerate(_HELD_OUT):
        box(axes, 69, 26 - row * 9, 20, 6, kind, ORANGE)
        arrow(axes, (57, 19.3), (69, 29 - row * 9))
    told = [
        measured.said("generalises", f"{role}: proper, finished; kinds held out")
        for role in ("base", "tuned")
    ]
    label(axes, 79, 12, "proper, finished answers", fontweight="bold")
    label(axes, 79, 8, f"base: {told[0]}")
    label(axes, 79, 4, f"tuned: {told[1]}")
    finish(
        figure,
        "The form of an answer carries over to kinds that were not in the pairs. Whether it is "
        "right is another matter.",
        f"Kinds of seed tasks, such as {', '.join(_KINDS)}, lead to a new behaviour: "
        "read the request, answer it, stop. From it arrows lead to kinds that were held out: "
        f"{' and '.join(_HELD_OUT)}. Proper, finished answers to those: base {told[0]}, tuned "
        f"{told[1]}.",
        measured=measured,
    )


def meets_pretraining() -> None:
    """Show what a tuned model knows: what it read in pretraining, in the pairs, or nowhere."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.8)
    learned = measured.said("learns-new-information", "LoRA: facts right, held-out wordings")
    invented = measured.said("hallucination", "chat alone: confident and wrong")
    other = measured.said("generalises", "tuned: proper, finished; kinds held out")
    cells = (
        ("known, and in the pairs", "the safest ground:\nknowledge and form agree", "", GREEN),
        ("known, not in the pairs",
         "asked to compare things: the form\ncarries over, and knowledge may come out",
         f"proper in form: {other}", BLUE),
        ("not known, in the pairs", "a new fact: learned, if it is seen\noften and in several "
         "wordings", f"facts right: {learned}", BLUE),
        ("not known, nowhere", "the form of an answer without\na fact: it is made up",
         f"sure and wrong, untuned: {invented}", ORANGE),
    )  # fmt: skip
    label(axes, 36, 45.5, "in the tuning pairs", fontweight="bold")
    label(axes, 76, 45.5, "not in the tuning pairs", fontweight="bold")
    label(axes, 7.5, 33, "read in\npretraining", fontweight="bold")
    label(axes, 7.5, 11.5, "never read", fontweight="bold")
    said = []
    for number, (name, about, told, colour) in enumerate(cells):
        left, bottom = 17 + (number % 2) * 39.5, 23 - (number // 2) * 21.5
        card(axes, left, bottom, 38, 20, name, about, colour)
        label(axes, left + 19, bottom + 4, told, fontweight="bold", fontsize=SMALL)
        said.append(f"{name}: {' '.join(about.split())}" + (f"; {told}" if told else ""))
    finish(
        figure,
        "A manner that was tuned meets knowledge that was there before.",
        "A table of four boxes: rows are read in pretraining and never read, columns are in the "
        "tuning pairs and not in them. " + ". ".join(said) + ".",
        measured=measured,
    )
