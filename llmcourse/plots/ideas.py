"""The pictures of lessons 01 and 02: why one fine-tunes, and where it fits after pretraining."""

from __future__ import annotations

from llmcourse.plots.base import BLUE, GREEN, INK, ORANGE, PALE
from llmcourse.plots.sketch import SMALL, Sketch, one_line, still

first_time = still("first_time")
general_to_special = still("general_to_special")
pretraining = still("pretraining")
scraping = still("scraping")

# What is shown is what the lessons recorded under these names, in the learner's own ledger.
# Claim, number before and number after training, where several pictures show them.
AGREEMENT = ("consistency", *(f"{role}: agreement of three answers" for role in ("chat", "tuned")))
FACTS = (
    "learns-new-information",
    *(f"{model}: facts right, held-out paraphrases" for model in ("before", "LoRA")),
)
STYLE = ("tone", "zero-shot: in style", "tuned, no prompt: in style")


# Title, what a reader should know, and the numbers.
INVENTED = (
    "hallucination",
    *(f"{model}, taught: confident and wrong" for model in ("untuned", "tuned")),
)
_GAINS = (
    ("Steadier answers", "agreement of three answers\nto one question; more is better", AGREEMENT),
    ("Less invention", "confident and wrong on what was\ntaught; fewer are better", INVENTED),
    ("New knowledge", "the company's facts right,\nin new wordings; more is better", FACTS),
    ("A style of its own", "answers in the company's style;\nmore is better", STYLE),
)


def what_it_does() -> None:
    """Show what fine-tuning changes, as bars before and after."""
    draw = Sketch(9.6, 4.8)
    gains = []
    draw.bold(36, 46.3, "before", ha="left", color=BLUE)
    draw.bold(45, 46.3, "and after tuning", ha="left", color=GREEN)
    for row, (title, about, (claim, before, after)) in enumerate(_GAINS):
        middle = 39.5 - row * 11
        if draw.measured.too_close(claim, before, after):  # a longer bar is no gain by itself
            title += " (too close to tell)"
        draw.bold(1, middle + 3, title, ha="left", fontsize=11)
        draw.label(1, middle - 1.4, about, ha="left", fontsize=SMALL)
        texts = [draw.measured.text(claim, name) for name in (before, after)]
        parts = [draw.measured.value(claim, name) for name in (before, after)]
        draw.bar(36, middle + 1.6, 40, parts[0], texts[0], BLUE)
        # Hatched as well as green: "before" and "after" differ without colours.
        draw.bar(36, middle - 1.6, 40, parts[1], texts[1], GREEN, hatch="///")
        gains.append(f"{title}, {one_line(about)}: before {texts[0]}, after {texts[1]}")
    draw.finish(
        "What fine-tuning does for a model. A bar across the full track would be 1, or 100 %.",
        "Diagram. Two bars each for four gains. " + ". ".join(gains) + ".",
    )


_ROLES, _TAGS = ("base", "chat"), ("base, no template", "chat, its template")
_BEHAVIOURS = (
    ("ends by itself", "base-continues", _ROLES, "ends by itself"),
    ("repeated 4-grams", "base-continues", _ROLES, "repeated 4-grams, mean share"),
    ("answers with a question", "question-breeds-questions", _ROLES, "starts with a question"),
    ("finishes your sentence", "tags-matter", _TAGS, "completes the sentence"),
)


def tuned_or_not() -> None:
    """Show how a base and a tuned model take the same prompt."""
    draw = Sketch(9.6, 4.6)
    draw.box(46, 38, 28, 5.5, "your prompt", INK, fontsize=11)
    base = "takes it for the beginning\nof a page, and continues it"
    draw.card(26, 21.5, 32, 10.5, "base model", base, ORANGE)
    draw.card(62, 21.5, 32, 10.5, "chat model", "takes it for a request,\nand answers", BLUE)
    draw.arrow(60, 38, 42, 32)
    draw.arrow(60, 38, 78, 32)
    pairs = []
    for row, (name, claim, roles, what) in enumerate(_BEHAVIOURS):
        height = 16.5 - row * 4.6
        values = draw.measured.texts(claim, what, roles)
        draw.bold(1, height, name, ha="left")
        draw.label(42, height, values[0])
        draw.label(78, height, values[1])
        pairs.append(f"{name}: {values[0]} and {values[1]}")
    draw.finish(
        "The same prompt, two behaviours, of two models that may differ in more than tuning "
        "(section 3). Repeated 4-grams: the mean share of repeated runs of four words.",
        "Diagram. The same prompt goes to a base model, which takes it for the beginning of a page "
        "and continues it, and to a chat model, which takes it for a request and answers. Base and "
        "chat: " + "; ".join(pairs) + ".",
    )


