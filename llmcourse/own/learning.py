"""Training on the pairs, with settings that follow from how many there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import files
from llmcourse.own.sizes import Sizes, settings, sizes

if TYPE_CHECKING:
    from llmcourse.finetuning import Config, TunedModel
    from llmcourse.models import LoadedModel


def train(
    model: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    config: Config | None = None,
    size: Sizes | None = None,
    *,
    held_out: Sequence[Mapping[str, Any]] | None = None,
    epochs: float | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> TunedModel:
    """Train an adapter on the pairs.

    Args:
        model: From `models.load`; it stays as it is.
        records: To train on.
        config: How to train; `settings` chooses it from the number of pairs if not given.
        size: Of the tier in force if not given.
        held_out: Pairs that are not trained on, whose loss is measured four times on the way. Not
            the test pairs: whoever changes the epochs by this loss has learned from them.
        epochs: How often every pair is seen, instead of what `settings` chooses.
        out: A folder for the tuned model. The same call goes on where it was stopped.
        fresh: True begins anew where `out` holds another training, and removes that.
        progress: False shows nothing.

    Raises:
        DataError: there are no pairs, or all are too long.
        SettingError, TrainingStopped, NoSpace: see `finetuning.finetune`.
    """
    from llmcourse.finetuning import finetune

    config = config or settings(records, model, size or sizes())
    if epochs is not None:
        config = dataclasses.replace(config, epochs=epochs)
    updates = config.steps or max(1, round(config.epochs * -(-len(records) // config.batch_size)))
    return finetune(
        model, plain(records), config, held_out=None if not held_out else plain(held_out),
        every=-(-updates // 4), out=out, fresh=fresh, progress=progress,
    )  # fmt: skip


def plain(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The fields that a template reads, so that notes in other columns change nothing."""
    names = ("question", "input", "answer")
    return [{name: record.get(name) or "" for name in names} for record in records]


def described(tuned: TunedModel) -> dict[str, Any]:
    """What a training was, in plain numbers and texts: for the report."""
    config = tuned.config
    return {
        "base": tuned.name, "weights": tuned.parameters, "trained": tuned.trained,
        "settings": {name: value for name, value in dataclasses.asdict(config).items()
                     if value is not None},
        "history": tuned.history, "held_out": tuned.held_out, "seconds": tuned.seconds,
        "tokens_per_second": tuned.tokens_per_second, "notes": tuned.notes,
        "number_type": str(tuned.dtype).removeprefix("torch."),
    }  # fmt: skip


def add_results(tuned: TunedModel, results: Mapping[str, Any]) -> None:
    """Put measured numbers into the saved model's card and `tuned.json`."""
    from llmcourse.finetuning import saving
    from llmcourse.models import FACTS

    if tuned.folder is None:
        return
    files.write_text(tuned.folder / "README.md", saving.card(tuned, results))
    files.write_json(tuned.folder / FACTS, saving.facts(tuned, results))
