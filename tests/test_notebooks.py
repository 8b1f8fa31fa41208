"""The lessons as files: fresh outputs, short cells, captions, no traces of one machine."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from llmcourse import claims, exercises, notebooks, progress
from llmcourse.errors import NotebookError
from tests.conftest import ROOT, Run

LESSONS = notebooks.find(ROOT / "notebooks")
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
MORE = notebooks.find(ROOT / "notebooks" / "more")
ALL = [*LESSONS, *SOLUTIONS, *MORE]


@functools.cache
def saved(path: Path) -> nbformat.NotebookNode:
    """A notebook of the course, which no test changes."""
    return nbformat.read(path, as_version=4)


def read(path: Path) -> nbformat.NotebookNode:
    known = path.is_relative_to(ROOT / "notebooks")
    return saved(path) if known else nbformat.read(path, as_version=4)


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in code(path) for output in cell.outputs]


def lines(cell: nbformat.NotebookNode) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip())


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", ALL, ids=by_name)
class TestEveryNotebook:
    def test_outputs_belong_to_the_source(self, path: Path) -> None:
        made = read(path).metadata.get("llmcourse", {})
        assert made.get("sources") == notebooks.fingerprint(read(path)), (
            f"{path.name} was edited after it was run: python -m llmcourse run --tier cpu --save"
        )
        few = path.stem == "05_sfttrainer"  # run in an environment of its own, with few updates
        assert made["tier"] == ("smoke" if few else "cpu")

    def test_was_run_from_top_to_bottom_without_errors(self, path: Path) -> None:
        counts = [cell.execution_count for cell in code(path)]
        assert counts == list(range(1, len(counts) + 1))
        assert not [o for o in outputs(path) if o.output_type == "error"]
        assert not [o for o in outputs(path) if o.get("name") == "stderr"], "warnings in the output"

    def test_names_the_kernel_every_jupyter_has(self, path: Path) -> None:
        assert read(path).metadata.kernelspec.name == "python3"
        nbformat.validate(read(path))

    def test_has_nothing_of_one_machine(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for trace in ("/home/", "/root/", "/Users/", "/tmp/", "C:\\\\", str(ROOT)):
            assert trace not in text, trace
        assert "widgets" not in read(path).metadata
        assert len(text) < 5e6

    def test_cells_are_short(self, path: Path) -> None:
        sizes = [lines(cell) for cell in code(path)]
        assert max(sizes) <= 25
        assert statistics.median(sizes) <= 8


@pytest.mark.parametrize("path", LESSONS, ids=by_name)
class TestEveryLesson:
    def test_header_and_end(self, path: Path) -> None:
        cells = read(path).cells
        head, number = cells[0].source, path.stem[:2]
        assert head.startswith(f"# {number} · ")
        assert "[![Open in Colab](" in head or "Colab badge here" in head
        assert "**After this lesson you can**" in head and "**Time:**" in head
        assert "Recap" in "".join(c.source for c in cells[-5:] if c.cell_type == "markdown")
        assert "**Things to try**" in cells[-1].source
        sections = [
            int(m[1])
            for c in cells
            if c.cell_type == "markdown"
            for m in re.finditer(r"^## (\d+)\.", c.source, flags=re.M)
        ]
        assert sections == list(range(1, len(sections) + 1))

    def test_imports_stand_in_one_cell_at_the_top(self, path: Path) -> None:
        colab, imports, *rest = code(path)
        assert "google.colab" in colab.source
        assert re.search(r"^(import|from) ", imports.source, flags=re.M)
        for cell in rest:
            assert not re.search(r"^(import|from) ", cell.source, flags=re.M), cell.source

    def test_pictures_have_alternative_text_and_a_caption(self, path: Path) -> None:
        for cell in code(path):
            shown = list(cell.outputs)
            for place, output in enumerate(shown):
                pictures = [m for m in output.get("data", {}) if m.startswith("image/")]
                for mime in pictures:
                    assert len(output.metadata[mime]["alt"]) > 40
                    assert output.data["text/plain"] == output.metadata[mime]["alt"]
                    caption = shown[place + 1].data["text/markdown"]
                    assert caption.startswith("*Figure. ") and caption.endswith(".*")

    def test_exercises_and_their_solutions(self, path: Path) -> None:
        tasks = exercises.lesson(path.stem[:2])
        assert 2 <= len(tasks) <= 4
        source = "\n".join(cell.source for cell in code(path))
        solved = code(ROOT / "notebooks" / "solutions" / f"{path.stem}_solutions.ipynb")
        for number in range(1, len(tasks) + 1):
            assert f"q{number}.check(" in source
        for task in tasks:  # the task, the cell and the solution name the same function
            for name in re.findall(r"^Write `(\w+)\(", task.task):
                assert f"def {name}(" in source, name
                assert f"def {name}(" in task.answer, name
        right = [o for c in solved for o in c.outputs if "✓ Right." in str(o.get("data"))]
        assert len(right) == len(tasks)

    def test_every_link_to_a_lesson_or_document_leads_somewhere(self, path: Path) -> None:
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\((?!http)([^)#]+)\)", cell.source):
                    assert (path.parent / target).exists(), target


def test_each_claim_of_a_lesson_is_recorded_there_and_nowhere_else() -> None:
    """In the lesson, or in what goes further: there, where it takes a training of its own."""
    recorded: dict[str, list[str]] = {}
    for path in [*LESSONS, *MORE]:
        source = "\n".join(cell.source for cell in code(path))
        for claim in re.findall(r"claims\.record\(\s*\"([\w-]+)\"", source):
            recorded.setdefault(claim, []).append(path.stem[:2])
    there = {path.stem[:2] for path in LESSONS}
    wanted = {c: [claim.lesson] for c, claim in claims.CLAIMS.items() if claim.lesson in there}
    assert recorded == wanted


def test_the_published_ledger_is_of_these_lessons() -> None:
    ledger = claims.read(path=ROOT / "llmcourse" / "ledger-cpu.json")
    there = {path.stem[:2] for path in LESSONS}
    assert set(ledger) == {c for c, claim in claims.CLAIMS.items() if claim.lesson in there}
    for entry in ledger.values():
        assert entry["tier"] == "cpu"
        shares = [n for n in entry["numbers"].values() if isinstance(n, dict)]
        assert all(share["of"] >= 20 for share in shares), "a claim needs at least 20 prompts"


def test_badges_times_and_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/publish.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr + "run: python tools/publish.py"


def test_publishing_is_one_step(tmp_path: Path) -> None:
    """In a copy: the address reaches every badge, and the first cell installs from there."""
    for name in ("tools", "notebooks", "llmcourse", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def publish(*options: str) -> int:
        command = [sys.executable, "tools/publish.py", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True).returncode

    assert publish("--repo", "no address") == 2
    assert publish("--repo", "some-school/course", "--check") == 1
    assert publish() == 0
    assert publish("--check") == 0
    for path in [tmp_path / "README.md", *(tmp_path / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        assert "[![Open in Colab](" in text and "some-school/course" in text, path.name
        assert "YOUR_ACCOUNT" not in text and "no public address" not in text, path.name


# --- the runner ----------------------------------------------------------------------------------


def lesson_with(path: Path, *sources: str) -> Path:
    """A notebook of one code cell per source."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    metadata: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.fixture
