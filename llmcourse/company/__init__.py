"""Ferrowick, an invented company: its documents, checkable facts, questions and tasks.

Everything is made up for this course, so no model can have read it. `README.md` in this folder
is the data card: how it was made, splits, sizes, licence and limits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llmcourse.errors import one_of

_HERE = Path(__file__).parent
SETS = tuple(sorted(path.stem for path in _HERE.glob("*.jsonl")))  # `README.md` describes them
# "held-out" are whole kinds of tasks that are in no other split (claim `generalises`).
SPLITS = ("train", "validation", "test", "held-out")


def records(name: str, split: str | None = None, *, keys: bool = False) -> list[dict[str, Any]]:
    """The records of one set, all or those of one split, in a fixed order.

    Args:
        name: One of `SETS`.
        split: One of `SPLITS`.
        keys: True adds the keys of the fact that each record asks for, by which answers are scored.

    Raises:
        SettingError: there is no such set or split.
    """
    one_of("name", name, SETS)
    one_of("split", split, (None, *SPLITS))
    text = (_HERE / f"{name}.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()]
    found = [record for record in found if split is None or record.get("split") == split]
    if keys:
        of_fact = {fact["id"]: fact["keys"] for fact in records("facts")}
        found = [{"keys": of_fact[record["fact"]]} | record for record in found]
    return found


def documents() -> dict[str, str]:
    """The company's documents: path below `documents/` -> Markdown text, sorted by path."""
    root = _HERE / "documents"
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*.md")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def web_pages() -> dict[str, str]:
    """Pages of the company's website as a scraper saved them: file name -> HTML, sorted by name.

    They have scripts, adverts and boilerplate, and one has wrongly decoded letters: this is
    what pretraining data look like before cleaning.
    """
    pages = sorted((_HERE / "web").glob("*.html"))
    return {page.name: page.read_text(encoding="utf-8") for page in pages}


def sections(document: str) -> dict[str, str]:
    """A Markdown document's headings, each with the text below it."""
    found: dict[str, str] = {}
    heading = ""
    for line in document.splitlines():
        if match := re.match(r"#{1,6} (.+)", line):
            heading = match[1].strip()
            found.setdefault(heading, "")
        elif heading:  # text before the first heading belongs to none
            found[heading] += line + "\n"
    return found
