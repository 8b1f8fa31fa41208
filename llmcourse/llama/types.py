"""Typed questions and answers, as the course's library had them.

    class Question(Type):
        question: str = Context("what is asked")

A `Type` is a pydantic model and a `Context` a field of it with a description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcourse.errors import APIError, UserError, first_line

KINDS: dict[str, type] = {"str": str, "string": str, "int": int, "integer": int, "float": float,
                          "bool": bool, "boolean": bool}  # fmt: skip


class Type(BaseModel):
    """A record with named, typed fields; a subclass has the fields."""

    model_config = ConfigDict(extra="forbid")


def Context(description: str = "", **more: Any) -> Any:
    """A field's description, for the model that is to fill it and for people."""
    return Field(description=description, **more)


def made(kind: type[Type], values: Any, where: str) -> Type:
    """A record of `kind` from a dict of its fields.

    Raises:
        UserError: a field is missing, unknown or of another type; the message names it.
    """
    if isinstance(values, kind):
        return values
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: a dict of fields is wanted, not {type(values).__name__}.")
    try:
        return kind(**values)
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {}
        named = ".".join(map(str, first.get("loc", ())))
        told = f"field {named!r}: {first['msg']}" if named else first_line(error)
        raise UserError(f"{where}: {told}. {kind.__name__} has: {fields(kind)}.") from None


def fields(kind: type[Type]) -> str:
    """The names of a type's fields, for messages."""
    return ", ".join(kind.model_fields)


def as_text(record: Type) -> str:
    """A record as a model reads it: the one field's text, or a line a field."""
    values = record.model_dump()
    if len(values) == 1:
        return str(*values.values())
    return "\n".join(f"{name}: {value}" for name, value in values.items())


def wanted(output_type: Any) -> dict[str, tuple[type, str]]:
    """Each field that is to be filled: its type and its description.

    Args:
        output_type: {"answer": "str"} (types: `KINDS`), or a subclass of `Type`.

    Raises:
        UserError: it is neither, or a field's type is none of these.
    """
    if isinstance(output_type, type) and issubclass(output_type, Type):
        found = {
            n: (f.annotation, f.description or "") for n, f in output_type.model_fields.items()
        }
    elif isinstance(output_type, Mapping) and output_type:
        found = {n: (KINDS.get(kind, kind) if isinstance(kind, str) else kind, "")
                 for n, kind in output_type.items()}  # fmt: skip
    else:
        raise UserError(
            f"output_type={output_type!r} must be a dict such as {{'answer': 'str'}}, or a Type."
        )
    for name, (kind, _) in found.items():
        if kind not in KINDS.values():
            raise UserError(
                f"output_type: field {name!r} is of type {getattr(kind, '__name__', kind)!r}. "
                f"There are: str, int, float, bool."
            )
    return found


def filled(
    fields: Mapping[str, tuple[type, str]],
    prompts: list[str],
    ask: Callable[[list[str]], list[str]],
) -> list[dict[str, Any]]:
    """Let a model fill the fields for each prompt, one field after the other.

    A single text field is the answer itself. Otherwise the model is asked for each field in turn
    ("count (a whole number):"), with those filled before it, and its words are read as the type:
    the first number, or the first yes, no, true or false.

    Raises:
        APIError: a model's words hold no value of the field's type.
    """
    alone = len(fields) == 1
    rows: list[dict[str, Any]] = [{} for _ in prompts]
    for name, (kind, description) in fields.items():
        if alone and kind is str:
            asked = prompts
        else:
            asked = [_asked(prompt, row, name, kind, description)
                     for prompt, row in zip(prompts, rows, strict=True)]  # fmt: skip
        for number, (row, words) in enumerate(zip(rows, ask(asked), strict=True), 1):
            row[name] = _read(words, kind, name, number, len(prompts), alone)
    return rows


_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"  # 1,000 is one number, 2,3 are two
_VALUE = {
    bool: r"\b(yes|true|no|false)\b",
    int: rf"[-+]?{_WHOLE}",
    float: rf"[-+]?(?:{_WHOLE}(?:\.\d+)?|\.\d+)",
}
_ASKED = {str: "in a few words", int: "a whole number", float: "a number", bool: "yes or no"}


def _asked(prompt: str, row: Mapping[str, Any], name: str, kind: type, description: str) -> str:
    done = "".join(f"{field}: {value}\n" for field, value in row.items())
    hint = f"{description}, {_ASKED[kind]}" if description.strip() else _ASKED[kind]
    return f"{prompt}\n\n{done}{name} ({hint}):"


def _read(words: str, kind: type, name: str, number: int, count: int, alone: bool) -> Any:
    if kind is str:
        lines = words.strip().splitlines()
        return words if alone else (lines[0].strip() if lines else "")
    match = re.search(_VALUE[kind], words, re.IGNORECASE)
    if not match:
        raise APIError(
            f"Prompt {number} of {count}: the model wrote {words.strip()[:60]!r} for {name!r}, "
            f"which holds no {_ASKED[kind].removeprefix('a ')}. Ask for text ('str'), or choose "
            f"a larger model."
        )
    if kind is bool:
        return match[0].lower() in ("yes", "true")
    return kind(match[0].replace(",", ""))
