"""How many records are computed at once, so that a limit of memory holds."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from llmcourse.errors import SettingError
from llmcourse.finetuning.plan import Plan
from llmcourse.finetuning.settings import Config
from llmcourse.finetuning.tuned import TunedModel
from llmcourse.sizing import Size


@dataclass(frozen=True)
class Fitted:
    """How an update is computed.

    Attributes:
        micro_batch: Rows computed at once.
        checkpointing: Compute layers twice rather than keep what they computed.
        notes: What the learner should know about it.
    """

    micro_batch: int
    checkpointing: bool
    notes: tuple[str, ...] = ()


def fit(tuned: TunedModel, layout: Plan, config: Config) -> Fitted:
    """Choose the largest part of a batch that a limit of memory has room for.

    What the process holds already (the model, the libraries) is measured, what training adds is
    computed by `sizing.Size.training_bytes`.

    Raises:
        SettingError: not even one record fits, with the amount that is needed.
    """
    rows = max(len(update) for update in layout.updates)
    whole = min(config.micro_batch or rows, rows)
    if config.memory_gb is None:
        return Fitted(whole, bool(config.checkpointing))
    limit, size = config.memory_gb * 1e9, Size.of(tuned.model.config)
    ways = (False, True) if config.checkpointing is None else (config.checkpointing,)
    least = 0.0
    for checkpointing in ways:
        for part in _parts(whole):
            needed = in_use(tuned.device) + added(size, tuned, layout, config, part, checkpointing)
            least = min(least or needed, needed)
            if needed <= limit:
                return Fitted(part, checkpointing, _told(part, rows, checkpointing, needed, limit))
    raise SettingError(
        f"memory_gb={config.memory_gb:g} is too little: even one record at a time needs about "
        f"{least / 1e9:.1f} GB. Raise it, lower max_length, or take a smaller model."
    )


def _parts(whole: int) -> list[int]:
    parts = [whole]
    while parts[-1] > 1:
        parts.append(parts[-1] // 2)
    return parts


def added(
    size: Size, tuned: TunedModel, layout: Plan, config: Config, part: int, checkpointing: bool
) -> float:
    """Bytes that training adds to what is held before the first update."""
    longest = max(layout.tokens)
    share = sum(layout.labels) / max(1, sum(layout.tokens))
    memory = size.training_bytes(
        config.method,
        "bfloat16" if tuned.dtype != torch.float32 else "float32",
        batch_tokens=part * longest,
        length=longest,
        rank=config.rank,
        labelled_share=share,
        checkpointing=checkpointing,
        optimizer="sgd" if config.optimizer == "adafactor" else config.optimizer,
    )
    good = 4 * tuned.trained if config.method == "lora" else 0  # the last good weights
    return memory.total - memory.weights + good


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


def _told(part: int, rows: int, checkpointing: bool, needed: float, limit: float) -> Any:
    if part == rows and not checkpointing:
        return ()
    again = ", and each layer is computed twice" if checkpointing else ""
    return (
        f"{part} of {rows} records are computed at once{again}, so that about {needed / 1e9:.1f} "
        f"of {limit / 1e9:.1f} GB are used. The result is the same.",
    )
