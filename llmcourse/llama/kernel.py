"""The kernel's side of running one of the course's notebooks; `lab` is the other."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from llmcourse.errors import UserError

# The evaluation harness's old script, which the course ran from a shell line.
HARNESS = re.compile(r"lm-evaluation-harness\S*main\.py|\bmain\.py\b.*--model[ =]hf-causal")


def begin(substitute: bool = False, launch_shape: bool = False) -> None:
    """Prepare this kernel for one of the course's notebooks.

    Raises:
        UserError: see `llama.install`.
    """
    from IPython import get_ipython

    from llmcourse import llama
    from llmcourse.llama import libraries

    llama.install(substitute=substitute, launch_shape=launch_shape)
    libraries.adapt(substitute)
    if importlib.util.find_spec("utilities") is None:
        from llmcourse.llama import helpers

        sys.modules["utilities"] = helpers
    shell = get_ipython()
    for name in ("system", "getoutput"):
        setattr(shell, name, _guarded(getattr(shell, name)))


def _guarded(original: Callable) -> Callable:
    """A shell command's runner that knows the one command which is gone."""

    def call(command: str, *more: Any, **given: Any) -> Any:
        if HARNESS.search(command):
            raise UserError(harness_gone(command))
        return original(command, *more, **given)

    return call


def harness_gone(command: str) -> str:
    """What to run in the place of the evaluation harness's old script.

    Args:
        command: The notebook's line, whose model and tasks are taken over.
    """
    tasks = re.search(r"--tasks[ =](\S+)", command)
    model = re.search(r"pretrained=[\"']?([^\s,\"']+)", command)
    asked = f"--model {model[1] if model else 'FOLDER'}"
    asked += f" --tasks {tasks[1].replace(',', ' ') if tasks else 'arc_easy'}"
    return (
        f"The harness's main.py is gone, so this line is not run. The same measurement today: "
        f"python -m llmcourse harness {asked} (after: pip install -r requirements-harness.txt)"
    )


def told() -> str:
    """The notes since the last call, as JSON; for the notebook's runner."""
    from llmcourse.llama.settings import taken

    return json.dumps(taken())
