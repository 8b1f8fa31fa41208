"""Folders that a fine-tuning wrote: which base they need, and how an adapter is put on it."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse.errors import CorruptModel, SettingError, first_line
from llmcourse.files import shown
from llmcourse.progress import quiet

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from peft.tuners.lora.layer import Linear
    from transformers import PreTrainedModel

FACTS = "tuned.json"  # what a tuned model's folder remembers: base, template, how it was trained
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST = 256  # weights that are compared to tell one base from another


def is_adapter(folder: Path) -> bool:
    """Whether there is an adapter in `folder`, and no whole model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def facts(folder: Path) -> dict[str, Any]:
    """What the folder of a tuned model remembers; {} where it remembers nothing.

    Raises:
        CorruptModel: the file can't be read.
    """
    try:
        known = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CorruptModel(
            f"{shown(folder / FACTS)} can't be read ({first_line(error)}). Copy the folder again, "
            f"or train again."
        ) from error
    if not isinstance(known, dict):
        raise CorruptModel(f"{shown(folder / FACTS)} is not what it should be: no JSON object.")
    return known


def base_of(folder: Path) -> str:
    """The name of the model that the adapter in `folder` belongs to.

    Raises:
        CorruptModel: the folder does not say.
    """
    try:
        described = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        name = facts(folder).get("base") or described.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        told = first_line(error)
        raise CorruptModel(f"{shown(folder / ADAPTER)} can't be read ({told}).") from error
    if not isinstance(name, str) or not name:
        raise CorruptModel(
            f"The adapter in {shown(folder)} does not say which model it belongs to. Load that "
            f"model and put the adapter on it: models.load_adapter(models.load(…), folder)."
        )
    return name


def fingerprint(model: PreTrainedModel) -> list[float]:
    """A few of a model's weights, by which one base is told from another, in any number type."""
    weights = [weight for _, weight in model.named_parameters()]
    step = max(1, len(weights) // MOST)
    picked = (weight.detach().flatten()[weight.numel() // 3] for weight in weights[::step][:MOST])
    return [round(float(value), 4) for value in picked]


def same_weights(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two fingerprints are of the same weights, but for the number type's rounding."""
    near = (abs(a - b) <= 2e-4 + 0.02 * abs(a) for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and sum(near) >= 0.98 * len(one)


def sharing(model: Any) -> Any:
    """A copy of `model` whose layers are its own and whose weights are those of `model`."""
    shared = {id(weight): weight for weight in model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared)


def without_old_torchao() -> None:
    """Let peft work beside a torchao that is too old for it.

    Before it makes any adapter, peft (0.18 to 0.21) asks for torchao, and raises an ImportError
    where it is older than 0.16. Colab's own is 0.10. No model here is quantised by torchao, so peft
    is told that there is none.
    """
    import peft

    try:
        peft.import_utils.is_torchao_available()
    except ImportError:
        for name, module in list(sys.modules.items()):
            if name.startswith("peft.") and hasattr(module, "is_torchao_available"):
                module.is_torchao_available = lambda: False  # type: ignore[attr-defined]


def with_adapter_of(model: PreTrainedModel, folder: Path, name: str) -> PeftModel:
    """A copy of `model` that shares its weights and carries the adapter in `folder`.

    Args:
        model: The base.
        folder: See `is_adapter`.
        name: The base's name, for messages.

    Raises:
        CorruptModel: the adapter is damaged, or changes nothing.
        SettingError: it belongs to another base, or `model` carries an adapter already.
    """
    from peft import PeftModel, get_peft_model_state_dict

    if isinstance(model, PeftModel):
        raise SettingError(
            "This model carries an adapter already. Load the base again, or merge the first one."
        )
    known = facts(folder).get("base_weights")
    if known and not same_weights(known, fingerprint(model)):
        raise SettingError(
            f"The adapter in {shown(folder)} was trained on {base_of(folder)!r}, and {name!r} has "
            f"other weights. Load it on its own base: models.load({str(folder)!r})."
        )
    names = _checked(folder)
    without_old_torchao()
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(sharing(model), str(folder))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"The adapter in {shown(folder)} does not fit {name!r}: {first_line(error)}"
        ) from error
    # With "auto", peft would ask the hub about the base's vocabulary.
    lost = set(get_peft_model_state_dict(adapted, save_embedding_layers=False)) ^ names
    if lost:
        raise SettingError(
            f"The adapter in {shown(folder)} does not fit {name!r}: {len(lost)} of its matrices "
            f"have no counterpart, {sorted(lost)[0]} among them."
        )
    return adapted.eval()


def adapter_layers(model: Any) -> list[Linear]:
    """The linear layers of `model` that carry an adapter."""
    from peft.tuners.lora.layer import Linear

    return [layer for layer in model.modules() if isinstance(layer, Linear)]


def is_plain(layer: Linear) -> bool:
    """True for a layer with one active adapter of the original kind (LoRA) and no dropout."""
    import torch

    name = layer.active_adapters[0]
    return (
        type(layer.base_layer) is torch.nn.Linear
        and len(layer.active_adapters) == 1
        and name not in layer.lora_variant
        and not layer.lora_bias.get(name)
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
    )


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """Let an adapter compute in the base's number type inside the block, where it is plain.

    peft's own way casts each layer's input to float32 and its output back, which costs a good part
    of the time where the base is in bfloat16. The adapter itself stays as it is. A model without
    an adapter is left alone.
    """
    changed = []
    for layer in adapter_layers(model) if hasattr(model, "peft_config") else ():
        apart = hasattr(layer.base_layer.weight, "full_tensor")  # under FSDP, until it is called
        if is_plain(layer) and not (layer.disable_adapters or layer.merged or apart):
            changed.append((layer, layer.__dict__.get("forward")))
            layer.forward = _answering_forward(layer)
    try:
        yield
    finally:
        for layer, before in changed:
            if before is None:
                del layer.forward
            else:
                layer.forward = before


def _answering_forward(layer: Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """x W' + bias + scale (x A') B', all in the type of W; `x` is (…, in), the result (…, out)."""
    import torch

    base, name = layer.base_layer, layer.active_adapters[0]
    down = layer.lora_A[name].weight.detach().to(base.weight.dtype)
    up = (layer.lora_B[name].weight.detach() * layer.scaling[name]).to(base.weight.dtype)

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = torch.nn.functional.linear(rows, base.weight, base.bias)
        out.addmm_(rows @ down.T, up.T)
        return out.view(*x.shape[:-1], out.shape[-1])

    return forward


def _checked(folder: Path) -> set[str]:
    """The names of the adapter's matrices.

    Raises:
        CorruptModel: there are none, they can't be read, or they add nothing to any layer.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise CorruptModel(
            f"{shown(folder)} has no {ADAPTER_WEIGHTS}. Pickled weights (.bin) can run code when "
            f"they are opened and are not loaded here."
        )
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            ups = [name for name in names if "lora_B" in name]
            works = not ups or any(bool(file.get_tensor(name).any()) for name in ups)
    except (SafetensorError, OSError) as error:
        raise CorruptModel(
            f"{shown(path)} can't be read ({first_line(error)}). Copy it again, or train again."
        ) from error
    if not works:
        raise CorruptModel(
            f"The adapter in {shown(folder)} changes nothing: all that it adds is zero, as before "
            f"the first update. Train again, and look whether the loss falls."
        )
    return names
