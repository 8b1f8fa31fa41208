"""The page of a blind vote: buttons for a person, a plain table for everyone else."""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import plots, templates
from llmcourse.claims import Share
from llmcourse.errors import CourseError, SettingError
from llmcourse.plots.base import without_formulas
from llmcourse.progress import in_notebook
from llmcourse.widgets.ballot import CHOICES, Ballot

if TYPE_CHECKING:
    import ipywidgets

_VIEW = "application/vnd.jupyter.widget-view+json"
_SHOWN, _LONGEST = 3, 400  # pairs in the plain table, and signs of each answer there


class BlindVote:
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
        seed: int = 0,
    ) -> None:
        """Draw the order and the sides, and read the votes so far.

        Args:
            questions: What was asked: questions, or records with one; each once.
            answers: A name to its answers, as text or as `generate` gives them. Of more than two
                names every two are compared.
            path: A .jsonl file for the votes, there already or not.
            seed: Of the order and the sides. Votes count whatever the seed.

        Raises:
            DataError: questions and answers do not belong together, or the file has other things
                than votes in it.
            SettingError: `seed` is no whole number.
            PromptError, TemplateError: a question is empty or no question.
        """
        self.ballot = Ballot(questions, answers, path, seed=seed)
        self._widget: _Buttons | None = None

    def __repr__(self) -> str:
        return f"BlindVote: {self.ballot.voted} of {len(self.ballot.pairs)} pairs voted on"

    def results(self) -> list[tuple[str, str, str]]:
        """The votes for `evaluation.judge.elo`; see `Ballot.results`."""
        return self.ballot.results()

    def wins(self) -> dict[str, Share]:
        """How often each name won, of the votes on its answers; see `Ballot.wins`."""
        return self.ballot.wins()

    @property
    def widget(self) -> ipywidgets.Widget:
        """The buttons, made once."""
        return self._buttons().box

    def buttons(self) -> dict[str, ipywidgets.Button]:
        """The buttons by choice, and "back"."""
        return self._buttons().buttons

    def show(self) -> None:
        """Show the buttons, or the plain table where nobody can press them."""
        from IPython.display import display

        if is_live():
            display(self._repr_mimebundle_(), raw=True)
        else:
            self._show_table()

    def _buttons(self) -> _Buttons:
        if self._widget is None:
            self._widget = _Buttons(self.ballot)
        return self._widget

    def _show_table(self) -> None:
        pairs = self.ballot.pairs[:_SHOWN]
        plots.table(
            [[_cut(text) for text in (pair.question, pair.left_text, pair.right_text)]
             for pair in pairs],
            ["question", "left", "right"],
            caption=f"{len(pairs)} of {len(self.ballot.pairs)} pairs. Run this cell in a notebook "
            "to vote with buttons.",
        )  # fmt: skip

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the plain table, and the buttons where a person can press them."""
        from IPython.utils.capture import capture_output

        bundle: dict[str, Any] = {"text/plain": repr(self)}
        with capture_output() as taken:
            self._show_table()
        for output in taken.outputs[:1]:  # none outside IPython
            bundle |= output.data
        if is_live():
            model_id = self.widget.model_id
            bundle[_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle


def is_live() -> bool:
    """Whether a person runs this in a notebook, and so can press buttons.

    Raises:
        SettingError: `LLMCOURSE_STATIC` is neither 0 nor 1.
    """
    setting = os.environ.get("LLMCOURSE_STATIC", "").strip()
    if setting not in ("", "0", "1"):
        raise SettingError(f"LLMCOURSE_STATIC={setting!r} is not known. Use 1, or leave it unset.")
    if setting == "1" or not in_notebook():
        return False
    kernel = sys.modules["IPython"].get_ipython().kernel
    try:
        request = kernel.get_parent("shell")
    except (AttributeError, TypeError, KeyError):  # other kernels than ipykernel
        return True
    return bool(request.get("content", {}).get("allow_stdin", True))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


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
        side = {"flex": "1 1 18em", "min_width": "0"}
        self._sides = [w.HTML(layout=w.Layout(**side)) for _ in range(2)]
        self.buttons = {
            choice: w.Button(description=text, layout=w.Layout(width="auto"))
            for choice, text in (CHOICES | {"back": "Back one"}).items()
        }
        for choice, button in self.buttons.items():
            button.on_click(lambda _, choice=choice: self._pressed(choice))
        wrap = {"flex_flow": "row wrap"}
        self.box = w.VBox([
            self._progress, self._question,
            w.HBox(self._sides, layout=w.Layout(**wrap)),
            w.HBox(list(self.buttons.values()), layout=w.Layout(**wrap)),
            self._note,
        ])  # fmt: skip
        self._fill("")

    def _pressed(self, choice: str) -> None:
        """Vote or go back; what goes wrong is told on the page, where it would be lost else."""
        trouble = ""
        try:
            if choice == "back":
                self._ballot.back()
            else:
                self._ballot.vote(choice)
        except CourseError as error:
            trouble = f"Not saved. {error}"
        self._fill(trouble)

    def _fill(self, trouble: str) -> None:
        """Put the pair at hand on the page."""
        ballot, pair = self._ballot, self._ballot.current
        count = len(ballot.pairs)
        for choice, button in self.buttons.items():
            button.disabled = ballot.place == 0 if choice == "back" else pair is None
        if pair is None:
            self._progress.value = _status(f"All {count} pairs are voted on.")
            self._question.value = _status(
                "wins() of this vote tells who won how often, results() gives every vote."
            )
            texts = [("", "")] * 2
        else:
            self._progress.value = _status(f"{ballot.place + 1} of {count}")
            self._question.value = _part("Question", pair.question)
            texts = [("Answer on the left", pair.left_text),
                     ("Answer on the right", pair.right_text)]  # fmt: skip
        for part, (label, text) in zip(self._sides, texts, strict=True):
            part.value = _part(label, text) if label else ""
        notes = [trouble]
        if pair is not None and (given := ballot.given(ballot.place)):
            notes.append(f"Your vote so far: {CHOICES[given]}.")
        if ballot.others:
            notes.append(
                f"{ballot.path.name} also has votes on {ballot.others} other pairs, which stay "
                f"there and do not count here."
            )
        self._note.value = _status(" ".join(filter(None, notes)))


def _status(text: str) -> str:
    """A line that screen readers read out when it changes."""
    return f'<div role="status" aria-live="polite">{html.escape(text)}</div>' if text else ""


def _part(label: str, text: str) -> str:
    """A text under its label; markup and formulas in it stay text."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4;padding:4px 12px 8px 0"
    body = html.escape(text) if text.strip() else "<i>(no text)</i>"
    return without_formulas(
        f'<section aria-label="{label}"><b>{label}</b><div style="{style}">{body}</div></section>'
    )
