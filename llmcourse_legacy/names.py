"""The names of models that the course's hosted service knew, and what they mean here."""

from __future__ import annotations

import re

from llmcourse import models, tiers
from llmcourse.models import PACKAGED, ROLES, hub

_NEOX = "EleutherAI/neox-ckpt-"
# The service's 29 names, by millions of weights.
_NAMES = {
    0.1: "hf-internal-testing/tiny-random-gpt2",
    70: "EleutherAI/pythia-70m EleutherAI/pythia-70m-deduped EleutherAI/pythia-70m-v0"
    f" EleutherAI/pythia-70m-deduped-v0 {_NEOX}pythia-70m {_NEOX}pythia-70m-deduped-v0"
    f" {_NEOX}pythia-70m-v1 {_NEOX}pythia-70m-deduped-v1",
    125: "EleutherAI/gpt-neo-125m",
    162: "EleutherAI/pythia-160m EleutherAI/pythia-160m-deduped EleutherAI/pythia-160m-deduped-v0"
    f" {_NEOX}pythia-160m {_NEOX}pythia-160m-deduped-v1",
    405: "EleutherAI/pythia-410m EleutherAI/pythia-410m-v0 EleutherAI/pythia-410m-deduped"
    f" EleutherAI/pythia-410m-deduped-v0 {_NEOX}pythia-410m {_NEOX}pythia-410m-deduped-v1",
    2775: "EleutherAI/pythia-2.8b",
    111: "cerebras/Cerebras-GPT-111M",
    256: "cerebras/Cerebras-GPT-256M",
    6738: "meta-llama/Llama-2-7b-hf meta-llama/Llama-2-7b-chat-hf",
    13016: "meta-llama/Llama-2-13b-chat-hf",
    68977: "meta-llama/Llama-2-70b-chat-hf",
    7242: "Intel/neural-chat-7b-v3-1",
}
WEIGHTS = {name: millions for millions, names in _NAMES.items() for name in names.split()}
# The course's name -> where transformers finds its weights: the "neox-ckpt" ones are another
# program's files.
HUB = {n: n.replace("neox-ckpt-", "").removesuffix("-v1") if _NEOX in n else n for n in WEIGHTS}

# What the helper file calls a larger model that was tuned on the company's questions.
BIGGER = "bigger_model_name"

# Words in the names of models that were taught to chat.
_CHAT = re.compile(
    r"chat|instruct|assistant|-it\b|\b(gpt-[345]|vicuna|zephyr|guanaco|alpaca|hermes|dolly|openai:)",
    re.IGNORECASE,
)


def role(name: str) -> str:
    """The role that plays the same part as `name`: "chat" for a chat model, otherwise "base".

    A tuned model is its base's kin, so that the tokenizer of one goes with the other: the course
    reads with the tokenizer of pythia-70m what lamini_docs_finetuned answers.
    """
    return "chat" if _CHAT.search(name) else "base"


def is_tuned(name: str) -> bool:
    """Whether the course calls a model tuned on the company's questions."""
    return name == BIGGER or (name.lower().startswith("lamini/") and "finetuned" in name.lower())


def packaged(name: str) -> str:
    """The packaged model that plays the same part as `name`."""
    return getattr(tiers.PAIRS["packaged"], role(name))


def runnable() -> str:
    """A sentence with the models that this machine can run: those that are here, those that fit."""
    import psutil

    here = [*ROLES, *(name for name in PACKAGED if models.is_converted(name))]
    here += [name for name, there in HUB.items() if hub.is_cached(there)]
    free, size = psutil.virtual_memory().available, tiers.dtype().itemsize
    fit = [name for name, millions in WEIGHTS.items() if millions * 1e6 * size < free]
    largest = sorted(set(fit) - set(here), key=WEIGHTS.__getitem__)[-4:]
    return (
        f"Currently this machine has support for: {', '.join(here)}; the path of a folder with a "
        f"model; and from the hub, with a network, models that fit into its memory, of the "
        f"course's list {len(fit)} of {len(WEIGHTS)}: {', '.join(largest)} and smaller ones."
    )
