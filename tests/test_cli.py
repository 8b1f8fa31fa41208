"""The command line: help for each command, clear errors, exit codes, no tracebacks."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmcourse import cli as cli_module
from llmcourse import company, doctor, models
from llmcourse.errors import ModelNotInstalled
from tests.conftest import ROOT, Run
from tests.test_data import GOOD, lines

NEEDS_HARNESS = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="pip install -r requirements-harness.txt"
)
COMMANDS = ("doctor", "prefetch", "run", "results", "ask", "inspect", "finetune", "lab")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli_module.main([command, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m llmcourse " + command in capsys.readouterr().out


def test_all_commands_are_listed(cli: Run) -> None:
    done = cli("--help")
    assert all(command in done.stdout for command in COMMANDS)
    assert cli("--version").stdout.startswith("llmcourse 0.")


@pytest.mark.parametrize("arguments", ["", "asks", "ask", "run --tier huge", "inspect"])
def test_wrong_use_exits_2_and_shows_usage(arguments: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli_module.main(arguments.split())
    assert ended.value.code == 2 and "usage: python -m llmcourse" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        pytest.param(("ask", ""), {}, "The question is empty", marks=pytest.mark.model),
        (("ask", "Hi", "--model", "bsae"), {}, "Did you mean 'base'?"),
        pytest.param(
            ("ask", "Hi", "--template", "chatml"),
            {},
            "There is no template 'chatml'",
            marks=pytest.mark.model,
        ),
        pytest.param(
            ("ask", "Hi", "--model", "base", "--template", "chat"),
            {},
            "has no chat template",
            marks=pytest.mark.model,
        ),
        pytest.param(
            ("ask", "Hi", "--tokens", "0"), {}, "max_new_tokens=0", marks=pytest.mark.model
        ),
        pytest.param(
            ("ask", "Hi", "--tokens", "9000"), {}, "lower max_new_tokens", marks=pytest.mark.model
        ),
        pytest.param(
            ("ask", "Hi", "--temperature", "nan"),
            {},
            "temperature=nan must be 0",
            marks=pytest.mark.model,
        ),
        (("ask", "Hi"), {"LLMCOURSE_DEVICE": "cpu:x"}, "LLMCOURSE_DEVICE='cpu:x' is no device"),
        (("prefetch", "nothing"), {}, "There is no model 'nothing'"),
        (("prefetch", ""), {}, "There is no model ''"),
        (("results",), {"LLMCOURSE_TIER": "big"}, "LLMCOURSE_TIER='big' is not known"),
        (("ask", "Hi"), {"LLMCOURSE_MODELS": "both"}, "LLMCOURSE_MODELS='both' is not known"),
        (("inspect", "nowhere.jsonl"), {}, "nowhere.jsonl: no such file"),
        (("inspect", "README.md"), {}, "README.md is of the kind '.md'"),
        (("inspect", "tests"), {}, "tests holds no documents. They are read from .md"),
        (("own", "nowhere", "--out", "x"), {}, "nowhere: no such file"),
        pytest.param(("harness", "--tasks", "riddles"), {}, "riddles", marks=NEEDS_HARNESS),
        (("run", "77"), {}, "There is no lesson '77'"),
        (("run", "--notebooks", "nowhere"), {}, "There are no lessons in nowhere"),
    ],
)
def test_mistakes_exit_1_with_one_clear_line(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(ROOT)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli_module.main([*arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told
    assert len(told.strip().splitlines()) == 1, told


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


@pytest.mark.model
def test_a_terminal_without_some_signs_shows_the_rest(cli: Run) -> None:
    done = cli("results", "--tier", "smoke", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    done = cli("ask", "Hi 🎉", "--tokens", "3", "--template", "plain", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


@pytest.mark.model
def test_prefetch_knows_roles(cli: Run) -> None:
    done = cli("prefetch", "chat")
    assert done.returncode == 0 and done.stdout.startswith("smollm2-135m-instruct: ready in")


@pytest.mark.model
def test_ask_prints_only_the_answer(cli: Run) -> None:
    done = cli("ask", "What is the opposite of cold?", "--tokens", "64")
    assert done.returncode == 0, done.stderr
    assert "opposite" in done.stdout and "im_start" not in done.stdout
    assert done.stderr == ""
    cut = cli("ask", "Tell me about Mars", "--tokens", "4", "--model", "base")
    assert "(cut off after 4 tokens; --tokens N allows more)" in cut.stderr


@pytest.mark.model
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
    monkeypatch.setenv("LLMCOURSE_DTYPE", "float8")
    report = doctor.report()  # a wrong setting is one line of it, and the others are there
    assert "LLMCOURSE_DTYPE='float8' is not known" in " ".join(report.split())
    assert "Memory" in report and "Lessons" not in report


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


# --- inspect -------------------------------------------------------------------------------------

MESSY = Path(company.__path__[0]) / "messy.jsonl"


@pytest.fixture
def inspected(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict, str]]:
    """Inspect a file in this process: exit code, what was printed as JSON, what on stderr."""
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))

    def run(path: Path, *arguments: str) -> tuple[int, dict, str]:
        code = cli_module.main(["inspect", str(path), "--json", "--model", "none", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, json.loads(out) if out else {}, err

    return run


def test_inspect_lists_a_bad_line_and_looks_at_the_rest(
    inspected: Callable, tmp_path: Path
) -> None:
    """Which lines are bad is the matter of `data`; here they must reach the report."""
    path = tmp_path / "r.jsonl"
    content = lines(GOOD) + b'{"question": {"text": "Why?"}, "answer": "So."}\n' + lines(GOOD)
    path.write_bytes(content)
    code, report, err = inspected(path)
    assert (code, err, report["records"]) == (0, "", 2)
    (row,) = report["problems"]
    assert (row["source"], row["line"], row["field"]) == (str(path), 2, "question")
    assert "not an object" in row["problem"]
    assert path.read_bytes() == content


def test_inspect_tells_what_is_wrong_with_a_file_or_folder(
    inspected: Callable, tmp_path: Path
) -> None:
    (tmp_path / "r.jsonl").write_bytes(b"")
    (tmp_path / "documents").mkdir()
    for name in ("r.jsonl", "documents", "none.csv"):
        code, _, err = inspected(tmp_path / name)
        assert code == 1 and err.startswith("error: ") and str(tmp_path / name) in err
        assert len(err.splitlines()) == 1


def test_inspect_looks_at_documents_and_lists_what_it_skips(
    inspected: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Care\n\nWipe it.\n\n# Use\n\nTurn it on.")
    (tmp_path / "docs" / "empty.txt").write_bytes(b"")
    (tmp_path / "docs" / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "page.html").write_text("<img src='a.png'>")
    code, report, err = inspected(tmp_path)
    assert (code, err, report["records"]) == (0, "", 2)
    assert set(report["columns"]) == {"text", "document", "heading"}
    assert {Path(row["source"]).name: row["problem"][:22] for row in report["problems"]} == {
        "empty.txt": "it holds no text",
        "photo.jpg": "of the kind '.jpg'; do",
        "page.html": "it holds no text",
    }
    assert {one["kind"]: one["count"] for one in report["findings"]}["unreadable"] == 0
    assert cli_module.main(["inspect", str(tmp_path), "--text", "--model", "none"]) == 0
    assert f"left out: {tmp_path / 'page.html'}: it holds no text" in capsys.readouterr().out
    code, _, err = inspected(tmp_path, "--schema", "question/answer")
    assert code == 1 and "field 'question': missing" in err


def test_inspect_lists_bad_test_records_too(
    inspected: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_bytes(lines(GOOD, {**GOOD, "answer": ""}))
    test.write_bytes(lines(GOOD) + b"[1]\n")
    code, report, _ = inspected(train, "--test", str(test))
    assert code == 0
    assert [(row["source"], row["line"], row["problem"]) for row in report["problems"]] == [
        (str(train), 2, "blank"),
        (str(test), 2, "an object belongs here, not a list"),
    ]
    assert {one["kind"]: one["count"] for one in report["findings"]}["unreadable"] == 1
    arguments = ["inspect", str(train), "--test", str(test), "--text", "--model", "none"]
    assert cli_module.main(arguments) == 0
    out = capsys.readouterr().out
    assert f"left out: {train}, line 2, field 'answer': blank\nleft out: {test}, line 2: an" in out


@pytest.mark.model
def test_inspect_prints_text_on_a_terminal_and_json_into_a_pipe(
    cli: Run, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = MESSY.read_bytes()
    piped = json.loads(cli("inspect", str(MESSY)).stdout)
    assert piped["unit"] == "tokens" and len(piped["problems"]) == 20
    assert piped["problems"][0] == {
        "source": str(MESSY),
        "line": 30,
        "field": "answer",
        "problem": "blank",
    }
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli_module.main(["inspect", str(MESSY), "--model", "none"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"left out: {MESSY}, line 30, field 'answer': blank"
    assert out[10] == "left out: and 10 more"
    assert out[11] == "messy.jsonl: 300 records, 8,863 words"
    assert cli_module.main(["inspect", str(MESSY), "--model", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 300
    assert MESSY.read_bytes() == before


def test_inspect_compares_with_test_records(inspected: Callable, tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_bytes(lines(GOOD))
    _, report, _ = inspected(tmp_path / "train.jsonl", "--test", str(tmp_path / "test.jsonl"))
    assert {one["kind"]: one["count"] for one in report["findings"]}["leaked"] == 1
    code, _, err = inspected(tmp_path / "train.jsonl", "--test", str(tmp_path / "no.jsonl"))
    assert code == 1 and "no.jsonl: no such file" in err
    code, _, err = inspected(tmp_path / "train.jsonl", "--longest", "0")
    assert code == 1 and "longest=0 must be" in err
    code, _, err = inspected(tmp_path / "train.jsonl", "--schema", "qa")
    assert code == 1 and "no schema 'qa'" in err


def test_inspect_counts_words_where_the_model_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def missing(name: str) -> None:
        raise ModelNotInstalled(f"{name} is not installed.")

    monkeypatch.setattr(models, "load_tokenizer", missing)
    assert cli_module.main(["inspect", str(MESSY), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["unit"] == "words"
    assert err == "note: lengths are counted in words. base is not installed.\n"
    assert cli_module.main(["inspect", str(MESSY), "--model", "base"]) == 1
    assert capsys.readouterr().err == "error: base is not installed.\n"


def test_lab_opens_the_first_lesson_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(
        cli_module.subprocess, "call", lambda command, env: called.append((command, env)) or 0
    )
    assert cli_module.main(["lab", "--no-browser", "--", "--allow-root"]) == 0
    command, environment = called[0]
    # A terminal in JupyterLab runs this very Python.
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert command[1:3] == ["-m", "jupyterlab"] and command[-2:] == ["--no-browser", "--allow-root"]
    assert f"--notebook-dir={ROOT}" in command  # the lessons link to docs, beside their folder
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command
    assert "--LabApp.news_url=None" in command


def test_a_pipe_that_closes_early_is_no_error() -> None:
    code = f"{sys.executable} -m llmcourse --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    if os.name == "nt":
        pytest.skip("Windows shells have no PIPESTATUS")
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_model_is_tuned_saved_and_asked(
    cli: Run, pairs: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "tuned"
    given = [
        "finetune",
        "--data",
        str(pairs),
        "--base",
        str(tiny_folder),
        "--out",
        str(out),
        "--steps",
        "3",
        "--test",
        str(pairs),
        "--rank",
        "2",
        "--template",
        "qa",
    ]
    done = cli(*given)
    assert done.returncode == 0, done.stderr
    assert "3 updates" in done.stdout and f'ask --model "{out}"' in done.stdout
    assert "Warning" not in done.stderr
    assert cli_module.main(given) == 0
    assert "finished; it is loaded" in capsys.readouterr().out
    assert cli_module.main([*given, "--seed", "4"]) == 1
    assert "seed 0 there, 4 now" in capsys.readouterr().err
    asked = cli("ask", "What is number 3?", "--model", str(out), "--tokens", "4")
    assert asked.returncode == 0, asked.stderr
    assert "Warning" not in asked.stderr and "config file" not in asked.stderr


def test_a_tuning_says_what_it_chose_and_how_long_it_takes(
    pairs: Path,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["finetune", "--data", str(pairs), "--base", str(tiny_folder)]
    assert cli_module.main([*given, "--rank", "2"]) == 0
    said = capsys.readouterr().out
    out = tmp_path / f"pairs-{tiny_folder.name}"
    assert f'ask --model "{out.name}"' in said
    used = json.loads((out / "tuned.json").read_text(encoding="utf-8"))["settings"]
    assert "6 records, " in said and " minutes at the speed of " in said
    assert f"epochs {used['epochs']:g} (" in said and used["rank"] == 2 and "rank 2" not in said
    assert f"learning_rate {used['learning_rate']:g} (" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--epochs", "0"), "epochs=0.0 must be more than 0"),
        (("--method", "qlora"), "method='qlora' is none of 'lora', 'full'"),
        (("--base", "no-such-model"), "There is no model 'no-such-model'"),
        (("--every", "0"), "every=0 must be a whole number"),
    ],
)
def test_a_tuning_that_can_not_be(
    pairs: Path,
    tiny_folder: Path,
    tmp_path: Path,
    change: tuple[str, str],
    message: str,
    capsys: pytest.CaptureFixture,
) -> None:
    given = {"--data": str(pairs), "--base": str(tiny_folder), "--out": str(tmp_path / "o")}
    given |= dict([change])
    assert cli_module.main(["finetune", *[part for pair in given.items() for part in pair]]) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "o").exists()


def test_json_loses_no_sign_where_stdout_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    record = {"question": "\u540d\u524d\u306f\uff1f", "answer": "caf\u00e9 \u592a\u90ce"}
    path.write_text("\n".join([json.dumps(record)] * 2), encoding="utf-8")
    command = [sys.executable, "-m", "llmcourse", "inspect", str(path), "--json", "--model", "none"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True
    )
    assert record["question"] in json.dumps(json.loads(done.stdout), ensure_ascii=False)
