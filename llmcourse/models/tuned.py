"""Folders that a fine-tuning wrote: which base they need, and how an adapter is put on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse.errors import CorruptModel, SettingError, first_line
from llmcourse.files import shown
from llmcourse.progress import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

FACTS = "tuned.json"  # what a tuned model's folder remembers: base, template, how it was trained
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
COMPARED = 256  # weights that tell one base from another


def is_adapter(folder: Path) -> bool:
    """Whether there is an adapter in `folder`, and no complete model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def facts(folder: Path, file: str = FACTS) -> dict[str, Any]:
    """What the folder of a tuned model remembers; {} where it has no such file.

    Raises:
        CorruptModel: the file can't be read.
    """
    path = folder / file
    if not path.is_file():
        return {}
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise CorruptModel(
            f"{shown(path)} can't be read ({first_line(error)}). Copy the folder again, or train "
            f"again."
        ) from error


def base_of(folder: Path) -> str:
    """The name of the model that the adapter in `folder` belongs to.

    Raises:
        CorruptModel: the folder does not say.
    """
    # peft's own file names the base as people elsewhere know it, ours as it was loaded here
    name = facts(folder).get("base") or facts(folder, ADAPTER).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CorruptModel(
            f"The adapter in {shown(folder)} does not say which model it belongs to. Load that "
            f"model and put the adapter on it: models.load_adapter(models.load(…), folder)."
        )
    return name


def fingerprint(model: PreTrainedModel) -> list[float]:
    """A few of a model's weights, by which one base is told from another, in any number type.

    [] where they are in 4 bits: there they can't be compared.
    """
    if getattr(model, "is_loaded_in_4bit", False):
        return []
    weights = [weight for _, weight in model.named_parameters()]
    step = max(1, len(weights) // COMPARED)
    # (a third of the way in: the first and last rows of embeddings are often untrained)
    picked = (weight.detach().flatten()[weight.numel() // 3] for weight in weights[::step])
    return [round(float(value), 4) for value in list(picked)[:COMPARED]]


def same_weights(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two fingerprints are of the same weights, but for the number type's rounding."""
    # bfloat16 has 8 bits: neighbours are up to 0.8 % apart
    near = (abs(a - b) <= 2e-4 + 0.02 * abs(a) for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and sum(near) >= 0.98 * len(one)


def with_adapter_of(model: PreTrainedModel, folder: Path, name: str) -> PeftModel:
    """A copy of `model` that shares its weights and carries the adapter in `folder`.

    Args:
        model: The base.
        folder: See `is_adapter`.
        name: The base's name, for messages.

    Raises:
        CorruptModel: the adapter is damaged, or changes nothing.
        SettingError: it belongs to another base.
    """
    from peft import PeftModel, get_peft_model_state_dict

    from llmcourse.models.lora import sharing, without_old_torchao

    # A name may mean other weights tomorrow, or on another machine: the weights themselves tell.
    known = facts(folder).get("base_weights")
    own = fingerprint(model)
    if known and own and not same_weights(known, own):
        raise SettingError(
            f"The adapter in {shown(folder)} was trained on {base_of(folder)!r}, and {name!r} has "
            f"other weights. Load it on its own base: models.load({str(folder)!r})."
        )
    names = _matrices(folder)
    without_old_torchao()
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(sharing(model), str(folder))
        # With "auto", peft would ask the hub about the base's vocabulary.
        there = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if there != names:  # peft loads what fits and only warns of the rest
            raise ValueError(f"{len(there ^ names)} of its matrices have no counterpart")
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"The adapter in {shown(folder)} does not fit {name!r}: {first_line(error)}"
        ) from error
    return adapted.eval()


def _matrices(folder: Path) -> set[str]:
    """The names of the adapter's matrices.

    Raises:
        CorruptModel: there are none, they can't be read, or they add nothing to any layer.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise CorruptModel(
            f"{shown(folder)} has no {ADAPTER_WEIGHTS}. Pickled weights (.bin) can run code when "
            f"they are opened and are not loaded here."
        )
    try:
        matrices = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptModel(
            f"{shown(path)} can't be read ({first_line(error)}). Copy it again, or train again."
        ) from error
    # LoRA's B starts at zero, so an adapter whose B are all zero never learned anything
    ups = [matrix for name, matrix in matrices.items() if "lora_B" in name]
    if ups and not any(bool(matrix.any()) for matrix in ups):
        raise CorruptModel(
            f"The adapter in {shown(folder)} changes nothing: all that it adds is zero, as before "
            f"the first update. Train again, and look whether the loss falls."
        )
    return set(matrices)
