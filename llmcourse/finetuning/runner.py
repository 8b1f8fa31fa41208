"""The one call that fine-tunes."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmcourse import encoding, files
from llmcourse.errors import DataError, SettingError, first_line, whole
from llmcourse.finetuning import adapters, checkpoints, memory, plan, processes, saving
from llmcourse.finetuning.checkpoints import Checkpoint, Run, trained_weights
from llmcourse.finetuning.follow import Follow, Watch, watched
from llmcourse.finetuning.loss import check_labels
from llmcourse.finetuning.settings import Config, suggest
from llmcourse.finetuning.tuned import TrainingStopped, TunedModel
from llmcourse.generation import Answer, check_loaded
from llmcourse.models import LoadedModel, fingerprint
from llmcourse.progress import bar
from llmcourse.sizing import Hardware, Size

if TYPE_CHECKING:
    from datasets import Dataset

    from llmcourse.finetuning.engine import Engine

UTILISATION = 0.45  # of the peak of matrix products, as in benchmarks/README.md
# Settings that change how much memory a training takes, and nothing of its result.
_RESULT_FREE = ("micro_batch", "memory_gb", "checkpointing")


def finetune(
    model: LoadedModel,
    records: Dataset | Sequence[Any],
    config: Config | None = None,
    *,
    held_out: Dataset | Sequence[Any] | None = None,
    watch: Sequence[str] | str = (),
    every: int = 10,
    watch_tokens: int = 40,
    out: Path | str | None = None,
    save_every: int | None = None,
    fresh: bool = False,
    live: bool = False,
    tensorboard: Path | str | None = None,
    seen: Callable[[TunedModel, int, int], bool] | None = None,
    progress: bool = True,
) -> TunedModel:
    """Train an adapter, or every weight, on records; `model` itself stays as it is.

    With `out`, the training is safe: it is saved on the way, Ctrl-C (Interrupt in a notebook)
    saves and stops, and the same call goes on where a stopped or killed one was, with the same
    result. A finished training is not repeated but loaded.

    In a script under `accelerate launch` all processes call it, each with the whole model; every
    update's records are shared out among them, and all return the tuned model. The first alone
    writes, shows and asks. `out` is then a folder that all of them can read.

    Args:
        model: From `models.load`.
        records: With the fields in `templates.FIELDS`.
        config: How to train; `suggest` chooses what it leaves open.
        held_out: Records that are not trained on, whose loss is measured on the way.
        watch: Prompts that are answered every few updates, so that one sees the model learn.
        every: How many updates lie between two looks at `held_out` and `watch`.
        watch_tokens: Longest answer to a watched prompt.
        out: A folder for the tuned model, new, empty or that of this training.
        save_every: Updates between two checkpoints in `out`; `every` if not given.
        fresh: True begins anew where `out` holds a training already, and removes that.
        live: True draws the losses on the way, in a notebook.
        tensorboard: A folder for TensorBoard's files, if wanted.
        seen: Called before the first update and after each with the model as it is, the updates
            done and all updates. Where it says True, training saves and stops as by Ctrl-C; this
            works in a thread too, which Ctrl-C does not reach.
        progress: False shows nothing.

    Returns:
        The tuned model. With an adapter, its weights are those of `model`, shared, and the
        adapter's.

    Raises:
        DataError: there is nothing to train on.
        SettingError: see `Config`; or `out` is in use or holds something else.
        TrainingStopped: by Ctrl-C, or because the loss is no number any more.
        NoSpace: the disk is full; the last complete checkpoint is still there.
        CourseError: memory ran out even with one record at a time.
    """
    config = _config(config)
    check_loaded(model)
    processes.join(model.device)
    shown = progress and processes.first()
    watch_settings = watched(watch, every, watch_tokens)
    save_every = whole("save_every", every if save_every is None else save_every, 1)
    if config.patience is not None and held_out is None:
        raise SettingError("patience= needs held_out= records, whose loss tells when to stop.")
    encoded = _encoded(model, records, config)
    config, reason = suggest(config, len(encoded), encoded.trained_tokens,
                             adapters.weight_size(model))  # fmt: skip
    if reason and shown:
        print(f"{reason} {_estimate(model, encoded, config)}")
    watching = Watch(
        **watch_settings, patience=config.patience, live=live and shown,
        seen=seen if processes.first() else None,
        held_out=None if held_out is None else _encoded(model, held_out, config, "held-out "),
        tensorboard=(Path(tensorboard).expanduser()
                     if tensorboard is not None and processes.first() else None),
    )  # fmt: skip
    if out is None:
        return _trained(model, encoded, config, watching, None, save_every, shown)
    folder = _folder(out)
    facts = described(model, encoded, config)
    if config.patience is not None:  # then they decide where it ends
        facts |= {"held_out": _digest(_rows(watching.held_out)), "every": watching.every}
    with _opened(folder, facts, fresh) as run:
        if processes.of_first(lambda: saving.is_saved(folder)):
            if shown:
                print(f"{files.shown(folder)} holds this training, finished; it is loaded.")
                if held_out is not None or watching.prompts:
                    print("Its losses and samples are those of then; fresh=True begins anew.")
            return saving.load(folder, model, encoded)
        tuned = _trained(model, encoded, config, watching, run, save_every, shown)
        processes.of_first(lambda: _finish(tuned, run))
        tuned.folder = folder
    return tuned


@contextmanager
def _opened(folder: Path, facts: dict[str, Any], fresh: bool) -> Iterator[Run]:
    """`checkpoints.opened`; of several processes, the first holds the folder for all."""
    with ExitStack() as held:

        def take() -> None:
            held.enter_context(checkpoints.opened(folder, facts, fresh))

        processes.of_first(take)
        yield Run(folder, facts)


def _finish(tuned: TunedModel, run: Run) -> None:
    """Write the model into the run's folder, and remove what led to it."""
    saving.write(tuned, run.folder)
    run.finish()


