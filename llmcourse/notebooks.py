"""Running the lesson notebooks from the command line, with progress and time left.

A notebook's metadata keeps a fingerprint of the sources its outputs were made from, so that a
test can tell when outputs no longer belong to the source.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import NoSpace, NotebookError, first_line
from llmcourse.files import work_dir, write_json, write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True)
class Run:
    """What happened to one notebook.

    Attributes:
        name: The notebook's name without its ending.
        seconds: How long it took.
        peak_bytes: The most memory its kernel held.
        error: What went wrong and in which cell; "" where all went well.
    """

    name: str
    seconds: float
    peak_bytes: int
    error: str


def folder(given: str | None = None) -> Path:
    """The folder with the lessons: the one given, ./notebooks, or the one beside this package.

    Raises:
        NotebookError: there is none.
    """
    beside = Path(__file__).resolve().parent.parent / "notebooks"
    for candidate in [Path(given)] if given else [Path("notebooks"), Path(), beside]:
        if find(candidate):
            return candidate
    raise NotebookError(
        f"There are no lessons in {given or 'this folder'}. Go to the folder that holds "
        f"`notebooks/`, or name it with --notebooks FOLDER."
    )


def find(where: Path, numbers: list[str] | None = None) -> list[Path]:
    """The lessons in `where`, in order; only those whose number or name is given, if any are.

    Raises:
        NotebookError: a number that no lesson has.
    """
    lessons = sorted(where.glob("[0-9][0-9]_*.ipynb"))
    if not numbers:
        return lessons
    chosen = []
    for wanted in numbers:
        key = wanted.zfill(2) if wanted.isdigit() else Path(wanted).stem
        found = [path for path in lessons if path.stem == key or path.stem[:2] == key]
        if not found:
            there = ", ".join(path.stem for path in lessons)
            raise NotebookError(f"There is no lesson {wanted!r}. There are: {there}.")
        chosen += found
    return chosen


def fingerprint(notebook: NotebookNode | dict[str, Any]) -> str:
    """SHA-256 over the code cells' sources: what the outputs follow from."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    texts = ["".join(source) if isinstance(source, list) else source for source in sources]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def expected_seconds(names: list[str], tier: str) -> dict[str, float]:
    """Seconds each lesson takes: as last seen on this machine, else as published.

    Published are the times of machines that compute in bfloat16 and of those that don't. A lesson
    that was never timed counts as the tier's limit.
    """
    known = published_times(tier, number_type()) | _own_times(tier)
    limit = tiers.TIERS[tier].minutes * 60
    return {name: known.get(name, {}).get("seconds", limit) for name in names}


def published_times(tier: str, kind: str = "bfloat16") -> dict[str, dict[str, float]]:
    """Seconds and peak gigabytes a lesson, as measured by `run --save` for the README.

    Args:
        tier: Name of the tier.
        kind: What the models compute in, as `number_type` gives it.
    """
    text = resources.files("llmcourse").joinpath("times.json").read_text(encoding="utf-8")
    return json.loads(text).get(kind, {}).get(tier, {})


def number_type() -> str:
    """What models compute in here, of the two kinds that times are published for."""
    return "float32" if str(tiers.dtype()) == "torch.float32" else "bfloat16"


def _own_times(tier: str) -> dict[str, dict[str, float]]:
    """What was measured here before; entries that make no sense are left out."""
    try:
        kept = json.loads(_times_path(tier).read_text(encoding="utf-8"))
        return {
            name: entry for name, entry in kept.items()
            if isinstance(entry, dict) and isinstance(entry.get("seconds"), int | float)
        }  # fmt: skip
    except (OSError, ValueError, AttributeError):
        return {}


def _times_path(tier: str) -> Path:
    return work_dir() / f"times-{tier}.json"


def duration(seconds: float) -> str:
    """Seconds for people: "45 s", "4 min", "1 min 25 s"."""
    whole, rest = divmod(round(seconds), 60)
    return " ".join([f"{whole} min"] * bool(whole) + [f"{rest} s"] * bool(rest or not whole))


def run(
    paths: list[Path], out: Path, tier: str, *, save: bool = False, say: Callable = print
) -> list[Run]:
    """Execute lessons one after the other, each in a kernel of its own.

    Every lesson is tried, also after one failed. An executed copy and an HTML page of each are
    left in `out`, with the error in its place where one failed.

    Args:
        paths: The notebooks.
        out: Folder for the executed copies; made if missing.
        tier: The tier to run on.
        save: True also writes the outputs into the notebooks themselves.
        say: Takes each line of progress.

    Raises:
        NotebookError: `out` is a file, or the lessons' own folder.
    """
    check_out(out, paths)
    expected = expected_seconds([path.stem for path in paths], tier)
    say(
        f"{len(paths)} lesson{'s' * (len(paths) != 1)} on the {tier} tier, "
        f"about {duration(sum(expected.values()))} in all"
    )
    runs: list[Run] = []
    for number, path in enumerate(paths):
        left = sum(expected[later.stem] for later in paths[number:])
        say(f"[{number + 1}/{len(paths)}] {path.stem}: about {duration(expected[path.stem])}")
        done = _run_one(path, out, tier, save, expected[path.stem])
        runs.append(done)
        left -= expected[path.stem]
        outcome = "failed" if done.error else "done"
        say(
            f"[{number + 1}/{len(paths)}] {path.stem}: {outcome} in {duration(done.seconds)}, "
            f"{done.peak_bytes / 1e9:.1f} GB of memory at most"
            + (f"; about {duration(left)} left" if left else "")
        )
    times = {
        done.name: {"seconds": round(done.seconds), "peak_gb": round(done.peak_bytes / 1e9, 1)}
        for done in runs
        if not done.error
    }
    try:
        write_json(_times_path(tier), _own_times(tier) | times)
    except (OSError, NoSpace) as error:
        say(f"The times could not be kept for the next run: {first_line(error)}")
    return runs


