"""LoRA: a copy of a model that shares its weights and carries two thin matrices a layer.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021,
https://arxiv.org/abs/2106.09685). peft holds the adapter; while it is trained, its layers compute
in the way of `_ThinProduct`, which gives the same numbers in fewer steps.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from llmcourse.errors import SettingError
from llmcourse.models import LoadedModel, adapter_layers, is_plain, sharing, without_old_torchao
from llmcourse.progress import quiet

if TYPE_CHECKING:
    from peft.tuners.lora.layer import Linear

    from llmcourse.finetuning.settings import Config


def with_adapter(model: LoadedModel, config: Config) -> Any:
    """A copy of `model` that shares its weights and carries a fresh adapter.

    Raises:
        SettingError: the model carries an adapter already.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if isinstance(model.model, PeftModel):
        raise SettingError(
            f"{model.title} carries an adapter already. To train on top of it, make it a plain "
            f"model of its own: plain = finetuning.merge(model), then "
            f"plain.model.save_pretrained(FOLDER), plain.tokenizer.save_pretrained(FOLDER), and "
            f"train models.load(FOLDER)."
        )
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    without_old_torchao()
    with quiet():
        return get_peft_model(sharing(model.model), settings)


def all_weights(model: LoadedModel) -> Any:
    """A copy of `model` in float32 whose every weight is to be trained.

    Small changes are lost in half precision: there the weights' own rounding is larger.
    """
    copied = copy.deepcopy(model.model).float()
    copied.requires_grad_(True)
    return copied


def weight_size(model: LoadedModel) -> float:
    """The root mean square of a matrix's weights, for the median matrix, from its first rows."""
    rows = [
        weight.detach()[:64].float()
        for weight in model.model.parameters()
        if weight.ndim == 2 and weight.is_floating_point()
    ]
    return statistics.median(row.square().mean().sqrt().item() for row in rows)


def merge(model: LoadedModel) -> LoadedModel:
    """A plain model with the adapter's work added into its weights; `model` stays as it is.

    The sums are made in float32 and rounded once. In half precision the small changes of an
    adapter can fall below the weights' rounding, so answers may differ in places. Save the result
    and load that folder before you train it further: an adapter names its base, and this one has
    no name of its own yet.

    Raises:
        SettingError: the model carries no adapter.
    """
    from peft import PeftModel

    if not isinstance(model.model, PeftModel):
        raise SettingError(f"{model.title} carries no adapter, so there is nothing to merge.")
    with quiet(), torch.no_grad():
        plain = copy.deepcopy(model.model)
        kind = plain.dtype
        plain = plain.float().merge_and_unload().to(kind).eval()
    plain.requires_grad_(True)
    return LoadedModel(plain, model.tokenizer, model.name, model.template)


@contextmanager
def in_fewer_steps(model: Any) -> Iterator[None]:
    """Let the adapters' layers compute by `_ThinProduct` inside the block, where they are plain.

    peft's own way casts the layer's input to the adapter's type (float32), multiplies there and
    casts back; see `models.is_plain`.
    """
    changed = []
    for layer in adapter_layers(model):
        if is_plain(layer):
            layer.forward = _fast_forward(layer, layer.active_adapters[0], layer.forward)
            changed.append(layer)
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _fast_forward(layer: Linear, name: str, usual: Any) -> Any:
    """What takes the place of `layer.forward`."""
    base, scale = layer.base_layer, layer.scaling[name]
    down, up = layer.lora_A[name], layer.lora_B[name]

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if layer.disable_adapters or layer.merged or args or kwargs or not torch.is_grad_enabled():
            return usual(x, *args, **kwargs)
        return _ThinProduct.apply(x, base.weight, base.bias, down.weight, up.weight, scale)

    return forward


class _ThinProduct(torch.autograd.Function):
    """A frozen linear layer and its adapter: x W' + bias + scale (x A') B'.

    The products are made in the frozen weights' type, the adapter's gradients in the adapter's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """`x` (…, in), `weight` (out, in), `down` (rank, in), `up` (out, rank) to (…, out)."""
        rows = x.reshape(-1, x.shape[-1])
        down, up = down.to(weight.dtype), up.to(weight.dtype)
        thin = rows @ down.T
        out = torch.nn.functional.linear(rows, weight, bias)
        out.addmm_(thin, up.T, alpha=scale)
        ctx.save_for_backward(rows, thin, weight, down, up)
        ctx.scale = scale
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients to `x`, if it wants one, and to the two thin matrices."""
        rows, thin, weight, down, up = ctx.saved_tensors
        flat = slope.reshape(-1, slope.shape[-1])
        to_thin = (flat @ up).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (flat @ weight).addmm_(to_thin, down).view(*slope.shape[:-1], rows.shape[-1])
        to_up = (flat.T @ thin).mul_(ctx.scale)
        return to_x, None, None, to_thin.T @ rows, to_up, None
