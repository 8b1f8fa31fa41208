"""How to train: every setting in one place, checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from llmcourse import templates, tiers
from llmcourse.errors import SettingError, whole

OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor", "sgd": "sgd"}
# What `suggest` aims at, in its rule for the epochs and the learning rate.
MOST_EPOCHS, SEEN_RECORDS, SEEN_TOKENS, MANY_RECORDS = 10, 2000, 40_000, 15_000
RATE, LONG_ANSWER = 0.0053, 5  # for LoRA, times the size of the weights; tokens
RANK, PROMPT_DROPOUT = 32, 0.3
# What each setting may be: the least whole number; the limits of a number, and whether it may be
# the lower one; or a choice.
WHOLE = {"batch_size": 1, "max_length": 1, "steps": 1, "rank": 1, "micro_batch": 1, "patience": 1}
WHOLE |= {"seed": 0, "warmup": 0}
NUMBERS = dict.fromkeys(("dropout", "prompt_dropout", "weight_decay", "beta2"), (0.0, True, 1.0))
NUMBERS |= dict.fromkeys(("epochs", "alpha", "memory_gb"), (0.0, False, math.inf))
NUMBERS |= {"learning_rate": (0.0, False, 1.0)}
CHOICES: dict[str, Sequence[object]] = {
    "template": templates.NAMES,
    "method": ("lora", "full"),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": ("cosine", "linear", "constant"),
    **dict.fromkeys(("mask_prompt", "add_end", "checkpointing"), (True, False)),
}


@dataclass(frozen=True)
class Config:
    """How to train.

    `epochs`, `learning_rate`, `rank`, `beta2` and `prompt_dropout` are chosen by `suggest` where
    they are None.

    Attributes:
        template: What the records are rendered with, and what the tuned model answers to.
        epochs: How often every record is seen.
        steps: Stop after so many updates instead, where given.
        learning_rate: The highest; it rises over the first steps and falls by `schedule`. About
            1e-3 suits LoRA, 1e-5 to 1e-4 full fine-tuning.
        batch_size: Records per update, over all processes.
        max_length: Longest record in tokens; see `encoding.encode`.
        rank: Of the adapter's two thin matrices (LoRA; Hu et al., 2021).
        seed: Of the adapter's start and the batches' order; `tiers.seed()` if not given.
        mask_prompt: False also trains on the prompts, as the course's lab does.
        add_end: False leaves out the end-of-sequence token, as the course's lab does.
        method: "lora" trains an adapter, "full" every weight.
        alpha: The adapter's output is multiplied by alpha / rank; twice the rank if not given.
        dropout: Share of an adapter's inputs left out at random, from 0 to below 1.
        prompt_dropout: Share of a prompt's tokens left out at random, others each time a record is
            seen, so that the model does not rely on the exact words of a question (word dropout;
            Iyyer et al., 2015). Tokens that the answer repeats stay, and those of all records.
        optimizer: "adamw", "adafactor" (the course's; needs less memory) or "sgd".
        schedule: "cosine", "linear" or "constant".
        warmup: Updates over which the learning rate rises; three, or a quarter of a short run, if
            not given.
        weight_decay: Of AdamW (Loshchilov & Hutter, 2017).
        beta2: How slowly AdamW forgets the size of earlier gradients, from 0 to below 1. The usual
            0.999 remembers a thousand updates, more than a short run has.
        micro_batch: Records that are computed at once; the rest of the batch is accumulated. The
            result is the same, but for what `dropout` draws. Chosen by `memory_gb` if not given.
        memory_gb: Most memory that training may take, weights included, in gigabytes.
        checkpointing: Compute each layer twice instead of keeping what it computed. Chosen by
            `memory_gb` if not given.
        patience: Stop after so many evaluations without a new lowest held-out loss (early
            stopping), and go back to the weights that had it; see `eval_steps` of `finetune`.
    """

    template: str = "qa"
    epochs: float | None = None
    steps: int | None = None
    learning_rate: float | None = None
    batch_size: int = 6
    max_length: int = 512
    rank: int | None = None
    seed: int = field(default_factory=tiers.seed)
    mask_prompt: bool = True
    add_end: bool = True
    method: str = "lora"
    alpha: float | None = None
    dropout: float = 0.0
    prompt_dropout: float | None = None
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
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            if value is None and setting.default is None:
                continue
            if name in WHOLE:
                whole(name, value, WHOLE[name])
            elif name in NUMBERS:
                _check_number(name, value)
            elif not any(type(value) is type(one) and value == one for one in CHOICES[name]):
                known = ", ".join(map(repr, CHOICES[name]))
                raise SettingError(f"{name}={value!r} is none of {known}.")

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
    Questions in words that were not trained on get the answer of another attribute where the model
    leans on a question's form, which leaving out a part of the words prevents (see `Config`).
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
    # Of many records each is seen once: a second pass teaches little more than more records do.
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
            f"for {config.method}, this model and {length:.0f} trained tokens per record",
        ),
        "rank": (RANK, "enough for small data"),
        "prompt_dropout": (PROMPT_DROPOUT, "so that other wordings are understood"),
    }
    ignored = (
        "epochs" if config.steps else "",
        "" if lora else "rank",
        # It was tuned together with the rate, and helps where records are seen again and again.
        "prompt_dropout" if config.learning_rate or passes <= 1 or not config.mask_prompt else "",
    )
    chosen = {
        name: rule
        for name, rule in rules.items()
        if getattr(config, name) is None and name not in ignored
    }
    values: dict[str, Any] = {name: value for name, (value, _) in chosen.items()}
    config = replace(config, **values)
    if "learning_rate" in chosen:
        updates = config.steps or (config.epochs or 1) * records / config.batch_size
        # With 0.999 the first updates would set the pace of a short run to its end (see `Config`).
        values = {"beta2": 0.95, "warmup": round(updates / 10) if updates > 30 else None}
    else:
        values = {"beta2": 0.999}
    values["prompt_dropout"] = 0.0
    config = replace(
        config, **{name: value for name, value in values.items() if getattr(config, name) is None}
    )
    if not chosen:
        return config, ""
    reasons = "; ".join(f"{name} {value:g} ({why})" for name, (value, why) in chosen.items())
    return config, f"{records:,} records, {trained_tokens:,} trained tokens: {reasons}."


def _check_number(name: str, value: Any) -> None:
    low, included, high = NUMBERS[name]
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (low < number < high or (included and number == low)):  # NaN fails every comparison
        least = "at least" if included else "more than"
        most = f" and below {high:g}" if math.isfinite(high) else " and finite"
        raise SettingError(f"{name}={value!r} must be {least} {low:g}{most}.")
