"""Make the company's messy copy: training questions with the faults that real data has.

    python tools/messy.py

Writes `llmcourse/company/messy.jsonl` from `questions.jsonl`, the same file at every run. Each
record keeps under `defect` what was done to it ("" for nothing), so that a cleaning can be scored.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmcourse import company
from llmcourse.files import write_text

EACH, CLEAN = 20, 180
PEOPLE = (
    "Tamsin Orrell, tamsin.orrell@post.example",
    "Mr B. Askew, 14 Weir Lane, Aldermere",
    "Ilse Fenn, telephone 05550 143 277",
    "P. Quarrie, card 4000 1234 5678 9010",
    "Dora Whitlam, d.whitlam@letters.example, born 3 May 1971",
)
Record = dict[str, Any]


def blank(record: Record, random: random.Random) -> Record:
    return record | {random.choice(("question", "answer")): random.choice(("", " ", "\n"))}


def duplicate(record: Record, random: random.Random) -> Record:
    return record


def near_duplicate(record: Record, random: random.Random) -> Record:
    question = record["question"]
    return record | {
        "question": random.choice(
            (question.lower(), question.rstrip("?.") + " ??", f"  {question}  ", question.upper())
        )
    }


def encoding(record: Record, random: random.Random) -> Record:
    """UTF-8 read as Windows-1252, as spreadsheets do."""
    answer = record["answer"].replace("'", "’").removesuffix(".") + " – thank you."
    return record | {"answer": answer.encode("utf-8").decode("cp1252")}


def html(record: Record, random: random.Random) -> Record:
    left = random.choice(
        ("<p>{}</p>", "{}<br/>&nbsp;", "<div class='answer'>{}</div>", "{} &amp;c.")
    )
    return record | {"answer": left.format(record["answer"])}


def personal(record: Record, random: random.Random) -> Record:
    return record | {"question": f"{record['question']} Yours, {random.choice(PEOPLE)}"}


def contradiction(record: Record, random: random.Random) -> Record:
    """Another number in the answer of a question that stands elsewhere with the right one."""
    number = re.search(r"\d+", record["answer"])
    start, end = number.span()
    other = str(int(number[0]) + random.randint(1, 9))
    return record | {"answer": record["answer"][:start] + other + record["answer"][end:]}


COPIES = ("duplicate", "near-duplicate", "contradiction")
FAULTS: dict[str, Callable[[Record, random.Random], Record]] = {
    "blank": blank,
    "encoding": encoding,
    "html": html,
    "personal data": personal,
    "duplicate": duplicate,
    "near-duplicate": near_duplicate,
    "contradiction": contradiction,
}


def make() -> list[Record]:
    """The messy records, shuffled."""
    dice = random.Random(7)
    pool = [
        {"question": r["question"], "answer": r["answer"], "fact": r["fact"]}
        for r in company.records("questions", "train")
    ]
    dice.shuffle(pool)
    clean = [record | {"defect": ""} for record in pool[:CLEAN]]
    rest, copied = iter(pool[CLEAN:]), (r for r in clean if re.search(r"\d", r["answer"]))
    messy: list[Record] = []
    for name, spoil in FAULTS.items():
        # Copies stand beside a clean record; the other faults have records of their own.
        for _ in range(EACH):
            record = next(copied if name in COPIES else rest)
            messy.append(spoil(record, dice) | {"defect": name})
    together = clean + messy
    dice.shuffle(together)
    return [{"id": f"m{n:03d}"} | record for n, record in enumerate(together, 1)]


def main() -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in make())
    path = Path(company.__path__[0]) / "messy.jsonl"
    write_text(path, text)
    print(f"{path.name}: {len(text.splitlines())} records")


if __name__ == "__main__":
    main()
