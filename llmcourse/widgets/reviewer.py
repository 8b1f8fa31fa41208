"""Pairs that a model wrote, to be accepted, mended or rejected one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse import plots
from llmcourse.data.reviewing import FIRST, SEEN, Reviewing
from llmcourse.widgets.shared import Shown, buttons, cut, once, part, row, status, told, wide

if TYPE_CHECKING:
    import ipywidgets

_SHOWN = 5  # pairs in the plain table
ACTIONS = {"accept": "Accept", "reject": "Reject", "skip": "Later", "back": "Back one"}
KEYS = {"a": "accept", "r": "reject", "l": "skip", "b": "back", "e": "edit"}


class PairReview(Shown):
    """Go through a file of `own.save_for_review`; the last line of a cell shows it.

    Accept keeps the pair as it stands in the boxes, mended or not. Each decision is in the file
    before the next pair comes, and the same call goes on where it was. `own.load_reviewed` reads
    the file, and a spreadsheet opens it, but not both at once: what another program has changed
    meanwhile is never written over.

    With the keyboard alone: Tab goes from box to button. Or stay in the box "Keys" and type a
    letter: a accepts, r rejects, l leaves it for later, b goes back, e goes to the answer's box to
    mend it (where ipywidgets can, from version 8 on).

    Where nobody is there (see `BlindVote`), a table shows the first pairs.
    """

    def __init__(self, path: Path | str) -> None:
        """Read the file.

        Args:
            path: A .csv file of `own.save_for_review`, half reviewed or not.

        Raises:
            DataError: there is no such file, or it is no such table; the message names the line.
        """
        self.reviewing = Reviewing.of(path)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.reviewing.counts.items())
        return f"PairReview of {self.reviewing.path.name}: {counts}"

    def _make(self) -> _Page:
        return _Page(self.reviewing)

    def _show_plain(self) -> None:
        rows = self.reviewing.rows[:_SHOWN]
        plots.table(
            [[cut(pair[name]) for name in FIRST] for pair in rows],
            FIRST,
            caption=f"{len(rows)} of {len(self.reviewing.rows)} pairs. Run this cell in a notebook "
            f"to review them, or open {self.reviewing.path.name} in a spreadsheet.",
        )


class _Page:
    """The controls, and the pair at hand.

    Attributes:
        box: The whole.
        buttons: By name of the action.
        texts: The boxes of the question and the answer.
        keys: The box that takes single letters.
    """

    def __init__(self, reviewing: Reviewing) -> None:
        import ipywidgets as w

        self._reviewing = reviewing
        self._progress, self._source, self._note = w.HTML(), w.HTML(), w.HTML()
        # Sent as a whole when the box is left. Letter by letter, what waits for a busy kernel would
        # come after the press of Accept, and the words be lost.
        self.texts: dict[str, ipywidgets.Textarea] = {
            name: w.Textarea(
                description=name.capitalize(), rows=rows, continuous_update=False, **wide()
            )
            for name, rows in (("question", 2), ("answer", 4))
        }
        self.buttons = buttons(ACTIONS, once(self.act, "skip", "back"))
        self.keys = w.Text(
            description="Keys", placeholder="a accept, r reject, l later, b back, e edit", **wide()
        )
        self.keys.observe(self._typed, names="value")
        self.box = w.VBox([
            self._progress, self._source, *self.texts.values(), row(*self.buttons.values()),
            self.keys, self._note,
        ])  # fmt: skip
        self._fill()

    def _typed(self, change: dict[str, str]) -> None:
        """Each letter put behind the others is an action; what is deleted is none.

        The box is not emptied: a person may type on before that would reach the page, and the same
        letter would then come twice.
        """
        old, new = change["old"], change["new"]
        typed = new.removeprefix(old) if new.startswith(old) else new if len(new) == 1 else ""
        for letter in "".join(typed.split()).lower():
            if letter in KEYS:
                self.act(KEYS[letter])
            else:
                self._fill(f"{letter!r} is no key here.", renew=False)

    def act(self, name: str) -> bool:
        """Do one of `ACTIONS`, or go to the answer's box ("edit"); returns whether it was done."""
        review = self._reviewing
        if name == "edit":
            if hasattr(self.texts["answer"], "focus"):
                self.texts["answer"].focus()
            else:  # ipywidgets 7
                self._fill("Press Shift+Tab until you are in the answer's box.", renew=False)
            return True
        texts = {key: box.value for key, box in self.texts.items()}
        acts = {"accept": lambda: review.accept(**texts), "reject": review.reject,
                "skip": review.skip, "back": review.back}  # fmt: skip
        trouble = told(acts[name], "Not saved.")
        self._fill(trouble, renew=not trouble)
        return not trouble

    def _fill(self, trouble: str = "", *, renew: bool = True) -> None:
        """Put the pair at hand on the page; without `renew`, what was typed stays in the boxes."""
        review, pair = self._reviewing, self._reviewing.current
        counts = ", ".join(f"{count} {name}" for name, count in review.counts.items())
        if pair is None:
            self._progress.value = status(f"All {len(review.rows)} pairs are decided on: {counts}.")
        else:
            now = {"yes": "accepted", "no": "rejected"}[pair["keep"]] if pair[SEEN] else "open"
            self._progress.value = status(
                f"Pair {review.place + 1} of {len(review.rows)}, {now}. In all: {counts}."
            )
        more = {name: text for name, text in (pair or {}).items()
                if name not in (*FIRST, SEEN) and text.strip()}  # fmt: skip
        self._source.value = "".join(part(name, cut(text)) for name, text in more.items())
        for name, box in self.texts.items():
            if renew:
                box.value = pair[name] if pair else ""
        self._note.value = status(trouble)
