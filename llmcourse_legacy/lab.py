"""Runs an original notebook of the course, unchanged, and reports on each cell.

    python -m llmcourse notebook FILE.ipynb --substitute

The kernel is prepared before the first cell (`kernel.begin`): the course's own library is there
(`llama.install`), today's libraries accept what the notebook says (`libraries.adapt`), and the
helper file that was never published is there as `utilities`. A `utilities.py` beside the notebook
wins over it. Every cell runs, also after one has failed. A note below a cell says what was
substituted, translated or ignored in it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import notebooks
from llmcourse.errors import NotebookError
from llmcourse.files import write_lines
from llmcourse.notebooks import duration
from llmcourse.progress import bar

if TYPE_CHECKING:
    from nbformat import NotebookNode

PAIRS_FILE = "lamini_docs.jsonl"  # the file of questions and answers that the notebooks read
READS_PAIRS = re.compile(rf"[\"'](\./)?{re.escape(PAIRS_FILE)}[\"']")
TRAINS = re.compile(r"\.train\(.*is_public|model_name_to_id\[")  # not transformers' Trainer
EXTRA = ("jsonlines", "dotenv", "openai")  # modules that notebooks import and the course lacks
KERNEL = "__import__('llmcourse_legacy.kernel', fromlist=['kernel'])"


@dataclass(frozen=True)
class Cell:
    """The result of one code cell.

    Attributes:
        source: Its first line.
        seconds: How long it ran.
        notes: What was substituted, translated or ignored: mappings of `kind` and `text`.
        error: Why it can't run, in one line; "" where it ran.
    """

    source: str
    seconds: float
    notes: tuple[dict[str, str], ...] = ()
    error: str = ""

    def as_text(self) -> str:
        """The cell, its result, and each note, a line each."""
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
    steps: int | None = None,
    say: Callable[[str], Any] = print,
) -> list[Cell]:
    """Run a notebook in its own folder, and write an executed copy and its HTML page.

    Args:
        path: The notebook. It is only read.
        out: Folder for the copies; made if missing.
        substitute: True replaces models and data that are gone by this project's own, and writes
            `lamini_docs.jsonl` beside a notebook that reads it and lacks it.
        launch_shape: See `llama.install`.
        steps: The most updates of a training that does not say so itself.
        say: Called with each line of the report.

    Raises:
        NotebookError: there is no such notebook, the copies can't go to `out`, a package that runs
            notebooks is missing, or the kernel can't be prepared.
        NoSpace: the disk is full.
    """
    path, out = Path(path), Path(out)
    notebooks.check_ready(out, [path])
    notebook = notebooks.read(path)
    cells = [cell for cell in notebook.cells if _has_code(cell)]
    say(f"{path.name}: {_counted(cells)} with code. No time estimate available.")
    if substitute:
        _write_pairs(path.parent, cells, say)
    start = time.perf_counter()
    if not steps and any(TRAINS.search(cell.source) for cell in cells):
        say(
            "    It trains a model, which took over five minutes on two cores; --steps 20 ends "
            "each training after 20 updates."
        )
    settings = {"substitute": substitute, "launch_shape": launch_shape, "steps": steps}
    with bar(len(cells), path.stem) as line:

        def report(text: str) -> None:
            line.update()
            line.clear()
            say(text)

        done = _Execution(notebook, path.parent, settings, report).run(line.refresh)
    notebooks.keep(notebook, path, out)
    failed = sum(bool(cell.error) for cell in done)
    noted = sum(bool(cell.notes) and not cell.error for cell in done)
    say(
        f"{path.stem}: {_counted(done)} in {duration(time.perf_counter() - start)}: "
        f"{len(done) - failed - noted} ran unchanged, {noted} ran with notes, {failed} can't run. "
        f"The executed copy is {out / path.name}."
    )
    return done


def _counted(cells: list[Any]) -> str:
    return f"{len(cells)} cell{'s' * (len(cells) != 1)}"


def _has_code(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip())


def _write_pairs(folder: Path, cells: list[NotebookNode], say: Callable[[str], Any]) -> None:
    """Write the company's questions into `folder` where a cell reads a missing file of them.

    Raises:
        NotebookError: the folder can't be written to.
        NoSpace: the disk is full.
    """
    from llmcourse_legacy import sets

    target = folder / PAIRS_FILE
    if target.exists() or not any(READS_PAIRS.search(cell.source) for cell in cells):
        return
    rows = sets.pairs("train")
    try:
        write_lines(target, rows)
    except OSError as error:
        raise NotebookError(
            f"{target} can't be written ({error.strerror}). Copy the notebook into a folder that "
            f"is yours, or put your own {PAIRS_FILE} beside it."
        ) from error
    what = f"{len(rows)} questions and answers of an invented company, Ferrowick"
    say(f"    substituted: {PAIRS_FILE} was not there: {what}, are now in a file of that name")


class _Execution:
    """A notebook in its kernel; `done` fills while it runs."""

    def __init__(
        self,
        notebook: NotebookNode,
        folder: Path,
        settings: dict[str, Any],
        say: Callable[[str], Any],
    ) -> None:
        from nbclient import NotebookClient

        self.cells = [cell for cell in notebook.cells if _has_code(cell)]
        self.folder, self.settings, self.say = folder, settings, say
        self.done: list[Cell] = []
        self.since = 0.0  # when the current cell began
        self.client = NotebookClient(
            notebook,
            timeout=None,
            allow_errors=True,
            skip_cells_with_tag="",
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--IPKernelApp.log_level=50"],  # its advice is not for learners
            on_cell_execute=self._begin,
            on_cell_executed=self._end,
        )

    def run(self, tick: Callable[[], Any]) -> list[Cell]:
        """Run every cell; where the kernel dies, the cells after it can't run.

        Raises:
            NotebookError: there is no kernel, or it can't be prepared.
        """
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient.exceptions import DeadKernelError

        try:
            notebooks.execute(self.client, tick)
        except NoSuchKernel as error:
            why = "There is no kernel for Python here: pip install ipykernel"
            raise NotebookError(why) from error
        except DeadKernelError:
            if not self.since:
                raise NotebookError("The kernel died before the first cell.") from None
            seconds, why = time.perf_counter() - self.since, "the kernel died in this cell"
            for cell in self.cells[len(self.done) :]:
                self._report(cell, seconds, (), why)
                seconds, why = 0.0, "not run, because the kernel had died"
        return self.done

    async def _ask(self, code: str, **expressions: str) -> dict[str, Any]:
        """Run `code` without a trace in the notebook; the kernel's reply."""
        hidden = {"silent": True, "store_history": False, "user_expressions": expressions}
        sent = self.client.kc.execute(code, **hidden)
        return (await self.client.async_wait_for_reply(sent))["content"]

    async def _begin(self, **_: Any) -> None:
        """Called before each cell."""
        if not self.since:
            reply = await self._ask(f"{KERNEL}.begin(**{self.settings!r})")
            if reply["status"] != "ok":
                why = reply.get("evalue") or reply.get("ename", "it was stopped")
                raise NotebookError(f"The kernel could not be prepared: {why}")
        self.since = time.perf_counter()

    async def _end(self, cell: NotebookNode, **_: Any) -> None:
        """Called after each cell."""
        seconds, error = time.perf_counter() - self.since, ""
        for output in cell.outputs:
            if output.output_type == "error":
                message = output.evalue.strip().splitlines()
                error = ": ".join([output.ename, *[line[:500] for line in message[:1]]])
                error += _advice(cell.source, self.folder)
        reply = await self._ask("", notes=f"{KERNEL}.notes()")
        found = reply["user_expressions"]["notes"]
        if found["status"] == "ok":
            notes = json.loads(ast.literal_eval(found["data"]["text/plain"]))
        else:  # a cell may have overwritten Python's own names
            notes = [{"kind": "ignored", "text": f"notes that can't be read ({found['ename']})"}]
        self._report(cell, seconds, tuple(notes), error)

    def _report(self, cell: NotebookNode, seconds: float, notes: tuple, error: str) -> None:
        self.done.append(Cell(cell.source.strip().splitlines()[0], seconds, notes, error))
        self.say(f"[{len(self.done)}/{len(self.cells)}] {self.done[-1].as_text()}")


def _advice(source: str, folder: Path) -> str:
    """What helps a failed cell, judged by what it uses and what is missing here."""
    if READS_PAIRS.search(source) and not (folder / PAIRS_FILE).exists():
        return ". Put yours beside the notebook; --substitute writes one."
    if any(name in source and importlib.util.find_spec(name) is None for name in EXTRA):
        return ". Install it: pip install -r requirements-hosted.txt"
    return ""
