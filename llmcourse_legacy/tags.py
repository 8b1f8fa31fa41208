"""Reads the tags of chat models as messages.

Each family of chat models has tags of its own. A packaged model that substitutes for one of them
was not trained with these, so what a notebook writes in them goes into its own chat template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from llmcourse import generation
from llmcourse.llama.settings import note
from llmcourse.models import LoadedModel

# What opens a turn, family by family; the group in each pattern says whose turn it is.
_OPENING = {
    "Llama 3's headers": r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>",
    "ChatML": r"<\|im_start\|>[ ]*(\w+)",
    "Gemma's tags": r"<start_of_turn>[ ]*(\w+)",
    "Zephyr's tags": r"<\|(system|user|assistant)\|>",
    "the tags of Llama 2 and Mistral": r"(\[/?INST\]|<</?SYS>>)",
    "### Human: and ### Assistant:": r"(?m:^[ ]*###[ ]*(human|user|system|assistant)[ ]*:)",
}
_ANY = re.compile("|".join(_OPENING.values()), re.IGNORECASE)
# What closes a turn, or begins a text.
_CLOSING = re.compile(
    r"<\|(?:eot_id|im_end|begin_of_text|end_of_text|endoftext)\|>|<end_of_turn>|<bos>|<eos>|</?s>"
)
_ROLES = {
    "human": "user",
    "[inst]": "user",
    "<</sys>>": "user",
    "[/inst]": "assistant",
    "model": "assistant",
    "<<sys>>": "system",
}
SHORTEST = 16  # tokens: a small chat model may stop after one where a text has no tags
_translated: set[tuple[str, str]] = set()  # models and families that a note was printed for


@dataclass(frozen=True)
class Tagged:
    """A text in the tags of a family of chat models.

    Attributes:
        family: The family, in words.
        first: The first tag, as written.
        turns: [{"role": "system", "user" or "assistant", "content": …}, …]; the last is the user's.
    """

    family: str
    first: str
    turns: list[dict[str, str]]


def read(text: str) -> Tagged | None:
    """The turns of a text that is written in tags; None for any other text.

    A text counts as tagged where it begins with a tag, or ends with the tag that opens an answer:
    a question about tags is just a question. Text before the first tag is the system prompt. The
    beginning of an answer is dropped, because a chat template can't continue one.
    """
    text = _CLOSING.sub("", text).strip()  # the next opening tag ends a turn as well
    opened = list(_ANY.finditer(text))
    if not opened:
        return None
    roles = [_role(match) for match in opened]
    ends_open = opened[-1].end() == len(text) and roles[-1] == "assistant"
    if opened[0].start() > 0 and not ends_open:
        return None
    starts = [match.end() for match in opened]
    ends = [*(match.start() for match in opened[1:]), len(text)]
    parts = [("system", text[: opened[0].start()])]
    parts += [(role, text[a:b]) for role, a, b in zip(roles, starts, ends, strict=True)]
    turns = [{"role": role, "content": part.strip()} for role, part in parts if part.strip()]
    while turns and turns[-1]["role"] != "user":  # an answer that has begun
        turns.pop()
    if not turns:
        return None
    family = next(name for name, form in _OPENING.items() if re.match(form, opened[0][0], re.I))
    return Tagged(family, opened[0][0].strip(), turns)


def _role(match: re.Match[str]) -> str:
    said = next(group for group in match.groups() if group).lower()
    return _ROLES.get(said, said)


def record(text: str, model: LoadedModel) -> dict[str, Any] | None:
    """A text in a chat model's tags as a record for its chat template; None where it stays text.

    A model's own tags are always read, and by a substitute those of every family.
    """
    found = read(text)
    if found is None:
        return None
    instead_of = getattr(model, "instead_of", "")
    own = any(found.first.startswith(token) for token in model.tokenizer.get_added_vocab())
    if not own and not instead_of:
        return None
    if not own and (instead_of, found.family) not in _translated:
        _translated.add((instead_of, found.family))
        note(
            "translated",
            f"{instead_of}: {model.name} was not trained with {found.family}, so they are "
            f"translated into its own chat template",
        )
    *history, last = found.turns
    return {"question": last["content"], "history": history}


def answers(model: LoadedModel, texts: list[str], **settings: Any) -> list[str]:
    """A chat model's answers: tagged texts go into its chat template, others are continued.

    Args:
        model: Has a chat template.
        texts: From the learner.
        settings: For `generation.generate`.
    """
    prompts = [record(text, model) or text for text in texts]
    found: dict[int, str] = {}
    for tagged in (False, True):
        numbers = [n for n, prompt in enumerate(prompts) if isinstance(prompt, dict) is tagged]
        answers = generation.generate(
            model,
            [prompts[n] for n in numbers],
            "chat" if tagged else "plain",
            min_new_tokens=SHORTEST if hasattr(model, "instead_of") and not tagged else 0,
            **settings,
        )
        found |= dict(zip(numbers, map(str, answers), strict=True))
    return [found[n] for n in range(len(texts))]
