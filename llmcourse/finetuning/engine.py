"""The loop: transformers' Trainer with our loss, our order of records and our checkpoints.

The Trainer does what it is good at: optimiser, schedule, clipping, one process or many under
`accelerate launch`, mixed precision. What it is handed as a batch is only the number of an update;
the update's records, cut into parts that fit into memory, are computed in `training_step`. What it
does itself was tried for these and left, because:

* the loss: `compute_loss_func` gets the model's output, so all logits are computed beforehand.
  Ours computes those of labels alone;
* accumulation: its parts have a fixed size. Where memory runs out, `auto_find_batch_size` begins
  the training again with other batches; here the parts are halved and the update is repeated;
* order: its sampler draws as it goes, and a resumed run reads through all that was done before.
  Here the order follows from the seed (see `plan`);
* checkpoints: they are written in place, so that a killed run leaves half of one, and the newest
  folder is taken without asking whether it is complete; optimiser and random states are pickled.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback

from llmcourse import encoding
from llmcourse.errors import CourseError, is_out_of_memory
from llmcourse.finetuning import memory, processes
from llmcourse.finetuning.checkpoints import (
    Checkpoint,
    chance_state,
    optimizer_state,
    put_weights,
    restore_chance,
    restore_optimizer,
    trained_weights,
)
from llmcourse.finetuning.follow import Follow
from llmcourse.finetuning.plan import Plan
from llmcourse.finetuning.settings import OPTIMIZERS, Config
from llmcourse.loss import completion_loss, has_separate_head
from llmcourse.models.lora import fast_adapters
from llmcourse.progress import quiet

SHORT = 256  # tokens of a row up to which plain attention is the faster one on a CPU


class WithLoss(torch.nn.Module):
    """A model whose output is its loss, so that whatever wraps it sees the whole computation."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # FSDP's units

    def forward(self, **batch: Any) -> torch.Tensor:
        """The summed loss of a batch from `encoding.Collator`."""
        return completion_loss(self.model, **batch)


def run(follow: Follow, layout: Plan, config: Config, fitted: memory.Fitted, mixed: str) -> None:
    """Train from the first update, or from `follow.start`, to the last.

    Args:
        follow: Its model has the weights to be trained; changed in place.
        layout: The updates.
        config: How to train.
        fitted: How an update is computed.
        mixed: "bf16", "fp16" or "": what products are made in where weights are float32.

    Raises:
        TrainingStopped: the loss or its gradient is not finite; the weights are those before the
            update, or, for an adapter, those of the last update whose loss was a number.
        CourseError: memory ran out, or another process is gone.
    """
    model, total = follow.tuned.model, len(layout.updates)
    # now: the first process may know it from a look, and under FSDP all would have to take part
    has_separate_head(model, torch.tensor([layout.rows[0]["input_ids"]], device=model.device))
    with tempfile.TemporaryDirectory() as unused, _prepared(model, layout, fitted.checkpointing):
        arguments = TrainingArguments(
            unused,
            max_steps=total,
            learning_rate=float(config.learning_rate),
            seed=config.seed,
            per_device_train_batch_size=1,
            lr_scheduler_type=config.schedule.replace("constant", "constant_with_warmup"),
            warmup_steps=config.warmup_of(total),
            weight_decay=float(config.weight_decay),
            adam_beta2=float(config.beta2),
            max_grad_norm=1.0,
            optim=OPTIMIZERS[config.optimizer],
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=_on_cpu(model),
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            ddp_find_unused_parameters=False,
            bf16=mixed == "bf16",
            fp16=mixed == "fp16",
        )
        with quiet():
            trainer = _Trainer(follow, layout, config, fitted.micro_batch, arguments)
            try:
                trainer.train()
            finally:  # the optimiser's memory: the Trainer holds itself
                trainer.accelerator.free_memory()
                trainer.optimizer = trainer.lr_scheduler = None
                memory.give_back()


def _on_cpu(model: Any) -> bool:
    """Whether it is trained on a CPU; FSDP moves its parts to the GPUs."""
    moves = processes.sharded() and torch.cuda.is_available()
    return model.device.type == "cpu" and not moves


