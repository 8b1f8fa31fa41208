"""The loop: transformers' Trainer with our loss, our order of records and our checkpoints.

The Trainer does what it is good at: optimiser, schedule, clipping, one process or many under
`accelerate launch`, mixed precision. What it is handed as a batch is only the number of an update;
the update's records, cut into parts that fit into memory, are computed in `training_step`.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback

from llmcourse import encoding
from llmcourse.errors import CourseError, is_out_of_memory
from llmcourse.finetuning import adapters, memory, processes
from llmcourse.finetuning.checkpoints import (
    Checkpoint,
    chance_state,
    optimizer_state,
    restore_chance,
    restore_optimizer,
    trained_weights,
)
from llmcourse.finetuning.loss import completion_loss
from llmcourse.finetuning.plan import Plan
from llmcourse.finetuning.settings import OPTIMIZERS, Config
from llmcourse.progress import quiet

SHORT = 256  # tokens of a row up to which plain attention is the faster one on a CPU


class NotFinite(Exception):
    """The loss or its gradient is no number any more."""

    def __init__(self, step: int, what: str, records: list[int]) -> None:
        super().__init__(f"{what} of update {step} is no finite number")
        self.step, self.what, self.records = step, what, records


class WithLoss(torch.nn.Module):
    """A model whose output is its loss, so that whatever wraps it sees the whole computation."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, **batch: Any) -> torch.Tensor:
        """The summed loss of a batch from `encoding.Collator`."""
        return completion_loss(self.model, **batch)


