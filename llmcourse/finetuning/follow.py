"""A training as it goes: what people see of it, what is kept of it, and when it ends."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmcourse import encoding, files
from llmcourse.errors import NotFinite, SettingError, whole
from llmcourse.finetuning import processes
from llmcourse.finetuning.checkpoints import Checkpoint, Run, put_weights, trained_weights
from llmcourse.finetuning.tuned import TrainingStopped, TunedModel
from llmcourse.generation import Answer, generate
from llmcourse.loss import mean_loss


@dataclass(frozen=True)
class Watch:
    """What is looked at on the way.

    Attributes:
        prompts: Answered at every look.
        every: Updates between two looks.
        tokens: Longest answer to a prompt.
        held_out: Records whose loss is measured at every look.
        patience: Looks without a new lowest held-out loss before training stops.
        tensorboard: A folder for TensorBoard's files.
        seen: Called with the model, the updates done and all updates; True stops as Ctrl-C does.
    """

    prompts: tuple[str, ...] = ()
    every: int = 10
    tokens: int = 40
    held_out: encoding.Encoded | None = None
    patience: int | None = None
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
    return {
        "prompts": texts,
        "every": whole("every", every, 1),
        "tokens": whole("watch_tokens", tokens, 1),
    }


class Follow:
    """Keeps and shows the losses, looks at the model, saves checkpoints, says when to stop.

    transformers' EarlyStoppingCallback is not used: it needs Trainer's own evaluation, which
    computes all logits, and goes back to the best weights by Trainer's own checkpoints.

    Attributes:
        tuned: The model that learns; its history, samples and held-out losses are filled.
        done: Updates done.
        interrupted: To be stopped after this update, as far as this process knows.
        halted: The same, as all processes know.
    """

    def __init__(
        self,
        tuned: TunedModel,
        watch: Watch,
        line: Any,
        total: int,
        run: Run | None = None,
        save_every: int = 1,
        start: Checkpoint | None = None,
    ) -> None:
        self.tuned, self.watch, self.line, self.total = tuned, watch, line, total
        self.run, self.save_every, self.start = run, save_every, start
        self.done, self.interrupted, self.halted = 0, False, False
        self.why, self.lost = "Stopped by you", False  # lost: another process is gone
        self.lowest: tuple[int, float] | None = None  # step and loss
        self.since = 0  # looks since then
        self.best: dict[str, torch.Tensor] = {}
        # under FSDP, once training has begun: makes the parts whole that all layers share
        self.gathered: Callable[[], AbstractContextManager] | None = None
        if start:
            self._resume(start)
        self.before, self.began = tuned.seconds, time.perf_counter()
        self.writer = _writer(watch.tensorboard)

    def _resume(self, start: Checkpoint) -> None:
        """Take over what was seen before a checkpoint."""
        tuned, state = self.tuned, start.state
        tuned.history, tuned.held_out = list(state["history"]), list(state["held_out"])
        tuned.samples = [{**row, "answer": Answer(**row["answer"])} for row in state["samples"]]
        tuned.notes, tuned.seconds = list(state["notes"]), state["seconds"]
        self.done, self.since = start.step, state["since"]
        self.lowest = tuple(state["lowest"]) if state["lowest"] else None
        for name in [name for name in start.weights if name.startswith("best.")]:
            self.best[name.removeprefix("best.")] = start.weights.pop(name)
        self.line.update(start.step)

    def note(self, text: str) -> None:
        """Show a line, and keep it for the model card."""
        self.tuned.notes.append(text)
        self.line.write(text)

    def begin(self) -> None:
        """The look before the first update."""
        if not self.start:
            self.look()
        self._call_back()

    def after(self, loss: float, tokens: int, checkpoint: Callable[[dict], Checkpoint]) -> bool:
        """After an update; returns whether training is to stop.

        Args:
            loss: Its mean loss, in nats a token.
            tokens: That it read.
            checkpoint: Makes a checkpoint of the training and the state it is given.
        """
        tuned = self.tuned
        self.done += 1
        tuned.history.append({"step": self.done, "loss": loss, "tokens": tokens})
        tuned.seconds = self.before + time.perf_counter() - self.began
        speed = tuned.tokens_per_second
        self.line.set_postfix_str(f"loss {loss:.2f}, {speed:.0f} tokens/s", refresh=False)
        self.line.update(1)
        self._record(loss=loss, tokens_per_second=speed)
        last = self.done == self.total
        stop = False
        if self.done % self.watch.every == 0 or last:
            try:
                stop = self.look()
            except NotFinite as error:
                raise self.stopped("Training stopped", f" {error}") from error
        if stop and not last:
            self.note(
                f"Stopped early after update {self.done} of {self.total}: the held-out loss was "
                f"lowest after update {self.lowest[0]}."
            )
        self._call_back()
        # (from here on another Ctrl-C waits for the next update, so that no process stops alone)
        self.halted = processes.any_of(self.interrupted)
        if self.run and (last or stop or self.halted or self.done % self.save_every == 0):
            self._save(checkpoint)
        return stop or self.halted

    def _call_back(self) -> None:
        if self.watch.seen is not None and self.watch.seen(self.tuned, self.done, self.total):
            self.interrupted = True

    def look(self) -> bool:
        """Measure and ask as the model is now; returns whether it has stopped getting better."""
        tuned = self.tuned

        def look() -> tuple[Any, ...]:
            if self.watch.held_out is not None:
                self._measure(self.watch.held_out)
            if self.watch.prompts:
                self._ask()
            return tuned.held_out, tuned.samples, self.lowest, self.since

        if self.gathered:  # each process has a part of every weight, so all of them look
            with self.gathered():
                look()
        else:
            tuned.held_out, tuned.samples, self.lowest, self.since = processes.of_first(look)
        if self.watch.patience is not None and self.since == 0:
            weights = trained_weights(tuned.model)
            self.best = {
                name: processes.full(weight.detach()).clone() for name, weight in weights.items()
            }
        return self.over

    @property
    def over(self) -> bool:
        """Whether the held-out loss has had no new lowest value for `patience` looks."""
        return self.watch.patience is not None and self.since >= self.watch.patience

    def _measure(self, held_out: encoding.Encoded) -> None:
        loss = mean_loss(self.tuned, held_out)
        self.tuned.held_out.append({"step": self.done, "loss": loss})
        self.since += 1
        if self.lowest is None or loss < self.lowest[1]:
            self.lowest, self.since = (self.done, loss), 0
        self._record(held_out_loss=loss)
        if recent := [row["loss"] for row in self.tuned.history[-self.watch.every :]]:
            mean = sum(recent) / len(recent)
            self.line.write(
                f"step {self.done:>4}: loss {mean:.3f} (mean of {len(recent)} updates), "
                f"held-out loss {loss:.3f}"
            )

    def _ask(self) -> None:
        for answer in generate(
            self.tuned, self.watch.prompts, max_new_tokens=self.watch.tokens, progress=False
        ):
            end = " ■" if answer.finished else " …"
            row = {"step": self.done, "prompt": answer.prompt, "answer": answer}
            self.tuned.samples.append(row)
            self.line.write(f"step {self.done:>3}: {' '.join(answer.text.split())}{end}")

    def _record(self, **numbers: float) -> None:
        for name, number in numbers.items() if self.writer else ():
            self.writer.add_scalar(name, number, self.done)

    def _save(self, checkpoint: Callable[[dict], Checkpoint]) -> None:
        """Write a checkpoint; on a full disk the run stops, and the one before it stays."""
        tuned = self.tuned
        samples = [{**row, "answer": dataclasses.asdict(row["answer"])} for row in tuned.samples]
        made = checkpoint(
            {
                "history": tuned.history,
                "held_out": tuned.held_out,
                "notes": tuned.notes,
                "samples": samples,
                "seconds": tuned.seconds,
                "lowest": self.lowest,
                "since": self.since,
            }
        )
        made.weights |= {f"best.{name}": weight for name, weight in self.best.items()}
        processes.of_first(lambda: self.run.save(made))

    def end(self) -> None:
        """After the last update: say what stopped it, or go back to the best weights.

        Raises:
            TrainingStopped: by Ctrl-C or the like.
        """
        if self.writer:
            self.writer.close()
        if self.halted and self.done < self.total:
            raise self.stopped(self.why)
        if self.best and self.lowest and self.lowest[0] != self.done:
            put_weights(self.tuned.model, self.best)

    def stopped(self, why: str, hint: str = "") -> TrainingStopped:
        """The error for a training that ends before its last update."""
        kept = ""
        if self.run and (step := self.run.newest_step()) is not None:
            where = files.shown(self.run.folder)
            kept = f" All up to update {step} is kept in {where}: the same call goes on from there."
        elif not self.run:
            kept = (
                " Nothing was saved, as no folder was named: with out=FOLDER the same call goes on "
                "next time. (Python code finds what was learned in the error's .model.)"
            )
        return TrainingStopped(
            f"{why} after update {self.done} of {self.total}.{hint}{kept}",
            self.tuned,
            self.done,
            self.halted and self.why == "Stopped by you",
        )


@contextmanager
def lost_processes(follow: Follow) -> Iterator[None]:
    """Say in our own error where another process is gone."""
    try:
        yield
    except (RuntimeError, processes.ProcessLost) as error:
        if isinstance(error, processes.ProcessLost) or processes.lost_process(error):
            follow.halted, follow.lost = False, True
            raise follow.stopped("Another process of this training is gone; it ended") from error
        raise


@contextmanager
def one_interrupt(follow: Follow) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the update; a second one stops at once.

    Of several processes, none stops by itself: the others would wait for it in vain. There
    SIGTERM, by which their launcher ends them, waits for the end of the update too, and where
    that never comes because another process is gone, for the error that says so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    usual = signal.getsignal(signal.SIGINT)
    alone = processes.count() == 1

    def wait(number: int, frame: Any) -> None:
        if not alone:
            follow.why = follow.why if number == signal.SIGINT else "Stopped by the launcher"
            follow.interrupted = True
            return
        if follow.interrupted:
            signal.signal(signal.SIGINT, usual)
            raise KeyboardInterrupt
        follow.interrupted = True
        follow.line.write("Stops after this update. Once more stops at once.")

    signal.signal(signal.SIGINT, wait)
    ended = signal.getsignal(signal.SIGTERM)
    if not alone:
        signal.signal(signal.SIGTERM, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if not alone and not follow.lost:
            signal.signal(signal.SIGTERM, ended)


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
