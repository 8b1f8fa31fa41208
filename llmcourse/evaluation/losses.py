"""How surprised a model is by a good answer, and by text: loss and perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmcourse import encoding
from llmcourse.errors import DataError
from llmcourse.evaluation.ways import Way
from llmcourse.finetuning import completion_loss
from llmcourse.generation import check_loaded, reading
from llmcourse.models import LoadedModel
from llmcourse.stats import Score


def record_losses(
    model: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    template: str | None = None,
    *,
    system: str | None = None,
    max_length: int = 1024,
) -> list[tuple[float, int] | None]:
    """The summed loss (nats) and the tokens of each record's answer, its end token among them.

    Args:
        model: From `models.load`, or a tuned one.
        records: With question and answer, or `text`, all of which then counts.
        template: The model's own if not given.
        system: What the model is told before each question.
        max_length: A longer record has no loss: None stands in its place.

    Raises:
        DataError, TemplateError: see `encoding.encode`.
    """
    import torch

    check_loaded(model)
    encoded = encoding.encode(
        records, model.tokenizer, template or model.template, system=system,
        max_length=min(max_length, model.context_length),
    )  # fmt: skip
    found: list[tuple[float, int] | None] = [None] * len(records)
    with torch.no_grad(), reading(model):
        for row in encoded.dataset:
            ids, labels = (torch.tensor([row[name]], device=model.device)
                           for name in ("input_ids", "labels"))  # fmt: skip
            count = int((labels[:, 1:] != encoding.UNTRAINED).sum())
            if count:
                found[row["record"]] = completion_loss(model.model, ids, labels).item(), count
    return found


def way_losses(way: Way, records: Sequence[Mapping[str, Any]],
               references: Sequence[str]) -> list[tuple[float, int] | None]:  # fmt: skip
    """`record_losses` of the reference answers, after what that way asks."""
    rows = []
    for record, reference in zip(records, references, strict=True):
        asked = way.asked(record)
        question = {"question": asked} if isinstance(asked, str) else dict(asked)
        rows.append({**question, "answer": reference})
    return record_losses(way.model, rows, way.rendered_with, system=way.system)


def perplexity(model: LoadedModel, texts: Iterable[str]) -> Score:
    """How many words, as it were, a model wavers between at each token of `texts`.

    The exponential of the mean loss a token (Jelinek et al., 1977). The vocabulary matters: only
    models with the same tokenizer can be compared.

    Args:
        model: From `models.load`, or a tuned one.
        texts: Plain texts, each of at most 1,024 tokens.

    Raises:
        DataError: there are none, or one is blank or too long.
    """
    rows = [{"text": text} for text in ([texts] if isinstance(texts, str) else texts)]
    found = record_losses(model, rows, "plain")
    if None in found:
        raise DataError(
            f"Text {found.index(None)} (counted from 0) is longer than 1,024 tokens or than the "
            f"model can read. Cut it into parts."
        )
    return as_perplexity(found)


def as_perplexity(losses: Sequence[tuple[float, int] | None]) -> Score:
    """The perplexity over all tokens of records, from their losses; None is left out.

    Raises:
        DataError: no record has a loss.
    """
    return _ratio(losses, math.exp)


def as_loss(losses: Sequence[tuple[float, int] | None]) -> Score:
    """The mean loss over all tokens of records, in nats a token; None is left out.

    Raises:
        DataError: no record has a loss.
    """
    return _ratio(losses, float)


def _ratio(losses: Sequence[tuple[float, int] | None], bent: Any) -> Score:
    known = [loss for loss in losses if loss is not None]
    if not known:
        raise DataError("No record is short enough to have a loss.")
    sums, counts = zip(*known, strict=True)
    return Score.of_ratio(sums, counts, bent)
