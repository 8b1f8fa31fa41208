"""Error analysis: which kinds of mistakes an answer makes, by rules that can be read.

The kinds are those one looks for first when reading a model's answers: misspelt words, answers that
are too long or repeat themselves, and what is worse, answers that are off-topic or state a wrong
fact. A rule is coarse. So read some answers of each kind, and let a second person label them
(`agreement`).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from llmcourse.evaluation.metrics import keys_of
from llmcourse.generation import Answer
from llmcourse.words import content_words, has_keys, normalised, refuses, repeated_ngrams

# Both, as twice a reference of three words is no long answer.
LONGER = 2.0  # times as many words as the reference, and
MORE_WORDS = 10  # so many more, make an answer too long

# Worst first: the first that applies is the main one.
KINDS: dict[str, str] = {
    "empty": "no word at all",
    "refused": "says that it can't or won't answer",
    "off-topic": "no content word of the question or of the reference answer",
    "wrong fact": "not all keys of the fact, and neither refused nor off-topic",
    "repetitive": "over a fifth of its 3-grams occurred earlier in it",
    "unfinished": "cut off by the limit",
    "too long": "over twice the reference's words, and over 10 more",
    "misspelling": "a word that neither a dictionary nor the known texts have, with a "
    "dictionary word one letter away",
}


def label(answer: Answer, record: Mapping[str, Any], known: str = "") -> list[str]:
    """The kinds of mistakes in an answer, worst first; none where nothing is wrong by the rules.

    Args:
        answer: From `generation.generate`.
        record: Its question, reference answer and, where it has them, keys (see `keys_of`). A
            rule that needs what the record lacks is not applied.
        known: Text whose words are spelt right, besides the record's own: names and terms of
            the subject.
    """
    text = answer.text.strip()
    # Without a word no other rule says anything.
    if not re.search(r"\w", text):
        return ["empty"]
    question, extra, reference = (
        record.get(name) or "" for name in ("question", "input", "answer")
    )
    expected = f"{question} {extra} {reference}"
    keys = keys_of(record)
    right = bool(keys) and has_keys(text, keys)
    content = content_words(text)
    unrelated = bool(content) and not content & content_words(expected)
    count, usual = len(text.split()), len(reference.split())
    applies = {  # in the order of KINDS
        "refused": refuses(text),
        "off-topic": reference and not right and not normalised(text, reference) and unrelated,
        "wrong fact": keys and not right,
        "repetitive": repeated_ngrams(text, 3) > 0.2,
        "unfinished": not answer.finished,
        "too long": reference and count > LONGER * usual and count > usual + MORE_WORDS,
        "misspelling": misspelt(text, known) - _words(expected.lower()),
    }
    kinds = [kind for kind, holds in applies.items() if holds]
    # An answer that refuses is not off-topic, and one of both states no wrong fact.
    exclusive = [kind for kind in kinds if kind in ("refused", "off-topic", "wrong fact")]
    return [kind for kind in kinds if kind not in exclusive[1:]]


def misspelt(text: str, known: str = "") -> set[str]:
    """The words of `text` that look misspelt, in English.

    A word counts where neither the dictionary of pyspellchecker nor `known` has it, and a word of
    the dictionary is one letter away (Norvig's edit distance). Names and words with digits don't
    count: there is nothing to check their spelling by.
    """
    dictionary = _dictionary()
    return {
        word
        for word in dictionary.unknown(_words(text) - _known_words(known))
        if dictionary.known(dictionary.edit_distance_1(word))
    }


def _words(text: str) -> set[str]:
    """Lower-case words of four letters and more, except names: what begins with a capital."""
    # Short words are one letter away from too many others to tell a slip from a name.
    words = set(re.findall(r"(?<![\w'’-])[a-z]{4,}(?![\w'’-])", text))
    return words | {first.lower() for first in re.findall(r"(?:^|[.!?]\s+)([A-Z][a-z]{3,})", text)}


@functools.lru_cache(maxsize=8)
def _known_words(text: str) -> set[str]:
    """The words of a text that every answer of a test set is compared with: read once."""
    return _words(text.lower())


@functools.cache
def _dictionary() -> Any:
    from spellchecker import SpellChecker

    return SpellChecker(language="en", distance=1)


def counted(labels: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many answers have each kind of mistake, the most frequent first; none left out."""
    every = [kind for kinds in labels for kind in kinds]
    # Sorting is stable: kinds that are as frequent stay in the order of KINDS, the worst first.
    counts = Counter(sorted(every, key=list(KINDS).index))
    return dict(counts.most_common())