def run(cli: Run, tmp_path: Path) -> Run:
    """`run` the lessons in the test's folder."""
    folders = ("--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    return lambda *options: cli("run", *folders, *options)


@pytest.mark.notebook
def test_every_lesson_runs_and_what_went_wrong_is_reported(run: Run, tmp_path: Path) -> None:
    lesson_with(tmp_path / "00_fine.ipynb", "1 + 1")
    stale = read(lesson_with(tmp_path / "01_broken.ipynb", "x = 1", "x / 0", "3", "4"))
    for number, cell in enumerate(stale.cells, 1):
        cell.execution_count = number  # of an older run, which must not tell the place
    nbformat.write(stale, tmp_path / "01_broken.ipynb")
    (tmp_path / "02_bad.ipynb").write_text("{half")
    path = lesson_with(tmp_path / "03_fortran.ipynb", "1")
    path.write_text(path.read_text().replace('"python3"', '"fortran"'))
    lesson_with(tmp_path / "04_dies.ipynb", "import os; os._exit(3)")
    lesson_with(tmp_path / "05_fine.ipynb", "2 + 2")
    done = run()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: 01_broken, code cell 2: ZeroDivisionError: division by zero" in done.stderr
    assert "02_bad.ipynb is no notebook" in done.stderr and "'fortran'" in done.stderr
    assert "04_dies, the kernel died" in done.stderr and "05_fine: done in" in done.stdout
    assert re.search(r"\[1/6\] 00_fine: done in .* GB .* about [\d mins]+ left", done.stdout)
    kept = read(tmp_path / "out" / "01_broken.ipynb")
    assert kept.cells[1].outputs[0].ename == "ZeroDivisionError"
    times = json.loads((tmp_path / "work" / "times-smoke.json").read_text())
    assert set(times) == {"00_fine", "05_fine"} and times["00_fine"]["peak_gb"] > 0


@pytest.mark.notebook
def test_running_leaves_the_lessons_alone_unless_asked(run: Run, tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_first.ipynb", "print(40 + 2)")
    edited = tmp_path / "01_edited.ipynb"
    lesson_with(edited, f"open({str(edited)!r}, 'a').write(' ')")  # as an editor that saves
    before, edits = path.read_bytes(), edited.read_text()
    assert run("0").returncode == 0 and path.read_bytes() == before
    done = run("--save")
    assert "01_edited.ipynb was changed while it ran, so it was left alone" in done.stderr
    saved = read(path)
    assert saved.cells[0].outputs[0].text == "42\n" and edited.read_text() == edits + " "
    assert saved.metadata.llmcourse.sources == notebooks.fingerprint(saved)


def test_copies_never_replace_the_lessons_or_a_file(tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_first.ipynb", "1")
    for out, message in ((tmp_path, "folder of the lessons"), (path / "sub", "is a file")):
        with pytest.raises(NotebookError, match=message):
            notebooks.run([path], out)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.notebook
def test_ctrl_c_ends_the_run_and_its_kernel(tmp_path: Path) -> None:
    started = tmp_path / "started"
    note = f"import os; open({str(started)!r}, 'w').write(str(os.getpid()))"
    lesson_with(tmp_path / "00_slow.ipynb", note, "import time; time.sleep(120)")
    arguments = ["-m", "llmcourse", "run", "--notebooks", str(tmp_path)]
    arguments += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 90
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = int(started.read_text())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped." in err and "Traceback" not in err and "died" not in out, out + err
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == "zombie"


def test_unknown_lessons_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="no lesson '77'. There are: 00_start_here"):
        notebooks.find(ROOT / "notebooks", ["77"])
    with pytest.raises(NotebookError, match="There are no lessons in .*--notebooks FOLDER"):
        notebooks.folder(str(tmp_path))
    assert [p.stem for p in notebooks.find(ROOT / "notebooks", ["1"])] == ["01_why_finetune"]


# --- time left -----------------------------------------------------------------------------------

PUBLISHED = {"00_a": {"seconds": 60}, "01_b": {"seconds": 100}, "02_c": {"seconds": 200}}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three lessons with published times, on a machine that has run none of them."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(notebooks, "published_times", lambda *_: PUBLISHED)
    return [tmp_path / f"{name}.ipynb" for name in PUBLISHED]


def test_time_left_follows_the_pace_of_the_lessons_before(
    published: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine takes 1.6 times as long as the published one; the second lesson fails."""

    def slow(path: Path, *_: Any) -> notebooks.Run:
        if path.stem == "01_b":
            return notebooks.Run(path.stem, 2, 0, "code cell 1: failed")
        return notebooks.Run(path.stem, 1.6 * PUBLISHED[path.stem]["seconds"], 0, "", (1.0, 2.0))

    monkeypatch.setattr(notebooks, "_run_one", slow)
    said: list[str] = []
    notebooks.run(published, tmp_path / "out", say=said.append)
    assert "about 6 min in all (published times, of another machine" in said[0]
    assert said[1].endswith("00_a: about 1 min") and said[3].endswith("01_b: about 2 min 40 s")
    assert "about 8 min left" in said[2]
    assert "failed" in said[4] and "about 5 min 20 s left" in said[4]
    # From now on what was measured here counts, also for the lesson that never ran to its end.
    expected = notebooks.expected_seconds(list(PUBLISHED), "smoke")
    assert expected == pytest.approx({"00_a": 96, "01_b": 160, "02_c": 320})
    notebooks.run(published, tmp_path / "out", say=said.append)
    assert "in all" in said[7] and "published" not in said[7]
    times = tmp_path / "work" / "times-smoke.json"
    for odd in ("[1]", '{"00_a": 3}', '{"00_a": {"seconds": "long"}}', "{half"):
        times.write_text(odd)
        assert notebooks.own_times("smoke") == {}


def test_cells_share_a_lessons_expected_time_as_they_did_before() -> None:
    assert notebooks.cell_seconds(60, [0, 10, 20], 3) == [0, 20, 40]
    assert notebooks.cell_seconds(60, [0, 10, 20], 4) == [15] * 4  # edited since


def test_time_left_of_a_bar_follows_the_recent_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick at first, slow since, with one long stop: neither start nor last unit counts."""
    terminal, now = io.StringIO(), [0.0]
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    with progress.bar(1000, "works") as line:
        assert "? left" in str(line)  # nothing is measured yet
        line.resume(400)  # what an earlier run has done took no time here
        for seconds in [0.1] * 100 + [1.0] * 60 + [11.0] + [1.0] * 9:
            now[0] += seconds
            line.update()
        assert line.n == 570
        left = 430 / line.format_dict["rate"]
        assert 430 < left < 1.6 * 430