def _config(config: Config | None) -> Config:
    if config is not None and not isinstance(config, Config):
        raise SettingError(
            f"config is of type {type(config).__name__}; write finetuning.Config(epochs=2), say."
        )
    return config or Config()


def _estimate(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> str:
    """How long it will take, by the speed of this machine's matrix products as they are now."""
    passes = config.epochs or config.steps * config.batch_size / len(encoded)
    here = Hardware.measured(0.3)
    seconds = Size.of(model.model.config).seconds(
        passes * encoded.tokens, here, config.method, utilisation=UTILISATION,
        rank=config.rank or 1, length=max(1, encoded.tokens // len(encoded)),
        labelled_share=encoded.trained_tokens / encoded.tokens,
    )  # fmt: skip
    return f"About {seconds / 60:.1f} minutes, by the speed of {here.name}, measured just now."


def _folder(out: Path | str) -> Path:
    if not isinstance(out, str | Path) or not str(out).strip():
        raise SettingError(f"out={out!r} must be the path of a folder.")
    try:
        return Path(out).expanduser()
    except RuntimeError as error:
        raise SettingError(f"out={str(out)!r}: {first_line(error)}") from error


def _encoded(model: LoadedModel, records: Any, config: Config, kind: str = "") -> encoding.Encoded:
    """The records as tokens.

    Raises:
        DataError: none is short enough, or none has anything to learn.
    """
    encoded = encoding.encode(
        records, model.tokenizer, config.template, max_length=config.max_length,
        mask_prompt=config.mask_prompt, add_end=config.add_end,
    )  # fmt: skip
    if not len(encoded):
        raise DataError(
            f"No {kind}record is short enough to train on: all have over {config.max_length} "
            f"tokens. Raise max_length."
        )
    check_labels(encoded)
    return encoded


def described(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> dict[str, Any]:
    """What is trained on what: two trainings of the same description give the same result."""
    settings = dataclasses.asdict(config)
    return {
        "base": model.name, "base_weights": _digest(fingerprint(model.model)),
        "number_type": str(model.dtype).removeprefix("torch."),
        "records": f"{len(encoded)}, with the digest {_digest(_rows(encoded))}",
        **{name: value for name, value in settings.items() if name not in _RESULT_FREE},
    }  # fmt: skip


def _rows(encoded: encoding.Encoded) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in encoded.dataset]


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _trained(
    model: LoadedModel, encoded: encoding.Encoded, config: Config, watch: Watch, run: Run | None,
    save_every: int, shown: bool,
) -> TunedModel:  # fmt: skip
    """Train from the start, or from the newest checkpoint of `run`."""
    from transformers import set_seed

    from llmcourse.finetuning.engine import Engine

    chance = checkpoints.chance_state()
    try:
        set_seed(config.seed)
        tuned = _fresh(model, encoded, config)
        layout = plan.plan(encoded, config)
        total = len(layout.updates)
        start, skipped = processes.of_first(run.newest) if run else (None, [])
        told = f"{model.title} trains on {len(encoded)} records"
        with bar(total, told, enabled=shown) as line:
            follow = Follow(tuned, watch, line, total)
            fitted = memory.fit(tuned, layout, config)
            job = _Job(follow, run, save_every, start)
            engine = Engine(
                tuned.model, model.tokenizer, layout, config, fitted.micro_batch,
                fitted.checkpointing, _mixed(model, config), job.after, job.note, start,
            )  # fmt: skip
            job.engine = engine
            for note in (*fitted.notes, *_on_resuming(start, skipped)):
                job.note(note)
            if encoded.left_out or encoded.cut:
                line.write(encoded.as_text())
            if watch.held_out is not None and watch.held_out.left_out:
                line.write(
                    f"{len(watch.held_out.left_out)} held-out records have over "
                    f"{config.max_length} tokens: their loss is not measured."
                )
            with _loss_told(job):
                job.begin()
            if start and (start.step == total or job.follow.over):
                _restore(tuned, start)
            else:
                with _one_interrupt(job):
                    _run(engine, job)
            follow.close()
            job.end()
    finally:
        checkpoints.restore_chance(chance)
    if config.method == "full":
        tuned.model.to(model.dtype)
        memory.give_back()
    tuned.model.eval()
    return tuned


def _fresh(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> TunedModel:
    """The model before its first update, with the weights to be trained marked."""
    if config.method == "lora":
        weights = adapters.with_adapter(model, config)
    else:
        weights = adapters.all_weights(model)
    trained = sum(weight.numel() for weight in trained_weights(weights).values())
    return TunedModel(
        weights, model.tokenizer, model.name, config.template, trained=trained, encoded=encoded,
        config=config, base_weights=fingerprint(model.model),
    )  # fmt: skip


def _mixed(model: LoadedModel, config: Config) -> str:
    """What products are made in, where that is not the weights' own type."""
    if model.dtype == torch.float16:
        return "fp16"
    return "bf16" if config.method == "full" and model.dtype == torch.bfloat16 else ""


def _on_resuming(start: Checkpoint | None, skipped: Sequence[str]) -> list[str]:
    notes = [f"Skipped, as it is not complete: {name}." for name in skipped]
    if start:
        notes.append(f"Goes on after update {start.step}, where the last complete checkpoint is.")
    return notes


def _restore(tuned: TunedModel, start: Checkpoint) -> None:
    """Give the model a checkpoint's weights."""
    with torch.no_grad():
        for name, weight in trained_weights(tuned.model).items():
            weight.copy_(start.weights[name])


class _Job:
    """A run as it goes: looks, checkpoints, early stop and Ctrl-C."""

    engine: Engine

    def __init__(self, follow: Follow, run: Run | None, save_every: int,
                 start: Checkpoint | None) -> None:  # fmt: skip
        self.follow, self.run, self.save_every, self.start = follow, run, save_every, start
        self.interrupted, self.done = False, start.step if start else 0
        self.halted = False  # interrupted, as all processes know
        self.why, self.lost = "Stopped by you", False  # lost: another process is gone
        self.best: dict[str, torch.Tensor] = {}
        if start:
            self._take(start)

    @property
    def tuned(self) -> TunedModel:
        """The model that is trained."""
        return self.follow.tuned

    def _take(self, start: Checkpoint) -> None:
        """What was seen before the checkpoint."""
        tuned, follow, state = self.tuned, self.follow, start.state
        tuned.history, tuned.held_out = list(state["history"]), list(state["held_out"])
        tuned.samples = [{**row, "answer": Answer(**row["answer"])} for row in state["samples"]]
        tuned.notes, tuned.seconds = list(state["notes"]), state["seconds"]
        follow.before = tuned.seconds
        follow.lowest, follow.since = state["lowest"] and tuple(state["lowest"]), state["since"]
        self.best = {name.removeprefix("best."): start.weights.pop(name)
                     for name in list(start.weights) if name.startswith("best.")}  # fmt: skip
        follow.line.resume(start.step)

    def note(self, text: str) -> None:
        """Tell the learner, and keep it for the model card."""
        self.tuned.notes.append(text)
        self.follow.line.write(text)

    def begin(self) -> None:
        """The look before the first update."""
        if not self.start:
            self._look(0)
        self._tell()

    def _tell(self) -> None:
        """Let whoever looks on see the model, and say whether to stop."""
        seen = self.follow.watch.seen
        if seen is not None and seen(self.tuned, self.done, self.follow.total):
            self.interrupted = True

    def after(self, number: int, loss: float, tokens: int) -> bool:
        """After an update; returns whether training is to stop."""
        self.done = number
        stop = self._look(number) if self.follow.step(number, loss, tokens) else False
        last = number == self.follow.total
        if stop and not last:
            self.note(
                f"Stopped early after update {number} of {self.follow.total}: the held-out loss "
                f"was lowest after update {self.follow.lowest[0]}."
            )
        self._tell()
        # (from here on another Ctrl-C waits for the next update, so that no process stops alone)
        self.halted = processes.any_of(self.interrupted)
        if self.run and (last or stop or self.halted or number % self.save_every == 0):
            self.save()
        return stop or self.halted

    def _look(self, number: int) -> bool:
        follow, tuned = self.follow, self.tuned

        def look() -> tuple[Any, ...]:
            stop = follow.look(number)
            return stop, tuned.held_out, tuned.samples, follow.lowest, follow.since

        stop, tuned.held_out, tuned.samples, follow.lowest, follow.since = processes.of_first(look)
        if self.follow.watch.patience is not None and self.follow.since == 0:
            weights = trained_weights(self.tuned.model)
            self.best = {name: weight.detach().clone() for name, weight in weights.items()}
        return stop

    def save(self) -> None:
        """Write a checkpoint; on a full disk the run stops, and the one before it stays."""
        tuned, follow = self.tuned, self.follow
        state = {
            "history": tuned.history, "held_out": tuned.held_out, "notes": tuned.notes,
            "samples": [{**row, "answer": dataclasses.asdict(row["answer"])}
                        for row in tuned.samples],
            "seconds": tuned.seconds, "lowest": follow.lowest, "since": follow.since,
        }  # fmt: skip
        checkpoint = self.engine.checkpoint(self.done, state)
        checkpoint.weights |= {f"best.{name}": weight for name, weight in self.best.items()}
        processes.of_first(lambda: self.run.save(checkpoint))

    def end(self) -> None:
        """After the last update: Ctrl-C is told, and the best weights come back."""
        if self.halted and self.done < self.follow.total:
            raise self.stopped(self.why)
        if self.best and self.follow.lowest and self.follow.lowest[0] != self.done:
            with torch.no_grad():
                for name, weight in trained_weights(self.tuned.model).items():
                    weight.copy_(self.best[name])

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
            f"{why} after update {self.done} of {self.follow.total}.{hint}{kept}", self.tuned,
            self.done, self.halted and self.why == "Stopped by you",
        )  # fmt: skip


def _run(engine: Engine, job: _Job) -> None:
    """Train, and say in our own errors how it ended."""
    from llmcourse.finetuning.engine import NotFinite

    try:
        with _loss_told(job):
            engine.run()
    except NotFinite as error:
        numbers = ", ".join(map(str, error.records[:8]))
        more = f" and {len(error.records) - 8} more" if len(error.records) > 8 else ""
        job.done = error.step - 1
        engine.model.eval()
        raise job.stopped(
            "Training stopped",
            f" {error.what} of update {error.step} is no finite number; its records are "
            f"{numbers}{more} (counted from 0). Look at them, or take a lower learning_rate. The "
            f"model has the last good weights.",
        ) from error


@contextmanager
def _loss_told(job: _Job) -> Iterator[None]:
    """Say in our own error where another process is gone."""
    try:
        yield
    except (RuntimeError, processes.ProcessLost) as error:
        if isinstance(error, processes.ProcessLost) or processes.lost_process(error):
            job.halted, job.lost = False, True
            raise job.stopped("Another process of this training is gone; it ended") from error
        raise


@contextmanager
def _one_interrupt(job: _Job) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the update; a second one stops at once.

    Of several processes, none stops by itself: the others would wait for it in vain. There
    SIGTERM, by which their launcher ends them, waits for the end of the update too, and where
    that never comes because another process is gone, for the error that says so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    usual = signal.getsignal(signal.SIGINT)
    alone = processes.count() == 1

    def wait(number: int, frame: Any) -> None:
        if not alone:
            job.why = job.why if number == signal.SIGINT else "Stopped by the launcher"
            job.interrupted = True
            return
        if job.interrupted:
            signal.signal(signal.SIGINT, usual)
            raise KeyboardInterrupt
        job.interrupted = True
        job.follow.line.write("Stops after this update. Once more stops at once.")

    signal.signal(signal.SIGINT, wait)
    ended = signal.getsignal(signal.SIGTERM)
    if not alone:
        signal.signal(signal.SIGTERM, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if not alone and not job.lost:
            signal.signal(signal.SIGTERM, ended)
