"""The one call that fine-tunes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmcourse import claims, encoding, files
from llmcourse.errors import CourseError, DataError, SettingError, whole
from llmcourse.finetuning import adapters, checkpoints, memory, processes
from llmcourse.finetuning.callbacks import Follow, Watch, ending_between_updates
from llmcourse.finetuning.checkpoints import (
    Run,
    complete_weights,
    put_weights,
    restore_rng_state,
    rng_state,
    trained_weights,
)
from llmcourse.finetuning.plan import plan
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
RESULT_FREE = ("micro_batch", "memory_gb", "checkpointing")


def finetune(
    model: LoadedModel,
    records: Dataset | Sequence[Any],
    config: Config | None = None,
    *,
    held_out: Dataset | Sequence[Any] | None = None,
    sample_prompts: Sequence[str] | str = (),
    sample_tokens: int = 40,
    eval_steps: int = 10,
    out: Path | str | None = None,
    save_steps: int | None = None,
    fresh: bool = False,
    callback: Callable[[TunedModel, int, int], bool] | None = None,
    progress: bool = True,
) -> TunedModel:
    """Train an adapter, or every weight, on records; `model` itself stays as it is.

    With `out`, the training is safe: it is saved on the way, Ctrl-C (Interrupt in a notebook)
    saves and stops, and the same call goes on where a stopped or killed one was, with the same
    result. A finished training is not repeated but loaded. One that `catch-up` brought is loaded
    even with fresh=True.

    In a script under `accelerate launch` all processes call it, each with the complete model; every
    update's records are shared out among them, and all return the tuned model. The first alone
    writes and shows. `out` is then a folder that all of them can read. Under FSDP each process
    trains a part of every weight: there the model that `callback` gets, or a TrainingStopped has
    after a loss that is not finite, is in parts.

    Args:
        model: From `models.load`.
        records: With the fields in `templates.FIELDS`.
        config: How to train; `suggest` chooses what it leaves open.
        held_out: Records that are not trained on, whose loss is measured during training.
        sample_prompts: Prompts that are answered at each evaluation, to show the model learning.
        sample_tokens: Longest answer to a sample prompt.
        eval_steps: Updates between two evaluations.
        out: A folder for the tuned model, new, empty or that of this training.
        save_steps: Updates between two checkpoints in `out`; `eval_steps` if not given.
        fresh: True retrains where `out` holds a training already, and removes that.
        callback: Called before the first update and after each with the model as it is, the
            updates done and all updates. Where it returns True, training saves and stops as by
            Ctrl-C; this works in a thread too, which Ctrl-C does not reach.
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
    prompts = (sample_prompts,) if isinstance(sample_prompts, str) else tuple(sample_prompts)
    # prompts and their tokens are checked by `generate`, before the first update
    eval_steps = whole("eval_steps", eval_steps, 1)
    save_steps = whole("save_steps", eval_steps if save_steps is None else save_steps, 1)
    if config.patience is not None and held_out is None:
        raise SettingError("patience= needs held_out= records, whose loss says when to stop.")
    processes.join(model.device, config.dropout)
    first = processes.first()
    shown = progress and first
    encoded = _encoded(model, records, config)
    config, reason = suggest(
        config, len(encoded), encoded.trained_tokens, adapters.weight_size(model)
    )
    if reason and shown:
        print(f"{reason} {_estimate(model, encoded, config)}")
    watch = Watch(
        prompts,
        sample_tokens,
        eval_steps,
        save_steps,
        None if held_out is None else _encoded(model, held_out, config, "held-out "),
        config.patience,
        callback if first else None,
    )
    if out is None:
        return _trained(model, encoded, config, watch, None, shown)
    folder = Path(out).expanduser()
    description = described(model, encoded, config)
    if watch.held_out is not None and config.patience is not None:  # they decide where it ends
        description |= {"held_out": _digest_of(watch.held_out), "every": eval_steps}
    if processes.of_first(lambda: checkpoints.is_published(folder, description)):
        if shown:
            print(
                f"{files.shown(folder)} holds the published run's training (by catch-up); it is "
                f"loaded. Remove that folder to train here."
            )
        claims.borrowed = "adapter"
        return load(folder, model, encoded)
    with ExitStack() as held:
        # of several processes, the first holds the folder for all
        opened = checkpoints.opened(folder, description, fresh)
        run = processes.of_first(lambda: held.enter_context(opened))
        if processes.of_first(lambda: is_saved(folder)):
            if shown:
                print(f"{files.shown(folder)} holds this training, finished; it is loaded.")
                if watch.held_out is not None or prompts:
                    print("Showing the saved losses and samples; pass fresh=True to retrain.")
            return load(folder, model, encoded)
        tuned = _trained(model, encoded, config, watch, run, shown)
        processes.of_first(lambda: write(tuned, folder))
        # last: a training that is killed before goes on from its last checkpoint, and writes again
        processes.of_first(run.finish)
        tuned.folder = folder
    return tuned


