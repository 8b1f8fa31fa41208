"""Makes `import llama` and `import lamini` work in this process, as the notebooks expect."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from llmcourse import llama
from llmcourse.errors import UserError
from llmcourse.llama.settings import note, settings

OURS = "__llmcourse__"  # marks a module that was put here
LIBRARIES = ("llama", "lamini")
ERRORS = [name for name in llama.__all__ if name.endswith("Error")]


def install(substitute: bool = False, launch_shape: bool = False) -> None:
    """Make this package's interface importable under the names of the libraries that are gone.

    From then on these work in this process: `import llama`, `from llama import BasicModelRunner`,
    the same from `lamini`, `lamini.api_key = …` (kept, and sent nowhere), and, where nothing of
    that name is installed, `llama2`, `import config` and `from dotenv import load_dotenv`.

    Args:
        substitute: See `Settings`.
        launch_shape: See `Settings`.

    Raises:
        UserError: a real package called llama or lamini is installed; nothing was changed.
    """
    for name in LIBRARIES:
        if where := _real(name):
            raise UserError(
                f"A package called {name!r} is installed here ({where}), and importing {name} "
                f"should give you that one. To use this course's instead, run `pip uninstall "
                f"{name}` and start the kernel again; or write: from llmcourse import llama"
            )
    settings.substitute, settings.launch_shape = substitute, launch_shape
    public = {name: getattr(llama, name) for name in llama.__all__ if name != "install"}
    errors = {name: public[name] for name in ERRORS}
    for name in (*LIBRARIES, "llama2"):
        if _real(name):
            continue
        kept = vars(sys.modules.get(name, ModuleType(name)))  # a key set before stays
        keys = {key: kept.get(key) for key in ("api_key", "api_url")}
        module = _put(name, public | keys)
        for inner in ("error", "errors"):  # as the libraries' versions had them
            setattr(module, inner, _put(f"{name}.{inner}", errors))
        module.error.error = _put(f"{name}.error.error", errors)
    for name, content in (("config", {}), ("dotenv", DOTENV)):
        if not _real(name):
            _put(name, content)


def _real(name: str) -> str:
    """Where a module called `name` is that is not ours; "" if there is none."""
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


def _put(name: str, content: dict[str, Any]) -> Any:
    """Make `name` importable."""
    # The same module object again, so that what a notebook has imported stays valid.
    module = sys.modules.setdefault(name, ModuleType(name, "Of the course's old library."))
    vars(module).update(content, __path__=[], **{OURS: True})
    # Without a spec, `importlib.util.find_spec` raises for a module in `sys.modules`.
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    return module


def load_dotenv(*_: Any, **__: Any) -> bool:
    """python-dotenv's function; a key is read from the environment instead."""
    note("ignored", "load_dotenv: python-dotenv is not installed, so no .env file is read")
    return False


DOTENV: dict[str, Any] = {"load_dotenv": load_dotenv, "find_dotenv": lambda *_, **__: ""}
