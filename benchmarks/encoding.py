"""How long, and how much memory, does encoding a million records take?

    python benchmarks/encoding.py [--records 1000000]

Generates records, loads them with `data.load_records`, encodes them with the base model's
tokenizer and prints the time, the rates, the peak memory of all processes together, what a second
process brings on a tenth of the records, and how much of a batch is padding when it is shuffled
or sorted by length.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from pathlib import Path
from typing import Any

from common import Memory, timed, write_records
from transformers import AutoTokenizer

from llmcourse import company, data, encoding, models


def compare(part: Any, tokenizer: Any) -> None:
    """Print what a second process brings; on a busy machine see the processor seconds."""
    took, used = [], []
    for workers in (1, 2):
        before = os.times()
        took.append(timed(lambda n=workers: encoding.encode(part, tokenizer, workers=n))[1])
        used.append(sum(os.times()[:4]) - sum(before[:4]))
    print(
        f"\n{len(part):,} records: {took[0]:.1f} s with 1 process, {took[1]:.1f} s with 2 "
        f"({took[0] / took[1]:.2f} times as fast); processor time {used[0]:.1f} s and "
        f"{used[1]:.1f} s\n"
    )


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(models.convert("gemma-3-270m"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write_records(path, options.records)
        records = data.load_records(path)
    with Memory() as memory:
        encoded, seconds = timed(lambda: encoding.encode(records, tokenizer))
    print("| records | tokens | seconds | records a second | tokens a second | peak memory |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {len(encoded):,} | {encoded.tokens:,} | {seconds:.1f} | {len(encoded) / seconds:,.0f} "
        f"| {encoded.tokens / seconds:,.0f} | {memory.gigabytes} |"
    )
    compare(records.select(range(-(-options.records // 10))), tokenizer)
    padding(tokenizer)


def padding(tokenizer: Any, size: int = 8) -> None:
    """Print the share of padding in the company's training questions."""
    encoded = encoding.encode(company.records("questions", "train"), tokenizer)
    lengths = list(encoded.dataset["length"])
    order = random.Random(0).sample(range(len(lengths)), len(lengths))
    shuffled = [order[start : start + size] for start in range(0, len(order), size)]
    by_length = encoding.batches_by_length(lengths, size)
    print(f"| {len(lengths):,} training questions | padding |")
    print("|---|---|")
    print(f"| batches of {size}, shuffled | {encoding.padding_share(lengths, shuffled):.1%} |")
    print(f"| batches of {size}, by length | {encoding.padding_share(lengths, by_length):.1%} |")


if __name__ == "__main__":
    main()
