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

from llmcourse import claims, exercises
from llmcourse.errors import ClaimError, ExerciseError, NoSpace
from llmcourse.exercises import kept, quizzes, report
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS, question_name
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The progress file, in a work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "progress.json"


def solve(name: str) -> Any:
    [task] = [task for tasks in EXERCISES.values() for task in tasks if task.name == name]
    scope: dict[str, Any] = {}
    if task.answer.startswith(("def ", "import ")):
        exec(task.answer, scope)
        return task.check([value for value in scope.values() if callable(value)][-1])
    return task.check(eval(task.answer, scope))


# --- keeping -------------------------------------------------------------------------------------


def test_a_right_check_is_kept_and_a_wrong_one_is_not(file: Path) -> None:
    q1, q2 = exercises.lesson("00")
    assert q1.check(540).kind == "wrong" and q1.check().kind == "not tried"
    assert q2.check(object()).kind != "right"
    assert not file.exists()
    outcome = q1.check(0.27)
    assert (outcome.kind, outcome.message) == ("right", q1.praise)
    when = kept.read().exercises["00-1"]["when"]
    file.write_text(file.read_text("utf-8").replace(when, "2020-01-01T00:00:00+00:00"), "utf-8")
    q1.check(0.27)
    assert kept.read().exercises == {"00-1": {"when": "2020-01-01T00:00:00+00:00"}}


def test_what_can_not_be_kept_takes_nothing_from_the_answer(file: Path) -> None:
    file.mkdir()
    outcome = exercises.lesson("00")[0].check(0.27)
    assert outcome.kind == "right"
    assert "(Not noted as solved. Your progress" in outcome.message


def test_a_full_disk_leaves_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.solved("00-1")
    before = file.read_text("utf-8")

    def full(*_: Any) -> None:
        raise NoSpace("No space left")

    monkeypatch.setattr(kept, "write_json", full)
    with pytest.raises(NoSpace):
        kept.solved("00-2")
    assert (
        "No space left"
        in exercises.lesson("00")[1]
        .check({"prices": "retrieve", "voice": "fine-tune", "once": "prompt"})
        .message
    )
    assert file.read_text("utf-8") == before


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
    assert quizzes.is_live() == noted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", set()),
        ('{"exercises": {"00-1": {"when": "x"}', set()),
        ("[]", set()),
        ("\x00\x01", set()),
        ('{"exercises": []}', set()),
        ('{"exercises": {"00-1": {"when": "x"}, "00-2": 3}}', {"00-1"}),
        ('{"exercises": {"00-1": {"when": "x"}, "00-2": {"when": null}}}', {"00-1"}),
        ('{"exercises": {"00-1": {"when": "x"}}, "quizzes": {"01-q1": {"right": 1}}}', {"00-1"}),
        ("[" * 100_000, set()),
    ],
)
def test_a_damaged_file_is_put_aside_and_what_is_whole_goes_on(
    file: Path, text: str, left: set[str], capsys: pytest.CaptureFixture
) -> None:
    file.write_text(text, "utf-8")
    done = kept.read()
    assert not done.whole and set(done.exercises) == left and done.quizzes == {}
    assert "is damaged" in exercises.progress_text()
    assert file.read_text("utf-8") == text  # looking changes nothing
    kept.answered("03-q1", "B", True)
    assert "It is kept as progress.damaged.json" in capsys.readouterr().out
    assert file.with_name("progress.damaged.json").read_text("utf-8") == text
    after = kept.read()
    assert after.whole and set(after.exercises) == left and set(after.quizzes) == {"03-q1"}
    file.write_text("{", "utf-8")
    kept.solved("01-1")
    assert file.with_name("progress.damaged2.json").read_text("utf-8") == "{"


def test_what_a_later_version_keeps_stays(file: Path) -> None:
    row = {"when": "x", "minutes": 3}
    file.write_text(json.dumps({"exercises": {"77-1": row}, "badges": ["a"]}), "utf-8")
    kept.solved("00-1")
    found = json.loads(file.read_text("utf-8"))
    assert found["badges"] == ["a"] and found["exercises"]["77-1"] == row
    assert set(found["exercises"]) == {"77-1", "00-1"}


