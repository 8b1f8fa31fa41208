"""Looking at a data set before anything is trained on it: its sizes, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data import findings, patterns
from llmcourse.data.findings import Finding, excerpt
from llmcourse.data.records import WEIGHTS, as_records, how_read, load_records, text_fields
from llmcourse.errors import SettingError, whole
from llmcourse.stats import percent

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

BINS = 20
FEW_VALUES = 20  # a column with more different values holds no labels
WIDTH = 100  # of a terminal


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

    @classmethod
    def of_values(cls, values: pandas.Series) -> Lengths:
        """The bins reach to three times the 95th percentile, so that one giant hides nothing."""
        import numpy as np

        p95 = float(values.quantile(0.95))
        # whole units per bin, as half a token is none
        step = max(1, int(np.ceil((min(values.max(), 3 * p95) + 1) / BINS)))
        counts = np.bincount(np.minimum(values // step, BINS - 1), minlength=BINS)
        return cls(
            int(values.min()),
            float(values.median()),
            round(p95, 1),
            int(values.max()),
            round(float(values.mean()), 2),
            tuple(step * edge for edge in range(BINS + 1)),
            tuple(map(int, counts)),
        )


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
        findings: Each kind of problem looked for, also where there is none.
        languages: Code -> share of the records in a sample whose language is sure.
        labels: Column with 2 to 20 different values -> value -> how many records. Columns of
            text, whole numbers, truth values and class labels are looked at, and the answers.
        read_as: The format that the records were read from; "" where that is not known.
        notes: What was read in a way that one should know, with the number of records.
        unused: The columns that are kept but shown to no model.
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
    read_as: str = ""
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def count(self, kind: str) -> int:
        """How many records have one kind of problem.

        Raises:
            SettingError: there is no such kind.
        """
        counts = {one.kind: one.count for one in self.findings}
        if kind not in counts:
            raise SettingError(f"There is no kind {kind!r}. There are: {', '.join(counts)}.")
        return counts[kind]

    def as_dict(self) -> dict[str, Any]:
        """The report in dictionaries, lists, texts and numbers, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def as_text(self) -> str:
        """The report for a terminal, in lines of at most `WIDTH` characters."""
        return "\n".join(_cut(line) for line in _lines(self))


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
    """Measure a data set and look for problems in it, without changing it.

    Records are the same when only blanks differ, and nearly the same when they share 70 % of
    their three-word shingles (Broder 1997; found with MinHash). Questions are compared in lower
    case and without punctuation.

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
        SettingError: `longest` or `workers` is below 1.
    """
    longest = whole("longest", longest, 1)
    if isinstance(dataset, str | Path):
        name = name or Path(dataset).name
        dataset, problems = load_records(dataset, strict=False)
    records = as_records(dataset, may_be_blank=True)
    tokenizer = None if tokenizer is None else templates.tokenizer_of(tokenizer)
    unit = "tokens" if tokenizer else "words"
    # MinHash of the questions costs as much as of the records: only where there is a test set
    leaks = test is not None or "split" in records.column_names
    table = findings.measured(records, tokenizer, questions=leaks, workers=workers)
    languages, other_language = findings.languages(records)
    read_as, *notes = how_read(records) or [""]
    own = text_fields(records.column_names)
    lengths = {"prompt": table["prompt length"], "answer": table["answer length"]}
    total = sum(int(values.sum()) for values in lengths.values())
    if "text" in own:
        lengths = {"text": lengths["prompt"]}  # a text has no answer
    return Report(
        name=excerpt(name) or "the data set",
        records=len(records),
        columns=tuple(records.column_names),
        unit=unit,
        longest=longest,
        total=total,
        lengths={part: Lengths.of_values(values) for part, values in lengths.items()},
        findings=(
            findings.unreadable(problems),
            *findings.single(records, table, longest, unit),
            *findings.copies(records, table),
            *findings.leaks(records, table, test, workers),
            other_language,
        ),
        languages=languages,
        labels=_labels(records),
        read_as=read_as,
        notes=tuple(notes),
        unused=tuple(n for n in records.column_names if n not in (*own, WEIGHTS)),
    )


def _labels(records: Dataset) -> dict[str, dict[str, int]]:
    """The counts of each column that has 2 to 20 values, repeated on average; personal data masked.

    Columns of text other than the records' own, of whole numbers, truth values and class labels
    are looked at, and answers, which may be labels too.
    """
    import pyarrow.compute as compute
    from datasets import ClassLabel, Value

    kinds = records.features  # read once: each reading copies all columns' types
    texts = [name for name in text_fields(kinds) if name != "answer"]
    found = {}
    names = [
        name
        for name, kind in kinds.items()
        if name not in texts
        and isinstance(kind, Value | ClassLabel)
        and kind.dtype.removeprefix("large_").startswith(("string", "int", "uint", "bool"))
    ]
    table = records.select_columns(names).with_format("arrow")[:] if names else {}
    for name in names:
        pairs = compute.value_counts(table[name])  # in Arrow: a million answers are counted quickly
        if len(pairs) > FEW_VALUES:
            continue
        counts: Counter[str] = Counter()
        for pair in pairs.to_pylist():
            value, kind = pair["values"], kinds[name]
            if isinstance(kind, ClassLabel) and value is not None and value >= 0:
                value = kind.int2str(value)
            counts["" if value is None else patterns.masked(str(value))] += pair["counts"]
        if 1 < len(counts) < len(records) / 2:
            found[name] = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    return found


# --- for the terminal -----------------------------------------------------------------------------


def _lines(report: Report) -> Iterator[str]:
    """The report line by line."""
    name = excerpt(report.name, 0, 50)
    yield f"{name}: {report.records:,} records, {report.total:,} {report.unit}"
    shown = [excerpt(column, 0, WIDTH) or repr(column) for column in report.columns]
    yield "columns: " + ", ".join(shown)
    if report.unused:
        names = ", ".join(excerpt(one, 0, 30) or repr(one) for one in report.unused)
        yield f"not used, as no prompt shows them: {names}"
    if report.read_as:
        yield f"read as: {report.read_as}"
    yield from (f"  {note}" for note in report.notes)
    yield f"{report.unit:<10}{'min':>8}{'median':>10}{'95 %':>10}{'max':>10}{'mean':>10}"
    for part, size in report.lengths.items():
        yield (
            f"  {part:<8}{size.minimum:>8,}{size.median:>10,.1f}{size.p95:>10,.1f}"
            f"{size.maximum:>10,}{size.mean:>10,.1f}"
        )
    there = [one for one in report.findings if one.count]
    yield "found:" if there else "No problem was found."
    yield from (f"  {one.kind:<19}{one.count:>9,}  {one.what}" for one in there)
    # what was looked for and not found is a result too
    absent = ", ".join(one.kind for one in report.findings if not one.count)
    if there and absent:
        yield from textwrap.wrap(f"looked for and not found: {absent}", WIDTH)
    if report.languages:
        shares = (f"{name} {percent(share)} %" for name, share in report.languages.items())
        yield f"languages: {', '.join(shares)}"
    for name, values in list(report.labels.items())[:3]:  # all of it fits on one screen
        counts = (f"{excerpt(value, 0, 20) or '(blank)'} {n:,}" for value, n in values.items())
        yield f"values of {excerpt(name, 0, 40)}: {', '.join(counts)}"


def _cut(line: str) -> str:
    """`line`, no longer than the terminal is wide."""
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
