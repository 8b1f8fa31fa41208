"""The learner's progress: exercises solved and quiz answers, in one file of the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmcourse.errors import ExerciseError, first_line
from llmcourse.files import lock, put_aside, work_dir, write_json
from llmcourse.progress import run_by_program

_PARTS = {
    "exercises": {"when": str},
    "quizzes": {"answer": str, "right": bool, "tries": int, "when": str},
}


@dataclass(frozen=True)
class Progress:
    """What was done so far.

    Attributes:
        exercises: Name of an exercise -> when it was first solved, as {"when": …}.
        quizzes: Name of a question -> {"answer": the last one's text, "right": whether it was
            ever answered rightly, "tries": answers up to the first right one, "when": …}.
        whole: False where the file has things that are none of these; they are left out here.
    """

    exercises: dict[str, dict[str, Any]]
    quizzes: dict[str, dict[str, Any]]
    whole: bool = True


def progress_path() -> Path:
    """Where the progress is kept."""
    return work_dir() / "progress.json"


def read() -> Progress:
    """The progress so far; none where there is no file yet.

    Raises:
        ExerciseError: the file can't be opened.
    """
    entries, whole = _raw(progress_path())
    return Progress(entries["exercises"], entries["quizzes"], whole)


def solved(name: str) -> None:
    """Note that an exercise was solved; the first time counts.

    A solution that a program runs is nobody's progress and is not noted.

    Raises:
        ExerciseError: the progress can't be read or written; what was there stays.
        NoSpace: the disk is full; what was there stays.
    """
    if not run_by_program() and name not in read().exercises:
        _change("exercises", name, lambda before: before or {"when": _now()})


def answered(name: str, answer: str, right: bool) -> None:
    """Note an answer to a quiz question; once right, a question stays so.

    Raises:
        ExerciseError: the progress can't be read or written; what was there stays.
        NoSpace: the disk is full; what was there stays.
    """

    def change(before: dict[str, Any]) -> dict[str, Any]:
        done = before.get("right", False)
        tries = before.get("tries", 0) + (not done)
        when = before["when"] if done else _now()
        return {"answer": answer, "right": done or right, "tries": tries, "when": when}

    _change("quizzes", name, change)


def _change(part: str, name: str, change: Any) -> None:
    """Put what `change` makes of an entry in its place; two notebooks wait for each other.

    Raises:
        ExerciseError, NoSpace: see `solved`.
    """
    path = progress_path()
    try:
        with lock(path.with_suffix(".lock")):
            entries, whole = _raw(path)
            if not whole:
                _tell_damaged(path)
            entries[part][name] = change(entries[part].get(name, {}))
            write_json(path, entries)
    except OSError as error:
        raise ExerciseError(
            f"Your progress can't be kept in {path} ({first_line(error)}). Set LLMCOURSE_WORK to "
            f"a folder of your own."
        ) from error


def _tell_damaged(path: Path) -> None:
    """Keep a damaged file under another name, and say so."""
    aside = put_aside(path)
    print(f"{path.name} was damaged. It is kept as {aside.name}; what is whole in it goes on.")


def _raw(path: Path) -> tuple[dict[str, Any], bool]:
    """The sound entries by part, and whether the file is undamaged; other parts stay as they are.

    Raises:
        ExerciseError: the file can't be opened.
    """
    nothing: dict[str, Any] = {part: {} for part in _PARTS}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return nothing, True
    except (ValueError, RecursionError):
        return nothing, False
    except OSError as error:
        raise ExerciseError(f"Your progress {path} can't be read ({first_line(error)}).") from error
    if not isinstance(entries, dict):
        return nothing, False
    whole = True
    for part, fields in _PARTS.items():
        found = entries.get(part, {})
        rows = found if isinstance(found, dict) else {}
        sound = {name: row for name, row in rows.items() if _is_entry(row, fields)}
        whole &= isinstance(found, dict) and len(sound) == len(rows)
        entries[part] = sound
    return entries, whole


def _is_entry(row: Any, fields: dict[str, type]) -> bool:
    """Whether `row` has the fields of its part, each of its kind."""
    return isinstance(row, dict) and all(type(row.get(k)) is kind for k, kind in fields.items())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
