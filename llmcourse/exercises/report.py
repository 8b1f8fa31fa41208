"""What was done so far: for a terminal, and as a page to keep."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from llmcourse import __version__, claims, tiers
from llmcourse.errors import ExerciseError, first_line
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS, question_name
from llmcourse.files import shown, write_text
from llmcourse.plots.diagrams import LESSONS

_NAMES = {key: name for key, name, _ in LESSONS}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; margin: 1em 0; }
th, td { text-align: left; vertical-align: top; padding: 4px 10px; border-bottom: 1px solid #888; }
caption { text-align: left; font-style: italic; caption-side: bottom; padding-top: 4px; }
"""


def _rows(done: kept.Progress) -> list[tuple[str, str, int, int, int, int]]:
    """A lesson a row: number, name, exercises solved and all, questions right and all."""
    rows = []
    for lesson, tasks in EXERCISES.items():
        names = [question_name(lesson, n) for n in range(1, len(QUESTIONS[lesson]) + 1)]
        solved = sum(task.name in done.exercises for task in tasks)
        right = sum(done.quizzes.get(name, {}).get("right", False) for name in names)
        rows.append((lesson, _NAMES[lesson], solved, len(tasks), right, len(names)))
    return rows


def progress_text() -> str:
    """The progress for a terminal.

    Raises:
        ExerciseError: the progress can't be read.
    """
    done = kept.read()
    lines = [f"{'lesson':<27}  exercises  quiz"]
    for lesson, name, solved, tasks, right, asked in (rows := _rows(done)):
        exercises, quiz = f"{solved} of {tasks}", f"{right} of {asked}"
        lines.append(f"{lesson} {name:<24}  {exercises:<9}  {quiz}")
    solved, tasks, right, asked = (sum(row[place] for row in rows) for place in (2, 3, 4, 5))
    lines.append(f"{'all':<27}  {f'{solved} of {tasks}':<9}  {right} of {asked}")
    where = kept.progress_path()
    if not done.whole:
        lines.append(f"\n{shown(where)} is damaged; what is whole in it was counted.")
    if (solved, right) == (tasks, asked):
        lines.append(
            "\nAll done. A page to keep, with your own ledger: in a notebook, "
            "exercises.summary('summary.html')."
        )
    elif not (done.exercises or done.quizzes):
        lines.append("\nNothing solved yet. check() and the quizzes note what you get right.")
    return "\n".join(lines)


def summary(path: str | Path = "summary.html") -> Path:
    """Write a page with what was done and the learner's own ledger.

    Args:
        path: The .html file; one that is there is replaced.

    Returns:
        The file's full path.

    Raises:
        ExerciseError: `path` is no .html file, or can't be written; or the progress can't be read.
        ClaimError: the ledger can't be read.
        NoSpace: the disk is full.
    """
    target = Path(path).expanduser().absolute()
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise ExerciseError(f"{path}: name a file that ends in .html.")
    try:
        write_text(target, _page(kept.read()))
    except OSError as error:
        raise ExerciseError(f"{path} can't be written ({first_line(error)}).") from error
    return target


def _page(done: kept.Progress) -> str:
    tier = tiers.current()
    entries = claims.read()
    lessons = [
        (f"{lesson} · {name}", f"{solved} of {tasks}", f"{right} of {asked}")
        for lesson, name, solved, tasks, right, asked in _rows(done)
    ]
    held = sum(entry["holds"] is True for entry in entries.values())
    measured = [
        (claims.CLAIMS[claim].text, claims.HOLDS[entry["holds"]], name, claims.shown(value))
        for claim, entry in entries.items()
        for name, value in entry["numbers"].items()
    ]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in claims.notes())
    models = dict.fromkeys(m for e in entries.values() for m in e.get("models", {}).values())
    today = datetime.now(UTC).date().isoformat()
    ledger = (
        f"<p>{len(entries)} of {len(claims.CLAIMS)} claims measured on this machine, {tier.name} "
        f"tier; {held} hold here. Models: {html.escape(', '.join(models)) or 'not noted'}.</p>"
        + _table(
            ("claim", "holds here", "measured", "value"),
            measured,
            "The ledger: what the course says, and what came out here.",
            common=2,
        )
        + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
        if entries
        else f"<p>Nothing is measured yet on the {tier.name} tier. Run the lessons.</p>"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Finetuning large language models: what I did</title><style>{_STYLE}</style>"
        "</head><body><main><h1>Finetuning large language models: what I did</h1>"
        f"<p>{today}, course companion {html.escape(__version__)}</p><h2>Exercises and quizzes</h2>"
        + _table(
            ("lesson", "exercises solved", "quiz questions right"),
            lessons,
            "What was solved on this machine.",
        )
        + f"<h2>What I measured</h2>{ledger}</main></body></html>\n"
    )


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, common: int = 1
) -> str:
    """A table whose first column is the heading of its row.

    Args:
        columns: The headings.
        rows: One text a column; rows that begin alike stand behind one another.
        caption: Below the table.
        common: So many first cells are shown once for rows in which they are the same.
    """
    body = ""
    for shared, group in itertools.groupby(rows, key=lambda row: tuple(row[:common])):
        lines = list(group)
        span = f' rowspan="{len(lines)}"' if len(lines) > 1 else ""
        first, *others = map(html.escape, shared)
        head = f'<th scope="row"{span}>{first}</th>'
        head += "".join(f"<td{span}>{cell}</td>" for cell in others)
        for line in lines:
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in line[common:])
            body += f"<tr>{head}{cells}</tr>"
            head = ""
    names = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