def _estimate(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> str:
    """How long it will take: on a GPU by its matrix products now, on a CPU by the benchmarks.

    "" for a model whose kind of layers `sizing` has no sums for.
    """
    passes = config.epochs or (config.steps or 1) * config.batch_size / len(encoded)
    # float32 products take about twice as long; on a GPU a small model reaches a third of the peak
    speed = CPU_SPEED if model.dtype == torch.bfloat16 else CPU_SPEED / 2
    here = Hardware("two cores (as published)", speed, 0, utilisation=1.0)
    if model.device.type != "cpu":
        here = Hardware.measured(0.3)
    try:
        size = Size.of(model.model.config)
    except CourseError:  # it trains all the same
        return ""
    seconds = size.seconds(
        passes * encoded.tokens,
        here,
        config.method,
        rank=config.rank or 1,
        length=max(1, encoded.tokens // len(encoded)),
        labelled_share=encoded.trained_tokens / encoded.tokens,
    )
    return f"That takes about {seconds / 60:.1f} minutes at the speed of {here.name}."


def _encoded(model: LoadedModel, records: Any, config: Config, kind: str = "") -> encoding.Encoded:
    """The records as tokens.

    Raises:
        DataError: none is short enough, or none has a label.
    """
    encoded = encoding.encode(
        records,
        model.tokenizer,
        config.template,
        max_length=config.max_length,
        mask_prompt=config.mask_prompt,
        add_end=config.add_end,
    )
    if not encoded.trained_tokens:
        raise DataError(
            f"No {kind}record is short enough and has an answer, so there is nothing to train on: "
            f"{len(encoded.left_out)} have over {config.max_length} tokens (max_length)."
        )
    return encoded


def described(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> dict[str, Any]:
    """What is trained on what: two trainings of the same description give the same result."""
    settings = dataclasses.asdict(config)
    return {
        "base": model.name,
        "base_weights": _digest(fingerprint(model.model)),
        "number_type": str(model.dtype).removeprefix("torch."),
        "records": f"{len(encoded)}, with the digest {_digest_of(encoded)}",
        **{name: value for name, value in settings.items() if name not in RESULT_FREE},
    }


def _digest_of(encoded: encoding.Encoded) -> str:
    return _digest([(row["input_ids"], row["labels"]) for row in encoded.dataset])


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _trained(
    model: LoadedModel,
    encoded: encoding.Encoded,
    config: Config,
    watch: Watch,
    run: Run | None,
    shown: bool,
) -> TunedModel:
    """Train from the start, or from the newest checkpoint of `run`."""
    from transformers import set_seed

    from llmcourse.finetuning import engine

    before = rng_state()  # training draws from torch's global generators: the caller's stay
    try:
        set_seed(config.seed)  # of the adapter's random start; Trainer seeds the rest
        tuned = _untrained(model, encoded, config)
        layout = plan(encoded, config)
        total = len(layout.updates)
        start, skipped = processes.of_first(run.newest) if run else (None, [])
        with bar(total, f"{model.title} trains on {len(encoded)} records", enabled=shown) as line:
            micro_batch, checkpointing, fitted = memory.fit(tuned, layout, config)
            follow = Follow(tuned, watch, line, total, run, start)
            notes = [fitted, *(f"Skipped, as it is not complete: {name}." for name in skipped)]
            if start:
                notes.append(
                    f"Goes on after update {start.step}, where the last complete checkpoint is."
                )
            for note in filter(None, notes):
                follow.note(note)
            if encoded.left_out or encoded.cut:
                line.write(encoded.as_text())
            if watch.held_out is not None and watch.held_out.left_out:
                line.write(
                    f"{len(watch.held_out.left_out)} held-out records have over "
                    f"{config.max_length} tokens: their loss is not measured."
                )
            with ending_between_updates(follow):
                if not start:
                    follow.evaluate()
                follow.call_back()
                if start and (start.step == total or follow.stops_early):  # killed while it saved
                    put_weights(tuned.model, start.of_kind("weights"))
                else:
                    mixed = _mixed_precision(model, config)
                    engine.run(follow, layout, config, micro_batch, checkpointing, mixed)
                    if processes.sharded():  # a model that answers by itself again
                        weights = complete_weights(tuned.model)
                        tuned.model = _untrained(model, encoded, config).model
                        put_weights(tuned.model, weights)
            follow.end()
    finally:
        restore_rng_state(before)
    if config.method == "full":  # it was trained in float32
        tuned.model.to(model.dtype)
        memory.give_back()
    tuned.model.eval()
    return tuned


def _untrained(model: LoadedModel, encoded: encoding.Encoded, config: Config) -> TunedModel:
    """The model before its first update, with the weights to be trained marked."""
    if config.method == "lora":
        weights = adapters.with_adapter(model, config)
    else:
        weights = adapters.all_weights(model)
    return TunedModel(
        weights,
        model.tokenizer,
        model.name,
        config.template,
        trained=sum(weight.numel() for weight in trained_weights(weights).values()),
        encoded=encoded,
        config=config,
        base_weights=fingerprint(model.model),
    )


def _mixed_precision(model: LoadedModel, config: Config) -> str:
    """What products are made in, where that is not the weights' own type (for `engine.run`)."""
    # float16 has few exponents: gradients need Trainer's scaler, for an adapter as well. (Without
    # bfloat16 are GPUs such as Colab's T4.)
    if model.dtype == torch.float16:
        return "fp16"
    return "bf16" if config.method == "full" and model.dtype == torch.bfloat16 else ""
