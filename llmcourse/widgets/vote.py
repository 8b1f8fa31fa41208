"""The page of a blind vote: buttons for a person, a plain table for everyone else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates
from llmcourse.stats import Share
from llmcourse.widgets.ballot import CHOICES, Ballot
from llmcourse.widgets.shared import Shown, buttons, cut, halves, once, part, row, status, told

if TYPE_CHECKING:
    import ipywidgets

_SHOWN = 3  # pairs in the plain table


class BlindVote(Shown):
    """Vote on answers without knowing whose they are; the last line of a cell shows it.

    Each vote is in the file before the next pair comes, so nothing is lost when the kernel stops,
    and the same call goes on where it was. Between the votes the kernel is free.

    Shown are buttons where a person runs the cell, and a plain table of the first pairs where a
    program does (it says that nobody can be asked: Jupyter's `allow_stdin`), where there is no
    notebook, and where the environment has `LLMCOURSE_STATIC=1`. The buttons have that table with
    them, so that a saved notebook shows it without any widget state.
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
            questions: What was asked: questions, or records with one; each once.
            answers: A name to its answers, as text or as `generate` gives them. Of more than two
                names every two are compared.
            path: A .jsonl file for the votes, there already or not.
            references: What is right, one text a question, for voters who can't know it.
            seed: Of the order and the sides. Votes count whatever the seed.

        Raises:
            DataError: questions and answers do not belong together, or the file has other things
                than votes in it.
            SettingError: `seed` is no whole number.
            PromptError, TemplateError: a question is empty or no question.
        """
        self.ballot = Ballot(questions, answers, path, references=references, seed=seed)

    def __repr__(self) -> str:
        return f"BlindVote: {self.ballot.voted} of {len(self.ballot.pairs)} pairs voted on"

    def results(self) -> list[tuple[str, str, str]]:
        """The votes for `evaluation.judge.elo`; see `Ballot.results`."""
        return self.ballot.results()

    def wins(self) -> dict[str, Share]:
        """How often each name won, of the votes on its answers; see `Ballot.wins`."""
        return self.ballot.wins()

    def buttons(self) -> dict[str, ipywidgets.Button]:
        """The buttons by choice, and "back"."""
        return self.page.buttons

    def _make(self) -> _Buttons:
        return _Buttons(self.ballot)

    def _show_plain(self) -> None:
        pairs = self.ballot.pairs[:_SHOWN]
        plots.table(
            [[cut(text) for text in (pair.question, pair.left_text, pair.right_text)]
             for pair in pairs],
            ["question", "left", "right"],
            caption=f"{len(pairs)} of {len(self.ballot.pairs)} pairs. Run this cell in a notebook "
            "to vote with buttons.",
        )  # fmt: skip


class _Buttons:
    """The buttons and texts on the page, for a `Ballot`.

    Attributes:
        box: The whole.
        buttons: By choice, and "back".
    """

    def __init__(self, ballot: Ballot) -> None:
        import ipywidgets as w

        self._ballot = ballot
        self._progress, self._question, self._note = w.HTML(), w.HTML(), w.HTML()
        self._sides = halves()
        self.buttons = buttons(CHOICES | {"back": "Back one"}, once(self._pressed, "back"))
        self.box = w.VBox([
            self._progress, self._question, row(*self._sides), row(*self.buttons.values()),
            self._note,
        ])  # fmt: skip
        self._fill("")

    def _pressed(self, choice: str) -> bool:
        """Vote or go back; what goes wrong is told on the page, where it would be lost else."""
        act = self._ballot.back if choice == "back" else lambda: self._ballot.vote(choice)
        trouble = told(act, "Not saved.")
        self._fill(trouble)
        return not trouble

    def _fill(self, trouble: str) -> None:
        """Put the pair at hand on the page."""
        ballot, pair = self._ballot, self._ballot.current
        count = len(ballot.pairs)
        for choice, button in self.buttons.items():
            button.disabled = ballot.place == 0 if choice == "back" else pair is None
        if pair is None:
            self._progress.value = status(f"All {count} pairs are voted on.")
            self._question.value = status(
                "wins() of this vote tells who won how often, results() gives every vote."
            )
            texts = [("", "")] * 2
        else:
            self._progress.value = status(f"{ballot.place + 1} of {count}")
            right = ballot.references.get(pair.question)
            self._question.value = part("Question", pair.question) + (
                part("What is right", right) if right else ""
            )
            texts = [("Answer on the left", pair.left_text),
                     ("Answer on the right", pair.right_text)]  # fmt: skip
        for side, (label, text) in zip(self._sides, texts, strict=True):
            side.value = part(label, text) if label else ""
        notes = [trouble]
        if pair is not None and (given := ballot.given(ballot.place)):
            notes.append(f"Your vote so far: {CHOICES[given]}.")
        if ballot.others:
            notes.append(
                f"{ballot.path.name} also has votes on {ballot.others} other pairs, which stay "
                f"there and do not count here."
            )
        self._note.value = status(" ".join(filter(None, notes)))
