"""Each question has one right option and explains all; answers are kept, with buttons or not."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from llmcourse import exercises, notebooks
from llmcourse.errors import ExerciseError, SettingError
from llmcourse.exercises import kept, quizzes
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS, question_name

ALL = [
    pytest.param(asked, id=question_name(lesson, number))
    for lesson, questions in QUESTIONS.items()
    for number, asked in enumerate(questions, 1)
]


@pytest.fixture(autouse=True)
def own_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


# --- the questions -------------------------------------------------------------------------------


def test_every_lesson_has_three_to_five_questions() -> None:
    assert list(QUESTIONS) == list(EXERCISES)
    for lesson in notebooks.find(notebooks.folder()):
        assert 3 <= len(QUESTIONS[lesson.name[:2]]) <= 5


@pytest.mark.parametrize("asked", ALL)
def test_one_option_is_right_and_all_are_explained(asked: Any) -> None:
    assert sum(option.right for option in asked.options) == 1
    assert asked.answer.right
    assert 3 <= len(asked.options) <= len(quizzes.LETTERS)
    assert asked.text.endswith("?")
    texts = [option.text for option in asked.options]
    reasons = [option.because for option in asked.options]
    assert len(set(texts)) == len(texts) and len(set(reasons)) == len(reasons)
    for text in (*texts, *reasons):
        assert text.strip() == text and text.endswith((".", "?"))
    assert all(len(reason) > 15 for reason in reasons)


def test_the_right_option_is_no_matter_of_its_place_or_length() -> None:
    asked = [question for questions in QUESTIONS.values() for question in questions]
    places = [q.options.index(q.answer) for q in asked]
    for place in range(3):
        assert len(asked) / 6 < places.count(place) < len(asked) / 2
    longest = [q.answer == max(q.options, key=lambda o: len(o.text)) for q in asked]
    assert len(asked) / 6 < sum(longest) < len(asked) / 2
    for questions in QUESTIONS.values():
        assert len({q.options.index(q.answer) for q in questions}) > 1
    assert len({q.text for q in asked}) == len(asked)


# --- answering without buttons -------------------------------------------------------------------


def test_answers_are_explained_and_kept() -> None:
    quiz = exercises.quiz("02")
    letters = dict(zip("ABC", quiz.questions[0].options, strict=True))
    [right] = [letter for letter, option in letters.items() if option.right]
    [first, second] = [letter for letter, option in letters.items() if not option.right]
    assert repr(quiz.answer(1, first)) == f"✗ Not yet. {letters[first].because}"
    assert kept.read().quizzes["02-q1"]["right"] is False
    assert quiz.answer(1, f" {right.lower()} ").kind == "right"
    quiz.answer(1, second)  # to read why it is wrong: the question stays answered
    row = kept.read().quizzes["02-q1"]
    assert (row["answer"], row["right"], row["tries"]) == (letters[second].text, True, 2)
    assert set(kept.read().quizzes) == {"02-q1"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exercises.quiz("09"), r"Lesson '09' has no quiz. Try 00, 01"),
        (lambda: exercises.quiz(1), "Lesson 1 has no quiz"),
        (lambda: exercises.quiz("01").answer(0, "A"), "There are 4 questions, from 1; 0 is none"),
        (lambda: exercises.quiz("01").answer(True, "A"), "True is none of them"),
        (lambda: exercises.quiz("01").answer(1, "D"), "has the options A, B, C; 'D' is none"),
        (lambda: exercises.quiz("01").answer(1, "AB"), "'AB' is none"),
        (lambda: exercises.quiz("01").answer(1, ""), "'' is none"),
        (lambda: exercises.quiz("01").answer(1, 0), "0 is none"),
        (lambda: exercises.quiz("01").explain(7), "7 is none of them"),
        (lambda: exercises.quiz("01").buttons(5), "5 is none of them"),
    ],
)
def test_what_can_not_be_answered_is_told(call: Any, message: str) -> None:
    with pytest.raises(ExerciseError, match=message):
        call()
    assert not kept.progress_path().exists()


def test_all_is_explained_on_request(capsys: pytest.CaptureFixture) -> None:
    quiz = exercises.quiz("05")
    quiz.explain()
    said = capsys.readouterr().out
    assert said.count("✓ Right.") == len(quiz.questions)
    for asked in quiz.questions:
        assert all(option.text in said and option.because in said for option in asked.options)
    quiz.explain(2)
    assert capsys.readouterr().out.startswith("2. What does LoRA train?")


def test_an_answer_that_can_not_be_kept_is_explained_all_the_same(own_work: Path) -> None:
    own_work.mkdir()
    kept.progress_path().mkdir()  # a folder where the file should be
    outcome = exercises.quiz("00").answer(1, "B")
    assert outcome.kind == "right"
    assert "(Not kept. " in outcome.message and "progress.json" in outcome.message


# --- what is shown -------------------------------------------------------------------------------


def test_without_a_person_it_is_text_that_folds_out() -> None:
    quiz = exercises.quiz("04")
    bundle = quiz._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    page, plain = bundle["text/html"], bundle["text/plain"]
    assert page.count("<details>") == page.count("</details>") == len(quiz.questions)
    for asked in quiz.questions:
        assert asked.text in plain
        assert html.escape(asked.text) in page
        for option in asked.options:
            assert option.text in plain and option.because not in plain
            before = page.split(html.escape(option.because))[0]
            assert before.count("<details>") > before.count("</details>"), "not folded in"
    assert not re.search(r"<(script|img|link|iframe)\b", page)


def test_a_page_of_a_notebook_has_the_buttons_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quizzes, "is_live", lambda: True)
    quiz = exercises.quiz("00")
    bundle = quiz._repr_mimebundle_()
    assert bundle[quizzes._VIEW]["model_id"] == quiz.widget.model_id
    assert "<details>" in bundle["text/html"]  # what a saved notebook shows


def test_the_setting_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_STATIC", "yes")
    with pytest.raises(SettingError, match="LLMCOURSE_STATIC='yes' is not known"):
        quizzes.is_live()
    monkeypatch.setenv("LLMCOURSE_STATIC", "1")
    assert not quizzes.is_live()


# --- buttons -------------------------------------------------------------------------------------


def notes(quiz: Any) -> list[str]:
    return [html.unescape(note.value) for note in quiz._buttons()._notes]


def test_a_button_answers_and_explains() -> None:
    quiz = exercises.quiz("03")
    asked = quiz.questions[1]
    place = asked.options.index(asked.answer)
    row = quiz.buttons(2)
    assert list(row) == ["A", "B", "C"]
    row["ABC"[place]].click()
    assert asked.answer.because in notes(quiz)[1] and 'aria-live="polite"' in notes(quiz)[1]
    assert row["ABC"[place]].description == f"{'ABC'[place]} ✓"
    assert [note for number, note in enumerate(notes(quiz)) if number != 1] == [""] * 3
    assert "1 of 4 solved so far." in quiz._buttons()._status.value
    row["ABC"[(place + 1) % 3]].click()
    assert "✗ Not this one." in notes(quiz)[1]
    assert [button.description[-1] for button in row.values()].count("✗") == 1
    assert row["ABC"[place]].description == "ABC"[place]
    assert "1 of 4" in quiz._buttons()._status.value
    for letter, option in zip("ABC", asked.options, strict=True):
        assert option.text in row[letter].tooltip


def test_a_quiz_shown_again_has_the_answers() -> None:
    first = exercises.quiz("06")
    first.answer(5, "C")
    again = exercises.quiz("06")
    assert "Right" in notes(again)[4] and again.buttons(5)["C"].description == "C ✓"
    assert notes(again)[:4] == [""] * 4
    assert "1 of 5" in again._buttons()._status.value


def test_what_can_not_be_read_is_told_on_the_page(own_work: Path) -> None:
    own_work.mkdir()
    kept.progress_path().mkdir()
    quiz = exercises.quiz("06")
    assert "can't be read" in html.unescape(quiz._buttons()._status.value)
    quiz.buttons(1)["A"].click()
    assert "Not kept." in notes(quiz)[0]
