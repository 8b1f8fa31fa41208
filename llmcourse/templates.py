"""Prompt templates: the one place where a record becomes a prompt and a completion.

A template turns a record's fields into the text a model reads. Which template a model was
trained with matters: the same model given another one behaves like another model (lesson 1).
"""

from __future__ import annotations

import functools
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from llmcourse import turns
from llmcourse.errors import PromptError, SettingError, TemplateError, first_line

Record = Mapping[str, Any]

# Names under which data sets keep the same three things, most usual first.
FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("question", "instruction", "prompt"),
    "input": ("input", "context"),
    "answer": ("answer", "response", "output", "completion"),
}

# Noncharacters of Unicode, which no text has: they mark places in a text on its way to tokens.
INSIDE = "\ufdd0"  # inside a control token that a text spells out, so that it is read as text
_TURN = re.compile("\ufdd1(\\d+)\ufdd1")  # an assistant's turn, while a chat template is filled
_MARKS = re.compile("[\ufdd0-\ufdef]")


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
        prompt: Format string with `{system}` and `{question}`.
        prompt_with_input: Used instead where the record has an input, which is `{input}`; if not
            given, the input is a line below the question.
        system: Format string for a system prompt.
    """

    prompt: str
    prompt_with_input: str = ""
    system: str = "{system}\n\n"

    def filled(self, system: str, question: str, extra: str = "") -> str:
        """One turn's prompt; a blank system prompt or input is none."""
        below = self.prompt_with_input or self.prompt.replace("{question}", "{question}\n{input}")
        pattern = self.prompt if is_blank(extra) else below
        before = fill(self.system, system=system) if system else ""
        return fill(pattern, system=before, question=question, input=extra)


TEMPLATES: dict[str, Template] = {
    "plain": Template("{system}{question}"),
    # Headings as many instruction data sets have them.
    "qa": Template("{system}### Question:\n{question}\n\n### Answer:\n"),
    # What Alpaca-style models are trained with, letter for letter:
    # https://github.com/tatsu-lab/stanford_alpaca
    "alpaca": Template(
        "{system}Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.\n\n### Instruction:\n{question}\n\n### Response:\n",
        "{system}Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{question}\n\n### Input:\n{input}\n\n### Response:\n",
    ),
    # Llama 2's chat models:
    # https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-2/
    "llama2": Template(
        "[INST] {system}{question} [/INST]", system="<<SYS>>\n{system}\n<</SYS>>\n\n"
    ),
}
NAMES = (*TEMPLATES, "chat")


def fill(pattern: str, **parts: str) -> str:
    """Put `parts` into `pattern` in one pass, so that braces in a learner's text stay text."""
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], pattern)


_UNSEEN = re.compile(r"[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")


def is_blank(text: str | None) -> bool:
    """True where a text shows nothing: only blanks and characters without a width."""
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
    """Names of fields for a message: the first eight, each shortened; "" for none."""
    names = list(names)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(reprlib.repr, names[:8])) + more


def get_field(record: Record, role: str, *, needed: bool = True) -> str:
    """The text that is the `role` ("question", "input" or "answer") in `record`.

    Args:
        record: The record.
        role: The part wanted.
        needed: False gives "" where there is no such field.

    Raises:
        TemplateError: the field is missing or is not text; the message lists the fields there are.
    """
    value = next((record[name] for name in FIELDS[role] if name in record), None)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise TemplateError(
            f"A record needs text in the field {' or '.join(map(repr, FIELDS[role]))} for the "
            f"{role}. It has: {listed(record) or 'no fields at all'}."
        )
    return value


