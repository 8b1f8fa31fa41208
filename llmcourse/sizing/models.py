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

# Models from 70 million to 70 billion weights, so that all sums work without a network. Shapes as
# published in each model's config.json: width, inner width, layers, heads, heads of keys and
# values, vocabulary. GPT-2's are what transformers builds where nothing is said.
_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
_TIED = {"tie_word_embeddings": True}
_GEMMA = {"head_dim": 256, "sliding_window": 512}
_SHAPES: tuple[tuple[str, str, tuple[int, ...], dict[str, Any]], ...] = (
    ("pythia-70m", "gpt_neox", (512, 2048, 6, 8, 8, 50304), {}),
    ("gpt2", "gpt2", (), {}),
    ("smollm2-135m-instruct", "llama", (576, 1536, 30, 9, 3, 49152), _TIED),
    ("gemma-3-270m", "gemma3_text", (640, 2048, 18, 4, 1, 262144), _GEMMA),
    ("pythia-410m", "gpt_neox", (1024, 4096, 24, 16, 16, 50304), {}),
    ("gemma-3-1b", "gemma3_text", (1152, 6912, 26, 4, 1, 262144), _GEMMA),
    ("pythia-1b", "gpt_neox", (2048, 8192, 16, 8, 8, 50304), {}),
    ("smollm2-1.7b", "llama", (2048, 8192, 24, 32, 32, 49152), _TIED),
    ("pythia-2.8b", "gpt_neox", (2560, 10240, 32, 32, 32, 50304), {}),
    ("llama-2-7b", "llama", (4096, 11008, 32, 32, 32, 32000), {}),
    ("mistral-7b-v0.1", "mistral", (4096, 14336, 32, 32, 8, 32000), {"sliding_window": 4096}),
    ("llama-2-13b", "llama", (5120, 13824, 40, 40, 40, 32000), {}),
    ("llama-2-70b", "llama", (8192, 28672, 80, 64, 8, 32000), {}),
)
# Name -> arguments of transformers' configuration.
KNOWN: dict[str, dict[str, Any]] = {
    name: {"model_type": kind, **dict(zip(_FIELDS, shape, strict=False)), **more}
    for name, kind, shape, more in _SHAPES
}


def counted(model: PreTrainedConfig | str | os.PathLike) -> dict[str, Any]:
    """The fields of `Size`, and what may be raised: see `Size.of`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if not isinstance(model, str | os.PathLike):
        name, config = model.model_type, model
    else:
        name = getattr(tiers.pair(), model) if model in ("base", "chat") else str(model)
        try:
            with quiet():
                config = (
                    AutoConfig.for_model(**KNOWN[name])
                    if name in KNOWN
                    else AutoConfig.from_pretrained(name, trust_remote_code=False)
                )
        except (OSError, ValueError) as error:
            raise UnknownModel(
                f"No configuration of {name!r} is found ({first_line(error)}). Use one of "
                f"{', '.join(KNOWN)}, a folder with a config.json, or a hub name like 'owner/name'."
            ) from error
    try:
        with torch.device("meta"), quiet():
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UnknownModel(f"{name} is no language model: {first_line(error)}") from error
    return {"name": name, **_fields(empty)}


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
            shape = tuple(module.weight.shape)  # GPT-2's Conv1D has inputs first, Linear outputs
            matrices.append(shape if isinstance(module, Conv1D) else shape[::-1])
            linear += numbers
        # Normalisations are known by their class's name, as each family has a class of its own;
        # a digit in the name means that it is in a block, and not the last one before the head.
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
    # In some models, such as Gemma 3, one normalisation serves every head by itself.
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