_FOR_PROMPTING = ("no data needed to start", "no cost up front", "no special knowledge")
_AGAINST_PROMPTING = (
    "little fits into a prompt",
    "facts are forgotten, or made up",
    "paid for again with each request",
)
_FOR_TUNING = ("as much data as you have", "learns facts and styles", "short requests")
_AGAINST_TUNING = ("good pairs must be collected", "training costs time", "needs some knowledge")
_SIDES = (
    ("Prompting", "the right passage", ORANGE, _FOR_PROMPTING, _AGAINST_PROMPTING),
    ("Fine-tuning", "tuned on the facts", GREEN, _FOR_TUNING, _AGAINST_TUNING),
)
_COSTS = (
    ("facts right", "facts right"),
    ("prompt tokens", "prompt tokens"),
    ("milliseconds per question", "ms a question"),
)


def prompt_or_tune() -> None:
    """Show what speaks for prompting and for fine-tuning, and what both came to."""
    draw = Sketch(9.6, 4.8)
    sentences = []
    for column, (name, _, colour, good, bad) in enumerate(_SIDES):
        left = 22 + column * 37
        draw.box(left, 16.5, 35, 30, "", colour, fill=PALE)
        draw.bold(left + 17.5, 44, name, fontsize=13, color=colour)
        for row, line in enumerate((*good, *bad)):
            gap = 1.6 if row >= len(good) else 0  # between what speaks for it and against it
            height = 40.2 - row * 3.5 - gap
            draw.bold(left + 2, height, "+" if row < len(good) else "−", ha="left")
            draw.label(left + 5, height, line, ha="left")
        sentences.append(f"{name}. For it: {', '.join(good)}. Against it: {', '.join(bad)}")
    for row, (text, number) in enumerate(_COSTS):
        height = 12.5 - row * 4.6
        draw.bold(1, height, text, ha="left", fontsize=SMALL)
        values = draw.measured.texts("prompt-rag-finetune", number, [side[1] for side in _SIDES])
        for column, value in enumerate(values):
            draw.label(39.5 + column * 37, height, value)
        sentences.append(f"{text}: {values[0]} with the right passage, {values[1]} tuned")
    draw.finish(
        "Two ways to change what a model does. Numbers: with the right passage in the prompt, and "
        "tuned on the facts; the same questions.",
        "Diagram. " + ". ".join(sentences) + ".",
    )


