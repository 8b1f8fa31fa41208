"""The names of models that the course's hosted service knew, and what they mean here."""

from __future__ import annotations

import re
from pathlib import Path

from llmcourse import models, tiers
from llmcourse.errors import ModelNameError
from llmcourse.models import PACKAGED, ROLES, hub

_NEOX = "EleutherAI/neox-ckpt-"

# The 29 names, in the order of the service's own message, and millions of weights.
WEIGHTS: dict[str, float] = {
    "hf-internal-testing/tiny-random-gpt2": 0.1,
    "EleutherAI/pythia-70m": 70,
    "EleutherAI/pythia-70m-deduped": 70,
    "EleutherAI/pythia-70m-v0": 70,
    "EleutherAI/pythia-70m-deduped-v0": 70,
    f"{_NEOX}pythia-70m-deduped-v0": 70,
    f"{_NEOX}pythia-70m-v1": 70,
    f"{_NEOX}pythia-70m-deduped-v1": 70,
    "EleutherAI/gpt-neo-125m": 125,
    "EleutherAI/pythia-160m": 162,
    "EleutherAI/pythia-160m-deduped": 162,
    "EleutherAI/pythia-160m-deduped-v0": 162,
    f"{_NEOX}pythia-70m": 70,
    f"{_NEOX}pythia-160m": 162,
    f"{_NEOX}pythia-160m-deduped-v1": 162,
    "EleutherAI/pythia-2.8b": 2775,
    "EleutherAI/pythia-410m": 405,
    "EleutherAI/pythia-410m-v0": 405,
    "EleutherAI/pythia-410m-deduped": 405,
    "EleutherAI/pythia-410m-deduped-v0": 405,
    f"{_NEOX}pythia-410m": 405,
    f"{_NEOX}pythia-410m-deduped-v1": 405,
    "cerebras/Cerebras-GPT-111M": 111,
    "cerebras/Cerebras-GPT-256M": 256,
    "meta-llama/Llama-2-7b-hf": 6738,
    "meta-llama/Llama-2-7b-chat-hf": 6738,
    "meta-llama/Llama-2-13b-chat-hf": 13016,
    "meta-llama/Llama-2-70b-chat-hf": 68977,
    "Intel/neural-chat-7b-v3-1": 7242,
}


def _on_hub(name: str) -> str:
    """Where transformers finds the weights: the "neox-ckpt" ones are another program's files."""
    return name.replace("neox-ckpt-", "").removesuffix("-v1") if name.startswith(_NEOX) else name


# The course's name -> where the model is on the hub, in files that transformers reads.
HUB: dict[str, str] = {name: _on_hub(name) for name in WEIGHTS}

# What the helper file calls a larger model that was tuned on the company's questions.
BIGGER = "bigger_model_name"

HOSTED = ("chat-gpt", "chatgpt")  # stand for whatever a server has; see `is_hosted`
PREFIX = "openai:"


def is_hosted(name: str) -> bool:
    """True for a model that a server answers for: "chat-gpt", "gpt-…" or "openai:NAME"."""
    if name.lower() in HOSTED or name.lower().startswith(PREFIX):
        return True
    return name.lower().startswith("gpt-") and not is_folder(name)


# Words in the names of models that were taught to chat.
_CHAT = re.compile(
    r"chat|instruct|assistant|-it\b|\b(gpt-[345]|vicuna|zephyr|guanaco|alpaca|hermes|dolly)",
    re.IGNORECASE,
)


def is_chat(name: str) -> bool:
    """Whether a model was taught to chat, as far as its name tells."""
    return is_hosted(name) or bool(_CHAT.search(name))


def is_tuned(name: str) -> bool:
    """Whether the course calls a model tuned on the company's questions."""
    return name == BIGGER or (name.lower().startswith("lamini/") and "finetuned" in name.lower())


def stand_in(name: str) -> str:
    """The role that plays the same part as `name`: "chat" for a chat model, otherwise "base".

    A tuned model is its base's kin, so that the tokenizer of one goes with the other: the course
    reads with the tokenizer of pythia-70m what lamini_docs_finetuned answers.
    """
    return "chat" if is_chat(name) else "base"


def packaged(name: str) -> str:
    """The packaged model that plays the same part as `name`."""
    return getattr(tiers.PAIRS["packaged"], stand_in(name))


def find(name: str) -> str:
    """What `models.load` is to be asked for: a role, a packaged name, a folder or a hub name.

    Raises:
        ModelNameError: it is none of these; with what this machine can run.
    """
    if not isinstance(name, str) or not name.strip():
        raise ModelNameError(f"model_name={name!r} must be the name of a model. {runnable()}")
    if name in HUB:
        return HUB[name]
    if name in (*ROLES, *PACKAGED) or hub.is_hub_name(name) or is_folder(name):
        return name
    raise ModelNameError(f"There is no model {name!r}. {runnable()}")


def is_folder(name: str) -> bool:
    """Whether `name` is the path of a folder that is there."""
    try:
        return Path(name).expanduser().is_dir()
    except (RuntimeError, ValueError, OSError):
        return False


def runnable() -> str:
    """A sentence with the models that this machine can run: those that are here, those that fit."""
    import psutil

    here = [*ROLES, *(name for name in PACKAGED if models.is_converted(name))]
    cached = [name for name, there in HUB.items() if hub.is_cached(there)]
    free = psutil.virtual_memory().available
    size = tiers.dtype().itemsize
    fit = [n for n, millions in WEIGHTS.items() if millions * 1e6 * size < free and n not in cached]
    largest = sorted(fit, key=WEIGHTS.__getitem__)[-4:]
    return (
        f"Currently this machine has support for: {', '.join([*here, *cached])}; the path of a "
        f"folder with a model; and from the hub, with a network, models that fit into its memory, "
        f"of the course's list {len(fit)} of {len(WEIGHTS)}: {', '.join(largest)} and smaller ones."
    )
