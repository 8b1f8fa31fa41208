"""Two processes that train one model over gloo give what one process gives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmcourse import models, progress
from llmcourse.errors import SettingError
from llmcourse.finetuning import Config, callbacks, finetune, processes
from llmcourse.finetuning.checkpoints import trained_weights
from tests import two_processes
from tests.conftest import ROOT

BATCH = {"batch_size": 5, "epochs": 2, "learning_rate": 1e-2}
TASKS: dict[str, dict[str, Any]] = {
    "adapter": {
        "config": BATCH,
        "held_out": 4,
        "call": {"sample_prompts": ["What is Ferrowick?"], "eval_steps": 2, "sample_tokens": 4},
    },
    # plain gradient descent: a gradient of another size gives other weights
    "every weight": {
        "config": BATCH
        | {"method": "full", "optimizer": "sgd", "learning_rate": 0.5, "micro_batch": 2}
    },
    "early stop": {
        "config": BATCH | {"epochs": 4, "learning_rate": 0.02, "patience": 1, "warmup": 0},
        "held_out": 4,
        "call": {"eval_steps": 1},
    },
}
# What is killed and goes on. Without FSDP with dropout: what falls out by chance differs from
# process to process, so their generators must come back too.
KILLED: dict[str, Any] = {
    "two": {"config": {**BATCH, "dropout": 0.2}, "call": {"eval_steps": 2}},
    "sharded": {"config": BATCH, "call": {"eval_steps": 2}},
}
CONFIGS = {"two": "cpu_2", "sharded": "fsdp_7b"}
PARTS = [name for name in TASKS if name != "early stop"]  # tried under FSDP


@dataclass
class Launched:
    """What came of a launch: its exit code and stderr, and what each process saw."""

    code: int
    stderr: str
    folder: Path

    def of(self, process: int) -> dict[str, Any]:
        """What a process saw, by task."""
        return json.loads((self.folder / f"{process}.json").read_text(encoding="utf-8"))

    def weights(self, task: str, process: int) -> dict[str, torch.Tensor]:
        """What a process had trained at the end of a task."""
        return load_file(self.folder / f"{task}-{process}.safetensors")


def launch(
    model: Path, folder: Path, tasks: dict[str, Any], config: str = "cpu_2", **more: Any
) -> Launched:
    """Run tests/two_processes.py in two processes, as docs/scaling.md says."""
    folder.mkdir()
    job = {"model": str(model), "result": str(folder), "tasks": tasks, **more}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            str(ROOT / "docs" / f"{config}.yaml"),
            "--num_processes",
            "2",
            "--mixed_precision",
            "no",
            str(ROOT / "tests" / "two_processes.py"),
            json.dumps(job),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    return Launched(done.returncode, done.stderr, folder)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(tiny_folder: Path, work: Path) -> Launched:
    """All tasks in two processes, an adapter's into a folder."""
    tasks = {name: dict(task) for name, task in TASKS.items()} | {"killed": KILLED["two"]}
    into = {"out": str(work / "adapter")}
    tasks["adapter"] |= {"call": tasks["adapter"]["call"] | into}
    tasks["again"] = tasks["adapter"]
    (work / "other").mkdir()
    (work / "other" / "notes.txt").write_text("mine", encoding="utf-8")
    tasks["occupied"] = {"config": BATCH, "call": {"out": str(work / "other")}}
    done = launch(tiny_folder, work / "result", tasks)
    assert done.code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def sharded(tiny_folder: Path, work: Path) -> Launched:
    """The same under FSDP, with the project's own configuration."""
    tasks = {name: dict(TASKS[name]) for name in PARTS} | {"killed": KILLED["sharded"]}
    tasks["adapter"] |= {"call": tasks["adapter"]["call"] | {"out": str(work / "parts")}}
    done = launch(tiny_folder, work / "sharded", tasks, "fsdp_7b")
    assert done.code == 0, done.stderr
    return done


