"""Questions and answers about documents."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llmcourse.data import Passage
from llmcourse.errors import DataError
from llmcourse.generation import generate
from llmcourse.synthesis.filters import (
    GROUNDED,
    Pool,
    answer_trouble,
    first_reason,
    groundedness,
    instruction_trouble,
)
from llmcourse.synthesis.results import Sieve, Synthesis
from llmcourse.words import ENDS, content_words, numbers, size

if TYPE_CHECKING:
    from llmcourse.models import LoadedModel

QUESTION = 28  # longest question in tokens
TOO_LONG = "is too long for the model"
# About things that no document of the lessons has: a small model copies from its examples.
_SHOTS = """Sentence (Stools): The oil on an oak stool needs three days to dry.
Question: How long does the oil on an oak stool need to dry?

Sentence (Opening hours): On Saturdays the shop in Lowmarket closes at one.
Question: When does the shop in Lowmarket close on Saturdays?

Sentence (Colours): The Brindle lamp comes in plum and in slate.
Question: In which colours does the Brindle lamp come?

"""


def questions_from_documents(
    passages: Iterable[Passage],
    model: LoadedModel | None = None,
    *,
    limit: int = 100,
    new_tokens: int = 48,
    seed: int = 0,
    progress: bool = True,
) -> Synthesis:
    """Write questions and answers about passages.

    With a model: it reads one sentence and writes a question about it, then answers the question
    from the full passage. A pair passes if both have a proper form, the answer is grounded in the
    passage, and it says what the sentence said: an answer that leads elsewhere means that the
    question was bad or the answer wrong (the round trip of Alberti et al., Synthetic QA Corpora
    Generation with Roundtrip Consistency, 2019).

    Without one: a question made from each passage's heading by a plain template, answered with the
    passage's first sentences. Always grounded, always alike.

    Args:
        passages: From `data.from_documents`.
        model: A chat model, or None for the templates.
        limit: How many sentences (or, without a model, passages) are tried; those with a number
            first, as they can be checked.
        new_tokens: Longest answer in tokens.
        seed: For the choice of sentences.
        progress: False shows nothing.

    Returns:
        The pairs with `document`, `heading` and `source` (the sentence), and what was rejected,
        sentences of a passage that is too long for the model among it.

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
    candidates = [(passage, text) for passage in passages for text in sentences(passage.text)]
    if not candidates:
        raise DataError("The passages hold no sentence of 6 to 40 words to ask about.")
    random.Random(seed).shuffle(candidates)
    # Numbers first: whether an answer has the right one is what a program can check.
    candidates = sorted(candidates, key=lambda pair: not numbers(pair[1]))[:limit]
    questions = _ask(candidates, model, sieve, progress)
    prompts = [
        f"{passage.text}\n\nAnswer from the text above in one sentence. {question}"
        for passage, _, question in questions
    ]
    too_long: dict[int, str] = {}
    answers = generate(
        model, prompts, max_new_tokens=new_tokens, progress=progress, failures=too_long
    )
    for (passage, source, question), answer in zip(questions, answers, strict=True):
        text = answer.text.strip() if answer else ""
        trouble = TOO_LONG if answer is None else answer_trouble(answer, question)
        trouble = trouble or _untrue(text, source, passage.text)
        if sieve.passes("answer", trouble, question, text):
            sieve.kept.append(_record(passage, question, text, source))
    return sieve.done()


def _record(passage: Passage, question: str, answer: str, source: str) -> dict[str, str]:
    where = {"document": passage.document, "heading": passage.heading, "source": source}
    return {"question": question, "answer": answer} | where


def sentences(text: str) -> list[str]:
    """The sentences of 6 to 40 words in a passage, without list marks and bold."""
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "", text, flags=re.M).replace("**", "")
    # A sentence ends at its mark and a space, so that "12.6 kg" is not torn apart.
    parts = re.split(rf"(?<=[.!?])\s+|(?<=[{ENDS}])\s*|\n\s*\n", text)
    parts = [" ".join(part.split()) for part in parts]
    return [part for part in parts if 6 <= size(part) <= 40 and part[-1] in f".!?{ENDS}"]


def topic(passage: Passage) -> str:
    """What a passage is about: its document's name and its heading."""
    name = _title(passage)
    return f"{name}, {passage.heading}" if passage.heading else name


def _title(passage: Passage) -> str:
    """The name of a passage's document."""
    return PurePosixPath(passage.document).stem.replace("-", " ").replace("_", " ")


def _ask(
    candidates: Sequence[tuple[Passage, str]], model: LoadedModel, sieve: Sieve, progress: bool
) -> list[tuple[Passage, str, str]]:
    """Let the model write a question for each sentence; keep those in proper form."""
    # Without a template: a model goes on with examples better than it follows a description.
    prompts = [f"{_SHOTS}Sentence ({topic(p)}): {text}\nQuestion:" for p, text in candidates]
    too_long: dict[int, str] = {}
    written = generate(
        model, prompts, "plain", max_new_tokens=QUESTION, progress=progress, failures=too_long
    )
    questions, pool = [], Pool()
    for (passage, source), answer in zip(candidates, written, strict=True):
        # The first line: a base model goes on with a sentence and a question of its own.
        question = answer.text.strip().split("\n")[0].strip() if answer else source
        about = content_words(f"{topic(passage)} {source}")
        reason = first_reason(
            (TOO_LONG, answer is None),
            ("empty", not question),
            (instruction_trouble(question), instruction_trouble(question)),
            ("is no question", not question.endswith(("?", "？", "؟"))),
            ("is not about the sentence", len(content_words(question) & about) < 2),
            ("gives the answer away", numbers(question) & numbers(source)),
            ("is much like another", pool.has_like(question)),
        )
        if sieve.passes("question", reason, question):
            pool.add(question)
            questions.append((passage, source, question))
    return questions


def _untrue(answer: str, source: str, passage: str) -> str:
    """Why an answer can't be trusted; "" if it can, as far as a program can tell.

    The last rule is the round trip: the answer must say what the sentence said that the question
    was made from.
    """
    lost = numbers(source) and not numbers(source) & numbers(answer)
    return first_reason(
        ("has a number that is not in the passage", numbers(answer) - numbers(passage)),
        ("says what is not in the passage", groundedness(answer, passage) < GROUNDED),
        (
            "does not lead back to the sentence",
            lost or len(content_words(source) & content_words(answer)) < 2,
        ),
    )


def _from_headings(passages: Sequence[Passage], sieve: Sieve) -> None:
    pool = Pool()
    for passage in passages:
        question = f"What does “{_title(passage)}” say about “{passage.heading}”?"
        answer = " ".join(sentences(passage.text)[:2])
        reason = first_reason(
            ("has no heading", not passage.heading),
            ("has no sentence", not answer),
            ("is much like another", pool.has_like(question)),
        )
        if sieve.passes("question", reason, question, answer):
            pool.add(question)
            sieve.kept.append(_record(passage, question, answer, answer))