@contextmanager
def _prepared(model: Any, layout: Plan, checkpointing: bool) -> Iterator[None]:
    """The model as training wants it, and afterwards as it was."""
    caching = model.config.use_cache  # the Trainer turns it off for good
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention = plain.config._attn_implementation
    # transformers 6 drops the older name; 5.15 does not have the newer one yet
    kind = "activation" if hasattr(plain, "activation_checkpointing_enable") else "gradient"
    if checkpointing:
        getattr(plain, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    # on a CPU, plain products are faster than the fused kernel for short rows
    if _on_cpu(model) and attention == "sdpa" and max(layout.tokens) <= SHORT:
        plain.set_attn_implementation("eager")
    try:
        with fast_adapters(model, training=True):
            yield
    finally:
        plain.set_attn_implementation(attention)
        if checkpointing:
            getattr(plain, f"{kind}_checkpointing_disable")()
        model.config.use_cache = caching
        model.zero_grad(set_to_none=True)
        model.eval()


class _Trainer(Trainer):
    """transformers' Trainer, handed the numbers of the updates."""

    def __init__(
        self,
        follow: Follow,
        layout: Plan,
        config: Config,
        micro_batch: int,
        arguments: TrainingArguments,
    ) -> None:
        self.follow, self.layout, self.config = follow, layout, config
        self.micro_batch = micro_batch  # rows computed at once
        self.collate = encoding.Collator(follow.tuned.tokenizer)
        self.good: dict[str, torch.Tensor] = {}
        self.mean_loss = 0.0
        numbers = range(len(layout.updates))
        super().__init__(
            WithLoss(follow.tuned.model),
            arguments,
            train_dataset=numbers,
            callbacks=[_Callback(self)],
        )
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)

    def get_train_dataloader(self) -> Any:
        """The numbers of the updates that are left; every process goes through all of them."""
        left = range(self.follow.done, len(self.layout.updates))
        return torch.utils.data.DataLoader([{"update": number} for number in left], batch_size=None)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The gradients of one update, computed in parts; returns its mean loss."""
        update = int(inputs["update"])
        model.train()
        rows = self.layout.share(update, self.args.process_index, self.args.world_size)
        while True:
            try:
                loss = self._accumulate(model, rows, self.layout.labels_of(update))
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(rows), error)
            model.zero_grad(set_to_none=True)
            memory.give_back()
        mean = self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "sum")
        self.mean_loss = mean.item()
        self._require_finite(update)
        return mean

    def _accumulate(self, model: Any, rows: list[Mapping[str, Any]], labels: int) -> float:
        """Add up the gradients of `rows`, a few rows at a time; returns their share of the loss."""
        size, total = self.micro_batch, 0.0
        rows = sorted(rows, key=lambda row: len(row["input_ids"]))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        if processes.sharded():  # every part is common work: all processes have as many
            blank = {**rows[0], "labels": [encoding.UNTRAINED] * len(rows[0]["labels"])}
            parts += [[blank]] * (max(processes.of_each(len(parts))) - len(parts))
        for number, part in enumerate(parts):
            batch = self._prepare_inputs(self.collate(part))
            together = number == len(parts) - 1 or processes.sharded()
            with nullcontext() if together else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss = model(**batch) / labels
                # processes' gradients are averaged, and these belong together
                self.accelerator.backward(loss * self.args.world_size)
            total += loss.item()
        return total

    def _shrink(self, rows: int, error: Exception) -> None:
        """Halve the part that is computed at once.

        Raises:
            CourseError: it is one row already, or other processes would not know of it.
        """
        now = min(self.micro_batch, rows)
        if now == 1 or self.args.world_size > 1:
            raise CourseError(
                f"Memory ran out while {'one record was' if now == 1 else f'{now} records were'} "
                f"computed. Choose a smaller max_length or micro_batch, checkpointing=True, or a "
                f"smaller model."
            ) from error
        self.micro_batch = now // 2
        self.follow.note(
            f"Memory ran out: {self.micro_batch} of {rows} records are computed at once from here "
            f"on, {math.ceil(rows / self.micro_batch)} times an update. The result is the same."
        )

    def _require_finite(self, update: int) -> None:
        """Stop where the loss or a gradient is no number; keep the weights of the last good one.

        The Trainer would go on: it filters such losses out of what it reports.
        """
        weights = trained_weights(self.follow.tuned.model)
        wrong = "" if math.isfinite(self.mean_loss) else "The loss"
        scaled = self.args.fp16  # a scaler skips updates with gradients that are too large
        if not wrong and not scaled and processes.any_of(not _finite(weights.values())):
            wrong = "The gradient"
        if not wrong:
            if self.config.method == "lora":
                for name, weight in weights.items():
                    self.good.setdefault(name, torch.empty_like(weight)).copy_(weight.detach())
            return
        put_weights(self.follow.tuned.model, self.good)
        records = self.layout.records_of(update)
        numbers = ", ".join(map(str, records[:8]))
        more = f" and {len(records) - 8} more" if len(records) > 8 else ""
        raise self.follow.stopped(
            "Training stopped",
            f" {wrong} of update {update + 1} is no finite number; its records are "
            f"{numbers}{more} (counted from 0). Look at them, or take a lower learning_rate. The "
            f"model has the last good weights.",
        )

    def checkpoint(self, state: Mapping[str, Any]) -> Checkpoint:
        """The training as it stands after an update; all processes take part."""
        schedule = self.lr_scheduler.state_dict()
        schedule = {name: value for name, value in schedule.items() if name != "lr_lambdas"}
        chance: dict[str, torch.Tensor] = {}
        for number, states in enumerate(processes.of_each(chance_state())):
            chance |= {_of_process(number, name): value for name, value in states.items()}
        return Checkpoint(
            self.follow.done,
            whole_weights(self.follow.tuned.model),
            optimizer_state(self.optimizer),
            {**state, "schedule": schedule},
            chance,
        )


def whole_weights(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights, whole; under FSDP all processes call it."""
    return {
        name: processes.full(weight.detach()) for name, weight in trained_weights(model).items()
    }


