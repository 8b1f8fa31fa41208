"""Where a run keeps what it has learned, so that a killed training goes on as if nothing had been.

A run's folder holds `run.json` (what is trained on what: the run's fingerprint), `checkpoints/`,
and, once training is done, the model. A checkpoint is complete or not there: its files are written
into a folder of another name, flushed to the disk, and the folder is renamed. It holds the trained
weights and the optimiser's state as safetensors, and the rest as JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from filelock import FileLock, Timeout

from llmcourse import files
from llmcourse.errors import DataError, SettingError, first_line, is_disk_full
from llmcourse.finetuning import processes

RUN, LOCK, CHECKPOINTS = "run.json", ".lock", "checkpoints"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
KEPT = 2  # complete checkpoints; the older one is the way back where the newest is damaged


@dataclass
class Checkpoint:
    """A training, stopped after an update.

    Attributes:
        step: Updates done.
        weights: The trained weights by name.
        optimizer: The optimiser's state: tensors by "<number of the weight>.<name>".
        state: History, samples and the like; anything that JSON can hold.
        chance: The random generators' states, tensors by name.
    """

    step: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] = field(repr=False, default_factory=dict)
    state: dict[str, Any] = field(repr=False, default_factory=dict)
    chance: dict[str, torch.Tensor] = field(repr=False, default_factory=dict)


class Run:
    """A folder that one training at a time writes into; made by `opened`."""

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self.folder, self.fingerprint = folder, dict(fingerprint)

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / CHECKPOINTS

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint; the newest before it stays until this one is complete.

        Raises:
            NoSpace: the disk is full; the last complete checkpoint is still there.
            OSError: the folder can't be written to.
        """
        target = self.checkpoints / f"step-{checkpoint.step:08d}"
        draft = self.checkpoints / f".{target.name}.part"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            _write_tensors(draft / WEIGHTS, checkpoint.weights)
            _write_tensors(
                draft / OPTIMIZER,
                {
                    **checkpoint.optimizer,
                    **{f"chance.{name}": value for name, value in checkpoint.chance.items()},
                },
            )
            state = {"step": checkpoint.step, **checkpoint.state}
            _write(draft / STATE, json.dumps(state, ensure_ascii=False).encode())
            _flush(draft)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
            _flush(self.checkpoints)
        except Exception as error:
            shutil.rmtree(draft, ignore_errors=True)
            if is_disk_full(error):
                hint = (
                    ", then run the same again: it goes on from the last complete checkpoint"
                    if self.newest_step() is not None
                    else ""
                )
                raise files.no_space(self.folder, hint=hint) from error
            raise
        for old in self._steps()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def _steps(self) -> list[Path]:
        """Folders of complete checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*")) if self.checkpoints.is_dir() else []

    def newest_step(self) -> int | None:
        """The updates done in the newest checkpoint."""
        steps = self._steps()
        return int(steps[-1].name.removeprefix("step-")) if steps else None

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that can be read, and what was skipped on the way to it."""
        skipped = []
        if self.checkpoints.is_dir():
            for draft in sorted(self.checkpoints.glob(".step-*.part")):
                skipped.append(f"{draft.name} (its writing was cut short)")
                shutil.rmtree(draft, ignore_errors=True)
        for folder in reversed(self._steps()):
            try:
                return read(folder), skipped
            except Exception as error:  # a damaged file fails in as many ways as there are bytes
                skipped.append(f"{folder.name} ({first_line(error)})")
        return None, skipped

    def finish(self) -> None:
        """Remove the checkpoints: the model is in the folder."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`.

    Raises:
        Exception: of whatever kind, where a file is missing or damaged.
    """
    from safetensors.torch import load_file

    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    weights, rest = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
    chance = {
        name.removeprefix("chance."): rest.pop(name)
        for name in list(rest)
        if name.startswith("chance.")
    }
    return Checkpoint(int(state.pop("step")), weights, rest, state, chance)


