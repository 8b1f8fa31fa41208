"""All that a run found, what follows from it, and the page about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import files, pages
from llmcourse.own.assessing import BOTH, PROMPT, SEARCH, TUNED, Assessment, score_text
from llmcourse.own.parts import Parts
from llmcourse.own.source import BY_HAND, BY_MODEL, Source
from llmcourse.pages import Markup, bullets, paragraph, table
from llmcourse.plots import base as look
from llmcourse.plots.measured import chart, curve_figure, draw_bar

if TYPE_CHECKING:
    from llmcourse.data import Report
    from llmcourse.finetuning import TunedModel

FEW, MANY_REJECTED = 200, 0.5  # pairs; share of what the model wrote
SAMPLES, PROBLEMS = 8, 30  # test questions and problems that are shown
METRICS = {
    "facts": "facts: share of answers that contain every key of the fact, 0 to 1",
    "f1": "f1: words in common with the reference, 0 to 1",
    "chrf": "chrf: letters in common with the reference, 0 to 100",
    "finished": "finished: share of answers that ended by themselves, 0 to 1",
}
AGAINST_PROMPT = {
    1: "The tuned model beats the prompt. Read the worst answers below before you trust it.",
    -1: "The prompt beats the tuned model. Look at the loss: where it still falls, train for more "
    "epochs; where it does not, the pairs teach something else than the test asks.",
    0: "So few test questions can't tell the tuned model from the prompt. Write more of them "
    "before you decide.",
}
VERDICTS = {1: "the first is better", -1: "the second is better", 0: "too few to tell"}


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
        seconds: Step -> how long it took when it was done.
        memory: Most memory that this process had, in bytes.
        tier: Whose sizes were used.
        out: The folder with all files.
    """

    source: Source
    findings: dict[str, Report] = field(repr=False)
    writing: dict[str, Any] = field(repr=False)
    parts: Parts
    tuned: TunedModel = field(repr=False)
    assessment: Assessment
    seconds: dict[str, float]
    memory: float
    tier: str
    out: Path


def verdict(test: Mapping[str, Any]) -> int:
    """1 where the first method is better, -1 where it is worse, 0 where too few questions can't
    tell.

    Args:
        test: One of `Assessment.tests`.
    """
    if test.get("p", 0.0) >= 0.05:  # few questions make the interval too narrow
        return 0
    return 1 if test["low"] > 0 else -1 if test["high"] < 0 else 0


def advice(result: Result) -> list[str]:
    """What to do next, by what was measured. Rules of thumb, the most important first."""
    found, lines = result.assessment, []
    verdicts = {(test["first"], test["second"]): verdict(test) for test in found.tests}
    if any(one.count for one in result.findings["pairs"].findings):
        lines.append("Fix what was found in the pairs first; see “The data”.")
    lines.append(AGAINST_PROMPT[verdicts.get((TUNED, PROMPT), 0)])
    if found.caution:
        lines.append(found.caution)
    if result.parts.held_out == "facts":
        lines.append(
            "The test asks for facts that no training pair has. If the model should know them by "
            "itself, write pairs about every fact, with several paraphrases each."
        )
    if verdicts.get((BOTH, SEARCH)) == 1:
        lines.append("Tuned with retrieval beats retrieval alone: use both together.")
    elif verdicts.get((TUNED, SEARCH)) == -1:
        lines.append(
            "Retrieval beats the tuned model alone. Where the facts change often, keep retrieval "
            "and tune for the style of the answers only."
        )
    losses = [row["loss"] for row in result.tuned.held_out]
    if len(losses) > 1 and losses[-1] <= min(losses):
        lines.append(
            "The loss on the held-out pairs was lowest at the end, so more epochs may still help: "
            f"--epochs {2 * result.tuned.config.epochs:g}, say."
        )
    elif len(losses) > 1:
        lines.append(
            "The loss on the held-out pairs rose again towards the end: the model begins to "
            "overfit. More pairs help more than more epochs."
        )
    if len(result.parts.train) < FEW:
        lines.append(
            f"{len(result.parts.train)} pairs are few. A first useful model often takes several "
            f"hundred to a thousand good ones, with many paraphrases."
        )
    rejected = sum(row["count"] for row in result.writing["rejected"])
    written = result.writing["counts"].get(BY_MODEL, 0)
    if rejected > MANY_REJECTED * max(1, rejected + written):
        lines.append(
            f"{rejected} pairs were rejected and {written} written by the model passed. A larger "
            f"chat model writes better ones; so do you."
        )
    if not result.writing["reviewed"] and set(result.writing["counts"]) != {BY_HAND}:
        lines.append(
            "Nobody has read the pairs yet. Open pairs.csv, correct answers, write no under keep "
            "where a pair is bad, and run the same again."
        )
    return lines


def report(result: Result, path: Path | str) -> Path:
    """Write the report: one HTML file that needs no network and runs no scripts.

    It has what the data are and what was found in them, how many pairs were written and rejected,
    the split, the training, the results with their intervals, answers side by side, the worst
    ones, what to do next, and how it was made. All texts are escaped. A reader sees the old file
    or the complete new one.

    Args:
        result: From `run`.
        path: An .html file.

    Raises:
        DataError: another ending, or the place can't be written to.
        NoSpace: the disk is full.
    """
    found = result.assessment
    columns, main = ("question", "reference"), found.main
    samples = [_answers(row, found.ways) for row in found.rows[:SAMPLES]]
    worst = []
    for row in found.worst():
        score = row["values"][TUNED][main]
        worst.append([*_answers(row, [TUNED]), "–" if score is None else f"{score:.3g}"])
    side_by_side = table((*columns, *found.ways), samples, "The first test questions")
    worst = table((*columns, TUNED, main), worst, f"The tuned model's worst answers, by {main}")
    sections = {
        "In short": _summary(result),
        "The data": pages.Markup("").join(_data(result)),
        "The pairs": _pairs(result.writing),
        "The split": paragraph(str(result.parts)) + bullets(result.parts.notes),
        "The training": _training(result.tuned),
        "The results": _results(found),
        "Answers side by side": side_by_side,
        "The worst answers": worst,
        "What to do next": bullets(advice(result)),
        "How it was made": _made(result),
    }
    name = Path(result.source.name).name or result.source.name
    lead = "What was trained on your data, and how it answers. Nothing of it left this machine."
    return pages.save(path, pages.page(f"Your own data: {name}", lead, sections))


