"""The exercises go through the real nbgrader: generate, autograde, feedback."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from classroom import assignments
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS
from tests.conftest import ROOT

LESSON = "02"  # its first two exercises run no model


def test_each_lesson_is_an_assignment_in_nbgraders_form(tmp_path: Path) -> None:
    paths = assignments.write(tmp_path)
    assert [path.stem for path in paths] == [f"lesson-{lesson}" for lesson in EXERCISES]
    for path, lesson in zip(paths, EXERCISES, strict=True):
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        cells = [c for c in book.cells if c.cell_type == "code"]
        marks = [cell.metadata.nbgrader for cell in cells]
        assert len({mark.grade_id for mark in marks}) == len(marks)
        points = sum(mark.get("points", 0) for mark in marks if mark.grade)
        assert points == len(EXERCISES[lesson]) + len(QUESTIONS[lesson])
        before = ""
        for cell, mark in zip(cells, marks, strict=True):
            ast.parse(cell.source)
            assert mark.solution == ("### BEGIN SOLUTION" in cell.source) != mark.locked
            if mark.grade:  # it checks a name that the cell before defines
                (name,) = re.findall(r"check\((\w+)\)|str\((\w+)\)", cell.source)
                assert re.search(rf"^(def )?{name[0] or name[1]}( =|\()", before, re.MULTILINE)
            before = cell.source
    assert assignments.write(tmp_path) == paths  # the same at each run
    assert nbformat.read(paths[0], as_version=4) == assignments.notebook("00")


def graded(book: nbformat.NotebookNode, right: bool) -> nbformat.NotebookNode:
    """A submission: the learners' version with answers that are all right, or all wrong."""
    for cell in book.cells:
        mark = cell.metadata.get("nbgrader", {})
        if mark.get("solution"):
            kind, number = mark.grade_id.split("-")
            if kind == "quiz":
                letter = QUESTIONS[LESSON][int(number) - 1].right
                cell.source = f"choice_{number} = {letter if right else 'z'!r}"
            else:
                answer = EXERCISES[LESSON][int(number) - 1].answer
                cell.source = answer if right else "def pairs_of(ids): return [ids]"
    return book


@pytest.mark.model
@pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None,
    reason="needs nbgrader: pip install nbgrader, or make test-classroom",
)
def test_right_and_wrong_submissions_are_graded_with_feedback(tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    assignments.write(tmp_path)
    name = f"lesson-{LESSON}"

    def nbgrader(*command: str) -> None:
        # it calls alembic by name, as an active environment has it
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        work = {"LLMCOURSE_WORK": str(tmp_path / "work"), "PYTHONPATH": str(ROOT), "PATH": path}
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *command, name],
            cwd=tmp_path,
            env=os.environ | work,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    nbgrader("generate_assignment")
    released = nbformat.read(tmp_path / "release" / name / f"{name}.ipynb", as_version=4)
    text = nbformat.writes(released)
    assert "SOLUTION" not in text and text.count("raise NotImplementedError") > 4
    for learner, right in (("ada", True), ("bob", False)):
        target = tmp_path / "submitted" / learner / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True)
        nbformat.write(graded(nbformat.from_dict(released), right), target)
    nbgrader("autograde")
    nbgrader("generate_feedback")
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        scores = {learner: book.find_submission(name, learner) for learner in ("ada", "bob")}
        assert scores["ada"].score == scores["ada"].max_score > 4
        assert scores["bob"].score == 0
    feedback = tmp_path / "feedback" / "bob" / name / f"{name}.html"
    page = feedback.read_text(encoding="utf-8")
    assert "Choose a letter." in page and "returns" in page  # the checker's own message
    assert not (tmp_path / "work" / "progress.json").exists()  # it is no progress of the teacher's
