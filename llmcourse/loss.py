"""The loss on completions, computed where there is a label and nowhere else.

With a vocabulary of a quarter of a million entries, the language-model head is most of a small
model's work, and its logits (one for each entry of the vocabulary, at every token) are most of the
memory. Here only the tokens with a label get logits, a few at a time, and the gradient is made
along with them, so that no logits are kept or computed twice. The idea is that of the fused linear
cross-entropy in Hsu et al., Liger Kernel (2024, https://arxiv.org/abs/2410.10989), here in plain
torch.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from llmcourse import encoding
from llmcourse.errors import DataError
from llmcourse.models import LoadedModel, require_finite
from llmcourse.sizing import SCORE_BYTES  # logits held in memory at once

CHECKED_TOKENS = 16  # of a batch, on which the separate head is compared with the model's logits
# For each model whether its head may be computed apart. An entry goes with its model.
_separate: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


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
        NotFinite: the model's logits are NaN or infinite; checked on its first batch.
    """
    separate = has_separate_head(model, input_ids)
    plain = _without_adapter(model)
    targets = labels[:, 1:]  # the logits at a token are about the next one
    kept = targets != encoding.UNTRAINED
    inputs = {"input_ids": input_ids, "use_cache": False, **more}
    if not separate:
        logits = plain(**inputs).logits[:, :-1][kept]
        return torch.nn.functional.cross_entropy(logits.float(), targets[kept], reduction="sum")
    states = plain.base_model(**inputs).last_hidden_state[:, :-1][kept]
    head, cap = plain.get_output_embeddings(), _cap(plain)
    if type(head) is not torch.nn.Linear or head.bias is not None:
        logits = _capped(head(states).float(), cap)
        return torch.nn.functional.cross_entropy(logits, targets[kept], reduction="sum")
    # A function of our own gets no autocast from torch: cast by hand, then turn it off.
    if torch.is_autocast_enabled(states.device.type):
        states = states.to(torch.get_autocast_dtype(states.device.type))
    with torch.autocast(states.device.type, enabled=False):
        return _HeadLoss.apply(states, head.weight, targets[kept], cap)


def has_separate_head(model: Any, input_ids: torch.Tensor) -> bool:
    """Whether `completion_loss` computes the head apart; found out once for each model.

    Raises:
        NotFinite: the model's logits are NaN or infinite.
    """
    plain = _without_adapter(model)
    if plain not in _separate:
        _separate[plain] = separate_head_agrees(plain, input_ids)
    return _separate[plain]


@torch.no_grad()
def separate_head_agrees(model: Any, input_ids: torch.Tensor) -> bool:
    """Whether the head on the last hidden states gives the model's own logits.

    Architectures scale, cap or mix their logits in ways of their own (Falcon-H1 multiplies them,
    RecurrentGemma caps them under another name). A list of such names is never complete, and what
    it misses trains on a wrong loss without an error. So the two are compared on a few tokens.

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


def _without_adapter(model: Any) -> Any:
    """The transformers model inside peft's wrapper; its layers keep the adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _cap(model: Any) -> float | None:
    """What Gemma 2 bends its logits to stay within; None for most models."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


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
        needs_states, needs_weight = ctx.needs_input_grad[:2]
        matrix = weight.to(states.dtype)
        to_states = torch.empty_like(states) if needs_states else None
        to_weight = torch.zeros_like(weight) if needs_weight else None
        total = states.new_zeros((), dtype=torch.float32)
        rows = max(1, SCORE_BYTES // (len(matrix) * matrix.element_size()))
        for start in range(0, len(targets), rows):
            here = slice(start, start + rows)
            loss, grad = _loss_and_grad(
                states[here] @ matrix.T, targets[here], cap, needs_states or needs_weight
            )
            total += loss
            if to_states is not None:
                torch.mm(grad, matrix, out=to_states[here])
            if to_weight is not None:
                to_weight += grad.T @ states[here]
        ctx.save_for_backward(to_states, to_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients that `forward` made, times what comes from above."""
        to_states, to_weight = ctx.saved_tensors
        return (
            None if to_states is None else to_states * grad.to(to_states.dtype),
            None if to_weight is None else to_weight * grad.to(to_weight.dtype),
            None,
            None,
        )


def _loss_and_grad(
    logits: torch.Tensor, targets: torch.Tensor, cap: float | None, needs_grad: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy of `logits` (labels, vocabulary), and its gradient to them.

    The gradient is the probability of each entry, less one for the right one. In half precision
    that difference would be lost where the model is nearly sure, so it is taken as the sum of all
    other probabilities instead, which are small and sum up precisely. float16 has no numbers for
    the probabilities of unlikely tokens, so there all of it is computed in float32.
    """
    dtype = logits.dtype
    if dtype == torch.float16:
        logits = logits.float()
    capped = torch.tanh(logits / cap) if cap else None
    probs = torch.softmax(logits if capped is None else capped * cap, dim=-1)
    indices = torch.arange(len(targets), device=targets.device), targets
    right = probs[indices].float()
    probs[indices] = 0.0
    others = probs.sum(-1).float()
    tiny = torch.finfo(torch.float32).tiny
    # (a NaN takes the second branch and stays one)
    loss = torch.where(right > 0.5, -torch.log1p(-others), -torch.log(right.clamp_min(tiny)))
    if needs_grad:
        probs[indices] = -others.to(probs.dtype)
        if capped is not None:
            probs *= 1 - capped * capped  # the derivative of tanh
    return loss.sum(), probs.to(dtype)


def mean_loss(model: LoadedModel, encoded: encoding.Encoded) -> float:
    """The mean cross-entropy over all labels of `encoded`, in nats per token.

    Raises:
        DataError: no record is short enough, or none has a label.
    """
    if not encoded.trained_tokens:
        raise DataError("No record has a label, or is short enough to be measured.")
    rows, collate = list(encoded.dataset), encoding.Collator(model.tokenizer)
    total = 0.0
    was_training = model.model.training
    model.model.eval()
    try:
        with torch.no_grad():
            for batch in encoding.batches_by_length(encoded.dataset["length"], 8, shuffle=False):
                inputs = collate([rows[index] for index in batch])
                inputs = {name: value.to(model.device) for name, value in inputs.items()}
                total += completion_loss(model.model, **inputs).item()
    finally:
        model.model.train(was_training)
    return total / encoded.trained_tokens
