"""What thirty learners exported becomes a page and a table; what does not count is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from classroom import report
from llmcourse import claims, cli, exercises, tiers, workshop
from llmcourse.doctor import Check
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS
from llmcourse.stats import Share

SHOWN = claims.CLAIMS["base-continues"].shown
Learner = Callable[..., Path]


@pytest.fixture
def learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """A learner's machine: what is solved and measured there is exported to `class/`."""
    (tmp_path / "class").mkdir()
    monkeypatch.chdir(tmp_path / "class")
    monkeypatch.setattr(kept, "run_by_program", lambda: False)
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")

    def made(name: str, right: int, seed: int, letter: str = "", **entry: Any) -> Path:
        monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / name))
        monkeypatch.setattr(tiers, "seed", lambda: seed)
        claims.record(
            "base-continues",
            {SHOWN[0]: Share(right, 24), SHOWN[1]: Share(20, 24), "length": 30.5},
            holds=right > 4,
            models={"base": str(tmp_path / "ada.b" / "model"), "chat": "smollm2-135m-instruct"},
        )
        claims._store(claims.ledger_path()).update(
            lambda entries: entries["base-continues"].update(entry)
        )
        if letter:
            kept.solved("01-1")
            exercises.quiz("01").answer(1, letter)
            exercises.quiz("01").answer(1, QUESTIONS["01"][0].right)
        return workshop.export(name)

    return made


def table_of(page: BeautifulSoup, caption: str) -> list[list[str]]:
    (table,) = [t for t in page("table") if t.caption and caption in t.caption.text]
    return [[cell.text for cell in row(["th", "td"])] for row in table.tbody("tr")]


def test_an_export_is_complete_readable_and_has_no_path(learner: Learner) -> None:
    content = json.loads(learner("Ada B", 5, 7, "B").read_text(encoding="utf-8"))
    assert list(content) == [
        *("kind", "name", "course", "when", "exercises", "quizzes", "ledger", "checksum")
    ]
    assert content["name"] == "Ada B" and "01-1" in content["exercises"]
    entry = content["ledger"]["cpu"]["base-continues"]
    assert entry["numbers"][SHOWN[0]] == {"count": 5, "of": 24} and entry["seed"] == 7
    assert entry["models"] == {"base": "model", "chat": "smollm2-135m-instruct"}
    row = content["quizzes"]["01-q1"]
    assert row["first"] == QUESTIONS["01"][0].options["B"][0]
    assert row["answer"] == QUESTIONS["01"][0].options[QUESTIONS["01"][0].right][0]


def test_the_report_says_who_solved_what_and_how_questions_were_answered(learner: Learner) -> None:
    question = QUESTIONS["01"][0]
    wrong = next(letter for letter in question.options if letter != question.right)
    learner("ada", 5, 1, wrong)
    learner("bob", 6, 2, question.right)
    learner("carl", 9, 3)
    workshop.write("class-check", "bob", {"ready": False, "to do": ["Sleep"], "found": {}})
    page, table, left_out = report.write(Path())
    assert left_out == []
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    solved = {row[0]: row[2] for row in table_of(html, "Exercises solved")}
    tasks, count = len(EXERCISES["01"]), len(QUESTIONS["01"])
    assert solved == {"ada": f"1/{tasks}, 1/{count}", "bob": f"1/{tasks}, 1/{count}"} | {
        "carl": f"0/{tasks}, 0/{count}"
    }
    assert ["01-1", "2 of 3", EXERCISES["01"][0].task] in table_of(html, "Each exercise")
    first = {row[-2][0]: row[-1] for row in table_of(html, "How many chose")}
    assert first == dict.fromkeys(question.options, "0") | {question.right: "1", wrong: "1"}
    assert table_of(html, "Set-up")[0][:2] == ["bob", "not ready"]
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 3 * sum(map(len, [*EXERCISES.values(), *QUESTIONS.values()]))
    (row,) = [row for row in rows if (row["learner"], row["item"]) == ("ada", "01-q1")]
    assert (row["done"], row["tries"], row["first answer"]) == ("1", "2", wrong)


def test_numbers_across_machines_count_each_run_once(learner: Learner) -> None:
    for name, right, seed in (("ada", 3, 1), ("bob", 6, 2), ("carl", 12, 3), ("dora", 12, 3)):
        learner(name, right, seed)
    learner("eve", 24, 4, published=True)
    page = report.write(Path())[0].read_text(encoding="utf-8")
    html = BeautifulSoup(page, "html.parser")
    rows = table_of(html, "across machines")
    assert rows[0][1:] == [SHOWN[0], "3", "13 %", "25 %", "50 %", "no: 1, yes: 2"]
    assert rows[2][:5] == ["length", "3", "30.5", "30.5", "30.5"]
    alt = html.img["alt"]
    assert f"base-continues: {SHOWN[0]}: 3 machines, 13 % to 50 %, median 25 %" in alt
    assert "length" not in alt  # no share
    assert "base-continues of dora" in page and "shares a seed" in page
    assert "base-continues of eve" in page and "came by catch-up" in page
    assert "Content-Security-Policy" in page and "http://" not in page


def test_damaged_and_other_files_are_named_and_stop_nothing(learner: Learner) -> None:
    whole = learner("ada", 5, 1).read_text(encoding="utf-8")
    for name, text in {
        "cut.json": whole[:300],
        "edited.json": whole.replace('"count": 5', '"count": 6'),
        "list.json": "[1]",
        "notes.json": '{"kind": "notes"}',
        "mac/mail.json": "\ufeff" + whole.replace("\n", "\r\n"),  # damaged in form alone
    }.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, encoding="utf-8", newline="")
    content = {"kind": "progress", "name": "x", "when": "", "quizzes": {}}
    Path("old.json").write_text(json.dumps(content | {"checksum": workshop.checksum(content)}))
    said = "\n".join(report.write(Path())[2])
    for line in (
        "cut.json is damaged: it is no JSON",
        "edited.json is damaged: it is not as written",
        "list.json is none of a learner's",
        "notes.json is none of a learner's",
        "old.json is of another version",
        "there are two of ada; the newer one counts",
    ):
        assert line in said
    assert said.count("\n") == 5


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["class-report", "."]) == 1
    assert "holds no file of a learner's" in capsys.readouterr().err
    assert cli.main(["progress", "--export", "--name", "ada"]) == 0
    assert capsys.readouterr().out == "Read progress-ada.json, then send it to your teacher.\n"
    workshop.check("ada", [Check("Device", "cpu")])
    assert cli.main(["class-report", "."]) == 0
    assert "class-report.csv" in capsys.readouterr().out
    # a name is no formula for the spreadsheet that opens the table
    found = report.Class(progress={"=1+1": {"exercises": {}, "quizzes": {}, "ledger": {}}})
    assert "\n'=1+1,00," in report.csv_text(found)


def test_an_edited_file_neither_stops_the_report_nor_brings_formulas() -> None:
    good = {"answer": "A", "right": True, "tries": 1, "when": "x"}
    found = kept.undamaged_entries({"quizzes": {"a": good, "b": good | {"right": "true"}}})
    assert list(found["quizzes"]) == ["a"]
    assert report.safe("=HYPERLINK(1)") == "'=HYPERLINK(1)" and report.safe("") == ""
