"""Running the lesson notebooks from the command line, with progress and time left.

A notebook's metadata keeps a fingerprint of the sources that its outputs were made from, so that a
test can tell when outputs no longer belong to the source.
"""

from __future__ import annotations

import hashlib
import html
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import psutil

from llmcourse import tiers
from llmcourse.errors import NoSpace, NotebookError, SettingError, first_line
from llmcourse.files import is_writable, work_dir, writable_cache, write_json, write_text
from llmcourse.progress import Pace, bar

if TYPE_CHECKING:
    from nbformat import NotebookNode

ELSEWHERE = " (published times, of another machine; yours shows in the first lessons)"
# nbconvert's page without the scripts that it fetches from another machine
OFFLINE = (
    '{% extends "lab/index.html.j2" %}{% block html_head_js %}{% endblock %}'
    "{% block html_head_js_mathjax %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}"
)
TOOLS = ("nbformat", "nbclient", "nbconvert", "ipykernel")  # packages that run notebooks


@dataclass(frozen=True)
class Run:
    """What happened to one notebook.

    Attributes:
        name: The notebook's name without its ending.
        seconds: How long it took.
        peak_bytes: The most memory that its kernel held.
        error: What went wrong and in which cell; "" where nothing did.
        cells: Seconds that each code cell took.
    """

    name: str
    seconds: float
    peak_bytes: int
    error: str
    cells: tuple[float, ...] = ()


# --- which lessons, and how long they take --------------------------------------------------------


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


def find(where: Path, numbers: Sequence[str] = ()) -> list[Path]:
    """The lessons in `where`, in order; only those whose number or name is given, if any are.

    Raises:
        NotebookError: no lesson has one of the numbers.
    """
    lessons = sorted(where.glob("[0-9][0-9]_*.ipynb"))
    chosen = []
    for wanted in numbers:
        key = wanted.zfill(2) if wanted.isdigit() else Path(wanted).stem
        found = [path for path in lessons if path.stem == key or path.stem[:2] == key]
        if not found:
            there = ", ".join(path.stem for path in lessons)
            raise NotebookError(f"There is no lesson {wanted!r}. There are: {there}.")
        chosen += found
    return chosen if numbers else lessons


def fingerprint(notebook: NotebookNode | dict[str, Any]) -> str:
    """SHA-256 over the code cells' sources: what the outputs follow from."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # A file has a list of lines where nbformat has one text; both must give the same digest.
    texts = ["".join(source) if isinstance(source, list) else source for source in sources]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def expected_seconds(names: Sequence[str], tier: str) -> dict[str, float]:
    """Seconds that each lesson takes: as last measured on this machine, else as published.

    Published times are scaled by what this machine took for the lessons that already ran here. A
    lesson that was never timed counts as the tier's limit.
    """
    published, own = published_times(tier, number_type()), own_times(tier)
    both = published.keys() & own.keys()
    scale = 1.0
    if both:
        here, there = (sum(times[name]["seconds"] for name in both) for times in (own, published))
        scale = here / there
    # Too long an estimate disappoints less than too short a one.
    limit = {"seconds": tiers.TIERS[tier].minutes * 60}
    scaled = {name: published.get(name, limit)["seconds"] * scale for name in names}
    return {name: own[name]["seconds"] if name in own else scaled[name] for name in names}


def published_times(tier: str, kind: str = "bfloat16") -> dict[str, dict[str, Any]]:
    """Seconds (of the lesson and per code cell) and peak gigabytes of each lesson.

    Args:
        tier: Name of the tier.
        kind: What the models compute in, as `number_type` gives it.
    """
    text = Path(__file__).with_name("times.json").read_text(encoding="utf-8")
    return json.loads(text).get(kind, {}).get(tier, {})


def number_type() -> str:
    """What models compute in here, of the two types that times are published for."""
    return "float32" if str(tiers.dtype()) == "torch.float32" else "bfloat16"


def own_times(tier: str) -> dict[str, dict[str, Any]]:
    """What earlier runs measured here; {} where there was none, or their file is damaged."""
    try:
        kept = json.loads(_times_path(tier).read_text(encoding="utf-8"))
        return {name: entry for name, entry in kept.items() if entry["seconds"] >= 0}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def _times_path(tier: str) -> Path:
    return work_dir() / f"times-{tier}.json"


def duration(seconds: float) -> str:
    """Seconds for people: "45 s", "4 min", "1 min 25 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return " ".join([f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes))


