"""What to weigh before going further: memory by model size, many customers, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import sizing
from llmcourse.errors import whole

if TYPE_CHECKING:
    import pandas

SHOWN = ("smollm2-135m-instruct", "gemma-3-270m", "gemma-3-1b", "smollm2-1.7b", "llama-2-7b",
         "llama-2-13b", "llama-2-70b")  # fmt: skip
LENGTH, BATCH = 1024, 512  # tokens of prompt and answer together; tokens trained on at once


def considerations(
    models: Iterable[str] = SHOWN, machine: sizing.Hardware | None = None
) -> pandas.DataFrame:
    """What answering and training need by model size, and what fits this machine.

    By formula, from `sizing`: one prompt of 1,024 tokens with its answer; training with records of
    at most 512 tokens, one at a time. With checkpointing it takes less memory and more time.

    Args:
        models: What `sizing.Size.of` takes.
        machine: This one if not given, in the number type that it is fast in.

    Returns:
        A row a model: weights in millions; GB to answer, to train an adapter, and to train every
        weight, all without checkpointing; and for each of these whether it fits into the
        machine's memory when nothing else runs: "yes", "with checkpointing" or "no".
    """
    import pandas

    here = machine or sizing.Hardware.measured(0.0)
    room = here.memory - here.reserved
    rows = []
    for name in models:
        size = sizing.Size.of(name)
        answer = size.generation_bytes(here.dtype, length=LENGTH).total
        row: dict[str, Any] = {"model": size.name, "weights, millions": size.parameters / 1e6,
                               "GB to answer": answer / 1e9}  # fmt: skip
        fits = {"answers here": "yes" if answer <= room else "no"}
        for method, told in (("lora", "an adapter"), ("full", "every weight")):
            how = {"batch_tokens": BATCH, "length": BATCH}
            row[f"GB to train {told}"] = size.training_bytes(method, here.dtype, **how).total / 1e9
            fitting = sizing.fit(size, here, method, **how)
            fits[f"trains {told} here"] = (
                "no" if fitting is None else "with checkpointing" if fitting[1] else "yes"
            )
        rows.append(row | fits)
    return pandas.DataFrame(rows)


def customers(
    model: str = "smollm2-135m-instruct",
    counts: Sequence[int] = (1, 10, 100),
    *,
    rank: int = 16,
    dtype: Any = "bfloat16",
) -> pandas.DataFrame:
    """The weights that so many customers need, each with a model of their own.

    `models.load_adapter(base, folder)` shares the base's weights, so that each further customer
    costs an adapter (in float32) only.

    Args:
        model: What `sizing.Size.of` takes.
        counts: Numbers of customers.
        rank: Of the adapters.
        dtype: Of the base's weights.

    Returns:
        A row a number: GB with one adapter a customer on one base, and with a whole model each.
    """
    import pandas

    size = sizing.Size.of(model)
    base = size.generation_bytes(dtype, length=1).weights
    adapter = 4 * size.lora_parameters(rank)
    return pandas.DataFrame(
        [
            {"customers": whole("counts", count, 1),
             "GB, an adapter each": (base + count * adapter) / 1e9,
             "GB, a model each": count * base / 1e9}
            for count in counts
        ]
    )  # fmt: skip
