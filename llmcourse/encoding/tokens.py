"""From rendered text to token ids: the only place where either is made of the other.

A text that spells out a control token ("<|im_end|>") is read as text. Tokenizers do so only for a
text as a unit (`split_special_tokens`), and the prompt around it has control tokens of its own. So
such a prompt is read by a copy of the tokenizer that knows no control token by its spelling;
those of the template are handed to it under names that no text has.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from llmcourse.errors import TemplateError
from llmcourse.templates import INSIDE, Controls, Rendered

_BORDER = "\ufdd2"  # between what is read and what is written, in a conversation
_NAME = "\ufdd3{}\ufdd3"  # of a control token that the template wrote


def prompt_ids(rendered: Rendered, tokenizer: Any) -> list[int]:
    """The ids of a prompt, as a model reads it.

    Raises:
        TemplateError: a text spells out a control token that this tokenizer can't read as text.
        TypeError: it has half a character.
    """
    return _ids(["".join(rendered.parts[:-1])], tokenizer, special=not rendered.special)[0]


def tokenized(rendered: Sequence[Rendered], tokenizer: Any) -> list[list[list[int]]]:
    """The ids of each part of each record: what is read and what is written, by turns.

    Prompt and answer are tokenized apart. Of a conversation all is one text, cut where a turn of
    the assistant begins and ends.

    Raises:
        TemplateError, TypeError: see `prompt_ids`.
    """
    found: list[list[list[int]]] = [[] for _ in rendered]
    for special in {each.special for each in rendered}:
        group = [place for place, each in enumerate(rendered) if each.special is special]
        first = [_BORDER.join(rendered[place].parts[:-1]) for place in group]
        for place, ids in zip(group, _ids(first, tokenizer, special=not special), strict=True):
            found[place] = _cut(ids)
    last = _ids([each.parts[-1] for each in rendered], tokenizer, special=False)
    return [[*parts, ids] for parts, ids in zip(found, last, strict=True)]


def end_ids(tokenizer: Any, template: str) -> list[int]:
    """The token that ends an answer: a chat template's own, else the end-of-sequence token."""
    controls = Controls.of(tokenizer)
    own = controls.ids.get(controls.end) if template == "chat" else None
    return [tokenizer.eos_token_id if own is None else own]


def _cut(ids: list[int]) -> list[list[int]]:
    """`ids` in parts, at each border (-1)."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == -1:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _ids(texts: Sequence[str], tokenizer: Any, *, special: bool) -> list[list[int]]:
    """The ids of each text; `special` adds the tokenizer's special tokens, but never an end."""
    # the usual way, and the fast one: nothing is spelt out, and there is one turn
    plain = [text for text in texts if INSIDE not in text and _BORDER not in text]
    read = iter(())
    if plain:
        ids = tokenizer(
            plain, add_special_tokens=special, return_attention_mask=False, verbose=False
        ).input_ids
        read = iter(ids)
    found = [
        _Reader.of(tokenizer)(text, special=special)
        if INSIDE in text or _BORDER in text
        else list(next(read))
        for text in texts
    ]
    if special:  # some tokenizers close every text; nothing would follow
        found = [ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids for ids in found]
    return found


class _Reader:
    """A copy of a tokenizer that knows control tokens only by the names that it gives them."""

    _made: ClassVar[WeakKeyDictionary[Any, _Reader]] = WeakKeyDictionary()

    def __init__(self, tokenizer: Any) -> None:
        self.controls = Controls.of(tokenizer)
        self.added = tokenizer.added_tokens_decoder
        self.tokens = copy.deepcopy(tokenizer.backend_tokenizer)
        # settings that a caller may have left behind on the original
        self.tokens.no_truncation()
        self.tokens.no_padding()
        self.tokens.encode_special_tokens = True  # special tokens are read as text
        self.meant: dict[int, list[int]] = {}  # the id of a name here -> the ids that it means
        self.named: dict[str, str] = {}  # a control token -> its name
        self._add(INSIDE, [], {})
        self._add(_BORDER, [-1], {})

    @classmethod
    def of(cls, tokenizer: Any) -> _Reader:
        """The one of a tokenizer, made at its first need: it takes a second or three."""
        found = cls._made.get(tokenizer)
        if found is None or found.controls is not Controls.of(tokenizer):
            if getattr(tokenizer, "backend_tokenizer", None) is None:
                raise TemplateError(
                    f"{type(tokenizer).__name__} reads a control token that a text spells out as "
                    f"one, and reads no conversation turn by turn. Take a model with a fast "
                    f"tokenizer."
                )
            found = cls._made[tokenizer] = cls(tokenizer)
        return found

    def _add(self, name: str, ids: list[int], flags: dict[str, bool]) -> None:
        from tokenizers import AddedToken

        self.tokens.add_tokens([AddedToken(name, special=False, normalized=False, **flags)])
        self.meant[self.tokens.token_to_id(name)] = ids

    def _name(self, token: str) -> str:
        """The name of a control token here, with what that token does to blanks beside it."""
        if token not in self.named:
            number = self.controls.ids[token]
            own = self.added[number]
            self.named[token] = _NAME.format(number)
            flags = {name: getattr(own, name) for name in ("lstrip", "rstrip", "single_word")}
            self._add(self.named[token], [number], flags)
        return self.named[token]

    def __call__(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text, -1 at each border.

        Raises:
            TemplateError: it can't be read as text.
        """
        if self.controls.form is not None:
            # (what the template wrote is not broken)
            form = f"(?:{self.controls.form.pattern})(?!{INSIDE})"
            text = re.sub(form, lambda found: self._name(found[0]), text)
        controls = set(self.controls.ids.values())
        # First as it is spelt; in two pieces where the vocabulary has the spelling as one.
        for attempt in (text.replace(INSIDE, ""), text):
            read = self.tokens.encode(attempt, add_special_tokens=special)
            ids: list[int] = []
            for token, begins in zip(read.ids, read.special_tokens_mask, strict=True):
                if token in controls and not begins:
                    break
                ids += self.meant.get(token, [token])
            else:
                return ids
        spelt = self.controls.form.findall(text.replace(INSIDE, "")) if self.controls.form else [""]
        raise TemplateError(
            f"A text spells out the control token {spelt[0]!r}, which this tokenizer can't read as "
            f"text. Write it in another way."
        )
