"""The names of models that the course's hosted service knew, and what they mean here."""

from __future__ import annotations

import re

from llmcourse import models, tiers

# What the helper file calls a larger model that was tuned on the company's questions.
BIGGER = "bigger_model_name"
_NEOX = "EleutherAI/neox-ckpt-"  # these are another program's files of models that the hub has too

# Words in the names of models that were taught to chat.
_CHAT = re.compile(
    r"chat|instruct|assistant|-it\b|\b(gpt-[345]|vicuna|zephyr|guanaco|alpaca|hermes|dolly|openai:)",
    re.IGNORECASE,
)


def on_hub(name: str) -> str:
    """The name under which transformers finds the weights of a model of the course."""
    if name.startswith(_NEOX):
        return f"EleutherAI/{name.removeprefix(_NEOX).removesuffix('-v1')}"
    return name


def role(name: str) -> str:
    """The role that does the job of `name`: "chat" for a chat model, otherwise "base".

    A tuned model has its base's role, so that the tokenizer of one fits the other: the course uses
    the tokenizer of pythia-70m for lamini_docs_finetuned.
    """
    return "chat" if _CHAT.search(name) else "base"


def is_of_the_service(name: str) -> bool:
    """Whether only the course's service had a model, so that the hub can't know it."""
    return name.startswith(("lamini/", _NEOX))


def is_tuned(name: str) -> bool:
    """Whether the course calls a model tuned on the company's questions."""
    return name == BIGGER or (name.lower().startswith("lamini/") and "finetuned" in name.lower())


def packaged(name: str) -> str:
    """The packaged model that does the job of `name`."""
    return getattr(tiers.PAIRS["packaged"], role(name))


def memory_needed(name: str) -> str:
    """A sentence on the memory for the weights, where a name has their number ("7b", "410m")."""
    size = re.search(r"(\d+(?:\.\d+)?)([mb])\b", name, re.IGNORECASE)
    if not size:
        return ""
    weights = float(size[1]) * {"m": 1e6, "b": 1e9}[size[2].lower()]
    return f" Its weights need {weights * tiers.dtype().itemsize / 1e9:.1f} GB of memory."


def runnable() -> str:
    """A sentence with the models that this machine can run."""
    import psutil

    here = [name for name in models.PACKAGED if models.is_converted(name)]
    most = psutil.virtual_memory().available / tiers.dtype().itemsize / 1e9
    return (
        f"Currently this machine has support for: {', '.join([*models.ROLES, *here])}; the path of "
        f"a folder with a model; and, with a network, models of the hub with up to about "
        f"{most:.1f} billion weights."
    )
