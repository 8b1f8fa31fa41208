"""Models from 70 million to 70 billion weights, by their published shapes.

As arguments of transformers' configurations, so that all sums work without a network.
"""

from __future__ import annotations

from typing import Any


def _neox(width: int, layers: int, heads: int, vocabulary: int = 50304) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox", "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocabulary,
    }  # fmt: skip


def _llama(width: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int,
           model_type: str = "llama", **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "model_type": model_type, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary, **more,
    }  # fmt: skip


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
