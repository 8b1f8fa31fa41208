"""The command line: help for each command, clear errors, exit codes, no tracebacks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmcourse import cli as cli_module
from llmcourse import doctor, models, notebooks
from llmcourse.files import write_lines
from tests.conftest import ROOT, Run

COMMANDS = (
    "doctor prefetch run results ask inspect finetune own harness notebook progress catch-up "
    "class-report serve-kit lab"
)
ROW = {"question": "What is it?", "answer": "A lamp."}
Capture = pytest.CaptureFixture


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    write_lines(path, rows)
    return path


@pytest.mark.parametrize("arguments", ["--help", *(f"{name} --help" for name in COMMANDS.split())])
def test_every_command_has_help(arguments: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli_module.main(arguments.split())
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "usage: python -m llmcourse " + arguments.removesuffix("--help") in said
    assert arguments != "--help" or all(command in said for command in COMMANDS.split())


@pytest.mark.parametrize("arguments", ["", "asks", "ask", "run --tier huge", "inspect"])
def test_wrong_use_exits_2_and_shows_usage(arguments: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli_module.main(arguments.split())
    assert ended.value.code == 2 and "usage: python -m llmcourse" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ("ask Hi --model bsae", {}, "Did you mean 'base'?"),
        pytest.param("ask Hi --tokens 0", {}, "max_new_tokens=0", marks=pytest.mark.model),
        ("ask Hi", {"LLMCOURSE_DEVICE": "cpu:x"}, "LLMCOURSE_DEVICE='cpu:x' can't be used"),
        ("results", {"LLMCOURSE_TIER": "big"}, "LLMCOURSE_TIER='big'"),
        ("inspect nowhere.jsonl", {}, "nowhere.jsonl: no such file"),
        ("run 77", {}, "There is no lesson '77'"),
    ],
)
def test_mistakes_exit_1_with_one_clear_line(
    arguments: str,
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli_module.main(arguments.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said
    assert len(said.strip().splitlines()) == 1, said


def test_an_unexpected_error_is_one_line_and_debug_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("llmcourse.doctor.examine", broken)
    assert cli_module.main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ZeroDivisionError: deep inside") and "LLMCOURSE_DEBUG=1" in said
    monkeypatch.setenv("LLMCOURSE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli_module.main(["doctor"])


def test_a_python_without_the_packages_is_told_which_one_to_use() -> None:
    command = [sys.executable, "-S", "-m", "llmcourse", "doctor"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "is missing in" in done.stderr and "python3 install.py" in done.stderr


@pytest.mark.model
def test_prefetch_and_ask(cli: Run) -> None:
    assert cli("prefetch", "chat").stdout.startswith("smollm2-135m-instruct: ready in")
    done = cli("ask", "What is the opposite of cold? 🎉", "--tokens", "4", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stdout and "im_start" not in done.stdout
    assert "(cut off after 4 tokens; --tokens N allows more)" in done.stderr


@pytest.mark.model
def test_doctor_checks_everything_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    assert cli_module.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in ("Python", "Memory", "Device", "Tier", "Base model", "Chat model", "Lessons"):
        assert word in said
    assert "All is well." in said
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = doctor.report()
    assert "!!  Base model" in report and models.INSTALL in report and "to fix" in report
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float8")
    report = doctor.report()  # a wrong setting is one line of it, and the others are there
    assert "LLMCOURSE_DTYPE='float8'" in " ".join(report.split())
    assert "Memory" in report and "Lessons" not in report


# --- inspect -------------------------------------------------------------------------------------

Inspected = Callable[..., dict[str, Any]]


@pytest.fixture
def inspected(capsys: Capture, own_cache: Path) -> Inspected:
    """Inspect a file in this process; what is printed as JSON."""

    def run(path: Path, *arguments: str) -> dict[str, Any]:
        code = cli_module.main(["inspect", str(path), "--json", "--model", "none", *arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def counted(report: dict[str, Any], kind: str) -> int:
    return {finding["kind"]: finding["count"] for finding in report["findings"]}[kind]


def test_inspect_lists_bad_records_of_both_files_and_compares_the_rest(
    inspected: Inspected, tmp_path: Path, capsys: Capture
) -> None:
    train = lines(tmp_path / "train.jsonl", ROW, ROW | {"answer": ""})
    test = lines(tmp_path / "test.jsonl", ROW, {"question": {"text": "Why?"}, "answer": "So."})
    report = inspected(train, "--test", str(test))
    assert report["unit"] == "words" and report["records"] == 1
    assert [(row["source"], row["line"], row["field"]) for row in report["problems"]] == [
        (str(train), 2, "answer"),
        (str(test), 2, "question"),
    ]
    assert counted(report, "unreadable") == counted(report, "leaked") == 1
    given = ["inspect", str(train), "--test", str(test), "--model", "none"]
    assert cli_module.main([*given, "--text"]) == 0
    said = capsys.readouterr().out
    assert said.count("left out: ") == 2 and "train.jsonl: 1 record" in said
    assert cli_module.main([*given, "--longest", "0"]) == 1
    assert "longest=0" in capsys.readouterr().err


def test_inspect_looks_at_documents_and_lists_what_it_skips(
    inspected: Inspected, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Care\n\nWipe it.\n\n# Use\n\nTurn it on.")
    (tmp_path / "docs" / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "page.html").write_text("<img src='a.png'>")
    report = inspected(tmp_path)
    assert report["records"] == 2 and set(report["columns"]) == {"text", "document", "heading"}
    names = {Path(row["source"]).name for row in report["problems"]}
    assert names == {"photo.jpg", "page.html"} and counted(report, "unreadable") == 0


# --- finetune and lab ----------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path: Path, tiny_folder: Path) -> list[str]:
    """A small training; its folder is `pairs-NAME` in the current one."""
    rows = ({"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(6))
    pairs = str(lines(tmp_path / "pairs.jsonl", *rows))
    return ["finetune", "--data", pairs, "--base", str(tiny_folder), "--test", pairs, "--rank", "2"]


def test_a_model_is_tuned_saved_and_asked(
    cli: Run, given: list[str], tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "tuned"
    given += ["--out", str(out), "--template", "qa"]
    done = cli(*given)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert "6 records, " in done.stdout and " minutes at the speed of " in done.stdout
    assert f'ask --model "{out}"' in done.stdout
    assert cli_module.main(given) == 0
    assert "finished; it is loaded" in capsys.readouterr().out
    assert cli_module.main([*given, "--seed", "4"]) == 1
    assert "seed 0 there, 4 now" in capsys.readouterr().err
    assert cli_module.main(["ask", "What is number 3?", "--model", str(out), "--tokens", "4"]) == 0


def test_lab_opens_the_first_lesson_without_news(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    called: list[tuple[list[str], dict[str, str]]] = []
    server = nullcontext(SimpleNamespace(wait=lambda: 0))
    monkeypatch.setattr(
        notebooks.subprocess, "Popen", lambda command, env: called.append((command, env)) or server
    )
    assert cli_module.main(["lab", "--no-browser", "--", "--allow-root"]) == 0
    ((command, environment),) = called
    # A terminal in JupyterLab runs this very Python.
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert command[1:3] == ["-m", "jupyterlab"] and command[-2:] == ["--no-browser", "--allow-root"]
    assert f"--notebook-dir={ROOT}" in command  # the lessons link to docs, beside their folder
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command
    assert "--LabApp.news_url=None" in command
    assert capsys.readouterr().out == ""  # who sets Jupyter's options knows how
    assert cli_module.main(["lab", "--no-browser"]) == 0
    assert "-- --ip 0.0.0.0 --port 8888" in capsys.readouterr().out
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert cli_module.main(["lab"]) == 0 and capsys.readouterr().out == ""


def test_a_lesson_opens_with_this_machines_kernel_in_its_metadata(tmp_path: Path) -> None:
    """Else JupyterLab writes it there, and shows a lesson that nobody has changed as unsaved."""
    from ipykernel.ipkernel import IPythonKernel

    from llmcourse.lab import Lessons

    kernels = {"a": {"name": "python3", "display_name": "Old"}, "b": {"name": "julia"}, "c": None}
    for name, kernel in kernels.items():
        metadata = {"language_info": {"name": "python"}} | (
            {"kernelspec": kernel} if kernel else {}
        )
        book = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(book), encoding="utf-8")
    before = (tmp_path / "a.ipynb").read_bytes()
    manager = Lessons(root_dir=str(tmp_path))

    def metadata_of(name: str) -> dict[str, Any]:
        return asyncio.run(manager.get(f"{name}.ipynb"))["content"]["metadata"]

    shown = metadata_of("a")
    assert shown["language_info"] == IPythonKernel.language_info
    assert shown["kernelspec"]["display_name"] != "Old"
    assert (tmp_path / "a.ipynb").read_bytes() == before
    assert metadata_of("b")["kernelspec"] == {"name": "julia"} and "kernelspec" not in metadata_of(
        "c"
    )
    assert asyncio.run(manager.get("a.ipynb", content=False))["content"] is None
    assert len(asyncio.run(manager.get(""))["content"]) == 3
