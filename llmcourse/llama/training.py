"""How a training of the course's own interface is set up: what is kept apart, and the settings."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from llmcourse import finetuning, tiers
from llmcourse.errors import UserError, whole
from llmcourse.finetuning.settings import OPTIMIZERS
from llmcourse.llama.settings import note

TEST_SHARE, SEED = 0.1, 123  # of the data that is kept apart, as the course's labs do
SMOKE_STEPS = 4  # updates on the tests' tier


def apart(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Records to train on, and a tenth of them kept apart; none of fewer than ten."""
    count = round(TEST_SHARE * len(rows)) if len(rows) >= 10 else 0
    chosen = set(random.Random(SEED).sample(range(len(rows)), count))
    return (
        [row for place, row in enumerate(rows) if place not in chosen],
        [row for place, row in enumerate(rows) if place in chosen],
    )


# transformers' names of settings: what `finetuning.Config` calls them.
_NAMES = {
    "max_steps": "steps", "num_train_epochs": "epochs", "per_device_train_batch_size": "batch_size",
    "optim": "optimizer", "warmup_steps": "warmup", "lr_scheduler_type": "schedule",
    "max_seq_length": "max_length", "r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout",
}  # fmt: skip


_VALUES = {theirs: ours for ours, theirs in OPTIMIZERS.items()}  # of `optim`
_OF_PEFT = ("rank", "alpha", "dropout")


def config_of(
    args: Mapping[str, Any] | None, peft: Mapping[str, Any] | None, enable_peft: bool | None,
    template: str,
) -> finetuning.Config:  # fmt: skip
    """How to train, from the old library's arguments; what is not known is told.

    Raises:
        UserError: `args` or `peft` is no dict.
        SettingError: see `finetuning.Config`.
    """
    for name, given in (("finetune_args", args), ("peft_args", peft)):
        if given is not None and not isinstance(given, Mapping):
            raise UserError(f"{name} must be a dict of settings, not {type(given).__name__}.")
    known = {field for field in finetuning.Config.__dataclass_fields__ if field != "template"}
    chosen: dict[str, Any] = {"template": template}
    given = {**(args or {}), **(peft or {})}
    steps = given.pop("gradient_accumulation_steps", 1)
    for name, value in given.items():
        mine = _NAMES.get(name, name)
        if mine not in known:
            note("ignored", f"{name}={value!r}: there is no such setting. There are: "
                 f"{', '.join(sorted(known))}")  # fmt: skip
            continue
        chosen[mine] = _VALUES.get(value, value) if name == "optim" else value
    if steps != 1:
        small = whole("per_device_train_batch_size", chosen.get("batch_size", 1), 1)
        chosen["batch_size"] = small * whole("gradient_accumulation_steps", steps, 1)
        chosen["micro_batch"] = small
    if enable_peft is False:
        chosen = {"learning_rate": 3e-5, **chosen, "method": "full"}
        if unused := [name for name in _OF_PEFT if name in chosen]:
            note("ignored", f"{', '.join(unused)}: every weight is trained, without an adapter")
    elif enable_peft:
        chosen["method"] = "lora"
    if tiers.current().name == "smoke" and "steps" not in chosen:
        note("ignored", f"on the smoke tier a training ends after {SMOKE_STEPS} updates")
        chosen["steps"] = SMOKE_STEPS
    return finetuning.Config(**chosen)
