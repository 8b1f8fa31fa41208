"""Where a training keeps what it has learned, so that it goes on after a kill as if it never was.

Its folder holds `run.json` (what is trained on what), `checkpoints/`, and, once training is done,
the model. Trainer's own checkpoints are not used. It writes them in place, so a killed process
leaves half of one, and takes the newest folder without asking whether it is complete. Optimizer,
schedule and random states are pickled, and under FSDP torch unpickles the index (`.metadata`)
without `weights_only`. Here a checkpoint is complete or not there: its files are written into a
folder of another name, flushed to the disk, and the folder is renamed. Tensors are safetensors,
the rest is JSON.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from llmcourse import files
from llmcourse.errors import SettingError, first_line
from llmcourse.finetuning import processes

RUN, LOCK, CHECKPOINTS = "run.json", ".lock", "checkpoints"
PUBLISHED = "published"  # an empty file: `catch-up` put a finished training there
ELSEWHERE = ("seed", "number_type", "base_weights")  # what another machine may differ in
TENSORS, STATE = "tensors.safetensors", "state.json"
KEPT = 2  # complete checkpoints; the older one is the way back where the newest is damaged


@dataclass
class Checkpoint:
    """A training after an update.

    Attributes:
        step: Updates done.
        tensors: By "<kind>/<name>"; see `of_kind`.
        state: History, samples and the like; anything that JSON can hold.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]

    def of_kind(self, kind: str) -> dict[str, torch.Tensor]:
        """The tensors of one kind ("weights", "best" or "optimizer"), by their own names."""
        start = f"{kind}/"
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}


class Run:
    """A folder that one training at a time writes into; made by `opened`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.checkpoints = folder, folder / CHECKPOINTS

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; the newest before it stays until this one is complete.

        Raises:
            NoSpace: the disk is full; the last complete checkpoint is still there.
            OSError: the folder can't be written to.
        """
        # A tensor may be a view of a larger one, or on a GPU: safetensors takes neither.
        tensors = {n: t.detach().cpu().contiguous() for n, t in checkpoint.tensors.items()}
        with files.new_folder(self.checkpoints / f"step-{checkpoint.step:08d}") as draft:
            save_file(tensors, draft / TENSORS)
            state = json.dumps(checkpoint.state, ensure_ascii=False)
            (draft / STATE).write_text(state, encoding="utf-8")
            files.flush(draft / TENSORS, draft / STATE)
        for old in self._complete()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _complete(self) -> list[Path]:
        """Folders of complete checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*"))

    def newest_step(self) -> int | None:
        """The updates done in the newest checkpoint."""
        return max(map(_step, self._complete()), default=None)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that can be read, and the damaged ones that were skipped."""
        for draft in self.checkpoints.glob(".step-*"):  # of a killed process
            shutil.rmtree(draft, ignore_errors=True)
        skipped: list[str] = []
        for folder in reversed(self._complete()):
            try:
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                tensors = load_file(folder / TENSORS)
                # copies: Windows removes no file that is still mapped into memory
                tensors = {name: tensor.clone() for name, tensor in tensors.items()}
                return Checkpoint(_step(folder), tensors, state), skipped
            except Exception as error:  # a damaged file fails in as many ways as there are bytes
                skipped.append(f"{folder.name} ({first_line(error)})")
        return None, skipped

    def finish(self) -> None:
        """Remove the checkpoints: the model is in the folder."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


@contextmanager
def opened(folder: Path, description: Mapping[str, Any], fresh: bool = False) -> Iterator[Run]:
    """Hold `folder` for one training.

    Args:
        folder: New, empty, or that of a training with the same description.
        description: What is trained on what; anything that JSON can hold.
        fresh: Retrain: what an earlier training left in the folder is removed.

    Raises:
        SettingError: another training is writing there, it holds something else, or a training of
            other settings or records.
        NoSpace: the disk is full.
    """
    where = files.shown(folder)
    used = folder.exists() and (
        not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())
    )
    if used and not (folder / RUN).is_file():
        raise SettingError(
            f"{where} is a file, or holds something else already, and nothing of it is "
            f"overwritten. Name another folder, new or empty."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)  # which the system gives back when a process is killed
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingError(
            f"Another training is writing into {where}. Wait for it, stop it, or name another "
            f"folder."
        ) from None
    except OSError as error:
        raise SettingError(f"{where} can't be written to: {first_line(error)}.") from error
    try:
        if used and fresh:
            # (what says that it is complete goes first, and RUN, by which it is known, is replaced)
            for path in sorted(folder.iterdir(), key=lambda path: path.name != "tuned.json"):
                if path.name not in (LOCK, RUN):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif used and (other := _differences(folder / RUN, description)):
            raise SettingError(
                f"{where} holds a training with other settings: {other}. Name another folder, or "
                f"retrain there with fresh=True (--fresh), which removes it."
            )
        files.write_json(folder / RUN, dict(description))  # from here on the folder is ours
        yield Run(folder)
    finally:
        lock.release()


def is_published(folder: Path, description: Mapping[str, Any]) -> bool:
    """Whether `folder` holds this training as another machine did it, put there by `catch-up`."""
    return (folder / PUBLISHED).is_file() and not _differences(
        folder / RUN, description, ignored=ELSEWHERE
    )


def _differences(path: Path, now: Mapping[str, Any], ignored: Sequence[str] = ()) -> str:
    """How a description differs from the one in a file, for people; "" where it does not."""
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        return f"{path.name} can't be read ({first_line(error)})"
    now = json.loads(json.dumps(now))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    names = [name for name in names if name not in ignored]
    shown = [f"{name} {before.get(name)!r} there, {now.get(name)!r} now" for name in names[:3]]
    return "; ".join(shown) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


# --- what goes into a checkpoint ------------------------------------------------------------------


def trained_weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name."""
    return {
        name.replace("_checkpoint_wrapped_module.", ""): weight  # FSDP's own checkpointing
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def complete_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights, all of them on each process; under FSDP all processes call it."""
    weights = trained_weights(model).items()
    return {name: processes.full(weight.detach()) for name, weight in weights}


@torch.no_grad()
def put_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give `model` the trained weights in `weights`; others stay as they are."""
    trained = trained_weights(model)
    for name, value in weights.items():
        trained[name].copy_(processes.sharded_like(value, trained[name]))


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's state as tensors: "<number of the weight>.<name>", numbers in float64."""
    return {
        f"{number}.{name}": processes.full(value)
        if isinstance(value, torch.Tensor)
        else torch.tensor(value, dtype=torch.float64)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Give an optimizer the state that `optimizer_state` took."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        is_number = value.dtype == torch.float64
        here = value.item() if is_number else processes.sharded_like(value, weights[int(number)])
        state.setdefault(int(number), {})[name] = here
    # rates and the like are those of a fresh optimizer: they follow from the settings
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def rng_state() -> dict[str, Any]:
    """The states of all random generators that training may use, as JSON can hold them."""
    numpys: Any = numpy.random.get_state()  # a tuple; its type says it could be a dict
    name, keys, *rest = numpys
    return {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state().tolist() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state().tolist() if torch.backends.mps.is_available() else None,
    }


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Give the random generators the states that `rng_state` took."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    numpy.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))
    if state.get("mps") and torch.backends.mps.is_available():
        torch.mps.set_rng_state(torch.tensor(state["mps"], dtype=torch.uint8))
