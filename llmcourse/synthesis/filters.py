"""What is wrong with a question or an answer, as far as a program can tell."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from llmcourse.generation import Answer
from llmcourse.words import (
    STOPWORDS,
    content_words,
    continues_the_sentence,
    is_question,
    numbers,
    refuses,
    repeated_ngrams,
    split_words,
)

ALIKE = 0.7  # two instructions with more of their words in common count as one (Self-Instruct)
GROUNDED = 0.7  # the least share of an answer's words that must stand in its passage
# A text model can't do these (after Self-Instruct's list), nor is it asked to. Whole words; it is
# asked to draw only where the word is an order: a plate may draw 40 watts.
IMPOSSIBLE = frozenset(
    ("picture", "image", "photo", "photograph", "graph", "chart", "video", "music", "website",
     "http", "file")
)  # fmt: skip
_TO_DRAW = re.compile(r"(?:^|[.!?;,]|\b(?:please|and|then|you|to))\s*draw\b(?! attention)", re.I)


def instruction_trouble(text: str) -> str:
    """What is wrong with the form of an instruction or question; "" if nothing is."""
    count = len(split_words(text))
    if not 3 <= count <= 40:
        return "too short" if count < 3 else "too long"
    if not text[0].isupper() and not text[0].isdigit():
        return "does not begin like a sentence"
    if text[-1] not in ".?!":
        return "breaks off"
    if "?" not in text and split_words(text)[0] in STOPWORDS:
        return "is no task"
    if "__" in text or "..." in text or "…" in text:
        return "has a gap to fill in"
    if content_words(text.replace("-", " ")) & IMPOSSIBLE or _TO_DRAW.search(text):
        return "asks for what text can't do"
    if repeated_ngrams(text, 3) > 0.2:
        return "goes in circles"
    return ""


def answer_trouble(answer: Answer, question: str) -> str:
    """What is wrong with the form of an answer to `question`; "" if nothing is."""
    text = answer.text.strip()
    if not text:
        return "empty"
    if not answer.finished:
        return "not finished within the limit"
    if refuses(text):
        return "refuses"
    if continues_the_sentence(answer.text):
        return "goes on with the question"
    if is_question(text):
        return "asks back"
    if repeated_ngrams(text) > 0.2:
        return "goes in circles"
    if not content_words(text) - content_words(question):
        return "only repeats the question"
    return ""


def groundedness(answer: str, passage: str) -> float:
    """The share of an answer's content words that stand in the passage, from 0 to 1.

    A number that is not in the passage makes it 0: that is how invented facts look most often.
    """
    if numbers(answer) - numbers(passage):
        return 0.0
    told = content_words(answer)
    return len(told & content_words(passage)) / len(told) if told else 0.0


class Pool:
    """Texts that are there already, to keep near-copies out.

    Two texts are alike when more than `ALIKE` of their words, in order, are the same. That is
    ROUGE-L in Self-Instruct; here it is difflib's ratio over words, which is its near kin.
    """

    def __init__(self, texts: str | Iterable[str] = ()) -> None:
        """Begin with `texts`, or with one text."""
        texts = [texts] if isinstance(texts, str) else texts
        self._known: list[list[str]] = [split_words(text) for text in texts]

    def has_like(self, text: str) -> bool:
        """True where a text of the pool is too much like `text`."""
        new = split_words(text)
        match = difflib.SequenceMatcher(None, autojunk=False)
        match.set_seq2(new)
        for old in self._known:
            match.set_seq1(old)
            if match.real_quick_ratio() > ALIKE and match.quick_ratio() > ALIKE and (
                match.ratio() > ALIKE
            ):  # fmt: skip
                return True
        return False

    def add(self, text: str) -> None:
        """Put a text into the pool."""
        self._known.append(split_words(text))
