"""Runs somebody's original notebook of the course, unchanged, and says what became of each cell.

    python -m llmcourse notebook FILE.ipynb --substitute

The kernel is prepared before the first cell (`kernel.begin`): the course's own library is there
(`llama.install`), today's libraries take what the notebook says (`libraries.adapt`), and the helper
file that nobody got is there as `utilities`. A `utilities.py` beside the notebook goes before it.
Every cell runs, also after one has failed. A note beneath a cell says what was substituted,
translated or ignored in it.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import notebooks, tiers
from llmcourse.errors import NotebookError, first_line, is_disk_full
from llmcourse.notebooks import duration

if TYPE_CHECKING:
    import argparse

    from nbformat import NotebookNode

PAIRS_FILE = "lamini_docs.jsonl"  # the file of questions and answers that the notebooks read
EXTRA = ("jsonlines", "dotenv", "openai")  # modules that notebooks import and the course lacks
KERNEL = "__import__('llmcourse_legacy.kernel', fromlist=['kernel'])"


@dataclass(frozen=True)
class Cell:
    """What became of one cell with code.

    Attributes:
        source: Its first line.
        seconds: How long it ran.
        notes: What was substituted, translated or ignored: mappings of `kind` and `text`.
        error: Why it can't run, in a line; "" where it ran.
    """

    source: str
    seconds: float
    notes: tuple[dict[str, str], ...] = ()
    error: str = ""

    def as_text(self) -> str:
        """Lines for people: the cell, what became of it, and each note."""
        outcome = f"can't run: {self.error}" if self.error else "ran"
        if self.notes and not self.error:
            outcome = f"ran, with {len(self.notes)} note{'s' * (len(self.notes) != 1)}"
        shown = self.source if len(self.source) <= 48 else f"{self.source[:47]}…"
        took = f"{self.seconds:.1f} s" if self.seconds < 9.95 else duration(self.seconds)
        notes = [f"    {one['kind']}: {one['text']}" for one in self.notes]
        return "\n".join([shown, f"    {outcome} ({took})", *notes])


def run(
    path: str | Path,
    out: str | Path = "build/labs",
    *,
    substitute: bool = False,
    launch_shape: bool = False,
    say: Callable[[str], Any] = print,
) -> list[Cell]:
    """Run a notebook in its own folder, and write an executed copy and its HTML page.

    Args:
        path: The notebook. It is only read.
        out: Folder for the copies; made if missing.
        substitute: True lets this project's own models and data substitute for those that can't be
            had, and writes `lamini_docs.jsonl` beside a notebook that reads it and lacks it.
        launch_shape: See `llama.install`.
        say: Called with each line of the report.

    Raises:
        NotebookError: there is no such notebook, `out` can't take the copy, what runs notebooks is
            missing, or the kernel can't be prepared.
        NoSpace: the disk is full.
    """
    path, out = Path(path), Path(out)
    notebook = _read(path)
    notebooks.check_out(out, [path])
    cells = [cell for cell in notebook.cells if _has_code(cell)]
    say(f"{path.name}: {_cells(cells)} with code. No time estimate available.")
    if substitute:
        _write_pairs(path, cells, say)
    start, tier = time.perf_counter(), tiers.current().name
    kernel = _Kernel(notebook, path, {"substitute": substitute, "launch_shape": launch_shape}, say)
    with notebooks.environment(LLMCOURSE_TIER=tier):
        try:
            notebooks.execute(kernel)
            kernel.tell_lost()  # not where Ctrl-C ended the kernel
        finally:
            kernel.line.close()
    notebooks.keep(notebook, path, out, tier)
    done = kernel.done
    failed = sum(bool(cell.error) for cell in done)
    noted = sum(bool(cell.notes) and not cell.error for cell in done)
    say(
        f"{path.stem}: {_cells(done)} in {duration(time.perf_counter() - start)}: "
        f"{len(done) - failed - noted} ran unchanged, {noted} ran with notes, {failed} can't run. "
        f"The executed copy is {out / path.name}."
    )
    return done


def _cells(cells: list[Any]) -> str:
    return f"{len(cells)} cell{'s' * (len(cells) != 1)}"


def _has_code(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _read(path: Path) -> NotebookNode:
    """The notebook in `path`, without outputs.

    Raises:
        NotebookError: there is none, or what reads it is missing.
    """
    try:
        import nbclient  # noqa: F401 - said before any work
        import nbconvert  # noqa: F401
        import nbformat
    except ImportError as error:
        raise NotebookError(
            f"Running notebooks from the command line needs {error.name}: "
            f"pip install nbclient nbconvert ipykernel"
        ) from error
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        notebook = nbformat.validator.normalize(notebook)[1]  # older ones lack the cells' ids
        nbformat.validate(notebook)
    except OSError as error:
        raise NotebookError(f"{path}: {error.strerror or first_line(error)}.") from error
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        raise NotebookError(f"{path} is no notebook ({first_line(error)}).") from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
    return notebook


def _write_pairs(path: Path, cells: list[NotebookNode], say: Callable[[str], Any]) -> None:
    """Write the company's questions where a notebook reads a file of them that is not there.

    Raises:
        NotebookError: the folder can't be written to.
    """
    from llmcourse_legacy import sets

    target = path.parent / PAIRS_FILE
    named = re.compile(rf"[\"'](\./)?{re.escape(PAIRS_FILE)}[\"']")
    if target.exists() or not any(named.search(cell.source) for cell in cells):
        return
    rows = [json.dumps(row, ensure_ascii=False) for row in sets.pairs("train")]
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(rows) + "\n")
    except OSError as error:
        if is_disk_full(error):
            target.unlink(missing_ok=True)
        raise NotebookError(
            f"{target} can't be written ({error.strerror}). Copy the notebook into a folder that "
            f"is yours, or put your own {PAIRS_FILE} beside it."
        ) from error
    what = f"{len(rows)} questions and answers of an invented company, Ferrowick"
    say(f"    substituted: {PAIRS_FILE} was not there: {what}, are now in a file of that name")


class _Kernel:
    """A kernel that runs one notebook; `done` fills while it does."""

    def __init__(
        self,
        notebook: NotebookNode,
        path: Path,
        settings: dict[str, bool],
        say: Callable[[str], Any],
    ) -> None:
        from nbclient import NotebookClient

        self.cells = [cell for cell in notebook.cells if _has_code(cell)]
        self.settings, self.say = settings, say
        self.done: list[Cell] = []
        self.since = 0.0  # when the newest cell began
        self.line = notebooks.ProgressLine(path.stem, len(self.cells))
        self.client = NotebookClient(
            notebook,
            timeout=None,
            allow_errors=True,
            skip_cells_with_tag="",
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            extra_arguments=["--IPKernelApp.log_level=50"],  # its advice is not for learners
        )

    @property
    def km(self) -> Any:
        """What manages the kernel's process."""
        return self.client.km

    def execute(self) -> None:
        """Run every cell; where the kernel dies, the rest is left to `tell_lost`.

        Raises:
            NotebookError: there is no kernel, or it can't be prepared.
        """
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import DeadKernelError

        try:
            with self.client.setup_kernel():
                reply = self._ask(f"{KERNEL}.begin(**{self.settings!r})")
                if reply["status"] != "ok":
                    told = reply.get("evalue") or reply.get("ename", "it was stopped")
                    raise NotebookError(f"The kernel could not be prepared: {told}")
                for place, cell in enumerate(self.client.nb.cells):
                    if _has_code(cell):
                        self._one(cell, place)
        except NoSuchKernel as error:
            told = "There is no kernel for Python here: pip install ipykernel"
            raise NotebookError(told) from error
        except DeadKernelError:
            if not self.since:
                raise NotebookError("The kernel died before the first cell.") from None

    def _ask(self, code: str, **expressions: str) -> dict[str, Any]:
        """Run `code` unseen, and what it answers."""
        unseen = {"silent": True, "store_history": False, "user_expressions": expressions}
        return self.client.wait_for_reply(self.client.kc.execute(code, **unseen))["content"]

    def _one(self, cell: NotebookNode, place: int) -> None:
        self.since = time.perf_counter()
        self.client.execute_cell(cell, place, execution_count=len(self.done) + 1)
        seconds = time.perf_counter() - self.since
        failed = [output for output in cell.outputs if output.output_type == "error"]
        error = _reason(failed[-1].ename, failed[-1].evalue, cell.source) if failed else ""
        found = self._ask("", notes=f"{KERNEL}.told()")["user_expressions"]["notes"]
        if found["status"] == "ok":
            notes = json.loads(ast.literal_eval(found["data"]["text/plain"]))
        else:  # where a cell has spoilt Python's own names
            notes = [{"kind": "ignored", "text": f"notes that can't be read ({found['ename']})"}]
        self._tell(cell, seconds, tuple(notes), error)

    def tell_lost(self) -> None:
        """Tell of the cell that ended the kernel, and of those after it."""
        why = "the kernel died in this cell, perhaps for want of memory"
        seconds = time.perf_counter() - self.since
        for cell in self.cells[len(self.done) :]:
            self._tell(cell, seconds, (), why)
            seconds, why = 0.0, "not run, for the kernel had died"

    def _tell(self, cell: NotebookNode, seconds: float, notes: tuple, error: str) -> None:
        self.done.append(Cell(cell.source.strip().splitlines()[0], seconds, notes, error))
        self.line.step()
        self.line.clear()
        self.say(f"[{len(self.done)}/{len(self.cells)}] {self.done[-1].as_text()}")


