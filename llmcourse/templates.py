"""The one place where a record becomes a prompt and a completion.

A template turns a record's fields into the text a model reads. Which template a model was
trained with matters: the same model given another one behaves like another model (lesson 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from llmcourse.errors import PromptError, SettingError, TemplateError, first_line

Record = Mapping[str, Any]

# Names under which data sets keep the same three things, most usual first.
FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("question", "instruction", "prompt"),
    "input": ("input", "context"),
    "answer": ("answer", "response", "output", "completion"),
}
MOST_NAMES, LONGEST_NAME = 8, 40  # that a message shows, and signs of each


# Noncharacters of Unicode, which no text has: they mark places in a text on its way to tokens.
INSIDE = "\ufdd0"  # stands inside a control token that a text spells out, so that it is text
_TURN = re.compile("\ufdd1(\\d+)\ufdd1")  # an assistant's turn, while a chat template is filled
_MARKS = re.compile("[\ufdd0-\ufdef]")


class ChatTokenizer(Protocol):
    """What is needed of a tokenizer here: its chat template."""

    chat_template: str | None

    def apply_chat_template(self, conversation: list[dict[str, str]], **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Rendered:
    """A record as text.

    Attributes:
        parts: What the model reads and what it should write, by turns, beginning with what it
            reads; the last answer, "" if not known, is without its end token. A control token
            that a text of the record spells out is broken by `INSIDE`, so that no tokenizer
            takes it for one; `encoding.prompt_ids` makes tokens of it that are text.
        special: True where the prompt already holds its special tokens, so that the tokenizer
            must not add a second beginning-of-sequence token.
    """

    parts: tuple[str, ...]
    special: bool = False

    @property
    def prompt(self) -> str:
        """What the model reads before the last answer."""
        return "".join(self.parts[:-1])

    @property
    def completion(self) -> str:
        """What it should write last."""
        return self.parts[-1]


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

    def filled(self, question: str, extra: str = "") -> str:
        """The prompt; a blank input is none."""
        wanted = self.prompt_with_input if not is_blank(extra) else self.prompt
        return fill(wanted, question=question, input=extra)


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


_UNSEEN = re.compile(r"[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")


def is_blank(text: str | None) -> bool:
    """True where a text has nothing to see: no sign but blanks and those without a width."""
    return not text or not (text[0].isalnum() or _UNSEEN.sub("", text))


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


def get_field(record: Record, role: str, *, needed: bool = True) -> str:
    """The text that plays `role` ("question", "input" or "answer") in `record`.

    Args:
        record: The record.
        role: The part wanted.
        needed: False gives "" where there is no such field.

    Raises:
        TemplateError: the field is missing or is not text; the message lists the fields there are.
    """
    if not isinstance(record, Mapping):
        raise TemplateError(
            f"A record must be a mapping of field names to text, not {type(record).__name__}."
        )
    usual = FIELDS.get(role, (role,))
    for candidate in usual:
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
    raise TemplateError(
        f"The record has no field {' or '.join(map(repr, usual))} for the {role}. "
        f"It has: {listed(record) or 'no fields at all'}."
    )


def render(
    record: Record | str,
    template: str = "plain",
    *,
    tokenizer: ChatTokenizer | None = None,
    system: str | None = None,
) -> Rendered:
    """Turn a record, or a bare question, into prompt and completion.

    Args:
        record: A mapping with the fields in `FIELDS`, or the question itself. Earlier turns of a
            conversation are in its `history`, a list of {"role": …, "content": …}.
        template: A name in `NAMES`. "chat" is the tokenizer's own chat template.
        tokenizer: Needed for "chat", and to tell which texts spell out a control token.
        system: What the model is told before the question, unless the record has its own.

    Raises:
        TemplateError: unknown template, missing field, or a model without a chat template.
        PromptError: the question is empty.
    """
    find(template)
    extra = answer = ""
    turns: list[dict[str, str]] = []
    if isinstance(record, str):
        question = record
    else:
        question = get_field(record, "question")
        extra, answer = (get_field(record, role, needed=False) for role in ("input", "answer"))
        turns = list(record.get("history") or ())
    if is_blank(question):
        raise PromptError("The question is empty. A model needs at least one word to go on from.")
    controls = Controls.of(tokenizer)
    question, extra, answer = (controls.as_text(text) for text in (question, extra, answer))
    if system and not any(turn["role"] == "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    turns = [{"role": t["role"], "content": controls.as_text(t["content"])} for t in turns]
    if template == "chat":
        asked = f"{question}\n{extra}" if not is_blank(extra) else question
        turns.append({"role": "user", "content": asked})
        return Rendered((*_chat_parts(turns, tokenizer, controls), answer), special=True)
    pattern = TEMPLATES[template]
    told = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    told = fill(pattern.system, system=told) if told else ""
    parts: list[str] = []
    users: list[str] = []
    for turn in turns:
        if turn["role"] == "assistant":
            parts += [pattern.filled("\n".join(users)), turn["content"] + controls.end]
            users = []
        elif turn["role"] == "user":
            users.append(turn["content"])
    parts += [pattern.filled("\n".join([*users, question]), extra), answer]
    parts[2::2] = [f"\n\n{part}" for part in parts[2::2]]
    if template == "llama2":  # its system text belongs into the first turn's tags
        parts[0] = parts[0].replace("[INST] ", f"[INST] {told}", 1)
    else:
        parts[0] = told + parts[0]
    return Rendered(tuple(parts))


def _chat_parts(
    turns: Sequence[dict[str, str]], tokenizer: Any, controls: Controls
) -> Iterable[str]:
    """What the model reads and what it wrote, by turns, in its own template.

    The template gets a mark for each text of the assistant: so its place is known, whatever the
    template puts around it.

    Raises:
        TemplateError: it has none, refuses the turns, or leaves some out.
    """
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise TemplateError(
            "This model has no chat template: it was never taught to chat. "
            'Use template="plain", or one of ' + ", ".join(repr(n) for n in TEMPLATES) + "."
        )
    wrote = [turn["content"].strip() for turn in turns if turn["role"] == "assistant"]
    numbers = iter(range(len(wrote)))
    messages = [
        turn | {"content": f"\ufdd1{next(numbers)}\ufdd1"} if turn["role"] == "assistant" else turn
        for turn in turns
    ]
    text = _applied(tokenizer, messages, add_generation_prompt=True)
    first, *others = _TURN.split(text)
    if others[::2] != [str(number) for number in range(len(wrote))]:
        raise TemplateError(
            f"The model's own chat template leaves turns of this conversation out. Use another "
            f"template: {', '.join(TEMPLATES)}."
        )
    parts = [first]
    for content, after in zip(wrote, others[1::2], strict=True):
        # the end of a turn is trained on too, as the model writes it itself
        end = re.match(rf"\s*{re.escape(controls.end)}", after) if controls.end else None
        size = end.end() if end else 0
        parts += [content + after[:size], after[size:]]
    return parts


def _applied(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
    """The text that the tokenizer's chat template makes of a conversation.

    Raises:
        TemplateError: it refuses the messages.
    """
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # a template is a program of the model's maker: anything may happen
        raise TemplateError(
            f"The model's own chat template refused this ({first_line(error)}). Ask without a "
            f"system text, or use another template: {', '.join(TEMPLATES)}."
        ) from error


# --- control tokens -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Controls:
    """The tokens that steer a model, such as the ends of turns: no text of a learner makes one.

    Attributes:
        ids: Spelling -> id: the special tokens, and added ones that its chat template puts around
            a turn. Added tokens for ordinary text (blank lines, tags for thoughts) are none.
        end: What ends an answer in its chat template, or its end-of-sequence token; "" for none.
        form: Finds them in a text; None where there are none.
        begins: The signs that they begin with.
        template: The chat template that this is about.
    """

    ids: dict[str, int]
    end: str
    form: re.Pattern[str] | None
    begins: tuple[str, ...]
    template: str | None

    @classmethod
    def of(cls, tokenizer: Any) -> Controls:
        """Those of a tokenizer; none for None."""
        if tokenizer is None:
            return _NO_CONTROLS
        template = getattr(tokenizer, "chat_template", None)
        found = _known_controls.get(tokenizer)
        if found is None or found.template is not template:
            found = _known_controls[tokenizer] = cls._made(tokenizer, template)
        return found

    @classmethod
    def _made(cls, tokenizer: Any, template: Any) -> Controls:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        around = _around_turns(tokenizer) if template else ("", "")
        unknown = getattr(tokenizer, "unk_token", None)  # steers nothing, unless it ends texts too
        if unknown in (
            getattr(tokenizer, "bos_token", None),
            getattr(tokenizer, "eos_token", None),
        ):
            unknown = None
        ids = {
            token.content: number
            for number, token in added.items()
            if token.content.strip()
            and token.content != unknown
            and (token.special or token.content in "".join(around))
        }
        spelt = "|".join(map(re.escape, sorted(ids, key=len, reverse=True)))
        form = re.compile(spelt) if ids else None
        end = form.search(around[1]) if form else None
        own = getattr(tokenizer, "eos_token", None) or ""
        begins = tuple({spelling[0] for spelling in ids})
        return cls(ids, end[0] if end else own, form, begins, template)

    def as_text(self, text: str) -> str:
        """`text`, in which every control token that it spells out is broken by `INSIDE`."""
        if not text.isascii():
            text = _MARKS.sub("", text)
        # (most texts have no sign that a control token begins with, and searching takes time)
        if self.form is None or not any(sign in text for sign in self.begins):
            return text
        return self.form.sub(lambda found: f"{found[0][0]}{INSIDE}{found[0][1:]}", text)


_NO_CONTROLS = Controls({}, "", None, (), None)
_known_controls: WeakKeyDictionary[Any, Controls] = WeakKeyDictionary()


def _around_turns(tokenizer: Any) -> tuple[str, str]:
    """What a chat template puts before a text of the assistant, and behind it; "" for unknown."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\ufdd10\ufdd1"}]
    try:
        before, _, after = _TURN.split(_applied(tokenizer, turns))
    except (TemplateError, ValueError):
        return "", ""
    return before.replace("<think>", "").replace("</think>", ""), after


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
