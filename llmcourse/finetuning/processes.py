"""Several processes that train one model together, each started by `accelerate launch`.

Each computes its share of every update, and holds the complete model or, under FSDP, a part of
each weight. The first one alone writes, shows and generates; what it finds out it sends to the
others. In a process that was started alone all of this does nothing.
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
    return _is_set("ACCELERATE_USE_FSDP")


def join(device: torch.device, dropout: float = 0.0) -> None:
    """Connect to the other processes, where this one was started as one of several.

    Raises:
        SettingError: FSDP is configured in a way that does not work here.
    """
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    refused = {
        "FSDP needs several processes: set num_processes to 2 or more.": not several,
        "finetune runs under FSDP2 only: set fsdp_version to 2.": (
            os.environ.get("FSDP_VERSION", "1") != "2"
        ),
        # the wrapper of accelerate 1.15 does not keep the random state of the first pass
        "Under FSDP, dropout needs fsdp_activation_checkpointing set to false: layers that are "
        "computed again would drop other inputs.": (
            dropout > 0 and _is_set("FSDP_ACTIVATION_CHECKPOINTING")
        ),
        # it leaves the processes but the first with empty weights, and all return the model
        "finetune loads the model in every process: set fsdp_cpu_ram_efficient_loading to false "
        "(see docs/scaling.md).": _is_set("FSDP_CPU_RAM_EFFICIENT_LOADING"),
    }
    if sharded() and any(refused.values()):
        raise SettingError(next(message for message, here in refused.items() if here))
    if several and not distributed.is_initialized():  # gloo for what is no tensor on a GPU
        on_gpu = device.type == "cuda" or (sharded() and torch.cuda.is_available())
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("true", "1")


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _several() else 1


def number() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if _several() else 0


def first() -> bool:
    """Whether this is the process that writes, shows and generates."""
    return number() == 0


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def full(value: Any) -> Any:
    """A tensor of which each process holds a part, complete on all; any other value as it is.

    All processes call it.
    """
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def sharded_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of `value` where `like` is in parts; `value` as it is elsewhere."""
    if not hasattr(like, "full_tensor") or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def of_first(work: Callable[[], T]) -> T:
    """What `work` returns on the first process, on all of them; the others do not call it.

    Raises:
        ProcessLost: another process is gone.
        Exception: what `work` raised on the first process; on the others the same where it is
            one of our own, else a `CourseError` that says so.
    """
    if count() == 1:
        return work()
    error: Exception | None = None
    sent: list[Any] = [None, None]  # what `work` returned, and its error
    if first():
        try:
            sent = [work(), None]
        except Exception as failed:
            # Errors of other libraries may not survive the way to another process.
            error = failed
            ours = isinstance(failed, CourseError)
            sent = [None, failed if ours else CourseError(first_line(failed))]
    _together(lambda: distributed.broadcast_object_list(sent, src=0))
    if error or sent[1]:
        raise error or sent[1]
    return sent[0]


def of_each(here: T) -> list[T]:
    """What each of the processes has, in their order.

    Raises:
        ProcessLost: another process is gone.
    """
    if count() == 1:
        return [here]
    results: list[Any] = [None] * count()
    _together(lambda: distributed.all_gather_object(results, here))
    return results


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        if is_lost(error):
            raise ProcessLost("Another process of this training is gone.") from error
        raise


def is_lost(error: Exception) -> bool:
    """True where `error` says that another process of a distributed run is gone."""
    # torch has no type for it: gloo and NCCL say it in words only (torch 2.13)
    words = ("connection closed by peer", "connection reset", "gloo", "nccl", "broken pipe")
    return _several() and any(word in first_line(error).lower() for word in words)
