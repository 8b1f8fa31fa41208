"""The loss on completions, computed where there is a label and nowhere else.

With a vocabulary of a quarter of a million words, the language-model head is most of a small
model's work, and the scores it makes (a number for each word of the vocabulary, at every token)
most of the memory. Here only the tokens with a label get scores, a few at a time, and the gradient
is made along with them, so that no scores are kept or made twice. The idea is that of the fused
linear cross-entropy in Hsu et al., Liger Kernel (2024, https://arxiv.org/abs/2410.10989), here in
plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from llmcourse import encoding
from llmcourse.errors import DataError
from llmcourse.models import LoadedModel, require_finite

if TYPE_CHECKING:
    from datasets import Dataset

SCORE_BYTES = 128 * 2**20  # scores held in memory at once
CHECKED_TOKENS = 16  # how many tokens of a batch the fast way is tried on, see `fast_way_holds`
# For each model whether its head may be computed apart. Keys go with their models.
_known: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def completion_loss(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, **more: Any
) -> torch.Tensor:
    """The summed cross-entropy of all labels that are not -100, in nats.

    The same number as transformers' own loss times the count of labels.

    Args:
        model: A transformers model for causal language modelling, with or without an adapter.
        input_ids: Token ids, shape (batch, length).
        labels: The ids to learn, -100 elsewhere, shape (batch, length).
        more: Further inputs of the model (attention_mask, position_ids).

    Returns:
        A scalar in float32; 0 where there is no label.

    Raises:
        NotFinite: the model's logits are NaN or infinite; looked at on its first batch.
    """
    fast = choose_way(model, input_ids)
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    targets = labels[:, 1:]
    kept = targets != encoding.UNTRAINED
    inputs = {"input_ids": input_ids, "use_cache": False, **more}
    if not fast:
        logits = plain(**inputs).logits[:, :-1][kept]
        return torch.nn.functional.cross_entropy(logits.float(), targets[kept], reduction="sum")
    states = plain.base_model(**inputs).last_hidden_state[:, :-1][kept]
    head, cap = plain.get_output_embeddings(), _cap(plain)
    if type(head) is not torch.nn.Linear or head.bias is not None:
        logits = _capped(head(states).float(), cap)
        return torch.nn.functional.cross_entropy(logits, targets[kept], reduction="sum")
    if torch.is_autocast_enabled(states.device.type):
        states = states.to(torch.get_autocast_dtype(states.device.type))
    with torch.autocast(states.device.type, enabled=False):
        return _HeadLoss.apply(states, head.weight, targets[kept], cap)


def choose_way(model: Any, input_ids: torch.Tensor) -> bool:
    """Whether `completion_loss` computes the head apart; found out once for each model.

    Raises:
        NotFinite: the model's logits are NaN or infinite.
    """
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    if plain not in _known:
        _known[plain] = fast_way_holds(plain, input_ids)
    return _known[plain]


@torch.no_grad()
def fast_way_holds(model: Any, input_ids: torch.Tensor) -> bool:
    """Whether the head on the last hidden states gives the model's own logits.

    Architectures scale, cap or mix their logits in ways of their own (Falcon-H1 multiplies them,
    RecurrentGemma caps them under another name). A list of such names is never complete, and what
    it misses trains on a wrong loss without a word. So the model itself is asked, on a few tokens.

    Args:
        model: A transformers model without an adapter's wrapper.
        input_ids: Of a batch, shape (batch, length).

    Raises:
        NotFinite: the model's own logits are NaN or infinite.
    """
    inputs = {"input_ids": input_ids[:1, :CHECKED_TOKENS], "use_cache": False}
    was_training = model.training
    model.eval()  # dropout would make two passes differ
    try:
        logits = model(**inputs).logits.float()
        require_finite(logits, model)
        try:
            states = model.base_model(**inputs).last_hidden_state
            ours = _capped(model.get_output_embeddings()(states).float(), _cap(model))
            rounding = 8 * torch.finfo(states.dtype).eps * logits.abs().max().clamp_min(1e-3)
            return ours.shape == logits.shape and bool((ours - logits).abs().max() <= rounding)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            return False  # no such inner model, head or output: each family has its own
    finally:
        model.train(was_training)


def _cap(model: Any) -> float | None:
    return getattr(model.config, "final_logit_softcapping", None)


def _capped(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    return torch.tanh(logits / cap) * cap if cap else logits


class _HeadLoss(torch.autograd.Function):
    """Head and cross-entropy in one: the gradient is made with the loss, a few labels at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        cap: float | None,
    ) -> torch.Tensor:
        """The summed loss; `states` (labels, width), `weight` (vocabulary, width)."""
        wants_states, wants_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(states.dtype)
        to_states = torch.empty_like(states) if wants_states else None
        to_weight = torch.zeros_like(weight) if wants_weight else None
        total = states.new_zeros((), dtype=torch.float32)
        rows = max(1, SCORE_BYTES // (len(matrix) * matrix.element_size()))
        for start in range(0, len(targets), rows):
            here = slice(start, start + rows)
            loss, slope = _slope(
                states[here] @ matrix.T, targets[here], cap, wants_states or wants_weight
            )
            total += loss
            if to_states is not None:
                torch.mm(slope, matrix, out=to_states[here])
            if to_weight is not None:
                to_weight += slope.T @ states[here]
        ctx.save_for_backward(to_states, to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients that `forward` made, times what comes from above."""
        to_states, to_weight = ctx.saved_tensors
        return (
            None if to_states is None else to_states * slope.to(to_states.dtype),
            None if to_weight is None else to_weight * slope.to(to_weight.dtype),
            None,
            None,
        )


def _slope(
    scores: torch.Tensor, targets: torch.Tensor, cap: float | None, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy of `scores` (labels, vocabulary), and its gradient to them.

    The gradient is the probability of each word, less one for the right word. In half precision
    that difference would be lost where the model is nearly sure, so it is taken as the sum of all
    other words' probabilities instead, which are small and sum up precisely. float16 has no numbers
    for the chances of unlikely words, so there all of it is computed in float32.
    """
    kind = scores.dtype
    if kind == torch.float16:
        scores = scores.float()
    bent = torch.tanh(scores / cap) if cap else None
    chances = torch.softmax(scores if bent is None else bent * cap, dim=-1)
    places = torch.arange(len(targets), device=targets.device), targets
    right = chances[places].float()
    chances[places] = 0.0
    others = chances.sum(-1).float()
    tiny = torch.finfo(torch.float32).tiny
    # (a NaN takes the second way and stays one)
    loss = torch.where(right > 0.5, -torch.log1p(-others), -torch.log(right.clamp_min(tiny)))
    if wanted:
        chances[places] = -others.to(chances.dtype)
        if bent is not None:
            chances *= 1 - bent * bent
    return loss.sum(), chances.to(kind)


def held_out_loss(
    model: LoadedModel, records: Dataset | Sequence[Any], template: str | None = None
) -> float:
    """How surprised the model is by good answers to records that it was not trained on.

    Args:
        model: Tuned or not.
        records: With question and answer.
        template: The model's own if not given.

    Returns:
        The mean cross-entropy of the answers' tokens, end tokens among them, in nats a token.

    Raises:
        DataError: see `encoding.encode`; or no record is short enough.
    """
    encoded = encoding.encode(records, model.tokenizer, template or model.template)
    if not len(encoded):
        raise DataError("No record is short enough to be measured.")
    return mean_loss(model, encoded)


def mean_loss(model: LoadedModel, encoded: encoding.Encoded, batch_size: int = 8) -> float:
    """The mean cross-entropy over all labels of `encoded`, in nats a token.

    Raises:
        DataError: nothing in it has a label.
    """
    rows, collate = list(encoded.dataset), encoding.Collator(model.tokenizer)
    total = count = 0.0
    was_training = model.model.training
    model.model.eval()
    with torch.no_grad():
        for places in encoding.batches_by_length(
            [len(row["labels"]) for row in rows], batch_size, shuffle=False
        ):
            batch = collate([rows[place] for place in places])
            count += int((batch["labels"][:, 1:] != encoding.UNTRAINED).sum())
            moved = {name: value.to(model.device) for name, value in batch.items()}
            total += completion_loss(model.model, **moved).item()
    model.model.train(was_training)
    if not count:
        raise DataError("No token of these records has a label: nothing to be measured.")
    return total / count


def check_labels(encoded: encoding.Encoded) -> None:
    """Refuse records without a single token to train on.

    Raises:
        DataError: there are none.
    """
    if not encoded.trained_tokens:
        raise DataError(
            "No token of these records has a label, so there is nothing to train on. Are the "
            "answers empty, or is max_length too small for them?"
        )