def _reason(name: str, message: str, source: str) -> str:
    """Why a cell can't run, in a line, with the way out where one is known."""
    said = message.strip().splitlines()
    text = f"{name}: {said[0][:500]}" if said else name
    missing = re.search(r"No module named '(\w+)'", message)
    if name == "ModuleNotFoundError" and missing and missing[1] in EXTRA:
        return f"{text}. Install it: pip install -r requirements-hosted.txt"
    # pandas before 3 takes the name of a file that is not there for the data.
    lost = name == "ValueError" and "Expected object or value" in message and PAIRS_FILE in source
    if lost:
        text = f"{text} (is {PAIRS_FILE} there?)"
    if lost or (name == "FileNotFoundError" and PAIRS_FILE in message):
        return f"{text}. Put yours beside the notebook; --substitute writes one."
    return text


# --- the command ----------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m llmcourse notebook`."""
    parser.add_argument("notebook", metavar="FILE.ipynb", help="it is read, never changed")
    told = "let packaged models and invented data substitute for what can't be had"
    parser.add_argument("--substitute", action="store_true", help=told)
    told = "for the executed copy (default: %(default)s)"
    parser.add_argument("--out", metavar="FOLDER", default="build/labs", help=told)


def main(options: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        The exit code: 0 where every cell ran, 1 otherwise.
    """

    def say(text: str) -> None:
        print(text, flush=True)

    done = run(options.notebook, options.out, substitute=options.substitute, say=say)
    return int(any(cell.error for cell in done))
