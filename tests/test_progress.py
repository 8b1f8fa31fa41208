"""What was solved is kept, by several notebooks at once, past damaged files, and shown."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from llmcourse import claims, exercises, progress
from llmcourse.errors import SettingError
from llmcourse.exercises import kept, report
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The progress file, in a work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "progress.json"


def test_a_right_check_is_kept_once_and_a_wrong_one_is_not(file: Path) -> None:
    q1, *_ = exercises.lesson("00")
    assert q1.check(540).kind == "wrong" and q1.check().kind == "not tried"
    assert not file.exists()
    assert repr(q1.check(0.27)) == f"✓ Right. {q1.praise}"
    when = kept.read().exercises["00-1"]["when"]
    file.write_text(file.read_text("utf-8").replace(when, "2020-01-01T00:00:00+00:00"), "utf-8")
    q1.check(0.27)
    assert kept.read().exercises == {"00-1": {"when": "2020-01-01T00:00:00+00:00"}}


class Kernel:
    """A kernel whose requests say whether somebody can be asked."""

    def __init__(self, content: dict[str, Any] | None) -> None:
        self.content = content

    def get_parent(self, channel: str) -> dict[str, Any]:
        if self.content is None:
            raise TypeError(channel)
        return {"content": self.content}


@pytest.mark.parametrize(
    ("content", "noted"),
    [({"allow_stdin": True}, True), ({"allow_stdin": False}, False), ({}, True), (None, True)],
)
def test_a_solution_that_a_program_runs_is_nobodys_progress(
    content: dict[str, Any] | None, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = types.SimpleNamespace(kernel=Kernel(content))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert exercises.lesson("00")[0].check(0.27).kind == "right"
    assert set(kept.read().exercises) == ({"00-1"} if noted else set())
    assert progress.is_live() == noted
    monkeypatch.setenv("LLMCOURSE_STATIC", "1")
    assert not progress.is_live()
    monkeypatch.setenv("LLMCOURSE_STATIC", "yes")
    with pytest.raises(SettingError, match="LLMCOURSE_STATIC='yes'"):
        progress.is_live()


def test_a_damaged_file_is_put_aside_and_what_is_whole_goes_on(
    file: Path, capsys: pytest.CaptureFixture
) -> None:
    text = '{"exercises": {"00-1": {"when": "x"}, "00-2": 3}, "quizzes": [], "later": ["a"]}'
    file.write_text(text, "utf-8")
    assert "is damaged" in exercises.progress_text()
    assert file.read_text("utf-8") == text  # looking changes nothing
    kept.answered("03-q1", "B", True)
    assert "kept as progress.damaged1.json" in capsys.readouterr().out
    assert file.with_name("progress.damaged1.json").read_text("utf-8") == text
    after = kept.read()
    assert after.undamaged and set(after.exercises) == {"00-1"} and set(after.quizzes) == {"03-q1"}
    assert json.loads(file.read_text("utf-8"))["later"] == ["a"]  # of a later version


# --- showing -------------------------------------------------------------------------------------


def test_progress_counts_each_lesson_and_tells_the_end() -> None:
    assert set(report._NAMES) == set(EXERCISES) == set(QUESTIONS)
    assert "Nothing solved yet" in exercises.progress_text()
    kept.solved("00-1")
    kept.solved("no such exercise")
    for number in (1, 2):
        exercises.quiz("01").answer(number, "A")
    lines = exercises.progress_text().splitlines()
    counts = {line[:2]: line.split()[-6:] for line in lines[1:10]}
    assert counts["00"] == ["1", "of", "3", "0", "of", "3"]
    assert counts["01"] == ["0", "of", "3", "1", "of", "4"]
    total = sum(map(len, EXERCISES.values())), sum(map(len, QUESTIONS.values()))
    assert lines[10].split() == ["all", "1", "of", str(total[0]), "1", "of", str(total[1])]
    assert "All done" not in lines[-1]
    for lesson, tasks in EXERCISES.items():
        for task in tasks:
            kept.solved(task.name)
        for number, question in enumerate(QUESTIONS[lesson], 1):
            exercises.quiz(lesson).answer(number, question.right)
    assert "exercises.summary('summary.html')" in exercises.progress_text().splitlines()[-1]


def test_the_summary_has_what_was_done_and_the_own_ledger(tmp_path: Path) -> None:
    page = exercises.summary(tmp_path / "new" / "mine.html").read_text("utf-8")
    assert "Nothing is measured yet on the smoke tier. Run the lessons." in page
    kept.solved("00-1")
    bad = "<script>alert(1)</script> & more"
    claims.record(
        "small-steps",
        {"held-out loss, 0 steps": 3.875, bad: 7},
        holds=True,
        because=bad,
        models={"tuned": bad},
    )
    target = exercises.summary(tmp_path / "mine.html")
    assert target == tmp_path / "mine.html"
    page = target.read_text("utf-8")
    cells = [cell.text for cell in BeautifulSoup(page, "html.parser").find_all(["td", "th"])]
    assert "<script>" not in page and bad in cells
    place = cells.index("00 Start here")
    assert cells[place + 1 : place + 3] == ["1 of 3", "0 of 3"]
    place = cells.index("held-out loss, 0 steps")
    assert cells[place - 2 : place] == [claims.CLAIMS["small-steps"].text, "yes"]
    assert cells[place + 1 : place + 4] == ["3.88", bad, "7"] and 'rowspan="2"' in page
    assert f"1 of {len(claims.CLAIMS)} claims measured on this machine, smoke tier; 1 hold" in page
    assert 'lang="en"' in page and "http:" not in page and str(tmp_path) not in page
