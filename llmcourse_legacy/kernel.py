"""The kernel's side of running one of the course's notebooks; `lab` is the other."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmcourse.errors import UserError
from llmcourse.llama.settings import note, settings, taken

# Commands that install something, in a shell line or a magic such as %pip.
INSTALL = re.compile(
    r"\b(pip[\d.]*|conda|mamba|micromamba|apt|apt-get|brew|poetry|npm)\b[^|;&\n]*?"
    r"\s(install|uninstall|update|upgrade|add)\b"
    r"|\beasy_install\b|\buv\b[^|;&\n]*\s(add|sync)\b"
)
SHELLS = ("bash", "sh", "script", "system", "sx", "!", "cmd")  # cell magics

# The evaluation harness's old script, which the course ran from a shell line.
HARNESS = re.compile(r"lm-evaluation-harness\S*main\.py|\bmain\.py\b.*--model[ =]hf-causal")


def begin(substitute: bool = False, launch_shape: bool = False, steps: int | None = None) -> None:
    """Prepare this kernel for one of the course's notebooks.

    Raises:
        UserError: see `llama.install`.
    """
    from IPython import get_ipython

    from llmcourse_legacy import helpers, installing, libraries

    installing.install(substitute=substitute, launch_shape=launch_shape)
    settings.steps = steps
    libraries.adapt(substitute)  # before the notebook imports a name from them
    if importlib.util.find_spec("utilities") is None:
        sys.modules["utilities"] = helpers
    # `!python` and `!pip` are this environment's, whatever the shell that started the kernel has.
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", "")])
    shell = get_ipython()
    for name in ("system", "getoutput"):
        setattr(shell, name, guarded(getattr(shell, name)))
    # `%pip` and `!pip` both end in `shell.system`; cell magics start a process themselves.
    shell.run_cell_magic = _without_installs(shell.run_cell_magic)


def guarded(original: Callable) -> Callable:
    """A shell command's runner that installs nothing and explains the harness's lost script."""

    def call(command: str, *more: Any, **given: Any) -> Any:
        if HARNESS.search(command):
            raise UserError(harness_gone(command))
        return _ignore(command) if INSTALL.search(command) else original(command, *more, **given)

    return call


def _without_installs(original: Callable) -> Callable:
    """A runner of `%%bash` and its like that leaves out the lines which install something."""

    def call(magic: str, line: str, cell: str) -> Any:
        if magic in SHELLS:
            lines = cell.splitlines(keepends=True)
            for each in filter(INSTALL.search, lines):
                _ignore(each)
            cell = "".join(each for each in lines if not INSTALL.search(each))
        return original(magic, line, cell)

    return call


def _ignore(command: str) -> None:
    """Do not run an install: it would change the course's environment, over the network."""
    why = "nothing is installed here. What the labs need comes with the course"
    more = f"for more, use {sys.executable} -m pip in a terminal"
    note("ignored", f"{command.strip()}: {why}; {more}")


def harness_gone(command: str) -> str:
    """What to run instead of the evaluation harness's old script, with its model and tasks."""
    tasks = re.search(r"--tasks[ =](\S+)", command)
    model = re.search(r"pretrained=[\"']?([^\s,\"']+)", command)
    options = f"--model {model[1] if model else 'FOLDER'}"
    options += f" --tasks {tasks[1].replace(',', ' ') if tasks else 'arc_easy'}"
    return (
        f"The harness's main.py is gone, so this line is not run. The same measurement today: "
        f"python -m llmcourse harness {options} (after: pip install -r requirements-harness.txt)"
    )


def notes() -> str:
    """The notes since the last call, as JSON; for the notebook's runner."""
    return json.dumps(taken())
