"""Several ways on the same questions: a table, a picture, and paired tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation.metrics import METRICS
from llmcourse.evaluation.running import Evaluation, evaluate
from llmcourse.evaluation.ways import Way
from llmcourse.models import LoadedModel
from llmcourse.stats import Paired, paired
from llmcourse.words import token_f1

if TYPE_CHECKING:
    import pandas
    from datasets import Dataset


@dataclass(frozen=True, eq=False)
class Comparison:
    """Evaluations of several ways on the same records.

    Attributes:
        evaluations: Name of the way -> its evaluation.
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
        every = list(self.evaluations.values())
        return [name for name in every[0].scores if all(name in one.scores for one in every)]

    def table(self) -> pandas.DataFrame:
        """A row a way, a column a metric: the mean and its 95 % interval."""
        import pandas

        rows = {
            name: {metric: str(one.scores[metric]) for metric in self.metrics}
            for name, one in self.evaluations.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def test(self, first: str, second: str, metric: str | None = None) -> Paired:
        """How two ways differ, record by record; a metric of "facts" or the first if not given."""
        metric = metric or self._main()
        return paired(self[first].values(metric), self[second].values(metric))

    def tests(self, metric: str | None = None) -> dict[tuple[str, str], Paired]:
        """All pairs of ways. With many pairs, a small p comes by chance somewhere."""
        return {(a, b): self.test(a, b, metric) for a, b in combinations(self.evaluations, 2)}

    def rows(self, first: str, second: str, metric: str | None = None) -> pandas.DataFrame:
        """The records on which two ways differ, those that the first does worse on on top."""
        import pandas

        metric = metric or self._main()
        one, two = self[first], self[second]
        apart = [a - b for a, b in zip(one.values(metric), two.values(metric), strict=True)]
        shown = pandas.DataFrame({
            "question": one.table["question"], "reference": one.table["reference"],
            first: one.table["answer"], second: two.table["answer"], "difference": apart,
        })  # fmt: skip
        differ = shown["difference"].notna() & (shown["difference"] != 0)
        return shown[differ].sort_values("difference", kind="stable")

    def show(self, metric: str | None = None, *, caption: str = "", title: str = "") -> None:
        """A picture: shares as bars with intervals, other numbers as dots."""
        metric = metric or self._main()
        said = METRICS[metric].text
        caption = caption or f"Figure. {said[0].upper()}{said[1:]}, for each way."
        try:
            bars = {name: one.share(metric) for name, one in self.evaluations.items()}
        except SettingError:
            numbers = {name: _known(one.values(metric)) for name, one in self.evaluations.items()}
            plots.dots(numbers, title or metric, caption=caption, label=said)
        else:
            plots.shares({"": bars}, title or metric, caption=caption,
                         note="share of records; the thin line is the 95 % interval")  # fmt: skip

    def _main(self) -> str:
        return "facts" if "facts" in self.metrics else self.metrics[0]


def _asked(one: Evaluation) -> list[tuple[str, ...]]:
    """What each record asks and what is right, by which the same records are known."""
    roles = ("question", "input", "answer")
    return [
        tuple(templates.get_field(record, role, needed=False) for role in roles)
        for record in one.records
    ]


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if value == value]  # NaN is not itself


def compare(
    ways: Mapping[str, Way | LoadedModel | Evaluation],
    records: Dataset | Iterable[Mapping[str, Any]] | None = None,
    wanted: Sequence[str] | str | None = None,
    **settings: Any,
) -> Comparison:
    """Ask several ways the same questions.

    Args:
        ways: Name -> a model, a way to ask it, or an evaluation that is there already.
        records: See `evaluate`; not needed where all are evaluated already.
        wanted: See `evaluate`.
        settings: `max_new_tokens`, `batch_size`, `progress`; see `evaluate`.

    Raises:
        DataError: evaluations of other records, or see `evaluate`.
        SettingError: there is no way, or see `evaluate`.
    """
    if not isinstance(ways, Mapping) or not ways:
        raise SettingError("compare wants a dict: name -> model, Way or Evaluation.")
    if records is not None:
        records = records if hasattr(records, "columns") else list(records)
    found: dict[str, Evaluation] = {}
    for name, way in ways.items():
        if not isinstance(way, Evaluation):
            try:
                Way.of(way)  # before the first is asked
            except SettingError as error:
                raise SettingError(f"{name!r}: {error}") from error
    for name, way in ways.items():
        if isinstance(way, Evaluation):
            found[str(name)] = way
        elif records is None:
            raise DataError(f"{name!r} is not evaluated yet: records are needed.")
        else:
            found[str(name)] = evaluate(way, records, wanted, name=str(name), **settings)
    first, *others = found.values()
    for other in others:
        if _asked(other) != _asked(first):
            raise DataError(
                f"{other.name!r} and {first.name!r} were asked different questions. Evaluate both "
                f"on the same records."
            )
    result = Comparison(found)
    if not result.metrics:
        raise DataError("These evaluations have no metric in common.")
    return result


def consistency(answers: Sequence[Any], groups: Sequence[Any]) -> dict[Any, float]:
    """How much the answers to several wordings of one question agree, from 0 to 1.

    For each group, the mean over all pairs of its answers of the words they have in common (F1).
    1 means that all say the same in the same words; it does not mean that they are right.

    Args:
        answers: Texts or answers; None, for a record that failed, is left out.
        groups: One a answer: which question it belongs to, as the fact's id.

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
        alike = [1.0 if a == b else token_f1(a, b) for a, b in combinations(texts, 2)]
        if alike:
            found[group] = sum(alike) / len(alike)
    if not found:
        raise DataError("No group has two answers, so there is nothing to agree.")
    return found
