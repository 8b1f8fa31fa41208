"""How much is done with a learner's own data, so that the whole way takes minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse import encoding, tiers
from llmcourse.errors import DataError, SettingError

if TYPE_CHECKING:
    from llmcourse.finetuning import Config
    from llmcourse.models import LoadedModel

TEMPLATE, LONGEST = "qa", 512  # what the pairs are trained in, and the longest in tokens
SMALL = 500e6  # weights; a larger model takes a lower learning rate


@dataclass(frozen=True)
class Sizes:
    """How much work one tier does.

    Attributes:
        sentences: Sentences of the documents that the chat model is asked to write about.
        headings: Pairs that plain templates make from headings, at most.
        pairs: Pairs that are trained on, at most.
        tokens: Read in training, about; more pairs are seen less often.
        epochs: How often every pair is seen, at most.
        questions: Test questions that every way is asked, at most.
        new_tokens: Longest answer in tokens.
        passages: Passages that retrieval puts before a question.
    """

    sentences: int
    headings: int
    pairs: int
    tokens: int
    epochs: float
    questions: int
    new_tokens: int
    passages: int


SIZES: dict[str, Sizes] = {
    "smoke": Sizes(4, 12, 24, 1_500, 2, 6, 24, 1),
    "cpu": Sizes(16, 40, 100, 14_000, 6, 20, 40, 2),
    "gpu": Sizes(200, 400, 2_000, 600_000, 8, 100, 64, 3),
}


def sizes(tier: str | None = None) -> Sizes:
    """The sizes of a tier; of the one in force if not given.

    Raises:
        SettingError: there is no such tier.
    """
    name = tiers.current().name if tier is None else tier
    if name not in SIZES:
        raise SettingError(f"There is no tier {name!r}. There are: {', '.join(SIZES)}.")
    return SIZES[name]


def settings(
    records: Sequence[Mapping[str, Any]], model: LoadedModel, size: Sizes | None = None
) -> Config:
    """How to train on so many records.

    The rule: every record is seen as often as `size.tokens` allow, at least once and at most
    `size.epochs` times. An update sees 4 records where there are under 100, else 8: few records
    need many small updates. The learning rate is 2e-3 for a model of under half a billion weights
    and 5e-4 above. LoRA of rank 16, template "qa".

    Args:
        records: To train on.
        model: From `models.load`.
        size: Of the tier in force if not given.

    Raises:
        DataError: there are no records, or all are too long.
    """
    from llmcourse.finetuning import Config

    size = size or sizes()
    if not len(records):
        raise DataError("There are no pairs to train on.")
    encoded = encoding.encode(list(records), model.tokenizer, TEMPLATE, max_length=LONGEST)
    once = sum(len(row["input_ids"]) for row in encoded.dataset)
    if not once:
        raise DataError(f"All pairs have over {LONGEST} tokens. Shorten them.")
    epochs = min(float(size.epochs), max(1.0, size.tokens / once))
    return Config(
        template=TEMPLATE, epochs=round(epochs, 1), max_length=LONGEST, rank=16,
        batch_size=4 if len(records) < 100 else 8,
        learning_rate=2e-3 if model.parameters < SMALL else 5e-4,
    )  # fmt: skip
