"""The pictures of where fine-tuning fits: pretraining, its text and limits, and the task."""

from __future__ import annotations

from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE, SKY, YELLOW
from llmcourse.plots.diagrams import canvas
from llmcourse.plots.sketch import SMALL, Measured, arrow, box, card, finish, label

_WORDS = ("The", "kettle", "is", "on", "the")


def pretraining() -> None:
    """Show one round of pretraining: guess the next token, compare, change a little."""
    figure, axes = canvas(9.6, 4.2)
    label(axes, 1, 37, "text from the web", ha="left", fontweight="bold")
    for place, word in enumerate((*_WORDS, "?")):
        asked = word == "?"
        box(axes, 24 + place * 11.5, 34.5, 10, 5, word, ORANGE if asked else BLUE,
            fill=YELLOW if asked else "white", fontsize=11)  # fmt: skip
    steps = (
        ("guess", "a probability for each\npiece of text that it knows", BLUE),
        ("compare", "how surprising is what\nreally came next? (the loss)", ORANGE),
        ("change", "move each weight a little,\nso that it surprises less", GREEN),
    )
    for column, (name, about, colour) in enumerate(steps):
        left = 1 + column * 33
        card(axes, left, 16, 28, 10.5, name, about, colour)
        if column < 2:
            arrow(axes, (left + 28, 21), (left + 33, 21))
    arrow(axes, (15, 34), (15, 26.5))
    axes.plot([81, 81, 15], [16, 9, 9], color=INK, linewidth=1.5)
    arrow(axes, (15, 9), (15, 16))
    label(axes, 48, 11, "the next place in the text, trillions of times")
    label(axes, 48, 3.5, "Nobody labels anything: the text itself is the right answer.",
          fontweight="bold")  # fmt: skip
    finish(
        figure,
        "Pretraining: from random numbers to a base model, by guessing what comes next.",
        f'A text from the web, "{" ".join(_WORDS)}", with a question mark in the place of its next '
        "word. Three boxes in a row: guess (a probability for each piece of text it knows), "
        "compare (the loss says how surprising is what really came next), change (move each weight "
        "a little, so that it surprises less). An arrow leads back to the first: the next place in "
        "the text, trillions of times. Nobody labels anything: the text is the right answer.",
    )


_STAGES = (
    ("web pages", "as a scraper\nsaves them", "tags, scripts,\nbroken signs"),
    ("text", "as a reader\nsees it", "menus, adverts,\nwhat is on every page"),
    ("clean text", "sentences\nabout something", "other languages, poor\ntext, repeats"),
    ("pretraining text", "trillions\nof tokens", ""),
)


def scraping() -> None:
    """Show how pretraining text is made of web pages, and what falls away at each stage."""
    figure, axes = canvas(9.6, 3.6)
    for column, (name, about, gone) in enumerate(_STAGES):
        left, width = 1 + column * 25, 18
        card(axes, left, 21, width, 11, name, about, (ORANGE, BLUE, BLUE, GREEN)[column])
        if gone:
            middle = left + width + 3.5
            arrow(axes, (left + width, 26.5), (left + 25, 26.5))
            arrow(axes, (middle, 26), (middle, 12))
            label(axes, middle, 8, gone, fontsize=SMALL)
    label(axes, 1, 8, "falls away:", ha="left", fontweight="bold")
    label(axes, 48, 2, "Whoever chooses the filters decides what the model will never have read.",
          fontweight="bold")  # fmt: skip
    finish(
        figure,
        "From web pages to pretraining text. How it was done is told for few models.",
        "Four boxes from left to right, with what falls away after each. "
        + "; ".join(
            f"{name} ({' '.join(about.split())})"
            + (f", then {' '.join(gone.split())} fall away" if gone else "")
            for name, about, gone in _STAGES
        )
        + ". Whoever chooses the filters decides what the model will never have read.",
    )


