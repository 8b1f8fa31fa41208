"""The learner's progress: exercises solved and quiz answers, in one file of the work folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmcourse.errors import ExerciseError
from llmcourse.files import Store, work_dir
from llmcourse.progress import run_by_program

# What an entry of each kind has; others are damaged.
_FIELDS: dict[str, dict[str, type]] = {
    "exercises": {"when": str},
    "quizzes": {"answer": str, "right": bool, "tries": int, "when": str},
}


@dataclass(frozen=True)
class Progress:
    """What was done so far.

    Attributes:
        exercises: Name of an exercise -> when it was first solved, as {"when": …}.
        quizzes: Name of a question -> {"first": the first answer's text (missing in older files),
            "answer": the last one's, "right": whether it was ever answered right, "tries": answers
            up to the first right one, "when": …}.
        undamaged: False where the file has entries that are none of these; they are left out here.
    """

    exercises: dict[str, dict[str, Any]]
    quizzes: dict[str, dict[str, Any]]
    undamaged: bool


def store() -> Store:
    """Where the progress is kept."""
    return Store(work_dir() / "progress.json", "Your progress", undamaged_entries, ExerciseError)


def read() -> Progress:
    """The progress so far; none where there is no file yet.

    Raises:
        ExerciseError: the file can't be opened.
    """
    entries, undamaged = store().read()
    return Progress(entries.get("exercises", {}), entries.get("quizzes", {}), undamaged)


def solved(name: str) -> None:
    """Note that an exercise was solved; the first time counts.

    A solution that a program runs is nobody's progress and is not noted.

    Raises:
        ExerciseError: the progress can't be read or written; it stays as it is.
        NoSpace: the disk is full; the same.
    """
    if not run_by_program() and name not in read().exercises:
        store().update(lambda done: done.setdefault("exercises", {}).setdefault(name, now()))


def answered(name: str, answer: str, right: bool) -> None:
    """Note an answer to a quiz question; once right, a question stays so.

    Raises:
        ExerciseError, NoSpace: see `solved`.
    """

    def change(done: dict[str, Any]) -> None:
        unanswered = {"first": answer, "right": False, "tries": 0}
        row = done.setdefault("quizzes", {}).setdefault(name, unanswered)
        if not row["right"]:  # later answers are for reading the reasons: they do not count
            row |= {"right": right, "tries": row["tries"] + 1} | now()
        row["answer"] = answer

    store().update(change)


def undamaged_entries(found: dict[str, Any]) -> dict[str, Any]:
    """The entries that are undamaged; parts that a later version has added stay as they are."""
    undamaged = dict(found)
    for part in _FIELDS.keys() & found.keys():
        rows = found[part].items() if isinstance(found[part], dict) else ()
        undamaged[part] = {
            name: row
            for name, row in rows
            if isinstance(row, dict)
            and isinstance(row.get("first", ""), str)
            and all(isinstance(row.get(key), kind) for key, kind in _FIELDS[part].items())
        }
    return undamaged


def now() -> dict[str, str]:
    """The time of an entry."""
    return {"when": datetime.now(UTC).isoformat(timespec="seconds")}