@dataclass
class Engine:
    """One training from its first update, or from a checkpoint, to its last.

    Attributes:
        model: The transformers model with the weights to be trained; changed in place.
        tokenizer: Its tokenizer.
        plan: The updates.
        config: How to train.
        micro_batch: Rows computed at once.
        checkpointing: Compute layers twice rather than keep what they computed.
        mixed: "bf16", "fp16" or "": what products are made in where weights are float32.
        after: Called after each update with its number (from 1), loss and tokens; says whether to
            stop.
        note: Called with what the learner should know.
        start: A checkpoint to go on from.
    """

    model: Any
    tokenizer: Any
    plan: Plan
    config: Config
    micro_batch: int
    checkpointing: bool
    mixed: str
    after: Callable[[int, float, int], bool]
    note: Callable[[str], None]
    start: Checkpoint | None = None

    def run(self) -> None:
        """Train.

        Raises:
            NotFinite: the loss or its gradient; the weights are those before the update, or, for
                an adapter, those of the last update whose loss was a number.
            CourseError: memory ran out, or another process is gone.
        """
        total, config = len(self.plan.updates), self.config
        with tempfile.TemporaryDirectory() as unused, self._prepared():
            arguments = TrainingArguments(
                unused, max_steps=total, learning_rate=float(config.learning_rate),
                seed=config.seed, per_device_train_batch_size=1,
                lr_scheduler_type=("constant_with_warmup" if config.schedule == "constant"
                                   else config.schedule),
                warmup_steps=config.warmup_of(total), weight_decay=float(config.weight_decay),
                adam_beta2=float(config.beta2),
                max_grad_norm=1.0, optim=OPTIMIZERS[config.optimizer], logging_strategy="no",
                save_strategy="no", report_to="none", disable_tqdm=True,
                use_cpu=self.model.device.type == "cpu", remove_unused_columns=False,
                dataloader_pin_memory=False, ddp_find_unused_parameters=False,
                bf16=self.mixed == "bf16", fp16=self.mixed == "fp16",
            )  # fmt: skip
            with quiet():
                self.trainer = _Trainer(self, arguments)
            try:
                with quiet():
                    self.trainer.train()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        """Free the optimiser's memory now: engine and Trainer hold each other."""
        self.trainer.accelerator.free_memory()
        self.trainer = None
        memory.give_back()

    @contextlib.contextmanager
    def _prepared(self) -> Any:
        """The model as training wants it, and afterwards as it was."""
        caching = self.model.config.use_cache  # the Trainer turns it off for good
        plain = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        attention = plain.config._attn_implementation
        if self.checkpointing:
            # transformers 6 drops the older name; 5.15 does not have the newer one yet
            newer = hasattr(plain, "activation_checkpointing_enable")
            kind = "activation" if newer else "gradient"
            getattr(plain, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        if self._better_eager(attention):
            plain.set_attn_implementation("eager")
        try:
            with adapters.in_fewer_steps(self.model):
                yield
        finally:
            plain.set_attn_implementation(attention)
            if self.checkpointing:
                getattr(plain, f"{kind}_checkpointing_disable")()
            self.model.config.use_cache = caching
            self.model.zero_grad(set_to_none=True)
            self.model.eval()

    def _better_eager(self, attention: str) -> bool:
        """Whether plain products are faster than the fused kernel: on a CPU, for short rows."""
        short = max(self.plan.tokens) <= SHORT
        return self.model.device.type == "cpu" and attention == "sdpa" and short

    def checkpoint(self, step: int, state: Mapping[str, Any]) -> Checkpoint:
        """The training as it stands after an update; all processes take part."""
        schedule = self.trainer.lr_scheduler.state_dict()
        schedule = {name: value for name, value in schedule.items() if name != "lr_lambdas"}
        chance: dict[str, torch.Tensor] = {}
        for number, states in enumerate(processes.of_each(chance_state())):
            chance |= {_of_process(number, name): value for name, value in states.items()}
        return Checkpoint(
            step, trained_weights(self.model), optimizer_state(self.trainer.optimizer),
            {**state, "schedule": schedule}, chance,
        )  # fmt: skip


class _Trainer(Trainer):
    """transformers' Trainer, handed the numbers of the updates."""

    def __init__(self, engine: Engine, arguments: TrainingArguments) -> None:
        self.engine = engine
        self.collate = encoding.Collator(engine.tokenizer)
        self.good: dict[str, torch.Tensor] = {}
        super().__init__(WithLoss(engine.model), arguments,
                         train_dataset=range(len(engine.plan.updates)),
                         callbacks=[_Follow(engine)])  # fmt: skip
        for printing in (PrinterCallback, ProgressCallback):
            self.remove_callback(printing)

    def get_train_dataloader(self) -> Any:
        """The numbers of the updates that are left; every process goes through all of them."""
        first = self.engine.start.step if self.engine.start else 0
        left = [{"update": number} for number in range(first, len(self.engine.plan.updates))]
        return torch.utils.data.DataLoader(left, batch_size=None)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The gradients of one update, computed in parts; returns its mean loss."""
        update, engine = int(inputs["update"]), self.engine
        model.train()
        rows = engine.plan.share(update, self.args.process_index, self.args.world_size)
        while True:
            try:
                loss = self._accumulate(model, rows, engine.plan.labels_of(update))
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(rows), error)
            model.zero_grad(set_to_none=True)
            memory.give_back()
        mean = self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "sum")
        self._require_finite(update, mean.item())
        self.loss = mean.item()
        return mean

    def _accumulate(self, model: Any, rows: list[Mapping[str, Any]], labels: int) -> float:
        """Add up the gradients of `rows`, a few rows at a time; returns their share of the loss."""
        size, total = self.engine.micro_batch, 0.0
        rows = sorted(rows, key=lambda row: len(row["input_ids"]))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        for number, part in enumerate(parts):
            batch = self.collate(part)
            batch = {name: value.to(self.args.device) if torch.is_tensor(value) else value
                     for name, value in batch.items()}  # fmt: skip
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
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
        engine = self.engine
        now = min(engine.micro_batch, rows)
        if now == 1 or self.args.world_size > 1:
            raise CourseError(
                f"Memory ran out while {'one record was' if now == 1 else f'{now} records were'} "
                f"computed. Choose a smaller max_length or micro_batch, checkpointing=True, or a "
                f"smaller model."
            ) from error
        engine.micro_batch = now // 2
        parts = math.ceil(rows / engine.micro_batch)
        engine.note(
            f"Memory ran out: {engine.micro_batch} of {rows} records are computed at once from "
            f"here on, {parts} times an update. The result is the same."
        )

    def _require_finite(self, update: int, loss: float) -> None:
        """Stop where the loss or a gradient is no number; keep the weights of the last good one."""
        weights = trained_weights(self.engine.model)
        wrong = "" if math.isfinite(loss) else "The loss"
        scaled = self.args.fp16  # a scaler skips updates with gradients that are too large
        if not wrong and not scaled and not _finite(weights.values()):
            wrong = "The gradient"
        if wrong:
            with torch.no_grad():
                for name, kept in self.good.items():
                    weights[name].copy_(kept)
            raise NotFinite(update + 1, wrong, self.engine.plan.records_of(update))
        if self.engine.config.method == "lora":
            with torch.no_grad():
                for name, weight in weights.items():
                    self.good.setdefault(name, torch.empty_like(weight)).copy_(weight)


def _finite(weights: Any) -> bool:
    sums = [weight.grad.float().sum() for weight in weights if weight.grad is not None]
    return not sums or bool(torch.isfinite(torch.stack(sums)).all())


class _Follow(TrainerCallback):
    """Sets the Trainer to where a checkpoint was, and reports every update."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def on_train_begin(self, args: Any, state: Any, control: Any, **now: Any) -> None:
        """Restore weights, optimiser and schedule."""
        start = self.engine.start
        if start is None:
            return
        weights = trained_weights(self.engine.model)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(start.weights[name])
        restore_optimizer(now["optimizer"], start.optimizer)
        scheduler = now["lr_scheduler"]
        scheduler.load_state_dict({**scheduler.state_dict(), **start.state["schedule"]})
        rates = start.state["schedule"]["_last_lr"]
        for group, rate in zip(now["optimizer"].param_groups, rates, strict=True):
            group["lr"] = rate
        state.global_step = start.step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the random generators: the way to the first update, too, draws from them."""
        start = self.engine.start
        if start and state.global_step == start.step:
            restore_chance({
                name: start.chance.get(_of_process(processes.number(), name), value)
                for name, value in start.chance.items()
            })  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the update; stop where that is wished."""
        number = state.global_step
        tokens = self.engine.plan.tokens_of(number - 1)
        if self.engine.after(number, self.engine.trainer.loss, tokens):
            control.should_training_stop = True


def _of_process(number: int, name: str) -> str:
    """What a random generator's state is called in a checkpoint; the first process's as it is."""
    return f"{number}.{name}" if number else name
