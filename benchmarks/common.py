"""What the benchmarks share: records to measure with, and a watch on the memory used."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

THINGS = ("kettle", "lamp", "oven", "heater", "mixer", "doorbell", "jug", "duster", "toaster")
PARTS = ("cable", "shelf", "lid", "switch", "filter", "battery", "stand", "handle", "dial")
ASKS = (
    "How long is",
    "What colour has",
    "Where do I find",
    "How do I clean",
    "What costs",
    "Who repairs",
    "When was",
    "Why does nobody like",
    "Can I replace",
)
WORDS = (
    "please",
    "thank",
    "gladly",
    "soon",
    "water",
    "light",
    "bread",
    "paper",
    "garden",
    "morning",
    "evening",
    "table",
    "window",
    "street",
    "office",
    "parcel",
    "letter",
    "number",
    "colour",
    "summer",
    "winter",
    "guest",
    "cousin",
    "friend",
    "colleague",
    "simple",
    "quiet",
    "warm",
    "narrow",
    "broad",
    "early",
    "late",
    "seldom",
    "often",
    "always",
    "never",
    "between",
    "under",
)


def write_records(path: Path, count: int, *, trouble: bool = False) -> None:
    """Write records of some fifty words each, no two alike, to a JSONL file.

    Args:
        path: The file.
        count: How many.
        trouble: True writes one in a hundred twice, and one in a hundred with an e-mail address.
    """
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            question = (
                f"{dice.choice(ASKS)} the {dice.choice(PARTS)} of the {dice.choice(THINGS)} "
                f"{dice.choice(WORDS)} {n}?"
            )
            answer = " ".join(dice.choices(WORDS, k=dice.randint(10, 60))).capitalize() + "."
            if trouble and n % 100 == 0:
                answer += f" Write to person{n}@post.example."
            record = {"question": question, "answer": answer, "kind": dice.choice(THINGS)}
            for _ in range(1 + (trouble and n % 100 == 1)):
                file.write(json.dumps(record) + "\n")


class Memory(threading.Thread):
    """Watches, while its `with` block runs, the memory of this process and its children.

    Attributes:
        peak: The most so far, in bytes.
        processes: The most processes at once.
        kind: "PSS" where the system has it (Linux: shared pages are divided among those that
            share them), elsewhere "USS" (pages of one process alone).
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.processes, self.kind = 0, 1, ""
        self._over = threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    @property
    def gigabytes(self) -> str:
        """The peak for a table."""
        return f"{self.peak / 1e9:.2f} GB"

    def run(self) -> None:
        """Look five times a second, and once in any case."""
        here = psutil.Process()
        while True:
            sizes = list(filter(None, map(self._of, [here, *here.children(recursive=True)])))
            self.peak, self.processes = max(self.peak, sum(sizes)), max(self.processes, len(sizes))
            if self._over.wait(0.2):
                return

    def _of(self, process: psutil.Process) -> int:
        try:
            memory = process.memory_full_info()
        except psutil.Error:  # it has ended
            return 0
        self.kind = "PSS" if hasattr(memory, "pss") else "USS"
        return getattr(memory, "pss", memory.uss)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the seconds that it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start