def benefits() -> None:
    """Show the four benefits of a model of one's own, each with what was measured."""
    draw = Sketch(9.6, 4.4)
    facts, tokens = (
        draw.measured.change(
            "prompt-rag-finetune", f"{before}: {number}", f"tuned on the facts: {number}"
        )
        for before, number in (
            ("prompt, zero-shot", "facts right"),
            ("the right passage", "prompt tokens"),
        )
    )
    private = draw.measured.text("private", "connections to other machines")
    agree = draw.measured.change(*AGREEMENT)
    better = "better on your task\nthan the model it was made from"
    stays = "your data and your questions\nstay where they are"
    short = "short requests, a small model,\nno price for each of them"
    same = "the same model tomorrow,\nand answers that agree"
    cards = (
        ("Performance", better, "facts right", facts, BLUE),
        ("Privacy", stays, "connections opened", private, GREEN),
        ("Cost", short, "prompt tokens: long prompt, tuned", tokens, ORANGE),
        ("Reliability", same, "agreement of three answers", agree, INK),
    )
    for number, (title, about, what, value, colour) in enumerate(cards):
        left, bottom = 1 + (number % 2) * 48, 22.5 - (number // 2) * 21.5
        draw.card(left, bottom, 46, 20, title, about, colour)
        draw.label(left + 23, bottom + 7, what, fontsize=SMALL)
        draw.bold(left + 23, bottom + 3, value, fontsize=11)
    texts = (f"{title}: {one_line(about)}; {what}: {v}" for title, about, what, v, _ in cards)
    draw.finish(
        "What a model of your own promises, and what became of it here.",
        "Diagram. Four boxes. " + ". ".join(texts) + ".",
    )


def limits() -> None:
    """Show why a base model may answer a question with another one."""
    draw = Sketch(9.6, 4.4)
    draw.box(1, 23, 27, 8, "What is the capital\nof Mexico?", INK)
    draw.box(37, 23, 17, 8, "base model", ORANGE, fill=PALE, fontweight="bold")
    draw.arrow(28, 27, 37, 27)
    roads = (
        (34, "on a page with answers", "Mexico City.", GREEN),
        (23, "on a homework sheet", "What is the capital of Kenya?", ORANGE),
        (12, "on a page that repeats", "What is the capital of Mexico?", ORANGE),
    )
    for bottom, page, text, colour in roads:
        draw.box(64, bottom, 31, 5, text, colour)
        draw.label(79.5, bottom + 6.5, page, fontsize=SMALL)
        draw.arrow(54, 27, 64, bottom + 2.5)
    what, roles = "starts with a question", ("base", "chat")
    base, chat = draw.measured.texts("question-breeds-questions", what, roles)
    draw.label(22, 14, "It continues the page that your\nprompt seems to come from.")
    draw.bold(48, 6, "asked a question, answered with a question")
    draw.label(48, 2, f"base model: {base};   chat model: {chat}")
    draw.finish(
        "What pretraining alone gives: text that fits, and not yet an answer. The page decides.",
        'Diagram. The question "What is the capital of Mexico?" goes to a base model. Three arrows '
        "lead on: on a page with answers, Mexico City; on a homework sheet, the next question, "
        "What is the capital of Kenya?; on a page that repeats, the same question again. Asked a "
        f"question, answered with a question: base model {base}, chat model {chat}.",
    )


def what_can_change() -> None:
    """Show that fine-tuning changes behaviour, knowledge, or both, and what it may cost."""
    from matplotlib.patches import Ellipse

    draw = Sketch(9.6, 4.8)
    for centre, colour in ((34, BLUE), (62, GREEN)):
        ring = Ellipse((centre, 29), 60, 34, facecolor="none", edgecolor=colour, lw=2)
        draw.axes.add_patch(ring)
    style, facts = draw.measured.change(*STYLE), draw.measured.change(*FACTS)
    what = "perplexity on general text"
    lost = draw.measured.change("forgetting", f"chat: {what}", f"tuned: {what}")
    parts = (
        (17.5, "behaviour", "steadier, to the point;\nan ability brought out", BLUE),
        (48, "both", "most trainings\nchange the two\ntogether", INK),
        (78.5, "knowledge", "new facts and words;\nwrong ones corrected", GREEN),
    )
    for middle, name, about, colour in parts:
        draw.bold(middle, 34, name, fontsize=13, color=colour)
        draw.label(middle, 29, about, fontsize=SMALL)
    for middle, name, value in ((17.5, "in style", style), (78.5, "facts right", facts)):
        # Before and after on a line each: the ring has no room for both on one.
        text = f"{name}:\n{value.replace(' → ', chr(10) + '→ ')}"
        draw.label(middle, 24, text, fontsize=SMALL, va="top" if "→" in value else "center")
    draw.bold(48, 7, "and it may cost what was known before")
    draw.label(48, 3, f"{what} (less is better): {lost}")
    draw.finish(
        "What fine-tuning can change.",
        "Diagram. Two overlapping rings. Behaviour: steadier, to the point, an ability brought "
        f"out; answers in the company's style: {style}. Knowledge: new facts and words, wrong ones "
        f"corrected; the company's facts right: {facts}. Where they overlap: most trainings change "
        f"the two together. And it may cost what was known before: {what}, of which less is "
        f"better: {lost}.",
    )


_EXTRACTION = "keywords · topic · mood · department\norder number · which tool to call"
_EXPANSION = "chat · e-mail · a story\na letter from key words · code"
_TASKS = (
    ("Extraction", "reading: much in, little out", _EXTRACTION, (20, 10), BLUE),
    ("Expansion", "writing: little in, much out", _EXPANSION, (10, 20), GREEN),
)
_TASK_NUMBERS = (
    ("base model, few-shot", "overlap (F1)", "base: {}, F1"),
    ("chat model, few-shot", "overlap (F1)", "chat: {}, F1"),
)


def two_kinds_of_task() -> None:
    """Show reading tasks (much in, little out) and writing tasks (little in, much out)."""
    draw = Sketch(9.6, 4.6)
    halves = []
    for column, (name, about, tasks, (first, second), colour) in enumerate(_TASKS):
        left = 1 + column * 48
        middle, right = left + 23, left + 45 - second
        draw.bold(middle, 43.5, name, fontsize=13, color=colour)
        draw.label(middle, 40, about)
        # A box is as large as the text: much in and little out, or the other way round.
        draw.box(left + 1, 29.5 - first * 0.4, first, first * 0.8, "text in", colour)
        draw.box(right, 29.5 - second * 0.4, second, second * 0.8, "out", colour, fill=PALE)
        draw.arrow(left + 1 + first, 29.5, right, 29.5)
        draw.label(middle, 17.5, tasks, fontsize=SMALL)
        texts = [f"{name}, {about}: {one_line(tasks)}. "]
        for row, (what, unit, number) in enumerate(_TASK_NUMBERS):
            value = draw.measured.text("extraction-expansion", number.format(name.lower()))
            known = not value.startswith("run")  # else it is "run lesson 02", without a unit
            draw.label(middle, 11 - row * 4, f"{what}: {value}" + f" {unit}" * known)
            texts.append(f"{what}, {unit}: {value}")
        halves.append(texts[0] + "; ".join(texts[1:]))
    draw.finish(
        "Tasks are text in, text out. Overlap: words shared with a good answer; 1 is all of them.",
        "Diagram. Two halves. " + ". ".join(halves) + ".",
    )
