"""Looking at a data set before anything is trained on it: its sizes, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse.data import alike, findings, measuring
from llmcourse.data.findings import Finding
from llmcourse.errors import SettingError

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

BINS = 20
SAMPLE = 2000  # records whose language is told
WIDTH, LINES = 100, 40


@dataclass(frozen=True)
class Lengths:
    """How long one part of the records is.

    Attributes:
        minimum, median, p95, maximum, mean: Of the lengths; p95 is longer than 95 % of them.
        edges: Limits of the histogram's bins, one more than there are bins.
        counts: Records in each bin, from an edge up to below the next; the last takes all above.
    """

    minimum: int
    median: float
    p95: float
    maximum: int
    mean: float
    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    Attributes:
        name: Of the data set.
        records: How many there are.
        columns: Their names.
        unit: What lengths are counted in, "tokens" or "words".
        longest: Length in `unit` above which a record is overlong.
        total: Length of all records together.
        lengths: "prompt" and "answer", or "text" -> how long they are.
        findings: Each kind of trouble looked for, also where there is none.
        languages: Code -> share of the records in a sample whose language is sure.
        labels: Column with few different values -> value -> how many records.
    """

    name: str
    records: int
    columns: tuple[str, ...]
    unit: str
    longest: int
    total: int
    lengths: dict[str, Lengths]
    findings: tuple[Finding, ...]
    languages: dict[str, float]
    labels: dict[str, dict[str, int]]

    def count(self, kind: str) -> int:
        """How many records have one kind of trouble."""
        return next(one.count for one in self.findings if one.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """The report in dictionaries, lists, texts and numbers, for JSON."""
        return _plain(dataclasses.asdict(self))

    def as_text(self) -> str:
        """The report for a terminal: at most `LINES` lines of `WIDTH` characters."""
        long = list(_lines(self, full=True))
        return "\n".join(long if len(long) <= LINES else list(_lines(self, full=False))[:LINES])


def inspect(
    dataset: Any,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    test: Any = None,
    longest: int = 512,
    name: str = "",
    workers: int | None = None,
    problems: pandas.DataFrame | None = None,
) -> Report:
    """Measure a data set and look for trouble in it, without changing it.

    Records are the same when only blanks differ, and nearly the same when they share 70 % of
    their three-word runs (Broder 1997; found with MinHash). Questions are compared in lower case
    and without punctuation. A million records need under 1.5 GB of memory.

    Args:
        dataset: What `load_records` gives, or whatever it takes. Of a file, records that can't
            be used are left out and counted as "unreadable".
        tokenizer: Counts lengths in tokens; None counts words.
        test: Records that must not be in the data. Not given, the splits "test" and "validation"
            of a column `split` are compared with "train".
        longest: Length of question and answer together, above which a record is overlong.
        name: What to call the data set in the report.
        workers: Processes to use; all cores for large data sets where not given.
        problems: What `load_records(strict=False)` left out, to be counted as "unreadable".

    Raises:
        DataError: the records can't be read, or there are none.
        SettingError: `longest` or `workers` is below 1.
        NoSpace: the disk is full.
    """
    for what, value in (("longest", longest), ("workers", workers)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise SettingError(f"{what}={value!r} must be a whole number from 1.")
    name = name or (Path(dataset).name if isinstance(dataset, str | Path) else "")
    if isinstance(dataset, str | Path):
        from llmcourse.data.records import load_records

        dataset, problems = load_records(dataset, strict=False)
    records = alike.as_records(dataset)
    counter = measuring.Counter(tokenizer)
    options = {"longest": longest, "leaks": test is not None or "split" in records.column_names}
    many = measuring.workers_for(records, workers)
    with measuring.quietly(counter, many), measuring.scratch() as folder:
        numbers = measuring.measured(records, counter, folder, workers=many, **options)
        try:
            found = [
                *findings.unreadable(problems),
                *findings.single(records, numbers, longest, counter),
                *findings.copies(records, numbers),
                *findings.leaks(records, numbers, test, counter, folder, workers),
            ]
            lengths = _all_lengths(records, numbers)
            total = sum(int(measuring.column(numbers, part).sum()) for part in ("prompt", "answer"))
        finally:
            del numbers
        return Report(
            name=name or "the data set",
            records=len(records),
            columns=tuple(records.column_names),
            unit="tokens" if tokenizer else "words",
            longest=longest,
            total=total,
            lengths=lengths,
            findings=tuple(found),
            languages=_languages(records),
            labels=_labels(records),
        )


# --- sizes ----------------------------------------------------------------------------------------


def _all_lengths(records: Dataset, numbers: Dataset) -> dict[str, Lengths]:
    if "text" in alike.fields(records):
        return {"text": _lengths(measuring.column(numbers, "prompt"))}
    return {part: _lengths(measuring.column(numbers, part)) for part in ("prompt", "answer")}


def _lengths(values: np.ndarray) -> Lengths:
    """The bins reach to three times the 95th percentile, so that one giant hides nothing."""
    import numpy as np

    middle, high = np.percentile(values, [50, 95])
    step = max(1, int(np.ceil((min(values.max(), 3 * high) + 1) / BINS)))
    counts = np.bincount(np.minimum(values // step, BINS - 1), minlength=BINS)
    return Lengths(
        int(values.min()), round(float(middle), 1), round(float(high), 1), int(values.max()),
        round(float(values.mean()), 2),
        tuple(step * edge for edge in range(BINS + 1)), tuple(map(int, counts)),
    )  # fmt: skip


def _labels(records: Dataset) -> dict[str, dict[str, int]]:
    """The counts of each further column that has 2 to 20 values, repeated on average."""
    import pyarrow.compute as compute

    open_columns = [
        name
        for name, kind in records.features.items()
        if name not in alike.fields(records) and getattr(kind, "dtype", "") == "string"
    ]
    found: dict[str, dict[str, int]] = {name: {} for name in open_columns}
    for table in records.with_format("arrow").iter(10_000):
        for name in list(found):
            for pair in compute.value_counts(table.column(name)).to_pylist():
                value = pair["values"] or ""
                found[name][value] = found[name].get(value, 0) + pair["counts"]
            if len(found[name]) > 20:
                del found[name]
    return {
        name: dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))
        for name, values in found.items()
        if len(values) > 1 and 2 * len(values) < len(records)
    }


def _languages(records: Dataset) -> dict[str, float]:
    """The shares of languages in a sample, of the records with five words or more that are sure.

    Told by langid (Lui and Baldwin 2012) in its Python 3 form. A language found in fewer than
    1 % of them is more often a mistake than a language, and counts as "other".
    """
    import numpy as np

    identifier = _identifier()
    places = np.arange(len(records))
    if len(records) > SAMPLE:
        places = np.sort(np.random.default_rng(0).choice(len(records), SAMPLE, replace=False))
    counts: dict[str, int] = {}
    for _, text in findings.texts(records, places.tolist()):
        if len(re.findall(r"[^\W\d_]{2,}", text)) < 5:
            continue
        language, sure = identifier.classify(text[:2000])
        if sure >= 0.9:
            counts[language] = counts.get(language, 0) + 1
    total = sum(counts.values())
    shares = {name: n / total for name, n in sorted(counts.items(), key=lambda one: -one[1])}
    kept = {name: share for name, share in shares.items() if share >= 0.01}
    other = sum(shares.values()) - sum(kept.values())
    return kept | ({"other": other} if total and sum(counts[n] for n in kept) < total else {})


def _plain(value: Any) -> Any:
    """`value` with lists for tuples, as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@cache
def _identifier() -> Any:
    """Tells languages apart, with the chance that it is right."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


# --- for the terminal -----------------------------------------------------------------------------


def _lines(report: Report, *, full: bool) -> Iterator[str]:
    """The report line by line; `full` explains each finding."""
    name = textwrap.shorten(report.name, 50, placeholder="…") if report.name.split() else "data"
    yield f"{name}: {report.records:,} records, {report.total:,} {report.unit}"
    yield _cut("columns: " + ", ".join(report.columns))
    yield f"{report.unit:<10}{'min':>8}{'median':>8}{'95 %':>8}{'max':>10}{'mean':>9}"
    for part, of in report.lengths.items():
        yield (
            f"  {part:<8}{of.minimum:>8,}{of.median:>8,.0f}{of.p95:>8,.0f}{of.maximum:>10,}"
            f"{of.mean:>9,.1f}"
        )
    yield from _histogram(report)
    there = [one for one in report.findings if one.count]
    yield "found:" if there else "No trouble was found."
    for one in there:
        lines = textwrap.wrap(one.what, WIDTH - 32)
        yield _cut(f"  {one.kind:<19}{one.count:>9,}  {lines[0] if full else one.what}")
        yield from (" " * 32 + line for line in lines[1:] if full)
    absent = ", ".join(one.kind for one in report.findings if not one.count)
    if there and absent:
        yield from textwrap.wrap(f"looked for and not found: {absent}", WIDTH)[:2]
    if report.languages:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.languages.items())
        yield _cut(f"languages: {shares}")
    for name, values in list(report.labels.items())[:3]:
        counts = ", ".join(
            f"{findings.excerpt(value, 0, 20) or '(blank)'} {n:,}" for value, n in values.items()
        )
        yield _cut(f"values of {name}: {counts}")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _histogram(report: Report, rows: int = 5) -> Iterator[str]:
    """Bars for the first part's lengths, several bins a row."""
    part = "text" if "text" in report.lengths else "answer"
    of = report.lengths[part]
    size = BINS // rows
    sums = [sum(of.counts[start : start + size]) for start in range(0, BINS, size)]
    for row, count in enumerate(sums):
        low, high = of.edges[row * size], of.edges[(row + 1) * size] - 1
        limits = f"{low:,}–{high:,}" if row < rows - 1 else f"{low:,} and more"
        bar = "█" * round(40 * count / max(sums)) or ("▏" if count else "")
        yield f"  {part} {limits:>16} {bar:<40} {count:,}"
