"""How much work a lesson does, with which models, on which device and in which dtype.

`LLMCOURSE_TIER` chooses the tier (`smoke`, `cpu`, `gpu`); unset, it is `gpu` where CUDA is
there and `cpu` elsewhere. `LLMCOURSE_MODELS` chooses the pair of models. Notebooks never ask
what hardware there is; they read the tier.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse.errors import NoSpace, SettingError
from llmcourse.files import writable_cache, write_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Pair:
    """The two models that a lesson compares.

    Attributes:
        base: Name of the pretrained model that was never taught to chat.
        chat: Name of the model that was.
        licence: Under which terms the two come.
        same_family: True where `chat` is `base` after tuning, so that tuning alone differs.
        learner: Name of the chat model that lesson 05 trains in full too; not above 400 million
            weights, for that takes 16 bytes a weight.
    """

    base: str
    chat: str
    licence: str
    same_family: bool
    learner: str


PAIRS: dict[str, Pair] = {
    "packaged": Pair(
        "gemma-3-270m",
        "smollm2-135m-instruct",
        "Gemma Terms of Use; Apache-2.0",
        False,
        "smollm2-135m-instruct",
    ),
    "hub": Pair(
        "google/gemma-3-270m",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Gemma Terms of Use; Apache-2.0",
        False,
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "apache": Pair(
        "HuggingFaceTB/SmolLM2-135M",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        True,
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "open": Pair(
        "HuggingFaceTB/SmolLM2-1.7B",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "Apache-2.0",
        True,
        "HuggingFaceTB/SmolLM2-360M-Instruct",
    ),
    "llama2": Pair(
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-2-7b-chat-hf",
        "Llama 2 Community License",
        True,
        "HuggingFaceTB/SmolLM2-360M-Instruct",
    ),
}


@dataclass(frozen=True)
class Tier:
    """One size of the course.

    Attributes:
        name: `smoke`, `cpu` or `gpu`.
        purpose: For whom, in words.
        models: Key of `PAIRS` used unless `LLMCOURSE_MODELS` says otherwise.
        prompts: How many prompts a measured claim uses.
        new_tokens: Longest answer, in tokens.
        batch_size: Prompts answered at once.
        minutes: The most one notebook should take, in minutes.
        pretrain_steps: Updates of the tiny model that lesson 02 trains from nothing.
        tune_records: Records that a model is tuned on in lessons 03 and 04.
        tune_epochs: How often it sees them.
        facts: Facts of the company's that a model learns in lesson 05.
        fact_epochs: How often it sees each of their wordings.
        short_steps: Updates of that lesson's short runs.
        known_facts: Facts that a model learns in lessons 06 and 07, to be evaluated on.
        known_epochs: How often it sees each of their wordings.
    """

    name: str
    purpose: str
    models: str
    prompts: int
    new_tokens: int
    batch_size: int
    minutes: float
    pretrain_steps: int
    tune_records: int
    tune_epochs: float
    facts: int
    fact_epochs: float
    short_steps: int
    known_facts: int
    known_epochs: float


TIERS: dict[str, Tier] = {
    "smoke": Tier(
        "smoke",
        "the test suite",
        "packaged",
        8,
        24,
        16,
        1.5,
        60,
        24,
        1,
        3,
        1,
        2,
        4,
        1,
    ),
    "cpu": Tier(
        "cpu",
        "learning on a laptop",
        "packaged",
        24,
        160,
        24,
        4,
        250,
        90,
        2,
        10,
        5.5,
        5,
        20,
        3.6,
    ),
    "gpu": Tier(
        "gpu",
        "Colab and workstations",
        "open",
        24,
        160,
        24,
        10,
        1500,
        200,
        3,
        120,
        4,
        16,
        120,
        4,
    ),
}


def _setting(variable: str, allowed: dict, default: str) -> str:
    value = os.environ.get(variable, "").strip().lower() or default
    if value not in allowed:
        raise SettingError(
            f"{variable}={value!r} is not known. Use one of {', '.join(allowed)}, "
            f"or unset {variable} for the default."
        )
    return value


def has_cuda() -> bool:
    """True where torch is installed and sees an NVIDIA (or ROCm) GPU."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def current() -> Tier:
    """The tier in force.

    Raises:
        SettingError: `LLMCOURSE_TIER` names no tier.
    """
    named = os.environ.get("LLMCOURSE_TIER", "").strip()
    default = "cpu" if named or not has_cuda() else "gpu"
    return TIERS[_setting("LLMCOURSE_TIER", TIERS, default)]


