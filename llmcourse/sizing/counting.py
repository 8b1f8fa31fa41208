"""What a model is made of, counted on torch's meta device, which allocates nothing."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import SettingError, UnknownModel, first_line
from llmcourse.progress import quiet
from llmcourse.sizing.known import KNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def counted(model: PreTrainedConfig | str | os.PathLike) -> dict[str, Any]:
    """The fields of `Size`, and what may be raised: see `Size.of`."""
    import torch
    from transformers import AutoModelForCausalLM

    if isinstance(model, str | os.PathLike):
        name = getattr(tiers.pair(), model) if model in ("base", "chat") else str(model)
        config = _config(name)
    else:
        name, config = model.model_type, model
    try:
        with torch.device("meta"), quiet():
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UnknownModel(f"{name} is no language model: {first_line(error)}") from error
    return {"name": name, **_fields(empty)}


def _config(name: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    if name in KNOWN:
        return AutoConfig.for_model(**KNOWN[name])
    try:
        with quiet():
            return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UnknownModel(
            f"There is no configuration of {name!r} to be had ({first_line(error)}). Use one of "
            f"{', '.join(KNOWN)}, a folder with a config.json, or a hub name like 'owner/name'."
        ) from error


def _fields(empty: Any) -> dict[str, Any]:
    """The fields of `Size` that are counted on a model.

    Raises:
        SettingError: a weight is a matrix, but of no linear layer and no embedding.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    config, head = empty.config, empty.get_output_embeddings()
    embeddings = linear = 0
    matrices, norms, rms = [], [], False
    for name, module in empty.named_modules():
        weights = dict(module.named_parameters(recurse=False))
        numbers = sum(weight.numel() for weight in weights.values())
        if isinstance(module, torch.nn.Embedding):
            embeddings += numbers
        elif isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
            shape = tuple(module.weight.shape)
            matrices.append(shape if isinstance(module, Conv1D) else shape[::-1])
            linear += numbers
        elif "norm" in type(module).__name__.lower() and re.search(r"\.\d+\.", name):
            norms.append((name.rpartition(".")[2], weights["weight"].numel() if weights else 0))
            rms = not isinstance(module, torch.nn.LayerNorm)
        elif module is not head and any(weight.ndim > 1 for weight in weights.values()):
            raise SettingError(
                f"{config.model_type} has weights in {name} ({type(module).__name__}) that these "
                f"sums do not cover. They are for plain transformers over text: no mixtures of "
                f"experts, no pictures, no state-space models."
            )
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    # (of some models, such as Gemma 3, one normalisation serves every head by itself)
    each = {("q_norm", head_dim): heads, ("k_norm", head_dim): kv_heads}
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return {
        "parameters": sum(weight.numel() for weight in empty.parameters()),
        "embeddings": embeddings,
        "linear": linear,
        "head": head.weight.numel(),
        "tied": head.weight is empty.get_input_embeddings().weight,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "vocabulary": len(head.weight),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "matrices": tuple(matrices),
        "norms": sum(norm[1] * each.get(norm, 1) for norm in norms),
        "rms": rms,
    }
