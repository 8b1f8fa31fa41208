"""What tests/test_distributed.py launches: fine-tunings in one of two processes, one by one.

Its one argument is JSON: `model` (a folder), `result` (a folder for what each process saw), `kill`
(updates that are done when the second process kills itself in the middle of the next one), and
`tasks` by name: `config`, `held_out` (how many records) and `call`, further arguments of
`finetune`; or `sharded`, a method to be trained by under FSDP.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from llmcourse import company, encoding, models
from llmcourse.errors import CourseError
from llmcourse.finetuning import Config, adapters, finetune, follow, plan, processes
from llmcourse.finetuning.checkpoints import trained_weights
from llmcourse.finetuning.engine import WithLoss
from llmcourse.finetuning.tuned import TunedModel

RECORDS = 11  # in batches of 5, the last batch is a single record
RANK = int(os.environ.get("RANK", "0"))
WRITES = os.O_WRONLY | os.O_RDWR
SEEN: dict[str, Any] = {}  # of the task that runs


def train(model: models.LoadedModel, task: dict[str, Any]) -> TunedModel:
    """The fine-tuning that a task asks for."""
    held_out = company.records("questions", "validation")[: task.get("held_out", 0)]
    return finetune(
        model, company.records("questions", "train")[:RECORDS], Config(**task["config"]),
        held_out=held_out or None, **task.get("call", {}),
    )  # fmt: skip


def bare(model: models.LoadedModel, method: str) -> list[float]:
    """Six updates by plain gradient descent, under FSDP where there are several processes.

    Returns:
        Each update's mean loss.
    """
    torch.manual_seed(0)
    config = Config(batch_size=5, method=method, steps=6, rank=16)
    learner = adapters.with_adapter if method == "lora" else lambda m, _: adapters.all_weights(m)
    learns = learner(model, config)
    module = WithLoss(learns).train()
    if processes.count() > 1:
        module = sharded(module)
    encoded = encoding.encode(company.records("questions", "train")[:RECORDS], model.tokenizer)
    layout, collate = plan.plan(encoded, config), encoding.Collator(model.tokenizer)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer, losses = torch.optim.SGD(trained, lr=0.5), []
    with adapters.in_fewer_steps(learns):
        for update in range(6):
            rows = layout.share(update, processes.number(), processes.count())
            loss = module(**collate(rows)) / layout.labels_of(update)
            (loss * processes.count()).backward()  # FSDP takes the processes' mean
            optimizer.step()
            optimizer.zero_grad()
            losses.append(sum(processes.of_each(loss.item())))
    return losses


def sharded(module: torch.nn.Module) -> torch.nn.Module:
    """What accelerate makes of a module under FSDP2; it offers that on GPUs only."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, reshard_after_forward=True, auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"], cpu_ram_efficient_loading=False,
    )  # fmt: skip
    accelerator = types.SimpleNamespace(
        state=types.SimpleNamespace(fsdp_plugin=plugin), mixed_precision="no",
        is_main_process=processes.first(), device=torch.device("cpu"), torch_device_mesh=None,
        parallelism_config=None,
    )  # fmt: skip
    before = sum(weight.numel() for weight in module.parameters())
    module = fsdp2_prepare_model(accelerator, module)
    SEEN["share"] = sum(w.to_local().numel() for w in module.parameters()) / before
    return module


def watch_writing(event: str, args: tuple[Any, ...]) -> None:
    """Note the files and folders that this process makes in the task's folder."""
    folder = SEEN.get("folder")
    if folder and str(args[0] if args else "").startswith(folder):
        writes = event == "open" and bool(args[2] & WRITES)
        if writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
            SEEN["written"].append(Path(str(args[0])).name)


def count_prompts() -> None:
    """Note how many prompts are asked at each look."""
    usual = follow.generate

    def generate(model: Any, prompts: Any, **settings: Any) -> Any:
        SEEN["asked"].append(len(prompts))
        return usual(model, prompts, **settings)

    follow.generate = generate


def die_after(updates: int) -> None:
    """Have the second process kill itself in the middle of an update."""
    usual = plan.Plan.share

    def share(self: plan.Plan, update: int, process: int, processes: int) -> Any:
        if process == 1 and update == updates:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, update, process, processes)

    plan.Plan.share = share


def told(model: models.LoadedModel, task: dict[str, Any], weights: Path) -> None:
    """Do one task and note what this process saw of it; `weights` gets the trained ones."""
    folder = task.get("call", {}).get("out")
    SEEN.clear()
    SEEN.update(folder=folder, written=[], asked=[])
    if "sharded" in task:
        processes.join(torch.device("cpu"))
        SEEN.update(losses=bare(model, task["sharded"]))
        return
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            tuned = train(model, task)
        save_file({name: weight.detach() for name, weight in trained_weights(tuned.model).items()},
                  weights)  # fmt: skip
        SEEN.update(
            history=tuned.history, held_out=tuned.held_out, notes=tuned.notes,
            samples=[[row["step"], str(row["answer"])] for row in tuned.samples],
            saved_to=str(tuned.folder), kind=type(tuned).__name__,
            there=sorted(path.name for path in Path(folder).iterdir()) if folder else [],
        )  # fmt: skip
    except CourseError as error:
        SEEN.update(error=f"{type(error).__name__}: {error}")
        print(SEEN["error"], file=sys.stderr)
    SEEN.update(printed=printed.getvalue())


def main(asked: dict[str, Any]) -> None:
    """Do all tasks, and write down what this process saw."""
    result, every = Path(asked["result"]), {}
    model = models.load(asked["model"], dtype=torch.float32)
    sys.addaudithook(watch_writing)
    count_prompts()
    if "kill" in asked:
        die_after(asked["kill"])
    for name, task in asked["tasks"].items():
        told(model, task, result / f"{name}-{RANK}.safetensors")
        every[name] = dict(SEEN)
    every["processes"] = processes.count()
    (result / f"{RANK}.json").write_text(json.dumps(every), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