# --- running --------------------------------------------------------------------------------------


def run(
    paths: list[Path], out: Path, *, save: bool = False, say: Callable[[str], Any] = print
) -> list[Run]:
    """Execute lessons one after the other, each in a kernel of its own.

    Every lesson runs, also after one failed. An executed copy and an HTML page of each are left in
    `out`, with the error where one failed.

    Args:
        paths: The notebooks.
        out: Folder for the executed copies; made if missing.
        save: True also writes the outputs into the notebooks themselves.
        say: Called with each line of progress.

    Raises:
        NotebookError: see `check_ready`.
    """
    check_ready(out, paths)
    tier, names = tiers.current().name, [path.stem for path in paths]
    own = own_times(tier)
    published = published_times(tier, number_type())
    expected, known = expected_seconds(names, tier), published | own
    say(
        f"{len(paths)} lesson{'s' * (len(paths) != 1)} on the {tier} tier, "
        f"about {duration(sum(expected.values()))} in all{'' if own else ELSEWHERE}"
    )
    runs: list[Run] = []
    pace = Pace()  # its units are expected seconds, so a pace of 1.6 is a machine 1.6 times slower
    # One kernel each, and none goes on from another: so every lesson also runs alone.
    for number, path in enumerate(paths, 1):
        name, here = path.stem, f"[{number}/{len(paths)}] {path.stem}: "
        say(f"{here}about {duration(expected[name] * (pace.each() or 1))}")
        done = _run_one(path, out, save, expected[name], known.get(name, {}).get("cells", ()), pace)
        runs.append(done)
        if not done.error:  # a lesson that failed ended early
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
        # Lessons that did not run this time, or failed, keep their times.
        write_json(_times_path(tier), own | times)
    except (OSError, NoSpace) as error:
        say(f"The times could not be kept for the next run: {first_line(error)}")
    return runs


def check_ready(out: Path, paths: list[Path]) -> None:
    """Check, before any work, that notebooks can be run and that the copies replace nothing.

    Raises:
        NotebookError: a package is missing; `out` is a file, or the folder of the notebooks.
    """
    if missing := [name for name in TOOLS if importlib.util.find_spec(name) is None]:
        raise NotebookError(f"Running notebooks needs: pip install {' '.join(missing)}")
    for parent in (out, *out.parents):
        if parent.exists() and not parent.is_dir():
            raise NotebookError(f"--out {out}: {parent} is a file. Name a folder.")
    if any(out.resolve() == path.parent.resolve() for path in paths):
        raise NotebookError(
            f"--out {out} is the folder of the lessons themselves: the copies would replace them. "
            f"Name another folder, or use --save to keep the outputs in the lessons."
        )


