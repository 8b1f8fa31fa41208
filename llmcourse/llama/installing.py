"""Makes `import llama` and `import lamini` work in this process, as the course's notebooks do."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from llmcourse import errors
from llmcourse.errors import UserError
from llmcourse.llama.settings import note, settings

OURS = "__llmcourse__"  # marks a module that was put in place here
LIBRARIES = ("llama", "lamini", "llama2")  # the last as copies of the labs have it
ERRORS = ("UserError", "AuthenticationError", "RateLimitError", "ModelNameError",
          "UnavailableResourceError", "APIError")  # fmt: skip


def install(substitute: bool = False, launch_shape: bool = False) -> None:
    """Put this package's interface in the place of the libraries that are gone.

    From then on, in this process: `import llama`, `from llama import BasicModelRunner`, the same
    from `lamini`, `lamini.api_key = …` (kept, and sent nowhere), `import config` and
    `from dotenv import load_dotenv`, the last two only where there is none of that name.

    Args:
        substitute: See `Settings`.
        launch_shape: See `Settings`.

    Raises:
        UserError: a real package called llama or lamini is installed; nothing was changed.
    """
    for name in LIBRARIES[:2]:
        if where := _real(name):
            raise UserError(
                f"A package called {name!r} is installed here ({where}), and importing {name} "
                f"should give you that one. To use this course's in its place, run `pip uninstall "
                f"{name}` and start the kernel again; or write: from llmcourse import llama"
            )
    settings.substitute, settings.launch_shape = substitute, launch_shape
    for name in LIBRARIES:
        if name == "llama2" and _real(name):
            continue
        there = sys.modules.get(name)  # a key that was set stays
        keys = {one: getattr(there, one, None) for one in ("api_key", "api_url")}
        _put(name, _public() | keys)
    for name, content in (("config", {}), ("dotenv", _dotenv())):
        if not _real(name):
            _put(name, content)


def _public() -> dict[str, Any]:
    """What the old libraries offered at their top."""
    from llmcourse import llama

    return {name: getattr(llama, name) for name in llama.__all__ if name != "install"}


def _real(name: str) -> str:
    """Where a module of somebody else's called `name` is; "" if there is none."""
    there = sys.modules.get(name)
    if there is not None:
        ours = hasattr(there, OURS)
        return "" if ours else str(getattr(there, "__file__", None) or "in this process")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    # (a folder without an __init__.py, such as a clone of Llama's code, is no package)
    return str(spec.origin) if spec and spec.origin else ""


def _put(name: str, content: dict[str, Any]) -> None:
    """Make `name` importable, with its errors as `name.error`."""
    module = sys.modules.get(name) or ModuleType(name, "Stands in for a library of the course's.")
    module.__dict__.update(content)
    setattr(module, OURS, True)
    module.__spec__ = ModuleSpec(name, None, is_package=name in LIBRARIES)
    sys.modules[name] = module
    if name in LIBRARIES:
        module.__path__ = []
        found = {error: getattr(errors, error) for error in ERRORS}
        for inner in ("error", "errors", "error.error"):  # as the libraries' versions had them
            _put(f"{name}.{inner}", found)
            above, _, last = f"{name}.{inner}".rpartition(".")
            setattr(sys.modules[above], last, sys.modules[f"{name}.{inner}"])


def _dotenv() -> dict[str, Any]:
    """python-dotenv's two functions; a key is read from the environment, where there is one."""

    def load_dotenv(*_: Any, **__: Any) -> bool:
        note("ignored", "load_dotenv: python-dotenv is not installed, so no .env file is read")
        return False

    def find_dotenv(*_: Any, **__: Any) -> str:
        return ""

    return {"load_dotenv": load_dotenv, "find_dotenv": find_dotenv}
