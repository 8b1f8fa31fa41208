"""Pairs as a table that a learner reads and mends in a spreadsheet before anything is trained."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcourse.data.readers import Bad, open_source
from llmcourse.errors import DataError, first_line
from llmcourse.files import replacing

FIRST = ("question", "answer", "keep")
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
        name for record in records for name, value in record.items()
        if name not in FIRST and str(value).strip()
    )  # fmt: skip
    columns = [*FIRST, *more]
    try:
        with (
            replacing(target) as draft,
            # The mark at the beginning tells spreadsheets that it is UTF-8.
            draft.open("w", encoding="utf-8-sig", newline="") as file,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            for record in records:
                row = dict(record) | {"keep": "yes"}
                table.writerow([_cell(row.get(name, "")) for name in columns])
    except OSError as error:
        raise DataError(f"{target} can't be written: {first_line(error)}.") from error
    return target


def load_reviewed(path: Path | str) -> list[dict[str, str]]:
    """The pairs that are to be kept, from a file of `save_for_review`.

    `keep` is "yes" or "no" (also y, x, 1, true; n, 0, false). Answers may have been mended and
    rows added. A file that a spreadsheet wrote with semicolons is read too.

    Raises:
        DataError: the file can't be read, a column is missing, a row has no "yes" or "no", a kept
            one has a blank question or answer, or no row is kept; the message names the line.
    """
    target = Path(path).expanduser()
    kept: list[dict[str, str]] = []
    for line, row in _rows(target):
        here = f"{target}, line {line}"
        if isinstance(row, Bad):
            raise DataError(f"{here}: {row}.")
        if "" in row:
            raise DataError(f"{here}: the row has more cells than there are columns.")
        record = {str(name).strip(): _text(value) for name, value in row.items()}
        for name in FIRST:
            if name not in record:
                raise DataError(
                    f"{target} has no column {name!r}. It needs {', '.join(FIRST)}; it has: "
                    f"{', '.join(record) or 'none'}."
                )
        answer = record.pop("keep").strip().casefold()
        if answer in NO:
            continue
        if answer not in YES:
            raise DataError(f"{here}: keep is {answer!r:.40}. Write yes or no.")
        for name in ("question", "answer"):
            if not record[name].strip():
                raise DataError(f"{here}: the {name} is blank. Fill it in, or set keep to no.")
        kept.append(record)
    if not kept:
        raise DataError(f"{target}: no pair is kept. Set keep to yes where one is good.")
    return kept


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
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
