"""Asking a model every question of a test set, and measuring each answer; or several models."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmcourse import pages
from llmcourse.data.records import as_records
from llmcourse.errors import DataError, SettingError, first_line, one_of
from llmcourse.evaluation.metrics import METRICS, choose, keys_of, label
from llmcourse.generation import Answer, check_loaded, generate
from llmcourse.models import LoadedModel
from llmcourse.stats import Paired, Score, Share, paired, share
from llmcourse.words import token_f1

if TYPE_CHECKING:
    import pandas

# What the table takes from each answer, and what it has for a record that failed.
_MEASURED = {"finished": False, "prompt_tokens": 0, "new_tokens": 0, "seconds": math.nan}


@dataclass(frozen=True)
class Method:
    """A model and how it is asked: what one compares to decide "prompt, retrieve or tune?".

    Attributes:
        model: From `models.load`, or a tuned one.
        template: Name in `templates.NAMES`; the model's own if not given.
        system: System prompt before each question.
        prompt: Makes the prompt from a record: with examples before the question, or with
            passages (`retrieval.prompt_with`). It returns a text, or a record, which keeps the
            turns before the question. Without it the record is asked as it is.
    """

    model: LoadedModel = field(repr=False)
    template: str | None = None
    system: str | None = None
    prompt: Callable[[Mapping[str, Any]], str | Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        check_loaded(self.model)

    @classmethod
    def of(cls, method: Method | LoadedModel) -> Method:
        """`method` itself, or a model asked without system prompt, examples or passages.

        Raises:
            SettingError: it is neither a method nor a model.
        """
        return method if isinstance(method, Method) else cls(method)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What one method answered to every question, and how good that is.

    Attributes:
        name: What it is called in tables.
        records: The records, in order.
        answers: One answer per record; None where it failed.
        table: One row per record: question, reference, answer, finished, prompt_tokens,
            new_tokens, seconds (its share of the batch's time) and error ("" where all went well),
            then one column per metric; NaN where a record has no number.
        scores: Metric -> its mean over the records, with a 95 % interval. A record that failed
            counts as wrong in metrics of right and wrong, and is left out of all others.
        seconds: Time to answer all of them.
        known: Text whose words are not taken for misspelt; see `label`.
    """

    name: str
    records: list[Mapping[str, Any]]
    answers: list[Answer | None]
    table: pandas.DataFrame
    scores: dict[str, Score]
    seconds: float
    known: str = ""

    @property
    def failed(self) -> pandas.DataFrame:
        """The records that could not be answered, with their errors."""
        return self.table.loc[self.table["error"] != "", ["question", "error"]]

    # Only when somebody looks, and once: checking the spelling is slow.
    @functools.cached_property
    def labels(self) -> list[list[str]]:
        """The kinds of mistakes of each answer, worst first; see `label`. A failed record: none."""
        # What any record of the test set says is spelt right.
        known = " ".join([*self.table["question"], *self.table["reference"], self.known])
        return [
            [] if answer is None else label(answer, record, known)
            for answer, record in zip(self.answers, self.records, strict=True)
        ]

    def values(self, metric: str) -> list[float]:
        """The numbers of one metric, one per record.

        Raises:
            SettingError: it was not measured.
        """
        return self.table[one_of("metric", metric, self.scores)].astype(float).tolist()

    def share(self, metric: str) -> Share:
        """How many of how many, for a metric that is 0 or 1.

        Raises:
            SettingError: it was not measured, or has other numbers.
        """
        values = self.values(metric)
        if not set(values) <= {0.0, 1.0}:
            raise SettingError(f"{metric!r} is not 0 or 1 for a record; its mean is in .scores.")
        return share(values)

    def worst(self) -> pandas.DataFrame:
        """The records with mistakes, the worst answers first."""
        # Words in common rank answers finely; that a fact is right is only yes or no.
        by = next(name for name in ("f1", "chrf", "facts", *self.scores) if name in self.scores)
        rows = self.table[["question", "reference", "answer", by]].assign(
            mistakes=[", ".join(kinds) for kinds in self.labels]
        )
        return rows[rows["mistakes"] != ""].sort_values(by, kind="stable")

    def __str__(self) -> str:
        """The scores, a line each."""
        return "\n".join([self._title(), *(f"{m:<16}{s}" for m, s in self.scores.items())])

    __repr__ = __str__

    def _title(self) -> str:
        failed = f"; {len(self.failed)} failed" if len(self.failed) else ""
        return f"{self.name}: {len(self.records)} records, {self.seconds:.1f} s{failed}"

    def _repr_html_(self) -> str:
        """The scores, for a notebook."""
        rows = [(name, score, METRICS[name].text) for name, score in self.scores.items()]
        return pages.table(("metric", "mean, 95 % interval", "meaning"), rows, self._title())


