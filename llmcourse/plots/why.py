"""The pictures of why one fine-tunes: what it is, what it does, and against what."""

from __future__ import annotations

from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE
from llmcourse.plots.diagrams import canvas
from llmcourse.plots.sketch import SMALL, Measured, arrow, bar, box, card, finish, label

_TRAININGS = (
    ("general practitioner", "years with hearts alone", "heart surgeon"),
    ("GPT-3", "trained to answer", "ChatGPT"),
    ("GPT-4", "trained to write code", "GitHub Copilot"),
    ("a general model", "your records, minutes", "your own model"),
)


def general_to_special() -> None:
    """Show fine-tuning as the way from a generalist to a specialist."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.5)
    label(axes, 16, 43, "general", fontsize=13, fontweight="bold", color=ORANGE)
    label(axes, 80, 43, "special", fontsize=13, fontweight="bold", color=GREEN)
    for row, (before, how, after) in enumerate(_TRAININGS):
        bottom, own = 34 - row * 8.5, row == len(_TRAININGS) - 1
        style = {"fontsize": 11, "fontweight": "bold" if own else "normal"}
        box(axes, 2, bottom, 28, 6, before, ORANGE, **style)
        box(axes, 66, bottom, 28, 6, after, GREEN, **style)
        arrow(axes, (30, bottom + 3), (66, bottom + 3))
        label(axes, 48, bottom + 4.6, how)
    facts = measured.change(
        "learns-new-information", "before: facts right, held-out wordings",
        "LoRA: facts right, held-out wordings",
    )  # fmt: skip
    label(axes, 48, 3, f"the company's facts right, before and after: {facts}")
    finish(
        figure,
        "Fine-tuning goes on with the training of a model that is there, on one purpose.",
        "Four arrows from general to special. "
        + "; ".join(f"{before}, {how}: {after}" for before, how, after in _TRAININGS)
        + f". The company's facts right, before and after: {facts}.",
        measured=measured,
    )


# Title, what a reader should know, claim, number before, number after.
_GAINS = (
    ("Steadier answers", "agreement of five answers\nto one question; more is better",
     "consistency", "chat: agreement of five answers", "tuned: agreement of five answers"),
    ("Less invention", "answers that are sure and wrong;\nfewer are better",
     "hallucination", "chat alone: confident and wrong", "tuned: confident and wrong"),
    ("New knowledge", "the company's facts right,\nin new wordings; more is better",
     "learns-new-information", "before: facts right, held-out wordings",
     "LoRA: facts right, held-out wordings"),
    ("A manner of its own", "answers in the company's style;\nmore is better",
     "tone", "chat alone: in style", "tuned, not told: in style"),
)  # fmt: skip


def what_it_does() -> None:
    """Show what fine-tuning changes, as bars before and after."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.8)
    said = []
    label(axes, 36, 46.3, "before", ha="left", color=BLUE, fontweight="bold")
    label(axes, 45, 46.3, "and after tuning", ha="left", color=GREEN, fontweight="bold")
    for row, (title, about, claim, before, after) in enumerate(_GAINS):
        middle = 39.5 - row * 11
        if measured.too_close(claim, before, after):
            title += " (too close to tell)"
        label(axes, 1, middle + 3, title, ha="left", fontsize=11, fontweight="bold")
        label(axes, 1, middle - 1.4, about, ha="left", fontsize=SMALL)
        for shift, name, colour, hatch in ((1.6, before, BLUE, None), (-1.6, after, GREEN, "///")):
            told = measured.said(claim, name)
            bar(axes, 36, middle + shift, 40, measured.value(claim, name), told, colour,
                hatch=hatch)  # fmt: skip
        pair = f"before {measured.said(claim, before)}, after {measured.said(claim, after)}"
        said.append(f"{title}, {' '.join(about.split())}: {pair}")
    finish(
        figure,
        "What fine-tuning does for a model. A bar across the whole track would be 1, or 100 %.",
        "Two bars each for four gains. " + ". ".join(said) + ".",
        measured=measured,
    )


_BEHAVIOURS = (
    ("ends by itself", "base-continues", "base: ends by itself", "chat: ends by itself"),
    ("goes in circles", "base-continues", "base: repeated 4-grams, mean share",
     "chat: repeated 4-grams, mean share"),
    ("answers with a question", "question-breeds-questions", "base: starts with a question",
     "chat: starts with a question"),
    ("finishes your sentence", "tags-matter", "base, no tags: completes the sentence",
     "chat, its tags: completes the sentence"),
)  # fmt: skip


