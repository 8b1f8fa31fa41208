"""The order desk: what it files of a customer's message, as JSON, and two ways to get it untrained.

`rules` reads a message with regular expressions (`desk.toml`), `prompt` asks a model. The fields
are explained in `README.md` in this folder, at `messages`.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcourse import company

CHOICES = {
    "product": ("Ambra", "Corvo", "Hearthling", "Linnet", "Pellow", "Sable", "Toller", "Wren"),
    "problem": ("late", "damaged", "faulty", "wrong item", "missing part", "billing"),
    "urgency": ("high", "low"),
    "request": ("refund", "replacement", "spare part", "repair", "cancel", "change", "information"),
}
FIELDS = ("order", *CHOICES)
LONGEST = 64  # tokens; the longest right answer has 51 with the chat model's tokenizer
SCHEMA = (
    "Read the customer's message and write JSON with these keys; null where the message does not "
    "say:\n"
    '"order": the order number, as FW-00000-X\n'
    + "\n".join(f'"{name}": one of {", ".join(choices)}' for name, choices in CHOICES.items())
    + "\nWrite nothing but the JSON."
)


def records(split: str) -> list[dict[str, Any]]:
    """The messages of a split as question and answer; the answer is the JSON."""
    return [
        {"question": r["message"], "answer": json.dumps({name: r[name] for name in FIELDS})}
        for r in company.records("messages", split)
    ]


def scores(text: str, wanted: Mapping[str, Any]) -> dict[str, float]:
    """Whether a text is a JSON object, all its fields are right, and which share of them is.

    "all right" is 0 where the object has further fields too.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {"valid": 0.0, "all right": 0.0, "fields right": 0.0}
    same = [name in found and found[name] == wanted[name] for name in FIELDS]
    return {
        "valid": 1.0,
        "all right": float(all(same) and set(found) == set(FIELDS)),
        "fields right": sum(same) / len(same),
    }


def orders(message: str) -> list[str]:
    """The order numbers in a message, however they are typed, as FW-00000-X."""
    found = re.findall(_rules()["order"], message.lower())
    return [f"FW-{digits}-{letter.upper()}" for digits, letter in found]


def rules(message: str) -> str:
    """The JSON that an hour's work of regular expressions makes of a message."""
    text = message.lower()
    row = {"order": next(iter(orders(message)), None)}
    for name, patterns in _rules()["rules"].items():
        row[name] = next((value for value, p in patterns.items() if re.search(p, text)), None)
    return json.dumps(row)


@functools.cache
def _rules() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("desk.toml").read_text(encoding="utf-8"))


def examples(count: int = 5) -> list[dict[str, Any]]:
    """Training messages for a prompt, with as many missing fields as messages usually have.

    A model that sees no `null` in its examples writes none.
    """
    rows = sorted(records("train"), key=lambda r: r["answer"].count("null"))
    return rows[len(rows) // (2 * count) :: len(rows) // count][:count]


def prompt(message: str, solved: Sequence[Mapping[str, Any]] = ()) -> str:
    """The schema, solved messages (few-shot; zero-shot without), and the message."""
    shown = "".join(f"\n\nMessage: {r['question']}\nJSON: {r['answer']}" for r in solved)
    return f"{SCHEMA}{shown}\n\nMessage: {message}\nJSON:"


def first_object(text: str) -> str:
    """The first JSON object in an answer, as any engineer would cut it out; or the text."""
    match = re.search(r"\{.*?\}", text, flags=re.DOTALL)
    return match[0] if match else text.strip()