def fields_of(prompt: Any) -> Record:
    """A record for whatever can be asked: a question, a record, or a conversation.

    Args:
        prompt: The question; a mapping; or a list of turns, bare or as `messages` of a mapping. The
            last turn of the user is asked, with those before it.

    Raises:
        TemplateError: it is none of these, or a turn can't be read.
    """
    if isinstance(prompt, str):
        return {"question": prompt}
    if isinstance(prompt, Mapping) and ("messages" not in prompt or "question" in prompt):
        return prompt
    try:
        if isinstance(prompt, Mapping):
            return turns.read(prompt["messages"], prompt.get("system")).record()
        if turns.is_conversation(prompt):
            return turns.read(prompt).record()
    except ValueError as error:
        raise TemplateError(f"This conversation can't be asked: {error}.") from error
    raise TemplateError(
        f"A question is text or a record with its fields, or a list of turns, not {prompt!r:.60}."
    )


def render(
    record: Any,
    template: str = "plain",
    *,
    tokenizer: Any = None,
    system: str | None = None,
) -> Rendered:
    """Turn a record, or a bare question, into prompt and completion.

    Args:
        record: A mapping with the fields in `FIELDS`, the question itself, or a conversation; see
            `fields_of`. Earlier turns are in a record's `history`, a list of {"role": …, "content":
            …}.
        template: A name in `NAMES`. "chat" is the tokenizer's own chat template.
        tokenizer: Needed for "chat", and to tell which texts spell out a control token.
        system: System prompt before the question, unless the record has its own.

    Raises:
        TemplateError: unknown template, missing field, or a model without a chat template.
        PromptError: the question is empty.
    """
    find(template)
    controls = Controls.of(tokenizer)
    fields = fields_of(record)
    question, extra, answer = (
        controls.as_text(get_field(fields, role, needed=role == "question")) for role in FIELDS
    )
    if is_blank(question):
        raise PromptError("The question is empty. A model needs at least one word to go on from.")
    before = [
        {"role": turn["role"], "content": controls.as_text(turn["content"])}
        for turn in fields.get("history") or ()
    ]
    if system and not any(turn["role"] == "system" for turn in before):
        before.insert(0, {"role": "system", "content": controls.as_text(system)})
    if template == "chat":
        content = question if is_blank(extra) else f"{question}\n{extra}"
        before.append({"role": "user", "content": content})
        return Rendered((*_chat_parts(before, tokenizer, controls), answer), special=True)

    pattern = TEMPLATES[template]
    told = "\n\n".join(turn["content"] for turn in before if turn["role"] == "system")
    end = getattr(tokenizer, "eos_token", None) or ""  # (not that of a chat template's turns)
    parts: list[str] = []
    users: list[str] = []  # of turns that no answer followed yet
    for turn in before:
        if turn["role"] == "user":
            users.append(turn["content"])
        elif turn["role"] == "assistant":
            gap = "\n\n" if parts else ""
            parts += [
                gap + pattern.filled(told, "\n".join(users)),
                turn["content"] + end,
            ]
            told, users = "", []  # the system prompt is in the first turn alone
    gap = "\n\n" if parts else ""
    parts += [gap + pattern.filled(told, "\n".join([*users, question]), extra), answer]
    return Rendered(tuple(parts))