def tuned_or_not() -> None:
    """Show how a base and a tuned model take the same words."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.6)
    box(axes, 46, 38, 28, 5.5, "your words", INK, fontsize=11)
    for left, name, about, colour in (
        (26, "base model", "takes them for the beginning\nof a page, and writes on", ORANGE),
        (62, "chat model", "takes them for a request,\nand answers", BLUE),
    ):
        card(axes, left, 21.5, 32, 10.5, name, about, colour)
        arrow(axes, (60, 38), (left + 16, 32))
    said = []
    for row, (name, claim, base, chat) in enumerate(_BEHAVIOURS):
        height = 16.5 - row * 4.6
        label(axes, 1, height, name, ha="left", fontweight="bold")
        label(axes, 42, height, measured.said(claim, base))
        label(axes, 78, height, measured.said(claim, chat))
        said.append(f"{name}: {measured.said(claim, base)} and {measured.said(claim, chat)}")
    finish(
        figure,
        "The same words, two behaviours, of two models that may differ in more than tuning "
        "(section 3). Circles are the mean share of repeated runs of four words.",
        "The same words go to a base model, which takes them for the beginning of a page and "
        "writes on, and to a chat model, which takes them for a request and answers. Base and "
        "chat: " + "; ".join(said) + ".",
        measured=measured,
    )


_SIDES = (
    ("Prompting", "careful prompt", ORANGE,
     ("no data needed to start", "no cost up front", "no special knowledge"),
     ("little fits into a prompt", "facts are forgotten, or made up",
      "paid for again with each request")),
    ("Fine-tuning", "tuned", GREEN,
     ("as much data as you have", "learns facts and manners", "short requests"),
     ("good pairs must be collected", "training costs time", "needs some knowledge")),
)  # fmt: skip
_COSTS = (
    ("facts right", "facts right"),
    ("prompt tokens", "prompt tokens"),
    ("milliseconds a question", "ms a question"),
)


def prompt_or_tune() -> None:
    """Show what speaks for prompting and for fine-tuning, and what both came to."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.8)
    said = []
    for column, (name, _, colour, good, bad) in enumerate(_SIDES):
        left = 22 + column * 37
        box(axes, left, 16.5, 35, 30, "", colour, fill=PALE)
        label(axes, left + 17.5, 44, name, fontsize=13, fontweight="bold", color=colour)
        for row, line in enumerate((*good, *bad)):
            sign = "+" if row < len(good) else "−"
            height = 40.2 - row * 3.5 - (1.6 if row >= len(good) else 0)
            label(axes, left + 2, height, sign, ha="left", fontweight="bold")
            label(axes, left + 5, height, line, ha="left")
        said.append(f"{name}. For it: {', '.join(good)}. Against it: {', '.join(bad)}")
    for row, (text, number) in enumerate(_COSTS):
        height = 12.5 - row * 4.6
        label(axes, 1, height, text, ha="left", fontsize=SMALL, fontweight="bold")
        told = [measured.said("prompt-rag-finetune", f"{side[1]}: {number}") for side in _SIDES]
        for column, value in enumerate(told):
            label(axes, 39.5 + column * 37, height, value)
        said.append(f"{text}: {told[0]} with a careful prompt, {told[1]} tuned")
    finish(
        figure,
        "Two ways to change what a model does, and what they came to on the same questions.",
        ". ".join(said) + ".",
        measured=measured,
    )


def benefits() -> None:
    """Show the four benefits of a model of one's own, each with what was measured."""
    measured = Measured()
    figure, axes = canvas(9.6, 4.4)
    way = "prompt-rag-finetune"
    cards = (
        ("Performance", "better on your task\nthan the model it was made from", "facts right",
         measured.change(way, "chat alone: facts right", "tuned: facts right")),
        ("Privacy", "your data and your questions\nstay where they are",
         "connections opened", measured.said("private", "connections to other machines")),
        ("Cost", "short requests, a small model,\nno price for each of them",
         "tokens asked: long prompt, tuned",
         measured.change(way, "careful prompt: prompt tokens", "tuned: prompt tokens")),
        ("Reliability", "the same model tomorrow,\nand answers that agree",
         "agreement of five answers",
         measured.change("consistency", "chat: agreement of five answers",
                         "tuned: agreement of five answers")),
    )  # fmt: skip
    for number, (title, about, what, told) in enumerate(cards):
        left, bottom = 1 + (number % 2) * 48, 22.5 - (number // 2) * 21.5
        card(axes, left, bottom, 46, 20, title, about, (BLUE, GREEN, ORANGE, INK)[number])
        label(axes, left + 23, bottom + 7, what, fontsize=SMALL)
        label(axes, left + 23, bottom + 3, told, fontsize=11, fontweight="bold")
    finish(
        figure,
        "What a model of your own promises, and what became of it here.",
        "Four boxes. "
        + ". ".join(
            f"{title}: {' '.join(about.split())}; {what}: {told}"
            for title, about, what, told in cards
        )
        + ".",
        measured=measured,
    )
