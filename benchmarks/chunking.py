"""Which passages let search by meaning find the most facts?

    python benchmarks/chunking.py [--words 40 60 80 120 160 240]

Cuts the company's documents into passages of several lengths and asks the validation questions,
which no test uses. A fact counts as found where one of the first k passages is of its document and
holds the words that a right answer needs. At the chosen length the passages are also embedded
without the document's name, and without its heading. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmcourse import company, data
from llmcourse.data import Passage
from llmcourse.retrieval import Index, recall_at
from llmcourse.words import has_keys

DOCUMENTS = Path(company.__path__[0]) / "documents"


def row(name: str, passages: list[Passage], *left_out: str) -> None:
    """Print recall at 1, 3 and 5 for passages embedded without the fields `left_out`."""
    document = {fact["id"]: fact["document"] for fact in company.records("facts")}
    questions = company.records("questions", "validation", keys=True)
    embedded = [replace(p, number=n, **dict.fromkeys(left_out, "")) for n, p in enumerate(passages)]

    def holds(record: Mapping[str, Any], found: Passage) -> bool:
        passage = passages[found.number]
        right = passage.document == document[record["fact"]]
        return right and has_keys(passage.text, record["keys"])

    shares = recall_at(Index(embedded), questions, holds).values()
    mean = sum(len(p.text.split()) for p in passages) / len(passages)
    recalls = " | ".join(f"{100 * each.value:.0f} %" for each in shares)
    print(f"| {name} | {len(passages)} | {mean:.0f} | {recalls} |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, nargs="+", default=[40, 60, 80, 120, 160, 240])
    print("| passages of at most | passages | words, mean | k = 1 | k = 3 | k = 5 |")
    print("|---|---|---|---|---|---|")
    for words in parser.parse_args().words:
        row(f"{words} words", data.from_documents(DOCUMENTS, words=words))
    passages = data.from_documents(DOCUMENTS)
    row("default, without the document's name", passages, "document")
    row("default, text alone", passages, "document", "heading")


if __name__ == "__main__":
    main()
