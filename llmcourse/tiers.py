"""How much work a lesson does, with which models, on which device and in which dtype.

`LLMCOURSE_TIER` chooses the tier (`smoke`, `cpu`, `gpu`); unset, it is `gpu` where there is CUDA
and `cpu` elsewhere. `LLMCOURSE_MODELS` chooses the pair of models. Notebooks never check the
hardware; they read the tier.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse.errors import NoSpace, SettingError, one_of
from llmcourse.files import work_dir, writable_cache, write_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Pair:
    """The two models that a lesson compares.

    Attributes:
        base: Name of the pretrained model.
        chat: Name of the model that was tuned to chat.
        same_family: True where `chat` is `base` after tuning, so that they differ in tuning alone.
        learner: Name of the chat model that lesson 05 also trains in full; `chat` if not given.
        bits: What `models.load` stores a weight of the two in; 4 takes the package bitsandbytes.
    """

    base: str
    chat: str
    same_family: bool = False
    learner: str = ""
    bits: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "learner", self.learner or self.chat)


# Training every weight takes 16 bytes per weight: a T4 can do it for 400 million, not for 1.7B.
_SMALL = "HuggingFaceTB/SmolLM2-360M-Instruct"

PAIRS: dict[str, Pair] = {
    "packaged": Pair("gemma-3-270m", "smollm2-135m-instruct"),
    "hub": Pair("google/gemma-3-270m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "apache": Pair("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct", True),
    "open": Pair("HuggingFaceTB/SmolLM2-1.7B", "HuggingFaceTB/SmolLM2-1.7B-Instruct", True, _SMALL),
    "llama2": Pair(
        "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf", True, _SMALL, bits=4
    ),
}

# Bits of a weight in QLoRA: 4, and its share of the scales, quantised themselves (Dettmers et al.,
# 2023, arXiv 2305.14314, section 3): one of 8 bits for 64 weights, one of 32 for 256 of those.
QLORA_BITS = 4 + 8 / 64 + 32 / (64 * 256)


@dataclass(frozen=True)
class Tier:
    """One size of the course; what a tier does not set is as on the cpu tier."""

    name: str
    purpose: str
    models: str = "packaged"  # key of PAIRS, unless LLMCOURSE_MODELS names another
    prompts: int = 24  # behind each measured claim
    new_tokens: int = 160  # longest answer
    batch_size: int = 24  # prompts answered at once
    minutes: float = 4  # the most that one notebook should take
    pretrain_steps: int = 250  # lesson 02: updates of the tiny model trained from scratch
    tune_records: int = 90  # lessons 03 and 04: records that a model is tuned on
    tune_epochs: float = 2
    facts: int = 20  # lesson 05: facts that a model learns, three paraphrases each
    fact_updates: int = 60
    short_steps: int = 5  # more on lesson 05: updates of the short runs
    messages: int = 300  # lesson 06: messages to an order desk that a model is tuned on
    known_facts: int = 20  # lessons 06 and 07: facts that a model learns, to be evaluated on
    known_epochs: float = 6  # lesson 07: how often each of the questions is seen


_SMOKE = Tier(
    "smoke",
    "the test suite",
    prompts=8,
    new_tokens=24,
    batch_size=16,
    minutes=1.5,
    pretrain_steps=60,
    tune_records=12,
    tune_epochs=1,
    facts=10,  # the fewest with which a gain can be seen at all
    fact_updates=4,
    short_steps=2,
    messages=24,
    known_facts=4,
    known_epochs=1,
)
_GPU = Tier(
    "gpu",
    "Colab and workstations",
    models="open",
    minutes=10,
    pretrain_steps=1500,
    tune_records=200,
    tune_epochs=3,
    facts=100,
    fact_updates=300,
    short_steps=16,
    messages=480,
    known_facts=100,
)
TIERS = {tier.name: tier for tier in (_SMOKE, Tier("cpu", "learning on a laptop"), _GPU)}


LEARNER = "learner.json"  # in the work folder: in a class, the learner's name and seed


def _setting(variable: str, allowed: dict, default: str) -> str:
    value = os.environ.get(variable, "").strip().lower() or default
    return one_of(variable, value, allowed)


def has_cuda() -> bool:
    """True where torch is installed and sees an NVIDIA (or ROCm) GPU."""
    try:
        import torch
    except ImportError:  # `doctor` runs without torch too, to say that it is missing
        return False
    return torch.cuda.is_available()


def current() -> Tier:
    """The tier of this run.

    Raises:
        SettingError: `LLMCOURSE_TIER` names no tier.
    """
    named = os.environ.get("LLMCOURSE_TIER", "").strip()
    # Looking for CUDA imports torch, which takes a second; a named tier needs no look.
    default = "cpu" if named or not has_cuda() else "gpu"
    return TIERS[_setting("LLMCOURSE_TIER", TIERS, default)]


def pair_name() -> str:
    """Key of `PAIRS` of this run: `LLMCOURSE_MODELS`, else the tier's.

    Raises:
        SettingError: `LLMCOURSE_MODELS` names no pair.
    """
    return _setting("LLMCOURSE_MODELS", PAIRS, current().models)


def pair() -> Pair:
    """The base and the chat model of this run.

    Raises:
        SettingError: `LLMCOURSE_MODELS` names no pair.
    """
    return PAIRS[pair_name()]


def seed() -> int:
    """The seed of trainings that name none: 0, and in a class the learner's own.

    Thirty trainings with one seed are one; with thirty they show how far results scatter.
    `doctor --class` writes it into the work folder.
    """
    try:
        return int(json.loads((work_dir() / LEARNER).read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, TypeError, KeyError, SettingError):
        return 0


def device() -> torch.device:
    """The device that models run on: `LLMCOURSE_DEVICE`, else CUDA where it is, else the CPU.

    The smoke and cpu tiers stay on the CPU so that their numbers mean the same everywhere.

    Raises:
        SettingError: `LLMCOURSE_DEVICE` is not a device, or not one of this machine's.
    """
    import torch

    # of several processes that `accelerate launch` has started, each has a GPU of its own
    own = int(os.environ.get("LOCAL_RANK") or 0)
    chosen = os.environ.get("LLMCOURSE_DEVICE", "").strip().lower()
    if not chosen:
        chosen = "cuda" if current().name == "gpu" and has_cuda() else "cpu"
    usable = {"cpu": True, "cuda": has_cuda(), "mps": torch.backends.mps.is_available()}
    if not usable.get(chosen):
        here = ", ".join(name for name, there in usable.items() if there)
        raise SettingError(
            f"LLMCOURSE_DEVICE={chosen!r} can't be used here. This machine has: {here}. (Of "
            f"several GPUs choose one by CUDA_VISIBLE_DEVICES=1, say.)"
        )
    if chosen == "cuda":
        return torch.device("cuda", own % torch.cuda.device_count())
    return torch.device(chosen)


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
        hardware = torch.cuda.get_device_capability(on)[0] >= 8  # Ampere, 2020; a T4 has 7.5
        return torch.bfloat16 if hardware else torch.float16
    if on.type != "cpu":
        return torch.float32
    # Equal speeds may measure as a little more than 1; bfloat16 must be clearly faster.
    return torch.bfloat16 if bfloat16_speedup() >= 1.3 else torch.float32


def bfloat16_speedup() -> float:
    """How many times faster bfloat16 is than float32 on this CPU, measured once and kept.

    It times the work of answering a batch: a large matrix times 24 rows. The two types take turns,
    and the fastest round of each counts, so that other work on the machine does not decide. The
    result is kept in the cache folder under the processor's and torch's names.
    """
    import torch

    key = f"{cpu_name()}, torch {torch.__version__}, 24 rows"
    store = writable_cache() / "bfloat16.json"
    known: dict[str, float] = {}
    with suppress(OSError, ValueError, TypeError):  # not measured yet, or damaged
        known = dict(json.loads(store.read_text(encoding="utf-8")))
    if key in known:
        return float(known[key])
    kinds = (torch.float32, torch.bfloat16)
    operands = {kind: [torch.ones(n, 2048, dtype=kind) for n in (24, 4096)] for kind in kinds}
    fastest = dict.fromkeys(kinds, math.inf)
    for _ in range(12):  # the first rounds warm up
        for kind, (rows, matrix) in operands.items():
            start = time.perf_counter()
            torch.nn.functional.linear(rows, matrix)
            fastest[kind] = min(fastest[kind], time.perf_counter() - start)
    ratio = fastest[torch.float32] / fastest[torch.bfloat16]
    with suppress(OSError, NoSpace):  # a full disk only means measuring again next time
        write_json(store, known | {key: round(ratio, 2)})
    return ratio


def cpu_name() -> str:
    """The processor's model name; Python itself only knows its architecture on Linux."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