def _chat_parts(
    said: Sequence[dict[str, str]], tokenizer: Any, controls: Controls
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
    wrote = [turn["content"].strip() for turn in said if turn["role"] == "assistant"]
    numbers = iter(range(len(wrote)))
    messages = [
        turn | {"content": f"\ufdd1{next(numbers)}\ufdd1"} if turn["role"] == "assistant" else turn
        for turn in said
    ]
    text = _applied(tokenizer, messages, add_generation_prompt=True)
    first, *others = _TURN.split(text)  # then by turns a mark's number and what follows it
    if others[::2] != [str(number) for number in range(len(wrote))]:
        raise TemplateError(
            f"The model's own chat template leaves turns of this conversation out. Use another "
            f"template: {', '.join(TEMPLATES)}."
        )
    parts = [first]
    for content, after in zip(wrote, others[1::2], strict=True):
        # The end of a turn is trained on too, as the model writes it itself.
        end = re.match(rf"\s*{re.escape(controls.end)}", after) if controls.end else None
        size = end.end() if end else 0
        parts += [content + after[:size], after[size:]]
    return parts


def _applied(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
    """The text that the tokenizer's chat template makes of a conversation.

    Raises:
        TemplateError: it refuses the messages.
    """
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, str) and "strftime_now(" in own:
        # A fixed day, that of Llama's own templates where no clock is given: with today's, the
        # same records would be other tokens tomorrow, and a training would not go on.
        options["chat_template"] = re.sub(r"strftime_now\([^)]*\)", "'26 Jul 2024'", own)
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # a template is a program of the model's maker: anything may happen
        raise TemplateError(
            f"The model's own chat template refused this ({first_line(error)}). Ask without a "
            f"system prompt, or use another template: {', '.join(TEMPLATES)}."
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
        template: The chat template that this is about.
    """

    ids: dict[str, int]
    end: str
    form: re.Pattern[str] | None
    template: str | None

    @classmethod
    def of(cls, tokenizer: Any) -> Controls:
        """Those of a tokenizer; none for None."""
        if tokenizer is None:
            return _NO_CONTROLS
        found = _known_controls.get(tokenizer)
        if found is None or found.template is not getattr(tokenizer, "chat_template", None):
            found = _known_controls[tokenizer] = cls._made(tokenizer)
        return found

    @classmethod
    def _made(cls, tokenizer: Any) -> Controls:
        template, bos, eos, unknown = (
            getattr(tokenizer, name, None)
            for name in ("chat_template", "bos_token", "eos_token", "unk_token")
        )
        before, after = _around_turns(tokenizer) if template else ("", "")
        ids = {
            token.content: number
            for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items()
            if token.content.strip()
            and (token.special or token.content in before + after)
            # the unknown token steers nothing, unless it begins or ends texts too
            and (token.content != unknown or unknown in (bos, eos))
        }
        # The longest first: of "<|a|>" and "<|a|><|b|>" a text may spell out either.
        spelt = "|".join(map(re.escape, sorted(ids, key=len, reverse=True)))
        form = re.compile(spelt) if ids else None
        end = form.search(after) if form else None
        return cls(ids, end[0] if end else eos or "", form, template)

    def as_text(self, text: str) -> str:
        """`text`, in which every control token that it spells out is broken by `INSIDE`."""
        if not text.isascii():
            text = _MARKS.sub("", text)
        # Gemma has 6,248 control tokens: searching for them takes 500 times as long as seeing that
        # a text has no character that one of them begins with.
        if self.form is None or not any(first in text for first in self.firsts):
            return text
        return self.form.sub(lambda found: f"{found[0][0]}{INSIDE}{found[0][1:]}", text)

    @functools.cached_property
    def firsts(self) -> set[str]:
        """The characters that control tokens begin with."""
        return {spelling[0] for spelling in self.ids}


_NO_CONTROLS = Controls({}, "", None, None)
_known_controls: WeakKeyDictionary[Any, Controls] = WeakKeyDictionary()


def _around_turns(tokenizer: Any) -> tuple[str, str]:
    """What a chat template puts before a text of the assistant, and after it; "" for unknown."""
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\ufdd10\ufdd1"}]
    try:
        before, _, after = _TURN.split(_applied(tokenizer, said))
    except (TemplateError, ValueError):
        return "", ""
    # An empty thought before an answer is the template's; thoughts themselves are text.
    return before.replace("<think>", "").replace("</think>", ""), after


def tokenizer_of(given: Any) -> Any:
    """The tokenizer that is meant: `given` itself, or that of a model from `models.load`.

    Raises:
        SettingError: it is neither.
    """
    found = getattr(given, "tokenizer", given)
    if not (callable(found) and hasattr(found, "eos_token_id")):
        name = given if isinstance(given, str) else "base"
        raise SettingError(
            f"A tokenizer is wanted, or a loaded model, not {given!r:.60}. Load one: "
            f"models.load_tokenizer({name!r})."
        )
    return found
