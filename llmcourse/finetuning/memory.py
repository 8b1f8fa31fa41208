"""How many records are computed at once, so that a limit of memory holds."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

import psutil
import torch

from llmcourse.errors import SettingError
from llmcourse.finetuning.plan import Plan
from llmcourse.finetuning.settings import Config
from llmcourse.finetuning.tuned import TunedModel
from llmcourse.sizing import Size


def fit(tuned: TunedModel, layout: Plan, config: Config) -> tuple[int, bool, str]:
    """Choose the largest part of a batch that `config.memory_gb` has room for.

    What the process holds already (the model, the libraries) is measured, what training adds is
    computed by `sizing.Size.training_bytes`.

    Returns:
        The rows computed at once; whether layers are computed twice rather than kept; and a
        sentence about it, "" where there is nothing to say.

    Raises:
        SettingError: not even one record fits, with the amount that is needed.
    """
    rows = max(len(update) for update in layout.updates)
    most = min(config.micro_batch or rows, rows)
    if config.memory_gb is None:
        return most, bool(config.checkpointing), ""
    limit, size = config.memory_gb * 1e9, Size.of(tuned.model.config)
    held = in_use(tuned.device)
    # computing layers twice is slower than small parts, so it comes last
    twice = (False, True) if config.checkpointing is None else (config.checkpointing,)
    halved = [most >> halvings for halvings in range(most.bit_length())]
    needed = {
        (part, again): held + added(size, tuned, layout, config, part, again)
        for again in twice
        for part in halved
    }
    for (part, again), total in needed.items():  # the fastest first
        if total <= limit:
            note = (
                f"{part} of {rows} records are computed at once"
                f"{', and each layer is computed twice' if again else ''}, so that about "
                f"{total / 1e9:.1f} of {limit / 1e9:.1f} GB are used. The result is the same."
            )
            return part, again, note if part < rows or again else ""
    raise SettingError(
        f"memory_gb={config.memory_gb:g} is too little: even one record at a time needs about "
        f"{min(needed.values()) / 1e9:.1f} GB. Raise it, lower max_length, or take a smaller model."
    )


def added(
    size: Size, tuned: TunedModel, layout: Plan, config: Config, part: int, checkpointing: bool
) -> float:
    """Bytes that training adds to what is held before the first update."""
    longest, encoded = max(len(row["input_ids"]) for row in layout.rows), tuned.encoded
    assert encoded is not None  # `finetune` has set it
    memory = size.training_bytes(
        "qlora" if getattr(tuned.model, "is_loaded_in_4bit", False) else config.method,
        "bfloat16" if tuned.dtype != torch.float32 else "float32",
        batch_tokens=part * longest,
        length=longest,
        rank=config.rank or 1,
        labelled_share=encoded.trained_tokens / encoded.tokens,
        checkpointing=checkpointing,
        # Adafactor keeps a row and a column per matrix: next to nothing
        optimizer="sgd" if config.optimizer == "adafactor" else config.optimizer,
    )
    last_good = 4 * tuned.trained if config.method == "lora" else 0  # see engine.require_finite
    return memory.total - memory.weights + last_good


def give_back() -> None:
    """Hand freed memory back to the system.

    Left alone, glibc keeps what a training freed, up to two gigabytes here, for what comes next.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no such function
            ctypes.CDLL(None).malloc_trim(0)


def in_use(device: torch.device) -> int:
    """Bytes that this process holds: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss
