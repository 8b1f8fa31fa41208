"""What people see while a model learns: the loss, its speed, a curve, and sample answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse import encoding, plots
from llmcourse.errors import SettingError, whole
from llmcourse.finetuning.loss import mean_loss
from llmcourse.finetuning.tuned import TunedModel
from llmcourse.generation import generate
from llmcourse.progress import in_notebook


@dataclass(frozen=True)
class Watch:
    """What is looked at on the way.

    Attributes:
        prompts: Answered at every look.
        every: Updates between two looks.
        tokens: Longest answer to a prompt.
        held_out: Records whose loss is measured at every look.
        patience: Looks without a new lowest held-out loss before training stops.
        live: Draw the curve of the losses at every look, in a notebook.
        tensorboard: A folder for TensorBoard's files.
        seen: Called with the model, the updates done and all updates; True stops as Ctrl-C does.
    """

    prompts: tuple[str, ...] = ()
    every: int = 10
    tokens: int = 40
    held_out: encoding.Encoded | None = None
    patience: int | None = None
    live: bool = False
    tensorboard: Path | None = None
    seen: Callable[[TunedModel, int, int], bool] | None = None


def watched(prompts: Sequence[str] | str, every: int, tokens: int) -> dict[str, Any]:
    """The settings of a `Watch`, checked.

    Raises:
        SettingError: `every` or `tokens` is below 1, or a prompt is no text.
    """
    texts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise SettingError(f"watch={prompts!r:.80} must be a prompt, or a list of prompts.")
    return {"prompts": texts, "every": whole("every", every, 1),
            "tokens": whole("watch_tokens", tokens, 1)}  # fmt: skip


@dataclass
class Follow:
    """Keeps the losses, shows them, asks the watched prompts, and says when to stop.

    Attributes:
        tuned: The model that learns; its history, samples and held-out losses are filled.
        watch: What is looked at.
        line: The progress bar.
        total: Updates of the whole run.
        lowest: The step and the lowest held-out loss so far.
        since: Looks since then.
    """

    tuned: TunedModel
    watch: Watch
    line: Any
    total: int
    lowest: tuple[int, float] | None = None
    since: int = 0
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.before = self.tuned.seconds
        self.canvas = plots.Canvas() if self.watch.live and in_notebook() else None
        self.writer = _writer(self.watch.tensorboard)

    def step(self, number: int, loss: float, tokens: int) -> bool:
        """After an update; returns whether it is time for a look."""
        tuned = self.tuned
        tuned.history.append({"step": number, "loss": loss, "tokens": tokens})
        tuned.seconds = self.before + time.perf_counter() - self.started
        self.line.set_postfix_str(
            f"loss {loss:.2f}, {tuned.tokens_per_second:.0f} tokens/s", refresh=False
        )
        self.line.update(1)
        if self.writer:
            self.writer.add_scalar("loss", loss, number)
            self.writer.add_scalar("tokens_per_second", tuned.tokens_per_second, number)
        return number % self.watch.every == 0 or number == self.total

    def look(self, number: int) -> bool:
        """Measure and ask as the model is now; returns whether it has stopped getting better."""
        told = []
        if self.watch.held_out is not None:
            told.append(f"held-out loss {self._measure(number):.3f}")
        if self.tuned.history:
            self._told_loss(told)
        if told and number:
            self.line.write(f"step {number:>4}: {', '.join(told)}")
        self._ask(number)
        self._draw()
        return self.over

    @property
    def over(self) -> bool:
        """Whether the held-out loss has not become lower for as many looks as is waited."""
        return self.watch.patience is not None and self.since >= self.watch.patience

    def _told_loss(self, told: list[str]) -> None:
        recent = self.tuned.history[-self.watch.every :]
        if told:
            mean = sum(row["loss"] for row in recent) / len(recent)
            told.insert(0, f"loss {mean:.3f} (mean of {len(recent)} updates)")

    def _measure(self, number: int) -> float:
        loss = mean_loss(self.tuned, self.watch.held_out)
        self.tuned.held_out.append({"step": number, "loss": loss})
        if self.lowest is None or loss < self.lowest[1]:
            self.lowest, self.since = (number, loss), 0
        else:
            self.since += 1
        if self.writer:
            self.writer.add_scalar("held_out_loss", loss, number)
        return loss

    def _ask(self, number: int) -> None:
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

    def _draw(self) -> None:
        """Draw the losses so far into the one picture of this run."""
        tuned = self.tuned
        if self.canvas is None or not tuned.history:
            return
        lines = {"training": [(row["step"], row["loss"]) for row in tuned.history]}
        if tuned.held_out:
            lines["held out"] = [(row["step"], row["loss"]) for row in tuned.held_out]
        with self.canvas:
            plots.curve(lines, f"{tuned.title}: loss", caption="",
                        labels=("update", "loss, nats a token"))  # fmt: skip

    def close(self) -> None:
        """Write what is still to be written."""
        if self.writer:
            self.writer.close()


def _writer(folder: Path | None) -> Any:
    """TensorBoard's writer.

    Raises:
        SettingError: TensorBoard is not installed.
    """
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise SettingError(
            "TensorBoard is not installed. Run pip install tensorboard, or leave tensorboard= out."
        ) from None
    return SummaryWriter(str(folder))
