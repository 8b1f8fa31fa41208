"""A blind vote between answers: the pairs and the votes on them, and the page with buttons."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmcourse import pages, templates, ui
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.evaluation.judge import TIE
from llmcourse.files import lines_path, lock, read_lines, write_lines
from llmcourse.stats import Share

CHOICES = {
    "left": "Left is better",
    "right": "Right is better",
    "equal": "Both equally good",
    "bad": "Both bad",
}
FIELDS = ("pair", "question", "left", "right", "vote")
SHOWN = 3  # pairs in the plain table


@dataclass(frozen=True)
class Pair:
    """Two answers to one question, side by side.

    Attributes:
        question: The question.
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
        """What a vote is kept under: the same whichever side an answer is on."""
        # Without the sides, a vote counts with any seed. With the texts, a vote on an answer that
        # was generated again does not count.
        sides = sorted([(self.left, self.left_text), (self.right, self.right_text)])
        return hashlib.sha256(json.dumps([self.question, sides]).encode()).hexdigest()[:16]


class BlindVote(ui.Widget):
    """Vote on answers without knowing whose they are; the last line of a cell shows it.

    Each vote is in the file before the next pair comes, so nothing is lost when the kernel stops,
    and the same call goes on where it was. Between the votes the kernel is free.

    Where a person runs the cell, it shows buttons. It shows a plain table of the first pairs where
    a program does (it says that nobody can be asked: Jupyter's `allow_stdin`), where there is no
    notebook, and where the environment has `LLMCOURSE_STATIC=1`. The buttons carry that table, so
    that a saved notebook shows it without any widget state.

    Attributes:
        pairs: Every two answers to every question, in an order and on sides drawn with the seed.
        place: The number of the current pair, from 0; `len(pairs)` when all have a vote.
        path: The file with the votes.
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
        """Draw the order and the sides, and read the votes so far.

        Args:
            questions: Questions, or records with one; each once.
            answers: A name to its answers, as text or as `generate` gives them. Of more than two
                names every two are compared.
            path: A .jsonl file for the votes, which need not exist yet.
            references: The right answers, one per question, for voters who can't know them.
            seed: Of the order and the sides. Votes count whatever the seed.

        Raises:
            DataError: questions and answers do not belong together, or the file has other things
                than votes in it.
            PromptError, TemplateError: a question is empty or no question.
        """
        self.path = lines_path(path)
        prompts = [templates.render(question, "plain").prompt for question in questions]
        texts = {name: [*map(str, given)] for name, given in answers.items()}
        known = list(references) if references is not None else [""] * len(prompts)
        if len(set(prompts)) < len(prompts) or len(texts) < 2 or TIE in texts:
            raise DataError(f"Give each question once, and two names or more, none of them {TIE}.")
        for name, given in {**texts, "references": known}.items():
            if not prompts or len(given) != len(prompts):
                raise DataError(f"{name}: {len(given)} texts for {len(prompts)} questions.")
        self.references = dict(zip(prompts, known, strict=True))
        # Shuffled sides, as people prefer the answer on the left; shuffled order, as they tire.
        rng = random.Random(seed)
        self.pairs = []
        for number, prompt in enumerate(prompts):
            for two in itertools.combinations(texts, 2):
                left, right = rng.sample(two, 2)
                both = texts[left][number], texts[right][number]
                self.pairs.append(Pair(prompt, left, right, *both))
        rng.shuffle(self.pairs)
        self._votes = self._read_votes()
        self.place = self._next_open(0)

    def __repr__(self) -> str:
        return f"BlindVote: {self.voted} of {len(self.pairs)} pairs voted on"

    @property
    def voted(self) -> int:
        """How many pairs have a vote."""
        return sum(pair.key in self._votes for pair in self.pairs)

    def choice(self, place: int) -> str:
        """The vote on a pair as seen from its sides now, a key of `CHOICES`; "" if it has none."""
        pair = self.pairs[place]
        kept = self._votes.get(pair.key, {"vote": ""})
        winner = kept.get(kept["vote"], "")  # the name on the better side; "" for a tie
        return {pair.left: "left", pair.right: "right"}.get(winner, kept["vote"])

    def vote(self, choice: str) -> None:
        """Vote on the current pair, keep the vote, and go to the next pair without one.

        Args:
            choice: A key of `CHOICES`.

        Raises:
            SettingError: there is no such choice, or every pair has a vote.
            DataError: the vote can't be kept; it does not count, and the pair stays.
            NoSpace: the same, for a full disk.
        """
        if choice not in CHOICES or self.place == len(self.pairs):
            choices = ", ".join(CHOICES)
            raise SettingError(
                f"A vote is one of {choices}, and back() goes back to a pair that has one already."
            )
        pair = self.pairs[self.place]
        values = (pair.key, pair.question, pair.left, pair.right, choice)
        try:
            with lock(self.path.with_name(f".{self.path.name}.lock")):
                # Another window may have voted meanwhile.
                votes = self._read_votes() | {pair.key: dict(zip(FIELDS, values, strict=True))}
                write_lines(self.path, votes.values())  # all or nothing, by a rename
        except OSError as error:
            raise DataError(f"{self.path} can't be written: {first_line(error)}.") from error
        self._votes = votes
        self.place = self._next_open(self.place)

    def back(self) -> None:
        """Go to the pair before; a new vote there replaces the old one."""
        self.place = max(0, self.place - 1)

    def results(self) -> list[tuple[str, str, str]]:
        """The votes as (name on the left, name on the right, winner's name or "tie").

        Both equally good and both bad are ties. In the order of the pairs, as `evaluation.elo`
        takes them.
        """
        votes = [self._votes[pair.key] for pair in self.pairs if pair.key in self._votes]
        return [(vote["left"], vote["right"], vote.get(vote["vote"], TIE)) for vote in votes]

    def wins(self) -> dict[str, Share]:
        """How often each name won, of the votes on its answers; without names that have no vote."""
        results = self.results()
        total = Counter(name for left, right, _ in results for name in (left, right))
        won = Counter(winner for *_, winner in results)
        return {name: Share(won[name], total[name]) for name in sorted(total)}

    def _next_open(self, start: int) -> int:
        """The first pair without a vote from `start` on, else from the beginning."""
        # On from here first; then round, to the pairs that were left out.
        order = [*range(start, len(self.pairs)), *range(start)]
        return next((place for place in order if not self.choice(place)), len(self.pairs))

    def _read_votes(self) -> dict[str, dict[str, str]]:
        """The votes in the file by the key of their pair; none where there is no file yet.

        Raises:
            DataError: it can't be read, or a line in it is no vote.
        """
        votes = {}
        for line, vote in read_lines(self.path) if self.path.exists() else ():
            if set(vote) != set(FIELDS) or vote["vote"] not in CHOICES:
                raise DataError(
                    f"{self.path}, line {line}: a vote has the fields {', '.join(FIELDS)}. Remove "
                    f"the line, or name another file."
                )
            votes[vote["pair"]] = vote
        return votes

    # --- the page ---------------------------------------------------------------------------------

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons by choice, and "back"."""
        return ui.make_buttons(CHOICES | {"back": "Back one"}, ui.once(self._pressed, "back"))

    def fallback(self) -> dict[str, Any]:
        rows = [[pair.question, pair.left_text, pair.right_text] for pair in self.pairs[:SHOWN]]
        caption = f"{len(rows)} of {len(self.pairs)} pairs. Run this cell in a notebook to vote."
        return ui.plain_table(["question", "left", "right"], rows, caption)

    def build(self) -> Any:
        html = self.html
        self._show_pair()
        sides, buttons = ui.row(html["left"], html["right"]), ui.row(*self.buttons.values())
        return ui.column(html["progress"], html["question"], sides, buttons, html["note"])

    def _pressed(self, choice: str) -> bool:
        trouble = ui.saving_error(self.back if choice == "back" else lambda: self.vote(choice))
        self._show_pair(trouble)
        return not trouble

    def _show_pair(self, trouble: str = "") -> None:
        """Put the current pair on the page."""
        count, notes = len(self.pairs), [trouble]
        for choice, button in self.buttons.items():
            button.disabled = self.place == (0 if choice == "back" else count)
        if self.place == count:
            progress = f"All {count} pairs are voted on."
            then = "wins() of this vote tells who won how often, results() gives every vote."
            self.put(question=pages.status(then), left="", right="")
        else:
            pair, progress = self.pairs[self.place], f"{self.place + 1} of {count}"
            question = ui.part("Question", pair.question)
            if reference := self.references[pair.question]:
                question += ui.part("What is right", reference)
            left = ui.part("Answer on the left", pair.left_text)
            right = ui.part("Answer on the right", pair.right_text)
            self.put(question=question, left=left, right=right)
            if choice := self.choice(self.place):
                notes.append(f"Your vote so far: {CHOICES[choice]}.")
        if others := len(self._votes) - self.voted:
            notes.append(
                f"{self.path.name} also has votes on {others} other pairs, which stay there and do "
                f"not count here."
            )
        note = pages.status(" ".join(filter(None, notes)))
        self.put(progress=pages.status(progress), note=note)
