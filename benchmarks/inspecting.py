"""How long, and how much memory, does inspecting a million records take?

    python benchmarks/inspecting.py [--records 1000000]

Writes a JSONL file of varied records to a temporary folder, loads and inspects it with the base
model's tokenizer, and prints the time, the rate, and the peak memory of all processes together.
Memory is PSS where the system has it (Linux: shared pages are divided among those that share
them), elsewhere USS (pages of one process alone). Then a part of 100,000 records is inspected with
one process and with two.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from pathlib import Path

import psutil

from llmcourse import data, models
from llmcourse.data import measuring

PART = 100_000
THINGS = ("kettle", "lamp", "oven", "heater", "mixer", "doorbell", "jug", "duster", "toaster")
PARTS = ("cable", "shelf", "lid", "switch", "filter", "battery", "stand", "handle", "dial")
ASKS = ("How long is", "What colour has", "Where do I find", "How do I clean", "What costs",
        "Who repairs", "When was", "Why does nobody like", "Can I replace")  # fmt: skip
WORDS = (
    "please", "thank", "gladly", "soon", "water", "light", "bread", "paper", "garden", "morning",
    "evening", "table", "window", "street", "office", "parcel", "letter", "number", "colour",
    "summer", "winter", "guest", "cousin", "friend", "colleague", "simple", "quiet", "warm",
    "narrow", "broad", "early", "late", "seldom", "often", "always", "never", "between", "under",
)  # fmt: skip


def write(path: Path, count: int) -> None:
    """Write varied records: some fifty words each, one in a hundred a copy or with an address."""
    dice = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            question = (
                f"{dice.choice(ASKS)} the {dice.choice(PARTS)} of the {dice.choice(THINGS)} "
                f"{dice.choice(WORDS)} {n}?"
            )
            answer = " ".join(dice.choices(WORDS, k=dice.randint(10, 60))).capitalize() + "."
            if n % 100 == 0:
                answer += f" Write to person{n}@post.example."
            record = {"question": question, "answer": answer, "kind": dice.choice(THINGS)}
            for _ in range(1 + (n % 100 == 1)):
                file.write(json.dumps(record) + "\n")


class Peak(threading.Thread):
    """Watches the memory of this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.processes, self.running = 0, 1, True
        self.kind = ""

    def run(self) -> None:
        me = psutil.Process()
        while self.running:
            total, count = 0, 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                except psutil.Error:
                    continue
                self.kind = "PSS" if hasattr(memory, "pss") else "USS"
                total += memory.pss if self.kind == "PSS" else memory.uss
                count += 1
            self.bytes, self.processes = max(self.bytes, total), max(self.processes, count)
            time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    tokenizer = models.load_tokenizer("base")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write(path, options.records)
        peak = Peak()
        peak.start()
        start = time.perf_counter()
        records = data.load_records(path)
        loaded = time.perf_counter() - start
        report = data.inspect(records, tokenizer=tokenizer, name="generated")
        seconds = time.perf_counter() - start
        peak.running = False
        peak.join()
        print(report.as_text(), end="\n\n")
        workers = measuring.workers_for(records, None)
        print("| records | file | loading | inspecting | records a second | workers "
              f"| peak {peak.kind} of {peak.processes} processes |")  # fmt: skip
        print("|---|---|---|---|---|---|---|")
        print(
            f"| {report.records:,} | {path.stat().st_size / 1e6:.0f} MB | {loaded:.1f} s | "
            f"{seconds - loaded:.1f} s | {report.records / (seconds - loaded):,.0f} | {workers} | "
            f"{peak.bytes / 1e9:.2f} GB |"
        )
        part = records.select(range(min(PART, len(records))))
        times = {}
        for many in (1, 2):
            start = time.perf_counter()
            data.inspect(part, tokenizer=tokenizer, workers=many)
            times[many] = time.perf_counter() - start
        print(
            f"\n{len(part):,} records with 1 process: {times[1]:.1f} s, with 2: {times[2]:.1f} s; "
            f"{times[1] / times[2]:.2f} times as fast."
        )
        del records, part


if __name__ == "__main__":
    main()
