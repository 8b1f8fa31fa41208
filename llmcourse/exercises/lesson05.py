"""The exercises of lesson 05."""

from __future__ import annotations

from typing import Any

from llmcourse.exercises.base import Exercise, same, tried


def _accumulated(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (([(2.0, 10)],), 2.0, "One part alone is the whole batch."),
            (([(1.0, 30), (3.0, 10)],), 1.5,
             "Part one has 30 of the 40 tokens, so it weighs three times as much as part two."),
            (([(4.0, 6), (2.0, 6), (3.0, 0)],), 3.0, "A part without a label weighs nothing."),
        ],
    )  # fmt: skip


def _lora(answer: Any) -> str | None:
    import torch

    x = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    down, up = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    none = torch.zeros(3, 1)
    return tried(
        answer,
        [
            ((x, weight, down, none, 2.0), [[1, 2, 3], [0, 1, 1]],
             "Where up is all zeros, as before the first update, only the frozen layer works."),
            ((x, weight, down, up, 1.0), [[4, 2, 9], [1, 1, 3]],
             "The adapter's part is added to the frozen layer's."),
            ((x, weight, down, up, 0.5), [[2.5, 2, 6], [0.5, 1, 2]],
             "The adapter's part, and only that, is multiplied by scale."),
        ],
    )  # fmt: skip


def _training_gb(answer: Any) -> str | None:
    wanted = 16 * 135e6 / 1e9
    if callable(answer):
        found = answer(135e6)
        for wrong, remark in (
            (4, "That is the weights alone. Each also has a gradient, and two numbers of AdamW's."),
            (8, "Weights and gradients. AdamW keeps two more numbers for each weight."),
            (12, "One number is missing: weight, gradient, and two of AdamW's make four."),
            (2, "That is a weight in bfloat16. Full fine-tuning holds four float32 numbers."),
            (16e9, "That is in bytes. A gigabyte has 10⁹ of them."),
            (16e9 / 2**30, "A gigabyte is 10⁹ bytes here, not 2³⁰."),
            (4e9, "That is in bytes, and of the weights alone."),
        ):
            if same(found, wrong * 135e6 / 1e9):
                return remark
    remark = "Four numbers of four bytes for each weight, in units of 10⁹ bytes."
    return tried(answer, [((135e6,), wanted, remark), ((7e9,), 112.0, remark), ((0,), 0, remark)])


TASKS = (
    Exercise(
        "05-1",
        "Write `accumulated(parts)`: the loss of a whole batch that was computed in parts. Each "
        "part is a pair: the mean loss of its tokens with a label, and how many those are.",
        _accumulated,
        "So a batch in four parts trains exactly as in one. The mean of the parts' means does not: "
        "there a short answer's tokens weigh more than a long one's.",
        ("Go back from means to sums: a mean times its count is a sum.",
         "Divide the sum of loss * tokens by the sum of tokens."),
        "def accumulated(parts):\n"
        "    tokens = sum(count for _, count in parts)\n"
        "    return sum(loss * count for loss, count in parts) / tokens",
    ),
    Exercise(
        "05-2",
        "Write `lora(x, weight, down, up, scale)` for tensors: what a linear layer with an adapter "
        "gives. x is (tokens, in), weight (out, in), down (rank, in), up (out, rank).",
        _lora,
        "The large product is the old layer's. The two thin ones are all that is trained.",
        ("The frozen layer alone gives x @ weight.T. What do the two thin matrices make of x?",
         "x @ weight.T + scale * (x @ down.T) @ up.T"),
        "def lora(x, weight, down, up, scale):\n"
        "    return x @ weight.T + scale * (x @ down.T) @ up.T",
    ),
    Exercise(
        "05-3",
        "Write `training_gb(weights)`: the gigabytes (10⁹ bytes) that full fine-tuning with AdamW "
        "holds in float32 for so many weights: the weights, the gradients and what AdamW keeps. "
        "Activations come on top.",
        _training_gb,
        "Sixteen bytes a weight: a model of 7 billion weights wants 112 GB before it has read a "
        "token. That is why adapters are so popular.",
        ("How many numbers are there for each weight? AdamW keeps two means of the gradient.",
         "Four numbers of four bytes: 16 * weights / 1e9"),
        "def training_gb(weights):\n    return 16 * weights / 1e9",
    ),
)  # fmt: skip
