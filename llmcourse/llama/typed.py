"""Runners whose questions and answers are typed records: `InputOutputRunner` and `LLMEngine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcourse.errors import APIError, UserError
from llmcourse.llama import records, types
from llmcourse.llama.runners import BasicModelRunner


class InputOutputRunner(BasicModelRunner):
    """Typed in, typed out.

    Args:
        input_type: A subclass of `Type`.
        output_type: Another.
        model_name: See `BasicModelRunner`, as for all others.
    """

    def __init__(self, input_type: type[types.Type], output_type: type[types.Type],
                 model_name: str | None = None, **more: Any) -> None:  # fmt: skip
        for name, kind in (("input_type", input_type), ("output_type", output_type)):
            if not (isinstance(kind, type) and issubclass(kind, types.Type)):
                raise UserError(f"{name}={kind!r} must be a subclass of llama.Type.")
        types.wanted(output_type)
        self.input_type, self.output_type = input_type, output_type
        super().__init__(model_name, **more)

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """The output for an input, or for each of a list of them; see `BasicModelRunner`."""
        return self._answered(inputs, self.input_type, self.output_type, settings)

    call = __call__

    def _answered(self, inputs: Any, input_type: Any, output_type: Any,
                  settings: Mapping[str, Any]) -> Any:  # fmt: skip
        alone = not isinstance(inputs, list | tuple)
        given = [types.made(input_type, one, f"input {number}")
                 for number, one in enumerate([inputs] if alone else inputs, 1)]  # fmt: skip
        texts = [types.as_text(one) for one in given]
        if not self._tuned:
            answered = super().__call__
            found = types.filled(
                types.wanted(output_type), texts, lambda asked: _plain(answered(asked, **settings))
            )
            outputs = [output_type(**row) for row in found]
        else:
            answers = _plain(super().__call__(texts, **settings))
            outputs = [_parsed(text, output_type) for text in answers]
        return outputs[0] if alone else outputs

    def load_data(self, data: Any, verbose: bool = False, input_key: str = "input",
                  output_key: str = "output") -> None:  # fmt: skip
        """Add typed pairs; see `records.typed` for their forms."""
        pairs = records.typed(data, (self.input_type, self.output_type), input_key, output_key)
        self._add([records.of_typed(pair) for pair in pairs], verbose)

    load_data_from_paired_dicts = load_data

    def load_data_from_paired_lists(self, data: Any, verbose: bool = False) -> None:
        """Add pairs [[input fields, output fields], …]."""
        self.load_data(data, verbose)


def _plain(answers: list[Any]) -> list[str]:
    """The texts, in whichever of the two shapes they came."""
    return [one["output"] if isinstance(one, dict) else one for one in answers]


def _parsed(text: str, kind: type[types.Type]) -> types.Type:
    """A tuned model's words as a record: the one field's text, or a line a field."""
    names = list(kind.model_fields)
    values = {names[0]: text} if len(names) == 1 else _of_lines(text, names)
    try:
        return types.made(kind, values, "the answer")
    except UserError as error:
        raise APIError(f"The model wrote {text.strip()[:80]!r}: {error}") from None


def _of_lines(text: str, names: Sequence[str]) -> dict[str, str]:
    """A line a field, "name: value"; other lines go on with the field before them."""
    values: dict[str, str] = {}
    last = ""
    for line in text.strip().splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in names:
            last, values[name] = name, value
        elif last:
            values[last] += f"\n{line}"
    return values


class LLMEngine(InputOutputRunner):
    """The launch's engine: an identifier, a model, and types with each call.

    Args:
        id: A name of the learner's own for what it is for.
        model_name: See `BasicModelRunner`, as for all others.
        prompt: A prompt object of the old library, or its template.
    """

    def __init__(self, id: str = "", prompt: Any = None, model_name: str | None = None,
                 config: Mapping[str, Any] | None = None, **more: Any) -> None:  # fmt: skip
        template = getattr(prompt, "prompt_template", prompt)
        BasicModelRunner.__init__(self, model_name, prompt_template=template, config=config,
                                  task_name=str(id), **more)  # fmt: skip
        self.id = id

    def __call__(self, input: Any, output_type: Any = None, **settings: Any) -> Any:
        """Fill `output_type` for an input or for each of a list; plain texts give texts.

        Raises:
            UserError: there is no output type for typed inputs.
        """
        first = input[0] if isinstance(input, list | tuple) and input else input
        if not isinstance(first, types.Type):
            return BasicModelRunner.__call__(self, input, output_type=output_type, **settings)
        if output_type is None:
            raise UserError("output_type is missing: which Type is to be filled?")
        return self._answered(input, type(first), output_type, settings)

    run = call = __call__

    def load_data(self, data: Sequence[Any], verbose: bool = False, input_key: str = "input",
                  output_key: str = "output") -> None:  # fmt: skip
        """Add pairs [[input, output], …] of typed records; all have the types of the first.

        Raises:
            UserError: it is no such list.
        """
        first = data[0] if isinstance(data, list | tuple) and data else None
        pair = isinstance(first, list | tuple) and len(first) == 2
        if not pair or not all(isinstance(half, types.Type) for half in first):
            raise UserError("A list of pairs [[input, output], …] of typed records is wanted.")
        self.input_type, self.output_type = type(first[0]), type(first[1])
        super().load_data(data, verbose, input_key, output_key)

    save_data = add_data = load_data_from_paired_dicts = load_data

    def train(self, data: Any = None, **settings: Any) -> dict[str, Any]:  # type: ignore[override]
        """See `BasicModelRunner.train`; `data` is added first."""
        if data is not None:
            self.load_data(data)
        return super().train(**settings)

    train_and_wait = tune = tune_and_wait = train
