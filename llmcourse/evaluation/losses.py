"""How surprised a model is by a good answer, and by text: loss and perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmcourse import encoding
from llmcourse.errors import DataError
from llmcourse.generation import check_loaded, reading
from llmcourse.models import LoadedModel
from llmcourse.stats import Score

Loss = tuple[float, int]  # nats of all tokens, and how many tokens


def record_losses(
    model: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    system: str | None = None,
    max_length: int = 1024,
) -> list[Loss | None]:
    """The summed loss (nats) and the tokens of each record's answer, its end token among them.

    Args:
        model: From `models.load`, or a tuned one.
        records: With question and answer, or `text`, all of which then counts.
        template: The model's own if not given.
        system: System prompt before each question.
        max_length: A longer record has no loss, but None.

    Raises:
        DataError, TemplateError: see `encoding.encode`.
    """
    import torch

    from llmcourse.loss import completion_loss

    check_loaded(model)
    encoded = encoding.encode(
        records,
        model.tokenizer,
        template or model.template,
        system=system,
        max_length=min(max_length, model.context_length),
        every_turn=False,
    )
    losses: list[Loss | None] = [None] * len(records)
    with torch.no_grad(), reading(model):
        # One record at a time, so that a loss does not depend on which others are in its batch.
        for row in encoded.dataset:
            ids, labels = (
                torch.tensor([row[name]], device=model.device) for name in ("input_ids", "labels")
            )
            count = int((labels[:, 1:] != encoding.UNTRAINED).sum())
            if count:
                losses[row["record"]] = completion_loss(model.model, ids, labels).item(), count
    return losses


def perplexity(model: LoadedModel, texts: Iterable[str]) -> Score:
    """The perplexity of `texts`: as if a model chose among so many words at each token.

    The exponential of the mean loss per token (Jelinek et al., 1977). The vocabulary matters: only
    models with the same tokenizer can be compared.

    Args:
        model: From `models.load`, or a tuned one.
        texts: Plain texts, each of at most 1,024 tokens.

    Raises:
        DataError: there are none, or one is blank or too long.
    """
    # A record with a text alone is all completion: every token but the first is counted.
    rows = [{"text": text} for text in ([texts] if isinstance(texts, str) else texts)]
    losses = record_losses(model, rows, "plain")
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses):
        raise DataError(
            f"Text {losses.index(None)} (counted from 0) is longer than 1,024 tokens or than the "
            f"model can read. Cut it into parts."
        )
    sums, counts = zip(*known, strict=True)
    return Score.of_ratio(sums, counts, math.exp)
