"""The lessons as files: fresh outputs, short cells, captions, no traces of one machine."""

from __future__ import annotations

import io
import json
import os
import re
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
BOTH = [*LESSONS, *SOLUTIONS]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in code(path) for output in cell.outputs]


def lines(cell: nbformat.NotebookNode) -> int:
    return sum(1 for line in cell.source.splitlines() if line.strip())


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", BOTH, ids=by_name)
class TestEveryNotebook:
    def test_outputs_belong_to_the_source(self, path: Path) -> None:
        made = read(path).metadata.get("llmcourse", {})
        assert made.get("sources") == notebooks.fingerprint(read(path)), (
            f"{path.name} was edited after it was run: python -m llmcourse run --tier cpu --save"
        )
        assert made["tier"] == "cpu"

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
        assert "[![Open in Colab](" in head
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

    def test_every_link_to_a_lesson_or_document_is_true_or_announced(self, path: Path) -> None:
        planned: set[str] = set()  # lessons that are announced and not there yet
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\((?!http)([^)#]+)\)", cell.source):
                    assert target in planned or (path.parent / target).exists(), target


def test_each_claim_of_a_lesson_is_recorded_there_and_nowhere_else() -> None:
    recorded: dict[str, list[str]] = {}
    for path in LESSONS:
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


def test_a_new_address_reaches_every_badge(tmp_path: Path) -> None:
    """Change the one setting in a copy: the check fails, publishing mends it, all places follow."""
    import shutil

    for name in ("tools", "notebooks", "llmcourse", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    old = re.search(r'Repository = "(.*)"', settings)[1]
    new = "https://github.com/some-school/course"
    (tmp_path / "pyproject.toml").write_text(settings.replace(old, new), encoding="utf-8")

    def publish(*options: str) -> int:
        command = [sys.executable, "tools/publish.py", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True).returncode

    assert publish("--check") == 1
    assert publish() == 0
    assert publish("--check") == 0
    for path in [tmp_path / "README.md", *(tmp_path / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        assert "some-school/course" in text and old not in text, path.name


# --- the runner ----------------------------------------------------------------------------------


def lesson_with(path: Path, *sources: str) -> Path:
    """A notebook of one code cell a source."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    metadata: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.mark.notebook
def test_a_failing_lesson_is_told_and_the_others_still_run(cli: Run, tmp_path: Path) -> None:
    lesson_with(tmp_path / "00_fine.ipynb", "1 + 1")
    lesson_with(tmp_path / "01_broken.ipynb", "x = 1", "x / 0", "print('never')")
    lesson_with(tmp_path / "02_fine.ipynb", "2 + 2")
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "error: 01_broken, code cell 2: ZeroDivisionError: division by zero" in done.stderr
    assert "Traceback" not in done.stderr
    assert "02_fine: done in" in done.stdout
    kept = read(tmp_path / "out" / "01_broken.ipynb")
    assert kept.cells[1].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.notebook
def test_progress_names_lesson_elapsed_and_left(cli: Run, tmp_path: Path) -> None:
    lesson_with(tmp_path / "00_first.ipynb", "1")
    lesson_with(tmp_path / "01_second.ipynb", "2")
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert re.search(
        r"\[1/2\] 00_first: done in \d+ s, [\d.]+ GB .* about [\d mins]+ left", done.stdout
    )
    times = json.loads((tmp_path / "work" / "times-smoke.json").read_text())
    assert set(times) == {"00_first", "01_second"}
    assert times["00_first"]["peak_gb"] > 0


PUBLISHED = {
    "00_a": {"seconds": 60, "cells": [0.0, 20.0, 40.0]},
    "01_b": {"seconds": 100},
    "02_c": {"seconds": 200},
}


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
    notebooks.run(published, tmp_path / "out", "smoke", say=said.append)
    assert "about 6 min in all (published times, of another machine" in said[0]
    assert said[1].endswith("00_a: about 1 min") and said[3].endswith("01_b: about 2 min 40 s")
    assert "about 8 min left" in said[2]
    assert "failed" in said[4] and "about 5 min 20 s left" in said[4]
    # From now on what was measured here counts, also for the lesson that never ran to its end.
    expected = notebooks.expected_seconds(list(PUBLISHED), "smoke")
    assert expected == pytest.approx({"00_a": 96, "01_b": 160, "02_c": 320})
    notebooks.run(published, tmp_path / "out", "smoke", say=said.append)
    assert "in all" in said[7] and "published" not in said[7]


def test_time_left_of_a_lesson_follows_the_pace_of_its_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(notebooks, "perf_counter", lambda: now[0])
    left = notebooks.Estimate(60, PUBLISHED["00_a"]["cells"], progress.Pace(), 3)
    assert left.left() == 60
    now[0] = 3.0
    left.step()  # the first cell should take no time; this says nothing about the others
    assert left.left() == 60
    now[0] = 43.0
    left.step()
    assert left.left() == pytest.approx(80)  # the cells of late took twice their time
    now[0] = 1000.0
    assert left.left() == 0
    assert left.taken == [3.0, 40.0]
    # A lesson that was edited has other cells, whose times are not known.
    edited = notebooks.Estimate(60, PUBLISHED["00_a"]["cells"], progress.Pace(), 4)
    now[0] += 10
    edited.step()
    assert edited.left() == 50


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


@pytest.mark.notebook
def test_running_leaves_the_lessons_alone_unless_asked(cli: Run, tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_first.ipynb", "print(40 + 2)")
    before = path.read_bytes()
    common = ("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert cli(*common).returncode == 0
    assert path.read_bytes() == before
    assert cli(*common, "--save").returncode == 0
    saved = read(path)
    assert saved.cells[0].outputs[0].text == "42\n"
    assert saved.metadata.llmcourse.sources == notebooks.fingerprint(saved)


@pytest.mark.notebook
def test_a_damaged_notebook_is_told(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "00_bad.ipynb").write_text("{half")
    (tmp_path / "01_bad.ipynb").write_text("[]")
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.count("is no notebook") == 2 and "Traceback" not in done.stderr


@pytest.mark.notebook
def test_the_place_of_an_error_is_not_told_from_an_older_run(cli: Run, tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_stale.ipynb", "1", "1 / 0", "3", "4")
    stale = read(path)
    for number, cell in enumerate(stale.cells):
        cell.execution_count = number + 1
    nbformat.write(stale, path)
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "code cell 2: ZeroDivisionError" in done.stderr


@pytest.mark.notebook
def test_edits_made_while_a_lesson_runs_are_kept(cli: Run, tmp_path: Path) -> None:
    path = tmp_path / "00_edited.ipynb"
    edit = f"open({str(path)!r}, 'a').write(' ')"  # as an editor that saves meanwhile
    lesson_with(path, edit)
    before = path.read_text()
    done = cli("run", "--save", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "was changed while it ran, so it was left alone" in done.stderr
    assert path.read_text() == before + " "


def test_copies_never_replace_the_lessons_or_hit_a_file(cli: Run, tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_first.ipynb", "1")
    before = path.read_bytes()
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path))
    assert done.returncode == 1 and "is the folder of the lessons themselves" in done.stderr
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(path / "sub"))
    assert done.returncode == 1 and "is a file. Name a folder" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.notebook
def test_ctrl_c_ends_the_run_and_its_kernel(tmp_path: Path) -> None:
    started = tmp_path / "started"
    lesson_with(
        tmp_path / "00_slow.ipynb",
        f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid()))",
        "time.sleep(120)",
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "llmcourse",
            "run",
            "--notebooks",
            str(tmp_path),
            "--out",
            str(tmp_path / "out"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = int(started.read_text())
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. Run the same again" in err and "Traceback" not in err, err
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == "zombie"


def test_odd_records_of_times_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path))
    for odd in ("[1]", '{"00_first": 3}', '{"00_first": {"seconds": "long"}}', "{half"):
        (tmp_path / "times-smoke.json").write_text(odd)
        assert notebooks.own_times("smoke") == {}


@pytest.mark.notebook
def test_a_kernel_that_is_not_there_is_told(cli: Run, tmp_path: Path) -> None:
    path = lesson_with(tmp_path / "00_first.ipynb", "1")
    path.write_text(path.read_text().replace('"python3"', '"fortran"'))
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "there is no kernel 'fortran' here" in done.stderr


def test_unknown_lessons_list_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="no lesson '77'. There are: 00_start_here"):
        notebooks.find(ROOT / "notebooks", ["77"])
    with pytest.raises(NotebookError, match="There are no lessons in .*--notebooks FOLDER"):
        notebooks.folder(str(tmp_path))
    assert [p.stem for p in notebooks.find(ROOT / "notebooks", ["1"])] == ["01_why_finetune"]
