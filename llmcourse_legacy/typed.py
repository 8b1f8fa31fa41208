"""Typed questions and answers, as the course's library had them.

    class Question(Type):
        question: str = Context("what is asked")

A `Type` is a pydantic model and a `Context` a field of it with a description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmcourse.data import open_source
from llmcourse.errors import APIError, DataError, SettingError, UserError
from llmcourse.llama.runner import BasicModelRunner

KINDS: dict[Any, type] = {"str": str, "string": str, "int": int, "integer": int, "float": float}
KINDS |= {"bool": bool, "boolean": bool} | {kind: kind for kind in (str, int, float, bool)}


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
    try:
        return values if isinstance(values, kind) else kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        told = f"field {'.'.join(map(str, first['loc']))!r}: {first['msg']}"
    except TypeError:
        told = f"a dict of fields is wanted, not {type(values).__name__}"
    there = ", ".join(kind.model_fields)
    raise UserError(f"{where}: {told}. {kind.__name__} has: {there}.") from None


def as_text(record: Type) -> str:
    """A record as a model reads it: the one field's text, or a line a field."""
    values = record.model_dump()
    if len(values) == 1:
        return str(*values.values())
    return "\n".join(f"{name}: {value}" for name, value in values.items())


# --- filling fields -------------------------------------------------------------------------------

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"  # 1,000 is one number, 2,3 are two
# How a field of each type is asked for, and what is read of an answer.
_ASKED = {str: "in a few words", int: "a whole number", float: "a number", bool: "yes or no"}
_READ: dict[type, str] = {
    bool: r"\b(yes|true|no|false)\b",
    int: rf"[-+]?{_WHOLE}",
    float: rf"[-+]?(?:{_WHOLE}(?:\.\d+)?|\.\d+)",
}


def filled(
    output_type: Any, prompts: Sequence[str], ask: Callable[[Sequence[str]], list[str]]
) -> list[Any]:
    """Let a model fill the fields of a type for each prompt, one field after the other.

    A single text field is the answer itself. Otherwise the model is asked for each field in turn
    ("count (a whole number):"), with those filled before it, and its words are read as the type:
    the first number, or the first yes, no, true or false.

    Args:
        output_type: {"answer": "str"} (types: `KINDS`), or a subclass of `Type`.
        prompts: What to ask about.
        ask: Gives the model's answers.

    Returns:
        A dict for each prompt, or an object of the type.

    Raises:
        UserError: `output_type` is neither, or a field is of another type.
        APIError: an answer holds no value of the field's type.
    """
    if isinstance(output_type, type) and issubclass(output_type, Type):
        wanted = {
            name: (field.annotation, field.description or "")
            for name, field in output_type.model_fields.items()
        }
    else:
        wanted = {name: (kind, "") for name, kind in dict(output_type or {}).items()}
    if not wanted or any(kind not in KINDS for kind, _ in wanted.values()):
        raise UserError(
            f"output_type={output_type!r} must be a Type, or a dict such as {{'answer': 'str'}}. "
            f"A field's type is str, int, float or bool."
        )
    rows: list[dict[str, Any]] = [{} for _ in prompts]
    for name, (named, description) in wanted.items():
        kind = KINDS[named]
        if alone := len(wanted) == 1 and kind is str:
            asked = list(prompts)
        else:
            hint = ", ".join(filter(None, (description.strip(), _ASKED[kind])))
            asked = [
                f"{prompt}\n\n"
                + "".join(f"{k}: {v}\n" for k, v in row.items())
                + f"{name} ({hint}):"
                for prompt, row in zip(prompts, rows, strict=True)
            ]
        for number, (row, words) in enumerate(zip(rows, ask(asked), strict=True), 1):
            row[name] = words if alone else _value(words, kind, f"Prompt {number}", name)
    return [output_type(**row) for row in rows] if isinstance(output_type, type) else rows


def _value(words: str, kind: type, where: str, name: str) -> Any:
    """What an answer says, as a field's type."""
    if kind is str:
        return words.strip().partition("\n")[0].strip()
    match = re.search(_READ[kind], words, re.IGNORECASE)
    if not match:
        raise APIError(
            f"{where}: the model wrote {words.strip()[:60]!r} for {name!r}, which holds no "
            f"{_ASKED[kind].removeprefix('a ')}. Ask for text ('str'), or choose a larger model."
        )
    return match[0].lower() in ("yes", "true") if kind is bool else kind(match[0].replace(",", ""))


# --- runners --------------------------------------------------------------------------------------


