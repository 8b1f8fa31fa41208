"""The course's own interface, on this machine: `from llmcourse.llama import BasicModelRunner`.

`install()` makes the course's own lines work too: `from llama import BasicModelRunner`. The
service behind them is gone; here a model's name is loaded from the packages, a folder, or the hub,
and nothing substitutes for it unless the learner says so (`install(substitute=True)`).

This package has the runner that the lessons use. The rest of the interface of 2023 is next door,
in `llmcourse_legacy`, and is imported when one of its names is first used.
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

# Where each public name is, next door: imported at its first use, not with the package.
_NEXT_DOOR = {
    "installing": "install",
    "runners": "AutocompleteRunner Lamini LlamaV2Runner LlamaV3Runner MistralRunner"
    " QuestionAnswerModel",
    "typed": "Context InputOutputRunner LLMEngine Type",
}
_MODULES = {
    name: f"llmcourse_legacy.{m}" for m, names in _NEXT_DOOR.items() for name in names.split()
}
_MODULES["BasicModelRunner"] = "llmcourse.llama.runner"

__all__ = [
    "APIError",
    "AuthenticationError",
    "ModelNameError",
    "RateLimitError",
    "UnavailableResourceError",
    "UserError",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
