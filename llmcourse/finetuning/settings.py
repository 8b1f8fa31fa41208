"""How to train: every setting in one place, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from llmcourse import templates
from llmcourse.errors import SettingError, whole

METHODS = ("lora", "full")
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor", "sgd": "sgd"}
# What `suggest` aims at, in its rule for the epochs and the learning rate.
MOST_EPOCHS, SEEN_RECORDS, SEEN_TOKENS, MANY_RECORDS = 6, 2000, 40_000, 15_000
RATE, LONG_ANSWER = 0.0105, 10  # for LoRA, times the size of the weights; tokens
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Config:
    """How to train.

    `epochs`, `learning_rate`, `rank` and `beta2` are chosen by `suggest` where they are None.

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
        beta2: How slowly AdamW forgets the size of earlier gradients, from 0 to below 1. The usual
            0.999 remembers a thousand updates, more than a short run has.
        micro_batch: Records that are computed at once; the rest of the batch is accumulated. The
            result is the same. Chosen by `memory_gb` if not given.
        memory_gb: Most memory that training may take, weights among it, in gigabytes.
        checkpointing: Compute each layer twice instead of keeping what it computed. Chosen by
            `memory_gb` if not given.
        patience: Stop after so many looks at the held-out loss without a new lowest one, and go
            back to the weights that had it. A look is every `every` updates; see `finetune`.
    """

    template: str = "qa"
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float | None = None
    batch_size: int = 6
    max_length: int = 512
    rank: int | None = None
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
    beta2: float | None = None
    micro_batch: int | None = None
    memory_gb: float | None = None
    checkpointing: bool | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_length"):
            whole(name, getattr(self, name), 1)
        whole("seed", self.seed, 0)
        for name in ("steps", "rank", "micro_batch", "patience"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        if self.warmup is not None:
            whole("warmup", self.warmup, 0)
        rate = self.learning_rate
        if rate is not None and not 0 < _number("learning_rate", rate) < 1:
            raise SettingError(f"learning_rate={rate!r} must be between 0 and 1; 1e-3 suits LoRA.")
        if not 0 <= _number("dropout", self.dropout) < 1:
            raise SettingError(f"dropout={self.dropout!r} must be at least 0 and below 1.")
        if not 0 <= _number("weight_decay", self.weight_decay) < 1:
            raise SettingError(f"weight_decay={self.weight_decay!r} must be from 0 to below 1.")
        if self.beta2 is not None and not 0 <= _number("beta2", self.beta2) < 1:
            raise SettingError(f"beta2={self.beta2!r} must be at least 0 and below 1.")
        for name in ("epochs", "alpha", "memory_gb"):
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


def suggest(
    config: Config, records: int, trained_tokens: int, weight_size: float
) -> tuple[Config, str]:
    """Choose the settings that `config` leaves open, by how much data there is.

    The rule was chosen by benchmarks/defaults.py on facts, styles and labels. Adam changes all
    weights by about the learning rate, so a rate suits weights of one size: what teaches SmolLM2
    destroys Gemma 3, whose weights are a fifth as large. Hence a rate in proportion to the weights,
    as in LAMB (You et al., 2019, arXiv 1904.00962). Answers of a few tokens, such as labels, pull
    every update the same way: at the full rate the model forgets all else, so theirs is smaller.
    Full fine-tuning takes a tenth (Schulman et al., LoRA Without Regret, 2025; not measured here).

    Args:
        config: How to train. What it gives stays as it is.
        records: To train on.
        trained_tokens: Their tokens with a label.
        weight_size: Of the model's weights, typically; see `adapters.weight_size`.

    Returns:
        The settings with nothing left open, and what was chosen and why, in a sentence for
        people; "" where nothing was.
    """
    lora = config.method == "lora"
    fewest = max(1.0, min(3.0, MANY_RECORDS / records))
    passes, why = max(
        (fewest, "many records"),
        min(
            (MOST_EPOCHS, "few records"),
            (SEEN_RECORDS / records, f"until {SEEN_RECORDS:,} records are seen"),
            (SEEN_TOKENS / trained_tokens, f"until {SEEN_TOKENS:,} trained tokens are seen"),
        ),
    )
    length = trained_tokens / records
    rate = weight_size * min(1.0, length / LONG_ANSWER) * (RATE if lora else RATE / 10)
    rules = {
        "epochs": (float(round(passes)), why),
        "learning_rate": (
            float(f"{rate:.1e}"),
            f"{config.method}, weights near "
            f"{weight_size:.2g}, {length:.0f} trained tokens a record",
        ),
        "rank": (32, "enough for facts"),
    }
    ignored = ("epochs" if config.steps else "", "" if lora else "rank")
    chosen = {
        name: rule
        for name, rule in rules.items()
        if getattr(config, name) is None and name not in ignored
    }
    values: dict[str, Any] = {name: value for name, (value, _) in chosen.items()}
    config = replace(config, **values)
    if "learning_rate" in chosen:
        updates = config.steps or config.epochs * records / config.batch_size
        values = {"beta2": 0.95, "warmup": round(updates / 10) if updates > 30 else None}
    else:
        values = {"beta2": 0.999}
    config = replace(
        config, **{name: value for name, value in values.items() if getattr(config, name) is None}
    )
    if not chosen:
        return config, ""
    told = "; ".join(f"{name} {value:g} ({why})" for name, (value, why) in chosen.items())
    return config, f"{records:,} records, {trained_tokens:,} trained tokens: {told}."


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
    if not any(
        value is choice or (isinstance(value, str) and value == choice) for choice in choices
    ):
        raise SettingError(f"{name}={value!r} is none of {', '.join(map(repr, choices))}.")
