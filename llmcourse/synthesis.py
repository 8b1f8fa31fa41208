"""Letting a model write the training data, and keeping only what passes.

Two ways: questions and answers about documents, and new instructions in the manner of seed tasks
(Self-Instruct, Wang et al., 2023, which Alpaca's data were made by). A small model writes much that
is useless. So everything goes through filters, and what was rejected is kept with its reason.
"""

from __future__ import annotations

import difflib
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data import Passage
from llmcourse.errors import DataError, whole
from llmcourse.generation import Answer, continues_the_sentence, generate, is_question, repetition
from llmcourse.progress import bar

if TYPE_CHECKING:
    import pandas

    from llmcourse.models import LoadedModel

ALIKE = 0.7  # two instructions with more of their words in common count as one (Self-Instruct)
GROUNDED = 0.7  # the least share of an answer's words that must stand in its passage
# A text model can't do these (after Self-Instruct's list), nor is it asked to.
IMPOSSIBLE = ("picture", "image", "photo", "graph", "chart", "video", "draw ", "music", "website",
              "http", "file")  # fmt: skip
# Words that say nothing about the content.
_FILLERS = frozenset(
    """
    a about after an and are as at be been before but by can could did do does for from had
    has have he her his how i if in into is it its long many may much must my no not of on or
    our out over she should so than that the their them then there these they this those to up
    was we were what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 (a list would be far longer)
)
_SHOTS = (
    ("Stools", "The oil on an oak stool needs three days to dry.",
     "How long does the oil on an oak stool need to dry?"),
    ("Opening hours", "On Saturdays the shop in Lowmarket closes at one.",
     "When does the shop in Lowmarket close on Saturdays?"),
    ("Colours", "The Brindle lamp comes in plum and in slate.",
     "In which colours does the Brindle lamp come?"),
)  # fmt: skip


@dataclass(frozen=True)
class Synthesis:
    """Records that a model wrote, and what became of the rest.

    Attributes:
        records: Those that passed: question, answer and where they come from.
        rejected: Those that did not: stage, reason, question, answer.
        seconds: How long it took.
    """

    records: list[dict[str, str]]
    rejected: list[dict[str, str]] = field(repr=False)
    seconds: float

    @property
    def tried(self) -> int:
        """How many were written in all."""
        return len(self.records) + len(self.rejected)

    def report(self) -> pandas.DataFrame:
        """How many passed, and how many were rejected for which reason, with an example each."""
        import pandas

        rows = [{"stage": "", "reason": "passed", "count": len(self.records),
                 "example": _example(self.records)}]  # fmt: skip
        reasons = dict.fromkeys((r["stage"], r["reason"]) for r in self.rejected)
        for stage, reason in reasons:
            found = [r for r in self.rejected if (r["stage"], r["reason"]) == (stage, reason)]
            rows.append({"stage": stage, "reason": reason, "count": len(found),
                         "example": _example(found)})  # fmt: skip
        return pandas.DataFrame(rows)

    def __str__(self) -> str:
        return (
            f"{len(self.records)} of {self.tried} passed, in {self.seconds:.0f} s "
            f"({60 * len(self.records) / max(self.seconds, 1e-9):.0f} a minute)"
        )


def _example(records: Sequence[Mapping[str, str]]) -> str:
    if not records:
        return ""
    first = records[0]
    return f"{first['question']} {first['answer']}".strip()[:120]


# --- filters -------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The lower-case words and numbers of a text."""
    return re.findall(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*", text.lower())


def telling_words(text: str) -> set[str]:
    """Its words without articles, pronouns and the like, plural and singular as one."""
    return {w.removesuffix("s") if len(w) > 3 else w for w in words(text) if w not in _FILLERS}


def numbers(text: str) -> set[str]:
    """The numbers in a text that are written in digits."""
    return set(re.findall(r"\d+(?:[.,:]\d+)*", text))


def instruction_trouble(text: str) -> str:
    """What is wrong with the form of an instruction or question; "" if nothing is."""
    count = len(words(text))
    if not 3 <= count <= 40:
        return "too short" if count < 3 else "too long"
    if not text[0].isupper() and not text[0].isdigit():
        return "does not begin like a sentence"
    if text[-1] not in ".?!":
        return "breaks off"
    if "?" not in text and words(text)[0] in _FILLERS:
        return "is no task"
    if "__" in text or "..." in text or "…" in text:
        return "has a gap to fill in"
    if any(word in text.lower() for word in IMPOSSIBLE):
        return "asks for what text can't do"
    if repetition(text, 3) > 0.2:
        return "goes in circles"
    return ""


def answer_trouble(answer: Answer, question: str) -> str:
    """What is wrong with the form of an answer to `question`; "" if nothing is."""
    text = answer.text.strip()
    if not text:
        return "empty"
    if not answer.finished:
        return "not finished within the limit"
    if re.match(r"(i'm |i am )?(really |very )?sorry|as an ai|i can't|i cannot", text.lower()):
        return "refuses"
    if continues_the_sentence(answer.text):
        return "goes on with the question"
    if is_question(text):
        return "asks back"
    if repetition(text) > 0.2:
        return "goes in circles"
    if not telling_words(text) - telling_words(question):
        return "only repeats the question"
    return ""


def groundedness(answer: str, passage: str) -> float:
    """The share of an answer's telling words that stand in the passage, from 0 to 1.

    A number that is not in the passage makes it 0: that is how invented facts look most often.
    """
    if numbers(answer) - numbers(passage):
        return 0.0
    told = telling_words(answer)
    return len(told & telling_words(passage)) / len(told) if told else 0.0


class Pool:
    """Texts that are there already, to keep near-copies out.

    Two texts are alike when more than `ALIKE` of their words, in order, are the same. That is
    ROUGE-L in Self-Instruct; here it is difflib's ratio over words, which is its near kin.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._known: list[list[str]] = [words(text) for text in texts]

    def has_like(self, text: str) -> bool:
        """True where a text of the pool is too much like `text`."""
        new = words(text)
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
        self._known.append(words(text))


class _Sieve:
    """Collects what passes and what does not."""

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []
        self.rejected: list[dict[str, str]] = []
        self.start = time.perf_counter()

    def reject(self, stage: str, reason: str, question: str, answer: str = "") -> None:
        self.rejected.append(
            {"stage": stage, "reason": reason, "question": question, "answer": answer}
        )

    def done(self) -> Synthesis:
        return Synthesis(self.kept, self.rejected, time.perf_counter() - self.start)


# --- questions about documents -------------------------------------------------------------------


def questions_from_documents(
    passages: Sequence[Passage],
    model: LoadedModel | None = None,
    *,
    limit: int = 100,
    new_tokens: int = 48,
    seed: int = 0,
    progress: bool = True,
) -> Synthesis:
    """Write questions and answers about passages.

    With a model: it reads one sentence and writes a question about it, then answers the question
    from the whole passage. A pair passes if both have a proper form, the answer is grounded in the
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
        The pairs with `document`, `heading` and `source` (the sentence), and what was rejected.

    Raises:
        DataError: the passages have no usable sentence.
    """
    if model is None:
        return _from_headings(passages, limit)
    found = [(passage, text) for passage in passages for text in sentences(passage.text)]
    if not found:
        raise DataError("The passages hold no sentence of 6 to 40 words to ask about.")
    random.Random(seed).shuffle(found)
    found.sort(key=lambda pair: not numbers(pair[1]))
    sieve, pool = _Sieve(), Pool()
    asked = _ask(found[:limit], model, sieve, pool, progress)
    prompts = [f"{p.text}\n\nAnswer from the text above in one sentence. {q}" for p, _, q in asked]
    answers = generate(model, prompts, max_new_tokens=new_tokens, progress=progress)
    for (passage, source, question), answer in zip(asked, answers, strict=True):
        text = answer.text.strip()
        if reason := answer_trouble(answer, question) or _untrue(text, source, passage.text):
            sieve.reject("answer", reason, question, text)
            continue
        sieve.kept.append(
            {"question": question, "answer": text, "document": passage.document,
             "heading": passage.heading, "source": source}
        )  # fmt: skip
    return sieve.done()


def sentences(text: str) -> list[str]:
    """The sentences of 6 to 40 words in a passage, without list marks and bold."""
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "", text, flags=re.M).replace("**", "")
    parts = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    parts = [" ".join(part.split()) for part in parts]
    return [part for part in parts if 6 <= len(part.split()) <= 40 and part[-1] in ".!?"]


def topic(passage: Passage) -> str:
    """What a passage is about: its document's name and its heading."""
    name = PurePosixPath(passage.document).stem.replace("-", " ").replace("_", " ")
    return f"{name}, {passage.heading}" if passage.heading else name


def _ask(
    found: list[tuple[Passage, str]], model: LoadedModel, sieve: _Sieve, pool: Pool, progress: bool
) -> list[tuple[Passage, str, str]]:
    """Let the model write a question for each sentence; keep those in proper form."""
    shots = "".join(f"Sentence ({a}): {b}\nQuestion: {c}\n\n" for a, b, c in _SHOTS)
    prompts = [f"{shots}Sentence ({topic(p)}): {text}\nQuestion:" for p, text in found]
    written = generate(model, prompts, "plain", max_new_tokens=28, progress=progress)
    asked = []
    for (passage, source), answer in zip(found, written, strict=True):
        question = answer.text.strip().split("\n")[0].strip()
        reason = instruction_trouble(question) if question else "empty"
        if not reason and not question.endswith("?"):
            reason = "is no question"
        about = telling_words(f"{topic(passage)} {source}")
        if not reason and len(telling_words(question) & about) < 2:
            reason = "is not about the sentence"
        if not reason and numbers(question) & numbers(source):
            reason = "gives the answer away"
        if not reason and pool.has_like(question):
            reason = "is much like another"
        if reason:
            sieve.reject("question", reason, question)
            continue
        pool.add(question)
        asked.append((passage, source, question))
    return asked


def _untrue(answer: str, source: str, passage: str) -> str:
    """Why an answer can't be trusted; "" if it can, as far as a program can tell."""
    if numbers(answer) - numbers(passage):
        return "has a number that is not in the passage"
    if groundedness(answer, passage) < GROUNDED:
        return "says what is not in the passage"
    if numbers(source) and not numbers(source) & numbers(answer):
        return "does not lead back to the sentence"
    if len(telling_words(source) & telling_words(answer)) < 2:
        return "does not lead back to the sentence"
    return ""


def _from_headings(passages: Sequence[Passage], limit: int) -> Synthesis:
    sieve, pool = _Sieve(), Pool()
    for passage in passages[:limit]:
        name = topic(passage).split(",")[0]
        question = f"What does “{name}” say about “{passage.heading}”?"
        answer = " ".join(sentences(passage.text)[:2])
        if not passage.heading:
            reason = "has no heading"
        elif not answer:
            reason = "has no sentence"
        else:
            reason = "is much like another" if pool.has_like(question) else ""
        if reason:
            sieve.reject("question", reason, question, answer)
            continue
        pool.add(question)
        sieve.kept.append(
            {"question": question, "answer": answer, "document": passage.document,
             "heading": passage.heading, "source": answer}
        )  # fmt: skip
    return sieve.done()


# --- new instructions from seed tasks -----------------------------------------------------------


def self_instruct(
    seed_tasks: Sequence[Mapping[str, Any]],
    model: LoadedModel,
    n: int,
    *,
    examples: int = 6,
    new_tokens: int = 64,
    temperature: float = 0.7,
    brief: str = "Reply briefly, in one or two sentences.",
    unwanted: Callable[[str], bool] | None = None,
    seed: int = 0,
    rounds: int = 12,
    progress: bool = True,
) -> Synthesis:
    """Let a model invent instructions in the manner of seed tasks, and answer them.

    Each prompt is a numbered list of instructions that breaks off; the model, without its chat
    template, goes on with the list. What passes the filters it then answers, with its template.
    After Self-Instruct (Wang et al., 2023) and Alpaca (Taori et al., 2023), where one large model
    did both; here it is a small one, so few answers are right: what they teach is the form.

    Args:
        seed_tasks: Records with an instruction; those with an input are passed over.
        model: A chat model.
        n: How many records are wanted; the last round may bring a few more.
        examples: Instructions in each list, a third of them the model's own once there are some.
        new_tokens: Longest answer in tokens.
        temperature: For the instructions; answers are always the likeliest.
        brief: Said after each instruction when it is answered, and not kept in the record. Left to
            themselves, small chat models write until the limit stops them.
        unwanted: True for instructions to leave out, such as kinds held out for a test.
        seed: For all random draws.
        rounds: After so many rounds it is given up, with what there is.
        progress: False shows nothing.

    Returns:
        The records (question, answer) and what was rejected.

    Raises:
        DataError: there are too few seed tasks.
        TemplateError: a seed task has no instruction.
        SettingError: `n` is less than 1.
    """
    whole("n", n, 1)
    pool_texts = [
        templates.get_field(task, "question")
        for task in seed_tasks
        if not templates.get_field(task, "input", needed=False)
    ]
    if len(pool_texts) < examples:
        raise DataError(
            f"{len(pool_texts)} seed tasks without an input are too few for lists of {examples}."
        )
    sieve, pool, dice = _Sieve(), Pool(pool_texts), random.Random(seed)
    told = f"{model.title} writes and answers instructions"
    with bar(n, told, enabled=progress) as line:
        for number in range(rounds):
            lists = [_list(pool_texts, sieve.kept, examples, dice) for _ in range(24)]
            written = generate(
                model, lists, "plain", max_new_tokens=44, temperature=temperature, progress=False,
                batch_size=24, seed=seed + 1000 * number,
            )  # fmt: skip
            fresh = [text for answer in written for text in _listed(answer)]
            asked = [text for text in fresh if _passes(text, sieve, pool, unwanted)]
            answers = generate(
                model, [f"{text}\n{brief}" for text in asked], max_new_tokens=new_tokens,
                batch_size=24, progress=False,
            )  # fmt: skip
            for text, answer in zip(asked, answers, strict=True):
                if reason := answer_trouble(answer, text):
                    sieve.reject("answer", reason, text, answer.text.strip())
                else:
                    sieve.kept.append({"question": text, "answer": answer.text.strip()})
            line.update(min(n, len(sieve.kept)) - line.n)
            if len(sieve.kept) >= n:
                break
    return sieve.done()


def _list(
    seeds: Sequence[str], own: Sequence[Mapping[str, str]], examples: int, dice: random.Random
) -> str:
    """A numbered list of instructions that breaks off after the next number."""
    borrowed = dice.sample(list(own), min(examples // 3, len(own)))
    chosen = [record["question"] for record in borrowed]
    chosen += dice.sample(list(seeds), examples - len(chosen))
    dice.shuffle(chosen)
    lines = [f"{number}. {text}" for number, text in enumerate(chosen, 1)]
    return "\n".join(["Varied tasks for an assistant:", "", *lines, f"{examples + 1}."])


def _listed(answer: Answer) -> list[str]:
    """The whole instructions in what the model put to the list."""
    lines = answer.text.split("\n")
    if not answer.finished and len(lines) > 1:
        lines = lines[:-1]  # the limit cut the last one off
    return [text for line in lines if (text := re.sub(r"^\s*\d*[.)]?\s*", "", line).strip())]


def _passes(text: str, sieve: _Sieve, pool: Pool, unwanted: Callable[[str], bool] | None) -> bool:
    reason = instruction_trouble(text)
    if not reason and unwanted and unwanted(text):
        reason = "is of an unwanted kind"
    if not reason and pool.has_like(text):
        reason = "is much like another"
    if reason:
        sieve.reject("instruction", reason, text)
        return False
    pool.add(text)
    return True
