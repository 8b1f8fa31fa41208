"""Files go where the user can write, complete or not at all, and a full disk is recognised."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmcourse import files
from llmcourse.errors import is_disk_full, is_out_of_memory
from llmcourse.files import write_lines
from tests.conftest import ROOT

# Permissions do not bind root, so in a container it gives up the two capabilities that pass them.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


FULL = """
import resource, signal, torch
from safetensors.torch import save_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
save_file({"a": torch.zeros(9999)}, "too_large.safetensors")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of files")
def test_safetensors_reports_the_systems_error_in_words_alone(tmp_path: Path) -> None:
    """`errors.is_disk_full` reads the number from there: 27 here, 28 on a full disk."""
    command = [sys.executable, "-c", FULL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert f"(os error {errno.EFBIG})" in done.stderr.splitlines()[-1]
    said = done.stderr.replace(f"{errno.EFBIG})", f"{errno.ENOSPC})")
    assert is_disk_full(Exception(said)) and not is_disk_full(Exception(done.stderr))
    assert is_disk_full(OSError(errno.ENOSPC, "")) and not is_disk_full(OSError(errno.EIO, ""))


def test_torch_reports_missing_memory_in_words_alone() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert type(error.value) is RuntimeError and is_out_of_memory(error.value)
    assert is_out_of_memory(torch.OutOfMemoryError("")) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(errno.ENOMEM, "")) and not is_out_of_memory(RuntimeError("x"))


def test_scratch_goes_to_the_first_place_that_can_be_written(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where a folder should be refuses every user on every system, root too."""
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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permissions of this kind")
def test_a_shared_read_only_cache_and_home_are_enough(tmp_path: Path, tiny_folder: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv here to give that up")
    rows = ({"question": f"What is {n} and {n}?", "answer": f"It is {n + n}."} for n in range(8))
    write_lines(tmp_path / "pairs.jsonl", rows)
    shared, home, own = tmp_path / "shared", tmp_path / "home", tmp_path / "tuned"
    for folder in (shared, home):
        folder.mkdir()
        folder.chmod(0o555)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "HF_"))}
    env |= {"LLMCOURSE_CACHE": str(shared), "HOME": str(home), "LLMCOURSE_WORK": str(home / "work")}
    pairs, base = str(tmp_path / "pairs.jsonl"), str(tiny_folder)
    command = [*(UNPRIVILEGED if os.geteuid() == 0 else ()), sys.executable, "-m", "llmcourse"]
    command += ["finetune", "--data", pairs, "--base", base, "--steps", "1", "--out", str(own)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (own / "adapter_model.safetensors").is_file()
    assert not any(shared.iterdir()) and not any(home.iterdir())
