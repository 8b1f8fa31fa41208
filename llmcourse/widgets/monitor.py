"""A training that runs in a thread, with its losses and answers on the page, and a stop button."""

from __future__ import annotations

import base64
import html
import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import plots
from llmcourse.errors import CourseError, SettingError, first_line
from llmcourse.finetuning import Config, TrainingStopped, TunedModel, finetune
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel
from llmcourse.plots.base import BLUE, INK, ORANGE
from llmcourse.widgets.shared import TEXT, Shown, buttons, cut, is_live, row, section, status

if TYPE_CHECKING:
    from datasets import Dataset

_EVERY = 1.0  # seconds between two pictures
_SAMPLES = 8  # answers that are shown, the newest last
OWN = ("progress", "live", "seen")  # settings of `finetune` that the monitor sets itself
STATES = {
    "waiting": "Not begun.",
    "running": "Training.",
    "stopping": "Stops after this update.",
    "stopped": "Stopped.",
    "finished": "Finished.",
    "failed": "Ended with an error.",
}


class Training:
    """One call of `finetuning.finetune` that runs in a thread and can be looked at and stopped.

    While it runs, the kernel is free for other cells. Don't train in two at once, and don't draw at
    random in one: torch has one source of random numbers for the whole program, and a training
    sets it. What other cells write to stderr meanwhile is not shown.

    Attributes:
        step: Updates done.
        total: Updates of the whole run; 0 before it is known.
        history: The loss of each update: step, loss, tokens.
        held_out: The loss on the held-out records at each look.
        samples: The answers to the watched prompts at each look: step, prompt, answer.
        error: What ended it before its last update.
        model: The tuned model; of a stopped training, with what it had learned.
    """

    def __init__(
        self,
        model: LoadedModel,
        records: Dataset | Sequence[Any],
        config: Config | None = None,
        **settings: Any,
    ) -> None:
        """Take what `finetune` takes; see `TrainingMonitor`."""
        check_loaded(model)
        if taken := [name for name in OWN if name in settings]:
            raise SettingError(f"{taken[0]}= is set by the monitor. Leave it out.")
        self.base, self._call, self._settings = model, (model, records, config), settings
        self._state, self.step, self.total = "waiting", 0, 0
        self.history: list[dict[str, float]] = []
        self.held_out: list[dict[str, float]] = []
        self.samples: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.model: TunedModel | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        """How it stands, a key of `STATES`."""
        stops = self._state == "running" and self._stop.is_set()
        return "stopping" if stops else self._state

    @property
    def running(self) -> bool:
        """Whether it is training."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, changed: Callable[[], None] = lambda: None) -> None:
        """Begin, or go on where a stopped training with a folder (out=) was; returns at once.

        Args:
            changed: Called in the thread after each update, and when it has ended.

        Raises:
            SettingError: it is running, or has finished.
        """
        if self.running or self.state == "finished":
            raise SettingError(
                "It is training already." if self.running else "This training has finished."
            )
        self._begin()

        def seen(tuned: TunedModel, step: int, total: int) -> bool:
            self._take(tuned)
            self.step, self.total = step, total
            if "fresh" in self._settings:  # the folder is this training's own from now on
                self._settings["fresh"] = False
            changed()
            return self._stop.is_set()

        def run() -> None:
            try:
                self._end(finetune(*self._call, **self._settings, progress=False, seen=seen))
            except Exception as error:  # told on the page, and raised by result()
                self._fail(error)
            finally:
                changed()

        self._thread = threading.Thread(target=run, name="llmcourse training", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it after the update at hand; as Ctrl-C does, this saves where a folder is named."""
        if self.running:
            self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, at most so long; returns whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def here(self) -> None:
        """Train in this thread, with the usual line of progress; Ctrl-C saves and stops."""
        self._begin()
        try:
            self._end(finetune(*self._call, **self._settings))
        except Exception as error:
            self._fail(error)
        finally:
            if self._state == "running":
                self._state = "failed"  # a second Ctrl-C

    def result(self) -> TunedModel:
        """The tuned model, once the training has ended. Interrupt stops the training and saves.

        A training that was stopped before gives what it had learned, and says so.

        Raises:
            TrainingStopped, CourseError: how it ended before its last update; see `finetune`.
        """
        before = self.state == "stopped"
        try:
            while not self.wait(0.2):
                before = before or self.state == "stopping"
        except KeyboardInterrupt:
            before = False
            self.stop()
            self.wait()
        if self.error is not None:
            if not (before and self.state == "stopped"):
                raise self.error
            print(f"Stopped after update {self.step}: this is the model as it was then.")
        if self.model is None:
            raise SettingError("This training has not begun. Call start() first.")
        return self.model

    def _begin(self) -> None:
        self._stop.clear()
        self._state, self.error = "running", None

    def _take(self, tuned: TunedModel) -> None:
        self.history, self.held_out = list(tuned.history), list(tuned.held_out)
        self.samples = list(tuned.samples)

    def _end(self, tuned: TunedModel) -> None:
        self._take(tuned)
        self.model, self.step = tuned, len(tuned.history)
        self._state, self.total = "finished", self.step

    def _fail(self, error: Exception) -> None:
        self.error = error
        if isinstance(error, TrainingStopped):
            self._take(error.model)
            self.model, self.step = error.model, error.step
        by_user = isinstance(error, TrainingStopped) and error.by_user
        self._state = "stopped" if by_user else "failed"


