"""What was solved is kept, by several notebooks at once, past damaged files, and shown."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmcourse import claims, exercises, progress
from llmcourse.errors import ClaimError, DataError, SettingError
from llmcourse.exercises import kept, report
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The progress file, in a work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "progress.json"


def test_a_right_check_is_kept_once_and_a_wrong_one_is_not(file: Path) -> None:
    q1, _ = exercises.lesson("00")
    assert q1.check(540).kind == "wrong" and q1.check().kind == "not tried"
    assert not file.exists()
    assert repr(q1.check(0.27)) == f"✓ Right. {q1.praise}"
    when = kept.read().exercises["00-1"]["when"]
    file.write_text(file.read_text("utf-8").replace(when, "2020-01-01T00:00:00+00:00"), "utf-8")
    q1.check(0.27)
    assert kept.read().exercises == {"00-1": {"when": "2020-01-01T00:00:00+00:00"}}


def test_what_can_not_be_kept_takes_nothing_from_the_answer(file: Path) -> None:
    file.mkdir()
    outcome = exercises.lesson("00")[0].check(0.27)
    assert outcome.kind == "right" and "(Not noted as solved. Your progress" in outcome.message


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
    with pytest.raises(SettingError, match="LLMCOURSE_STATIC='yes' is not known"):
        progress.is_live()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", set()),
        ("[]", set()),
        ('{"exercises": []}', set()),
        ('{"exercises": {"00-1": {"when": "x"}, "00-2": 3}}', {"00-1"}),
        ('{"exercises": {"00-1": {"when": "x"}}, "quizzes": {"01-q1": {"right": 1}}}', {"00-1"}),
    ],
)
def test_a_damaged_file_is_put_aside_and_what_is_whole_goes_on(
    file: Path, text: str, left: set[str], capsys: pytest.CaptureFixture
) -> None:
    file.write_text(text, "utf-8")
    assert "is damaged" in exercises.progress_text()
    assert file.read_text("utf-8") == text  # looking changes nothing
    kept.answered("03-q1", "B", True)
    assert "It is kept as progress.damaged.json" in capsys.readouterr().out
    assert file.with_name("progress.damaged.json").read_text("utf-8") == text
    after = kept.read()
    assert after.undamaged and set(after.exercises) == left and set(after.quizzes) == {"03-q1"}


def test_what_a_later_version_keeps_stays(file: Path) -> None:
    row = {"when": "x", "minutes": 3}
    file.write_text(json.dumps({"exercises": {"77-1": row}, "badges": ["a"]}), "utf-8")
    kept.solved("00-1")
    entries = json.loads(file.read_text("utf-8"))
    assert entries["badges"] == ["a"] and entries["exercises"]["77-1"] == row
    assert set(entries["exercises"]) == {"77-1", "00-1"}


WRITER = """
import sys
from llmcourse.exercises import kept
for number in range(15):
    kept.solved(f"{sys.argv[1]}-{number}")
    kept.answered("shared", "x", False)
"""


def test_notebooks_that_write_at_once_lose_nothing(file: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=ROOT) for name in ("a", "b")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    done = kept.read()
    assert set(done.exercises) == {f"{name}-{n}" for name in "ab" for n in range(15)}
    assert done.quizzes["shared"]["tries"] == 30
    assert done.undamaged and not list(file.parent.glob("*.tmp"))


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
    assert counts["00"] == ["1", "of", "2", "0", "of", "3"]
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


class Cells(HTMLParser):
    """The cells of a page's tables."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = False
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


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
    parser = Cells()
    parser.feed(page)
    cells = parser.cells
    assert "<script>" not in page and bad in cells
    place = cells.index("00 Start here")
    assert cells[place + 1 : place + 3] == ["1 of 2", "0 of 3"]
    place = cells.index("held-out loss, 0 steps")
    assert cells[place - 2 : place] == [claims.CLAIMS["small-steps"].text, "yes"]
    assert cells[place + 1 : place + 4] == ["3.88", bad, "7"] and 'rowspan="2"' in page
    assert f"1 of {len(claims.CLAIMS)} claims measured on this machine, smoke tier; 1 hold" in page
    assert 'lang="en"' in page and "http:" not in page and str(tmp_path) not in page


def test_a_summary_that_can_not_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for name in ("page.txt", "file/page.html"):
        with pytest.raises(DataError, match="page"):
            exercises.summary(tmp_path / name)
    claims.ledger_path().write_text("{", "utf-8")
    with pytest.raises(ClaimError, match="is not a ledger"):
        exercises.summary(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
