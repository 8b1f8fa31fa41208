"""A JSON file that several processes add entries to: the ledger, the learner's progress."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse.errors import CourseError, first_line
from llmcourse.files import lock, put_aside, write_json


@dataclass(frozen=True)
class Store:
    """A JSON object in a file: whole at every moment, and no process loses another one's entries.

    Attributes:
        path: The file; it need not exist yet.
        what: What messages call it, such as "The ledger".
        sound: Takes the file's object and returns it without what is damaged or not known.
        error: Class of the errors raised.
    """

    path: Path
    what: str
    sound: Callable[[dict[str, Any]], dict[str, Any]]
    error: type[CourseError]

    def read(self) -> tuple[dict[str, Any], bool]:
        """The sound entries, none where there is no file; and whether the file is undamaged.

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
        """Let `change` alter the entries; a damaged file is kept under another name, and said so.

        Raises:
            self.error: the file can't be read or written; it stays as it is.
            NoSpace: the disk is full; it stays as it is.
        """
        try:
            with lock(self.path.with_suffix(".lock")):
                entries, undamaged = self.read()
                if not undamaged:
                    aside = put_aside(self.path)
                    print(
                        f"{self.path.name} was damaged. It is kept as {aside.name}; "
                        f"the entries that are whole are kept here."
                    )
                change(entries)
                write_json(self.path, entries)
        except OSError as error:
            raise self.error(
                f"{self.what} {self.path} can't be written ({first_line(error)}). Set "
                f"LLMCOURSE_WORK to a folder of your own."
            ) from error
