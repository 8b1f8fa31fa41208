"""Progress with time left: one line that updates itself, in a notebook as in a terminal.

tqdm does the counting. Only its display is replaced in notebooks: tqdm's own notebook bar is
a widget, and a saved widget shows nothing on GitHub.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from time import perf_counter
from typing import Any

from tqdm import tqdm

from llmcourse.errors import one_of

_FORMAT = "{desc}: {percentage:3.0f}% |{bar:24}| {elapsed} gone, {remaining} left{postfix}"


class Pace:
    """How long a unit of work takes on this machine, from the recent past.

    A machine slows down when it is hot or shared, and units differ (training pauses to evaluate),
    so neither the whole past nor the last unit alone predicts well: the last quarter of the time
    counts, and at least half a minute.
    """

    RECENT = 30.0  # seconds

    def __init__(self) -> None:
        self.parts: list[tuple[float, float]] = []  # (units, seconds), oldest first
        self.seconds = 0.0  # in all

    def add(self, units: float, seconds: float) -> None:
        """Record that `units` more took `seconds`."""
        self.seconds += seconds
        if self.parts and self.parts[-1][1] < 0.5:  # many quick units make one part
            before = self.parts.pop()
            units, seconds = units + before[0], seconds + before[1]
        self.parts.append((units, seconds))

    def each(self) -> float | None:
        """Seconds per unit; None where nothing was done yet."""
        enough = max(self.RECENT, self.seconds / 4)
        done = taken = 0.0
        for units, seconds in reversed(self.parts):
            done, taken = done + units, taken + seconds
            if taken >= enough and done:
                break
        return taken / done if done else None


class _Line(tqdm):
    """A tqdm whose time left follows the recent pace."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.pace, self.last = Pace(), perf_counter()
        super().__init__(*args, **kwargs)

    def update(self, n: float | None = 1) -> bool | None:
        """Count `n` more units as done since the last call."""
        now = perf_counter()
        self.pace.add(n or 0, now - self.last)
        self.last = now
        return super().update(n)

    def resume(self, n: float) -> None:
        """Start at `n` units, which an earlier run has done: they say nothing about the pace."""
        self.n = self.initial = self.last_print_n = n
        self.last = perf_counter()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What tqdm makes the line of; its own rate is that of the last few calls alone."""
        each = self.pace.each()
        return super().format_dict | {"rate": 1 / each if each else None}

    @classmethod
    def write(cls, s: str, file: Any = None, end: str = "\n", nolock: bool = False) -> None:
        """Print without disturbing the bar, with "?" for characters that stdout can't encode."""
        file = sys.stdout if file is None else file
        kind = getattr(file, "encoding", None) or "utf-8"
        super().write(s.encode(kind, "replace").decode(kind), file, end, nolock)


class _NotebookLine(_Line):
    """A tqdm that writes its line into one updatable plain-text output."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)
        self._broken = False
        super().__init__(*args, gui=True, **kwargs)  # gui: tqdm then prints nothing itself

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        line = str(self) if msg is None else msg
        self._handle.update({"text/plain": line}, raw=True)

    def clear(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to clear: the next line replaces this one."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._broken = kind is not None
        if isinstance(error, KeyboardInterrupt):
            # IPython shows these lines instead of all the frames below the learner's cell
            # (documented under "Custom Tracebacks").
            lines = ["KeyboardInterrupt: stopped by you. Run the cell again to start over."]
            error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
        super().__exit__(kind, error, trace)

    def close(self) -> None:
        if not self.disable:
            self.disable: bool = True
            ended = "stopped after" if self._broken else "done in"
            spent = self.format_interval(self.format_dict["elapsed"])
            postfix = f", {self.postfix}" if self.postfix else ""
            self.display(f"{self.desc}: {ended} {spent}{postfix}")


class _Silent(_Line):
    """A disabled bar whose `write` is silent too; tqdm's own prints even then."""

    @classmethod
    def write(cls, *args: Any, **kwargs: Any) -> None:
        """Show nothing."""


def in_notebook() -> bool:
    """True in a Jupyter or Colab kernel, False in a terminal and in plain Python."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def is_live() -> bool:
    """Whether a person runs this in a notebook, and so can press buttons.

    Raises:
        SettingError: `LLMCOURSE_STATIC` is neither 0 nor 1.
    """
    # Buttons in a notebook that a program runs, or that is saved, would do nothing.
    setting = os.environ.get("LLMCOURSE_STATIC", "").strip() or "0"
    one_of("LLMCOURSE_STATIC", setting, ("0", "1"))
    return setting != "1" and in_notebook() and not run_by_program()


def run_by_program() -> bool:
    """Whether a program runs this notebook: its requests say that nobody can type an input."""
    if not in_notebook():
        return False
    kernel = sys.modules["IPython"].get_ipython().kernel
    try:
        request = kernel.get_parent("shell")
    except (AttributeError, TypeError, KeyError):  # other kernels than ipykernel
        return False
    return not request.get("content", {}).get("allow_stdin", True)


def bar(total: float, description: str, *, enabled: bool = True) -> tqdm:
    """A progress bar over `total` units, to be used with `with` and `.update(n)`.

    In a notebook it is one line of text; on a terminal it is on stderr; where stderr is a file
    or a pipe it is silent.
    """
    if not enabled:
        return _Silent(total=total, disable=True)
    # disable=None is tqdm's own way to be silent where stderr is no terminal.
    kind = _NotebookLine if in_notebook() else _Line
    quiet = False if in_notebook() else None
    return kind(
        total=total, desc=description, bar_format=_FORMAT, disable=quiet, leave=False, ascii=False
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the bars and warnings of the libraries; our own line shows the progress.

    The settings behind it are global. So where several threads are in it (a chat widget beside a
    training), the first one in silences the libraries, and the last one out restores them.
    """
    with _Quiet.lock:
        if not _Quiet.users:
            _Quiet.held.enter_context(_silenced())
        _Quiet.users += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.users -= 1
            if not _Quiet.users:
                _Quiet.held.close()


class _Quiet:
    """How many threads are in `quiet`, and what restores the settings."""

    lock, held, users = threading.Lock(), ExitStack(), 0


@contextmanager
def _silenced() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from transformers.utils import logging as hf

        # The hub's client warns about a missing token at each download.
        client = logging.getLogger("huggingface_hub")
        bars, level, client_level = hf.is_progress_bar_enabled(), hf.get_verbosity(), client.level
        hf.disable_progress_bar()
        hf.set_verbosity(logging.ERROR)
        client.setLevel(logging.ERROR)
        try:
            yield
        finally:
            hf.set_verbosity(level)
            client.setLevel(client_level)
            if bars:
                hf.enable_progress_bar()


@contextmanager
def quiet_datasets(*, long: bool = False) -> Iterator[None]:
    """`quiet`, and `datasets` silent too, in this process and in those that it starts.

    Where the work is `long`, the bar of `datasets` stays, with the time left.
    """
    import datasets

    environment, name = os.environ, "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    os.environ[name] = "false"  # set explicitly, tokenizers do not warn when the process forks
    seen = long and (in_notebook() or sys.stderr.isatty())
    (datasets.enable_progress_bars if seen else datasets.disable_progress_bars)()
    datasets.logging.set_verbosity_error()
    try:
        with nullcontext() if seen else quiet():
            yield
    finally:
        # `Dataset.map` (datasets 4) replaces os.environ by a copy, unseen by earlier importers.
        os.environ = environment  # noqa: B003
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
        datasets.logging.set_verbosity(level)
        (datasets.enable_progress_bars if bars else datasets.disable_progress_bars)()
