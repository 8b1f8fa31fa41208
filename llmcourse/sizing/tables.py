"""What fits where, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmcourse.sizing.hardware import HARDWARE, SHOWN, Hardware
from llmcourse.sizing.known import KNOWN
from llmcourse.sizing.size import METHODS, Memory, Size

if TYPE_CHECKING:
    import pandas as pd

# The GPUs of 80 GB that the configurations docs/fsdp_*.yaml ask for.
FSDP = {"llama-2-7b": 4, "llama-2-13b": 8, "llama-2-70b": 32}


def fit(
    size: Size, hardware: Hardware, method: str = "lora", **how: Any
) -> tuple[Memory, bool] | None:
    """How training fits a machine: the memory of each device, and whether checkpointing is needed.

    Over several devices, weights are sharded. Activations are kept if there is room for them.

    Args:
        size: Of the model.
        hardware: The machine.
        method: "lora" or "full".
        how: See `Size.training_bytes`.

    Returns:
        None where it does not fit.
    """
    room = hardware.memory - hardware.reserved
    for checkpointing in (False, True):
        memory = size.training_bytes(
            method, hardware.dtype, checkpointing=checkpointing, processes=hardware.count,
            sharded=hardware.count > 1, **how,
        )  # fmt: skip
        if memory.total <= room:
            return memory, checkpointing
    return None


def smallest_fit(size: Size, method: str = "lora", **how: Any) -> Hardware | None:
    """The first machine of `HARDWARE` that can train the model; None if none of them can.

    Args:
        size, method, how: See `fit`.
    """
    fitting = (machine for machine in HARDWARE.values() if fit(size, machine, method, **how))
    return next(fitting, None)


def table(
    models: Iterable[str] = tuple(KNOWN), *, tokens: float = 1e6,
    hardware: Iterable[Hardware | str] = SHOWN,
) -> pd.DataFrame:  # fmt: skip
    """What it takes to train on `tokens` tokens, 2,048 at a time in records of 512 at most.

    Args:
        models: What `Size.of` takes.
        tokens: Read in training, epochs counted.
        hardware: Machines, or their names in `HARDWARE`.

    Returns:
        A row for each model and method: the memory on one device in bfloat16 with all activations
        kept, in GB; and a column for each machine: the hours, NaN where training does not fit.
    """
    import pandas as pd

    machines = [HARDWARE[one] if isinstance(one, str) else one for one in hardware]
    rows = []
    for size in map(Size.of, models):
        for method in METHODS:
            row: dict[str, Any] = {
                "model": size.name,
                "weights, millions": round(size.parameters / 1e6),
                "method": method,
                "GB": size.training_bytes(method).total / 1e9,
            }
            rows.append(row | {one.name: _hours(size, one, method, tokens) for one in machines})
    return pd.DataFrame(rows)


def _hours(size: Size, machine: Hardware, method: str, tokens: float) -> float:
    fits = fit(size, machine, method)
    if fits is None:
        return float("nan")
    return size.seconds(tokens, machine, method, checkpointing=fits[1]) / 3600


def fsdp_table(tokens: float = 1e6) -> pd.DataFrame:
    """What the configurations docs/fsdp_*.yaml come to, for `tokens` tokens.

    Returns:
        A row for each model and method: GPUs, the memory of each in GB (2,048 tokens each at a
        time, with checkpointing) and what of it are parts of the model, and the hours.
    """
    import pandas as pd

    rows = []
    for name, count in FSDP.items():
        size = Size.of(name)
        for method in METHODS:
            memory = size.training_bytes(method, checkpointing=True, processes=count, sharded=True)
            state = memory.weights + memory.gradients + memory.optimizer
            gpus = Hardware("", 312e12, 80e9, count=count)
            rows.append({
                "model": name, "method": method, "GPUs": count, "GB each": memory.total / 1e9,
                "of it sharded": state / 1e9, "gathered": memory.copies / 1e9,
                "activations": memory.activations / 1e9,
                "hours": size.seconds(tokens, gpus, method, checkpointing=True) / 3600,
            })  # fmt: skip
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table: hours as a time, a dash where nothing fits."""
    timed = [name in HARDWARE or name == "hours" for name in frame.columns]
    names = ["time" if name == "hours" else name for name in frame.columns]
    rows = [
        [_time(value) if time else _cell(value) for value, time in zip(row, timed, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(hours: float) -> str:
    if hours != hours:
        return "–"
    for unit, length in (("h", 1), ("min", 60)):
        if hours * length >= 1:
            return f"{hours * length:.1f} {unit}"
    return f"{hours * 3600:.1f} s"
