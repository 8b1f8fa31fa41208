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
from llmcourse.errors import APIError, UserError
from llmcourse.llama.runner import BasicModelRunner

KINDS: dict[Any, type] = {"str": str, "string": str, "int": int, "integer": int, "float": float}
KINDS |= {"bool": bool, "boolean": bool} | {kind: kind for kind in (str, int, float, bool)}


class Type(BaseModel):
    """A record with named, typed fields; a subclass has the fields."""

    model_config = ConfigDict(extra="forbid")  # a misspelt field is an error, not a lost value


def Context(description: str = "", **more: Any) -> Any:
    """A field with its description, which the model that fills it reads too."""
    return Field(description=description, **more)


def validated(kind: type[Type], values: Any, where: str) -> Type:
    """A record of `kind` from a dict of its fields.

    Raises:
        UserError: a field is missing, unknown or of another type; the message names it.
    """
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate(dict(values) if isinstance(values, Mapping) else values)
    except ValidationError as error:
        first = error.errors()[0]
        field = f"field {'.'.join(map(str, first['loc']))!r}: " if first["loc"] else ""
        there = ", ".join(kind.model_fields)
        raise UserError(f"{where}: {field}{first['msg']}. {kind.__name__} has: {there}.") from None


def as_text(record: Type) -> str:
    """A record as the model's text: the one field's text, or a line per field."""
    values = record.model_dump()
    if len(values) == 1:
        return str(*values.values())
    return "\n".join(f"{name}: {value}" for name, value in values.items())


# --- filling fields -------------------------------------------------------------------------------

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"  # 1,000 is one number, 2,3 are two
# How the prompt asks for a field of each type, and the pattern that finds its value in an answer.
_HINTS = {str: "in a few words", int: "a whole number", float: "a number", bool: "yes or no"}
_PATTERNS: dict[type, str] = {
    bool: r"\b(yes|true|no|false)\b",
    int: rf"[-+]?{_WHOLE}",
    float: rf"[-+]?(?:{_WHOLE}(?:\.\d+)?|\.\d+)",
}


