"""Finding the passages that fit a question, and putting them into the prompt.

The search is BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009) by the
library bm25s: words that are rare in the documents and frequent in a passage count most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmcourse.data import Passage
from llmcourse.errors import DataError, PromptError


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
        """
        if not question.strip():
            raise PromptError("The question is empty; there is nothing to search for.")
        k = min(max(1, k), len(self.passages))
        places, scores = self._search.retrieve(self._words([question]), k=k, show_progress=False)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [Hit(self.passages[place], score) for place, score in found if score > 0]


def prompt_with(
    question: str, hits: Sequence[Hit], *, count: Callable[[str], int] | None = None, room: int = 0
) -> str:
    """A question with passages before it, and the wish to keep to them.

    Args:
        question: What is asked.
        hits: From `Index.search`; the worst are left out first where they do not fit.
        count: How many tokens a text has; needed with `room`.
        room: The most tokens the whole may have; 0 for no limit.

    Raises:
        PromptError: not even the question fits.
    """
    for kept in range(len(hits), -1, -1):
        passages = "\n\n".join(
            f"[{hit.passage.heading}]\n{hit.passage.text}" for hit in hits[:kept]
        )
        text = f"{passages}\n\nAnswer from the text above. {question}" if kept else question
        if not room or count is None or count(text) <= room:
            return text
    raise PromptError(f"The question alone has more than the {room} tokens there is room for.")
