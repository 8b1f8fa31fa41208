"""The command line: help for each command, clear errors, exit codes, no tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmcourse import cli as cli_module
from llmcourse import doctor, models
from tests.conftest import ROOT, Run

COMMANDS = ("doctor", "prefetch", "run", "results", "ask", "lab")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Run, command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "usage: python -m llmcourse " + command in done.stdout


def test_all_commands_are_listed(cli: Run) -> None:
    done = cli("--help")
    assert all(command in done.stdout for command in COMMANDS)
    assert cli("--version").stdout.startswith("llmcourse 0.")


@pytest.mark.parametrize("arguments", [(), ("asks",), ("ask",), ("run", "--tier", "huge")])
def test_wrong_use_exits_2_and_shows_usage(cli: Run, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert "usage: python -m llmcourse" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("ask", ""), {}, "The question is empty"),
        (("ask", "Hi", "--model", "bsae"), {}, "Did you mean 'base'?"),
        (("ask", "Hi", "--template", "chatml"), {}, "There is no template 'chatml'"),
        (("ask", "Hi", "--model", "base", "--template", "chat"), {}, "has no chat template"),
        (("ask", "Hi", "--tokens", "0"), {}, "max_new_tokens=0"),
        (("ask", "Hi", "--tokens", "9000"), {}, "lower max_new_tokens"),
        (("ask", "Hi", "--temperature", "nan"), {}, "temperature=nan must be 0"),
        (("ask", "Hi"), {"LLMCOURSE_DEVICE": "cpu:x"}, "LLMCOURSE_DEVICE='cpu:x' is no device"),
        (("prefetch", "nothing"), {}, "There is no model 'nothing'"),
        (("prefetch", ""), {}, "There is no model ''"),
        (("results",), {"LLMCOURSE_TIER": "big"}, "LLMCOURSE_TIER='big' is not known"),
        (("ask", "Hi"), {"LLMCOURSE_MODELS": "both"}, "LLMCOURSE_MODELS='both' is not known"),
        (("run", "77"), {}, "There is no lesson '77'"),
        (("run", "--notebooks", "nowhere"), {}, "There are no lessons in nowhere"),
    ],
)
def test_mistakes_exit_1_with_one_clear_line(
    cli: Run, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = cli(*arguments, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_the_unforeseen_is_one_line_and_debug_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("llmcourse.doctor.examine", broken)
    assert cli_module.main(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: deep inside. This was not foreseen; set LLMCOURSE_DEBUG=1 to "
        "see where it happened.\n"
    )
    monkeypatch.setenv("LLMCOURSE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli_module.main(["doctor"])


def test_a_terminal_without_some_signs_shows_the_rest(cli: Run) -> None:
    done = cli("results", "--tier", "smoke", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    done = cli("ask", "Hi 🎉", "--tokens", "3", "--template", "plain", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_prefetch_knows_roles(cli: Run) -> None:
    done = cli("prefetch", "chat")
    assert done.returncode == 0 and done.stdout.startswith("smollm2-135m-instruct: ready in")


def test_ask_prints_only_the_answer(cli: Run) -> None:
    done = cli("ask", "What is the opposite of cold?", "--tokens", "24")
    assert done.returncode == 0, done.stderr
    assert "opposite" in done.stdout and "im_start" not in done.stdout
    assert done.stderr == ""
    cut = cli("ask", "Tell me about Mars", "--tokens", "4", "--model", "base")
    assert "(cut off after 4 tokens; --tokens N allows more)" in cut.stderr


def test_doctor_is_content_here_and_says_what_is_missing(
    cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: str
) -> None:
    done = cli("doctor")
    assert done.returncode == 0, done.stdout
    assert "All is well." in done.stdout
    for word in ("Python", "Memory", "Device", "Tier", "Base model", "Chat model", "Lessons"):
        assert word in done.stdout
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = doctor.report()
    assert "!!  Base model" in report and models.INSTALL in report
    assert "thing(s) to mend" in report


def test_a_python_without_the_packages_is_told_which_one_to_use() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "llmcourse", "doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "is missing in" in done.stderr and "python3 install.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_lab_opens_the_first_lesson_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(cli_module.subprocess, "call", lambda command: called.append(command) or 0)
    assert cli_module.main(["lab", "--no-browser", "--", "--allow-root"]) == 0
    command = called[0]
    assert command[1:3] == ["-m", "jupyterlab"] and command[-2:] == ["--no-browser", "--allow-root"]
    assert "--LabApp.default_url=/lab/tree/00_start_here.ipynb" in command
    assert "--LabApp.news_url=None" in command


def test_a_pipe_that_closes_early_is_no_error() -> None:
    code = f"{sys.executable} -m llmcourse --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    if os.name == "nt":
        pytest.skip("Windows shells have no PIPESTATUS")
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
