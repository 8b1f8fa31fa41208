"""What tests/test_distributed.py launches: fine-tunings in one of two processes, one by one.

Its one argument is JSON: `model` (a folder), `result` (a folder for what each process saw), `kill`
(updates that are done when the second process kills itself in the middle of the next one), and
`tasks` by name: `config`, `held_out` (how many records) and `call`, further arguments of
`finetune`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from llmcourse import company, models
from llmcourse.errors import CourseError
from llmcourse.finetuning import Config, callbacks, engine, finetune, processes
from llmcourse.finetuning.checkpoints import trained_weights
from llmcourse.finetuning.tuned import TunedModel

RECORDS = 11  # in batches of 5, the last batch is a single record
RANK = int(os.environ.get("RANK", "0"))
WRITES = os.O_WRONLY | os.O_RDWR
SEEN: dict[str, Any] = {}  # of the task that runs


def train(model: models.LoadedModel, task: dict[str, Any]) -> TunedModel:
    """The fine-tuning that a task asks for."""
    held_out = company.records("questions", "validation")[: task.get("held_out", 0)]
    return finetune(
        model,
        company.records("questions", "train")[:RECORDS],
        Config(**task["config"]),
        held_out=held_out or None,
        callback=note_share,
        **task.get("call", {}),
    )


def as_gpus() -> None:
    """Accelerate offers FSDP to GPUs alone: let it take these processes for some."""
    from accelerate.state import DistributedType, PartialState

    usual = PartialState.__init__

    def init(self: Any, *given: Any, **named: Any) -> None:
        usual(self, *given, **named)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init


def note_share(tuned: TunedModel, done: int, total: int) -> bool:
    """Note which share of the weights is with this process in training."""
    if done:
        weights = list(tuned.model.parameters())
        here = sum(getattr(weight, "_local_tensor", weight).numel() for weight in weights)
        SEEN["share"] = here / sum(weight.numel() for weight in weights)
    return False


def watch_writing(event: str, args: tuple[Any, ...]) -> None:
    """Note the files and folders that this process makes in the task's folder."""
    folder = SEEN.get("folder")
    if folder and str(args[0] if args else "").startswith(folder):
        writes = event == "open" and bool(args[2] & WRITES)
        if writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
            SEEN["written"].append(Path(str(args[0])).name)


def count_prompts() -> None:
    """Note how many prompts are answered at each evaluation."""
    usual = callbacks.generate

    def generate(model: Any, prompts: Any, **settings: Any) -> Any:
        SEEN["answered"].append(len(prompts))
        return usual(model, prompts, **settings)

    callbacks.generate = generate


def die_after(updates: int) -> None:
    """Have the second process kill itself in the middle of an update."""
    usual = engine._Trainer.training_step

    def training_step(self: Any, *given: Any, **named: Any) -> Any:
        if RANK == 1 and self.follow.done == updates:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, *given, **named)

    engine._Trainer.training_step = training_step


def do(model: models.LoadedModel, task: dict[str, Any], weights: Path) -> None:
    """Do one task and note what this process saw of it; `weights` gets the trained ones."""
    folder = task.get("call", {}).get("out")
    SEEN.clear()
    SEEN.update(folder=folder, written=[], answered=[])
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            tuned = train(model, task)
        save_file(
            {name: weight.detach() for name, weight in trained_weights(tuned.model).items()},
            weights,
        )
        SEEN.update(
            history=tuned.history,
            held_out=tuned.held_out,
            notes=tuned.notes,
            samples=[[row["step"], str(row["answer"])] for row in tuned.samples],
            saved_to=str(tuned.folder),
            kind=type(tuned).__name__,
            there=sorted(path.name for path in Path(folder).iterdir()) if folder else [],
        )
    except CourseError as error:
        SEEN.update(error=f"{type(error).__name__}: {error}")
        print(SEEN["error"], file=sys.stderr)
    SEEN.update(printed=printed.getvalue())


def main(job: dict[str, Any]) -> None:
    """Do all tasks, and write down what this process saw."""
    result, every = Path(job["result"]), {}
    model = models.load(job["model"], dtype=torch.float32)
    sys.addaudithook(watch_writing)
    if processes.sharded():
        as_gpus()
    count_prompts()
    if "kill" in job:
        die_after(job["kill"])
    for name, task in job["tasks"].items():
        do(model, task, result / f"{name}-{RANK}.safetensors")
        every[name] = dict(SEEN)
    every["processes"] = processes.count()
    (result / f"{RANK}.json").write_text(json.dumps(every), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
