"""What happens around the updates: evaluation, checkpoints, progress, and when training ends.

A `TrainerCallback` does it. Trainer's own evaluation, early stopping and best model are not used:
its evaluation computes all logits, `EarlyStoppingCallback` leaves out the evaluation before the
first update, and `load_best_model_at_end` needs checkpoints on the disk, also without `out=`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from llmcourse import encoding, files
from llmcourse.errors import NotFinite
from llmcourse.finetuning import processes
from llmcourse.finetuning.checkpoints import (
    Checkpoint,
    Run,
    complete_weights,
    optimizer_state,
    put_weights,
    restore_optimizer,
    restore_rng_state,
    rng_state,
)
from llmcourse.finetuning.tuned import TrainingStopped, TunedModel
from llmcourse.generation import generate
from llmcourse.loss import mean_loss

BY_USER, BY_LAUNCHER = "Stopped by you", "Stopped by the launcher"


@dataclass(frozen=True)
class Watch:
    """What is evaluated, saved and called during training; see `finetune`."""

    sample_prompts: tuple[str, ...]
    sample_tokens: int
    eval_steps: int
    save_steps: int
    held_out: encoding.Encoded | None
    patience: int | None
    callback: Callable[[TunedModel, int, int], bool] | None


class Follow(TrainerCallback):
    """Keeps and shows the losses, evaluates the model, saves checkpoints, says when to stop.

    Attributes:
        tuned: The model that learns; its samples, held-out losses and notes are added here, its
            history by the engine.
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
        start: Checkpoint | None = None,
    ) -> None:
        self.tuned, self.watch, self.line, self.total = tuned, watch, line, total
        self.run, self.start = run, start
        self.interrupted, self.halted, self.why = False, False, BY_USER
        self.lost = False  # whether another process is gone
        self.best: dict[str, torch.Tensor] = {}  # the weights with the lowest held-out loss
        self.sharded: Any = None  # under FSDP, once training has begun: the wrapped model
        if start:
            tuned.take(start.state)
            self.best = start.of_kind("best")
            line.resume(start.step)
        self.before, self.began = tuned.seconds, time.perf_counter()  # seconds of earlier calls

    @property
    def done(self) -> int:
        """Updates done."""
        return len(self.tuned.history)

    @property
    def evaluations_since_best(self) -> int:
        """How many evaluations came after the one with the lowest held-out loss."""
        losses = [row["loss"] for row in self.tuned.held_out]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    @property
    def stops_early(self) -> bool:
        """Whether the held-out loss has had no new lowest value for `patience` evaluations."""
        patience = self.watch.patience
        return patience is not None and self.evaluations_since_best >= patience

    def note(self, text: str) -> None:
        """Show a line, and keep it for the model card."""
        self.tuned.notes.append(text)
        self.line.write(text)

    # --- Trainer's events -------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **now: Any) -> None:
        """Restore weights, optimizer and schedule."""
        if processes.sharded():
            self.sharded = now["model"]
        if self.start is None:
            return
        put_weights(self.tuned.model, self.start.of_kind("weights"))
        restore_optimizer(now["optimizer"], self.start.of_kind("optimizer"))
        if self.start.state.get("scaler"):
            now["optimizer"].scaler.load_state_dict(self.start.state["scaler"])
        # a rate depends on the number of its update, less those that float16's scaler skipped
        for _ in range(self.start.state.get("rates", self.start.step)):
            now["lr_scheduler"].step()
        state.global_step = self.start.step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the random generators, from which all that leads to the first update draws."""
        if self.start and state.global_step == self.start.step:
            states = self.start.state["rng"]
            number = processes.number()
            restore_rng_state(states[number if number < len(states) else 0])

    def on_step_end(self, args: Any, state: Any, control: Any, **now: Any) -> None:
        """Report the update, evaluate and save where it is time, and stop where it is asked for."""
        tuned, last = self.tuned, self.done == self.total
        tuned.seconds = self.before + time.perf_counter() - self.began
        loss, speed = tuned.history[-1]["loss"], tuned.tokens_per_second
        self.line.set_postfix_str(f"loss {loss:.2f}, {speed:.0f} tokens/s", refresh=False)
        self.line.update(1)
        if self.done % self.watch.eval_steps == 0 or last:
            try:
                self.evaluate()
            except NotFinite as error:
                raise self.stopped("Training stopped", f" {error}") from error
        if self.stops_early and not last:
            best = min(tuned.held_out, key=lambda row: row["loss"])
            self.note(
                f"Stopped early after update {self.done} of {self.total}: the held-out loss was "
                f"lowest after update {best['step']}."
            )
        self.call_back()
        # (from here on another Ctrl-C waits for the next update, so that no process stops alone)
        self.halted = any(processes.of_each(self.interrupted))
        ends = last or self.halted or self.stops_early
        if self.run and (ends or self.done % self.watch.save_steps == 0):
            self._save(self.run, now["optimizer"], now["lr_scheduler"].last_epoch)
        control.should_training_stop = ends

    # --- what they do -----------------------------------------------------------------------------

    def call_back(self) -> None:
        """Call the user's `callback`; where it returns True, training stops as by Ctrl-C."""
        if self.watch.callback and self.watch.callback(self.tuned, self.done, self.total):
            self.interrupted = True

    def evaluate(self) -> None:
        """Measure the held-out loss and answer the sample prompts; keep the best weights."""
        tuned = self.tuned

        def measured() -> tuple[list, list]:
            if self.watch.held_out is not None:
                self._measure(self.watch.held_out)
            if self.watch.sample_prompts:
                self._sample()
            return tuned.held_out, tuned.samples

        if self.sharded is not None:  # each process has a part of every weight: all take part
            # FSDP gathers the weights that belong to no layer only for calls of what it has wrapped
            self.sharded.unshard()
            measured()
            self.sharded.reshard()
        else:
            tuned.held_out, tuned.samples = processes.of_first(measured)
        # kept in memory, and in checkpoints: full fine-tuning with patience takes as much again
        if self.watch.patience is not None and self.evaluations_since_best == 0:
            self.best = {n: w.clone() for n, w in complete_weights(tuned.model).items()}

    def _measure(self, held_out: encoding.Encoded) -> None:
        loss = mean_loss(self.tuned, held_out)
        self.tuned.held_out.append({"step": self.done, "loss": loss})
        # one update's loss says little: its batch may be an easy one
        if recent := [row["loss"] for row in self.tuned.history[-self.watch.eval_steps :]]:
            mean = sum(recent) / len(recent)
            self.line.write(
                f"step {self.done:>4}: loss {mean:.3f} (mean of {len(recent)} updates), "
                f"held-out loss {loss:.3f}"
            )

    def _sample(self) -> None:
        prompts, limit = self.watch.sample_prompts, self.watch.sample_tokens
        for answer in generate(self.tuned, prompts, max_new_tokens=limit, progress=False):
            row = {"step": self.done, "prompt": answer.prompt, "answer": answer}
            self.tuned.samples.append(row)
            end = " ■" if answer.finished else " …"
            self.line.write(f"step {self.done:>3}: {' '.join(answer.text.split())}{end}")

    def _save(self, run: Run, optimizer: torch.optim.Optimizer, rates: int) -> None:
        """Write a checkpoint; all processes take part. On a full disk the one before it stays."""
        scaler = getattr(optimizer, "scaler", None)  # accelerate's, in float16 alone
        kinds = {
            "weights": complete_weights(self.tuned.model),
            "optimizer": optimizer_state(optimizer),
            "best": self.best,
        }
        tensors = {f"{kind}/{n}": t for kind, named in kinds.items() for n, t in named.items()}
        state = self.tuned.recorded() | {
            "rng": processes.of_each(rng_state()),
            "rates": rates,
            "scaler": scaler.state_dict() if scaler else None,
        }
        checkpoint = Checkpoint(self.done, tensors, state)
        processes.of_first(lambda: run.save(checkpoint))

    def end(self) -> None:
        """After the last update: go back to the best weights.

        Raises:
            TrainingStopped: by Ctrl-C or the like.
        """
        if self.halted and self.done < self.total:  # one that is stopped at its end is complete
            raise self.stopped(self.why)
        if self.best and self.evaluations_since_best:
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
            self.halted and self.why == BY_USER,
        )


