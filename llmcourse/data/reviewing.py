"""Pairs as a table that a learner reads and corrects before anything is trained.

A spreadsheet does (`save_for_review`, `load_reviewed`), and so does `widgets.PairReview`; both
work on the same file (`Reviewing`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse.data.readers import Bad, any_text, open_source, separator_of
from llmcourse.data.records import OTHER_HISTORY, as_text, read_turns
from llmcourse.errors import DataError, first_line
from llmcourse.files import lock, replacing
from llmcourse.templates import is_blank

FIRST = ("question", "answer", "keep")
SEEN = "reviewed"  # a column for the rows that a person has decided on in a notebook
YES = ("yes", "y", "true", "1", "x", "ja", "oui", "si", "sí")
NO = ("no", "n", "false", "0", "nein", "non")
# A spreadsheet takes a cell that begins so for a formula. An apostrophe before it says "text".
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def save_for_review(records: Sequence[Mapping[str, Any]], path: Path | str) -> Path:
    """Write pairs to a CSV file with a column `keep`, "yes" in every row.

    Args:
        records: With question and answer; other fields become further columns.
        path: A new file. One that is there may be a review, and is never overwritten.

    Raises:
        DataError: there are no pairs, the file is there already, or it can't be written.
        NoSpace: the disk is full.
    """
    target = Path(path).expanduser()
    if not len(records):
        raise DataError("There are no pairs to review.")
    if target.exists():
        raise DataError(
            f"{target} is there already and may have been reviewed, so it is not overwritten. Load "
            f"it with load_reviewed, or move it away."
        )
    more = dict.fromkeys(
        name
        for record in records
        for name, value in record.items()
        if name not in (*FIRST, SEEN) and str(value).strip()
    )
    _write(target, [*FIRST, *more], [dict(record) | {"keep": "yes"} for record in records])
    return target


def load_reviewed(path: Path | str) -> list[dict[str, Any]]:
    """The pairs that are to be kept, from a file of `save_for_review`.

    `keep` is "yes" or "no" (also y, x, 1, true; n, 0, false). Answers may have been corrected and
    rows added. A file that a spreadsheet wrote with semicolons is read too.

    Raises:
        DataError: the file can't be read, a column is missing, a row has no "yes" or "no", a kept
            one has a blank question or answer, or no row is kept; the message names the line.
    """
    kept = []
    for here, record in _rows(Path(path).expanduser()):
        if record.pop("keep") == "yes":
            _require_texts(record, here)
            record.pop(SEEN, None)  # of the review, and nothing to train on
            if "history" in record:
                text = record.pop("history")
                turns = read_turns(text)
                record |= {OTHER_HISTORY: text} if turns is None else {"history": turns}
            kept.append(record)
    if not kept:
        raise DataError(f"{path}: no pair is kept. Set keep to yes where one is good.")
    return kept


@dataclass
class Reviewing:
    """A file of `save_for_review` as it is reviewed row by row; each decision is in it at once.

    Attributes:
        path: The file.
        rows: All its rows; the column `reviewed` is "yes" where a person has decided here.
        place: The number of the current row, from 0; `len(rows)` where all have been decided on.
    """

    path: Path
    rows: list[dict[str, Any]] = field(repr=False)
    place: int = 0
    _before: bytes = field(default=b"", repr=False)  # what the file held when it was read

    @classmethod
    def of(cls, path: Path | str) -> Reviewing:
        """Read a file of `save_for_review`, half reviewed or not.

        Raises:
            DataError: see `load_reviewed`; that no row is kept is no error here.
        """
        target = Path(path).expanduser()
        before = target.read_bytes() if target.is_file() else b""
        rows = [row | {SEEN: row.get(SEEN, "").strip()} for _, row in _rows(target)]
        if not rows:
            raise DataError(f"{target} has no pairs.")
        review = cls(target, rows, _before=before)
        review.place = review._next_open(0)
        return review

    @property
    def current(self) -> dict[str, Any] | None:
        """The current row; None where all have been decided on."""
        return self.rows[self.place] if self.place < len(self.rows) else None

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were accepted, were rejected, and are open."""
        seen = [row["keep"] for row in self.rows if row[SEEN]]
        yes, no = seen.count("yes"), seen.count("no")
        return {"accepted": yes, "rejected": no, "open": len(self.rows) - len(seen)}

    def accept(self, question: str | None = None, answer: str | None = None) -> None:
        """Keep the current row, corrected where texts are given, and go to the next open one.

        Raises:
            DataError: a text is blank or no text, there is no current row, or the file can't be
                written or was changed by something else; nothing is changed then.
            NoSpace: the disk is full; the same.
        """
        texts = {"question": question, "answer": answer}
        changed = {name: text for name, text in texts.items() if text is not None}
        self._decide({**changed, "keep": "yes"})

    def reject(self) -> None:
        """Do not keep the current row, and go to the next open one.

        Raises:
            DataError, NoSpace: see `accept`.
        """
        self._decide({"keep": "no"})

    def back(self) -> None:
        """Go to the row before; a decision there replaces the old one."""
        self.place = max(0, self.place - 1)

    def skip(self) -> None:
        """Go to the row after without deciding; after the last one, to the first open one."""
        self.place = self.place + 1 if self.place + 1 < len(self.rows) else self._next_open(0)

    def _decide(self, changes: dict[str, str]) -> None:
        if self.current is None:
            raise DataError("All pairs have been decided on. back() goes to the last one.")
        row = self.current | changes | {SEEN: "yes"}
        if row["keep"] == "yes":
            _require_texts(row, "This pair")
        rows = [row if place == self.place else old for place, old in enumerate(self.rows)]
        columns = list(dict.fromkeys([*FIRST, *(n for old in rows for n in old), SEEN]))
        try:
            with lock(self.path.with_name(f".{self.path.name}.lock")):
                # a spreadsheet may have saved its own corrections meanwhile
                if self.path.read_bytes() != self._before:
                    raise DataError(
                        f"{self.path.name} was changed by another program, so nothing was written "
                        f"over it. Run the cell again to read the file again."
                    )
                separator = separator_of(any_text(self._before)[0])
                _write(self.path, columns, rows, separator)
                self._before = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path} can't be written: {first_line(error)}.") from error
        self.rows = rows
        self.place = self._next_open(self.place)

    def _next_open(self, start: int) -> int:
        """The first open row from `start` on, else from the beginning on."""
        count = len(self.rows)
        # on from here, as a person reads; then round, to what was left for later
        order = [*range(start, count), *range(start)]
        return next((place for place in order if not self.rows[place][SEEN]), count)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row is, for messages, and the row as text, its `keep` "yes" or "no".

    Raises:
        DataError: the file can't be read, a column is missing, or `keep` says something else.
    """
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} is no .csv file. Save the table as CSV (UTF-8).")
    for line, row in open_source(path)[1]:
        here = f"{path}, line {line}"
        if isinstance(row, Bad):
            raise DataError(f"{here}: {row}.")
        record = {str(name).strip(): _text(value) for name, value in row.items()}
        if missing := [name for name in FIRST if name not in record]:
            raise DataError(
                f"{path} has no column {missing[0]!r}; it has: {', '.join(record) or 'none'}."
            )
        keep = record["keep"].strip().casefold()
        if keep and keep not in YES + NO:
            raise DataError(f"{here}: keep is {keep!r:.40}. Write yes or no.")
        # blank, as in a line that a person added, is yes
        yield here, record | {"keep": "no" if keep in NO else "yes"}


def _require_texts(record: Mapping[str, Any], here: str) -> None:
    """Raise a DataError where the question or the answer of a kept row is blank."""
    for name in ("question", "answer"):
        if is_blank(record[name]):
            raise DataError(f"{here}: the {name} is blank. Fill it in, or write no under keep.")


def _write(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], separator: str = ","
) -> None:
    """Write the table completely or not at all.

    Raises:
        DataError: it can't be written.
        NoSpace: the disk is full.
    """
    try:
        with (
            replacing(path) as draft,
            # the mark at the beginning tells spreadsheets that it is UTF-8
            draft.open("w", encoding="utf-8-sig", newline="") as file,
        ):
            table = csv.writer(file, delimiter=separator, lineterminator="\n")
            table.writerow(columns)
            table.writerows([_cell(row.get(name, "")) for name in columns] for row in rows)
    except (OSError, UnicodeEncodeError) as error:  # the latter: half a character
        raise DataError(f"{path} can't be written: {first_line(error)}.") from error


def _cell(value: Any) -> str:
    text = as_text(value).replace("\r\n", "\n").replace("\r", "\n")  # one way of ending lines
    return f"'{text}" if text.startswith(_FORMULA) else text


def _text(value: Any) -> str:
    """A cell as it was before `_cell`."""
    text = "" if value is None else str(value)
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
