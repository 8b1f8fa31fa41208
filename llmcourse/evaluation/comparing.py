"""Several methods on the same questions: a table and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmcourse.data.records import as_records
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation.metrics import require_known
from llmcourse.evaluation.running import Evaluation, Method, evaluate
from llmcourse.models import LoadedModel
from llmcourse.stats import Paired, paired
from llmcourse.words import token_f1

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of several methods on the same records.

    Attributes:
        evaluations: Name of the method -> its evaluation.
    """

    evaluations: dict[str, Evaluation]

    def __getitem__(self, name: str) -> Evaluation:
        return self.evaluations[require_known("method", name, self.evaluations)]

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
        SettingError: there is no method, or see `evaluate`.
    """
    if not methods:
        raise SettingError("compare needs at least one method.")
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
