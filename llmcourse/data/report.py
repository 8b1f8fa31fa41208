"""Looking at a data set before anything is trained on it: its sizes, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data import alike, findings, measuring, patterns
from llmcourse.data.findings import Finding
from llmcourse.data.records import as_records, load_records
from llmcourse.errors import SettingError, whole

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

BINS = 20
SAMPLE = 2000  # records whose language is told
SURE, CLEAR = 0.9, 0.99  # chance of a language to be counted, and to be reported as another one
FEW_VALUES = 20  # a column with more different values holds no labels
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
        name: Of the data set, in one line that is safe to print.
        records: How many there are.
        columns: Their names.
        unit: What lengths are counted in, "tokens" or "words".
        longest: Length in `unit` above which a record is overlong.
        total: Length of all records together.
        lengths: "prompt" and "answer", or "text" -> how long they are.
        findings: Each kind of trouble looked for, also where there is none.
        languages: Code -> share of the records in a sample whose language is sure.
        labels: Column with 2 to 20 different values -> value -> how many records. Columns of
            text, whole numbers, truth values and class labels are looked at, and the answers.
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
        """How many records have one kind of trouble.

        Raises:
            SettingError: there is no such kind.
        """
        counts = {one.kind: one.count for one in self.findings}
        if kind not in counts:
            raise SettingError(f"There is no kind {kind!r}. There are: {', '.join(counts)}.")
        return counts[kind]

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
    and without punctuation.

    Args:
        dataset: What `load_records` gives, or whatever it takes. Of a file, records that can't
            be used are left out and counted as "unreadable".
        tokenizer: Counts lengths in tokens; None counts words.
        test: Records that must not be in the data. Not given, all splits but "train" of a column
            `split` (test, validation, held-out, …) are compared with "train".
        longest: Length of question and answer together, above which a record is overlong.
        name: What to call the data set in the report.
        workers: Processes to use; all cores for large data sets where not given.
        problems: What `load_records(strict=False)` left out of the records, to be counted as
            "unreadable". Of a file this is found here.

    Raises:
        DataError: the records can't be read, or there are none.
        SettingError: `longest` or `workers` is below 1, or `problems` are given with a file.
    """
    longest = whole("longest", longest, 1)
    is_file = isinstance(dataset, str | Path)
    name = findings.excerpt(name or (Path(dataset).name if is_file else "")) or "the data set"
    if is_file:
        if problems is not None:
            raise SettingError(
                "problems belong to loaded records; of a file inspect finds them itself."
            )
        dataset, problems = load_records(dataset, strict=False)
    unreadable = findings.unreadable(problems)
    records = as_records(dataset)
    tokenizer = None if tokenizer is None else templates.tokenizer_of(tokenizer)
    counter = measuring.Counter(tokenizer)
    numbers = measuring.measured(
        records,
        counter,
        longest=longest,
        workers=workers,
        leaks=test is not None or "split" in records.column_names,
    )
    found = [
        unreadable,
        *findings.single(records, numbers, longest, counter),
        *findings.copies(records, numbers),
        *findings.leaks(records, numbers, test, counter, workers),
    ]
    languages, other = _languages(records)
    return Report(
        name=name,
        records=len(records),
        columns=tuple(records.column_names),
        unit="tokens" if tokenizer else "words",
        longest=longest,
        total=sum(int(numbers[part].sum()) for part in ("prompt", "answer")),
        lengths=_all_lengths(records, numbers),
        findings=(*found, other),
        languages=languages,
        labels=_labels(records),
    )


# --- sizes ----------------------------------------------------------------------------------------


def _all_lengths(records: Dataset, numbers: measuring.Numbers) -> dict[str, Lengths]:
    """The lengths of each part of the records."""
    if "text" in alike.fields(records):
        return {"text": _lengths(numbers["prompt"])}
    return {part: _lengths(numbers[part]) for part in ("prompt", "answer")}