def evaluate(
    method: Method | LoadedModel,
    records: Any,
    metrics: Sequence[str] | str | None = None,
    *,
    name: str = "",
    known: str = "",
    max_new_tokens: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Ask every question, in batches, and measure each answer.

    No error is swallowed: a record whose question can't be asked (too long, empty, or its prompt
    can't be made) has its error in the table and in `failed`, and counts.

    Args:
        method: A model, or a model and how it is asked.
        records: What `data.load_records` gives, or whatever it takes; for "facts" with a field
            `keys` (see `keys_of`).
        metrics: Names in `METRICS`; all that apply if not given.
        name: For tables; the model's title if not given.
        known: Text whose words are not misspelt, such as the documents the questions are about.
        max_new_tokens: Longest answer in tokens; the tier's if not given.
        batch_size: Questions answered at once; the tier's if not given.
        progress: False shows no progress.

    Raises:
        DataError: there are no records, none could be answered, or one lacks what a metric needs.
        SettingError: an unknown metric, or see `generation.generate`.
    """
    method = Method.of(method)  # (all that can be wrong is found before a model is asked)
    rows = list(as_records(records))
    # Before a model is asked, which takes minutes.
    choose(metrics, [row.get("answer", "") for row in rows], list(map(keys_of, rows)))
    prompts, unmade = _prompts(method, rows)
    failures: dict[int, str] = {}
    answers: Sequence[Answer | None] = generate(
        method.model,
        prompts,
        method.template,
        system=method.system,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
        failures=failures,
    )
    failures |= unmade  # which `generate` saw as empty prompts
    if len(failures) == len(rows):
        raise DataError(f"No record could be answered. The first: {failures[0]}")
    title = name or method.model.title
    return measured(rows, answers, metrics, title, known, failures)


def measured(
    rows: Sequence[Mapping[str, Any]],
    answers: Sequence[Answer | None],
    metrics: Sequence[str] | str | None = None,
    name: str = "answers",
    known: str = "",
    failures: Mapping[int, str] | None = None,
) -> Evaluation:
    """Measure answers that are there already, from a model or from anywhere else.

    Args:
        rows: The records, in order.
        answers: One per record; None where it failed.
        metrics, name, known: See `evaluate`.
        failures: Number of a record -> why it failed.

    Raises:
        DataError: a record lacks what a metric needs.
        SettingError: an unknown metric.
    """
    import pandas

    references = [row.get("answer", "") for row in rows]
    keys = [keys_of(row) for row in rows]
    columns: dict[str, list[Any]] = {
        "question": [row.get("question", "") for row in rows],
        "reference": references,
        "answer": ["" if answer is None else answer.text for answer in answers],
    }
    for column, missing in _MEASURED.items():
        columns[column] = [missing if a is None else getattr(a, column) for a in answers]
    columns["error"] = [(failures or {}).get(number, "") for number in range(len(rows))]
    scores = {}
    # Metric by metric, so that a table's columns are in the order they were asked for.
    for metric in choose(metrics, references, keys):
        measure, failed = METRICS[metric].measure, METRICS[metric].failed
        columns[metric] = [
            failed if answer is None else float(measure(answer, *expected))
            for answer, *expected in zip(answers, references, keys, strict=True)
        ]
        scores[metric] = Score.of_values(columns[metric])
    table = pandas.DataFrame(columns)
    seconds = sum(answer.seconds for answer in answers if answer)
    return Evaluation(name, list(rows), list(answers), table, scores, seconds, known)


def _prompts(method: Method, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], dict[int, str]]:
    """What each record asks; "" where its prompt can't be made, and the number and error of it."""
    prompts: list[Any] = []
    errors = {}
    for number, row in enumerate(rows):
        try:
            prompts.append(row if method.prompt is None else method.prompt(row))
        except Exception as error:  # whatever the user's own function raises
            prompts.append("")  # keeps the place of the others
            errors[number] = f"{type(error).__name__}: {first_line(error)}"
    return prompts, errors


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of several methods on the same records.

    Attributes:
        evaluations: Name of the method -> its evaluation.
    """

    evaluations: dict[str, Evaluation]

    def __getitem__(self, name: str) -> Evaluation:
        return self.evaluations[one_of("method", name, self.evaluations)]

    @property
    def metrics(self) -> list[str]:
        """What was measured in all of them."""
        first, *others = self.evaluations.values()
        return [name for name in first.scores if all(name in one.scores for one in others)]

    @property
    def main(self) -> str:
        """The metric that tests go by where none is named: "facts", or the first."""
        return "facts" if "facts" in self.metrics else self.metrics[0]

    def table(self) -> pandas.DataFrame:
        """A row per method, a column per metric: the mean and its 95 % interval."""
        import pandas

        rows = {
            name: {metric: str(one.scores[metric]) for metric in self.metrics}
            for name, one in self.evaluations.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def test(self, first: str, second: str, metric: str | None = None) -> Paired:
        """How two methods differ, record by record; in the main metric if none is given."""
        metric = metric or self.main
        return paired(self[first].values(metric), self[second].values(metric))

    def rows(self, first: str, second: str, metric: str | None = None) -> pandas.DataFrame:
        """The records on which two methods differ, those that the first does worse on on top."""
        metric = metric or self.main
        one, two = self[first].table, self[second].table
        shown = one[["question", "reference"]].assign(
            **{first: one["answer"], second: two["answer"]},
            difference=one[metric].astype(float) - two[metric].astype(float),
        )
        # NaN is a record that one of the two has no number for.
        differ = shown["difference"].notna() & (shown["difference"] != 0)
        return shown[differ].sort_values("difference", kind="stable")


def compare(
    methods: Mapping[str, Method | LoadedModel | Evaluation],
    records: Any = None,
    metrics: Sequence[str] | str | None = None,
    **settings: Any,
) -> Comparison:
    """Ask several methods the same questions.

    Args:
        methods: Name -> a model, a method, or an evaluation that is there already.
        records: See `evaluate`; not needed where all are evaluated already.
        metrics: See `evaluate`.
        settings: `known`, `max_new_tokens`, `batch_size`, `progress`; see `evaluate`.

    Raises:
        DataError: evaluations of other records or without a metric in common, or see `evaluate`.
        SettingError: see `evaluate`.
    """
    # All methods and the records are checked before any model is asked: answering takes minutes.
    ready = {
        name: method if isinstance(method, Evaluation) else Method.of(method)
        for name, method in methods.items()
    }
    if any(isinstance(method, Method) for method in ready.values()):
        records = as_records(records)  # once; an iterator would be empty the second time
    evaluations = {
        name: evaluate(method, records, metrics, name=str(name), **settings)
        if isinstance(method, Method)
        else method
        for name, method in ready.items()
    }
    first, *others = (_questions(one) for one in evaluations.values())
    if any(other != first for other in others):
        raise DataError("The methods were asked different questions. Evaluate all on the same.")
    result = Comparison(evaluations)
    if not result.metrics:
        raise DataError("These evaluations have no metric in common.")
    return result


def _questions(one: Evaluation) -> list[list[Any]]:
    """What each record asks and what is right: how the same records are known."""
    # Not all fields: an `id` or a note may differ between two copies of a test set.
    names = ("history", "question", "input", "answer")
    return [[record.get(name) for name in names] for record in one.records]


def consistency(answers: Sequence[Any], groups: Sequence[Any]) -> dict[Any, float]:
    """How much the answers to several paraphrases of one question agree, from 0 to 1.

    For each group, the mean over all pairs of its answers of the words they have in common (F1).
    1 means that all say the same in the same words; it does not mean that they are right.

    Args:
        answers: Texts or answers; None, for a record that failed, is left out.
        groups: One per answer: which question it belongs to, such as the fact's id.

    Returns:
        Group -> agreement; groups of a single answer are left out.

    Raises:
        DataError: the lists are not equally long, or no group has two answers.
    """
    texts: dict[Any, list[str]] = {}
    if len(answers) == len(groups):
        for answer, group in zip(answers, groups, strict=True):
            texts.setdefault(group, []).extend([] if answer is None else [str(answer)])
    # One answer agrees with itself, which says nothing.
    several = {group: own for group, own in texts.items() if len(own) > 1}
    if not several:
        raise DataError("Each answer needs a group, and some group two answers.")
    return {
        # Two empty answers have no word in common, and agree all the same.
        group: fmean(1.0 if a == b else token_f1(a, b) for a, b in combinations(own, 2))
        for group, own in several.items()
    }