@contextmanager
def ending_between_updates(follow: Follow) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the update; a second one stops at once.

    Of several processes, none stops by itself: the others would wait for it forever. There SIGTERM,
    by which their launcher ends them, waits for the end of the update too, and where that never
    comes because another process is gone, for the error that says so.

    Raises:
        TrainingStopped: another process is gone.
    """
    alone = processes.count() == 1
    usual: dict[int, Any] = {}

    def wait(number: int, frame: Any) -> None:
        if not alone and number == signal.SIGTERM:
            follow.why = BY_LAUNCHER
        elif alone and follow.interrupted:
            signal.signal(signal.SIGINT, usual[signal.SIGINT])
            raise KeyboardInterrupt
        elif alone:
            follow.line.write("Stops after this update. Once more stops at once.")
        follow.interrupted = True

    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        for number in (signal.SIGINT,) if alone else (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, wait)
    try:
        yield
    except (RuntimeError, processes.ProcessLost) as error:
        if not (isinstance(error, processes.ProcessLost) or processes.is_lost(error)):
            raise
        follow.halted, follow.lost = False, True
        raise follow.stopped("Another process of this training is gone; it ended") from error
    finally:
        for caught, handler in usual.items():
            # the launcher's SIGTERM must not cut off the message about a lost process
            if not (follow.lost and caught == signal.SIGTERM):
                signal.signal(caught, handler)
