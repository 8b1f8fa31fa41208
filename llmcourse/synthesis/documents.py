"""Questions and answers about documents."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmcourse import retrieval
from llmcourse.data import Passage
from llmcourse.errors import DataError
from llmcourse.generation import generate
from llmcourse.synthesis.filters import (
    Pool,
    Sieve,
    Synthesis,
    first_reason,
    instruction_trouble,
)
from llmcourse.words import ENDS, content_words, numbers, size

if TYPE_CHECKING:
    from llmcourse.models import LoadedModel

QUESTION = 20  # longest question in tokens
ABOUT = 0.6  # the smallest share of a question's words that its sentence and heading must have
# About things that no document of the lessons has: a small model copies from its examples.
_SHOTS = """Sentence (Stools): The oil on an oak stool needs three days to dry.
Question: How long does the oil on an oak stool need to dry?

Sentence (Shop, Visits): You may bring a dog into the shop when it is quiet.
Question: May I bring my dog into the shop?

Sentence (Lamps): The Brindle lamp is packed in straw, because paper scratches it.
Question: Why is the Brindle lamp packed in straw?

"""
# A sentence that begins like this says nothing without the one before it.
_REFERS = re.compile(
    r"(?:it|its|they|their|them|he|him|his|she|hers?|this|these|that|those|both|neither|so|then|"
    r"but|and|or|otherwise|instead|such|the others?)\b",
    re.I,
)
_COUNT = (
    r"\b(?i:\d[\d.,]*|half an?|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|"
    r"twenty|thirty|forty|fifty|sixty)"
)
_UNIT = r"(?:seconds?|minutes?|hours?|nights?|days?|weeks?|months?|years?)\b"
# How a question begins -> what a sentence must have to answer it. Left to choose, a small model
# asks who and when of sentences that do not say it, and what of everything.
BEGINNINGS = {
    "How often": rf"\bevery (?:{_COUNT} |other |few )?(?:{_UNIT}|evening|morning|\w+day)",
    "How much": r"[£$€]\s?\d[\d.,]*|\b(?:costs?|fees?|prices?|pays?) [^.]*?\d[\d.,]*",
    "How long": rf"(?<!every ){_COUNT}[- ]{_UNIT}(?! (?:ahead|before|early|old|of age))",
    "How many": rf"{_COUNT} (?!{_UNIT}|times\b|per\b|percent\b)([a-z-]+s)\b",
    "When": r"\b(?:at|by|from|until|to) (?:\d{1,2}[.:]\d\d\b|noon|midnight|\w+day\b)"
    r"|\bon (?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?",
    "Who": r"\b(?:Mr|Ms|Mrs|Dr) [A-Z]\w+|[A-Z][a-z]+ [A-Z][a-z]+(?=, (?:who|our|the)\b)",
    "Where": r"\b(?:stands?|hangs?|lies|sits?|kept|stored|held|hung up|found|sold|hidden)"
    r" (?:in|on|at|by|behind|under|beside|above|below) (?:the|a|an|our) \w+",
    "Why": r"\b(?:because|so that) .*",
    "May": r"\bmay\b",
    "Must": r"\b(?:must|ha(?:s|ve) to)\b",
    "Should": r"\b(?:should|[Pp]lease)\b",
}


def questions_from_documents(
    passages: Iterable[Passage],
    model: LoadedModel | None = None,
    *,
    limit: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> Synthesis:
    """Write questions about the sentences of passages; the sentence is the answer.

    With a model: it reads a few examples and a sentence, and goes on with a question whose first
    words fit what the sentence says (`BEGINNINGS`), so that there are several questions about many
    sentences. A question passes if its form is proper, it is about the sentence without giving
    the answer away, and it leads back: of all sentences of the documents, search by meaning must
    find this one first (a round trip, as in Alberti et al., Synthetic QA Corpora Generation with
    Roundtrip Consistency, 2019, but with a search in place of a reading model).

    Without one, and for documents that are not in English: a question made from each passage's
    heading by a plain template, answered with the passage's first sentences. Always grounded,
    always alike.

    Args:
        passages: From `data.from_documents`.
        model: Any model: it is asked without a template. Base models suit.
        limit: How many questions (or, without a model, passages) are tried.
        seed: For the choice of sentences.
        progress: False shows nothing.

    Returns:
        The pairs with `document`, `heading` and `source` (the sentence), and what was rejected,
        sentences that are too long for the model among it.

    Raises:
        DataError: there are no passages, or they have no usable sentence.
    """
    passages = list(passages)
    if not passages:
        raise DataError("There are no passages to ask about.")
    sieve = Sieve()
    if model is None:
        _from_headings(passages[:limit], sieve)
        return sieve.done()
    found = [(passage, text) for passage in passages for text in sentences(passage.text)]
    if not found:
        raise DataError("The passages hold no sentence of 6 to 40 words to ask about.")
    tries = [(*one, word) for one in found for word in _beginnings(one[1])]
    if 10 * len({text for _, text, _ in tries}) < len(found):
        # not English, but for a price: a small model's questions are then about something else
        _from_headings(passages[:limit], sieve)
        return sieve.done()
    random.Random(seed).shuffle(tries)
    tries = tries[:limit]
    too_long: dict[int, str] = {}
    written = generate(
        model,
        [
            f"{_SHOTS}Sentence ({topic(p)}): {text}\nQuestion: {word}".strip()
            for p, text, word in tries
        ],
        "plain",
        max_new_tokens=QUESTION,
        progress=progress,
        failures=too_long,
    )
    questions, pool = [], Pool()
    for number, ((passage, source, word), answer) in enumerate(zip(tries, written, strict=True)):
        # The first line: the model goes on with a sentence and a question of its own.
        question = f"{word}{answer.text if answer else ''}".split("\n")[0].strip()
        reason = too_long.get(number) and "is too long for the model"
        reason = reason or _trouble(question, word, passage, source, pool)
        if sieve.passes("question", reason, question, source):
            pool.add(question)
            questions.append((passage, source, question))
    if questions:
        index = retrieval.Index([Passage(text, p.heading, p.document, 1) for p, text in found])
        hits = index.search_all([question for *_, question in questions], 1)
        for (passage, source, question), (hit, *_) in zip(questions, hits, strict=True):
            # (a sentence with the one before it, and that one alone, are both in the index)
            same = source in hit.passage.text or hit.passage.text in source
            reason = "" if same else "does not lead back to the sentence"
            if sieve.passes("question", reason, question, source):
                sieve.kept.append(_record(passage, question, source, source))
    return sieve.done()


def _record(passage: Passage, question: str, answer: str, source: str) -> dict[str, str]:
    where = {"document": passage.document, "heading": passage.heading, "source": source}
    return {"question": question, "answer": answer} | where


def sentences(text: str) -> list[str]:
    """What a passage says, in pieces of 6 to 40 words, without list marks and bold.

    A piece is a sentence; one that begins with "it" or the like comes after the one before it.
    """
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "\n\n", text, flags=re.M).replace("**", "")
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text):
        before = ""
        # A sentence ends at its mark and a space, so that "12.6 kg" is not torn apart.
        for part in re.split(rf"(?<=[.!?])\s+|(?<=[{ENDS}])\s*", " ".join(paragraph.split())):
            refers = _REFERS.match(part)
            piece = f"{before} {part}" if refers else part
            full = 6 <= size(piece) <= 40 and piece[-1] in f".!?{ENDS}"
            if full and (before or not refers):
                pieces.append(piece)
            before = piece if before or not refers else ""
    return pieces


def topic(passage: Passage) -> str:
    """What a passage is about: its document's name and its heading."""
    return f"{passage.title}, {passage.heading}" if passage.heading else passage.title