def pair_name(tier: Tier | None = None) -> str:
    """Key of `PAIRS` in force: `LLMCOURSE_MODELS`, else the tier's.

    Raises:
        SettingError: `LLMCOURSE_MODELS` names no pair.
    """
    return _setting("LLMCOURSE_MODELS", PAIRS, (tier or current()).models)


def pair(tier: Tier | None = None) -> Pair:
    """The base and the chat model in force.

    Raises:
        SettingError: `LLMCOURSE_MODELS` names no pair.
    """
    return PAIRS[pair_name(tier)]


def device() -> torch.device:
    """The device that models run on: `LLMCOURSE_DEVICE`, else CUDA where it is, else the CPU.

    The smoke and cpu tiers stay on the CPU so that their numbers mean the same everywhere.

    Raises:
        SettingError: `LLMCOURSE_DEVICE` is not a device, or not one of this machine's.
    """
    import torch

    chosen = os.environ.get("LLMCOURSE_DEVICE", "").strip().lower()
    if not chosen:
        return torch.device("cuda" if current().name == "gpu" and has_cuda() else "cpu")
    usable = {"cpu": True, "cuda": has_cuda(), "mps": torch.backends.mps.is_available()}
    kind = chosen.split(":")[0]
    if not usable.get(kind):
        here = ", ".join(name for name, there in usable.items() if there)
        raise SettingError(
            f"LLMCOURSE_DEVICE={chosen!r} can't be used here. This machine has: {here}."
        )
    try:
        return torch.device(chosen)
    except RuntimeError as error:
        raise SettingError(f"LLMCOURSE_DEVICE={chosen!r} is no device. Use e.g. {kind}.") from error


def dtype(on: torch.device | None = None) -> torch.dtype:
    """The floating-point type this machine computes fastest in.

    `LLMCOURSE_DTYPE` (`float32`, `bfloat16`, `float16`) overrides it. On a GPU it is bfloat16
    where the chip has it in hardware, else float16. On a CPU it is bfloat16 only where a short
    measurement shows it to be clearly faster than float32: processors without bfloat16
    instructions emulate them slowly.

    Raises:
        SettingError: `LLMCOURSE_DTYPE` is none of the three.
    """
    import torch

    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if os.environ.get("LLMCOURSE_DTYPE", "").strip():
        return names[_setting("LLMCOURSE_DTYPE", names, "")]
    on = on or device()
    if on.type == "cuda":
        hardware = torch.cuda.get_device_capability(on)[0] >= 8
        return torch.bfloat16 if hardware else torch.float16
    if on.type != "cpu":
        return torch.float32
    return torch.bfloat16 if bfloat16_speedup() >= 1.3 else torch.float32


def bfloat16_speedup() -> float:
    """How many times faster bfloat16 is than float32 on this CPU, measured once and kept.

    What is timed is the work of answering a batch: a large matrix times 24 rows. The two kinds take
    turns, and the fastest round of each counts, so that other work on the machine does not decide.
    The result is kept in the cache folder under the processor's and torch's names.
    """
    import torch

    key = f"{cpu_name()}, torch {torch.__version__}, 24 rows"
    store = writable_cache() / "bfloat16.json"
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
        if isinstance(known.get(key), float):
            return known[key]
    except (OSError, ValueError, AttributeError):
        known = {}
    kinds = (torch.float32, torch.bfloat16)
    operands = {kind: [torch.ones(n, 2048, dtype=kind) for n in (24, 4096)] for kind in kinds}
    fastest = dict.fromkeys(kinds, math.inf)
    for _ in range(12):  # the first rounds warm up
        for kind, (rows, matrix) in operands.items():
            start = time.perf_counter()
            torch.nn.functional.linear(rows, matrix)
            fastest[kind] = min(fastest[kind], time.perf_counter() - start)
    ratio = fastest[torch.float32] / fastest[torch.bfloat16]
    try:
        write_json(store, {**(known if isinstance(known, dict) else {}), key: round(ratio, 2)})
    except (OSError, NoSpace):
        pass  # a full disk only means measuring again next time
    return ratio


def cpu_name() -> str:
    """The processor's model name; Python itself only knows its architecture on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