def check_out(out: Path, paths: list[Path]) -> None:
    """Refuse, before any work, a place for the copies that would lose something."""
    for parent in (out, *out.parents):
        if parent.exists() and not parent.is_dir():
            raise NotebookError(f"--out {out}: {parent} is a file. Name a folder.")
    if any(out.resolve() == path.parent.resolve() for path in paths):
        raise NotebookError(
            f"--out {out} is the folder of the lessons themselves: the copies would replace them. "
            f"Name another folder, or use --save to keep the outputs in the lessons."
        )


def _run_one(path: Path, out: Path, tier: str, save: bool, expected: float) -> Run:
    try:
        import nbformat
        from jupyter_client.kernelspec import NoSuchKernel
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        raise NotebookError(
            f"Running lessons from the command line needs {error.name}: "
            f"pip install nbclient nbconvert ipykernel"
        ) from error

    try:
        before = path.read_bytes()
        notebook = nbformat.reads(before.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        return Run(path.stem, 0, 0, f"{path} is no notebook ({first_line(error)})")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:  # so that an error's place is not told from an older run's numbers
        cell.execution_count, cell.outputs = None, []
    line = ProgressLine(path.stem, len(cells), expected)
    client = NotebookClient(
        notebook, timeout=None, resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda **_: line.step(),
        extra_arguments=["--IPKernelApp.log_level=40"],  # its advice is not for learners
    )  # fmt: skip
    start, error = time.perf_counter(), ""
    with environment(LLMCOURSE_TIER=tier), _peak_memory(client) as peak:
        try:
            execute(client)
        except CellExecutionError as failed:
            where = sum(1 for cell in cells if cell.get("execution_count"))
            error = f"code cell {where}: {failed.ename}: {failed.evalue}"
        except DeadKernelError:
            error = "the kernel died, most likely for want of memory; close other programs"
        except NoSuchKernel as failed:
            error = f"there is no kernel {failed.name!r} here: pip install ipykernel"
        finally:
            line.close()
    seconds = time.perf_counter() - start
    text = keep(notebook, path, out, tier)
    if save and not error:
        if path.read_bytes() == before:
            write_text(path, text)
        else:
            error = f"{path} was changed while it ran, so it was left alone; see {out / path.name}"
    return Run(path.stem, seconds, peak[0], error)


def execute(client: Any) -> None:
    """Run the notebook in a thread, so that Ctrl-C reaches us and not nbclient's own handlers."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.execute)
        try:
            while True:
                try:
                    return running.result(timeout=0.5)
                except TimeoutError:
                    if running.done():
                        raise
        except KeyboardInterrupt:
            _end_kernel(client)
            raise


def _end_kernel(client: Any) -> None:
    import psutil

    try:
        kernel = psutil.Process(client.km.provisioner.pid)
        for process in [*kernel.children(recursive=True), kernel]:
            process.kill()
    except (AttributeError, psutil.Error):
        pass  # it had not started, or is gone already


def keep(notebook: NotebookNode, path: Path, out: Path, tier: str) -> str:
    """Write the executed copy and its HTML page; return the copy's text."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps would differ at every run
    notebook.metadata.pop("widgets", None)
    notebook.metadata["llmcourse"] = {"sources": fingerprint(notebook), "tier": tier}
    notebook.metadata["language_info"] = {"name": "python"}
    text = nbformat.writes(notebook) + "\n"
    write_text(out / path.name, text)
    write_text(out / f"{path.stem}.html", html_page(notebook))
    return text


def html_page(notebook: NotebookNode) -> str:
    """An executed notebook as a page of HTML, its pictures inside and described in words.

    nbconvert (7.17) leaves out the alternative text of outputs; it is put back here, picture by
    picture.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True)
    exporter.log.setLevel("ERROR")  # it would warn of what is mended below
    page, _ = exporter.from_notebook_node(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            kinds = [kind for kind in _PICTURES if kind in output.get("data", {})]
            for kind in kinds[:1]:  # an SVG may have a PNG beside it
                words = html.escape(output.metadata.get(kind, {}).get("alt", ""))
                page = page.replace(f'alt="{_UNDESCRIBED}"', f'alt="{words}"', 1)
    return page


_PICTURES = ("image/svg+xml", "image/png")
_UNDESCRIBED = "No description has been provided for this image"  # nbconvert's words


class ProgressLine:
    """A line on a terminal that says how far a notebook is; silent where output is a file."""

    def __init__(self, name: str, cells: int, expected: float) -> None:
        self.name, self.cells, self.expected = name, cells, expected
        self.done, self.start, self.ended = 0, time.perf_counter(), threading.Event()
        self.shown = sys.stderr.isatty()
        if self.shown:
            threading.Thread(target=self._tell, daemon=True).start()

    def step(self) -> None:
        self.done += 1

    def _tell(self) -> None:
        while not self.ended.wait(1):
            gone = time.perf_counter() - self.start
            left = duration(self.expected - gone) if gone < self.expected else "a little"
            text = f"  cell {self.done + 1} of {self.cells}, {duration(gone)} gone, {left} left"
            print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        self.ended.set()
        if self.shown:
            print("\r" + " " * 60, end="\r", file=sys.stderr, flush=True)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the kernels started inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def _peak_memory(client: Any) -> Iterator[list[int]]:
    """Watch the kernel's resident memory, twice a second; the list's one item is the most."""
    import psutil

    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            try:
                process = psutil.Process(client.km.provisioner.pid)
                peak[0] = max(peak[0], process.memory_info().rss)
            except (AttributeError, psutil.Error):
                continue  # not started yet, or just ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
