"""One page about everything that was done with a learner's data: `report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcourse import pages
from llmcourse.own import page
from llmcourse.own.assessing import TUNED, score_text
from llmcourse.own.results import Result, advice, apart, held_out_text
from llmcourse.pages import Markup

SAMPLES, WORST, PROBLEMS = 8, 5, 30
METRICS = {
    "facts": "facts: share of answers that contain every key of the fact, 0 to 1",
    "f1": "f1: words in common with the wanted answer, 0 to 1",
    "chrf": "chrf: letters in common with the wanted answer, 0 to 100",
    "finished": "finished: share of answers that ended by themselves, 0 to 1",
}


def report(result: Result, path: Path | str) -> Path:
    """Write the report: one HTML file that needs no network and runs no scripts.

    It has what the data are and what was found in them, how many pairs were written and rejected,
    the split, the training, the results with their intervals, answers side by side, the worst
    ones, what to do next, and with what it was made. All texts are escaped. A reader sees the old
    file or the whole new one.

    Args:
        result: From `run`.
        path: An .html file.

    Raises:
        DataError: another ending, or the place can't be written to.
        NoSpace: the disk is full.
    """
    sections = {
        "In short": _short(result), "The data": _data(result), "The pairs": _pairs(result),
        "The split": _split(result), "The training": _training(result),
        "The results": _results(result), "Answers side by side": _samples(result),
        "The worst answers": _worst(result), "What to do next": pages.bullets(advice(result)),
        "How it was made": _made(result),
    }  # fmt: skip
    name = Path(str(result.source["name"])).name or str(result.source["name"])
    lead = "What was trained on your data, and how it answers. Nothing of it left this machine."
    return pages.save(path, pages.page(f"Your own data: {name}", lead, sections))


def _short(result: Result) -> Markup:
    found, main = result.assessment, result.assessment.main
    shown = {way: score_text(scores[main], main) for way, scores in found.scores.items()}
    lines = [f"{way}: {text}" for way, text in shown.items()]
    return (
        pages.paragraph(
            f"{len(found.rows)} test questions, asked in {len(shown)} ways. {METRICS[main]}; mean "
            f"and 95 % interval:"
        )
        + pages.bullets(lines)
        + pages.bullets(advice(result)[:2])
    )


def _data(result: Result) -> Markup:
    parts = [pages.paragraph(line) for line in str(result.source["text"]).splitlines()[:1]]
    problems = list(result.source["problems"])
    if problems:
        more = len(problems) - PROBLEMS
        lines = problems[:PROBLEMS] + [f"and {more} more"] * (more > 0)
        parts.append(pages.details(f"{len(problems)} were left out", pages.bullets(lines)))
    for title, found in result.findings.items():
        parts.append(pages.fill("<h3>{}</h3>", title[0].upper() + title[1:]))
        parts += _inspected(title, found)
    return Markup("").join(parts)


def _inspected(title: str, found: Mapping[str, Any]) -> Iterator[Markup]:
    unit = found["unit"]
    lengths = [
        (part, of["minimum"], f"{of['median']:g}", f"{of['p95']:g}", of["maximum"])
        for part, of in found["lengths"].items()
    ]
    yield pages.table(
        ("part", "shortest", "median", "95 % are below", "longest"), lengths,
        f"Lengths in the {title}, in {unit}: {found['records']} records",
    )  # fmt: skip
    there = [one for one in found["findings"] if one["count"]]
    if there:
        rows = [
            (one["kind"], one["count"], one["what"],
             "\n".join(f"{number}: {text}" for number, text in one["examples"]))
            for one in there
        ]  # fmt: skip
        yield pages.table(
            ("found", "records", "what it means", "examples"), rows,
            f"Trouble that was found in the {title}; personal data are masked",
        )  # fmt: skip
    absent = ", ".join(one["kind"] for one in found["findings"] if not one["count"])
    yield pages.paragraph(f"Looked for and not found: {absent or 'nothing'}.")


def _pairs(result: Result) -> Markup:
    writing = result.writing
    rows = [(f"from {by}", count) for by, count in writing["counts"].items()]
    rejected = sum(row["count"] for row in writing["rejected"])
    rows += [("rejected", rejected)] * bool(rejected) + [("kept after review", writing["kept"])]
    text = pages.table(("pairs", "how many"), rows, "Where the pairs come from")
    if writing["rejected"]:
        text += pages.table(
            ("reason", "of a", "how many", "example"),
            [(r["reason"], r["stage"], r["count"], r["example"]) for r in writing["rejected"]],
            "Why pairs were rejected",
        )
    told = (
        "pairs.csv was changed by hand after it was written."
        if writing["reviewed"]
        else "pairs.csv was not changed by hand."
    )
    return text + pages.paragraph(told)


def _split(result: Result) -> Markup:
    parts = result.parts
    told = f"{parts['train']} pairs were trained on, {parts['test']} were kept for the test."
    return (
        pages.paragraph(told)
        + pages.paragraph(held_out_text(parts))
        + pages.bullets(parts["notes"])
    )


def _training(result: Result) -> Markup:
    training = result.training
    share = 100 * training["trained"] / max(1, training["weights"])
    told = (
        f"{training['base']}: {training['trained']:,} weights trained ({share:.1f} % of all), "
        f"{len(training['history'])} updates in {training['seconds']:.0f} s, "
        f"{training['tokens_per_second']:.0f} tokens a second."
    )
    text = pages.paragraph(told) + page.losses(training["history"], training["held_out"])
    return text + pages.bullets(training["notes"])


def _results(result: Result) -> Markup:
    found = result.assessment
    table = found.table()
    text = pages.table(
        ("way", *table.columns), list(table.itertuples(name=None)),
        "Means with 95 % intervals; tokens and seconds a question",
    )  # fmt: skip
    text += pages.bullets(METRICS[name] for name in found.scores[found.ways[0]])
    main = {way: scores[found.main] for way, scores in found.scores.items()}
    text += page.bars(main, METRICS[found.main], "The thin lines are 95 % intervals.")
    rows = [
        (f"{t['first']} − {t['second']}", f"{t['difference']:+.3g}",
         f"{t['low']:+.3g} to {t['high']:+.3g}",
         {1: "the first is better", -1: "the second is better", 0: "too few to tell"}[apart(t)])
        for t in found.tests
    ]  # fmt: skip
    if rows:
        text += pages.table(("compared", "difference", "95 % interval", "says"), rows,
                           f"Differences in {found.main}, question by question")  # fmt: skip
    kinds = list(dict.fromkeys(kind for counts in found.mistakes.values() for kind in counts))
    if kinds:
        text += pages.table(
            ("way", *kinds),
            [(way, *(counts.get(kind, 0) for kind in kinds))
             for way, counts in found.mistakes.items()],
            "Answers with each kind of mistake, by simple rules",
        )  # fmt: skip
    return text


def _samples(result: Result) -> Markup:
    found = result.assessment
    rows = [
        (row["question"], row["reference"], *(_answer(row, way) for way in found.ways))
        for row in found.rows[:SAMPLES]
    ]
    return pages.table(("question", "wanted", *found.ways), rows,
                      "The first test questions and what each way answers")  # fmt: skip


def _worst(result: Result) -> Markup:
    found = result.assessment
    rows = [
        (row["question"], row["reference"], _answer(row, TUNED),
         _number(row["values"][TUNED].get(found.main)))
        for row in found.worst(TUNED, WORST)
    ]  # fmt: skip
    return pages.table(("question", "wanted", "tuned", found.main), rows,
                      f"The tuned model's worst answers, by {found.main}")  # fmt: skip


def _answer(row: Mapping[str, Any], way: str) -> str:
    error = row["errors"][way]
    return f"(not asked: {error})" if error else row["answers"][way].strip() or "(nothing)"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _made(result: Result) -> Markup:
    steps = pages.table(
        ("step", "seconds"), [(name, f"{value:.1f}") for name, value in result.seconds.items()],
        "How long each step took when it was done",
    )  # fmt: skip
    settings = pages.table(("setting", "value"), list(result.training["settings"].items()),
                          "Settings of the training")  # fmt: skip
    versions = pages.table(("package", "version"), list(result.versions.items()), "Versions")
    told = (
        f"Sizes of the tier {result.tier}; numbers as {result.training['number_type']}; at most "
        f"{result.memory / 1e9:.1f} GB of memory."
    )
    return (
        pages.paragraph(told) + steps
        + pages.details("Settings and versions", settings + versions)
    )  # fmt: skip
