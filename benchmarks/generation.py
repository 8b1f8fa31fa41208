"""How fast are answers: one prompt, 16 at once, and beside llama.cpp on the same 4-bit file?

    python benchmarks/generation.py [--model base chat] [--tokens 48] [--rounds 3]

The same 16 prompts, alone and together, in float32 and in the type that this machine is fastest in;
every answer has `--tokens` tokens. The table has new tokens a second, the best of the rounds, which
go through all ways in turn, and how many of the answers in a batch are those given alone. "plain"
is float32 without weights packed for answering, as transformers has it. llama.cpp reads the file
that the packaged model was made from, and runs where its Python binding is installed
(`pip install llama-cpp-python`). Trust the ratios; seconds differ from machine to machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from llmcourse import models, templates, tiers
from llmcourse.generation import generate
from llmcourse.models.packaged import PACKAGED, join, part_paths
from llmcourse.prompts import INSTRUCTIONS, QUESTIONS

PROMPTS = (*INSTRUCTIONS[:8], *QUESTIONS[:8])


def ours(name: str, kind: str, tokens: int) -> Iterator[tuple[float, float, int]]:
    """One round after the other: tokens a second alone and together, and how many are the same."""
    dtype = torch.float32 if kind == "plain" else getattr(torch, kind)
    model = models.load(name, dtype=dtype)
    packing = patch("llmcourse.models.lora._packing_pays", return_value=False)

    def run(prompts: tuple[str, ...]) -> tuple[float, list[str]]:
        start = time.perf_counter()
        answers = generate(
            model, prompts, max_new_tokens=tokens, min_new_tokens=tokens, progress=False
        )
        taken = time.perf_counter() - start
        return sum(a.new_tokens for a in answers) / taken, [a.text for a in answers]

    while True:
        with packing if kind == "plain" else nullcontext():
            fast, together = run(PROMPTS)
            alone = [run((prompt,)) for prompt in PROMPTS[::4]]
        slow = len(alone) / sum(1 / speed for speed, _ in alone)
        same = sum(a == b for (_, (a,)), b in zip(alone, together[::4], strict=True))
        yield slow, fast, same


def llama_cpp(name: str, tokens: int) -> Iterator[float]:
    """One round after the other: llama.cpp's tokens a second, one prompt at a time."""
    from llama_cpp import Llama

    tokenizer = models.load_tokenizer(name)
    template = "chat" if tokenizer.chat_template else "plain"
    texts = [templates.render(p, template, tokenizer=tokenizer).prompt for p in PROMPTS[::4]]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        packaged = PACKAGED[models.resolve(name)]
        join(part_paths(packaged), file, packaged)
        threads = torch.get_num_threads()
        model = Llama(str(file), n_ctx=1024, n_threads=threads, seed=0, verbose=False)
        while True:
            count, start = 0, time.perf_counter()
            for text in texts:
                ids = tokenizer(text, add_special_tokens=template == "plain").input_ids
                for number, _ in enumerate(model.generate(ids, temp=0.0, top_k=1), 1):
                    if number == tokens:  # (also past an end token: the same work for all)
                        break
                count += tokens
            yield count / (time.perf_counter() - start)


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=["base", "chat"])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    has_peer = importlib.util.find_spec("llama_cpp") is not None
    kinds = dict.fromkeys(("plain", "float32", str(tiers.dtype()).removeprefix("torch.")))
    print("| new tokens a second | one prompt | 16 at once | to llama.cpp, one prompt | same |")
    print("|---|---|---|---|---|")
    for name in options.model:
        ways: dict[str, Any] = {kind: ours(name, kind, options.tokens) for kind in kinds}
        peer: Callable[[], float] = llama_cpp(name, options.tokens).__next__
        rounds = [
            ({kind: next(way) for kind, way in ways.items()}, peer() if has_peer else None)
            for _ in range(options.rounds)
        ]
        best = max((speed for _, speed in rounds if speed), default=None)
        title = PACKAGED[models.resolve(name)].title
        for kind in kinds:
            one, many = (max(found[kind][n] for found, _ in rounds) for n in (0, 1))
            ratio = f"{one / best:.2f}" if best else ""
            same = f"{rounds[0][0][kind][2]} of {len(PROMPTS[::4])}"
            print(f"| {title}, {kind} | {one:.1f} | {many:.0f} | {ratio} | {same} |", flush=True)
        if best:
            print(f"| {title}, llama.cpp, 4 bits | {best:.1f} | | 1.00 | |", flush=True)


if __name__ == "__main__":
    main()