def read(path: Path) -> NotebookNode:
    """The notebook in `path`, without outputs.

    Raises:
        NotebookError: there is no such file, or it is no notebook.
    """
    import nbformat

    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        notebook = nbformat.validator.normalize(notebook)[1]  # old ones lack ids of cells
        nbformat.validate(notebook)
    except OSError as error:
        raise NotebookError(f"{path}: {error.strerror}.") from error
    except (ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        raise NotebookError(f"{path} is no notebook ({first_line(error)}).") from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Without old numbers, the place of an error is that of the last cell with a number.
            cell.execution_count, cell.outputs = None, []
    return notebook


def _run_one(
    path: Path, out: Path, save: bool, expected: float, known: Sequence[float], pace: Pace
) -> Run:
    """Run one lesson, with a bar in expected seconds; `known` are those of its code cells."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    try:
        before, notebook = path.read_bytes(), read(path)
    except NotebookError as error:
        return Run(path.stem, 0, 0, str(error))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shares = cell_seconds(expected, known, len(cells))
    taken: list[float] = []
    peak, wrong, start = 0, "", perf_counter()
    with bar(expected, path.stem) as line:
        # Five seconds at the pace of the lessons before, so that a slow first cell, which only
        # imports, does not yet make the whole lesson look slow.
        line.pace.add(5, 5 * (pace.each() or 1))

        def step(**_: Any) -> None:
            """A code cell has ended."""
            line.n = sum(shares[: len(taken)])
            taken.append(round(perf_counter() - line.last, 1))
            line.update(shares[len(taken) - 1])

        def tick() -> None:
            """Between the ends of cells: measure memory, and let the time left run down."""
            nonlocal peak
            with suppress(psutil.Error, AttributeError):  # not started yet, or just ended
                peak = max(peak, _kernel(client).memory_info().rss)
            now = (perf_counter() - line.last) / (line.pace.each() or 1)
            line.n = sum(shares[: len(taken)]) + min(now, sum(shares[len(taken) :][:1]))
            line.refresh()

        client = NotebookClient(
            notebook,
            timeout=None,  # a training may take minutes
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_executed=step,
            extra_arguments=["--IPKernelApp.log_level=40"],  # its advice is not for learners
        )
        try:
            execute(client, tick)
        except CellExecutionError as failed:
            where = sum(1 for cell in cells if cell.get("execution_count"))
            wrong = f"code cell {where}: {failed.ename}: {failed.evalue}"
        except DeadKernelError:
            wrong = "the kernel died, probably because memory ran out; close other programs"
        except NoSuchKernel as failed:
            wrong = f"there is no kernel {failed.name!r} here: pip install ipykernel"
    seconds = perf_counter() - start
    text = keep(notebook, path, out)
    if save and not wrong:
        if path.read_bytes() == before:  # an editor may have saved it meanwhile
            write_text(path, text)
        else:
            wrong = f"{path} was changed while it ran, so it was left alone; see {out / path.name}"
    return Run(path.stem, seconds, peak, wrong, tuple(taken))


def cell_seconds(expected: float, known: Sequence[float], cells: int) -> list[float]:
    """Seconds that each of a lesson's code cells should take, together `expected`.

    They follow the `known` seconds, or are equal where the lesson has got other cells since.
    """
    total = sum(known) if len(known) == cells else 0
    return (
        [seconds * expected / total for seconds in known]
        if total
        else [expected / max(1, cells)] * cells
    )


def execute(client: Any, tick: Callable[[], Any] = lambda: None) -> None:
    """Run `client.execute()` in a thread, and call `tick` ten times a second meanwhile.

    In the main thread, nbclient's own handlers would get Ctrl-C, and wait for the cell's end.
    """
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.execute)
        try:
            while not wait([running], timeout=0.1).done:
                tick()
        except KeyboardInterrupt:
            while not wait([running], timeout=0.1).done:  # the kernel may only be starting
                with suppress(psutil.Error, AttributeError):
                    kernel = _kernel(client)
                    for process in [*kernel.children(recursive=True), kernel]:
                        with suppress(psutil.NoSuchProcess):
                            process.kill()
            raise
        running.result()


def _kernel(client: Any) -> psutil.Process:
    pid = client.km.provisioner.pid
    if pid is None:  # which psutil takes for this very process
        raise psutil.NoSuchProcess(0)
    process = psutil.Process(pid)
    # in a virtual environment on Windows that is a launcher of the real one
    return (process.children() or [process])[0] if os.name == "nt" else process


def keep(notebook: NotebookNode, path: Path, out: Path) -> str:
    """Write the executed copy and its HTML page; return the copy's text."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps would differ at every run
    notebook.metadata.pop("widgets", None)  # the state of widgets, which no viewer shows
    notebook.metadata["llmcourse"] = {
        "sources": fingerprint(notebook),
        "tier": tiers.current().name,
    }
    notebook.metadata["language_info"] = {"name": "python"}  # its version is this machine's
    text = nbformat.writes(notebook) + "\n"
    write_text(out / path.name, text)
    write_text(out / f"{path.stem}.html", html_page(notebook))
    return text


def html_page(notebook: NotebookNode) -> str:
    """An executed notebook as a page of HTML, with its pictures and their alternative texts.

    nbconvert (7.17) writes this sentence instead of the alternative texts of outputs, so they are
    put back, picture by picture; tests/test_viewers.py compares them for every lesson.
    """
    import jinja2
    from nbconvert import HTMLExporter

    loaders = [jinja2.DictLoader({"offline.html.j2": OFFLINE})]
    exporter = HTMLExporter(
        embed_images=True, extra_loaders=loaders, template_file="offline.html.j2"
    )
    exporter.log.setLevel("ERROR")  # it would warn of the missing texts
    page, _ = exporter.from_notebook_node(notebook)
    missing = 'alt="No description has been provided for this image"'
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        for kind in ("image/svg+xml", "image/png"):  # nbconvert takes the SVG where there are both
            if kind in output.get("data", {}):
                text = html.escape(output.metadata.get(kind, {}).get("alt", ""))
                page = page.replace(missing, f'alt="{text}"', 1)
                break
    return page


def open_lab(
    lessons: str | None = None, options: Sequence[str] = (), *, browser: bool = True
) -> int:
    """Open JupyterLab on the first lesson, and wait for its end.

    Args:
        lessons: The lessons' folder, see `folder`.
        options: Further options for JupyterLab.
        browser: Whether it opens a browser.

    Returns:
        JupyterLab's exit status.

    Raises:
        NotebookError: JupyterLab is not installed.
        SettingError: there is no home folder.
    """
    place = folder(lessons).resolve()
    # The lessons link to docs, beside their folder: JupyterLab opens nothing above its root.
    root = place.parent if (place.parent / "docs").is_dir() else place
    first = find(place)[0].relative_to(root).as_posix()
    if importlib.util.find_spec("jupyterlab") is None:
        raise NotebookError("JupyterLab is not installed: pip install jupyterlab")
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={root}"]
    command += [f"--LabApp.default_url=/lab/tree/{first}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--ServerApp.contents_manager_class=llmcourse.lab.Lessons"]
    command += [*["--no-browser"] * (not browser), *options]
    if (not browser or "SSH_CONNECTION" in os.environ) and not options:
        print(
            "To open it from another machine, forward its port (ssh -L 8888:localhost:8888 …), or "
            "end this command with: -- --ip 0.0.0.0 --port 8888 (whoever has the address that is "
            "printed below can then run programs here).",
            flush=True,
        )
    # Terminals and `!python` in a lesson find this Python, activated or not.
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = os.environ | {"PATH": os.pathsep.join(filter(None, paths))}
    if sys.prefix != sys.base_prefix:
        environment["VIRTUAL_ENV"] = sys.prefix
    # Jupyter keeps settings, running servers and histories in the home folder, and ends where it
    # can't; an unknown user of a container has none.
    home = os.path.expanduser("~")  # noqa: PTH111 - stays "~" where there is none
    if home == "~":
        raise SettingError("JupyterLab needs a home folder. Set HOME to a folder that is yours.")
    if not is_writable(Path(home)):
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            environment[name] = str(writable_cache("jupyter") / name.lower())
    with subprocess.Popen(command, env=environment) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # Jupyter got it too, and asks whether it is meant
                continue
