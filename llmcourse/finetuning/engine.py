"""The loop: transformers' Trainer with our loss, our order of records and our checkpoints.

Trainer does the optimizer, the schedule, clipping, mixed precision, the count of labels in a batch,
one process or many under `accelerate launch`. What it does too was tried for these and left:

* the loss: `compute_loss_func` gets the model's output, so all logits are computed beforehand.
  Ours computes those of labels alone (see `llmcourse.loss`);
* accumulation: its parts have a fixed size. Where memory runs out, `auto_find_batch_size` begins
  the training again with other batches; here the parts are halved and the update is repeated;
* order and checkpoints: see `plan`, `checkpoints` and `callbacks`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from llmcourse import encoding
from llmcourse.errors import CourseError, is_out_of_memory
from llmcourse.finetuning import memory, processes
from llmcourse.finetuning.callbacks import Follow
from llmcourse.finetuning.checkpoints import put_weights, trained_weights
from llmcourse.finetuning.plan import Plan
from llmcourse.finetuning.settings import OPTIMIZERS, Config
from llmcourse.loss import completion_loss, has_separate_head
from llmcourse.models.lora import fast_layers
from llmcourse.progress import quiet

SHORT = 256  # tokens in a row up to which plain attention is faster than the fused one on a CPU


class WithLoss(torch.nn.Module):
    """A model whose output is its loss, so that whatever wraps it sees the complete computation."""

    accepts_loss_kwargs = True  # has Trainer count the labels of all processes

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config
        self._no_split_modules = getattr(model, "_no_split_modules", None)  # FSDP's units

    def forward(self, **batch: Any) -> torch.Tensor:
        """The summed loss of a batch from `encoding.Collator`."""
        return completion_loss(self.model, **batch)


def run(
    follow: Follow, layout: Plan, config: Config, micro_batch: int, checkpointing: bool, mixed: str
) -> None:
    """Train from the first update, or from `follow.start`, to the last.

    Args:
        follow: Its model has the weights to be trained; changed in place.
        layout: The updates.
        config: How to train.
        micro_batch: Rows computed at once.
        checkpointing: Compute layers twice rather than keep what they computed.
        mixed: "bf16", "fp16" or "": what products are made in where weights are float32.

    Raises:
        TrainingStopped: the loss or its gradient is not finite; the weights are those before the
            update, or, for an adapter, those of the last update whose loss was finite.
        CourseError: memory ran out, or another process is gone.
    """
    model, total = follow.tuned.model, len(layout.updates)
    assert config.learning_rate is not None and config.beta2 is not None  # `suggest` has set them
    # now: the first process may know it from an evaluation, and under FSDP all must take part
    has_separate_head(model, torch.tensor([layout.rows[0]["input_ids"]], device=model.device))
    with tempfile.TemporaryDirectory() as unused, _prepared(model, layout, checkpointing), quiet():
        arguments = TrainingArguments(
            unused,
            max_steps=total,
            learning_rate=float(config.learning_rate),
            seed=config.seed,
            # (transformers' plain "constant" ignores warm-up)
            lr_scheduler_type=config.schedule.replace("constant", "constant_with_warmup"),
            warmup_steps=config.warmup_of(total),
            weight_decay=float(config.weight_decay),
            adam_beta2=float(config.beta2),
            max_grad_norm=1.0,  # transformers' default: one odd batch can't throw the weights off
            optim=OPTIMIZERS[config.optimizer],
            # `Follow` logs, evaluates and saves
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=_on_cpu(model),
            ddp_find_unused_parameters=False,  # every weight takes part in every update
            bf16=mixed == "bf16",
            fp16=mixed == "fp16",
        )
        # One process trains on one GPU: several are launched. Else Trainer splits each batch among
        # all GPUs (DataParallel), and the sums that come back would be averaged.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        trainer = _Trainer(follow, layout, micro_batch, arguments)
        try:
            trainer.train()
        finally:  # Trainer holds itself, and with it the optimizer's memory
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
    caching = model.config.use_cache  # Trainer turns it off for good
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention = plain.config._attn_implementation  # transformers has no public name for it
    # transformers 6 drops the older name; 5.15 does not have the newer one yet
    kind = "activation" if hasattr(plain, "activation_checkpointing_enable") else "gradient"
    if checkpointing:
        getattr(plain, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    short = max(len(row["input_ids"]) for row in layout.rows) <= SHORT
    if _on_cpu(model) and attention == "sdpa" and short:
        plain.set_attn_implementation("eager")
    try:
        with fast_layers(model, training=True):
            yield
    finally:
        plain.set_attn_implementation(attention)
        if checkpointing:
            getattr(plain, f"{kind}_checkpointing_disable")()
        model.config.use_cache = caching
        model.zero_grad(set_to_none=True)
        model.eval()


class _Trainer(Trainer):
    """transformers' Trainer on the updates of a plan, each computed in parts."""

    def __init__(
        self, follow: Follow, layout: Plan, micro_batch: int, arguments: TrainingArguments
    ) -> None:
        self.follow, self.layout, self.micro_batch = follow, layout, micro_batch
        self.last_good: dict[str, torch.Tensor] = {}
        super().__init__(
            WithLoss(follow.tuned.model),
            arguments,
            train_dataset=layout.rows,
            data_collator=encoding.Collator(follow.tuned.tokenizer),
            callbacks=[follow],
        )
        self.remove_callback(PrinterCallback)  # which prints a summary at the end

    def get_train_dataloader(self) -> Any:
        """This process's share of the updates that are left, a batch each, its rows by length."""
        batches = []
        for number in range(self.follow.done, len(self.layout.updates)):
            update = self.layout.updates[number]
            share = update[self.args.process_index :: self.args.world_size]
            rows = [self.layout.row(index, number) for index in share]
            # Where an update has fewer rows than processes, the others compute one without labels,
            # so that all take part in every update. accelerate would repeat rows instead.
            if not rows:
                row = self.layout.rows[update[0]]
                rows = [{**row, "labels": [encoding.UNTRAINED] * len(row["labels"])}]
            batches.append(sorted(rows, key=lambda row: len(row["input_ids"])))
        return torch.utils.data.DataLoader(batches, batch_size=None, collate_fn=self.data_collator)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """The gradients of one update, computed in parts; returns its mean loss."""
        while True:
            try:
                loss = self._accumulate(model, inputs, num_items_in_batch)
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(len(inputs["input_ids"]), error)
            # (not inside `except`: there the error's frames still hold the failed part's tensors)
            model.zero_grad(set_to_none=True)
            memory.give_back()
        mean = self.accelerator.reduce(torch.tensor(loss, device=self.args.device), "mean")
        self._require_finite(mean.item())
        done = self.follow.done
        row = {"step": done + 1, "loss": mean.item(), "tokens": self.layout.tokens(done)}
        self.follow.tuned.history.append(row)
        return mean

    def _accumulate(self, model: Any, inputs: Any, labels: Any) -> float:
        """Add up the gradients of a batch, a few rows at a time; returns its share of the loss."""
        parts = []
        for start in range(0, len(inputs["input_ids"]), self.micro_batch):
            rows = slice(start, start + self.micro_batch)
            width = int(inputs["attention_mask"][rows].sum(1).max())  # rows are padded on the right
            parts.append({name: value[rows, :width] for name, value in inputs.items()})
        together = processes.sharded()  # every part is common work: all processes have as many
        if together:
            blank = {name: value[:1] for name, value in parts[0].items()}
            blank["labels"] = torch.full_like(blank["labels"], encoding.UNTRAINED)
            parts += [blank] * (max(processes.of_each(len(parts))) - len(parts))
        total = 0.0
        for part in parts:
            joins = together or part is parts[-1]  # else gradients wait for the last part
            with nullcontext() if joins else self.accelerator.no_sync(model):
                total += super().training_step(model, part, labels).item()
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """A part's share of the update's mean loss, times the processes, which average gradients.

        Trainer would give the count of labels to the model: on the way through FSDP's forward it
        would be rounded to bfloat16.
        """
        return model(**inputs) / num_items_in_batch.clamp(min=1) * self.args.world_size

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
            f"on, {math.ceil(rows / self.micro_batch)} times an update."
            + " The result is the same."
            * (not self.follow.tuned.config.dropout)
        )

    def _require_finite(self, loss: float) -> None:
        """Stop where the loss or a gradient is NaN or infinite; go back to the last good weights.

        Trainer would go on: it filters such losses out of what it reports.
        """
        follow, weights = self.follow, trained_weights(self.follow.tuned.model)
        wrong = "" if math.isfinite(loss) else "The loss"
        scaled = self.args.fp16  # a scaler skips updates with gradients that are too large
        if not wrong and not scaled and any(processes.of_each(not _finite(weights.values()))):
            wrong = "The gradient"
        if not wrong:
            # An update can break the weights and still have a finite loss: that of the next one
            # tells. A copy of an adapter is small; with full fine-tuning it would be too large.
            for name, weight in weights.items() if follow.tuned.config.method == "lora" else ():
                self.last_good.setdefault(name, torch.empty_like(weight)).copy_(weight.detach())
            return
        put_weights(follow.tuned.model, self.last_good)
        records = sorted(self.layout.records[row] for row in self.layout.updates[follow.done])
        numbers = ", ".join(map(str, records[:8]))
        more = f" and {len(records) - 8} more" if len(records) > 8 else ""
        raise follow.stopped(
            "Training stopped",
            f" {wrong} of update {follow.done + 1} is NaN or infinite; its records are "
            f"{numbers}{more} (counted from 0). Look at them, or take a lower learning_rate."
            + " The model has the last good weights."
            * bool(self.last_good),
        )


def _finite(weights: Any) -> bool:
    grads = [weight.grad for weight in weights if weight.grad is not None]
    # under FSDP each process looks at its parts
    grads = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
    sums = [grad.float().sum() for grad in grads]  # NaN and infinity survive a sum
    return not sums or bool(torch.isfinite(torch.stack(sums)).all())
