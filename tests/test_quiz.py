"""Each question has one right option and explains all; answers are kept, with buttons or not."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest

from llmcourse import exercises, notebooks, ui
from llmcourse.errors import ExerciseError
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES, QUESTIONS

ALL = [question for questions in QUESTIONS.values() for question in questions]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


def test_every_lesson_has_a_quiz_whose_options_are_all_explained() -> None:
    assert list(QUESTIONS) == list(EXERCISES)
    for lesson in notebooks.find(notebooks.folder()):
        assert 3 <= len(QUESTIONS[lesson.name[:2]]) <= 5
    for question in ALL:
        assert question.right in question.options and len(question.options) >= 3
        assert question.text.endswith("?")
        texts, reasons = zip(*question.options.values(), strict=True)
        assert len({*texts}) == len(texts) and len({*reasons}) == len(reasons)
        assert all(text.strip() == text for text in (*texts, *reasons))
        assert all(reason.endswith(".") for reason in reasons)
        assert all(text.endswith((".", "?”")) for text in texts)  # a quoted question ends itself
        assert all(len(reason) > 15 for reason in reasons)


def test_position_and_length_do_not_give_the_right_option_away() -> None:
    for letter in "ABC":
        assert len(ALL) / 6 < sum(question.right == letter for question in ALL) < len(ALL) / 2
    longest = [max(q.options, key=lambda letter, q=q: len(q.options[letter][0])) for q in ALL]
    right = sum(q.right == letter for q, letter in zip(ALL, longest, strict=True))
    assert len(ALL) / 6 < right < len(ALL) / 2
    for questions in QUESTIONS.values():
        assert len({question.right for question in questions}) > 1
    assert len({question.text for question in ALL}) == len(ALL)


def test_answers_are_explained_and_kept() -> None:
    quiz = exercises.quiz("02")
    question = quiz.questions[0]
    first, second = (letter for letter in question.options if letter != question.right)
    assert repr(quiz.answer(1, first)) == f"✗ Not yet. {question.options[first][1]}"
    assert kept.read().quizzes["02-q1"]["right"] is False
    assert quiz.answer(1, f" {question.right.lower()} ").kind == "right"
    quiz.answer(1, second)  # to read why it is wrong: the question stays answered
    row = kept.read().quizzes["02-q1"]
    assert (row["answer"], row["right"], row["tries"]) == (question.options[second][0], True, 2)
    for number, letter in ((0, "A"), (1, "D")):
        with pytest.raises(ExerciseError):
            quiz.answer(number, letter)


@pytest.mark.parametrize("live", [False, True])
def test_as_text_the_answers_fold_out(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "is_live", lambda: live)
    quiz = exercises.quiz("04")
    bundle = quiz._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", *([ui.VIEW] if live else [])}
    page, plain = bundle["text/html"], bundle["text/plain"]
    assert page.count("<details>") == page.count("</details>") == len(quiz.questions)
    for question in quiz.questions:
        assert question.text in plain and html.escape(question.text) in page
        for text, reason in question.options.values():
            assert text in plain and reason not in plain
            before = page.split(html.escape(reason))[0]
            assert before.count("<details>") > before.count("</details>"), "not folded in"


def texts(quiz: Any) -> list[str]:
    """What is under each question, and the count at the end."""
    values = [html.unescape(getattr(part, "value", "")) for part in quiz.widget.children]
    return [*values[2:-1:3], values[-1]]


def test_a_button_answers_and_explains_and_is_there_again() -> None:
    quiz = exercises.quiz("03")
    question, row = quiz.questions[1], quiz.buttons[2 - 1]
    right, wrong = question.right, next(o for o in question.options if o != question.right)
    row[right].click()
    assert question.options[right][1] in texts(quiz)[1] and 'aria-live="polite"' in texts(quiz)[1]
    assert row[right].description == f"{right} ✓" and "1 of 4 solved so far." in texts(quiz)[-1]
    row[wrong].click()
    assert "✗ Not this one." in texts(quiz)[1] and "1 of 4" in texts(quiz)[-1]
    assert (row[right].description, row[wrong].description) == (right, f"{wrong} ✗")
    assert question.options[wrong][0] in row[wrong].tooltip
    again = exercises.quiz("03")
    assert texts(again)[1] == texts(quiz)[1] and again.buttons[1][wrong].description[-1] == "✗"
    assert texts(again)[0] == "" and "1 of 4" in texts(again)[-1]


def test_an_answer_that_can_not_be_kept_is_explained_all_the_same(work: Path) -> None:
    work.mkdir()
    kept.store().path.mkdir()  # a folder where the file should be
    quiz = exercises.quiz("00")
    assert "can't be read" in texts(quiz)[-1]
    quiz.buttons[1 - 1]["B"].click()
    assert "✓ Right." in texts(quiz)[0] and "(Not kept. " in texts(quiz)[0]