class TrainingMonitor(Shown):
    """Train with the losses and sample answers before one's eyes; a cell's last line shows it.

    Train begins, Stop ends it after the update at hand and saves, and Train goes on from there.
    The kernel stays free meanwhile (see `Training` for what other cells should not do). `result()`
    waits for the tuned model, and begins where nobody has; Interrupt then stops the training, and
    saves it too.

    Where nobody is there (see `BlindVote`), `result()` trains with the usual line of progress, and
    a table shows the losses, once there are any.
    """

    def __init__(
        self,
        model: LoadedModel,
        records: Dataset | Sequence[Any],
        config: Config | None = None,
        **settings: Any,
    ) -> None:
        """Take what `finetuning.finetune` takes.

        Args:
            model: From `models.load`.
            records: To train on.
            config: How to train.
            settings: Others of `finetune`, such as held_out, watch, every and out. With out= a
                folder, what was learned is saved when it stops.

        Raises:
            SettingError: `model` is none, or a setting is the monitor's own.
        """
        self.training = Training(model, records, config, **settings)

    def __repr__(self) -> str:
        training = self.training
        if training.state == "waiting":
            return (
                f"TrainingMonitor of {training.base.title}: Not begun; result() trains, and gives "
                "the tuned model."
            )
        return (
            f"TrainingMonitor of {training.base.title}: {STATES[training.state]} "
            f"{training.step} of {training.total or '?'} updates."
        )

    def start(self) -> None:
        """Begin, or go on; see `Training.start`."""
        self.training.start(self.page.changed)

    def stop(self) -> None:
        """Stop after the update at hand, and save; see `Training.stop`."""
        self.training.stop()

    def result(self) -> TunedModel:
        """The tuned model; waits for it, and begins if need be.

        Raises:
            TrainingStopped, CourseError: see `finetune`.
        """
        training = self.training
        if training.state == "waiting":
            self.start() if is_live() else training.here()
        if training.state == "running":
            print(
                "Waiting for the training above. Jupyter's ■ stops it and keeps what was learned."
            )
        return training.result()

    def _make(self) -> _Page:
        return _Page(self.training)

    def _show_plain(self) -> None:
        training = self.training
        if not training.history:
            print(repr(self))
            return
        held = {line["step"]: line["loss"] for line in training.held_out}
        chosen = training.history[:: max(1, len(training.history) // 8)]
        rows = [
            [f"{line['step']}", f"{line['loss']:.3f}",
             f"{held[line['step']]:.3f}" if line["step"] in held else ""]
            for line in chosen
        ]  # fmt: skip
        plots.table(
            rows,
            ["update", "loss, nats a token", "held-out loss"],
            caption="Some of the updates. result() of this monitor gives the tuned model.",
        )


class _Page:
    """The buttons, the losses and the answers.

    Attributes:
        box: The whole.
        buttons: "start" and "stop".
    """

    def __init__(self, training: Training) -> None:
        import ipywidgets as w

        self._training, self._drawn = training, 0.0
        self._status, self._picture, self._answers = w.HTML(), w.HTML(), w.HTML()
        self.buttons = buttons({"start": "Train", "stop": "Stop and save"}, self._pressed)
        self.box = w.VBox([
            row(*self.buttons.values()), self._status, self._picture, self._answers,
        ])  # fmt: skip
        self.changed()

    def _pressed(self, name: str) -> None:
        if name == "stop":
            self._training.stop()
            self._tell()
            return
        try:
            self._training.start(self.changed)
        except CourseError as error:
            self._tell(str(error))

    def changed(self) -> None:
        """Tell how it stands; a picture is drawn once a second at most, and at the end."""
        self._tell()
        now = time.monotonic()
        if self._training.state in ("running", "stopping") and now - self._drawn < _EVERY:
            return
        self._drawn = now
        self._picture.value = picture(self._training.history, self._training.held_out)
        self._answers.value = answers(self._training.samples)

    def _tell(self, note: str = "") -> None:
        training = self._training
        told = [STATES[training.state]]
        if training.total:
            told.append(f"{training.step} of {training.total} updates.")
        if training.history:
            told.append(f"Loss {training.history[-1]['loss']:.3f}.")
        if training.held_out:
            told.append(f"Held-out loss {training.held_out[-1]['loss']:.3f}.")
        if (error := training.error) is not None:
            kind = "" if isinstance(error, CourseError) else f"{type(error).__name__}: "
            told.append(kind + (str(error) if not kind else first_line(error)))
        page = " ".join([*told, note]).strip()
        # Read out when the state changes, not after each update.
        self._status.value = (
            f"<div>{html.escape(page)}</div>" if training.state == "running" else status(page)
        )


def picture(history: Sequence[dict[str, float]], held_out: Sequence[dict[str, float]]) -> str:
    """The losses so far as HTML; "" where there are none.

    It is drawn without matplotlib's global settings, as it may be drawn in a thread.
    """
    from matplotlib.figure import Figure

    if not history:
        return ""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained", facecolor="white")
    axes = figure.subplots()
    said = []
    for name, rows, style, colour in (
        ("training", history, "-", BLUE),
        ("held out", held_out, "--", ORANGE),
    ):
        if rows:
            steps, losses = [r["step"] for r in rows], [r["loss"] for r in rows]
            mark = "o" if len(rows) == 1 else None
            axes.plot(steps, losses, style, color=colour, linewidth=2, label=name, marker=mark)
            said.append(f"{name}: from {losses[0]:.2f} to {losses[-1]:.2f} at {steps[-1]}")
    axes.set_xlabel("update", color=INK)
    axes.set_ylabel("loss, nats a token", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = html.escape(f"Line chart of the loss. {'; '.join(said)}.", quote=True)
    return (
        f'<img style="max-width:100%;height:auto" alt="{alt}" src="data:image/png;base64,{data}">'
    )


def answers(samples: Sequence[dict[str, Any]]) -> str:
    """The newest answers to the watched prompts as HTML; "" where there are none."""
    if not samples:
        return ""
    items = []
    for sample in samples[-_SAMPLES:]:
        end = " ■" if sample["answer"].finished else " …"
        text = cut(" ".join(sample["answer"].text.split())) + end
        asked = cut(sample["prompt"], 80)
        told = f"update {sample['step']}, {asked}"
        items.append(f"<li>{html.escape(told)}<br>{html.escape(text)}</li>")
    return section("Answers on the way", f'<ul style="{TEXT}">{"".join(items)}</ul>')
