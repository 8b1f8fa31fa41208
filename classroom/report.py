"""A class on one page: who is ready, who solved what, which answers were given, what was measured.

    python -m llmcourse class-report FOLDER

reads what `doctor --class` and `progress --export` wrote on the learners' machines.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse import claims, pages, workshop
from llmcourse.errors import DataError
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS, Question
from llmcourse.exercises.report import counts_by_lesson
from llmcourse.files import write_text
from llmcourse.pages import Markup
from llmcourse.plots.base import BLUE, INK, encoded, label_text, new_figure
from llmcourse.stats import Share

# What a file of each kind has besides its name, its time and its checksum.
PARTS: dict[str, dict[str, type]] = {
    "class-check": {"ready": bool, "to do": list, "found": dict},
    "progress": {"exercises": dict, "quizzes": dict, "ledger": dict},
}


@dataclass
class Class:
    """What was collected from the learners.

    Attributes:
        checks: Name -> what `doctor --class` wrote.
        progress: Name -> what `progress --export` wrote.
        left_out: A sentence for each file that does not count, and why.
    """

    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def collect(folder: Path) -> Class:
    """Read the learners' files in a folder and the folders in it; damaged ones are named.

    Raises:
        DataError: there is no such folder, or nothing of a learner's in it.
    """
    found = Class()
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            found.left_out.append(f"{name} is damaged: it is no JSON. Ask for it again.")
            continue
        kind = content.get("kind") if isinstance(content, dict) else None
        parts = PARTS.get(kind, {}) if isinstance(kind, str) else {}
        if not parts:
            found.left_out.append(f"{name} is none of a learner's files.")
        elif content.get("checksum") != workshop.checksum(content):
            found.left_out.append(f"{name} is damaged: it is not as written. Ask for it again.")
        elif not _is_complete(content, parts):
            found.left_out.append(f"{name} is of another version of the course.")
        else:
            known = found.checks if kind == "class-check" else found.progress
            older, newer = sorted([known.get(content["name"], content), content], key=_when)
            if older is not newer:
                found.left_out.append(
                    f"{name}: there are two of {content['name']}; the newer one counts."
                )
            known[content["name"]] = newer
    if not (found.checks or found.progress):
        raise DataError(
            f"{folder} holds no file of a learner's. Collect there what python -m llmcourse "
            f"progress --export (and doctor --class) wrote. {' '.join(found.left_out[:3])}".strip()
        )
    return found


def _is_complete(content: Mapping[str, Any], parts: Mapping[str, type]) -> bool:
    wanted = {"name": str, "when": str, **parts}
    ledgers = content.get("ledger", {})
    return all(isinstance(content.get(part), kind) for part, kind in wanted.items()) and all(
        isinstance(ledger, dict) for ledger in ledgers.values()
    )


def _when(content: Mapping[str, Any]) -> str:
    return content["when"]


def write(folder: Path) -> tuple[Path, Path, list[str]]:
    """Write `class-report.html` and `class-report.csv` into the folder.

    Returns:
        The two files, and a sentence for each learner's file that does not count.

    Raises:
        DataError: see `collect`; or the folder can't be written to.
        NoSpace: the disk is full.
    """
    found = collect(folder)
    page = pages.save(folder / "class-report.html", html_page(found))
    table = folder / "class-report.csv"
    write_text(table, csv_text(found))
    return page, table, found.left_out


# --- the table ------------------------------------------------------------------------------------


def csv_text(found: Class) -> str:
    """A row for each learner and each exercise or question, for a spreadsheet's pivot table."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["learner", "lesson", "item", "done", "tries", "first answer", "when"])
    for name, content in found.progress.items():
        done = progress_of(content)
        for lesson, tasks in EXERCISES.items():
            for task in tasks:
                row = done.exercises.get(task.name, {})
                yes, when = int(bool(row)), row.get("when", "")
                rows.writerow([safe(name), lesson, task.name, yes, "", "", safe(when)])
            for question in QUESTIONS[lesson]:
                row = done.quizzes.get(question.name, {})
                given, when = first_letter(question, row), row.get("when", "")
                yes, tries = int(row.get("right", False)), row.get("tries", "")
                rows.writerow([safe(name), lesson, question.name, yes, tries, given, safe(when)])
    # without the mark, Excel reads letters of other alphabets wrongly
    return "\ufeff" + file.getvalue()