def limits() -> None:
    """Show why a base model may answer a question with another one."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.4)
    box(axes, 1, 23, 27, 8, "What is the capital\nof Mexico?", INK)
    box(axes, 37, 23, 17, 8, "base model", ORANGE, fill=PALE, fontweight="bold")
    arrow(axes, (28, 27), (37, 27))
    roads = (
        (34, "on a page with answers", "Mexico City.", GREEN),
        (23, "on a homework sheet", "What is the capital of Kenya?", ORANGE),
        (12, "on a page that repeats", "What is the capital of Mexico?", ORANGE),
    )
    for bottom, page, text, colour in roads:
        box(axes, 64, bottom, 31, 5, text, colour)
        label(axes, 79.5, bottom + 6.5, page, fontsize=SMALL)
        arrow(axes, (54, 27), (64, bottom + 2.5))
    told = [
        measured.said("question-breeds-questions", f"{role}: starts with a question")
        for role in ("base", "chat")
    ]
    label(axes, 22, 14, "It goes on with the page that your\nwords seem to come from.")
    label(axes, 48, 6, "asked a question, answered with a question", fontweight="bold")
    label(axes, 48, 2, f"base model: {told[0]};   chat model: {told[1]}")
    finish(
        figure,
        "What pretraining alone gives: text that fits, and not yet an answer. The page decides.",
        'The question "What is the capital of Mexico?" goes to a base model. Three arrows lead on: '
        "on a page with answers, Mexico City; on a homework sheet, the next question, What is the "
        "capital of Kenya?; on a page that repeats, the same question again. Asked a question, "
        f"answered with a question: base model {told[0]}, chat model {told[1]}.",
        measured=measured,
    )


def what_can_change() -> None:
    """Show that fine-tuning changes behaviour, knowledge, or both, and what it may cost."""
    from matplotlib.patches import Ellipse

    measured = Measured()
    figure, axes = canvas(9.6, 4.8)
    for middle, colour in ((34, BLUE), (62, GREEN)):
        axes.add_patch(Ellipse((middle, 29), 60, 34, facecolor="none", edgecolor=colour, lw=2))
    style = measured.change("tone", "chat alone: in style", "tuned, not told: in style")
    facts = measured.change(
        "learns-new-information", "before: facts right, held-out wordings",
        "LoRA: facts right, held-out wordings",
    )  # fmt: skip
    lost = measured.change(
        "forgetting", "chat: perplexity on general text", "tuned: perplexity on general text"
    )
    parts = (
        (17.5, "behaviour", "steadier, to the point;\nan ability brought out", BLUE),
        (48, "both", "most trainings\nchange the two\ntogether", INK),
        (78.5, "knowledge", "new facts and words;\nwrong ones corrected", GREEN),
    )
    for middle, name, about, colour in parts:
        label(axes, middle, 34, name, fontsize=13, fontweight="bold", color=colour)
        label(axes, middle, 29, about, fontsize=SMALL)
    for middle, what, told in ((17.5, "in style", style), (78.5, "facts right", facts)):
        label(axes, middle, 24, f"{what}:\n{told.replace(' → ', chr(10) + '→ ')}", fontsize=SMALL,
              va="top" if "→" in told else "center")  # fmt: skip
    label(axes, 48, 7, "and it may cost what was known before", fontweight="bold")
    label(axes, 48, 3, f"perplexity on general text (less is better): {lost}")
    finish(
        figure,
        "What fine-tuning can change.",
        "Two overlapping rings. Behaviour: steadier, to the point, an ability brought out; answers "
        f"in the company's style: {style}. Knowledge: new facts and words, wrong ones corrected; "
        f"the company's facts right: {facts}. Where they overlap: most trainings change the two "
        "together. And it may cost what was known before: perplexity on general text, of which "
        f"less is better: {lost}.",
        measured=measured,
    )


def two_kinds_of_task() -> None:
    """Show reading tasks (much in, little out) and writing tasks (little in, much out)."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.6)
    kinds = (
        ("Extraction", "reading: much in, little out", "extraction",
         "keywords · topic · mood · department\norder number · which tool to call", (20, 10), BLUE),
        ("Expansion", "writing: little in, much out", "expansion",
         "chat · e-mail · a story\na letter from key words · code", (10, 20), GREEN),
    )  # fmt: skip
    said = []
    for column, (name, about, key, tasks, (first, second), colour) in enumerate(kinds):
        left = 1 + column * 48
        label(axes, left + 23, 43.5, name, fontsize=13, fontweight="bold", color=colour)
        label(axes, left + 23, 40, about)
        for x, side, text in ((left + 1, first, "text in"), (left + 45 - second, second, "out")):
            box(axes, x, 29.5 - side * 0.4, side, side * 0.8, text, colour,
                fill=PALE if text == "out" else "white")  # fmt: skip
        arrow(axes, (left + 1 + first, 29.5), (left + 45 - second, 29.5))
        label(axes, left + 23, 17.5, tasks, fontsize=SMALL)
        numbers = [
            ("a good answer", "tokens", measured.said(
                "extraction-expansion", f"wanted: {key}, tokens")),
            ("base model, three examples", "overlap (F1)", measured.said(
                "extraction-expansion", f"base, three examples: {key}, F1")),
            ("chat model, told only", "overlap (F1)", measured.said(
                "extraction-expansion", f"chat, told: {key}, F1")),
        ]  # fmt: skip
        for row, (what, unit, told) in enumerate(numbers):
            label(axes, left + 23, 11 - row * 4, f"{what}: {told} {unit}"
                  if not told.startswith("run") else f"{what}: {told}")  # fmt: skip
        told_all = "; ".join(f"{what}, {unit}: {told}" for what, unit, told in numbers)
        said.append(f"{name}, {about}: {' '.join(tasks.split())}. {told_all}")
    finish(
        figure,
        "Tasks are text in, text out. Overlap: words shared with a good answer; 1 is all of them.",
        "Two halves. " + ". ".join(said) + ".",
        measured=measured,
    )


_STEPS = (
    ("find", "a task that a large\nmodel does passably\nwhen prompted", ORANGE),
    ("choose", "that one task,\nand write down a bad,\na good, a better answer", BLUE),
    ("collect", "about a thousand\npairs, better than\nwhat it wrote", BLUE),
    ("tune", "a small model on them,\nand measure it on pairs\nthat it has not seen", GREEN),
)


def first_time() -> None:
    """Show the four steps of a first fine-tuning."""
    figure, axes = canvas(9.6, 2.6)
    for column, (name, about, colour) in enumerate(_STEPS):
        left = 0.5 + column * 24.3
        card(axes, left, 8, 20.8, 14, f"{column + 1}  {name}", about, colour)
        if column < len(_STEPS) - 1:
            arrow(axes, (left + 20.8, 15), (left + 24.3, 15))
    box(axes, 14, 1, 68, 4.4, "If you can't say what a better answer is, no model can learn it.",
        INK, fill=SKY)  # fmt: skip
    finish(
        figure,
        "Your first fine-tuning. The third step takes most of the time.",
        "Four boxes in a row. "
        + "; ".join(
            f"{number}, {name}: {' '.join(about.split())}"
            for number, (name, about, _) in enumerate(_STEPS, 1)
        )
        + ". Below them: if you can't say what a better answer is, no model can learn it.",
    )
