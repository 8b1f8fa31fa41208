"""Running the lesson notebooks from the command line, with progress and time left.

A notebook's metadata keeps a fingerprint of the sources its outputs were made from, so that a
test can tell when outputs no longer belong to the source.
"""

from __future__ import annotations

import copy
import hashlib
import html
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.errors import NoSpace, NotebookError, first_line
from llmcourse.files import work_dir, write_json, write_text
from llmcourse.progress import Pace

if TYPE_CHECKING:
    from nbformat import NotebookNode


ELSEWHERE = " (published times, of another machine; yours shows in the first lessons)"


@dataclass(frozen=True)
class Run:
    """What happened to one notebook.

    Attributes:
        name: The notebook's name without its ending.
        seconds: How long it took.
        peak_bytes: The most memory its kernel held.
        error: What went wrong and in which cell; "" where all went well.
        cells: Seconds that each code cell took.
    """

    name: str
    seconds: float
    peak_bytes: int
    error: str
    cells: tuple[float, ...] = ()


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

    Published are the times of machines that compute in bfloat16 and of those that don't. They are
    scaled by what this machine took for the lessons that ran here. A lesson that was never timed
    counts as the tier's limit.
    """
    published, own = published_times(tier, number_type()), own_times(tier)
    both = published.keys() & own.keys()
    pace = (
        sum(own[name]["seconds"] for name in both)
        / sum(published[name]["seconds"] for name in both)
        if both
        else 1.0
    )
    limit = tiers.TIERS[tier].minutes * 60
    return {
        name: own[name]["seconds"]
        if name in own
        else published.get(name, {"seconds": limit})["seconds"] * pace
        for name in names
    }


def published_times(tier: str, kind: str = "bfloat16") -> dict[str, dict[str, Any]]:
    """Seconds (in all and a code cell) and peak gigabytes of each lesson, from `run --save`.

    Args:
        tier: Name of the tier.
        kind: What the models compute in, as `number_type` gives it.
    """
    text = resources.files("llmcourse").joinpath("times.json").read_text(encoding="utf-8")
    return json.loads(text).get(kind, {}).get(tier, {})


def number_type() -> str:
    """What models compute in here, of the two kinds that times are published for."""
    return "float32" if str(tiers.dtype()) == "torch.float32" else "bfloat16"


def own_times(tier: str) -> dict[str, dict[str, Any]]:
    """The same as earlier runs measured here; {} where there was none, or its file is damaged."""
    try:
        kept = json.loads(_times_path(tier).read_text(encoding="utf-8"))
        return {name: entry for name, entry in kept.items() if entry["seconds"] >= 0}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
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
    names = [path.stem for path in paths]
    expected, known = expected_seconds(names, tier), published_times(tier) | own_times(tier)
    say(
        f"{len(paths)} lesson{'s' * (len(paths) != 1)} on the {tier} tier, "
        f"about {duration(sum(expected.values()))} in all{'' if own_times(tier) else ELSEWHERE}"
    )
    runs: list[Run] = []
    pace = Pace()  # its units are expected seconds
    for number, path in enumerate(paths, 1):
        name, here = path.stem, f"[{number}/{len(paths)}] {path.stem}: "
        each = pace.each() or 1
        say(f"{here}about {duration(expected[name] * each)}")
        cells = known.get(name, {}).get("cells", ())
        done = _run_one(path, out, tier, save, partial(Estimate, expected[name], cells, pace))
        runs.append(done)
        if not done.error:  # one that failed was not as long as expected
            pace.add(expected[name], done.seconds)
        left = sum(expected[later] for later in names[number:]) * (pace.each() or 1)
        say(
            f"{here}{'failed' if done.error else 'done'} in {duration(done.seconds)}, "
            f"{done.peak_bytes / 1e9:.1f} GB of memory at most"
            + (f"; about {duration(left)} left" if left else "")
        )
    times = {
        done.name: {
            "seconds": round(done.seconds),
            "peak_gb": round(done.peak_bytes / 1e9, 1),
            "cells": list(done.cells),
        }
        for done in runs
        if not done.error
    }
    try:
        write_json(_times_path(tier), own_times(tier) | times)
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


def _run_one(
    path: Path, out: Path, tier: str, save: bool, estimate: Callable[[int], Estimate]
) -> Run:
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
    left = estimate(len(cells))
    line = ProgressLine(path.stem, len(cells), left)
    client = NotebookClient(
        notebook,
        timeout=None,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=lambda **_: line.step(),
        extra_arguments=["--IPKernelApp.log_level=40"],  # its advice is not for learners
    )
    start, wrong = perf_counter(), ""
    with environment(LLMCOURSE_TIER=tier), _peak_memory(client) as peak:
        try:
            execute(client)
        except CellExecutionError as failed:
            where = sum(1 for cell in cells if cell.get("execution_count"))
            wrong = f"code cell {where}: {failed.ename}: {failed.evalue}"
        except DeadKernelError:
            wrong = "the kernel died, most likely for want of memory; close other programs"
        except NoSuchKernel as failed:
            wrong = f"there is no kernel {failed.name!r} here: pip install ipykernel"
        finally:
            line.close()
    seconds = perf_counter() - start
    text = keep(notebook, path, out, tier)
    if save and not wrong:
        if path.read_bytes() == before:
            write_text(path, text)
        else:
            wrong = f"{path} was changed while it ran, so it was left alone; see {out / path.name}"
    return Run(path.stem, seconds, peak[0], wrong, tuple(left.taken))


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


class Estimate:
    """How long a notebook still takes, from what it and its cells are expected to take.

    Args:
        expected: Seconds of the whole notebook.
        known: Seconds of each code cell; of no use where there are more or fewer cells by now.
        pace: Of the lessons before, its units being expected seconds.
        cells: How many code cells there are.
    """

    TRUSTED = 5.0  # expected seconds: what quicker cells take says little about the others

    def __init__(self, expected: float, known: Sequence[float], pace: Pace, cells: int) -> None:
        whole = sum(known) if len(known) == cells else 0
        self.known = [seconds * expected / whole for seconds in known] if whole else []
        self.expected, self.pace = expected, copy.deepcopy(pace)
        self.taken: list[float] = []
        self.start = self.last = perf_counter()

    def step(self) -> None:
        """A code cell has ended."""
        now = perf_counter()
        self.taken.append(round(now - self.last, 1))
        if self.known:
            self.pace.add(self.known[len(self.taken) - 1], now - self.last)
        self.last = now

    def left(self) -> float:
        """Seconds from now, at least 0."""
        each, now = (
            (self.pace.each() or 1) if self.pace.units >= self.TRUSTED else 1,
            perf_counter(),
        )
        if self.known:
            return max(0.0, sum(self.known[len(self.taken) :]) * each - (now - self.last))
        return max(0.0, self.expected * each - (now - self.start))


class ProgressLine:
    """A line on a terminal that says how far a notebook is; silent where output is a file."""

    def __init__(self, name: str, cells: int, estimate: Estimate | None = None) -> None:
        self.name, self.cells, self.estimate = name, cells, estimate
        self.done, self.start, self.ended = 0, perf_counter(), threading.Event()
        self.shown = sys.stderr.isatty()
        if self.shown:
            threading.Thread(target=self._tell, daemon=True).start()

    def step(self) -> None:
        self.done += 1
        if self.estimate:
            self.estimate.step()

    def _tell(self) -> None:
        while not self.ended.wait(1):
            left = round(self.estimate.left()) if self.estimate else 0
            rest = f"{duration(left)} left" if left else "longer than expected"
            text = (
                f"  cell {self.done + 1} of {self.cells}, {duration(perf_counter() - self.start)} "
                f"gone, {rest if self.estimate else 'time left unknown'}"
            )
            print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for another line."""
        if self.shown:
            print("\r" + " " * 60, end="\r", file=sys.stderr, flush=True)

    def close(self) -> None:
        self.ended.set()
        self.clear()


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
    """Watch the kernel's resident memory, ten times a second; the list's one item is the most."""
    import psutil

    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
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