def safe(text: str) -> str:
    """A learner's text; a spreadsheet would take one that begins so for a formula."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text


def progress_of(content: Mapping[str, Any]) -> kept.Progress:
    """What a learner solved; entries that are damaged are left out."""
    entries = kept.undamaged_entries({part: content[part] for part in ("exercises", "quizzes")})
    return kept.Progress(entries["exercises"], entries["quizzes"], True)


def first_letter(question: Question, row: Mapping[str, Any]) -> str:
    """The letter of a learner's first answer; "" without one, "?" where the quiz has changed."""
    if "first" not in row:
        return ""
    letters = {text: letter for letter, (text, _) in question.options.items()}
    return letters.get(row["first"], "?")


# --- the page -------------------------------------------------------------------------------------


def html_page(found: Class) -> str:
    """The report as a page."""
    parts = {
        "Set-up": _checks(found),
        "Who solved what": _solved(found),
        "Exercises": _exercises(found),
        "Quizzes": _quizzes(found),
        "What was measured": _measured(found),
        "Files that do not count": pages.bullets(found.left_out),
    }
    lead = f"Progress of {len(found.progress)} learners, set-up checks of {len(found.checks)}."
    return pages.page("The class", lead, {name: part for name, part in parts.items() if part})


def _checks(found: Class) -> Markup:
    rows = [
        (
            name,
            "ready" if content["ready"] else "not ready",
            *(content["found"].get(part, "") for part in ("Device", "Memory", "Python")),
            " ".join(map(str, content["to do"])),
        )
        for name, content in found.checks.items()
    ]
    columns = ("learner", "set-up", "device", "memory", "system", "to do")
    return pages.table(columns, rows, "Set-up checks.") if rows else Markup()


def _solved(found: Class) -> Markup:
    rows = []
    for name, content in found.progress.items():
        counts = counts_by_lesson(progress_of(content))
        rows.append(
            (name, *(f"{solved}/{tasks}, {right}/{n}" for _, solved, tasks, right, n in counts))
        )
    caption = "Exercises solved, then quiz questions answered right, by lesson."
    return pages.table(("learner", *EXERCISES), rows, caption) if rows else Markup()


def _exercises(found: Class) -> Markup:
    done = [progress_of(content).exercises for content in found.progress.values()]
    rows = [
        (task.name, f"{sum(task.name in solved for solved in done)} of {len(done)}", task.task)
        for tasks in EXERCISES.values()
        for task in tasks
    ]
    return (
        pages.table(("exercise", "solved by", "task"), rows, "Each exercise.") if done else Markup()
    )


def _quizzes(found: Class) -> Markup:
    done = [progress_of(content).quizzes for content in found.progress.values()]
    rows = []
    for question in (question for questions in QUESTIONS.values() for question in questions):
        answers = [answer[question.name] for answer in done if question.name in answer]
        first = Counter(first_letter(question, answer) for answer in answers)
        right = sum(answer["right"] for answer in answers)
        heading = (
            f"{question.name}: {question.text} ({len(answers)} answered, {right} right in the end)"
        )
        for letter, (text, _) in question.options.items() if answers else ():
            mark = " ✓" if letter == question.right else ""
            rows.append((heading, f"{letter}. {text}{mark}", first[letter]))
    if not rows:
        return Markup()
    columns = ("question", "option", "first answers")
    return pages.table(columns, rows, "How many chose each option at first.", shared=1)


# --- the ledgers ----------------------------------------------------------------------------------


