"""How many finished records a minute the Alpaca method makes, and what batches give.

    python benchmarks/synthesis.py [RECORDS]
    python benchmarks/synthesis.py --documents [TRIES]

The first makes RECORDS (90) in batches of 24 prompts, then a third as many in batches of 4, in the
same run, and prints both rates and their ratio. The second lets the base model try TRIES (all)
questions about the example company's documents and prints what passed, as CSV, to be judged by
hand: judged-questions.csv has them with the verdicts.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from unittest.mock import patch

from llmcourse import company, data, models, synthesis
from llmcourse.generation import generate


def in_fours(*arguments: object, **options: object) -> object:
    """`generate` in batches of 4."""
    return generate(*arguments, **(options | {"batch_size": 4}))


def from_documents(tries: int) -> None:
    """Print the pairs that pass as CSV, and how many did."""
    passages = data.from_documents(Path(company.__path__[0]) / "documents")
    made = synthesis.questions_from_documents(passages, models.load("base"), limit=tries, seed=0)
    rows = csv.writer(sys.stdout)
    rows.writerows([("question", "answer"), *((r["question"], r["answer"]) for r in made.records)])
    print(made, file=sys.stderr)


def main() -> None:
    if sys.argv[1:2] == ["--documents"]:
        from_documents(int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
        return
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