@contextmanager
def _gathered(module: Any) -> Iterator[None]:
    """Under FSDP: the weights that belong to no layer, whole inside the block.

    A look calls the inner model, and FSDP gathers these for calls of what it has wrapped only.
    """
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def _finite(weights: Any) -> bool:
    grads = [weight.grad for weight in weights if weight.grad is not None]
    grads = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
    sums = [grad.float().sum() for grad in grads]
    return not sums or bool(torch.isfinite(torch.stack(sums)).all())


class _Callback(TrainerCallback):
    """Sets the Trainer to where a checkpoint was, and reports every update."""

    def __init__(self, trainer: _Trainer) -> None:
        self.trainer, self.follow = trainer, trainer.follow

    def on_train_begin(self, args: Any, state: Any, control: Any, **now: Any) -> None:
        """Restore weights, optimiser and schedule."""
        if processes.sharded():
            self.follow.gathered = partial(_gathered, self.trainer.model_wrapped)
        start = self.follow.start
        if start is None:
            return
        put_weights(self.follow.tuned.model, start.weights)
        restore_optimizer(now["optimizer"], start.optimizer)
        scheduler = now["lr_scheduler"]
        scheduler.load_state_dict({**scheduler.state_dict(), **start.state["schedule"]})
        rates = start.state["schedule"]["_last_lr"]
        for group, rate in zip(now["optimizer"].param_groups, rates, strict=True):
            group["lr"] = rate
        state.global_step = start.step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the random generators: the way to the first update, too, draws from them."""
        start = self.follow.start
        if start and state.global_step == start.step:
            restore_chance(
                {
                    name: start.chance.get(_of_process(processes.number(), name), value)
                    for name, value in start.chance.items()
                }
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the update; stop where that is asked for."""
        tokens = self.trainer.layout.tokens_of(self.follow.done)
        if self.follow.after(self.trainer.mean_loss, tokens, self.trainer.checkpoint):
            control.should_training_stop = True


def _of_process(number: int, name: str) -> str:
    """What a random generator's state is called in a checkpoint; the first process's as it is."""
    return f"{number}.{name}" if number else name
