"""Nothing that a learner's machine has trained is lost, and nothing half-written is used."""

from __future__ import annotations

import _thread
import dataclasses
import errno
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcourse import finetuning, models
from llmcourse.errors import NoSpace, SettingError
from llmcourse.finetuning import Config, TrainingStopped, checkpoints, engine, finetune
from llmcourse.loss import completion_loss
from tests.conftest import ROOT
from tests.train_tiny import CONFIG, RECORDS

FEW = Config(steps=8, batch_size=4, learning_rate=3e-3, rank=2, dropout=0.1)
WEIGHTS = "adapter_model.safetensors"
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def undisturbed(tiny_once: models.LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of an uninterrupted training."""
    usual, out = torch.get_num_threads(), tmp_path_factory.mktemp("undisturbed") / "run"
    torch.set_num_threads(1)  # as `tiny` has it: sums in another order differ in their last bits
    train(tiny_once, out)
    torch.set_num_threads(usual)
    return (out / WEIGHTS).read_bytes()


def train(model: models.LoadedModel, out: Path | None, **more: Any) -> finetuning.TunedModel:
    return finetune(model, RECORDS, FEW, out=out, **{"eval_steps": 2, "progress": False} | more)


def at_update(number: int, patch: Patch, action: Callable[[Any], Any]) -> None:
    """Call `action` with the model before the loss of the update `number` (from 1)."""
    calls = []

    def loss(model: Any, **batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == number:
            action(model)
        return completion_loss(model, **batch)

    patch.setattr(engine, "completion_loss", loss)


def fail(_: Any) -> None:
    raise RuntimeError("the cat walked over it")


def newest(out: Path) -> int:
    return checkpoints.Run(out).newest_step() or 0


def test_killed_in_the_middle_it_ends_with_the_same_bits(
    tiny: models.LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    """The process gets no chance to clean up (benchmarks/resuming.py does it twenty times)."""
    out, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, str(ROOT / "tests" / "train_tiny.py"), str(tiny_folder), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "starts\n"
    deadline = time.monotonic() + 120
    while not newest(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 0 < newest(out) < (CONFIG.steps or 0)
    finetune(tiny, RECORDS, CONFIG, out=whole, save_steps=2, eval_steps=1000, progress=False)
    assert subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True).returncode == 0
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_a_full_disk_ends_the_run_and_the_last_checkpoint_stays(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: Patch, undisturbed: bytes
) -> None:
    usual, run = checkpoints.save_file, tmp_path / "run"

    def full(tensors: Any, path: Path) -> None:
        usual(tensors, path)
        if "step-00000006" in str(path):
            path.write_bytes(path.read_bytes()[:50])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        with pytest.raises(NoSpace, match="then run the same again"):
            train(tiny, run)
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert found == ["step-00000002", "step-00000004"]
    assert "Goes on after update 4" in train(tiny, run).notes[0]
    assert (run / WEIGHTS).read_bytes() == undisturbed


def unfinished(run: Path) -> None:
    draft = run / "checkpoints" / ".step-00000005.new-1"
    draft.mkdir()
    (draft / checkpoints.TENSORS).write_bytes(b"half")


def damaged(run: Path) -> None:
    path = run / "checkpoints" / "step-00000004" / checkpoints.TENSORS
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(("harm", "goes_on"), [(unfinished, 4), (damaged, 2)])
def test_what_is_not_complete_is_skipped(
    tiny: models.LoadedModel,
    tmp_path: Path,
    monkeypatch: Patch,
    undisturbed: bytes,
    harm: Callable[[Path], None],
    goes_on: int,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_update(6, patch, fail)
        with pytest.raises(RuntimeError, match="cat"):
            train(tiny, run)
    assert newest(run) == 4
    harm(run)
    tuned = train(tiny, run)
    assert f"Goes on after update {goes_on}," in tuned.notes[-1]
    skipped = [note for note in tuned.notes if note.startswith("Skipped, as it is not complete")]
    assert [": step-00000004 (" in note for note in skipped] == [True] * (goes_on == 2)
    assert [row["step"] for row in tuned.history] == list(range(1, 9))
    assert (run / WEIGHTS).read_bytes() == undisturbed


def test_interrupt_saves_stops_and_goes_on(
    tiny: models.LoadedModel, tmp_path: Path, monkeypatch: Patch, undisturbed: bytes
) -> None:
    # what Interrupt in a notebook and Ctrl-C come to
    at_update(3, monkeypatch, lambda _: _thread.interrupt_main())
    with pytest.raises(TrainingStopped, match="Stopped by you after update 3 of 8") as caught:
        train(tiny, tmp_path / "run", eval_steps=1000)
    assert "is kept in" in str(caught.value) and caught.value.by_user
    assert newest(tmp_path / "run") == caught.value.step == 3
    assert len(caught.value.model.history) == 3
    train(tiny, tmp_path / "run", eval_steps=1000)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == undisturbed
    at_update(1, monkeypatch, lambda _: _thread.interrupt_main())
    with pytest.raises(TrainingStopped, match="Nothing was saved, as no folder was named") as stop:
        train(tiny, None)
    assert stop.value.model.history and not stop.value.model.model.training


def test_a_loss_that_is_not_finite_stops_and_names_the_records(
    tiny: models.LoadedModel, monkeypatch: Patch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []  # the weights before each update

    def loss(model: Any, **batch: Any) -> torch.Tensor:
        seen.append({n: p.detach().clone() for n, p in model.named_parameters()})
        with torch.no_grad():  # as if the third update had gone astray
            for name, weight in model.named_parameters() if len(seen) == 4 else ():
                if "lora_A" in name:
                    weight.fill_(torch.nan)
        return completion_loss(model, **batch)

    monkeypatch.setattr(engine, "completion_loss", loss)
    with pytest.raises(TrainingStopped) as caught:
        train(tiny, None)
    message = str(caught.value)
    assert "after update 3 of 8. The loss of update 4 is NaN or infinite" in message
    assert "its records are " in message and "last good weights" in message
    assert len(caught.value.model.history) == 3
    for name, weight in caught.value.model.model.named_parameters():
        assert torch.equal(weight, seen[2][name]), name


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    tiny: models.LoadedModel, monkeypatch: Patch
) -> None:
    def loss(model: Any, **batch: Any) -> torch.Tensor:
        total = completion_loss(model, **batch)
        total.register_hook(lambda grad: grad * float("nan"))
        return total

    monkeypatch.setattr(engine, "completion_loss", loss)
    with pytest.raises(TrainingStopped, match="The gradient of update 1 is NaN") as caught:
        train(tiny, None)
    assert all(torch.isfinite(weight).all() for weight in caught.value.model.model.parameters())


def test_a_folder_that_is_not_this_trainings_is_left_alone(
    tiny: models.LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    tuned = train(tiny, None)
    for out, fresh in ((tmp_path, False), (tmp_path, True), (tmp_path / "thesis.txt", False)):
        with pytest.raises(SettingError, match="holds something else already"):
            train(tiny, out, fresh=fresh)
    with pytest.raises(SettingError, match="holds something else already"):
        tuned.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with (
        checkpoints.opened(tmp_path / "run", {"a": 1}),
        pytest.raises(SettingError, match="Another training is writing into"),
    ):
        train(tiny, tmp_path / "run")
    (tmp_path / "run" / checkpoints.RUN).write_text("{", encoding="utf-8")
    with pytest.raises(SettingError, match=r"run.json can't be read"):
        train(tiny, tmp_path / "run")


def test_another_training_in_the_folder_is_refused_or_replaced(
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


def test_the_random_state_is_as_it_was(tiny: models.LoadedModel) -> None:
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(3), random.random()
    torch.manual_seed(3)
    random.seed(3)
    train(tiny, None)
    assert torch.equal(torch.rand(3), expected[0]) and random.random() == expected[1]
