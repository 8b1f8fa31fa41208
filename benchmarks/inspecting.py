"""How long, and how much memory, does inspecting a million records take?

    python benchmarks/inspecting.py [--records 1000000]

Writes a JSONL file of varied records to a temporary folder, loads and inspects it with the base
model's tokenizer, and prints the time, the rate, and the peak memory of all processes together.
Then a part of 100,000 records is inspected with one process and with two.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import Memory, timed, write_records

from llmcourse import data, models

PART = 100_000


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    tokenizer = models.load_tokenizer("base")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write_records(path, options.records, trouble=True)
        size = path.stat().st_size / 1e6
        with Memory() as memory:
            records, loading = timed(lambda: data.load_records(path))
            report, seconds = timed(
                lambda: data.inspect(records, tokenizer=tokenizer, name="generated")
            )
    print(report.as_text(), end="\n\n")
    print(
        "| records | file | loading | inspecting | records a second "
        f"| peak {memory.kind} of {memory.processes} processes |"
    )
    print("|---|---|---|---|---|---|")
    print(
        f"| {report.records:,} | {size:.0f} MB | {loading:.1f} s | {seconds:.1f} s | "
        f"{report.records / seconds:,.0f} | {memory.gigabytes} |"
    )
    compare(records.select(range(min(PART, len(records)))), tokenizer)


def compare(part: Any, tokenizer: Any) -> None:
    """Print what a second process brings."""
    one, two = (
        timed(lambda n=many: data.inspect(part, tokenizer=tokenizer, workers=n))[1]
        for many in (1, 2)
    )
    print(
        f"\n{len(part):,} records with 1 process: {one:.1f} s, with 2: {two:.1f} s; "
        f"{one / two:.2f} times as fast."
    )


if __name__ == "__main__":
    main()
