"""How long, and how much memory, does loading a million records take?

    python benchmarks/records.py [--records 1000000]

Writes a JSONL file of generated records to a temporary folder, loads it with
`data.load_records`, and prints the time, the rate and the process's peak memory. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from llmcourse import data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for n in range(options.records):
                record = {
                    "question": f"What is kept in drawer {n}?",
                    "answer": f"Part {n * 7}. " * 9,
                }
                file.write(json.dumps(record) + "\n")
        start = time.perf_counter()
        loaded = data.load_records(path)
        seconds = time.perf_counter() - start
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        print("| records | file | seconds | records a second | peak memory |")
        print("|---|---|---|---|---|")
        print(
            f"| {len(loaded):,} | {path.stat().st_size / 1e6:.0f} MB | {seconds:.1f} | "
            f"{len(loaded) / seconds:,.0f} | {peak / 1e9:.2f} GB |"
        )
        del loaded


if __name__ == "__main__":
    main()
