"""Faster linear layers: LoRA in the base model's number type, and weights packed for answering.

An adapter (Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021,
https://arxiv.org/abs/2106.09685) adds two thin matrices to a frozen linear layer:
x W' + bias + scale (x A') B'. peft keeps A and B in float32, and its layers' `forward` casts every
input to float32, multiplies there and casts back. Where the base is in bfloat16, answering 16
prompts takes 2.05 s that way and 1.68 s this way (SmolLM2 135M, rank 16, one core).

In float32 torch (2.13) gives every product on an x86 processor to MKL. Answering has few rows, a
token for each prompt, and there oneDNN, with weights that it has put into its own order before, is
up to three times as fast. It computes in float32 too; only the order of its sums is another.
This is the one place that patches peft and torch.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from llmcourse.models.packaged import PACKAGED, float32_path

if TYPE_CHECKING:
    from peft.tuners.lora.layer import Linear

Forward = Callable[[torch.Tensor], torch.Tensor]
# Weights -> what they were when they were packed, and the packed ones. They go with the weights, or
# when another model answers: packed weights take as much memory as the weights.
_packed = WeakTensorKeyDictionary()
# Layers -> what computes faster in their place, by the blocks that are open, the newest last.
_fast: WeakKeyDictionary[torch.nn.Module, list[Forward]] = WeakKeyDictionary()
_lock = threading.RLock()


def sharing(model: Any) -> Any:
    """A copy of `model` whose layers are its own and whose weights are those of `model`."""
    shared = {id(weight): weight for weight in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    # deepcopy takes what is in its memo as copied already
    return copied(model, shared)


def copied(model: Any, memo: dict[int, Any] | None = None) -> Any:
    """A copy of `model`, also while it answers in another thread (a chat widget)."""
    with _lock:
        found = copy.deepcopy(model, memo)
        for old, new in zip(model.modules(), found.modules(), strict=True):
            if old in _fast:  # the copy's layers would compute with the old ones' weights
                del new.forward
    return found


def without_old_torchao() -> None:
    """Let peft work beside a torchao that is too old for it.

    Before it makes any adapter, peft (0.18 to 0.21) looks for torchao, and raises an ImportError
    where it is older than 0.16. Colab's own is 0.10. No model here is quantised by torchao, so
    peft is made to believe that there is none.
    """
    import peft

    try:
        peft.import_utils.is_torchao_available()
    except ImportError:
        for name, module in list(sys.modules.items()):
            if name.startswith("peft.") and hasattr(module, "is_torchao_available"):
                module.is_torchao_available = lambda: False  # type: ignore[attr-defined]


def adapter_layers(model: Any) -> list[Linear]:
    """The linear layers of `model` that carry an adapter."""
    if not hasattr(model, "peft_config"):
        return []  # without importing peft, which takes a second
    from peft.tuners.lora.layer import Linear

    return [layer for layer in model.modules() if isinstance(layer, Linear)]


def is_plain(layer: Linear) -> bool:
    """True for a layer with one active adapter of the original kind (LoRA) and no dropout."""
    name = layer.active_adapters[0]
    return (
        type(layer.base_layer) is torch.nn.Linear
        and len(layer.active_adapters) == 1
        and name not in layer.lora_variant
        and not layer.lora_bias.get(name)
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and not (layer.disable_adapters or layer.merged)
    )


@contextmanager
def fast_layers(model: Any, *, training: bool = False) -> Iterator[None]:
    """Let linear layers compute faster inside the block.

    Plain LoRA layers compute in the base's number type, other adapters as peft has it. For
    answering, weights in float32 are packed. All weights stay as they are. Blocks may be nested: a
    training answers sample prompts; threads may open them at the same time.

    Args:
        model: A transformers or peft model.
        training: True makes gradients; False is for answering, while the weights do not change.
    """
    forwards: dict[torch.nn.Module, Forward] = {}
    adapters = adapter_layers(model)
    if not training and _packing_pays(model):
        thin = {a for layer in adapters for a in (*layer.lora_A.values(), *layer.lora_B.values())}
        linear = [m for m in model.modules() if type(m) is torch.nn.Linear and m not in thin]
        known = {id(layer.weight) for layer in linear}
        for weight in [weight for weight in _packed if id(weight) not in known]:
            _packed.pop(weight, None)
        # (under FSDP weights are in parts, and can't be packed)
        forwards |= {
            layer: _packed_forward(layer)
            for layer in linear
            if layer.weight.dtype == torch.float32 and not hasattr(layer.weight, "full_tensor")
        }
    fast = _training_forward if training else _answering_forward
    for layer in adapters:
        # Under FSDP a layer's weights are in parts until it is called: none can be cast ahead.
        in_parts = not training and hasattr(layer.base_layer.weight, "full_tensor")
        if is_plain(layer) and not in_parts:
            forwards[layer] = fast(layer)
    with _lock:
        for layer, forward in forwards.items():
            _fast.setdefault(layer, []).append(forward)
            layer.forward = forward
    try:
        yield
    finally:
        with _lock:
            for layer, forward in forwards.items():
                _fast[layer].remove(forward)
                if _fast[layer]:
                    layer.forward = _fast[layer][-1]
                else:
                    del _fast[layer], layer.forward  # the class's own shows again


def _packing_pays(model: Any) -> bool:
    """Whether there is memory for a second copy of the weights, and MKL to be avoided.

    Where several users' processes share a packaged model's float32 weights, memory is what counts.
    """
    import psutil

    if not torch.backends.mkl.is_available() or not torch.backends.mkldnn.is_available():
        return False
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return False
    shared = any(float32_path(name).is_dir() for name in PACKAGED)
    return not shared and psutil.virtual_memory().available > 2 * model.get_memory_footprint()


def _packed_forward(layer: torch.nn.Linear) -> Forward:
    """For `layer.forward`, (…, in) to (…, out); weights that have changed are packed again."""
    weight, bias = layer.weight.detach(), layer.bias
    # (peft merges adapters in a way that leaves the version as it is, hence the numbers)
    numbers = weight.view(-1)[:: max(1, weight.numel() // 256)].tolist()
    state = (layer.weight._version, weight.data_ptr(), numbers)
    known = _packed.get(layer.weight)
    if known is None or known[0] != state:
        # 16 rows; the order is the same for any few
        known = _packed[layer.weight] = (state, torch.ops.mkldnn._reorder_linear_weight(weight, 16))
    product, order = torch.ops.mkldnn._linear_pointwise, known[1]
    return lambda x: product(x, order, bias, "none", [], "")


def _answering_forward(layer: Linear) -> Forward:
    """For `layer.forward`, (…, in) to (…, out); its matrices are cast once, not at every token."""
    base, name = layer.base_layer, layer.active_adapters[0]
    down = layer.lora_A[name].weight.detach().to(base.weight.dtype)
    up = (layer.lora_B[name].weight.detach() * layer.scaling[name]).to(base.weight.dtype)

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        return base(rows).addmm_(rows @ down.T, up.T).view(*x.shape[:-1], -1)

    return forward


def _training_forward(layer: Linear) -> Forward:
    """For `layer.forward`, (…, in) to (…, out), with gradients.

    Products are made in the frozen weights' type, the adapter's gradients in the adapter's. (Under
    autocast a normalisation's output may be of another type than the weights.)
    """
    base, name, usual = layer.base_layer, layer.active_adapters[0], layer.forward
    down, up, scale = layer.lora_A[name], layer.lora_B[name], layer.scaling[name]

    def forward(x: torch.Tensor) -> torch.Tensor:
        if layer.disable_adapters or not torch.is_grad_enabled():
            return usual(x)  # held-out losses come out as they will from the saved adapter
        kind = base.weight.dtype
        rows = x.reshape(-1, x.shape[-1]).to(kind)
        thin = torch.nn.functional.linear(rows, down.weight.to(kind))  # (rows, rank)
        out = torch.nn.functional.linear(rows, base.weight, base.bias)
        out = torch.addmm(out, thin, up.weight.to(kind).T, alpha=scale)
        return out.view(*x.shape[:-1], -1)

    return forward
