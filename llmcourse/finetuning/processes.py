"""Several processes that train one model together, each started by `accelerate launch`.

Each computes its share of every update, and holds the whole model or, under FSDP, a part of each
weight. The first one alone writes, shows and asks; what it finds out on the way it tells the
others. A process that was started alone notices nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import distributed

from llmcourse.errors import CourseError, SettingError, first_line

T = TypeVar("T")


class ProcessLost(CourseError):
    """Another process of the training is gone."""


def sharded() -> bool:
    """Whether the processes were launched to share the model's weights among them (FSDP)."""
    return _set("ACCELERATE_USE_FSDP")


def join(device: torch.device, dropout: float = 0.0) -> None:
    """Meet the other processes, where this one was started as one of several.

    Raises:
        SettingError: FSDP was asked for in a form that does not work here.
    """
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    if sharded():
        if not several:
            raise SettingError("FSDP needs several processes: set num_processes to 2 or more.")
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise SettingError("finetune runs under FSDP2 only: set fsdp_version to 2.")
        if dropout and _set("FSDP_ACTIVATION_CHECKPOINTING"):
            # its wrapper (accelerate 1.15) does not keep the random state of the first time
            raise SettingError(
                "Under FSDP, dropout needs fsdp_activation_checkpointing set to false: layers that "
                "are computed again would leave out other inputs."
            )
        if _set("FSDP_CPU_RAM_EFFICIENT_LOADING"):
            raise SettingError(
                "finetune loads the model in every process: set fsdp_cpu_ram_efficient_loading to "
                "false (see docs/scaling.md)."
            )
    if several and not distributed.is_initialized():  # gloo for what is no tensor on a GPU
        on_gpu = device.type == "cuda" or (sharded() and torch.cuda.is_available())
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")


def _set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1")


def full(value: Any) -> Any:
    """A tensor of which each process holds a part, whole on all; any other value as it is.

    All processes call it.
    """
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def parted(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of `value` where `like` is in parts; `value` as it is elsewhere."""
    if not hasattr(like, "full_tensor") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _several() else 1


def number() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if _several() else 0


def first() -> bool:
    """Whether this is the process that writes, shows and asks."""
    return number() == 0


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def of_first(work: Callable[[], T]) -> T:
    """What `work` returns on the first process, on all of them; the others do not call it.

    Raises:
        ProcessLost: another process is gone.
        Exception: what `work` raised on the first process; on the others the same where it is
            one of our own, else a `CourseError` that says so.
    """
    if count() == 1:
        return work()
    found: list[Any] = [None, None]
    failed: Exception | None = None
    if first():
        try:
            found[0] = work()
        except Exception as error:
            failed = error
            ours = type(error) if isinstance(error, CourseError) else CourseError
            found[1] = ours, str(error) if ours is type(error) else first_line(error)
    _together(lambda: distributed.broadcast_object_list(found, src=0))
    if failed is not None:
        raise failed
    if found[1] is not None:
        kind, message = found[1]
        raise kind(message)
    return found[0]


def any_of(here: bool) -> bool:
    """Whether `here` is true on any of the processes.

    Raises:
        ProcessLost: another process is gone.
    """
    return any(of_each(here))


def of_each(here: T) -> list[T]:
    """What each of the processes has, in their order.

    Raises:
        ProcessLost: another process is gone.
    """
    if count() == 1:
        return [here]
    found: list[Any] = [None] * count()
    _together(lambda: distributed.all_gather_object(found, here))
    return found


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        if lost_process(error):
            raise ProcessLost("Another process of this training is gone.") from error
        raise


def lost_process(error: Exception) -> bool:
    """True where `error` says that another process of a distributed run is gone."""
    words = ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe")
    return _several() and any(word in first_line(error).lower() for word in words)
