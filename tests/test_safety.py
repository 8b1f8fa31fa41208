"""Nothing that a learner's machine has trained is lost, and nothing half-written is used."""

from __future__ import annotations

import _thread
import dataclasses
import errno
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcourse import finetuning, models
from llmcourse.errors import NoSpace, SettingError
from llmcourse.finetuning import Config, TrainingStopped, checkpoints, completion_loss, finetune
from llmcourse.finetuning import engine as engine_module
from tests.conftest import ROOT
from tests.train_tiny import RECORDS

FEW = Config(steps=8, batch_size=4, learning_rate=3e-3, rank=2, dropout=0.1)
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def whole(tiny: models.LoadedModel, tmp_path: Path) -> bytes:
    """The adapter of an uninterrupted run."""
    train(tiny, tmp_path / "whole")
    return (tmp_path / "whole" / WEIGHTS).read_bytes()


def train(model: models.LoadedModel, out: Path | None, **more: Any) -> finetuning.TunedModel:
    return finetune(model, RECORDS, FEW, out=out, **{"every": 2, "progress": False} | more)


def stop_after(number: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Raise `error` in the middle of the update after `number`."""
    seen = []

    def interrupted(*arguments: Any, **more: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) > number:
            raise error
        return completion_loss(*arguments, **more)

    monkeypatch.setattr(engine_module, "completion_loss", interrupted)


def test_killed_again_and_again_it_ends_with_the_same_bits(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Three times the process gets no chance to clean up (benchmarks/resuming.py does twenty)."""
    chance = random.Random(0)

    def started(out: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "train_tiny.py"), str(tiny_folder), str(out)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=None,
        )

    whole = started(tmp_path / "whole")
    out, steps = tmp_path / "killed", []
    for _ in range(3):
        process = started(out)
        assert process.stdout is not None and process.stdout.readline() == "starts\n"
        before = newest(out)
        deadline = time.monotonic() + 120
        while newest(out) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.random() / 5)
        process.kill()
        process.wait()
        steps.append(newest(out))
    assert started(out).wait(300) == 0 == whole.wait(300)
    assert (out / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert steps == sorted(steps) and steps[0] > 0


def newest(out: Path) -> int:
    steps = [int(path.name.removeprefix("step-")) for path in out.glob("checkpoints/step-*")]
    return max(steps, default=0)


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_stays(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    usual = checkpoints._write

    def full(path: Path, content: bytes) -> None:
        if "step-00000006" in str(path) and path.name == checkpoints.OPTIMIZER:
            path.write_bytes(content[:50])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        usual(path, content)

    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(NoSpace, match="goes on from the last complete checkpoint"):
        train(tiny, tmp_path / "run")
    found = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert found == ["step-00000002", "step-00000004"]
    monkeypatch.setattr(checkpoints, "_write", usual)
    tuned = train(tiny, tmp_path / "run")
    assert "Goes on after update 4" in tuned.notes[0]
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == whole


def test_an_error_in_the_middle_of_an_update_loses_no_checkpoint(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    with monkeypatch.context() as patch:
        stop_after(5, patch, RuntimeError("the cat walked over it"))
        with pytest.raises(RuntimeError, match="cat"):
            train(tiny, tmp_path / "run")
    assert newest(tmp_path / "run") == 4
    tuned = train(tiny, tmp_path / "run")
    assert [row["step"] for row in tuned.history] == list(range(1, 9))
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == whole


def cut_off(run: Path) -> str:
    draft = run / "checkpoints" / ".step-00000005.part"
    draft.mkdir()
    (draft / checkpoints.WEIGHTS).write_bytes(b"half")
    return "Skipped, as it is not complete: .step-00000005.part (its writing was cut short)."


def damaged(run: Path) -> str:
    path = run / "checkpoints" / "step-00000004" / checkpoints.WEIGHTS
    path.write_bytes(path.read_bytes()[:200])
    return "Skipped, as it is not complete: step-00000004 ("


def without_state(run: Path) -> str:
    (run / "checkpoints" / "step-00000004" / checkpoints.STATE).unlink()
    return "Skipped, as it is not complete: step-00000004 ("


@pytest.mark.parametrize(("harm", "goes_on"), [(cut_off, 4), (damaged, 2), (without_state, 2)])
def test_what_is_not_complete_is_skipped_and_told(
    tiny: models.LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: bytes,
    harm: Any,
    goes_on: int,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(5, patch, RuntimeError("stop"))
        with pytest.raises(RuntimeError):
            train(tiny, tmp_path / "run")
    told = harm(tmp_path / "run")
    tuned = train(tiny, tmp_path / "run")
    assert tuned.notes[0].startswith(told)
    assert f"Goes on after update {goes_on}," in tuned.notes[1]
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == whole


def test_interrupt_saves_stops_and_goes_on(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    seen = []

    def pressed(*arguments: Any, **more: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 3:
            _thread.interrupt_main()  # what Interrupt in a notebook and Ctrl-C come to
        return completion_loss(*arguments, **more)

    monkeypatch.setattr(engine_module, "completion_loss", pressed)
    with pytest.raises(TrainingStopped, match="Stopped by you after update 3 of 8") as caught:
        train(tiny, tmp_path / "run", every=1000)
    assert "is kept in" in str(caught.value) and caught.value.by_user
    assert newest(tmp_path / "run") == caught.value.step == 3
    assert len(caught.value.model.history) == 3
    train(tiny, tmp_path / "run", every=1000)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == whole


def test_interrupt_without_a_folder_says_that_nothing_was_saved(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*arguments: Any, **more: Any) -> torch.Tensor:
        _thread.interrupt_main()
        return completion_loss(*arguments, **more)

    monkeypatch.setattr(engine_module, "completion_loss", pressed)
    with pytest.raises(TrainingStopped, match="Nothing was saved, as no folder was named") as stop:
        train(tiny, None)
    assert stop.value.model.history and not stop.value.model.model.training


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_and_names_the_records(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    seen, before_the_third = [], {}

    def strange(model: Any, **batch: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 3:
            before_the_third.update({n: p.detach().clone() for n, p in model.named_parameters()})
        if len(seen) == 4:
            with torch.no_grad():  # the update before has gone astray
                for name, weight in model.named_parameters():
                    if "lora_A" in name:
                        weight.fill_(broken)
        return completion_loss(model, **batch)

    monkeypatch.setattr(engine_module, "completion_loss", strange)
    with pytest.raises(TrainingStopped) as caught:
        train(tiny, None)
    message = str(caught.value)
    assert "after update 3 of 8. The loss of update 4 is no finite number" in message
    assert "its records are " in message and "last good weights" in message
    model = caught.value.model
    assert len(model.history) == 3
    for name, weight in model.model.named_parameters():
        assert torch.isfinite(weight).all(), name
        assert torch.equal(weight, before_the_third[name]), name


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
            return slope * float("nan")

    monkeypatch.setattr(
        engine_module, "completion_loss", lambda *a, **k: Bad.apply(completion_loss(*a, **k))
    )
    with pytest.raises(TrainingStopped, match="The gradient of update 1 is no finite") as caught:
        train(tiny, None)
    assert all(torch.isfinite(weight).all() for weight in caught.value.model.model.parameters())


def test_two_runs_into_one_folder(tiny: models.LoadedModel, tmp_path: Path) -> None:
    with (
        checkpoints.opened(tmp_path / "run", {"a": 1}),
        pytest.raises(SettingError, match="Another training is writing into"),
    ):
        train(tiny, tmp_path / "run")


def test_a_folder_with_something_else_is_left_alone(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    for fresh in (False, True):
        with pytest.raises(SettingError, match="holds something else already"):
            train(tiny, tmp_path, fresh=fresh)
    with pytest.raises(SettingError, match="is a file"):
        train(tiny, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    tuned = train(tiny, None)
    with pytest.raises(SettingError, match="holds something else already"):
        tuned.save(tmp_path)


def test_another_training_in_the_folder_is_refused_or_begun_anew(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    train(tiny, tmp_path / "run")
    other = dataclasses.replace(FEW, seed=3)
    with pytest.raises(SettingError, match="seed 0 there, 3 now"):
        finetune(tiny, RECORDS, other, out=tmp_path / "run", progress=False)
    with pytest.raises(SettingError, match="records '12, with the digest"):
        finetune(tiny, RECORDS[1:], FEW, out=tmp_path / "run", progress=False)
    tuned = finetune(tiny, RECORDS, other, out=tmp_path / "run", fresh=True, progress=False)
    assert tuned.config.seed == 3
    assert models.load(str(tmp_path / "run")).template == "qa"


def test_a_description_that_can_not_be_read(tiny: models.LoadedModel, tmp_path: Path) -> None:
    (tmp_path / checkpoints.RUN).write_text("{", encoding="utf-8")
    with pytest.raises(SettingError, match="run.json can't be read"):
        train(tiny, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="a small disk is made with Linux's tmpfs")
def test_a_real_disk_that_is_full(tiny: models.LoadedModel, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs rights that this user does not have")
    try:
        with pytest.raises(NoSpace, match="No space left in"):
            train(tiny, disk / "run")
        assert not list(disk.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_random_state_is_as_it_was(tiny: models.LoadedModel) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    train(tiny, None)
    assert torch.equal(torch.rand(3), wanted)
