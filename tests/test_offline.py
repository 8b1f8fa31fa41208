"""Nothing leaves the machine: the lessons run with every connection but loopback refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.conftest import ROOT, Run
from tests.test_notebooks import lesson_with

GUARD = str(ROOT / "tests" / "guard")
CALL = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"


@pytest.mark.notebook
def test_a_lesson_that_calls_out_fails_under_the_guard(cli: Run, tmp_path: Path) -> None:
    """The kernels of lessons inherit the guard; the command itself calls nobody."""
    lesson_with(tmp_path / "00_calls_out.ipynb", CALL)
    done = cli(
        *("run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out")),
        PYTHONPATH=GUARD,
        LLMCOURSE_GUARD_LOG=str(tmp_path / "log"),
    )
    assert done.returncode == 1 and "the guard refused" in done.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert log and all("192.0.2.1" in line for line in log), log  # and nothing else called out


@pytest.mark.notebook
def test_a_cell_that_calls_out_fails_under_nbval_too(tmp_path: Path) -> None:
    """So every run of the lessons under nbval shows that they need no network."""
    swallowed = f"try:\n    {CALL}\nexcept OSError:\n    pass"
    path = lesson_with(tmp_path / "calls_out.ipynb", "1", swallowed, "2")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(notebook, path)
    options = ["--nbval", "-p", "conftest", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "the cell tried to" in done.stdout
