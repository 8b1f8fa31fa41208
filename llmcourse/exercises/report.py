"""What was done so far: for a terminal, and as a page to keep."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from llmcourse import __version__, claims, pages, tiers
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS
from llmcourse.files import shown

_NAMES = {key: name for key, name, _ in claims.LESSONS}
_TITLE = "Finetuning large language models: what I did"


def counts_by_lesson(done: kept.Progress) -> list[tuple[str, int, int, int, int]]:
    """For each lesson: its name, exercises solved and all, questions right and all."""
    rows = []
    for lesson, tasks in EXERCISES.items():
        solved = sum(task.name in done.exercises for task in tasks)
        answers = [done.quizzes.get(question.name, {}) for question in QUESTIONS[lesson]]
        right = sum(answer.get("right", False) for answer in answers)
        rows.append((f"{lesson} {_NAMES[lesson]}", solved, len(tasks), right, len(answers)))
    return rows


def progress_text() -> str:
    """The progress for a terminal.

    Raises:
        ExerciseError: the progress can't be read.
    """
    done = kept.read()
    rows = counts_by_lesson(done)
    # All columns but the first, which has the names.
    total = [sum(column) for column in list(zip(*rows, strict=True))[1:]]
    lines = [f"{'lesson':<27}  exercises  quiz"]
    for name, solved, tasks, right, count in [*rows, ("all", *total)]:
        lines.append(f"{name:<27}  {f'{solved} of {tasks}':<9}  {right} of {count}")
    if not done.undamaged:
        lines.append(f"\n{shown(kept.store().path)} is damaged; what is readable was counted.")
    if total[0] == total[1] and total[2] == total[3]:
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
        DataError: `path` is no .html file, or can't be written.
        ExerciseError: the progress can't be read.
        ClaimError: the ledger can't be read.
        NoSpace: the disk is full.
    """
    solved = pages.table(
        ("lesson", "exercises solved", "quiz questions right"),
        [
            (name, f"{solved} of {tasks}", f"{right} of {count}")
            for name, solved, tasks, right, count in counts_by_lesson(kept.read())
        ],
        "What was solved on this machine.",
    )
    today = datetime.now(UTC).date().isoformat()
    sections = {"Exercises and quizzes": solved, "What I measured": ledger_page()}
    text = pages.page(_TITLE, f"{today}, course companion {__version__}", sections)
    return pages.save(path, text)


def ledger_page() -> pages.Markup:
    """The ledger of this tier, with its notes."""
    tier, entries = tiers.current().name, claims.read()
    if not entries:
        return pages.paragraph(f"Nothing is measured yet on the {tier} tier. Run the lessons.")
    held = sum(entry["holds"] is True for entry in entries.values())
    models = dict.fromkeys(m for e in entries.values() for m in e.get("models", {}).values())
    table = pages.table(
        ("claim", "holds here", "measured", "value"),
        [
            (claims.CLAIMS[claim].text, claims.HOLDS[entry["holds"]], name, claims.shown(value))
            for claim, entry in entries.items()
            for name, value in entry["numbers"].items()
        ],
        "The ledger: what the course says, and what came out here.",
        shared=2,
    )
    return pages.fill(
        "{}{}{}",
        pages.paragraph(
            f"{len(entries)} of {len(claims.CLAIMS)} claims measured on this machine, {tier} tier; "
            f"{held} hold here. Models: {', '.join(models) or 'not noted'}."
        ),
        table,
        pages.bullets(claims.notes()),
    )
