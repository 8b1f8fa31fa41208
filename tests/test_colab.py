"""Colab, with a small stand-in for its modules: Drive, secrets, and what goes wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from llmcourse import colab, hosted
from llmcourse.errors import SettingError
from llmcourse.files import work_dir


class SecretNotFoundError(Exception):
    """As Colab has it."""


class NotebookAccessError(Exception):
    """As Colab has it."""


class TimeoutException(Exception):
    """As Colab has it."""


@pytest.fixture
def on_colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`google.colab` with a Drive in a folder and two secrets."""
    secrets: dict[str, Any] = {"OPENAI_API_KEY": " sk-from-colab ", "LOCKED": NotebookAccessError}

    def get(name: str) -> str:
        found = secrets.get(name, SecretNotFoundError)
        if isinstance(found, str):
            return found
        raise found(name)

    def mount(place: str) -> None:
        (Path(place) / "MyDrive").mkdir(parents=True, exist_ok=True)

    stand_in: Any = ModuleType("google.colab")
    stand_in.userdata = SimpleNamespace(get=get, NotebookAccessError=NotebookAccessError)
    stand_in.drive = SimpleNamespace(mount=mount)
    google: Any = ModuleType("google")
    google.colab = stand_in
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", stand_in)
    monkeypatch.setattr(colab, "MOUNT", tmp_path / "drive")
    for name in ("LLMCOURSE_WORK", hosted.KEY, hosted.URL):
        monkeypatch.setenv(name, "")
    return SimpleNamespace(secrets=secrets, drive=stand_in.drive, place=tmp_path / "drive")


def test_work_goes_to_drive(on_colab: SimpleNamespace) -> None:
    place = colab.keep_on_drive()
    assert place == on_colab.place / "MyDrive" / "llmcourse" and place.is_dir()
    assert work_dir() == place == Path(os.environ["LLMCOURSE_WORK"])


def _denied(_: str) -> None:
    raise ValueError("mount failed: invalid oauth code")


def _full(place: str) -> None:
    (Path(place)).mkdir()
    (Path(place) / "MyDrive").write_text("no folder")


@pytest.mark.parametrize(
    ("mount", "said"), [(_denied, "could not be mounted"), (_full, "could not be made")]
)
def test_a_drive_that_cannot_be_used_is_explained(
    on_colab: SimpleNamespace, mount: Callable, said: str
) -> None:
    on_colab.drive.mount = mount
    with pytest.raises(SettingError, match=said):
        colab.keep_on_drive()
    assert not os.environ["LLMCOURSE_WORK"]


def test_a_key_comes_from_the_secrets(on_colab: SimpleNamespace) -> None:
    found = hosted.Server.found()
    assert found is not None and found.key == "sk-from-colab" and "sk-" not in repr(found)
    assert colab.secret("OTHER") is None  # there is none


def test_the_environment_comes_first(
    on_colab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hosted.KEY, "mine")
    assert hosted.Server.found().key == "mine"


def test_a_secret_without_access_says_what_to_do(on_colab: SimpleNamespace) -> None:
    with pytest.raises(SettingError, match="notebook access"):
        colab.secret("LOCKED")


@pytest.mark.parametrize("error", [TimeoutException, AttributeError])
def test_outside_of_its_own_page_colab_has_no_secrets(
    on_colab: SimpleNamespace, error: type[Exception]
) -> None:
    on_colab.secrets["OPENAI_API_KEY"] = error
    assert hosted.Server.found() is None


def test_elsewhere_there_is_no_colab() -> None:
    assert colab.secret("OPENAI_API_KEY") is None
    with pytest.raises(SettingError, match="not Colab"):
        colab.keep_on_drive()
