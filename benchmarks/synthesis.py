"""How many finished records a minute the Alpaca method makes, and what batches give.

    python benchmarks/synthesis.py [RECORDS]

Makes RECORDS (90) in batches of 24 prompts, then a third as many in batches of 4, in the same run,
and prints both rates and their ratio.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from llmcourse import company, models, synthesis
from llmcourse.generation import generate


def in_fours(*arguments: object, **options: object) -> object:
    """`generate` in batches of 4."""
    return generate(*arguments, **(options | {"batch_size": 4}))


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 90
    chat, seeds = models.load("chat"), company.records("seed_tasks", "train")
    together = synthesis.self_instruct(seeds, chat, wanted, progress=False)
    print(f"batches of 24: {together}")
    with patch.object(synthesis.instructions, "generate", in_fours):
        small = synthesis.self_instruct(seeds, chat, max(1, wanted // 3), progress=False)
    print(f"batches of 4: {small}")
    rates = [len(made.records) / made.seconds for made in (together, small)]
    print(f"ratio {rates[0] / rates[1]:.1f}")


if __name__ == "__main__":
    main()
