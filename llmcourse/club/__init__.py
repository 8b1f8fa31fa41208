"""Tarn Hollow Rowing Club, an invented club: a second, small set of data as learners have them.

A folder of documents, a file of pairs and a file of test questions, with which lesson 08 goes from
documents to a tuned model on data that no other lesson uses. `README.md` in this
folder is the data card.
"""

from __future__ import annotations

import csv
from pathlib import Path

from llmcourse.errors import one_of

_HERE = Path(__file__).parent
SPLITS = {"train": "pairs.csv", "test": "test.csv"}


def folder() -> Path:
    """The folder of the club's documents."""
    return _HERE / "documents"


def file(split: str) -> Path:
    """The CSV file of one split, as `data.load_records` takes it.

    Args:
        split: A key of `SPLITS`.

    Raises:
        SettingError: there is no such split.
    """
    return _HERE / SPLITS[one_of("split", split, SPLITS)]


def records(split: str) -> list[dict[str, str]]:
    """The question and answer pairs of one split, in a fixed order.

    Args:
        split: "train" has two paraphrases of a question for each fact, "test" a third, with `keys`:
            what a right answer contains, joined by ";", where "a|b" has two forms.

    Raises:
        SettingError: there is no such split.
    """
    with file(split).open(encoding="utf-8", newline="") as lines:
        return [dict(row) for row in csv.DictReader(lines)]