def filled(
    output_type: Any, prompts: Sequence[str], ask: Callable[[Sequence[str]], list[str]]
) -> list[Any]:
    """Let a model fill the fields of a type for each prompt, one field after the other.

    A single text field is the answer itself. Otherwise the prompt asks for each field in turn
    ("count (a whole number):"), after those filled before it, and the value is found in the
    answer: the first number, or the first yes, no, true or false.

    Args:
        output_type: {"answer": "str"} (types: `KINDS`), or a subclass of `Type`.
        prompts: The prompts.
        ask: Returns the model's answers to prompts.

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
        if len(wanted) == 1 and kind is str:
            rows = [{name: answer} for answer in ask(prompts)]
            break
        hint = ", ".join(filter(None, (description.strip(), _HINTS[kind])))
        asking = []
        for prompt, row in zip(prompts, rows, strict=True):
            before = "".join(f"{key}: {value}\n" for key, value in row.items())
            asking.append(f"{prompt}\n\n{before}{name} ({hint}):")
        for number, (row, answer) in enumerate(zip(rows, ask(asking), strict=True), 1):
            row[name] = _value(answer, kind, f"Prompt {number}", name)
    return [output_type(**row) for row in rows] if isinstance(output_type, type) else rows


def _value(answer: str, kind: type, where: str, name: str) -> Any:
    """The value of a field's type in an answer."""
    if kind is str:  # small models go on after the value; it ends with its line
        return answer.strip().partition("\n")[0].strip()
    match = re.search(_PATTERNS[kind], answer, re.IGNORECASE)
    if not match:
        raise APIError(
            f"{where}: the model wrote {answer.strip()[:60]!r} for {name!r}, which holds no "
            f"{_HINTS[kind].removeprefix('a ')}. Ask for text ('str'), or choose a larger model."
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
        """The records that the model writes; a tuned one has learned their form."""
        many = inputs if isinstance(inputs, list | tuple) else [inputs]
        texts = [as_text(validated(given, one, f"input {n}")) for n, one in enumerate(many, 1)]
        # A tuned model has learned to write all fields at once; another is asked for each in turn.
        how = dict(settings) if self._tuned else {**settings, "output_type": wanted}
        outputs = BasicModelRunner.__call__(self, texts, **how)
        # Under `settings.launch_shape`, answers to a list come as dicts.
        outputs = [one["output"] if isinstance(one, dict) else one for one in outputs]
        if self._tuned:
            outputs = [_parsed(text, wanted) for text in outputs]
        return outputs if many is inputs else outputs[0]

    def _records(self, source: Any, keys: tuple[str, str]) -> list[dict[str, str]]:
        """Typed pairs: [[input, output]], [{"input": {…}, "output": {…}}], or flat rows.

        In a flat row (of a file or a data frame) each field begins with the key and a hyphen:
        "input-question", "output-answer".

        Raises:
            UserError: a pair has another form, or a field is missing, unknown or of another type.
        """
        if isinstance(source, list | tuple) and all(isinstance(x, list | tuple) for x in source):
            name, rows = "the list", list(enumerate(source, 1))
        else:
            name, opened = open_source(source, "train")
            rows = list(opened)
        if not rows:
            raise UserError("There are no pairs.")
        return [self._pair(row, keys, f"{name}, record {line}") for line, row in rows]

    def _pair(self, row: Any, keys: tuple[str, str], where: str) -> dict[str, str]:
        halves = row
        if isinstance(row, Mapping):
            halves = [row.get(key) or _flat(row, f"{key}-") for key in keys]
        if not isinstance(halves, list | tuple) or len(halves) != 2 or not all(halves):
            forms = f"[input, output], or have the fields {keys[0]!r} and {keys[1]!r}"
            raise UserError(f"{where}: a pair must be {forms}, not {row!s:.60}")
        question, answer = (
            as_text(validated(kind, half, f"{where}, {key}"))
            for kind, half, key in zip(self.types, halves, keys, strict=True)
        )
        return {"question": question, "answer": answer}

    load_data_from_paired_dicts = load_data_from_paired_lists = BasicModelRunner.load_data


def _flat(row: Mapping[str, Any], begin: str) -> dict[str, Any]:
    """The fields of a flat row that begin with `begin`, without it."""
    return {str(k).removeprefix(begin): v for k, v in row.items() if str(k).startswith(begin)}


def _parsed(text: str, kind: type[Type]) -> Type:
    """A tuned model's answer as a record: the one field's text, or a line per field."""
    names = list(kind.model_fields)
    values: dict[str, str] = {names[0]: text} if len(names) == 1 else {}
    last = ""
    for line in text.strip().splitlines() if len(names) > 1 else ():
        name, colon, value = line.partition(": ")
        if colon and name in names:
            last, values[name] = name, value
        elif last:  # continues the field before it
            values[last] += f"\n{line}"
    try:
        return validated(kind, values, "the answer")
    except UserError as error:
        raise APIError(f"The model wrote {text.strip()[:80]!r}: {error}") from None


class LLMEngine(InputOutputRunner):
    """The launch's engine: an identifier, a model, and types with each call.

    Args:
        id: A name that the learner chooses.
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
            raise UserError("output_type is missing: name the Type to fill.")
        return self._answered(input, type(first), output_type, settings)

    run = call = __call__

    def load_data(self, data: Sequence[Any], *values: Any, **named: Any) -> None:
        """Add pairs [[input, output], …] of typed records; all have the types of the first.

        Raises:
            UserError: it is no such list.
        """
        first = data[0] if isinstance(data, list | tuple) and data else ()
        if len(first) != 2 or not all(isinstance(half, Type) for half in first):
            raise UserError("Data must be a list of pairs [[input, output], …] of typed records.")
        self.types = (type(first[0]), type(first[1]))
        super().load_data(data, *values, **named)

    save_data = add_data = load_data_from_paired_dicts = load_data_from_paired_lists = load_data

    def train(self, data: Any = None, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        """See `BasicModelRunner.train`; `data` is added first."""
        if data is not None:
            self.load_data(data)
        return super().train(**settings)

    train_and_wait = tune = tune_and_wait = train