class InputOutputRunner(BasicModelRunner):
    """Typed in, typed out.

    Args:
        input_type: A subclass of `Type`.
        output_type: Another.
        model_name: See `BasicModelRunner`, as for all others.
    """

    def __init__(
        self,
        input_type: type[Type],
        output_type: type[Type],
        model_name: str | None = None,
        **more: Any,
    ) -> None:
        for kind in (input_type, output_type):
            if not (isinstance(kind, type) and issubclass(kind, Type)):
                raise UserError(f"{kind!r} must be a subclass of llama.Type.")
        self.types = (input_type, output_type)
        super().__init__(model_name, **more)

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """The output for an input, or for each of a list of them; see `BasicModelRunner`."""
        return self._answered(inputs, *self.types, settings)

    call = __call__

    def _answered(self, inputs: Any, given: Any, wanted: Any, settings: Mapping[str, Any]) -> Any:
        """The records that the model writes; a tuned one writes them as it has learned."""
        many = inputs if isinstance(inputs, list | tuple) else [inputs]
        texts = [as_text(made(given, one, f"input {n}")) for n, one in enumerate(many, 1)]
        how = dict(settings) if self._tuned else {**settings, "output_type": wanted}
        outputs = BasicModelRunner.__call__(self, texts, **how)
        outputs = [one["output"] if isinstance(one, dict) else one for one in outputs]
        if self._tuned:
            outputs = [_parsed(text, wanted) for text in outputs]
        return outputs if many is inputs else outputs[0]

    def load_data(
        self,
        data: Any,
        verbose: bool = False,
        input_key: str | None = None,
        output_key: str | None = None,
    ) -> None:
        """Add typed pairs: [[input, output]], [{"input": {…}, "output": {…}}], or flat rows.

        In a flat row (of a file or a data frame) each field begins with the key and a hyphen:
        "input-question", "output-answer".

        Raises:
            UserError: a pair has another form, or a field is missing, unknown or of another type.
        """
        keys = (input_key or self.keys[0], output_key or self.keys[1])
        if isinstance(data, list | tuple) and all(isinstance(one, list | tuple) for one in data):
            name, rows = "the list", list(enumerate(data, 1))
        else:
            try:
                name, opened = open_source(data, "train")
                rows = list(opened)
            except (DataError, SettingError) as error:
                raise UserError(str(error)) from None
        found = []
        for line, row in rows:
            where = f"{name}, record {line}"
            halves = row
            if isinstance(row, Mapping):
                halves = [row.get(key) or _flat(row, f"{key}-") for key in keys]
            if not isinstance(halves, list | tuple) or len(halves) != 2 or not all(halves):
                forms = f"[input, output], or fields {keys[0]!r} and {keys[1]!r}"
                raise UserError(f"{where}: a pair is wanted: {forms}, not {row!s:.60}")
            texts = [
                as_text(made(kind, half, f"{where}, {key}"))
                for kind, half, key in zip(self.types, halves, keys, strict=True)
            ]
            found.append(dict(zip(("question", "answer"), texts, strict=True)))
        if not found:
            raise UserError("There are no pairs.")
        self._add(found, verbose)

    load_data_from_paired_dicts = load_data_from_paired_lists = load_data
    load_data_from_jsonlines = load_data_from_csv = load_data_from_dataframe = load_data


def _flat(row: Mapping[str, Any], begin: str) -> dict[str, Any]:
    """The fields of a flat row that begin so."""
    return {str(k).removeprefix(begin): v for k, v in row.items() if str(k).startswith(begin)}


def _parsed(text: str, kind: type[Type]) -> Type:
    """A tuned model's words as a record: the one field's text, or a line a field."""
    names = list(kind.model_fields)
    values: dict[str, str] = {names[0]: text} if len(names) == 1 else {}
    last = ""
    for line in text.strip().splitlines() if len(names) > 1 else ():
        name, colon, value = line.partition(": ")
        if colon and name in names:
            last, values[name] = name, value
        elif last:  # goes on with the field before it
            values[last] += f"\n{line}"
    try:
        return made(kind, values, "the answer")
    except UserError as error:
        raise APIError(f"The model wrote {text.strip()[:80]!r}: {error}") from None


class LLMEngine(InputOutputRunner):
    """The launch's engine: an identifier, a model, and types with each call.

    Args:
        id: A name of the learner's own for what it is for.
        model_name: See `BasicModelRunner`, as for all others.
        prompt: A prompt object of the old library, or its template.
    """

    def __init__(
        self, id: str = "", prompt: Any = None, model_name: str | None = None, **more: Any
    ) -> None:
        template = getattr(prompt, "prompt_template", prompt)
        more |= {"prompt_template": template, "task_name": str(id)}
        BasicModelRunner.__init__(self, model_name, **more)
        self.id = id

    def __call__(self, input: Any, output_type: Any = None, **settings: Any) -> Any:
        """Fill `output_type` for an input or for each of a list; plain texts give texts.

        Raises:
            UserError: there is no output type for typed inputs.
        """
        first = input[0] if isinstance(input, list | tuple) and input else input
        if not isinstance(first, Type):
            return BasicModelRunner.__call__(self, input, output_type=output_type, **settings)
        if output_type is None:
            raise UserError("output_type is missing: which Type is to be filled?")
        return self._answered(input, type(first), output_type, settings)

    run = call = __call__

    def load_data(self, data: Sequence[Any], *values: Any, **named: Any) -> None:
        """Add pairs [[input, output], …] of typed records; all have the types of the first.

        Raises:
            UserError: it is no such list.
        """
        first = data[0] if isinstance(data, list | tuple) and data else ()
        if len(first) != 2 or not all(isinstance(half, Type) for half in first):
            raise UserError("A list of pairs [[input, output], …] of typed records is wanted.")
        self.types = (type(first[0]), type(first[1]))
        super().load_data(data, *values, **named)

    save_data = add_data = load_data_from_paired_dicts = load_data_from_paired_lists = load_data

    def train(self, data: Any = None, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        """See `BasicModelRunner.train`; `data` is added first."""
        if data is not None:
            self.load_data(data)
        return super().train(**settings)

    train_and_wait = tune = tune_and_wait = train
