"""Files go where the user can write, whatever is shared or read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmcourse import doctor, files
from tests.conftest import ROOT

# Permissions do not bind root, so in a container it gives up the two capabilities that pass them.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = ({"question": f"What is {n} and {n}?", "answer": f"It is {n + n}."} for n in range(8))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_scratch_goes_to_the_first_place_that_can_be_written(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in a folder's place refuses every user on every system, root too."""
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "own")
    assert files.writable_cache("records") == own_cache / "records"
    shutil.rmtree(own_cache)
    own_cache.mkdir()
    (own_cache / "records").touch()
    assert files.writable_cache("records") == tmp_path / "own" / "records"
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "own").touch()
    third = files.writable_cache("records")
    assert third.is_dir() and third.name == "records" and tmp_path not in third.parents


def test_doctor_tells_where_files_will_go(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "file" / "work"))
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "file" / "cache"))
    found = {check.name: check for check in doctor.examine()}
    assert "Set LLMCOURSE_CACHE to a folder" in found["Disk"].advice
    assert "Set LLMCOURSE_WORK to a folder" in found["Your files"].advice
    assert str(tmp_path / "file") not in found["Temporary files"].found


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permissions of this kind")
def test_a_shared_read_only_cache_and_home_are_enough(
    tmp_path: Path, pairs: Path, tiny_folder: Path
) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv here to give that up")
    shared, home, own = tmp_path / "shared", tmp_path / "home", tmp_path / "tuned"
    for folder in (shared, home):
        folder.mkdir()
        folder.chmod(0o555)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "HF_"))}
    env |= {"LLMCOURSE_CACHE": str(shared), "HOME": str(home), "LLMCOURSE_WORK": str(home / "work")}

    def command(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*UNPRIVILEGED * (os.geteuid() == 0), sys.executable, "-m", "llmcourse", *arguments],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    seen = command("inspect", str(pairs), "--model", "none", "--text")
    assert seen.returncode == 0, seen.stderr
    tuned = command(
        "finetune",
        "--data",
        str(pairs),
        "--base",
        str(tiny_folder),
        "--steps",
        "1",
        "--out",
        str(own),
    )
    assert tuned.returncode == 0, tuned.stderr
    assert (own / "adapter_model.safetensors").is_file()
    assert not any(shared.iterdir()) and not any(home.iterdir())
