"""The one call that fine-tunes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmcourse import encoding, files
from llmcourse.errors import DataError, SettingError, first_line, whole
from llmcourse.finetuning import adapters, checkpoints, memory, plan, processes
from llmcourse.finetuning.checkpoints import Run, put_weights, trained_weights
from llmcourse.finetuning.follow import Follow, Watch, lost_processes, one_interrupt, watched
from llmcourse.finetuning.settings import Config, suggest
from llmcourse.finetuning.tuned import TunedModel, is_saved, load, write
from llmcourse.generation import check_loaded
from llmcourse.models import LoadedModel, fingerprint
from llmcourse.progress import bar
from llmcourse.sizing import Hardware, Size

if TYPE_CHECKING:
    from datasets import Dataset

CPU_SPEED = 180e9  # FLOP/s in bfloat16 on two cores: both models in benchmarks/README.md
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
    writes and shows. `out` is then a folder that all of them can read. Under FSDP each process
    trains a part of every weight: there the model that `seen` gets, or a TrainingStopped has after
    a loss that is not finite, is in parts.

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
        TrainingStopped: by Ctrl-C, or because the loss became NaN or infinite.
        NotFinite: the base model's logits are, from the start.
        NoSpace: the disk is full; the last complete checkpoint is still there.
        CourseError: memory ran out even with one record at a time.
    """
    config = Config() if config is None else config
    if not isinstance(config, Config):
        raise SettingError(
            f"config is of type {type(config).__name__}; write finetuning.Config(epochs=2), say."
        )
    check_loaded(model)
    processes.join(model.device, config.dropout)
    shown = progress and processes.first()
    watch_settings = watched(watch, every, watch_tokens)
    save_every = whole("save_every", every if save_every is None else save_every, 1)
    if config.patience is not None and held_out is None:
        raise SettingError("patience= needs held_out= records, whose loss tells when to stop.")
    encoded = _encoded(model, records, config)
    config, reason = suggest(
        config, len(encoded), encoded.trained_tokens, adapters.weight_size(model)
    )
    if reason and shown:
        print(f"{reason} {_estimate(model, encoded, config)}")
    watching = Watch(
        **watch_settings,
        patience=config.patience,
        seen=seen if processes.first() else None,
        held_out=None if held_out is None else _encoded(model, held_out, config, "held-out "),
        tensorboard=(
            Path(tensorboard).expanduser()
            if tensorboard is not None and processes.first()
            else None
        ),
    )
    if out is None:
        return _trained(model, encoded, config, watching, None, save_every, shown)
    folder = _folder(out)
    facts = described(model, encoded, config)
    if config.patience is not None:  # then they decide where it ends
        facts |= {"held_out": _digest(_rows(watching.held_out)), "every": watching.every}
    with _opened(folder, facts, fresh) as run:
        if processes.of_first(lambda: is_saved(folder)):
            if shown:
                print(f"{files.shown(folder)} holds this training, finished; it is loaded.")
                if held_out is not None or watching.prompts:
                    print("Its losses and samples are those of then; fresh=True begins anew.")
            return load(folder, model, encoded)
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
    write(tuned, run.folder)
    run.finish()


def _estimate(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> str:
    """How long it will take: on a GPU by its matrix products now, on a CPU by the benchmarks."""
    passes = config.epochs or config.steps * config.batch_size / len(encoded)
    speed = CPU_SPEED if model.dtype == torch.bfloat16 else CPU_SPEED / 2
    here = Hardware("two cores (as published)", speed, 0, utilisation=1.0)
    if model.device.type != "cpu":
        here = Hardware.measured(0.3)
    seconds = Size.of(model.model.config).seconds(
        passes * encoded.tokens,
        here,
        config.method,
        rank=config.rank or 1,
        length=max(1, encoded.tokens // len(encoded)),
        labelled_share=encoded.trained_tokens / encoded.tokens,
    )
    return f"That takes about {seconds / 60:.1f} minutes at the speed of {here.name}."


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
        records,
        model.tokenizer,
        config.template,
        max_length=config.max_length,
        mask_prompt=config.mask_prompt,
        add_end=config.add_end,
    )
    if not len(encoded):
        raise DataError(
            f"No {kind}record is short enough to train on: all have over {config.max_length} "
            f"tokens. Raise max_length."
        )
    if not encoded.trained_tokens:
        raise DataError(
            "No token of these records has a label, so there is nothing to train on. Are the "
            "answers empty, or is max_length too small for them?"
        )
    return encoded


def described(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> dict[str, Any]:
    """What is trained on what: two trainings of the same description give the same result."""
    settings = dataclasses.asdict(config)
    return {
        "base": model.name,
        "base_weights": _digest(fingerprint(model.model)),
        "number_type": str(model.dtype).removeprefix("torch."),
        "records": f"{len(encoded)}, with the digest {_digest(_rows(encoded))}",
        **{name: value for name, value in settings.items() if name not in _RESULT_FREE},
    }


def _rows(encoded: encoding.Encoded) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in encoded.dataset]


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _trained(
    model: LoadedModel,
    encoded: encoding.Encoded,
    config: Config,
    watch: Watch,
    run: Run | None,
    save_every: int,
    shown: bool,
) -> TunedModel:
    """Train from the start, or from the newest checkpoint of `run`."""
    from transformers import set_seed

    from llmcourse.finetuning import engine

    chance = checkpoints.chance_state()
    try:
        set_seed(config.seed)
        tuned = _fresh(model, encoded, config)
        layout = plan.plan(encoded, config)
        total = len(layout.updates)
        start, skipped = processes.of_first(run.newest) if run else (None, [])
        with bar(total, f"{model.title} trains on {len(encoded)} records", enabled=shown) as line:
            fitted = memory.fit(tuned, layout, config)
            follow = Follow(tuned, watch, line, total, run, save_every, start)
            for note in fitted.notes:
                follow.note(note)
            for name in skipped:
                follow.note(f"Skipped, as it is not complete: {name}.")
            if start:
                follow.note(
                    f"Goes on after update {start.step}, where the last complete checkpoint is."
                )
            if encoded.left_out or encoded.cut:
                line.write(encoded.as_text())
            if watch.held_out is not None and watch.held_out.left_out:
                line.write(
                    f"{len(watch.held_out.left_out)} held-out records have over "
                    f"{config.max_length} tokens: their loss is not measured."
                )
            with lost_processes(follow):
                follow.begin()
                if start and (start.step == total or follow.over):
                    put_weights(tuned.model, start.weights)
                else:
                    with one_interrupt(follow):
                        engine.run(follow, layout, config, fitted, _mixed(model, config))
                    if processes.sharded():  # a model that answers on its own again
                        weights = engine.whole_weights(tuned.model)
                        tuned.model = _fresh(model, encoded, config).model
                        put_weights(tuned.model, weights)
            follow.end()
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
        weights,
        model.tokenizer,
        model.name,
        config.template,
        trained=trained,
        encoded=encoded,
        config=config,
        base_weights=fingerprint(model.model),
    )


def _mixed(model: LoadedModel, config: Config) -> str:
    """What products are made in, where that is not the weights' own type."""
    if model.dtype == torch.float16:
        return "fp16"
    return "bf16" if config.method == "full" and model.dtype == torch.bfloat16 else ""
