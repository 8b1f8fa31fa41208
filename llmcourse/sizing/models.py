"""Models by name or configuration, counted on torch's meta device, which allocates nothing."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import SettingError, UnknownModel, first_line
from llmcourse.progress import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def _neox(width: int, layers: int, heads: int, vocabulary: int = 50304) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
    }


def _llama(
    width: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    model_type: str = "llama",
    **more: Any,
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        **more,
    }


# Models from 70 million to 70 billion weights, by their published shapes: arguments of
# transformers' configurations, so that all sums work without a network.
KNOWN: dict[str, dict[str, Any]] = {
    "pythia-70m": _neox(512, 6, 8),
    "gpt2": {"model_type": "gpt2"},
    "smollm2-135m-instruct": _llama(
        576, 1536, 30, 9, 3, 49152, max_position_embeddings=8192, tie_word_embeddings=True
    ),
    "gemma-3-270m": _llama(
        640, 2048, 18, 4, 1, 262144, "gemma3_text", head_dim=256, sliding_window=512
    ),
    "pythia-410m": _neox(1024, 24, 16),
    "gemma-3-1b": _llama(
        1152, 6912, 26, 4, 1, 262144, "gemma3_text", head_dim=256, sliding_window=512
    ),
    "pythia-1b": _neox(2048, 16, 8),
    "smollm2-1.7b": _llama(
        2048, 8192, 24, 32, 32, 49152, max_position_embeddings=8192, tie_word_embeddings=True
    ),
    "pythia-2.8b": _neox(2560, 32, 32),
    "llama-2-7b": _llama(4096, 11008, 32, 32, 32, 32000, max_position_embeddings=4096),
    "mistral-7b-v0.1": _llama(4096, 14336, 32, 32, 8, 32000, "mistral", sliding_window=4096),
    "llama-2-13b": _llama(5120, 13824, 40, 40, 40, 32000, max_position_embeddings=4096),
    "llama-2-70b": _llama(8192, 28672, 80, 64, 8, 32000, max_position_embeddings=4096),
}


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
