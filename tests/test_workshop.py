"""What a learner hands to a teacher: complete, readable, nothing personal, and checked."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from llmcourse import claims, cli, doctor, models, tiers, workshop
from llmcourse.doctor import Check
from llmcourse.finetuning import Config

FINE = [Check("Python", "3.12"), Check("Memory", "9 GB free"), Check("Your files", "/srv/ada.b")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, a work folder of the test's own, and unpacked models."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "examine", lambda: FINE)
    monkeypatch.setattr(models, "is_converted", lambda name: True)
    return tmp_path


def written(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_a_ready_machine_says_so_in_a_line_and_leaves_a_file(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor", "--class", "--name", "Ada B."]) == 1  # a name can't end in a dot
    assert "up to 40 letters" in capsys.readouterr().err
    assert cli.main(["doctor", "--class", "--name", "Ada B"]) == 0
    line = "Ready. Send class-check-Ada_B.json to your teacher.\n"
    assert capsys.readouterr().out == line
    content = written("class-check-Ada_B.json")
    assert content["ready"] is True and content["to do"] == []
    assert content["found"] == {"Python": "3.12", "Memory": "9 GB free"}
    assert content["checksum"] == workshop.checksum(content)
    assert content["checksum"] != workshop.checksum(content | {"ready": False})
    assert cli.main(["doctor", "--class"]) == 0  # the name is kept
    assert capsys.readouterr().out == line


def test_what_is_missing_is_said_in_the_same_line(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = [*FINE, Check("Chat model", "missing", "Run\n    pip install it")]
    monkeypatch.setattr(doctor, "examine", lambda: missing)
    assert cli.main(["doctor", "--class", "--name", "ada"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("Not ready. (1) Chat model: Run pip install it Then run this again.")
    assert said.count("\n") == 1 and written("class-check-ada.json")["ready"] is False
    monkeypatch.setattr(doctor, "examine", lambda: FINE)
    monkeypatch.setattr(models, "is_converted", lambda name: "gemma" not in name)
    assert cli.main(["doctor", "--class"]) == 1
    assert "(1) gemma-3-270m not unpacked: run python -m llmcourse pref" in capsys.readouterr().out
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["doctor", "--class"]) == 1
    assert "(2) JupyterLab is missing" in capsys.readouterr().out


def test_nobody_to_ask_for_a_name_is_an_error_and_a_person_is_asked(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Grace\n"))
    assert cli.main(["doctor", "--class"]) == 1
    assert "with --name" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert cli.main(["doctor", "--class"]) == 0
    assert "class-check-Grace.json" in capsys.readouterr().out


def test_each_learner_has_a_seed_until_something_is_measured(here: Path) -> None:
    assert (tiers.seed(), Config().seed) == (0, 0)
    workshop.learner("ada")
    assert tiers.seed() == 0  # a name alone changes no training
    workshop.check("ada", FINE)
    seed = tiers.seed()
    assert seed > 0 and Config().seed == seed and Config(seed=3).seed == 3
    workshop.check("grace", FINE)
    assert tiers.seed() == seed  # trainings that are there stay those of their settings
    claims.record("lora", {"x": 1.0}, holds=True)
    assert claims.read()["lora"]["seed"] == seed
    (here / "work" / tiers.LEARNER).unlink()
    workshop.check("ada", FINE)
    assert tiers.seed() == 0  # measured with seed 0 already
    (here / "work" / tiers.LEARNER).write_text("{", encoding="utf-8")
    assert tiers.seed() == 0