def closest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two models' weights."""
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize(
    ("kind", "name"), [*(("two", n) for n in TASKS), *(("sharded", n) for n in PARTS)]
)
def test_two_processes_learn_what_one_learns(
    tiny: models.LoadedModel, name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    two: Launched = request.getfixturevalue(kind)
    assert two.of(0)[name]["share"] == pytest.approx(0.5 if kind == "sharded" else 1, abs=0.1)
    alone = two_processes.train(
        tiny, {**TASKS[name], "call": {**TASKS[name].get("call", {}), "progress": False}}
    )
    weights = {key: value.detach() for key, value in trained_weights(alone.model).items()}
    assert alone.history[0]["loss"] - min(row["loss"] for row in alone.history) > 0.05
    for process in (0, 1):
        seen = two.of(process)
        assert seen["processes"] == 2  # and not one that was started for both
        for rows, wanted in (("history", alone.history), ("held_out", alone.held_out)):
            assert len(seen[name][rows]) == len(wanted)
            for row, other in zip(seen[name][rows], wanted, strict=True):
                assert row == pytest.approx(other, abs=1e-4)
        assert closest(two.weights(name, process), weights) < 1e-4
        assert seen[name]["kind"] == "TunedModel"
        assert seen[name]["samples"] == [[r["step"], str(r["answer"])] for r in alone.samples]


def test_all_processes_stop_early_together(two: Launched) -> None:
    first, second = (two.of(process)["early stop"] for process in (0, 1))
    assert first["notes"] == second["notes"] and "Stopped early" in first["notes"][0]
    assert len(first["history"]) == len(second["history"]) < 12


def test_only_the_first_process_writes_shows_and_asks(two: Launched, work: Path) -> None:
    first, second = (two.of(process)["adapter"] for process in (0, 1))
    assert "step    2: loss" in first["printed"] and first["answered"] == [1, 1, 1, 1]
    assert {"tensors.safetensors", "README.md", ".lock"} <= set(first["written"])
    assert (second["printed"], second["answered"], second["written"]) == ("", [], [])
    for seen in (first, second):  # as soon as a process goes on, the folder is complete
        assert {"adapter_model.safetensors", "tuned.json", "README.md"} <= set(seen["there"])
        assert "checkpoints" not in seen["there"]
        assert seen["saved_to"] == str(work / "adapter")


def test_what_two_processes_saved_is_loaded_by_all_of_them_and_by_one(
    two: Launched, work: Path
) -> None:
    first, second = (two.of(process)["again"] for process in (0, 1))
    assert "finished; it is loaded" in first["printed"] and not second["printed"]
    assert first["history"] == second["history"] == two.of(0)["adapter"]["history"]
    loaded = load_file(work / "adapter" / "adapter_model.safetensors")
    trained = two.weights("adapter", 1)
    plain = {name.replace(".default", "").removeprefix("model."): w for name, w in trained.items()}
    assert closest(plain, {name.removeprefix("model."): w for name, w in loaded.items()}) == 0


def test_an_error_of_the_first_process_ends_all(two: Launched, work: Path) -> None:
    for process in (0, 1):
        error = two.of(process)["occupied"]["error"]
        assert error.startswith("SettingError") and "holds something else" in error
    assert [path.name for path in (work / "other").iterdir()] == ["notes.txt"]


def test_what_is_trained_in_parts_is_saved_whole(
    sharded: Launched, tiny: models.LoadedModel, work: Path
) -> None:
    loaded = models.load_adapter(tiny, work / "parts").model
    saved = {name: weight for name, weight in loaded.named_parameters() if "lora" in name}
    assert closest(saved, sharded.weights("adapter", 1)) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL to die from")
@pytest.mark.parametrize("kind", KILLED)
def test_a_killed_process_ends_the_run_which_then_goes_on_exactly(
    kind: str, tiny_folder: Path, work: Path, request: pytest.FixtureRequest
) -> None:
    never: Launched = request.getfixturevalue(kind)
    out, task = work / f"killed-{kind}", KILLED[kind]
    task = {"killed": {**task, "call": {**task["call"], "out": str(out)}}}
    done = launch(tiny_folder, work / f"kill-{kind}", task, CONFIGS[kind], kill=3)
    assert done.code != 0
    said = [line for line in done.stderr.splitlines() if "TrainingStopped" in line]
    assert len(said) == 1 and "Another process of this training is gone" in said[0]
    assert "All up to update 2 is kept in" in said[0]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    done = launch(tiny_folder, work / f"resume-{kind}", task, CONFIGS[kind])
    assert done.code == 0, done.stderr
    for process in (0, 1):
        seen, whole = done.of(process)["killed"], never.of(process)["killed"]
        assert "Goes on after update 2" in seen["notes"][0]
        assert seen["history"] == whole["history"]
        assert closest(done.weights("killed", process), never.weights("killed", process)) == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"FSDP_VERSION": "1"}, "set fsdp_version to 2"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing set to false"),
    ],
)
def test_kinds_of_fsdp_that_do_not_work_are_refused(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch, setting: dict, message: str
) -> None:
    launched = {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "FSDP_VERSION": "2"}
    for name, value in {**launched, **setting}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=message):
        finetune(tiny, [{"question": "Why?", "answer": "So."}], Config(steps=1, dropout=0.1))


@pytest.mark.parametrize("lost", [False, True])
def test_the_launchers_end_waits_for_the_update(
    monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    job = types.SimpleNamespace(interrupted=False, why="Stopped by you", lost=False)
    usual = signal.getsignal(signal.SIGTERM)
    try:
        with callbacks.ending_between_updates(job):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)  # a launcher passes Ctrl-C on a second time
            job.lost = lost
        assert (job.interrupted, job.why) == (True, "Stopped by the launcher")
        assert (signal.getsignal(signal.SIGTERM) == usual) is not lost  # time for the last word
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_no_process_stops_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = types.SimpleNamespace(history=[], held_out=[], seconds=0.0, tokens_per_second=0.0)
    watch = callbacks.Watch((), 1, 99, 99, None, None, None)
    job = callbacks.Follow(tuned, watch, progress.bar(9, "", enabled=False), 9)
    control = types.SimpleNamespace()

    def too_late(here: bool) -> list[bool]:
        job.interrupted = True  # after this process has told the others that it goes on
        return [here]

    monkeypatch.setattr(processes, "of_each", too_late)
    for stops in (False, True):
        tuned.history.append({"step": 1, "loss": 0.0, "tokens": 1})
        job.on_step_end(None, None, control)
        assert control.should_training_stop is stops
