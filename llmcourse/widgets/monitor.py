"""A training that runs in a thread, with its losses and answers on the page, and a stop button."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llmcourse import pages, ui
from llmcourse.errors import CourseError, SettingError, first_line
from llmcourse.finetuning import Config, TrainingStopped, TunedModel, finetune
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel
from llmcourse.pages import Markup
from llmcourse.plots.base import encoded
from llmcourse.plots.measured import curve_figure
from llmcourse.progress import is_live

if TYPE_CHECKING:
    from datasets import Dataset

EVERY = 1.0  # seconds between two pictures
SAMPLES = 8  # answers that are shown, the newest last
ROWS = 8  # updates in the plain table, about
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

    While it runs, the kernel is free for other cells. Don't train in two at once, and don't draw
    random numbers in one: torch has one source of them for the entire program, and a training
    seeds it. What other cells write to stderr meanwhile is not shown.

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
            settings: Others of `finetune`, such as held_out, sample_prompts, eval_steps and out.
                With out= a folder, what was learned is saved when it stops.

        Raises:
            SettingError: `model` is none.
        """
        super().__init__()
        check_loaded(model)
        # Kept as given: Train after Stop makes the same call again, and `finetune` goes on.
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
        stopping = self._state == "running" and self.stopping.is_set()
        return "stopping" if stopping else self._state

    @property
    def history(self) -> list[dict[str, float]]:
        """The loss of each update: step, loss, tokens."""
        return self._tuned.history if self._tuned else []

    @property
    def held_out(self) -> list[dict[str, float]]:
        """The held-out losses: step, loss."""
        return self._tuned.held_out if self._tuned else []

    def start(self) -> None:
        """Begin, or go on where a stopped training with a folder (out=) was; returns at once.

        Raises:
            SettingError: it is running, or has finished.
        """
        if self._state in ("running", "finished"):
            already = "It is training already." if self.running else "This training has finished."
            raise SettingError(already)
        self.wait()  # a training that was stopped may still be drawing its last picture

        def updated(tuned: TunedModel, step: int, total: int) -> bool:
            self._tuned, self.step, self.total = tuned, step, total
            if "fresh" in self._settings:  # the folder now holds this training, to go on with
                self._settings["fresh"] = False
            self._show_progress()
            return self.stopping.is_set()

        def work() -> None:
            self._train(progress=False, callback=updated)
            self._show_progress()

        self._state = "running"
        self.begin(work)

    def stop(self) -> None:
        """End it after the current update; as Ctrl-C does, this saves where a folder is named."""
        if self.running:  # `finetune` looks after each update
            self.stopping.set()

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
            while not self.wait(0.2):  # in short waits, which an interrupt can end
                pass
            stopped = stopped or self.stopping.is_set()  # by the button
        except KeyboardInterrupt:
            stopped = False
            self.stop()
            self.wait()
        if self.error is not None and not (stopped and self.state == "stopped"):
            raise self.error
        assert self._tuned is not None
        if self.error is not None:
            print(f"Stopped after update {self.step}: this is the model as it was then.")
        return self._tuned

    def _train(self, **settings: Any) -> None:
        """Train in this thread, and keep how it ended."""
        # Where nothing below changes that, a second Ctrl-C ended it.
        self._state, self.error = "running", None
        ended = "failed"
        try:
            model, records, config = self._call
            self._tuned = finetune(model, records, config, **self._settings, **settings)
            self.step = self.total = len(self.history)
            ended = "finished"
        except TrainingStopped as error:
            self.error, self._tuned, self.step = error, error.model, error.step
            ended = "stopped" if error.by_user else "failed"
        except Exception as error:  # shown on the page, and raised by result()
            self.error = error
        finally:
            self._state = ended

    # --- the page ---------------------------------------------------------------------------------

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons "start" and "stop"."""
        return ui.make_buttons({"start": "Train", "stop": "Stop and save"}, self._pressed)

    def fallback(self) -> dict[str, Any]:
        if not self.history:
            return {"text/plain": repr(self)}
        held_out = {line["step"]: f"{line['loss']:.3f}" for line in self.held_out}
        rows = [
            [line["step"], f"{line['loss']:.3f}", held_out.get(line["step"], "")]
            for line in self.history[:: max(1, len(self.history) // ROWS)]
        ]
        columns = ["update", "loss, nats per token", "held-out loss"]
        caption = "Some of the updates. result() of this monitor gives the tuned model."
        return ui.plain_table(columns, rows, caption)

    def build(self) -> Any:
        html = self.html
        self._show_progress()
        buttons = ui.row(*self.buttons.values())
        return ui.column(buttons, html["status"], html["picture"], html["answers"])

    def _pressed(self, name: str) -> None:
        trouble = ""
        try:
            self.start() if name == "start" else self.stop()
        except CourseError as error:
            trouble = str(error)
        self.put(status=self._status(trouble))

    def _show_progress(self) -> None:
        """Show the status; a picture is drawn once a second at most, and at the end."""
        self.put(status=self._status())
        now, running = time.monotonic(), self.state in ("running", "stopping")
        if self._tuned and not (running and now - self._drawn < EVERY):
            self._drawn = now
            losses = loss_picture({"training": self.history, "held out": self.held_out})
            self.put(picture=losses, answers=sample_answers(self._tuned.samples))

    def _status(self, trouble: str = "") -> Markup:
        parts = [STATES[self.state]]
        if self.total:
            parts.append(f"{self.step} of {self.total} updates.")
        if self.history:
            parts.append(f"Loss {self.history[-1]['loss']:.3f}.")
        if self.held_out:
            parts.append(f"Held-out loss {self.held_out[-1]['loss']:.3f}.")
        if self.error is not None:
            kind = "" if isinstance(self.error, CourseError) else f"{type(self.error).__name__}: "
            parts.append(kind + (first_line(self.error) if kind else str(self.error)))
        text = " ".join([*parts, trouble]).strip()
        # Read out when the state changes, not after each update.
        return pages.fill("<div>{}</div>", text) if self.state == "running" else pages.status(text)


def loss_picture(losses: Mapping[str, Sequence[Mapping[str, float]]]) -> Markup:
    """The losses so far, a line per name, as HTML; nothing where there are none."""
    lines = {name: [(row["step"], row["loss"]) for row in rows] for name, rows in losses.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return Markup("")
    figure, alt = curve_figure(lines, "Loss", ("update", "nats per token"))
    return pages.picture(encoded(figure, "png"), alt, "The losses so far. Lower is better.")


def sample_answers(samples: Sequence[dict[str, Any]]) -> Markup:
    """The newest answers to the watched prompts as HTML; nothing where there are none."""
    items = []
    for sample in samples[-SAMPLES:]:
        text = ui.cut(" ".join(sample["answer"].text.split()))
        end = "■" if sample["answer"].finished else "…"
        prompt = ui.cut(sample["prompt"], 80)
        items.append(pages.fill("update {}, {}<br>{} {}", sample["step"], prompt, text, end))
    bullets = pages.bullets(items, style=ui.TEXT)
    return pages.section("Answers on the way", bullets) if items else Markup("")
