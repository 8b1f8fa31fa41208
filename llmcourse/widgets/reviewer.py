"""Pairs that a model wrote, to be accepted, corrected or rejected one by one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from llmcourse import pages, ui
from llmcourse.data.reviewing import FIRST, SEEN, Reviewing

SHOWN = 5  # pairs in the plain table
ACTIONS = {"accept": "Accept", "reject": "Reject", "skip": "Later", "back": "Back one"}
KEYS = {"a": "accept", "r": "reject", "l": "skip", "b": "back", "e": "edit"}


class PairReview(ui.Widget):
    """Go through a file of `own.save_for_review`; the last line of a cell shows it.

    Accept keeps the pair as it is in the boxes, corrected or not. Each decision is in the file
    before the next pair comes, and the same call goes on where it was. `own.load_reviewed` reads
    the file, and a spreadsheet opens it, but not both at once: what another program has changed
    meanwhile is never written over.

    With the keyboard alone: Tab goes from box to button. Or stay in the box "Keys" and type a
    letter: a accepts, r rejects, l leaves it for later, b goes back, e goes to the answer's box to
    correct it (where ipywidgets can, from version 8 on).

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
        return f"PairReview of {self.reviewing.path.name}: {self.counts}"

    @property
    def counts(self) -> str:
        """How many pairs are accepted, rejected and open, in words."""
        return ", ".join(f"{count} {name}" for name, count in self.reviewing.counts.items())

    @cached_property
    def texts(self) -> dict[str, Any]:
        """The boxes of the question and the answer."""
        # Sent at once when the box is left. Letter by letter, what waits for a busy kernel would
        # come after the press of Accept, and the words be lost.
        late = {"continuous_update": False}
        return {
            name: ui.control("Textarea", name.capitalize(), "98%", rows=rows, **late)
            for name, rows in (("question", 2), ("answer", 4))
        }

    @cached_property
    def keys(self) -> Any:
        """The box that takes single letters."""
        hint = "a accept, r reject, l later, b back, e edit"
        keys = ui.control("Text", "Keys", "98%", placeholder=hint)
        keys.observe(self._do_typed_letters, names="value")
        return keys

    @cached_property
    def buttons(self) -> dict[str, Any]:
        """The buttons by name of the action."""
        return ui.make_buttons(ACTIONS, ui.once(self.act, "skip", "back"))

    def act(self, name: str) -> bool:
        """Do one of `ACTIONS`, or go to the answer's box ("edit"); returns whether it was done."""
        if name == "edit":
            if hasattr(self.texts["answer"], "focus"):
                self.texts["answer"].focus()
            else:  # ipywidgets 7
                self._show_pair("Press Shift+Tab until you are in the answer's box.")
            return True
        texts = {key: box.value for key, box in self.texts.items()} if name == "accept" else {}
        trouble = ui.saving_error(lambda: getattr(self.reviewing, name)(**texts))
        self._show_pair(trouble)
        return not trouble

    def fallback(self) -> dict[str, Any]:
        review = self.reviewing
        rows = [[pair[name] for name in FIRST] for pair in review.rows[:SHOWN]]
        caption = (
            f"{len(rows)} of {len(review.rows)} pairs. Run this cell in a notebook to review them, "
            f"or open {review.path.name} in a spreadsheet."
        )
        return ui.plain_table(FIRST, rows, caption)

    def build(self) -> Any:
        html, buttons = self.html, ui.row(*self.buttons.values())
        self._show_pair()
        boxes = self.texts.values()
        return ui.column(html["progress"], html["source"], *boxes, buttons, self.keys, html["note"])

    def _do_typed_letters(self, change: dict[str, str]) -> None:
        """Each letter added behind the others is an action; a deleted one is none.

        The box is not emptied: a person may type on before that would reach the page, and the same
        letter would then come twice.
        """
        old, new = change["old"], change["new"]
        typed = new.removeprefix(old) if new.startswith(old) else new if len(new) == 1 else ""
        for letter in "".join(typed.split()).lower():
            if letter in KEYS:
                self.act(KEYS[letter])
            else:
                self._show_pair(f"{letter!r} is no key here.")

    def _show_pair(self, note: str = "") -> None:
        """Put the current pair on the page; with a note, what was typed stays in the boxes."""
        review, pair = self.reviewing, self.reviewing.current or {}
        if pair:
            now = {"yes": "accepted", "no": "rejected"}[pair["keep"]] if pair[SEEN] else "open"
            line = f"Pair {review.place + 1} of {len(review.rows)}, {now}. In all:"
        else:
            line = f"All {len(review.rows)} pairs are decided on:"
        more = [name for name in pair if name not in (*FIRST, SEEN) and pair[name].strip()]
        source = "".join(ui.part(name, ui.cut(pair[name])) for name in more)
        if not note:  # with trouble, what was typed is still to be saved
            for name, box in self.texts.items():
                box.value = pair.get(name, "")
        progress = pages.status(f"{line} {self.counts}.")
        self.put(progress=progress, source=source, note=pages.status(note))
