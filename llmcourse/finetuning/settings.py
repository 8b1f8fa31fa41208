"""How to train: every setting in one place, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmcourse import templates
from llmcourse.errors import SettingError, whole

METHODS = ("lora", "full")
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor", "sgd": "sgd"}
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Config:
    """How to train.

    Attributes:
        template: What the records are rendered with, and what the tuned model answers to.
        epochs: How often every record is seen.
        steps: Stop after so many updates instead, where given.
        learning_rate: The highest; it rises over the first steps and falls by `schedule`. About
            1e-3 suits LoRA, 1e-5 to 1e-4 full fine-tuning.
        batch_size: Records an update, over all processes.
        max_length: Longest record in tokens; see `encoding.encode`.
        rank: Of the adapter's two thin matrices (LoRA; Hu et al., 2021).
        seed: Of the adapter's start and the batches' order.
        mask_prompt: False also trains on the prompts, as the course's lab does.
        add_end: False leaves out the end-of-sequence token, as the course's lab does.
        method: "lora" trains an adapter, "full" every weight.
        alpha: The adapter's work is multiplied by alpha / rank; twice the rank if not given.
        dropout: Share of an adapter's inputs left out at random, from 0 to below 1.
        optimizer: "adamw", "adafactor" (the course's; needs less memory) or "sgd".
        schedule: "cosine", "linear" or "constant".
        warmup: Updates over which the learning rate rises; three, or a quarter of a short run, if
            not given.
        weight_decay: Of AdamW (Loshchilov & Hutter, 2017).
        micro_batch: Records that are computed at once; the rest of the batch is accumulated. The
            result is the same. Chosen by `memory_gb` if not given.
        memory_gb: Most memory that training may take, weights among it, in gigabytes.
        checkpointing: Compute each layer twice instead of keeping what it computed. Chosen by
            `memory_gb` if not given.
        patience: Stop after so many looks at the held-out loss without a new lowest one, and go
            back to the weights that had it. A look is every `every` updates; see `finetune`.
    """

    template: str = "qa"
    epochs: float = 2.0
    steps: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 6
    max_length: int = 512
    rank: int = 16
    seed: int = 0
    mask_prompt: bool = True
    add_end: bool = True
    method: str = "lora"
    alpha: float | None = None
    dropout: float = 0.0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: int | None = None
    weight_decay: float = 0.0
    micro_batch: int | None = None
    memory_gb: float | None = None
    checkpointing: bool | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank", "max_length"):
            whole(name, getattr(self, name), 1)
        whole("seed", self.seed, 0)
        for name in ("steps", "micro_batch", "patience"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        if self.warmup is not None:
            whole("warmup", self.warmup, 0)
        if not 0 < _number("learning_rate", self.learning_rate) < 1:
            raise SettingError(
                f"learning_rate={self.learning_rate!r} must be between 0 and 1; 1e-3 suits LoRA."
            )
        if not 0 < _number("epochs", self.epochs) < math.inf:
            raise SettingError(f"epochs={self.epochs!r} must be more than 0 and finite.")
        if not 0 <= _number("dropout", self.dropout) < 1:
            raise SettingError(f"dropout={self.dropout!r} must be at least 0 and below 1.")
        if not 0 <= _number("weight_decay", self.weight_decay) < 1:
            raise SettingError(f"weight_decay={self.weight_decay!r} must be from 0 to below 1.")
        for name in ("alpha", "memory_gb"):
            value = getattr(self, name)
            if value is not None and not 0 < _number(name, value) < math.inf:
                raise SettingError(f"{name}={value!r} must be more than 0 and finite.")
        _one_of("template", self.template, templates.NAMES)
        _one_of("method", self.method, METHODS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        for name in ("mask_prompt", "add_end"):
            _one_of(name, getattr(self, name), (True, False))
        _one_of("checkpointing", self.checkpointing, (True, False, None))

    def warmup_of(self, steps: int) -> int:
        """Updates over which the learning rate rises in a run of `steps`."""
        return min(3, steps // 4) if self.warmup is None else self.warmup


def _number(name: str, value: object) -> float:
    """`value` as a number; NaN is one that fails every comparison."""
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise SettingError(f"{name}={value!r} must be a number.") from None


def _one_of(name: str, value: object, known: object) -> None:
    choices = list(known)  # type: ignore[call-overload]
    if not any(value is choice or (isinstance(value, str) and value == choice)
               for choice in choices):  # fmt: skip
        raise SettingError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}.")