def _measured(found: Class) -> Markup:
    ledgers = {name: content["ledger"] for name, content in found.progress.items()}
    sizes = Counter(size for ledger in ledgers.values() for size in ledger)
    if not sizes:
        return Markup()
    size = sizes.most_common(1)[0][0]
    parts = [pages.paragraph(f"Numbers of the ledger {size!r}, which most learners have.")]
    counted, notes = replications({name: ledger.get(size, {}) for name, ledger in ledgers.items()})
    if others := sorted(name for name, ledger in ledgers.items() if ledger.keys() - {size}):
        notes.append(f"Other ledgers, of {', '.join(others)}, are left out.")
    rows = list(_number_rows(counted))
    if rows:
        columns = ("claim", "measured", "machines", "lowest", "median", "highest", "holds")
        parts.append(pages.table(columns, rows, "The ledger's numbers across machines.", shared=1))
        if shares := _shares(counted):
            png, alt = picture(shares)
            parts.insert(
                1, pages.picture(png, alt, "Each dot is a machine; the bar is the median.")
            )
        parts.append(
            pages.paragraph(
                "Runs with different seeds show how far trainings scatter. A number that follows "
                "from no training differs by the processors' rounding alone."
            )
        )
    return pages.fill("{}{}", Markup().join(parts), pages.bullets(notes))


def replications(
    ledgers: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The rows of each claim that are runs of their own, and what was left out and why.

    A row that came by `catch-up` is the published run's, and of rows that share a seed one counts:
    either would make one run look like several that agree.
    """
    counted: dict[str, list[dict[str, Any]]] = {}
    left_out: dict[str, list[str]] = defaultdict(list)
    for claim_id in claims.CLAIMS:
        rows: dict[Any, dict[str, Any]] = {}
        for name, ledger in ledgers.items():
            entry = ledger.get(claim_id, {})
            if not claims.is_entry(entry):
                continue
            if entry.get("published"):
                left_out["came by catch-up"].append(f"{claim_id} of {name}")
            elif entry.get("seed") in rows:
                left_out["shares a seed with one that counts"].append(f"{claim_id} of {name}")
            else:
                rows[entry.get("seed")] = entry
        if rows:
            counted[claim_id] = list(rows.values())
    notes = [
        f"Left out, as the row {why}: {len(rows)}. {'; '.join(rows)}."
        for why, rows in left_out.items()
    ]
    return counted, notes


def _values(entries: list[dict[str, Any]], name: str) -> list[Any]:
    return [claims.number(entry["numbers"][name]) for entry in entries if name in entry["numbers"]]


def _number_rows(counted: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[Any, ...]]:
    """A row for each number of each claim: on how many machines, and its range."""
    for claim_id, entries in counted.items():
        holds = Counter(claims.HOLDS[entry["holds"]] for entry in entries)
        verdict = ", ".join(f"{said}: {count}" for said, count in holds.items())
        for name in dict.fromkeys(name for entry in entries for name in entry["numbers"]):
            values = _values(entries, name)
            shown = claims.as_share if isinstance(values[0], Share) else claims.shown
            numbers = [value.value if isinstance(value, Share) else value for value in values]
            middle = statistics.median(numbers)
            spread = (shown(number) for number in (min(numbers), middle, max(numbers)))
            yield claims.CLAIMS[claim_id].text, name, len(values), *spread, verdict


def _shares(counted: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """The shares among the numbers that lines about a claim show: they fit on one axis."""
    rows = {}
    for claim_id, entries in counted.items():
        for name in claims.CLAIMS[claim_id].shown:
            if shares := [
                value.value for value in _values(entries, name) if isinstance(value, Share)
            ]:
                rows[f"{claim_id}: {name}"] = shares
    return rows


def picture(rows: Mapping[str, list[float]]) -> tuple[bytes, str]:
    """A row of dots for each share, and the alternative text."""
    figure, axes = new_figure(9, 0.8 + 0.45 * len(rows))
    texts = []
    for row, (name, values) in enumerate(rows.items()):
        middle = statistics.median(values)
        # spread by order, so that equal values stay apart without random draws
        places = [row + 0.2 * ((7 * n) % 11 / 5 - 1) for n in range(len(values))]
        axes.scatter(values, places, color=BLUE, alpha=0.6, s=26)
        axes.plot([middle, middle], [row - 0.35, row + 0.35], color=INK, linewidth=2.5)
        spread = f"{claims.as_share(min(values))} to {claims.as_share(max(values))}"
        texts.append(f"{name}: {len(values)} machines, {spread}, median {claims.as_share(middle)}")
    axes.set_yticks(
        range(len(rows)), [textwrap.fill(label_text(name), 48) for name in rows], fontsize=8
    )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(axis="x", alpha=0.3)
    return encoded(figure, "png"), "Dot plot of shares, a row each. " + "; ".join(texts) + "."
