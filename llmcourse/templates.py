"""The one place where a record becomes a prompt and a completion.

A template turns a record's fields into the text a model reads. Which template a model was
trained with matters: the same model given another one behaves like another model (lesson 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmcourse.errors import PromptError, SettingError, TemplateError, first_line

Record = Mapping[str, Any]

# Names under which data sets keep the same three things, most usual first.
FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("question", "instruction", "prompt"),
    "input": ("input", "context"),
    "answer": ("answer", "response", "output", "completion"),
}
MOST_NAMES, LONGEST_NAME = 8, 40  # that a message shows, and signs of each


class ChatTokenizer(Protocol):
    """What is needed of a tokenizer here: its chat template."""

    chat_template: str | None

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Rendered:
    """A record as text.

    Attributes:
        prompt: What the model reads.
        completion: What it should write, without the end-of-sequence token; "" if not known.
        special: True where `prompt` already holds its special tokens, so that the
            tokenizer must not add a second beginning-of-sequence token.
    """

    prompt: str
    completion: str = ""
    special: bool = False


@dataclass(frozen=True)
class Template:
    """A prompt pattern.

    Attributes:
        name: How it is asked for.
        prompt: Format string with `{question}`, and `{input}` where there is one.
        prompt_with_input: Used instead where the record has a non-empty input.
        system: Format string put before the prompt where a system text is given.
        source: Where the pattern comes from.
    """

    name: str
    prompt: str
    prompt_with_input: str = ""
    system: str = "{system}\n\n"
    source: str = field(default="", compare=False)


TEMPLATES: dict[str, Template] = {
    "plain": Template("plain", "{question}", "{question}\n{input}"),
    "qa": Template(
        "qa",
        "### Question:\n{question}\n\n### Answer:\n",
        "### Question:\n{question}\n{input}\n\n### Answer:\n",
        source="headings as many instruction data sets have them",
    ),
    "alpaca": Template(
        "alpaca",
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\n{question}\n\n### Response:\n",
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{question}\n\n### Input:\n{input}\n\n### Response:\n",
        source="the format that Alpaca-style models are trained with, letter for letter "
        "(https://github.com/tatsu-lab/stanford_alpaca)",
    ),
    "llama2": Template(
        "llama2",
        "[INST] {question} [/INST]",
        "[INST] {question}\n{input} [/INST]",
        system="<<SYS>>\n{system}\n<</SYS>>\n\n",
        source="the format of Llama 2's chat models "
        "(https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-2/)",
    ),
}
NAMES = (*TEMPLATES, "chat")


def fill(pattern: str, **parts: str) -> str:
    """Put `parts` into `pattern` in one pass, so that braces in a learner's text stay text."""
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], pattern)


def find(name: str) -> str:
    """Return `name` if it is a template.

    Raises:
        TemplateError: it is none.
    """
    if name not in NAMES:
        raise TemplateError(f"There is no template {name!r}. There are: {', '.join(NAMES)}.")
    return name


def listed(names: Iterable[Any]) -> str:
    """Names of fields for a message, in quotes: the first few, each cut short; "" for none.

    Control characters come out as Python writes them (`\\n`).
    """
    names = list(names)
    shown = [repr(name) for name in names[:MOST_NAMES]]
    shown = [n if len(n) <= LONGEST_NAME + 2 else f"{n[: LONGEST_NAME + 1]}…{n[0]}" for n in shown]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def get_field(record: Record, role: str, name: str | None = None, *, needed: bool = True) -> str:
    """The text that plays `role` ("question", "input" or "answer") in `record`.

    Args:
        record: The record.
        role: The part wanted.
        name: The field's name; without it the usual names in `FIELDS` are tried.
        needed: False gives "" where there is no such field.

    Raises:
        TemplateError: the field is missing or is not text; the message lists the fields there are.
    """
    if not isinstance(record, Mapping):
        raise TemplateError(
            f"A record must be a mapping of field names to text, not {type(record).__name__}."
        )
    for candidate in (name,) if name else FIELDS[role]:
        if candidate in record:
            value = record[candidate]
            if value is None and not needed:
                return ""
            if not isinstance(value, str):
                raise TemplateError(
                    f"Field {candidate!r} must be text, but it is "
                    f"{type(value).__name__}: {value!r:.60}"
                )
            return value
    if not needed:
        return ""
    wanted = repr(name) if name else " or ".join(map(repr, FIELDS[role]))
    raise TemplateError(
        f"The record has no field {wanted} for the {role}. "
        f"It has: {listed(record) or 'no fields at all'}."
    )


def render(
    record: Record | str,
    template: str = "plain",
    *,
    tokenizer: ChatTokenizer | None = None,
    system: str | None = None,
    question_field: str | None = None,
    input_field: str | None = None,
    answer_field: str | None = None,
) -> Rendered:
    """Turn a record, or a bare question, into prompt and completion.

    Args:
        record: A mapping with the fields in `FIELDS`, or the question itself.
        template: A name in `NAMES`. "chat" is the tokenizer's own chat template.
        tokenizer: Needed for "chat" only.
        system: What the model is told before the question.
        question_field: Name of the question's field where it is not one of the usual ones.
        input_field: The same for the input.
        answer_field: The same for the answer.

    Raises:
        TemplateError: unknown template, missing field, or a model without a chat template.
        PromptError: the question is empty.
    """
    find(template)
    if isinstance(record, str):
        question, extra, answer = record, "", ""
    else:
        question = get_field(record, "question", question_field)
        extra = get_field(record, "input", input_field, needed=input_field is not None)
        answer = get_field(record, "answer", answer_field, needed=answer_field is not None)
    if not question.strip():
        raise PromptError("The question is empty. A model needs at least one word to go on from.")
    if template == "chat":
        return _render_chat(question, extra, answer, tokenizer, system)
    pattern = TEMPLATES[template]
    if system:
        system = fill(pattern.system, system=system)
        question = system + question if template == "llama2" else question
    wanted = pattern.prompt_with_input if extra else pattern.prompt
    text = fill(wanted, question=question, input=extra)
    if system and template != "llama2":
        text = system + text
    return Rendered(text, answer)


def _render_chat(
    question: str, extra: str, answer: str, tokenizer: ChatTokenizer | None, system: str | None
) -> Rendered:
    """Prompt and completion in the model's own template.

    Raises:
        TemplateError: it has none, or refuses the messages.
    """
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise TemplateError(
            "This model has no chat template: it was never taught to chat. "
            'Use template="plain", or one of ' + ", ".join(repr(n) for n in TEMPLATES) + "."
        )
    messages = [{"role": "user", "content": f"{question}\n{extra}" if extra else question}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program of the model's maker: anything may happen
        raise TemplateError(
            f"The model's own chat template refused this ({first_line(error)}). Ask without a "
            f"system text, or use another template: {', '.join(TEMPLATES)}."
        ) from error
    return Rendered(text, answer, special=True)


def tokenizer_of(given: Any) -> Any:
    """The tokenizer that is meant: `given` itself, or that of a model from `models.load`.

    Raises:
        SettingError: it is neither.
    """
    found = getattr(given, "tokenizer", given)
    if callable(found) and hasattr(found, "eos_token_id"):
        return found
    if isinstance(given, str):
        raise SettingError(
            f"{given!r} is a name, and a tokenizer is wanted. Load it first: "
            f"models.load_tokenizer({given!r})."
        )
    raise SettingError(
        f"A tokenizer is wanted, or a model from models.load, not {type(given).__name__}. Load "
        f'one: models.load_tokenizer("base").'
    )
