"""All that a run found, what follows from it, and the page about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import files, pages
from llmcourse.evaluation import METRICS, counted
from llmcourse.own.assessing import PROMPT, TUNED, Assessment
from llmcourse.own.parts import Parts
from llmcourse.own.source import BY_HAND, BY_MODEL, Source
from llmcourse.pages import Markup, bullets, paragraph, table
from llmcourse.plots import base as look
from llmcourse.plots.measured import curve_figure

if TYPE_CHECKING:
    from llmcourse.data import Report
    from llmcourse.finetuning import TunedModel

FEW = 200  # pairs; a rule of thumb, not measured here
SAMPLES, PROBLEMS = 8, 30  # test questions and problems that are shown
VERDICTS = {True: "the first is better", False: "the second is better", None: "too few to tell"}


@dataclass(frozen=True)
class Result:
    """All that a run found; `report` makes a page of it.

    Attributes:
        source: What was read, and what was left out.
        findings: Title -> what `data.inspect` found.
        writing: counts by whom, rejected (stage, reason, count, example), kept and reviewed.
        parts: The pairs that were trained on and tested with.
        tuned: The tuned model, with its settings and losses.
        assessment: How the methods compare.
        out: The folder with all files.
    """

    source: Source
    findings: dict[str, Report] = field(repr=False)
    writing: dict[str, Any] = field(repr=False)
    parts: Parts
    tuned: TunedModel = field(repr=False)
    assessment: Assessment
    out: Path


def advice(result: Result) -> list[str]:
    """What to do next, by what was measured. Rules of thumb, the most important first."""
    results, writing, train = result.assessment, result.writing, result.parts.train
    better = {pair: test.larger for pair, test in results.tests.items()}
    losses = [row["loss"] for row in result.tuned.held_out]
    rejected = sum(row["count"] for row in writing["rejected"])
    lines = []
    # Faults in the data first: every number below suffers from them.
    if any(one.count for one in result.findings["pairs"].findings):
        lines.append("Fix what was found in the pairs first; see “The data”.")
    lines += [results.recommendation, *filter(None, [results.caution])]
    if result.parts.held_out == "facts":
        lines.append("No training pair has the tested facts: write paraphrases of each of them.")
    if better.get((TUNED, PROMPT)) is False:
        lines.append("The prompt beats the tuned model: train longer while the loss falls.")
    # By the validation pairs' loss, never by the test: who chooses epochs by it trains on it.
    if len(losses) > 1 and losses[-1] > min(losses):
        lines.append("The held-out loss rose at the end (overfitting): add pairs, not epochs.")
    elif len(losses) > 1:
        epochs = 2 * (result.tuned.config.epochs or 1)
        lines.append(f"The held-out loss still fell at the end: try --epochs {epochs:g}.")
    if len(train) < FEW:
        lines.append(f"{len(train)} pairs are few. Often several hundred good ones are needed.")
    if rejected > max(1, rejected + writing["counts"].get(BY_MODEL, 0)) / 2:
        lines.append(f"{rejected} pairs were rejected: a larger base model writes better ones.")
    if not writing["reviewed"] and set(writing["counts"]) != {BY_HAND}:
        lines.append("Nobody has read the pairs yet. Correct pairs.csv, and run the same again.")
    return lines


def report(result: Result, path: Path | str) -> Path:
    """Write the report: one HTML file that needs no network and runs no scripts.

    It has what the data are and what was found in them, how many pairs were written and rejected,
    the split, the training, the results with their intervals, answers side by side, the worst
    ones, and what to do next. All texts are escaped. A reader sees the old file or the complete
    new one.

    Args:
        result: From `run`.
        path: An .html file.

    Raises:
        DataError: another ending, or the place can't be written to.
        NoSpace: the disk is full.
    """
    results, next_steps = result.assessment, advice(result)
    # The worst are the tuned model's alone: it is the one the reader is about to use.
    first = results.answers().head(SAMPLES)
    worst = results.worst()[["question", "reference", TUNED]]
    title = f"The tuned model's worst answers, by {results.main}"
    sections = {
        "In short": _summary(results) + paragraph(results.recommendation),
        "The data": _data(result),
        "The pairs": _pairs(result.writing),
        "The split": paragraph(str(result.parts)) + bullets(result.parts.notes),
        "The training": _training(result.tuned),
        "The results": _results(results),
        "Answers side by side": table(first.columns, first.to_numpy(), "The first test questions"),
        "The worst answers": table(worst.columns, worst.to_numpy(), title),
        "What to do next": bullets(next_steps),
    }
    name = Path(result.source.name).name or result.source.name
    lead = "What was trained on your data, and how it answers. Nothing of it left this machine."
    return pages.save(path, pages.page(f"Your own data: {name}", lead, sections))


def _summary(results: Assessment) -> Markup:
    main, methods = results.main, results.methods
    text = (
        f"{len(results.answers())} test questions, asked with {len(methods)} methods. {main}: "
        f"{METRICS[main].text}; mean and 95 % interval:"
    )
    return paragraph(text) + bullets(f"{name}: {results.score(name, main)}" for name in methods)


def _data(result: Result) -> Markup:
    source = replace(result.source, name=files.shown(Path(result.source.name)))
    page = paragraph(str(source).splitlines()[0])
    if count := len(source.problems):
        shown = [*source.problems[:PROBLEMS], *["and more"] * (count > PROBLEMS)]
        page += pages.details(f"{count} were left out", bullets(shown))
    for title, inspected in result.findings.items():
        template = '<h3>{}</h3><pre style="white-space:pre-wrap">{}</pre>'
        # (in whose examples personal data are masked)
        page += pages.fill(template, title.capitalize(), inspected.as_text())
    return page


def _pairs(writing: Mapping[str, Any]) -> Markup:
    reasons = [(r["reason"], r["stage"], r["count"], r["example"]) for r in writing["rejected"]]
    rows = [(f"from {by}", count) for by, count in writing["counts"].items()]
    rows += [("rejected", sum(count for _, _, count, _ in reasons))] if reasons else []
    rows += [("kept after review", writing["kept"])]
    page = table(("pairs", "how many"), rows, "Where the pairs come from")
    if reasons:
        columns = ("reason", "of a", "how many", "example")
        page += table(columns, reasons, "Why pairs were rejected")
    changed = "" if writing["reviewed"] else "not "
    return page + paragraph(f"pairs.csv was {changed}changed by hand after it was written.")


def _training(tuned: TunedModel) -> Markup:
    text = (
        f"{tuned.name}: {tuned.trained:,} weights trained "
        f"({tuned.trained / tuned.parameters:.1%} of all), {len(tuned.history)} updates in "
        f"{tuned.seconds:.0f} s, {tuned.tokens_per_second:.0f} tokens per second. Its settings and "
        f"the versions of all libraries are in model/README.md."
    )
    lines = {"training pairs": tuned.history, "held-out pairs": tuned.held_out}
    points = {
        name: [(row["step"], row["loss"]) for row in rows] for name, rows in lines.items() if rows
    }
    figure, alt = curve_figure(points, "Loss", ("update", "loss (nats per token)"))
    caption = (
        "Loss of the answers' tokens. Training may go down to nearly nothing; the held-out pairs' "
        "loss says whether that helps."
    )
    # Inside the page, so that the report is one file that can be sent.
    picture = pages.picture(look.encoded(figure, "png"), alt, caption)
    return paragraph(text) + picture + bullets(tuned.notes)


def _results(results: Assessment) -> Markup:
    rows = results.table()
    caption = "Means with 95 % intervals; tokens and seconds per question"
    page = table(("method", *rows.columns), rows.itertuples(name=None), caption)
    page += bullets(f"{name}: {METRICS[name].text}" for name in results.metrics)
    tests = [
        (" − ".join(pair), test, VERDICTS[test.larger]) for pair, test in results.tests.items()
    ]
    if tests:
        caption = f"Differences in {results.main}, question by question"
        page += table(("compared", "difference and 95 % interval", "says"), tests, caption)
    mistakes = {name: counted(one.labels) for name, one in results.evaluations.items()}
    kinds = list(dict.fromkeys(kind for counts in mistakes.values() for kind in counts))
    if kinds:
        counts = [(name, *map(of.get, kinds, repeat(0))) for name, of in mistakes.items()]
        page += table(("method", *kinds), counts, "Answers with each kind of mistake, by rules")
    return page
