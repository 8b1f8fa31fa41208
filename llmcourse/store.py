"""Small JSON files that several processes add to: ledger, progress, labels and votes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from llmcourse.errors import CourseError, DataError, first_line
from llmcourse.files import lock, write_json, write_text


@dataclass(frozen=True)
class Store:
    """A JSON object in a file: complete at every moment, safe for several processes at once.

    Attributes:
        path: The file; it need not exist yet.
        what: What messages call it, such as "The ledger".
        sound: Returns the file's object without the entries that are damaged or unknown.
        error: Class of the errors raised.
    """

    path: Path
    what: str
    sound: Callable[[dict[str, Any]], dict[str, Any]]
    error: type[CourseError]

    def read(self) -> tuple[dict[str, Any], bool]:
        """The undamaged entries, none where there is no file; and whether that is all of the file.

        Raises:
            self.error: the file can't be opened.
        """
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, True
        except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
            return {}, False
        except OSError as error:
            raise self.error(
                f"{self.what} {self.path} can't be read ({first_line(error)})."
            ) from error
        entries = self.sound(found) if isinstance(found, dict) else {}
        return entries, entries == found

    def update(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Let `change` edit the entries; a damaged file is kept under another name, with a message.

        Raises:
            self.error: the file can't be read or written; it stays as it is.
            NoSpace: the disk is full; it stays as it is.
        """
        try:
            # Read again under the lock: another notebook may have added entries meanwhile.
            with lock(self.path.with_suffix(".lock")):
                entries, undamaged = self.read()
                if not undamaged:
                    self._keep_damaged_copy()
                change(entries)
                write_json(self.path, entries)
        except OSError as error:
            raise self.error(
                f"{self.what} {self.path} can't be written ({first_line(error)}). Set "
                f"LLMCOURSE_WORK to a folder of your own."
            ) from error

    def _keep_damaged_copy(self) -> None:
        names = (self.path.with_suffix(f".damaged{number}.json") for number in count(1))
        aside = next(path for path in names if not path.exists())
        shutil.copyfile(self.path, aside)
        print(
            f"{self.path.name} was damaged. A copy is kept as {aside.name}; the entries that can "
            f"still be read stay."
        )


# --- files of one JSON object per line ------------------------------------------------------------


def lines_path(path: str | Path) -> Path:
    """`path` as a Path to a .jsonl file, with "~" expanded.

    Raises:
        DataError: its name does not end in .jsonl, or it is a folder.
    """
    found = Path(path).expanduser()
    if found.suffix.lower() != ".jsonl" or found.is_dir():
        raise DataError(f"{path} must be a file whose name ends in .jsonl.")
    return found


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl file, each with the number of its line.

    Raises:
        DataError: there is no such file, it can't be read, or a line is not an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {first_line(error)}.") from error
    # Not splitlines(): it also splits at characters that JSON allows inside a string (U+2028).
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({first_line(error)}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not an object: {line:.60}")
        yield number, row


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` by one JSON object per line, completely or not at all.

    Raises:
        NoSpace, OSError: see `files.write_text`.
    """
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
