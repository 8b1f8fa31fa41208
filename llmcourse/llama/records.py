"""What the course's `load_data…` took, as records; a wrong one is named, none is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcourse import data
from llmcourse.data.readers import Bad
from llmcourse.errors import DataError, SettingError, UserError
from llmcourse.llama.types import Type, as_text, made

AUTOMATIC = ("input", "output")  # the keys in force where a call names none: then they are found


def pairs(
    source: Any, input_key: str = "input", output_key: str = "output"
) -> list[dict[str, str]]:
    """Questions and answers of a file, a data frame or a list of dicts.

    Args:
        source: See `data.load_records`.
        input_key: The question's field. With the usual "input" and "output" the fields are found,
            as at the course's launch: question and answer, instruction and response, input and
            output, or text alone.
        output_key: The answer's field.

    Returns:
        Dicts with "question" and "answer", and "input" where there is one; of texts, with "text".

    Raises:
        UserError: nothing can be read, or a record lacks a field or has a wrong one; the message
            names file, line and field.
    """
    keys = (input_key, output_key)
    if not all(isinstance(key, str) and key.strip() for key in keys):
        raise UserError(f"input_key={input_key!r} and output_key={output_key!r} must be names.")
    if keys[0] == keys[1]:
        raise UserError(f"input_key and output_key are both {input_key!r}: name two fields.")
    given = [source] if isinstance(source, dict) else source
    schema = None if keys == AUTOMATIC else "/".join(keys)
    try:
        found = data.load_records(given, schema=schema)
    except (DataError, SettingError) as error:
        raise UserError(f"{error} (input_key={input_key!r}, output_key={output_key!r})") from None
    wanted = ("question", "input", "answer") if "question" in found.column_names else ("text",)
    return [{name: row[name] for name in wanted if row.get(name)} for row in found]


def texts(source: Any, keys: Sequence[str] | str | None = None) -> list[dict[str, str]]:
    """Texts to go on with, for autocomplete: of strings, dicts, a file or a data frame.

    Args:
        source: A list of texts or of dicts, a file, or a data frame.
        keys: The fields whose texts are taken, each by itself; all fields if not given.

    Raises:
        UserError: nothing can be read, or a field is missing or no text.
    """
    wanted = [keys] if isinstance(keys, str) else keys
    if isinstance(source, str) and not Path(source).suffix:
        raise UserError("A list of texts is wanted, or a file's path.")
    if isinstance(source, Sequence) and not isinstance(source, str):
        source = [{"text": one} if isinstance(one, str) else one for one in source]
    try:
        name, rows = data.open_source(source, "train")
        found = [_texts_of(row, wanted, f"{name}, record {line}") for line, row in rows]
    except (DataError, SettingError) as error:
        raise UserError(str(error)) from None
    if not found:
        raise UserError(f"{name} holds no texts.")
    return [{"text": text} for row in found for text in row]


def _texts_of(row: Any, keys: Sequence[str] | None, where: str) -> list[str]:
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: {row if isinstance(row, str) else type(row).__name__}")
    for key in keys if keys is not None else row:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise UserError(f"{where}, field {key!r}: text belongs here, not {row.get(key)!r:.60}.")
    return [row[key] for key in (keys if keys is not None else row)]


def typed(source: Any, kinds: tuple[type[Type], type[Type]], input_key: str = "input",
          output_key: str = "output") -> list[tuple[Type, Type]]:  # fmt: skip
    """Pairs of typed records: [[input, output]], [{"input": {…}, "output": {…}}], or flat rows.

    In a flat row (of a file or a data frame) each field begins with the key and a hyphen:
    "input-question", "output-answer".

    Raises:
        UserError: a pair has another form, or a field is missing, unknown or of another type.
    """
    given = source if isinstance(source, Sequence) and not isinstance(source, str) else None
    if given is not None and all(isinstance(one, list | tuple) for one in given):
        rows: list[Any] = [("the list", number, one) for number, one in enumerate(given, 1)]
    else:
        try:
            name, opened = data.open_source(source, "train")
            rows = [(name, line, row) for line, row in opened]
        except (DataError, SettingError) as error:
            raise UserError(str(error)) from None
    if not rows:
        raise UserError("There are no pairs.")
    found = []
    for name, line, row in rows:
        where = f"{name}, record {line}"
        two = _two(row, input_key, output_key, where)
        found.append((made(kinds[0], two[0], f"{where}, input"),
                      made(kinds[1], two[1], f"{where}, output")))  # fmt: skip
    return found


def _two(row: Any, input_key: str, output_key: str, where: str) -> Sequence[Any]:
    """The two halves of a pair."""
    if isinstance(row, Bad):
        raise UserError(f"{where}: {row}")
    if isinstance(row, list | tuple) and len(row) == 2:
        return row
    if isinstance(row, Mapping) and input_key in row and output_key in row:
        return row[input_key], row[output_key]
    if isinstance(row, Mapping):
        halves = [
            {name.removeprefix(f"{key}-"): value for name, value in row.items()
             if str(name).startswith(f"{key}-")}
            for key in (input_key, output_key)
        ]  # fmt: skip
        if all(halves):
            return halves
    raise UserError(
        f"{where}: a pair is wanted: [input, output], {{{input_key!r}: {{…}}, {output_key!r}: "
        f"{{…}}}}, or fields that begin with '{input_key}-' and '{output_key}-'."
    )


def of_typed(pair: tuple[Type, Type]) -> dict[str, str]:
    """A typed pair as a record to train on."""
    return {"question": as_text(pair[0]), "answer": as_text(pair[1])}
