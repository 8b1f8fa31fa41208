"""The pairs of a blind vote and the votes on them, without anything to be seen."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse import templates
from llmcourse.errors import DataError, SettingError, first_line, whole
from llmcourse.evaluation.agreement import is_writable, jsonl, read_jsonl, write_jsonl
from llmcourse.evaluation.ratings import TIE
from llmcourse.files import lock
from llmcourse.stats import Share

CHOICES = {
    "left": "Left is better",
    "right": "Right is better",
    "equal": "Both equally good",
    "bad": "Both bad",
}
_FIELDS = ("pair", "question", "left", "right", "vote")


@dataclass(frozen=True)
class Pair:
    """Two answers to one question, side by side.

    Attributes:
        question: What was asked.
        left: The name of whoever wrote the answer on the left.
        right: The same for the right.
        left_text: The answer on the left.
        right_text: The answer on the right.
    """

    question: str
    left: str
    right: str
    left_text: str
    right_text: str

    @property
    def key(self) -> str:
        """What a vote is kept under: the same whichever side an answer stands on."""
        sides = sorted([(self.left, self.left_text), (self.right, self.right_text)])
        parts = json.dumps([self.question, sides]).encode()
        return hashlib.sha256(parts).hexdigest()[:16]


class Ballot:
    """The pairs to vote on and the votes so far, each in the file before the next pair comes.

    Attributes:
        pairs: Every two answers to every question, in an order and on sides drawn with the seed.
        place: The number of the pair at hand, from 0; `len(pairs)` when all have a vote.
        path: The file with the votes.
        references: A question to what is right, where that is told.
    """

    def __init__(
        self,
        questions: Iterable[str | templates.Record],
        answers: Mapping[str, Iterable[Any]],
        path: str | Path,
        *,
        references: Iterable[str] | None = None,
        seed: int = 0,
    ) -> None:
        """Draw the pairs and read the votes so far; see `BlindVote`."""
        dice = random.Random(whole("seed", seed, 0))
        self.path = jsonl(path)
        asked = _asked(questions)
        self.references = _references(asked, references)
        self.pairs = _pairs(asked, answers, dice)
        self._keys = [pair.key for pair in self.pairs]
        self._rows = self._read()
        self.place = self._next(0)

    @property
    def current(self) -> Pair | None:
        """The pair at hand; None when all have a vote."""
        return self.pairs[self.place] if self.place < len(self.pairs) else None

    @property
    def voted(self) -> int:
        """How many pairs have a vote."""
        return sum(key in self._rows for key in self._keys)

    @property
    def others(self) -> int:
        """Votes in the file on other pairs than these: they stay there and do not count here."""
        return len(self._rows.keys() - set(self._keys))

    def given(self, place: int) -> str:
        """The vote on a pair as seen from its sides now, a key of `CHOICES`; "" if it has none."""
        row = self._rows.get(self._keys[place])
        if row is None:
            return ""
        winner = row.get(row["vote"])
        pair = self.pairs[place]
        return {pair.left: "left", pair.right: "right"}.get(winner, row["vote"])

    def vote(self, choice: str) -> None:
        """Vote on the pair at hand, keep the vote, and go to the next pair without one.

        Args:
            choice: A key of `CHOICES`.

        Raises:
            SettingError: there is no such choice, or no pair at hand.
            DataError: the vote can't be kept; it does not count, and the pair stays at hand.
            NoSpace: the same, for a full disk.
        """
        if choice not in CHOICES:
            raise SettingError(f"There is no choice {choice!r}. There are: {', '.join(CHOICES)}.")
        pair = self.current
        if pair is None:
            raise SettingError("Every pair has a vote. back() goes to the last one.")
        key = self._keys[self.place]
        row = {"pair": key, "question": pair.question, "left": pair.left, "right": pair.right,
               "vote": choice}  # fmt: skip
        try:
            with lock(self.path.with_name(f".{self.path.name}.lock")):
                rows = self._read() | {key: row}  # another window may have voted meanwhile
                write_jsonl(self.path, rows.values())
        except OSError as error:
            raise DataError(f"{self.path} can't be written: {first_line(error)}.") from error
        self._rows = rows
        self.place = self._next(self.place)

    def back(self) -> None:
        """Go to the pair before; a new vote there replaces the old one."""
        self.place = max(0, self.place - 1)

    def results(self) -> list[tuple[str, str, str]]:
        """The votes as (name on the left, name on the right, winner's name or "tie").

        Both equally good and both bad are ties. In the order of the pairs.
        """
        rows = [self._rows[key] for key in self._keys if key in self._rows]
        return [(row["left"], row["right"], row.get(row["vote"], TIE)) for row in rows]

    def wins(self) -> dict[str, Share]:
        """How often each name won, of the votes on its answers; without names that have no vote."""
        results = self.results()
        names = dict.fromkeys(name for pair in self.pairs for name in (pair.left, pair.right))
        found = {}
        for name in sorted(names):
            winners = [winner for left, right, winner in results if name in (left, right)]
            if winners:
                found[name] = Share(winners.count(name), len(winners))
        return found

    def _next(self, start: int) -> int:
        """The first pair without a vote from `start` on, else from the beginning on."""
        count = len(self.pairs)
        order = itertools.chain(range(start, count), range(start))
        return next((place for place in order if self._keys[place] not in self._rows), count)

    def _read(self) -> dict[str, dict[str, str]]:
        """The votes in the file by the key of their pair; none where there is no file yet.

        Raises:
            DataError: it can't be read, or a line in it is no vote.
        """
        found: dict[str, dict[str, str]] = {}
        if not self.path.exists() or not self.path.stat().st_size:
            return found
        for line, row in read_jsonl(self.path):
            texts = all(isinstance(value, str) for value in row.values())
            if set(row) != set(_FIELDS) or not texts or row["vote"] not in CHOICES:
                raise DataError(
                    f"{self.path}, line {line}: this is no vote. A vote has the fields "
                    f"{', '.join(_FIELDS)}, all of them text. Remove the line, or name another "
                    f"file."
                )
            found[row["pair"]] = row
        return found


def _asked(questions: Any) -> list[str]:
    """The questions as texts.

    Raises:
        DataError: there are none, or the same one comes twice.
        PromptError, TemplateError: see `templates.render`.
    """
    if isinstance(questions, str | Mapping) or not isinstance(questions, Iterable):
        raise DataError(f"questions must be a list, not {type(questions).__name__}.")
    asked = [templates.render(question, "plain").prompt for question in questions]
    seen: dict[str, int] = {}
    for number, question in enumerate(asked):
        if not is_writable(question):
            raise DataError(f"Question {number} (counted from 0) has characters that are no text.")
        if (before := seen.setdefault(question, number)) != number:
            raise DataError(f"Question {number} (counted from 0) is the same as question {before}.")
    if not asked:
        raise DataError("There are no questions to vote on.")
    return asked


def _references(asked: list[str], references: Any) -> dict[str, str]:
    """Each question's right answer, by question; {} where none are given.

    Raises:
        DataError: they are no texts, or not one for each question.
    """
    if references is None:
        return {}
    if isinstance(references, str | Mapping) or not isinstance(references, Iterable):
        raise DataError(f"references must be a list, not {type(references).__name__}.")
    texts = list(references)
    if len(texts) != len(asked) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"references must be {len(asked)} texts, one for each question.")
    return dict(zip(asked, texts, strict=True))


def _pairs(asked: list[str], answers: Any, dice: random.Random) -> list[Pair]:
    """Every two answers to every question, shuffled.

    Raises:
        DataError: there are not two names with an answer to each.
    """
    if not isinstance(answers, Mapping) or len(answers) < 2:
        raise DataError("answers must map at least two names to their lists of answers.")
    texts = {}
    for name, given in answers.items():
        if not isinstance(name, str) or not name.strip() or name == TIE or not is_writable(name):
            raise DataError(f"{name!r:.60} is no name for whoever wrote the answers.")
        if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
            raise DataError(f"{name}: a list of answers is wanted, not {type(given).__name__}.")
        texts[name] = list(map(str, given))
        if len(texts[name]) != len(asked):
            raise DataError(
                f"{name}: there are {len(texts[name])} answers to {len(asked)} questions."
            )
    pairs = []
    for number, question in enumerate(asked):
        for names in itertools.combinations(texts, 2):
            left, right = dice.sample(names, 2)
            pairs.append(Pair(question, left, right, texts[left][number], texts[right][number]))
    dice.shuffle(pairs)
    return pairs
