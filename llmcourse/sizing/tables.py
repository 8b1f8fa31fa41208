"""What fits where, as tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmcourse.sizing.size import HARDWARE, KNOWN, METHODS, SHOWN, Hardware, Size

if TYPE_CHECKING:
    import pandas

# The GPUs of 80 GB that the configurations docs/fsdp_*.yaml ask for.
FSDP = {"llama-2-7b": 4, "llama-2-13b": 8, "llama-2-70b": 32}
# The families of the course's models, and one that goes up to 70 billion weights.
CONSIDERED = tuple(n for n in KNOWN if n.startswith(("smollm2", "gemma", "llama")))


def _fit(size: Size, hardware: Hardware, method: str, **how: Any) -> bool | None:
    """Whether training needs checkpointing to fit a machine; None where it does not fit at all.

    Over several devices, weights are sharded. Activations are kept if there is room for them.
    """
    room = hardware.memory - hardware.reserved
    how |= {"processes": hardware.count, "sharded": hardware.count > 1}
    for checkpointing in (False, True):  # without it first: it costs a second forward pass
        memory = size.training_bytes(method, hardware.dtype, checkpointing=checkpointing, **how)
        if memory.total <= room:
            return checkpointing
    return None


def table(
    models: Iterable[str] = tuple(KNOWN),
    *,
    hardware: Iterable[Hardware | str] = SHOWN,
) -> pandas.DataFrame:
    """What it takes to train on a million tokens, 2,048 at a time in records of 512 at most.

    Args:
        models: What `Size.of` takes.
        hardware: Machines, or their names in `HARDWARE`.

    Returns:
        A row for each model and method: the memory on one device in bfloat16 with all activations
        kept, in GB; and a column for each machine: the hours, NaN where training does not fit.
    """
    import pandas

    rows = []
    for size, method in itertools.product(map(Size.of, models), METHODS):
        row: dict[str, Any] = {
            "model": size.name,
            "weights, millions": round(size.parameters / 1e6),
            "method": method,
            "GB": size.training_bytes(method).total / 1e9,
        }
        for one in hardware:
            machine, hours = HARDWARE[one] if isinstance(one, str) else one, math.nan
            if (needed := _fit(size, machine, method)) is not None:
                hours = size.seconds(1e6, machine, method, checkpointing=needed) / 3600
            row[machine.name] = hours
        rows.append(row)
    return pandas.DataFrame(rows)


def fsdp_table() -> pandas.DataFrame:
    """What the configurations docs/fsdp_*.yaml come to, for a million tokens.

    Returns:
        A row for each model and method: GPUs, the memory of each in GB (2,048 tokens each at a
        time, with checkpointing) and what of it are parts of the model, and the hours.
    """
    import pandas

    rows = []
    for (name, count), method in itertools.product(FSDP.items(), METHODS):
        size, gpus = Size.of(name), Hardware("", 312e12, 80e9, count=count)
        # as the configurations have it: activations are what does not shrink with more GPUs
        memory = size.training_bytes(method, checkpointing=True, processes=count, sharded=True)
        state = memory.weights + memory.gradients + memory.optimizer
        hours = size.seconds(1e6, gpus, method, checkpointing=True) / 3600
        sizes = (memory.total, state, memory.copies, memory.activations)
        rows.append([name, method, count, *(number / 1e9 for number in sizes), hours])
    columns = ["model", "method", "GPUs", "GB each", "of it sharded", "gathered", "activations"]
    return pandas.DataFrame(rows, columns=[*columns, "hours"])


def considerations(machine: Hardware | None = None) -> pandas.DataFrame:
    """What answering and training need by model size, and what fits this machine.

    By formula: one prompt of 1,024 tokens with its answer; training with records of at most 512
    tokens, one at a time. With checkpointing it takes less memory and more time.

    Args:
        machine: This one if not given, in the number type that it is fast in.

    Returns:
        A row per model: weights in millions; GB to answer, to train an adapter, and to train every
        weight, all without checkpointing; and for each of these whether it fits into the
        machine's memory when nothing else runs: "yes", "with checkpointing" or "no".
    """
    import pandas

    here = machine or Hardware.measured(0.0)
    batch: dict[str, Any] = {"batch_tokens": 512, "length": 512}
    rows = []
    for size in map(Size.of, CONSIDERED):
        # Records are trained on one at a time here, the least that a training can do with.
        answer = size.generation_bytes(here.dtype, length=1024).total
        sums = {"GB to answer": answer / 1e9}
        fits = {"answers here": "yes" if answer <= here.memory - here.reserved else "no"}
        for method, what in (("lora", "an adapter"), ("full", "every weight")):
            total = size.training_bytes(method, here.dtype, **batch).total
            sums[f"GB to train {what}"] = total / 1e9
            found = _fit(size, here, method, **batch)
            fits[f"trains {what} here"] = (
                "no" if found is None else "with checkpointing" if found else "yes"
            )
        rows.append(
            {"model": size.name, "weights, millions": size.parameters / 1e6, **sums, **fits}
        )
    return pandas.DataFrame(rows)


def customers(*, rank: int = 16) -> pandas.DataFrame:
    """The weights that 1, 10 and 100 customers need, each with a model of their own.

    `models.load_adapter(base, folder)` shares the base's weights, so that each further customer
    costs only an adapter (in float32).

    Args:
        rank: Of the adapters.

    Returns:
        A row per number: GB with one adapter per customer on one base, and with a full model each.
    """
    import pandas

    size, counts = Size.of("smollm2-135m-instruct"), (1, 10, 100)
    # An adapter is trained and kept in float32: four bytes a weight.
    base, adapter = size.generation_bytes().weights, 4 * size.lora_parameters(rank)
    adapters = [(base + count * adapter) / 1e9 for count in counts]
    whole = [count * base / 1e9 for count in counts]
    columns = {"customers": counts, "GB, an adapter each": adapters, "GB, a model each": whole}
    return pandas.DataFrame(columns)


def markdown(frame: pandas.DataFrame) -> str:
    """A frame as a Markdown table: hours as a time, a dash where nothing fits."""
    hours = [name in HARDWARE or name == "hours" for name in frame.columns]
    names = ["time" if name == "hours" else name for name in frame.columns]
    rows = [
        [_time(value) if time else _number(value) for value, time in zip(row, hours, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [names, ["---"] * len(names), *rows])


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(hours: float) -> str:
    if math.isnan(hours):
        return "–"
    for unit, length in (("h", 1), ("min", 60)):
        if hours * length >= 1:
            return f"{hours * length:.1f} {unit}"
    return f"{hours * 3600:.1f} s"
