"""Training on a learner's pairs, with settings that follow from how many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, tiers
from llmcourse.data.records import WEIGHTS
from llmcourse.errors import DataError

if TYPE_CHECKING:
    from llmcourse.finetuning import Config, TunedModel
    from llmcourse.models import LoadedModel

# Plain headings, the same for base and chat models; the tuned model's folder remembers them.
TEMPLATE, LONGEST = "qa", 512  # what the pairs are trained in, and the longest in tokens


@dataclass(frozen=True)
class Sizes:
    """How much work one tier does with a learner's own data, so that it takes minutes.

    Attributes:
        tries: Questions that the base model is asked to write about the documents.
        pairs: Pairs that are trained on, at most.
        tokens: Read in training, about; more pairs are seen less often.
        epochs: How often every pair is seen, at most.
        questions: Test questions that every method is asked, at most.
        new_tokens: Longest answer in tokens.
        passages: Passages that retrieval puts before a question.
    """

    tries: int
    pairs: int
    tokens: int
    epochs: float
    questions: int
    new_tokens: int
    passages: int


# By hand, so that all steps together take some minutes on the machine that a tier is for.
SIZES: dict[str, Sizes] = {
    "smoke": Sizes(16, 24, 1_500, 2, 6, 24, 1),
    "cpu": Sizes(160, 100, 25_000, 10, 20, 40, 2),
    "gpu": Sizes(4_000, 2_000, 600_000, 10, 100, 64, 3),
}


def sizes() -> Sizes:
    """The sizes of the tier in force."""
    return SIZES[tiers.current().name]


def settings(
    records: Sequence[Mapping[str, Any]], model: LoadedModel, size: Sizes | None = None
) -> Config:
    """How to train on so many records.

    Every record is seen as often as `size.tokens` allow, at least once and at most `size.epochs`
    times. All else is left to `finetune`, whose settings were chosen by benchmarks/defaults.py.

    Args:
        records: To train on.
        model: From `models.load`.
        size: Of the tier in force if not given.

    Raises:
        DataError: there are no records, or all are too long.
    """
    from llmcourse.finetuning import Config

    size = size or sizes()
    encoded = encoding.encode(list(records), model.tokenizer, TEMPLATE, max_length=LONGEST)
    if not len(encoded):
        raise DataError(f"All pairs have over {LONGEST} tokens. Shorten them.")
    epochs = round(min(float(size.epochs), max(1.0, size.tokens / encoded.tokens)), 1)
    return Config(template=TEMPLATE, epochs=epochs, max_length=LONGEST)


def train(
    model: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    config: Config,
    *,
    held_out: Sequence[Mapping[str, Any]] | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
) -> TunedModel:
    """Train an adapter on the pairs.

    Args:
        model: From `models.load`; it stays as it is.
        records: To train on.
        config: How to train; `settings` chooses it from the number of pairs.
        held_out: Pairs that are not trained on, whose loss is measured four times on the way. Not
            the test pairs: whoever changes the epochs by this loss has learned from them.
        out: A folder for the tuned model. The same call goes on where it was stopped.
        fresh: True retrains where `out` holds another training, and removes that.

    Raises:
        DataError: there are no pairs, or all are too long.
        SettingError, TrainingStopped, NoSpace: see `finetuning.finetune`.
    """
    from llmcourse.finetuning import finetune

    # Four looks at the held-out loss, whatever the number of updates: enough to see it turn.
    batches = -(-len(records) // config.batch_size)
    updates = config.steps or max(1, round((config.epochs or 1) * batches))
    return finetune(
        model,
        plain(records),
        config,
        held_out=plain(held_out) if held_out else None,
        eval_steps=-(-updates // 4),
        out=out,
        fresh=fresh,
    )


def divided(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """The pairs that are trained on, and every eighth, for the loss on the way."""
    # (from the fifth on, so that five pairs have one as well)
    return [row for place, row in enumerate(rows) if place % 8 != 4], rows[4::8]


def plain(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fields that a template reads, so that notes in other columns change nothing."""
    # (empty fields left out: a pair with a blank input is the same as one without)
    names = ("history", "question", "input", "answer", WEIGHTS)
    return [{name: record[name] for name in names if record.get(name)} for record in records]
