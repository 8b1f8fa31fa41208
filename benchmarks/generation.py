"""How much faster is answering 32 prompts in batches than one at a time, with the same answers?

    python benchmarks/generation.py [--model base|chat] [--tokens 48]

Times both ways in turn, in float32 and in the type this machine is fastest in, and prints the
ratio of their throughputs (new tokens a second) and how many greedy answers are the same.
Trust the ratios; seconds differ from machine to machine.
"""

from __future__ import annotations

import argparse
import time

import torch

from llmcourse import models, tiers
from llmcourse.generation import Answer, generate
from llmcourse.prompts import INSTRUCTIONS, QUESTIONS

PROMPTS = (*INSTRUCTIONS[:16], *QUESTIONS[:16])


def timed(model: models.LoadedModel, batch_size: int, tokens: int) -> tuple[float, list[Answer]]:
    """New tokens a second, and the answers."""
    start = time.perf_counter()
    answers = generate(model, PROMPTS, max_new_tokens=tokens, batch_size=batch_size, progress=False)
    return sum(a.new_tokens for a in answers) / (time.perf_counter() - start), answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=["base", "chat"])
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    print("| model | type | one at a time | 32 at once | ratio | same answers |")
    print("|---|---|---|---|---|---|")
    for name in options.model:
        for dtype in dict.fromkeys((torch.float32, tiers.dtype())):
            model = models.load(name, dtype=dtype)
            timed(model, 32, 4)  # warm-up
            many, together = timed(model, 32, options.tokens)
            one, alone = timed(model, 1, options.tokens)
            same = sum(a.text == b.text for a, b in zip(together, alone, strict=True))
            kind = str(dtype).removeprefix("torch.")
            print(
                f"| {model.title} | {kind} | {one:.0f} tok/s | {many:.0f} tok/s | "
                f"{many / one:.1f} | {same} of {len(PROMPTS)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
