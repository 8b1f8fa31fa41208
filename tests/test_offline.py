"""Nothing leaves the machine: the lessons run with every connection but loopback refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from llmcourse import notebooks
from tests.conftest import ROOT, Run

GUARD = str(ROOT / "tests" / "guard")


def test_the_guard_refuses_and_notes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    env = os.environ | {"PYTHONPATH": GUARD, "LLMCOURSE_GUARD_LOG": str(log)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the guard refused" in done.stderr
    assert "192.0.2.1" in log.read_text()


def test_a_lesson_that_calls_out_fails_under_the_guard(cli: Run, tmp_path: Path) -> None:
    """The kernels of lessons inherit the guard, or the test below would prove nothing."""
    import nbformat

    cell = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "00_calls_out.ipynb")
    done = cli("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"),
               PYTHONPATH=GUARD, LLMCOURSE_GUARD_LOG=str(tmp_path / "log"))  # fmt: skip
    assert done.returncode == 1 and "the guard refused" in done.stderr
    assert "192.0.2.1" in (tmp_path / "log").read_text()


def test_every_lesson_runs_without_a_network(cli: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    out = tmp_path / "out"
    done = cli("run", "--tier", "smoke", "--out", str(out),
               PYTHONPATH=GUARD, LLMCOURSE_GUARD_LOG=str(log))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for path in notebooks.find(ROOT / "notebooks"):
        assert f"{path.stem}: done in" in done.stdout
        assert (out / path.name).is_file()
        assert (out / f"{path.stem}.html").is_file()
    assert not log.exists(), f"tried to reach {log.read_text()}"
