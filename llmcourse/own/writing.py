"""Pairs of question and answer: those of the learner's file, or written about the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcourse import synthesis
from llmcourse.errors import DataError
from llmcourse.own.sizes import Sizes, sizes
from llmcourse.own.sources import Source

if TYPE_CHECKING:
    from llmcourse.models import LoadedModel

BY_MODEL, BY_TEMPLATE, BY_HAND = "the model", "a template", "your file"


def is_ours(record: Mapping[str, Any]) -> bool:
    """True for a pair that was written here about a document: its other columns are known then.

    A column of a learner's own file may have any name (`source`, `document`) and mean anything.
    """
    return record.get("written") in (BY_MODEL, BY_TEMPLATE)


@dataclass(frozen=True)
class Written:
    """Pairs, and what was rejected on the way.

    Attributes:
        records: question, answer, `written` (by whom), and where known input, document, heading,
            source and the file's other fields.
        rejected: stage, reason, question and answer of each pair that did not pass.
        seconds: How long writing took.
    """

    records: list[dict[str, str]] = field(repr=False)
    rejected: list[dict[str, str]] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """By whom -> how many."""
        names = (BY_MODEL, BY_TEMPLATE, BY_HAND)
        found = {name: sum(r["written"] == name for r in self.records) for name in names}
        return {name: count for name, count in found.items() if count}

    def reasons(self) -> list[dict[str, Any]]:
        """Why pairs were rejected: stage, reason, count and an example each, most often first."""
        table = synthesis.Synthesis([], self.rejected, self.seconds).report()
        rows = [row for row in table.to_dict("records") if row["stage"]]
        return sorted(rows, key=lambda row: -row["count"])


def pairs(
    source: Source,
    model: LoadedModel | None = None,
    size: Sizes | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Written:
    """The pairs to train and test on.

    A file's pairs are taken as they are. About documents the model writes questions and answers,
    of which only those pass that the passage backs (`synthesis.questions_from_documents`); plain
    templates add a question about each heading.

    Args:
        source: From `read`.
        model: A chat model; None leaves it to the templates.
        size: Of the tier in force if not given.
        seed: For the choice of sentences.
        progress: False shows nothing.

    Raises:
        DataError: nothing passed.
    """
    size = size or sizes()
    if source.kind == "pairs":
        return Written([{"written": BY_HAND} | record if is_ours(record) else
                        record | {"written": BY_HAND} for record in source.records])  # fmt: skip
    found: list[dict[str, str]] = []
    rejected: list[dict[str, str]] = []
    seconds = 0.0
    plans = [(BY_TEMPLATE, None, size.headings)]
    if model is not None:
        plans.insert(0, (BY_MODEL, model, size.sentences))
    for by, writer, limit in plans:
        try:
            done = synthesis.questions_from_documents(
                _spread(source.passages, limit) if writer is None else source.passages, writer,
                limit=limit, seed=seed, progress=progress,
            )  # fmt: skip
        except DataError as error:  # no sentence that a question could be about
            rejected.append({"stage": "passage", "reason": str(error), "question": "",
                             "answer": ""})  # fmt: skip
            continue
        found += [record | {"written": by} for record in done.records]
        rejected += done.rejected
        seconds += done.seconds
    if not found:
        raise DataError(
            f"No pair could be written about {source.name}. The documents need headings and whole "
            f"sentences; or write pairs yourself, in a CSV file with the columns question and "
            f"answer."
        )
    return Written(found, rejected, seconds)


def _spread(passages: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` passages, taken from all over the documents."""
    step = max(1.0, len(passages) / limit)
    return [passages[int(step * place)] for place in range(min(limit, len(passages)))]