@contextmanager
def opened(folder: Path, fingerprint: Mapping[str, Any], fresh: bool = False) -> Iterator[Run]:
    """Hold `folder` for one training.

    Args:
        folder: New, empty, or that of a run with the same fingerprint.
        fingerprint: What is trained on what; anything that JSON can hold.
        fresh: Begin anew: what an earlier run left in the folder is removed.

    Raises:
        SettingError: another run is writing there, it holds something else, or a run of other
            settings or records.
        NoSpace: the disk is full.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{files.shown(folder)} is a file. Name a folder, new or empty.")
    known = _described(folder)
    if folder.is_dir() and known is None and any(p.name != LOCK for p in folder.iterdir()):
        raise SettingError(
            f"{files.shown(folder)} holds something else already, and nothing of it is "
            f"overwritten. Name another folder, new or empty."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingError(
            f"Another training is writing into {files.shown(folder)}. Wait for it, stop it, or "
            f"name another folder."
        ) from None
    except OSError as error:
        if is_disk_full(error):
            raise files.no_space(folder) from error
        raise SettingError(
            f"{files.shown(folder)} can't be written to: {first_line(error)}."
        ) from error
    try:
        if known is not None and fresh:
            _empty(folder)
        elif known is not None and (other := _differences(known, fingerprint)):
            raise SettingError(
                f"{files.shown(folder)} holds a training with other settings: {other}. Name "
                f"another folder, or begin anew there with fresh=True (--fresh), which removes it."
            )
        files.write_json(folder / RUN, dict(fingerprint))
        yield Run(folder, fingerprint)
    finally:
        lock.release()


def _described(folder: Path) -> dict[str, Any] | None:
    """The fingerprint of the run in `folder`; None where there is none."""
    try:
        known = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingError(
            f"{files.shown(folder / RUN)} can't be read ({first_line(error)}), so it is not clear "
            f"what is in that folder. Name another one."
        ) from error
    return known if isinstance(known, dict) else None


def _differences(known: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """How two fingerprints differ, for people; "" where they do not."""
    asked = json.loads(json.dumps(asked))
    # (a setting that was off and is gone makes no difference: `packing`, up to version 0.1)
    names = [
        name for name in {**known, **asked} if known.get(name, False) != asked.get(name, False)
    ]
    told = [f"{name} {known.get(name)!r} there, {asked.get(name)!r} now" for name in names[:3]]
    return "; ".join(told) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def _empty(folder: Path) -> None:
    """Remove what a run left in `folder`, but the lock."""
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    _write(path, save(whole))


def _write(path: Path, content: bytes) -> None:
    """Write and flush, so that a rename that follows never comes before the content."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Have the disk know the names in `folder`, where the system can do that."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def trained_weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name."""
    return {
        name.replace("_checkpoint_wrapped_module.", ""): weight  # FSDP's own checkpointing
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@torch.no_grad()
def put_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give `model` the trained weights in `weights`; others stay as they are."""
    trained = trained_weights(model)
    for name, value in weights.items():
        trained[name].copy_(processes.parted(value, trained[name]))


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's state as tensors: "<number of the weight>.<name>", numbers in float64."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": processes.full(value)
        if isinstance(value, torch.Tensor)
        else torch.tensor(value, dtype=torch.float64)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give an optimiser the state that `optimizer_state` took.

    Raises:
        DataError: it belongs to other weights.
    """
    described = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        plain = value.dtype == torch.float64
        if int(number) >= len(weights):
            raise DataError("The optimiser's state in the checkpoint belongs to another model.")
        here = value.item() if plain else processes.parted(value, weights[int(number)])
        state.setdefault(int(number), {})[name] = here
    optimizer.load_state_dict({**described, "state": state})


def chance_state() -> dict[str, torch.Tensor]:
    """The states of all random generators that training may use."""
    kind, numbers, gauss = random.getstate()
    _, keys, place, has, cached = numpy.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([kind, *numbers], dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), place, has], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_chance(state: Mapping[str, torch.Tensor]) -> None:
    """Give the random generators the states that `chance_state` took."""
    torch.set_rng_state(state["torch"])
    kind, *numbers = state["python"].tolist()
    random.setstate((kind, tuple(numbers), next(iter(state["python_gauss"].tolist()), None)))
    *keys, place, has = state["numpy"].tolist()
    cached = state["numpy_gauss"].item()
    numpy.random.set_state(("MT19937", numpy.array(keys, dtype=numpy.uint32), place, has, cached))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
