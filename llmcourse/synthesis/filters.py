"""What is wrong with a question or an answer, as far as a program can tell."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from llmcourse.generation import Answer
from llmcourse.words import (
    ENDS,
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
# A text model can't do these (after Self-Instruct's list), nor is it asked to. Whole words; it is
# asked to draw only where the word is an order: a plate may draw 40 watts.
IMPOSSIBLE = frozenset(
    "picture image photo photograph graph chart video music website http file".split()  # noqa: SIM905
)
_TO_DRAW = re.compile(r"(?:^|[.!?;,]|\b(?:please|and|then|you|to))\s*draw\b(?! attention)", re.I)


def first_reason(*rules: tuple[str, Any]) -> str:
    """The reason of the first rule that applies, of (reason, whether it applies); "" for none."""
    return next((reason for reason, applies in rules if applies), "")


def instruction_trouble(text: str) -> str:
    """What is wrong with the form of an instruction or question; "" if nothing is."""
    words = split_words(text)
    return first_reason(
        # Self-Instruct's limits are 3 and 150 words; a small model answers no request of 150.
        ("too short", len(words) < 3),
        ("too long", len(words) > 40),
        ("does not begin like a sentence", not re.match(r"[^\W_a-z]", text)),
        ("breaks off", text[-1:] not in f".?!{ENDS}"),
        ("is no task", "?" not in text and words[:1] and words[0] in STOPWORDS),
        ("has a gap to fill in", re.search(r"__|\.\.\.|…", text)),
        (
            "asks for what text can't do",
            content_words(text.replace("-", " ")) & IMPOSSIBLE or _TO_DRAW.search(text),
        ),
        ("repeats itself", repeated_ngrams(text, 3) > 0.2),
    )


def answer_trouble(answer: Answer, question: str) -> str:
    """What is wrong with the form of an answer to `question`; "" if nothing is."""
    text = answer.text.strip()
    return first_reason(
        ("empty", not text),
        # Trained on cut answers, a model learns not to end.
        ("not finished within the limit", not answer.finished),
        ("refuses", refuses(text)),
        ("goes on with the question", continues_the_sentence(answer.text)),
        ("asks back", is_question(text)),
        ("repeats itself", repeated_ngrams(text) > 0.2),
        ("only repeats the question", not content_words(text) - content_words(question)),
    )


def groundedness(answer: str, passage: str) -> float:
    """The share of an answer's content words that the passage has, from 0 to 1.

    A number that is not in the passage makes it 0: most invented facts have one.
    """
    if numbers(answer) - numbers(passage):
        return 0.0
    words = content_words(answer)
    return len(words & content_words(passage)) / len(words) if words else 0.0


class Pool:
    """Texts that are there already, to keep near-duplicates out.

    Two texts are near-duplicates when more than `ALIKE` of their words, in order, are the same.
    That is ROUGE-L in Self-Instruct; here it is difflib's ratio over words, which is close to it.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Begin with `texts`."""
        self._known = [split_words(text) for text in texts]

    def has_like(self, text: str) -> bool:
        """True where a text of the pool is too much like `text`."""
        match = difflib.SequenceMatcher(None, autojunk=False)
        match.set_seq2(split_words(text))
        for old in self._known:
            match.set_seq1(old)
            # The quick ratios are upper bounds, and much faster.
            ratios = (match.real_quick_ratio, match.quick_ratio, match.ratio)
            if all(ratio() > ALIKE for ratio in ratios):
                return True
        return False

    def add(self, text: str) -> None:
        """Put a text into the pool."""
        self._known.append(split_words(text))
