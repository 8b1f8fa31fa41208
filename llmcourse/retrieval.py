"""Finding the passages that fit a question, and putting them into the prompt.

The search is BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009) by the
library bm25s: words that are rare in the documents and frequent in a passage count most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llmcourse import templates
from llmcourse.data import Passage
from llmcourse.errors import DataError, PromptError, SettingError, whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and how well it fits (higher is better, 0 is not at all)."""

    passage: Passage
    score: float


class Index:
    """A search index over passages."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Index `passages`: their text, heading and document's name.

        Raises:
            DataError: there are none.
        """
        import bm25s

        if not passages:
            raise DataError("There are no passages to search in.")
        self.passages = list(passages)
        texts = [f"{p.document} {p.heading} {p.text}".replace("/", " ") for p in self.passages]
        self._search = bm25s.BM25()
        self._search.index(self._words(texts), show_progress=False)

    @staticmethod
    def _words(texts: list[str]) -> object:
        import bm25s

        return bm25s.tokenize(texts, stopwords="en", show_progress=False)

    def search(self, question: str, k: int = 3) -> list[Hit]:
        """The `k` passages that fit `question` best, best first; fewer where fewer fit at all.

        Raises:
            PromptError: the question is empty.
            SettingError: `k` is below 1.
        """
        k = min(whole("k", k, 1), len(self.passages))
        if not question.strip():
            raise PromptError("The question is empty; there is nothing to search for.")
        places, scores = self._search.retrieve(self._words([question]), k=k, show_progress=False)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [Hit(self.passages[place], score) for place, score in found if score > 0]


def prompt_with(
    question: str,
    hits: Sequence[Hit],
    *,
    count: Callable[[str], int] | None = None,
    room: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    template: str | None = None,
) -> str:
    """A question with passages before it, and the wish to keep to them.

    Args:
        question: What is asked.
        hits: From `Index.search`; the worst are left out first where they do not fit.
        count: How many tokens a text has; this or `tokenizer` is needed with `room`.
        room: The most tokens the whole may have; 0 for no limit.
        tokenizer: Counts the tokens that the model will read: the prompt in its template, special
            tokens too.
        template: The name it will be rendered with, in `templates.NAMES`; where not given, as for
            `generate`, the tokenizer's own or "plain".

    Raises:
        PromptError: the question is empty, or not even the question fits.
        SettingError: `room` is below 0, or there is nothing or too much to count it with.
        TemplateError: see `templates.render`.
    """
    if not question.strip():
        raise PromptError("The question is empty; there is nothing to answer.")
    count = _counter(count, whole("room", room, 0), tokenizer, template)
    for kept in range(len(hits), -1, -1):
        passages = "\n\n".join(_shown(hit.passage) for hit in hits[:kept])
        text = f"{passages}\n\nAnswer from the text above. {question}" if kept else question
        if not room or count(text) <= room:
            return text
    raise PromptError(f"The question alone has more than the {room} tokens there is room for.")


def _shown(passage: Passage) -> str:
    """A passage under its document's name and its heading: "it" means nothing without them."""
    name = PurePosixPath(passage.document).stem.replace("-", " ").replace("_", " ")
    above = ": ".join(part for part in (name.strip(), passage.heading.strip()) if part)
    return f"[{above}]\n{passage.text}" if above else passage.text


def _counter(
    count: Callable[[str], int] | None,
    room: int,
    tokenizer: PreTrainedTokenizerBase | None,
    template: str | None,
) -> Callable[[str], int]:
    """What counts a prompt's tokens."""
    if tokenizer is None:
        if template is not None:
            raise SettingError(f"template={template!r} needs tokenizer=, whose tokens are counted.")
        if room and count is None:
            raise SettingError(f"room={room} needs tokenizer= or count=, to count tokens with.")
        return count or len
    if count is not None:
        raise SettingError("Give tokenizer= or count=, not both.")
    own = "chat" if getattr(tokenizer, "chat_template", None) else "plain"

    def rendered(text: str) -> int:
        whole_prompt = templates.render(text, template or own, tokenizer=tokenizer)
        special = not whole_prompt.special  # a chat template's text holds them already
        return len(tokenizer(whole_prompt.prompt, add_special_tokens=special).input_ids)

    return rendered
