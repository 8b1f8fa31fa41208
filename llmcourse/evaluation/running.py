"""Asking a model every question of a test set, and measuring each answer."""

from __future__ import annotations

import functools
import html
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcourse import stats, templates
from llmcourse.errors import CourseError, DataError, SettingError, first_line
from llmcourse.evaluation import losses, metrics, mistakes
from llmcourse.evaluation.ways import Way
from llmcourse.generation import Answer, generate, trouble
from llmcourse.models import LoadedModel
from llmcourse.stats import Score

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset

COLUMNS = ("question", "reference", "answer", "finished", "prompt_tokens", "new_tokens",
           "seconds", "error")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one way to ask wrote to every question, and what that is worth.

    Attributes:
        name: What it is called in tables.
        records: The records, in order.
        answers: One answer a record; None where it failed.
        table: One row a record: the columns in `COLUMNS` (`seconds` is its share of the batch's
            time, `error` is "" where all went well), then one a metric; NaN where a record has no
            number.
        scores: Metric -> its mean over the records, with a 95 % interval. A record that failed
            counts as wrong in metrics of right and wrong, and is left out of all others.
        seconds: What answering took, all in all.
    """

    name: str
    records: list[Mapping[str, Any]] = field(repr=False)
    answers: list[Answer | None] = field(repr=False)
    table: pandas.DataFrame = field(repr=False)
    scores: dict[str, Score]
    seconds: float

    @property
    def failed(self) -> pandas.DataFrame:
        """The records that could not be answered, with their errors."""
        return self.table.loc[self.table["error"] != "", ["question", "error"]]

    @functools.cached_property
    def labels(self) -> list[list[str]]:
        """The kinds of mistakes of each answer, worst first; see `label`. A failed record: none."""
        return [
            [] if answer is None else mistakes.label(answer, record)
            for answer, record in zip(self.answers, self.records, strict=True)
        ]

    def share(self, metric: str) -> stats.Share:
        """How many of how many, for a metric that is 0 or 1.

        Raises:
            SettingError: it was not measured, or has other numbers.
        """
        values = self.values(metric)
        if not set(values) <= {0.0, 1.0}:
            raise SettingError(f"{metric!r} is not 0 or 1 a record; its mean is in .scores.")
        return stats.share(value == 1.0 for value in values)

    def values(self, metric: str) -> list[float]:
        """The numbers of one metric, a record each.

        Raises:
            SettingError: it was not measured.
        """
        if metric not in self.scores:
            raise SettingError(f"{metric!r} was not measured. Measured: {', '.join(self.scores)}.")
        return self.table[metric].astype(float).tolist()

    def worst(self, kind: str | None = None, by: str | None = None) -> pandas.DataFrame:
        """The records with mistakes, or with one kind of them, the worst answers first.

        Args:
            kind: One of `mistakes.KINDS`.
            by: The metric to sort by; the first measured of f1, chrf, facts if not given.

        Raises:
            SettingError: there is no such kind, or the metric was not measured.
        """
        if kind is not None and kind not in mistakes.KINDS:
            raise SettingError(f"There is no {kind!r}. There are: {', '.join(mistakes.KINDS)}.")
        ways = (by,) if by else ("f1", "chrf", "facts", *self.scores)
        by = next((name for name in ways if name in self.scores), ways[0])
        self.values(by)
        shown = self.table[["question", "reference", "answer", by]].assign(
            mistakes=[", ".join(kinds) for kinds in self.labels]
        )
        wanted = [kind in kinds if kind else bool(kinds) for kinds in self.labels]
        better = metrics.METRICS[by].better
        return shown[wanted].sort_values(by, ascending=better != "low", kind="stable")

    def __repr__(self) -> str:
        """The scores, a line each."""
        lines = [f"{name:<12}{score}" for name, score in self.scores.items()]
        return "\n".join([f"{self.name}: {self._told()}", *lines])

    def _told(self) -> str:
        bad = len(self.failed)
        return f"{len(self.records)} records, {self.seconds:.1f} s" + f"; {bad} failed" * bool(bad)

    def _repr_html_(self) -> str:
        """The scores, for a notebook."""
        rows = "".join(
            f"<tr><th scope='row'>{name}</th><td>{score}</td>"
            f"<td style='text-align:left'>{metrics.METRICS[name].text}</td></tr>"
            for name, score in self.scores.items()
        )  # fmt: skip
        return (
            f"<table><caption>{html.escape(self.name)}: {self._told()}</caption><thead><tr>"
            f"<th scope='col'>metric</th><th scope='col'>mean, 95 % interval</th>"
            f"<th scope='col' style='text-align:left'>what it says</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def evaluate(
    way: Way | LoadedModel,
    records: Dataset | Iterable[Mapping[str, Any]],
    wanted: Sequence[str] | str | None = None,
    *,
    name: str = "",
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Ask every question, in batches, and measure each answer.

    Nothing is swallowed: a record whose question can't be asked (too long, empty, or its prompt
    can't be made) has its error in the table and in `failed`, and counts.

    Args:
        way: A model, or a model and how it is asked.
        records: With the fields in `templates.FIELDS`; for "facts" also `keys` or `fact`.
        wanted: Names in `METRICS`; all that apply and need no pass of their own if not given.
        name: For tables; the model's title if not given.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        batch_size: Questions answered at once; the tier's if not given.
        progress: False shows no progress.

    Raises:
        DataError: there are no records, none could be answered, or one lacks what a metric needs.
        SettingError: an unknown metric, or see `generation.generate`.
    """
    way = Way.of(way)
    rows = _rows(records)
    references = [_reference(row, number) for number, row in enumerate(rows)]
    names = metrics.chosen(wanted, rows, references)
    asked, errors = _asked(way, rows, max_new_tokens)
    good = [number for number, error in enumerate(errors) if not error]
    if not good:
        raise DataError(f"No record could be answered. The first: {errors[0]}")
    start = time.perf_counter()
    given = generate(
        way.model, [asked[number] for number in good], way.template, system=way.system,
        max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    answers: list[Answer | None] = [None] * len(rows)
    for number, answer in zip(good, given, strict=True):
        answers[number] = answer
    columns, scores = _measured(way, rows, references, answers, names)
    table = _table(rows, references, answers, errors, columns)
    return Evaluation(name or way.model.title, rows, answers, table, scores, seconds)


def _rows(records: Any) -> list[Mapping[str, Any]]:
    """The records as mappings.

    Raises:
        DataError: they are none, or there are none.
    """
    if isinstance(records, str | Mapping) or not isinstance(records, Iterable):
        raise DataError(f"A list of records is wanted, not {type(records).__name__}.")
    if hasattr(records, "columns"):  # a data frame; an empty cell is no value
        records = records.astype(object).where(records.notna(), None).to_dict("records")
    rows = list(records)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                f"Record {number} (counted from 0) is {type(row).__name__}; a mapping of fields "
                f"is wanted."
            )
    if not rows:
        raise DataError("There are no records to evaluate on.")
    return rows


