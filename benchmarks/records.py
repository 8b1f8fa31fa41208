"""How long, and how much memory, does loading a million records take?

    python benchmarks/records.py [--records 1000000]

Writes a JSONL file of generated records to a temporary folder, loads it with
`data.load_records`, and prints the time, the rate and the peak memory.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import Memory, timed, write_records

from llmcourse import data


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write_records(path, options.records)
        size = path.stat().st_size / 1e6
        with Memory() as memory:
            loaded, seconds = timed(lambda: data.load_records(path))
    print(f"| records | file | seconds | records a second | peak {memory.kind} |")
    print("|---|---|---|---|---|")
    print(
        f"| {len(loaded):,} | {size:.0f} MB | {seconds:.1f} | {len(loaded) / seconds:,.0f} | "
        f"{memory.gigabytes} |"
    )


if __name__ == "__main__":
    main()
