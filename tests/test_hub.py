"""The parts of the class's server that need no server; `make test-hub` tries all of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


def load(name: str) -> ModuleType:
    path = ROOT / "classroom" / "hub" / name
    spec = importlib.util.spec_from_file_location(f"hub_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_kernel_that_was_killed_for_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = load("kernels/python3/kernel.py")
    note, ends = tmp_path / "kernel.json.memory", []
    monkeypatch.setattr(kernel.atexit, "register", lambda work, **more: ends.append((work, more)))
    kills = iter([3, 3, 4, 5, 6])
    monkeypatch.setattr(kernel, "killed_for_memory", lambda: next(kills))
    assert not kernel.ran_out(note)  # the first
    assert not kernel.ran_out(note)  # killed, and not for memory
    assert kernel.ran_out(note)
    end, more = ends[-1]
    end(**more)  # it ends by itself
    assert not kernel.ran_out(note)  # another was killed for memory meanwhile
    note.write_text("damaged", encoding="ascii")
    assert not kernel.ran_out(note)
    monkeypatch.setenv("MEM_LIMIT", "4000000000")
    assert "memory ran out" in kernel.message() and "4.0 GB" in kernel.message()


@pytest.mark.skipif(os.name == "nt", reason="Unix accounts")
@pytest.mark.parametrize(
    ("text", "fault"), [("ada\nGrace\n", "line 2: 'Grace'"), ("ada\n\nada", "line 3: ada comes")]
)
def test_a_name_that_can_be_no_account_is_refused_before_any_is_made(
    text: str, fault: str, tmp_path: Path
) -> None:
    accounts, names = load("accounts.py"), tmp_path / "names.txt"
    names.write_text("\ufeffada-1\n\nbob\n", encoding="utf-8")
    assert accounts.read_names(names) == ["ada-1", "bob"]
    names.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=fault):
        accounts.read_names(names)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes share")
def test_the_memory_of_a_process_is_what_it_has_and_shares() -> None:
    memory = load("memory.py")
    before = memory.pss([os.getpid()])["private"]
    held = bytearray(os.urandom(1)) * 50_000_000
    found = memory.pss([os.getpid()])
    assert found["private"] - before > 40
    assert found["total"] == pytest.approx(found["private"] + found["shared"])
    assert os.getpid() in memory.pids_of(os.getuid())
    assert held and memory.pss([2**22 + 1]) == {"total": 0, "private": 0, "shared": 0}