def _reference(row: Mapping[str, Any], number: int) -> str:
    try:
        return templates.get_field(row, "answer", needed=False)
    except CourseError as error:
        raise DataError(f"Record {number} (counted from 0): {error}") from error


def _asked(way: Way, rows: Sequence[Mapping[str, Any]],
           limit: int | None) -> tuple[list[Any], list[str]]:  # fmt: skip
    """What each record asks, and what is wrong with it ("" if nothing is)."""
    asked, errors = [], []
    for row in rows:
        try:
            one = way.asked(row)
            wrong = trouble(way.model, one, way.template, system=way.system, max_new_tokens=limit)
        except SettingError:
            raise
        except Exception as error:  # what the learner's own function for prompts may raise
            one, wrong = None, f"{type(error).__name__}: {first_line(error)}"
        asked.append(one)
        errors.append(wrong)
    return asked, errors


def _measured(
    way: Way, rows: list[Mapping[str, Any]], references: list[str],
    answers: list[Answer | None], names: list[str],
) -> tuple[dict[str, list[float]], dict[str, Score]]:  # fmt: skip
    """A column of numbers for each metric, and its mean."""
    columns: dict[str, list[float]] = {}
    scores: dict[str, Score] = {}
    found: list[Any] | None = None
    for name in names:
        metric = metrics.METRICS[name]
        if metric.measure is None:
            found = _losses(way, rows, references, answers) if found is None else found
            mean = [math.nan if loss is None else loss[0] / loss[1] for loss in found]
            bent = math.exp if name == "perplexity" else float
            columns[name] = [bent(value) for value in mean]
            scores[name] = (losses.as_perplexity if bent is math.exp else losses.as_loss)(found)
            continue
        lost = math.nan if metric.failed is None else metric.failed
        columns[name] = [
            lost if answer is None else float(metric.measure(answer, reference, row))
            for answer, reference, row in zip(answers, references, rows, strict=True)
        ]
        scores[name] = Score.of_values(columns[name])
    return columns, scores


def _losses(way: Way, rows: list[Mapping[str, Any]], references: list[str],
            answers: list[Answer | None]) -> list[Any]:  # fmt: skip
    """The reference answers' losses; None for a record that can't be asked."""
    good = [number for number, answer in enumerate(answers) if answer is not None]
    found: list[Any] = [None] * len(rows)
    measured = losses.way_losses(
        way, [rows[n] for n in good], [references[n] for n in good]
    )  # fmt: skip
    for number, loss in zip(good, measured, strict=True):
        found[number] = loss
    return found


def _table(
    rows: list[Mapping[str, Any]], references: list[str], answers: list[Answer | None],
    errors: list[str], columns: dict[str, list[float]],
) -> pandas.DataFrame:  # fmt: skip
    import pandas

    def of(name: str, missing: Any) -> list[Any]:
        return [missing if answer is None else getattr(answer, name) for answer in answers]

    questions = [
        templates.get_field(row, "question", needed=False) if isinstance(
            row.get("question", ""), str) else "" for row in rows
    ]  # fmt: skip
    values = (
        questions, references, of("text", ""), of("finished", False), of("prompt_tokens", 0),
        of("new_tokens", 0), of("seconds", math.nan), errors,
    )  # fmt: skip
    return pandas.DataFrame(dict(zip(COLUMNS, values, strict=True)) | columns)
