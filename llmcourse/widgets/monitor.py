"""A training that runs in a thread, with its losses and answers on the page, and a stop button."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import pages
from llmcourse.errors import CourseError, SettingError, first_line
from llmcourse.finetuning import Config, TrainingStopped, TunedModel, finetune
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel
from llmcourse.pages import Markup
from llmcourse.plots.base import encoded
from llmcourse.plots.measured import curve_figure
from llmcourse.progress import is_live
from llmcourse.widgets import ui

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


class TrainingMonitor(ui.Threaded):
    """Train with the losses and sample answers on the page; the last line of a cell shows it.

    Train begins, Stop ends it after the current update and saves, and Train goes on from there.
    `result()` waits for the tuned model, and begins where nobody has; Interrupt then stops the
    training, and saves it too.

    While it runs, the kernel is free for other cells. Don't train in two at once, and don't draw at
    random in one: torch has one source of random numbers for the entire program, and a training
    sets it. What other cells write to stderr meanwhile is not shown.

    Where nobody is there (see `BlindVote`), `result()` trains with the usual line of progress, and
    a table shows the losses, once there are any.

    Attributes:
        step: Updates done.
        total: Updates of the entire run; 0 before it is known.
        error: What ended it before its last update.
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
        super().__init__()
        check_loaded(model)
        if own := [name for name in OWN if name in settings]:
            raise SettingError(f"{own[0]}= is set by the monitor. Leave it out.")
        self._base, self._call, self._settings = model, (model, records, config), settings
        self._state, self.step, self.total = "waiting", 0, 0
        self._tuned: TunedModel | None = None  # as far as it is trained
        self.error: Exception | None = None
        self._drawn = 0.0  # when the picture was

    def __repr__(self) -> str:
        updates = f"{self.step} of {self.total or '?'} updates."
        if self.state == "waiting":
            updates = "result() trains, and gives the tuned model."
        return f"TrainingMonitor of {self._base.title}: {STATES[self.state]} {updates}"

    @property
    def state(self) -> str:
        """A key of `STATES`."""
        stopping = self._state == "running" and self._stop.is_set()
        return "stopping" if stopping else self._state

    @property
    def history(self) -> list[dict[str, float]]:
        """The loss of each update: step, loss, tokens."""
        return self._tuned.history if self._tuned else []

    def start(self, callback: Callable[[], object] = lambda: None) -> None:
        """Begin, or go on where a stopped training with a folder (out=) was; returns at once.

        Args:
            callback: Called in the thread after each update, and when it has ended.

        Raises:
            SettingError: it is running, or has finished.
        """
        if self._state == "running":
            raise SettingError("It is training already.")
        if self._state == "finished":
            raise SettingError("This training has finished.")
        self.wait()  # a training that was stopped may still be drawing its last picture

        def changed(tuned: TunedModel, step: int, total: int) -> bool:
            self._tuned, self.step, self.total = tuned, step, total
            if "fresh" in self._settings:  # the folder is this training's own from now on
                self._settings["fresh"] = False
            self._fill()
            callback()
            return self._stop.is_set()

        def run() -> None:
            self._train(progress=False, seen=changed)
            self._fill()
            callback()

        self._state = "running"
        self._begin(run)

    def stop(self) -> None:
        """End it after the current update; as Ctrl-C does, this saves where a folder is named."""
        if self.running:
            self._stop.set()

    def result(self) -> TunedModel:
        """The tuned model; waits for it, and begins if need be. Interrupt stops and saves it.

        A training that was stopped before gives what it had learned, and says so.

        Raises:
            TrainingStopped, CourseError: how it ended before its last update; see `finetune`.
        """
        if self.state == "waiting":
            self.start() if is_live() else self._train()
        if self.state == "running":
            print(
                "Waiting for the training above. Jupyter's ■ stops it and keeps what was learned."
            )
        stopped = self.state == "stopped"
        try:
            while not self.wait(0.2):
                stopped = stopped or self.state == "stopping"
        except KeyboardInterrupt:
            stopped = False
            self.stop()
            self.wait()
        if self.error is not None:
            if not (stopped and self.state == "stopped"):
                raise self.error
            print(f"Stopped after update {self.step}: this is the model as it was then.")
        return self._tuned

    def _train(self, **settings: Any) -> None:
        """Train in this thread, and keep how it ended."""
        self._state, self.error = "running", None
        try:
            self._tuned = finetune(*self._call, **self._settings, **settings)
            self.step = self.total = len(self.history)
            self._state = "finished"
        except TrainingStopped as error:
            self.error, self._tuned, self.step = error, error.model, error.step
            self._state = "stopped" if error.by_user else "failed"
        except Exception as error:  # shown on the page, and raised by result()
            self.error, self._state = error, "failed"
        finally:
            if self._state == "running":
                self._state = "failed"  # a second Ctrl-C

    # --- the page ---------------------------------------------------------------------------------

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons "start" and "stop"."""
        return ui.make_buttons({"start": "Train", "stop": "Stop and save"}, self._pressed)

    def _table(self) -> ui.Table:
        held_out = (
            {line["step"]: line["loss"] for line in self._tuned.held_out} if self._tuned else {}
        )
        rows = [
            [
                line["step"],
                f"{line['loss']:.3f}",
                f"{held_out[line['step']]:.3f}" if line["step"] in held_out else "",
            ]
            for line in self.history[:: max(1, len(self.history) // 8)]
        ]
        columns = ["update", "loss, nats per token", "held-out loss"]
        return columns, rows, "Some of the updates. result() of this monitor gives the tuned model."

    def _build(self) -> Any:
        html = self._html
        self._fill()
        buttons = ui.row(*self.buttons.values())
        return ui.column(buttons, html["status"], html["picture"], html["answers"])

    def _pressed(self, name: str) -> None:
        trouble = ""
        try:
            self.start() if name == "start" else self.stop()
        except CourseError as error:
            trouble = str(error)
        self._put(status=self._status(trouble))

    def _fill(self) -> None:
        """Show the status; a picture is drawn once a second at most, and at the end."""
        self._put(status=self._status())
        now, running = time.monotonic(), self.state in ("running", "stopping")
        if self._tuned and not (running and now - self._drawn < _EVERY):
            self._drawn = now
            self._put(
                picture=picture(self.history, self._tuned.held_out),
                answers=answers(self._tuned.samples),
            )

    def _status(self, trouble: str = "") -> Markup:
        parts = [STATES[self.state]]
        if self.total:
            parts.append(f"{self.step} of {self.total} updates.")
        if self.history:
            parts.append(f"Loss {self.history[-1]['loss']:.3f}.")
        if self._tuned and self._tuned.held_out:
            parts.append(f"Held-out loss {self._tuned.held_out[-1]['loss']:.3f}.")
        if isinstance(self.error, CourseError):
            parts.append(str(self.error))
        elif self.error is not None:
            parts.append(f"{type(self.error).__name__}: {first_line(self.error)}")
        text = " ".join([*parts, trouble]).strip()
        # Read out when the state changes, not after each update.
        return pages.fill("<div>{}</div>", text) if self.state == "running" else ui.status(text)


def picture(history: Sequence[dict[str, float]], held_out: Sequence[dict[str, float]]) -> str:
    """The losses so far as HTML; "" where there are none."""
    lines = {
        name: [(row["step"], row["loss"]) for row in rows]
        for name, rows in (("training", history), ("held out", held_out))
        if rows
    }
    if not lines:
        return ""
    figure, alt = curve_figure(lines, "Loss", ("update", "nats per token"))
    png = base64.b64encode(encoded(figure, "png")).decode("ascii")
    image = '<img style="max-width:100%;height:auto" alt="{}" src="data:image/png;base64,{}">'
    return pages.fill(image, alt, png)


def answers(samples: Sequence[dict[str, Any]]) -> str:
    """The newest answers to the watched prompts as HTML; "" where there are none."""
    items = []
    for sample in samples[-_SAMPLES:]:
        text = ui.cut(" ".join(sample["answer"].text.split()))
        end = "■" if sample["answer"].finished else "…"
        prompt = ui.cut(sample["prompt"], 80)
        items.append(pages.fill("update {}, {}<br>{} {}", sample["step"], prompt, text, end))
    bullets = pages.bullets(items, style=ui.TEXT)
    return pages.section("Answers on the way", bullets) if items else ""