def _answers(row: Mapping[str, Any], ways: Iterable[str]) -> Iterator[str]:
    yield row["question"]
    yield row["reference"]
    for way in ways:
        error = row["errors"][way]
        yield f"(not asked: {error})" if error else row["answers"][way].strip() or "(nothing)"


def _summary(result: Result) -> Markup:
    found, main = result.assessment, result.assessment.main
    lines = [f"{way}: {score_text(scores[main], main)}" for way, scores in found.scores.items()]
    text = (
        f"{len(found.rows)} test questions, asked with {len(lines)} methods. {METRICS[main]}; "
        f"mean and 95 % interval:"
    )
    return paragraph(text) + bullets(lines) + bullets(advice(result)[:2])


def _data(result: Result) -> Iterator[Markup]:
    source = replace(result.source, name=files.shown(Path(result.source.name)))
    yield paragraph(str(source).splitlines()[0])
    if count := len(source.problems):
        more = [f"and {count - PROBLEMS} more"] if count > PROBLEMS else []
        yield pages.details(f"{count} were left out", bullets(source.problems[:PROBLEMS] + more))
    for title, report in result.findings.items():
        yield pages.fill("<h3>{}</h3>", title.capitalize())
        lengths = [
            (part, of.minimum, f"{of.median:g}", f"{of.p95:g}", of.maximum)
            for part, of in report.lengths.items()
        ]
        caption = f"Lengths in the {title}, in {report.unit}: {report.records} records"
        yield table(("part", "shortest", "median", "95 % are below", "longest"), lengths, caption)
        found = [
            (one.kind, one.count, one.what, "\n".join(f"{n}: {text}" for n, text in one.examples))
            for one in report.findings
            if one.count
        ]
        if found:
            caption = f"Problems that were found in the {title}; personal data are masked"
            yield table(("found", "records", "what it means", "examples"), found, caption)
        absent = ", ".join(one.kind for one in report.findings if not one.count)
        yield paragraph(f"Looked for and not found: {absent or 'nothing'}.")


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
        f"({100 * tuned.trained / tuned.parameters:.1f} % of all), {len(tuned.history)} updates in "
        f"{tuned.seconds:.0f} s, {tuned.tokens_per_second:.0f} tokens per second."
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
    picture = pages.picture(look.encoded(figure, "png"), alt, caption)
    return paragraph(text) + picture + bullets(tuned.notes)


def _results(found: Assessment) -> Markup:
    rows, scores = found.table(), found.scores[found.ways[0]]
    caption = "Means with 95 % intervals; tokens and seconds per question"
    page = table(("method", *rows.columns), rows.itertuples(name=None), caption)
    page += bullets(METRICS[name] for name in scores) + _score_picture(found)
    tests = []
    for test in found.tests:
        difference, low, high = (f"{test[name]:+.3g}" for name in ("difference", "low", "high"))
        pair = f"{test['first']} − {test['second']}"
        tests.append((pair, difference, f"{low} to {high}", VERDICTS[verdict(test)]))
    if tests:
        caption = f"Differences in {found.main}, question by question"
        page += table(("compared", "difference", "95 % interval", "says"), tests, caption)
    kinds = list(dict.fromkeys(kind for counts in found.mistakes.values() for kind in counts))
    if kinds:
        counts = [(way, *map(of.get, kinds, repeat(0))) for way, of in found.mistakes.items()]
        caption = "Answers with each kind of mistake, by simple rules"
        page += table(("method", *kinds), counts, caption)
    return page


def _made(result: Result) -> Markup:
    from llmcourse.finetuning.tuned import versions

    text = (
        f"Sizes of the tier {result.tier}; numbers as "
        f"{str(result.tuned.dtype).removeprefix('torch.')}; at most {result.memory / 1e9:.1f} GB "
        f"of memory."
    )
    steps = [(name, f"{value:.1f}") for name, value in result.seconds.items()]
    settings = [pair for pair in asdict(result.tuned.config).items() if pair[1] is not None]
    more = table(("setting", "value"), settings, "Settings of the training")
    more += table(("package", "version"), versions().items(), "Versions")
    page = paragraph(text) + table(("step", "seconds"), steps, "How long each step took")
    return page + pages.details("Settings and versions", more)


@look.styled
def _score_picture(found: Assessment) -> Markup:
    """The mean of each method as a bar with its interval."""
    label, names = METRICS[found.main], list(found.scores)
    figure, axes = chart(names, 0.9 + 0.5 * len(names), "", label)
    texts = []
    for row, (name, scores) in enumerate(found.scores.items()):
        score = scores[found.main]
        ends = score["low"], score["high"]
        draw_bar(axes, row, score["mean"], f"{score['mean']:.3g}", name, names, interval=ends)
        texts.append(f"{name}: {score['mean']:.3g}, 95 % interval {ends[0]:.3g} to {ends[1]:.3g}")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100 if found.main == "chrf" else 1)
    alt = f"Bar chart. {label}. {'; '.join(texts)}."
    return pages.picture(look.encoded(figure, "png"), alt, "The thin lines are 95 % intervals.")
