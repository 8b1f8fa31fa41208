"""The course's own interface, on this machine: `from llmcourse.llama import BasicModelRunner`.

`install()` makes the course's own lines work too: `from llama import BasicModelRunner`. The
service behind them is gone; here a model's name is loaded from the packages, a folder, or the hub,
and nothing stands in for it unless the learner says so (`install(substitute=True)`).

The names are imported when they are first asked for, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import Any

from llmcourse.errors import (
    APIError,
    AuthenticationError,
    ModelNameError,
    RateLimitError,
    UnavailableResourceError,
    UserError,
)

_MODULES = {
    "installing": ("install",),
    "runners": ("BasicModelRunner",),
    "siblings": (
        "AutocompleteRunner", "Lamini", "LlamaV2Runner", "LlamaV3Runner", "MistralRunner",
        "QuestionAnswerModel",
    ),
    "typed": ("InputOutputRunner", "LLMEngine"),
    "types": ("Context", "Type"),
}  # fmt: skip
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "APIError", "AuthenticationError", "ModelNameError", "RateLimitError",
    "UnavailableResourceError", "UserError", *_WHERE,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A public name, imported now (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