def _beginnings(sentence: str) -> list[str]:
    """How a question about a sentence can begin, with the noun that is counted."""
    found = {word: re.search(answer, sentence) for word, answer in BEGINNINGS.items()}
    return [" ".join([word, *match.groups()]) for word, match in found.items() if match]


def _trouble(question: str, word: str, passage: Passage, source: str, pool: Pool) -> str:
    """Why a question about a sentence is not used; "" if it is, as far as words can tell."""
    asked, said = content_words(question), content_words(source)
    kind = next((kind for kind in BEGINNINGS if word.startswith(kind)), "")
    match = re.search(BEGINNINGS.get(kind, ""), source)
    answer = match[0] if match else ""
    given = content_words(answer)
    verb, place = (content_words(f"{answer} ".split(" ")[end]) for end in (0, -2))
    about = content_words(topic(passage)) | said
    return instruction_trouble(question, grounded=True) or first_reason(
        ("is no question", not question.endswith(("?", "？", "؟"))),
        (
            "refers to something",
            re.search(r"\b(?:it(?! takes?\b)|they|them|he|she|this)\b", question),
        ),
        ("is not about the sentence", len(asked & about) < max(1, ABOUT * len(asked))),
        ("asks for another place", kind == "Where" and (place & asked or not verb & asked)),
        (
            "gives the answer away",
            numbers(question) & numbers(answer)
            or 2 * len(asked & given) > len(given) > 0
            or len(said - asked) < 2,
        ),
        ("is much like another", pool.has_like(question)),
    )


def _from_headings(passages: Sequence[Passage], sieve: Sieve) -> None:
    asked: set[str] = set()
    for passage in passages:
        question = f"What does “{passage.title}” say about “{passage.heading}”?"
        answer = " ".join(sentences(passage.text)[:2])
        reason = first_reason(
            ("has no heading", not passage.heading),
            ("has no sentence", not answer),
            ("is much like another", question in asked),
        )
        if sieve.passes("question", reason, question, answer):
            asked.add(question)
            sieve.kept.append(_record(passage, question, answer, answer))