WRITER = """
import sys
from llmcourse.exercises import kept
for number in range(25):
    kept.solved(f"{sys.argv[1]}-{number}")
    kept.answered(f"{sys.argv[1]}-q{number}", "x", number % 2 == 0)
    kept.answered("shared", "x", False)
"""


def test_notebooks_that_write_at_once_lose_nothing(file: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=ROOT) for name in ("a", "b")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    done = kept.read()
    assert set(done.exercises) == {f"{name}-{n}" for name in "ab" for n in range(25)}
    assert len(done.quizzes) == 51 and done.quizzes["shared"]["tries"] == 50
    assert done.whole and not list(file.parent.glob("*.tmp"))


# --- showing -------------------------------------------------------------------------------------


def test_progress_counts_each_lesson() -> None:
    assert "Nothing solved yet" in exercises.progress_text()
    assert solve("00-1").kind == "right"
    exercises.quiz("01").answer(1, "A")
    exercises.quiz("01").answer(2, "A")
    kept.solved("no such exercise")
    lines = exercises.progress_text().splitlines()
    row = {line[:2]: line.split()[-6:] for line in lines[1:10]}
    assert row["00"] == ["1", "of", "2", "0", "of", "3"]
    assert row["01"] == ["0", "of", "3", "1", "of", "4"]
    total = sum(map(len, EXERCISES.values())), sum(map(len, QUESTIONS.values()))
    assert lines[10].split() == ["all", "1", "of", str(total[0]), "1", "of", str(total[1])]
    assert "All done" not in lines[-1]


def test_the_end_is_told() -> None:
    for tasks in EXERCISES.values():
        for task in tasks:
            kept.solved(task.name)
    assert "All done" not in exercises.progress_text()
    for lesson, questions in QUESTIONS.items():
        for number, asked in enumerate(questions, 1):
            kept.answered(question_name(lesson, number), asked.answer.text, True)
    assert "exercises.summary('summary.html')" in exercises.progress_text().splitlines()[-1]


class Texts(HTMLParser):
    """The cells of a page's tables, and whether every element was closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_the_summary_has_what_was_done_and_the_own_ledger(tmp_path: Path) -> None:
    solve("00-1")
    bad = "<script>alert(1)</script> & more"
    claims.record("small-steps", {"held-out loss, 0 steps": 3.875, bad: 7}, holds=True,
                  because=bad, models={"tuned": bad})  # fmt: skip
    target = exercises.summary(tmp_path / "mine.html")
    assert target == tmp_path / "mine.html"
    page = target.read_text("utf-8")
    texts = Texts()
    texts.feed(page)
    assert texts.open == []
    assert "<script>" not in page and bad in texts.cells
    place = texts.cells.index("00 · Start here")
    assert texts.cells[place + 1 : place + 3] == ["1 of 2", "0 of 3"]
    place = texts.cells.index("held-out loss, 0 steps")
    assert texts.cells[place - 2 : place + 2] == [
        claims.CLAIMS["small-steps"].text, "yes", "held-out loss, 0 steps", "3.88",
    ]  # fmt: skip
    assert texts.cells[place + 2 : place + 4] == [bad, "7"] and 'rowspan="2"' in page
    assert f"1 of {len(claims.CLAIMS)} claims measured on this machine, smoke tier; 1 hold" in page
    assert 'lang="en"' in page and "http" not in page and str(tmp_path) not in page


def test_a_summary_before_anything_is_measured_says_so(tmp_path: Path) -> None:
    page = exercises.summary(tmp_path / "new" / "page.html").read_text("utf-8")
    assert "Nothing is measured yet on the smoke tier. Run the lessons." in page


@pytest.mark.parametrize("name", ["page", "page.txt", "folder.html", "file/page.html"])
def test_a_place_that_is_none_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ExerciseError, match="page|folder"):
        exercises.summary(tmp_path / name)


def test_a_summary_does_not_hide_a_damaged_ledger(tmp_path: Path) -> None:
    claims.ledger_path().write_text("{", "utf-8")
    with pytest.raises(ClaimError, match="is not a ledger"):
        exercises.summary(tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_lessons_have_names() -> None:
    assert set(report._NAMES) == set(EXERCISES) == set(QUESTIONS)
