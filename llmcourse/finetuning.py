"""Fine-tuning a model on records: LoRA by peft, the loop by transformers' Trainer.

The loss is computed on completion tokens only, and the language-model head only where there is
a label: with a vocabulary of a quarter of a million words the head is most of a small model's work.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmcourse import encoding
from llmcourse.errors import DataError, SettingError, whole
from llmcourse.generation import generate
from llmcourse.models import LoadedModel
from llmcourse.progress import bar, quiet

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

CHUNK = 128  # labels whose scores over the vocabulary are held in memory at once


@dataclass(frozen=True)
class Config:
    """How to train.

    Attributes:
        template: What the records are rendered with, and what the tuned model answers to.
        epochs: How often every record is seen.
        steps: Stop after so many updates instead, where given.
        learning_rate: The highest; it rises over the first steps and falls along a cosine.
        batch_size: Records an update.
        max_length: Longest record in tokens; see `encoding.encode`.
        rank: Of the adapter's two thin matrices (LoRA; Hu et al., 2021).
        seed: Of the adapter's start and the batches' order.
        mask_prompt: False also trains on the prompts, as the course's lab does.
        add_end: False leaves out the end-of-sequence token, as the course's lab does.
    """

    template: str = "qa"
    epochs: float = 2.0
    steps: int | None = None
    learning_rate: float = 1e-3
    batch_size: int = 6
    max_length: int = 512
    rank: int = 16
    seed: int = 0
    mask_prompt: bool = True
    add_end: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank", "max_length"):
            whole(name, getattr(self, name), 1)
        if self.steps is not None:
            whole("steps", self.steps, 1)
        if not 0 < self.learning_rate < 1:
            raise SettingError(
                f"learning_rate={self.learning_rate!r} must be between 0 and 1; 1e-3 suits LoRA."
            )
        if not self.epochs > 0:
            raise SettingError(f"epochs={self.epochs!r} must be more than 0.")


@dataclass
class TunedModel(LoadedModel):
    """A model with a trained adapter; asked and shown like any other model.

    Attributes:
        history: A row an update: step, loss (mean over its completion tokens), and how many tokens
            it read.
        samples: What the model answered to the watched prompts on the way: step, prompt, answer.
        seconds: How long training took.
        trained: How many weights were trained.
        encoded: What it was trained on, token by token, and which records were too long.
    """

    history: list[dict[str, float]] = field(default_factory=list, repr=False)
    samples: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    trained: int = 0
    encoded: encoding.Encoded | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """A name for people and pictures."""
        return f"{super().title}, tuned"


def finetune(
    model: LoadedModel,
    records: Dataset | Sequence[Any],
    config: Config | None = None,
    *,
    watch: Sequence[str] = (),
    every: int = 10,
    watch_tokens: int = 40,
    progress: bool = True,
) -> TunedModel:
    """Train a LoRA adapter on records; `model` itself stays as it is.

    Args:
        model: From `models.load`.
        records: With the fields in `templates.FIELDS`.
        config: How to train.
        watch: Prompts that are answered every few updates, so that one sees the model learn.
        every: How many updates lie between two looks.
        watch_tokens: Longest answer to a watched prompt.
        progress: False shows nothing.

    Returns:
        The tuned model. Its weights are those of `model`, shared, and the adapter's.

    Raises:
        DataError: there is nothing to train on.
        SettingError: see `Config`.
    """
    import torch
    from transformers import set_seed

    config = config or Config()
    encoded = encoding.encode(
        records, model.tokenizer, config.template, max_length=config.max_length,
        mask_prompt=config.mask_prompt, add_end=config.add_end,
    )  # fmt: skip
    if not len(encoded):
        raise DataError(
            f"No record is short enough to train on: all have over {config.max_length} tokens."
        )
    with torch.random.fork_rng():
        set_seed(config.seed)
        adapted = with_adapter(model, config)
        tuned = TunedModel(
            adapted, model.tokenizer, model.name, config.template,
            trained=sum(p.numel() for p in adapted.parameters() if p.requires_grad),
            encoded=encoded,
        )  # fmt: skip
        _train(tuned, encoded, config, _Watch(tuple(watch), every, watch_tokens), progress)
    adapted.eval()
    return tuned


def with_adapter(model: LoadedModel, config: Config) -> Any:
    """A copy of `model` that shares its weights and carries a fresh adapter."""
    from peft import LoraConfig, get_peft_model

    shared = {id(weight): weight for weight in model.model.parameters()}
    shared |= {id(buffer): buffer for buffer in model.model.buffers()}
    twin = copy.deepcopy(model.model, shared)
    settings = LoraConfig(
        r=config.rank, lora_alpha=2 * config.rank, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    with quiet():
        return get_peft_model(twin, settings)


def completion_loss(model: Any, input_ids: torch.Tensor, labels: torch.Tensor,
                    **more: Any) -> torch.Tensor:  # fmt: skip
    """The summed cross-entropy of all labels that are not -100, in nats.

    The same number as transformers' own loss (times the count of labels), but scores over the
    vocabulary are made only where there is a label, `CHUNK` at a time, and made again in the
    backward pass instead of being kept (Chen et al., Training Deep Nets with Sublinear Memory
    Cost, 2016).

    Args:
        model: A transformers model for causal language modelling, with or without an adapter.
        input_ids: Token ids, shape (batch, length).
        labels: The ids to learn, -100 elsewhere, shape (batch, length).
        more: Further inputs of the model (attention_mask, position_ids).

    Returns:
        A scalar in float32; 0 where there is no label.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    out = plain.base_model(input_ids=input_ids, use_cache=False, **more)
    wanted = labels[:, 1:]
    kept = wanted != encoding.UNTRAINED
    states, targets = out.last_hidden_state[:, :-1][kept], wanted[kept]
    head = plain.get_output_embeddings()
    cap = getattr(plain.config, "final_logit_softcapping", None)

    def part(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = head(states).float()
        scores = torch.tanh(scores / cap) * cap if cap else scores
        return torch.nn.functional.cross_entropy(scores, targets, reduction="sum")

    total = states.new_zeros((), dtype=torch.float32) + 0.0 * states.sum().float()
    for start in range(0, len(targets), CHUNK):
        here = slice(start, start + CHUNK)
        total = total + checkpoint(part, states[here], targets[here], use_reentrant=False)
    return total


def held_out_loss(
    model: LoadedModel, records: Dataset | Sequence[Any], template: str | None = None
) -> float:
    """How surprised the model is by good answers to records that it was not trained on.

    Args:
        model: Tuned or not.
        records: With question and answer.
        template: The model's own if not given.

    Returns:
        The mean cross-entropy of the answers' tokens, end tokens among them, in nats a token.

    Raises:
        DataError: see `encoding.encode`; or no record is short enough.
    """
    import torch

    encoded = encoding.encode(records, model.tokenizer, template or model.template)
    if not len(encoded):
        raise DataError("No record is short enough to be measured.")
    rows, collate = encoded.dataset, encoding.Collator(model.tokenizer)
    total = 0.0
    with torch.no_grad():
        for places in encoding.batches_by_length(rows["length"], 8, shuffle=False):
            batch = collate([rows[place] for place in places])
            moved = {name: value.to(model.device) for name, value in batch.items()}
            total += completion_loss(model.model, **moved).item()
    return total / encoded.trained_tokens


class _Batches:
    """A batch sampler: records of like length together, in another order every epoch."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths, self.size, self.seed, self.epoch = list(lengths), size, seed, 0

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.size)

    def __iter__(self) -> Iterator[list[int]]:
        seed = self.seed + self.epoch
        self.epoch += 1
        return iter(encoding.batches_by_length(self.lengths, self.size, seed=seed))


@dataclass(frozen=True)
class _Watch:
    prompts: tuple[str, ...]
    every: int
    tokens: int


def _train(
    tuned: TunedModel, encoded: encoding.Encoded, config: Config, watch: _Watch, progress: bool
) -> None:
    from transformers import TrainingArguments

    rows = encoded.dataset
    batches = _Batches(rows["length"], config.batch_size, config.seed)
    total = config.steps or max(1, round(config.epochs * len(batches)))
    told = f"{tuned.title.removesuffix(', tuned')} trains on {len(encoded)} records"
    caching = tuned.model.config.use_cache  # the Trainer turns it off for good
    with tempfile.TemporaryDirectory() as folder, bar(total, told, enabled=progress) as line:
        arguments = TrainingArguments(
            folder, max_steps=total, learning_rate=config.learning_rate, seed=config.seed,
            per_device_train_batch_size=config.batch_size, lr_scheduler_type="cosine",
            warmup_steps=min(3, total // 4), weight_decay=0.0, max_grad_norm=1.0,
            logging_steps=1, logging_nan_inf_filter=False, save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=tuned.device.type == "cpu", remove_unused_columns=False,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = _trainer(tuned, batches, _Follow(tuned, watch, line, total), arguments, rows)
        if encoded.left_out or encoded.cut:
            line.write(encoded.as_text())
        with quiet():
            result = trainer.train()
        tuned.model.config.use_cache = caching
        tuned.seconds = result.metrics["train_runtime"]


def _trainer(tuned: TunedModel, batches: _Batches, follow: _Follow, arguments: Any,
             rows: Any) -> Any:  # fmt: skip
    """transformers' Trainer with our loss and our batches."""
    import torch
    from transformers import Trainer
    from transformers.trainer_callback import PrinterCallback, TrainerCallback

    collate = encoding.Collator(tuned.tokenizer)

    class CompletionTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False,
                         num_items_in_batch: Any = None) -> Any:  # fmt: skip
            follow.tokens += int(inputs["attention_mask"].sum())
            labels = inputs["labels"]
            count = num_items_in_batch or (labels[:, 1:] != encoding.UNTRAINED).sum()
            return completion_loss(model, **inputs) / count

        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(
                self.train_dataset, batch_sampler=batches, collate_fn=collate
            )
            return self.accelerator.prepare(loader)

    class Callback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                follow.step(state.global_step, float(logs["loss"]))

    trainer = CompletionTrainer(tuned.model, arguments, train_dataset=rows, callbacks=[Callback()])
    trainer.remove_callback(PrinterCallback)
    follow.look(0)
    return trainer


class _Follow:
    """Keeps the loss, shows it, and asks the watched prompts."""

    def __init__(self, tuned: TunedModel, watch: _Watch, line: Any, total: int) -> None:
        self.tuned, self.watch, self.line, self.total, self.tokens = tuned, watch, line, total, 0

    def step(self, number: int, loss: float) -> None:
        self.tuned.history.append({"step": number, "loss": loss, "tokens": self.tokens})
        self.tokens = 0
        self.line.set_postfix_str(f"loss {loss:.2f}", refresh=False)
        self.line.update(1)
        if number % self.watch.every == 0 or number == self.total:
            self.look(number)

    def look(self, number: int) -> None:
        """Answer the watched prompts as the model is now."""
        if not self.watch.prompts:
            return
        was_training = self.tuned.model.training
        self.tuned.model.eval()
        answers = generate(
            self.tuned, self.watch.prompts, max_new_tokens=self.watch.tokens, progress=False
        )
        self.tuned.model.train(was_training)
        for answer in answers:
            end = " ■" if answer.finished else " …"
            self.tuned.samples.append({"step": number, "prompt": answer.prompt, "answer": answer})
            self.line.write(f"step {number:>3}: {' '.join(answer.text.split())}{end}")
