"""The exercises and quizzes as assignments for nbgrader: `make assignments`.

    python -m classroom.assignments build/assignments

writes `source/lesson-NN/lesson-NN.ipynb` for each lesson in nbgrader's source format, and a
`nbgrader_config.py`. In that folder `nbgrader generate_assignment lesson-01` makes the learners'
version. A point is given by the same checkers that learners use in the lessons, and the feedback
has their messages. (https://nbgrader.readthedocs.io)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from llmcourse.claims import LESSONS
from llmcourse.exercises import Exercise
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS, Question
from llmcourse.exercises.quizzes import option_lines
from llmcourse.files import write_text

CONFIG = """\
c = get_config()  # noqa: F821 - nbgrader's own form
c.CourseDirectory.course_id = "llmcourse"
c.ExecutePreprocessor.timeout = 600  # some exercises run a model
c.ClearSolutions.code_stub = {"python": "# Your code\\nraise NotImplementedError"}
"""


def notebook(lesson: str) -> nbformat.NotebookNode:
    """A lesson's exercises and quiz in nbgrader's source format."""
    (title,) = (f"{number} · {name}" for number, name, _ in LESSONS if number == lesson)
    names = ", ".join(f"q{n}" for n, _ in enumerate(EXERCISES[lesson], 1))
    setup = f'from llmcourse import exercises\n\n{names}, = exercises.lesson("{lesson}")'
    setup += f'\nquestions = exercises.quiz("{lesson}").questions'
    cells = [
        new_markdown_cell(f"# {title}\n\nReplace `raise NotImplementedError` by your code."),
        new_code_cell(setup, metadata=_graded("setup")),
    ]
    for number, task in enumerate(EXERCISES[lesson], 1):
        cells += _exercise(number, task)
    for number, question in enumerate(QUESTIONS[lesson], 1):
        cells += _question(number, question)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # else random, and each file differs from the last
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _exercise(number: int, task: Exercise) -> list[nbformat.NotebookNode]:
    """The task, a cell for the answer, and a cell that gives its point."""
    source = task.answer
    names = re.findall(r"^(?:def )?(\w+)(?:\(| = )", source, flags=re.MULTILINE)
    if not names:  # the answer is an expression
        names, source = ["answer"], f"answer = {source}"
    hint = f"\n\n`q{number}.hint()` helps. Your answer goes into `{names[-1]}`."
    check = (
        f"outcome = q{number}.check({names[-1]})\nassert outcome.kind == 'right', outcome.message"
    )
    return [
        new_markdown_cell(f"**{number}.** {task.task}{hint}"),
        _solution(f"exercise-{number}", source),
        new_code_cell(check, metadata=_graded(f"check-{number}", grade=True)),
    ]


def _question(number: int, question: Question) -> list[nbformat.NotebookNode]:
    options = "\n".join(f"- {line.strip()}" for line in option_lines(question))
    check = (
        f"question, given = questions[{number - 1}], str(choice_{number}).strip().upper()\n"
        "reason = question.verdict(given) if given in question.options else 'Choose a letter.'\n"
        "assert given == question.right, reason"
    )
    return [
        new_markdown_cell(f"**Quiz {number}.** {question.text}\n\n{options}"),
        _solution(f"quiz-{number}", f'choice_{number} = "{question.right}"'),
        new_code_cell(check, metadata=_graded(f"quiz-check-{number}", grade=True)),
    ]


def _solution(grade_id: str, source: str) -> nbformat.NotebookNode:
    """A cell whose content nbgrader replaces by a stub in the learners' version."""
    body = f"### BEGIN SOLUTION\n{source.strip()}\n### END SOLUTION"
    return new_code_cell(body, metadata=_graded(grade_id, solution=True))


def _graded(grade_id: str, **kind: bool) -> dict[str, Any]:
    """nbgrader's metadata of a cell that is a solution, is graded, or neither."""
    fields = {"schema_version": 3, "grade_id": grade_id, "task": False, "cell_type": "code"}
    fields |= {"grade": False, "solution": False, "locked": not kind.get("solution", False)} | kind
    return {"nbgrader": fields | ({"points": 1} if kind.get("grade") else {})}


def write(folder: Path) -> list[Path]:
    """Write a source notebook for each lesson and nbgrader's configuration; returns the notebooks.

    Raises:
        NoSpace, OSError: see `files.write_text`.
    """
    write_text(folder / "nbgrader_config.py", CONFIG)
    paths = []
    for lesson in EXERCISES:
        name = f"lesson-{lesson}"
        paths.append(folder / "source" / name / f"{name}.ipynb")
        write_text(paths[-1], nbformat.writes(notebook(lesson)) + "\n")
    return paths


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
