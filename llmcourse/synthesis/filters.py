"""What is wrong with what a model wrote, as far as a program can tell; and what is left."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    import pandas

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


def instruction_trouble(text: str, *, grounded: bool = False) -> str:
    """What is wrong with the form of an instruction or question; "" if nothing is.

    One that is `grounded` is about a text, which may be about files and pictures.
    """
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
            not grounded
            and (content_words(text.replace("-", " ")) & IMPOSSIBLE or _TO_DRAW.search(text)),
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
        ("breaks off", text.endswith((",", ":"))),
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


# --- what passed, and what did not ----------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Synthesis:
    """Records that a model wrote, and why the others were rejected.

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
        """How many were tried in all."""
        return len(self.records) + len(self.rejected)

    def report(self) -> pandas.DataFrame:
        """How many passed, and how many were rejected for which reason, with an example each."""
        import pandas

        groups = {("", "passed"): self.records}
        for row in self.rejected:
            groups.setdefault((row["stage"], row["reason"]), []).append(row)
        rows = []
        for (stage, reason), group in groups.items():
            example = " ".join(group[0][name] for name in ("question", "answer")) if group else ""
            rows.append([stage, reason, len(group), example.strip()[:120]])
        return pandas.DataFrame(rows, columns=["stage", "reason", "count", "example"])

    def reasons(self) -> list[dict[str, Any]]:
        """Why pairs were rejected: stage, reason, count and one example, most frequent first."""
        # The first row is what passed.
        rows = self.report().iloc[1:].sort_values("count", ascending=False, kind="stable")
        return rows.to_dict("records")

    def __repr__(self) -> str:
        """One line, not all that was written."""
        return f"Synthesis: {self}"

    def __str__(self) -> str:
        return (
            f"{len(self.records)} of {self.tried} passed, in {self.seconds:.0f} s "
            f"({60 * len(self.records) / max(self.seconds, 1e-9):.0f} per minute)"
        )


class Sieve:
    """Collects what passes and what does not.

    What is rejected is kept with its reason: which filter takes most says what to change, the
    prompt, the model or the filter.
    """

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []
        self.rejected: list[dict[str, str]] = []
        self.start = time.perf_counter()

    def passes(self, stage: str, reason: str, question: str, answer: str = "") -> bool:
        """True where there is no reason to reject; otherwise it is noted."""
        if reason:
            row = {"stage": stage, "reason": reason, "question": question, "answer": answer}
            self.rejected.append(row)
        return not reason

    def done(self) -> Synthesis:
        return Synthesis(self.kept, self.rejected, time.perf_counter() - self.start)
