"""Pairs as a table that a learner reads and mends before anything is trained.

A spreadsheet does (`save_for_review`, `load_reviewed`), and so does `widgets.PairReview`; both
work on the same file (`Reviewing`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse.data.readers import Bad, open_source
from llmcourse.data.records import as_text, earlier_turns
from llmcourse.errors import DataError, first_line
from llmcourse.files import lock, replacing

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

    `keep` is "yes" or "no" (also y, x, 1, true; n, 0, false). Answers may have been mended and
    rows added. A file that a spreadsheet wrote with semicolons is read too.

    Raises:
        DataError: the file can't be read, a column is missing, a row has no "yes" or "no", a kept
            one has a blank question or answer, or no row is kept; the message names the line.
    """
    target = Path(path).expanduser()
    kept = []
    for line, record in _records(target):
        here = f"{target}, line {line}"
        if not _is_kept(record.pop("keep"), here):
            continue
        _require_texts(record, here)
        record.pop(SEEN, None)
        if "history" in record:
            turns = earlier_turns(record["history"], None)
            record["history"] = record["history"] if turns is None else turns
        kept.append(record)
    if not kept:
        raise DataError(f"{target}: no pair is kept. Set keep to yes where one is good.")
    return kept


@dataclass
class Reviewing:
    """A file of `save_for_review` as it is reviewed row by row; each decision is in it at once.

    Attributes:
        path: The file.
        rows: All its rows; the column `reviewed` is "yes" where a person has decided here.
        place: The number of the row at hand, from 0; `len(rows)` where all have been decided on.
    """

    path: Path
    rows: list[dict[str, str]] = field(repr=False)
    place: int = 0
    _before: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, path: Path | str) -> Reviewing:
        """Read a file of `save_for_review`, half reviewed or not.

        Raises:
            DataError: see `load_reviewed`; that no row is kept is no fault here.
        """
        target = Path(path).expanduser()
        before = _bytes(target)
        rows = []
        for line, record in _records(target):
            kept = _is_kept(record["keep"], f"{target}, line {line}")
            rows.append(
                record | {"keep": "yes" if kept else "no", SEEN: record.get(SEEN, "").strip()}
            )
        if not rows:
            raise DataError(f"{target} has no pairs.")
        found = cls(target, rows)
        found._before = before
        found.place = found._next(0)
        return found

    @property
    def current(self) -> dict[str, str] | None:
        """The row at hand; None where all have been decided on."""
        return self.rows[self.place] if self.place < len(self.rows) else None

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were accepted, were rejected, and are open."""
        seen = [row["keep"] for row in self.rows if row[SEEN]]
        return {
            "accepted": seen.count("yes"),
            "rejected": seen.count("no"),
            "open": len(self.rows) - len(seen),
        }

    def accept(self, question: str | None = None, answer: str | None = None) -> None:
        """Keep the row at hand, with other words where they are given, and go to the next open one.

        Raises:
            DataError: a text is blank or no text, there is no row at hand, or the file can't be
                written or was changed by something else; nothing is changed then.
            NoSpace: the disk is full; the same.
        """
        texts = {"question": question, "answer": answer}
        changed = {name: text for name, text in texts.items() if text is not None}
        self._decide({**changed, "keep": "yes"})

    def reject(self) -> None:
        """Do not keep the row at hand, and go to the next open one.

        Raises:
            DataError, NoSpace: see `accept`.
        """
        self._decide({"keep": "no"})

    def back(self) -> None:
        """Go to the row before; a decision there replaces the old one."""
        self.place = max(0, self.place - 1)

    def skip(self) -> None:
        """Go to the row after without deciding; after the last one, to the first open one."""
        self.place = self.place + 1 if self.place + 1 < len(self.rows) else self._next(0)

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
                if _bytes(self.path) != self._before:
                    raise DataError(
                        f"{self.path.name} was changed by another program, so nothing was written "
                        f"over it. Run the cell again: it reads the file anew."
                    )
                _write(self.path, columns, rows, _separator(self.path))
                self._before = _bytes(self.path)
        except OSError as error:
            raise DataError(f"{self.path} can't be written: {first_line(error)}.") from error
        self.rows = rows
        self.place = self._next(self.place)

    def _next(self, start: int) -> int:
        """The first open row from `start` on, else from the beginning on."""
        count = len(self.rows)
        order = [*range(start, count), *range(start)]
        return next((place for place in order if not self.rows[place][SEEN]), count)


def _records(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """The rows as records of text by line.

    Raises:
        DataError: the file can't be read, or a column is missing.
    """
    for line, row in _rows(path):
        here = f"{path}, line {line}"
        if isinstance(row, Bad):
            raise DataError(f"{here}: {row}.")
        if "" in row:
            raise DataError(f"{here}: the row has more cells than there are columns.")
        record = {str(name).strip(): _text(value) for name, value in row.items()}
        for name in FIRST:
            if name not in record:
                raise DataError(
                    f"{path} has no column {name!r}. It needs {', '.join(FIRST)}; it has: "
                    f"{', '.join(record) or 'none'}."
                )
        yield line, record


def _is_kept(cell: str, here: str) -> bool:
    """What a cell of `keep` says; blank, as in a line that a person added, is yes.

    Raises:
        DataError: neither yes nor no.
    """
    answer = cell.strip().casefold()
    if answer and answer not in YES + NO:
        raise DataError(f"{here}: keep is {answer!r:.40}. Write yes or no.")
    return answer not in NO


def _require_texts(record: Mapping[str, str], here: str) -> None:
    """Raise a DataError where the question or the answer of a kept row is blank."""
    for name in ("question", "answer"):
        if not record[name].strip():
            raise DataError(f"{here}: the {name} is blank. Fill it in, or write no under keep.")


def _write(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], separator: str = ","
) -> None:
    """Write the table, whole or not at all.

    Raises:
        DataError: it can't be written.
        NoSpace: the disk is full.
    """
    try:
        with (
            replacing(path) as draft,
            # The mark at the beginning tells spreadsheets that it is UTF-8.
            draft.open("w", encoding="utf-8-sig", newline="") as file,
        ):
            table = csv.writer(file, delimiter=separator, lineterminator="\n")
            table.writerow(columns)
            table.writerows([_cell(row.get(name, "")) for name in columns] for row in rows)
    except UnicodeEncodeError as error:
        raise DataError("A pair has characters that are no text. Type it again.") from error
    except OSError as error:
        raise DataError(f"{path} can't be written: {first_line(error)}.") from error


def _bytes(path: Path) -> bytes:
    """What is in a file; nothing where it can't be read, which whoever reads it then tells."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _rows(path: Path) -> Iterable[tuple[int, Any]]:
    """The rows of a CSV file by line."""
    if path.suffix.lower() != ".csv":
        raise DataError(f"{path} is no .csv file. Save the table as CSV (UTF-8).")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if (separator := _separator(path)) == ",":
        return open_source(path, "train")[1]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=separator, restkey="", restval="")
            return [(table.line_num, row) for row in table if any(row.values())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} can't be read ({first_line(error)}). Save it as CSV in UTF-8."
        ) from error


def _separator(path: Path) -> str:
    """What stands between the cells: a spreadsheet's language may make it a semicolon or a tab."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
    except (OSError, UnicodeDecodeError):
        return ","  # the usual reader says what is wrong
    return max(",;\t", key=head.count)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else as_text(value)
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # one way of ending lines, for csv's sake
    return f"'{text}" if text.startswith(_FORMULA) else text


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
