"""Several methods on the same questions: a table and paired tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation.running import Evaluation, Method, evaluate
from llmcourse.models import LoadedModel
from llmcourse.stats import Paired, paired
from llmcourse.words import token_f1

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of several methods on the same records.

    Attributes:
        evaluations: Name of the method -> its evaluation.
    """

    evaluations: dict[str, Evaluation]

    def __getitem__(self, name: str) -> Evaluation:
        try:
            return self.evaluations[name]
        except KeyError:
            known = ", ".join(map(repr, self.evaluations))
            raise SettingError(f"There is no {name!r} here. There are: {known}.") from None

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
        one, two = self[first], self[second]
        shown = one.table[["question", "reference"]].assign(
            **{first: one.table["answer"], second: two.table["answer"]},
            difference=one.table[metric].astype(float) - two.table[metric].astype(float),
        )
        differ = shown["difference"].notna() & (shown["difference"] != 0)
        return shown[differ].sort_values("difference", kind="stable")


def compare(
    methods: Mapping[str, Method | LoadedModel | Evaluation],
    records: Dataset | Iterable[Mapping[str, Any]] | None = None,
    wanted: Sequence[str] | str | None = None,
    **settings: Any,
) -> Comparison:
    """Ask several methods the same questions.

    Args:
        methods: Name -> a model, a method, or an evaluation that is there already.
        records: See `evaluate`; not needed where all are evaluated already.
        wanted: See `evaluate`.
        settings: `known`, `max_new_tokens`, `batch_size`, `progress`; see `evaluate`.

    Raises:
        DataError: evaluations of other records, or see `evaluate`.
        SettingError: there is no method, or see `evaluate`.
    """
    if not isinstance(methods, Mapping) or not methods:
        raise SettingError("compare needs a dict: name -> model, Method or Evaluation.")
    todo = {}
    for name, method in methods.items():
        if not isinstance(method, Evaluation):
            try:
                todo[name] = Method.of(method)  # before any of them is asked
            except SettingError as error:
                raise SettingError(f"{name!r}: {error}") from error
    if todo and records is None:
        raise DataError(f"{next(iter(todo))!r} is not evaluated yet: records are needed.")
    if todo and not hasattr(records, "columns"):
        records = list(records)
    done = {
        name: evaluate(method, records, wanted, name=str(name), **settings)
        for name, method in todo.items()
    }
    found = {name: done.get(name, method) for name, method in methods.items()}
    first, *others = found.values()
    for other in others:
        if _questions(other) != _questions(first):
            raise DataError(
                f"{other.name!r} and {first.name!r} were asked different questions. Evaluate both "
                f"on the same records."
            )
    result = Comparison(found)
    if not result.metrics:
        raise DataError("These evaluations have no metric in common.")
    return result


def _questions(one: Evaluation) -> list[tuple[str, ...]]:
    """What each record asks and what is right, by which the same records are known."""
    roles = ("question", "input", "answer")
    return [
        tuple(templates.get_field(record, role, needed=False) for role in roles)
        for record in one.records
    ]


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
    if len(answers) != len(groups):
        raise DataError(f"{len(answers)} answers need as many groups, not {len(groups)}.")
    together: dict[Any, list[str]] = {}
    for answer, group in zip(answers, groups, strict=True):
        if answer is not None:  # a record that failed
            together.setdefault(group, []).append(str(answer))
    found = {}
    for group, texts in together.items():
        overlaps = [1.0 if a == b else token_f1(a, b) for a, b in combinations(texts, 2)]
        if overlaps:
            found[group] = sum(overlaps) / len(overlaps)
    if not found:
        raise DataError("No group has two answers, so there is nothing to compare.")
    return found
