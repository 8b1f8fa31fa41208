"""Error analysis: which kinds of mistakes an answer makes, by rules that can be read.

The kinds are those one looks for first when reading a model's answers: misspelt words, answers that
are too long or go in circles, and what is worse, answers beside the question or with a wrong fact.
A rule is coarse. So read some answers of each kind, and let a second person label them
(`agreement`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmcourse import company, templates
from llmcourse.evaluation.metrics import keys_of
from llmcourse.generation import Answer
from llmcourse.words import content_words, has_keys, normalised, refuses, repeated_ngrams

LONGER = 2.0  # times as many words as the reference, and
MORE_WORDS = 10  # so many more, make an answer too long

# Worst first: the first that applies is the main one.
KINDS: dict[str, str] = {
    "empty": "no word at all",
    "refused": "says that it can't or won't answer",
    "off-topic": "no telling word of the question or of the reference answer",
    "wrong fact": "not all keys of the fact, and neither refused nor off-topic",
    "repetitive": "over a fifth of its runs of three words stood there before",
    "unfinished": "cut off by the limit",
    "too long": "over twice the reference's words, and over 10 more",
    "misspelling": "a word that no dictionary, document, question or reference has, with a "
    "dictionary word one letter away",
}


def label(answer: Answer, record: Mapping[str, Any]) -> list[str]:
    """The kinds of mistakes in an answer, worst first; none where nothing is wrong by the rules.

    Args:
        answer: From `generation.generate`.
        record: Its question, reference answer and, where it has them, keys (see `keys_of`). A
            rule that needs what the record lacks is not applied.
    """
    text = answer.text.strip()
    question = " ".join(templates.get_field(record, role, needed=False)
                        for role in ("question", "input"))  # fmt: skip
    reference = templates.get_field(record, "answer", needed=False)
    if not re.search(r"\w", text):
        return ["empty"]
    found, keys = set(), keys_of(record)
    right = bool(keys) and has_keys(text, keys)
    if refuses(text):
        found.add("refused")
    elif reference and not right and not normalised(text, reference):
        told, wanted = content_words(text), content_words(f"{question} {reference}")
        if told and not told & wanted:
            found.add("off-topic")
    if keys and not found and not right:
        found.add("wrong fact")
    if repeated_ngrams(text, 3) > 0.2:
        found.add("repetitive")
    if not answer.finished:
        found.add("unfinished")
    count, usual = len(text.split()), len(reference.split())
    if reference and count > LONGER * usual and count > usual + MORE_WORDS:
        found.add("too long")
    if misspelt(text, f"{question} {reference}"):
        found.add("misspelling")
    return [kind for kind in KINDS if kind in found]


def misspelt(text: str, known: str = "") -> list[str]:
    """The words of `text` that look misspelt, in English.

    A word counts where neither the dictionary of pyspellchecker nor `known` nor the company's
    documents have it, and a word of the dictionary is one letter away (Norvig's edit distance).
    Names and words with digits don't count: neither has a right spelling to go by.
    """
    dictionary, usual = _dictionary(), _usual_words()
    words = _words(text) - usual - _words(known.lower())
    return sorted(
        word for word in dictionary.unknown(words)
        if dictionary.known(dictionary.edit_distance_1(word))
    )  # fmt: skip


def _words(text: str) -> set[str]:
    """Lower-case words of four letters and more, but for names: what begins with a capital."""
    found = set(re.findall(r"(?<![\w'’-])[a-z]{4,}(?![\w'’-])", text))
    return found | {first.lower() for first in re.findall(r"(?:^|[.!?]\s+)([A-Z][a-z]{3,})", text)}


@functools.cache
def _dictionary() -> Any:
    from spellchecker import SpellChecker

    return SpellChecker(language="en", distance=1)


@functools.cache
def _usual_words() -> set[str]:
    """What the company's documents have: British spellings and its own words among them."""
    return _words(" ".join(company.documents().values()).lower())


def counted(labels: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many answers have each kind of mistake, the most frequent first; none left out."""
    counts = dict.fromkeys(KINDS, 0)
    for kinds in labels:
        for kind in kinds:
            counts[kind] = counts.get(kind, 0) + 1
    return {kind: n for kind, n in sorted(counts.items(), key=lambda pair: -pair[1]) if n}