def _lengths(values: np.ndarray) -> Lengths:
    """The bins reach to three times the 95th percentile, so that one giant hides nothing."""
    import numpy as np

    middle, high = np.percentile(values, [50, 95])
    step = max(1, int(np.ceil((min(values.max(), 3 * high) + 1) / BINS)))
    counts = np.bincount(np.minimum(values // step, BINS - 1), minlength=BINS)
    return Lengths(
        int(values.min()),
        round(float(middle), 1),
        round(float(high), 1),
        int(values.max()),
        round(float(values.mean()), 2),
        tuple(step * edge for edge in range(BINS + 1)),
        tuple(map(int, counts)),
    )


def _labels(records: Dataset) -> dict[str, dict[str, int]]:
    """The counts of each column that has 2 to 20 values, repeated on average; personal data masked.

    Columns of text other than the records' own, of whole numbers, truth values and class labels
    are looked at, and answers, which may be labels too.
    """
    import pyarrow.compute as compute

    own, kinds = alike.fields(records), records.features
    names = [name for name in kinds if _may_label(name, kinds[name], own)]
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for table in records.with_format("arrow").iter(10_000):
        for name in list(found):
            pairs = compute.value_counts(table.column(name)).to_pylist()
            if len(pairs) <= FEW_VALUES:
                for pair in pairs:
                    value = _label(kinds[name], pair["values"])
                    found[name][value] = found[name].get(value, 0) + pair["counts"]
            if max(len(pairs), len(found[name])) > FEW_VALUES:
                del found[name]
    return {
        name: dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))
        for name, values in found.items()
        if len(values) > 1 and 2 * len(values) < len(records)
    }


def _may_label(name: str, kind: Any, own: Sequence[str]) -> bool:
    """True where a column may hold labels, by its name and type; `own` are the records' texts."""
    from datasets import ClassLabel, Value

    if (name in own and name != "answer") or not isinstance(kind, Value | ClassLabel):
        return False
    told = kind.dtype.removeprefix("large_")
    return told.startswith(("string", "int", "uint", "bool"))


def _label(kind: Any, value: Any) -> str:
    """A value as it is shown: the name of a class label, "" where there is none."""
    if value is None:
        return ""
    named = hasattr(kind, "int2str") and 0 <= value < kind.num_classes
    return patterns.masked(kind.int2str(value) if named else str(value))


def _languages(records: Dataset) -> tuple[dict[str, float], Finding]:
    """The shares of languages in a sample, and what of it is in another one than most.

    Told by langid (Lui and Baldwin 2012) in its Python 3 form, of the records with five words or
    more that are sure. A record counts as one in another language only where it has eight words
    or more and is surer still.
    """
    import numpy as np

    identifier = _identifier()
    places = np.arange(len(records))
    if len(records) > SAMPLE:
        places = np.sort(np.random.default_rng(0).choice(len(records), SAMPLE, replace=False))
    told: list[str] = []
    clear: list[tuple[int, str]] = []
    for place, text in findings.texts(records, places.tolist()):
        words = len(re.findall(r"[^\W\d_]{2,}", text))
        if words < 5:
            continue
        language, sure = identifier.classify(text[:2000])
        if sure >= SURE:
            told.append(language)
        if sure >= CLEAR and words >= 8:
            clear.append((place, language))
    shares = _shares(told)
    main = next(iter(shares), "")
    others = [place for place, language in clear if language != main]
    return shares, findings.other_language(records, main, others, len(places))


def _shares(languages: Sequence[str]) -> dict[str, float]:
    """The share of each language, the largest first.

    One found in fewer than 1 % of the records is more often a mistake than a language, and counts
    as "other".
    """
    shares = {name: n / len(languages) for name, n in Counter(languages).most_common()}
    kept = {name: share for name, share in shares.items() if share >= 0.01}
    other = sum(shares.values()) - sum(kept.values())
    return kept | ({"other": other} if len(kept) < len(shares) else {})


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
    name = findings.excerpt(report.name, 0, 50) or "data"
    yield f"{name}: {report.records:,} records, {report.total:,} {report.unit}"
    shown = [findings.excerpt(column, 0, WIDTH) or repr(column) for column in report.columns]
    yield _cut("columns: " + ", ".join(shown))
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
        yield from textwrap.wrap(f"looked for and not found: {absent}", WIDTH)[:3]
    if report.languages:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in report.languages.items())
        yield _cut(f"languages: {shares}")
    for name, values in list(report.labels.items())[:3]:
        counts = ", ".join(
            f"{findings.excerpt(value, 0, 20) or '(blank)'} {n:,}" for value, n in values.items()
        )
        yield _cut(f"values of {findings.excerpt(name, 0, 40)}: {counts}")


def _cut(line: str) -> str:
    """`line`, no longer than the terminal is wide."""
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
