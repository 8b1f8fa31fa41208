"""A lesson's quiz: buttons for a person, the questions as text for everyone else.

It is made of ipywidgets, and not with jupyterquiz: that package runs in the browser alone and
can't tell the kernel what was answered (https://github.com/jmshea/jupyterquiz/issues/17), so no
answer could be kept.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from llmcourse.errors import CourseError, ExerciseError
from llmcourse.exercises import kept
from llmcourse.exercises.base import Outcome, shown
from llmcourse.exercises.choices import Option, Question
from llmcourse.exercises.lessons import QUESTIONS, question_name
from llmcourse.pages import without_formulas
from llmcourse.progress import is_live

if TYPE_CHECKING:
    import ipywidgets

LETTERS = "ABCDEFGH"
_VIEW = "application/vnd.jupyter.widget-view+json"
_TEXT = "line-height:1.45;overflow-wrap:anywhere;max-width:48em"


class Quiz:
    """The quiz of a lesson; the last line of a cell shows it.

    Each answer is explained at once and kept in `progress.json` of the work folder. Nothing is
    sent anywhere, and any question may be answered again.
    """

    def __init__(self, lesson: str) -> None:
        """Take the questions of a lesson.

        Raises:
            ExerciseError: there is no quiz for it.
        """
        if not isinstance(lesson, str) or lesson not in QUESTIONS:
            raise ExerciseError(
                f"Lesson {shown(lesson, 40)} has no quiz. Try {', '.join(QUESTIONS)}."
            )
        self.lesson = lesson
        self.questions = QUESTIONS[lesson]
        self._widget: _Buttons | None = None

    def __repr__(self) -> str:
        """The questions as plain text."""
        return "\n\n".join(
            "\n".join([f"{number}. {asked.text}", *_listed(asked)])
            for number, asked in enumerate(self.questions, 1)
        )

    def answer(self, number: int, letter: str) -> Outcome:
        """Answer a question.

        Args:
            number: Of the question, from 1.
            letter: Of the option, as in "A".

        Returns:
            Whether it is right, and why.

        Raises:
            ExerciseError: there is no such question or option.
        """
        asked = self._asked(number)
        letters = LETTERS[: len(asked.options)]
        given = letter.strip().upper() if isinstance(letter, str) else ""
        if len(given) != 1 or given not in letters:
            raise ExerciseError(
                f"Question {number} has the options {', '.join(letters)}; {shown(letter, 40)} is "
                f"none of them."
            )
        option = asked.options[letters.index(given)]
        said = option.because
        try:
            kept.answered(question_name(self.lesson, number), option.text, option.right)
        except CourseError as error:
            said += f" (Not kept. {error})"
        return Outcome("right" if option.right else "wrong", said)

    def explain(self, number: int | None = None) -> None:
        """Print what is right and wrong about each option, of one question or of all.

        Raises:
            ExerciseError: there is no such question.
        """
        chosen = range(1, len(self.questions) + 1) if number is None else [number]
        for place in chosen:
            asked = self._asked(place)
            print(f"{place}. {asked.text}")
            for letter, option in zip(LETTERS, asked.options, strict=False):
                print(f"   {letter}. {option.text}\n      {_verdict(option)} {option.because}")

    @property
    def widget(self) -> ipywidgets.Widget:
        """The buttons, made once."""
        return self._buttons().box

    def buttons(self, number: int) -> dict[str, ipywidgets.Button]:
        """The buttons of a question by letter."""
        self._asked(number)
        return self._buttons().buttons[number - 1]

    def show(self) -> None:
        """Show the quiz: with buttons where a person runs the notebook."""
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)

    def _asked(self, number: Any) -> Question:
        """The question of that number.

        Raises:
            ExerciseError: there is none.
        """
        count = len(self.questions)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= count:
            raise ExerciseError(
                f"There are {count} questions, from 1; {shown(number, 40)} is none of them."
            )
        return self.questions[number - 1]

    def _buttons(self) -> _Buttons:
        if self._widget is None:
            self._widget = _Buttons(self)
        return self._widget

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """What a notebook shows: the text, and the buttons where a person can press them."""
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": _page(self.questions)}
        if is_live():
            model_id = self.widget.model_id
            bundle[_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": model_id}
        return bundle


def _listed(asked: Question) -> list[str]:
    """The options with their letters, a line each."""
    return [
        f"   {letter}. {option.text}"
        for letter, option in zip(LETTERS, asked.options, strict=False)
    ]


def _verdict(option: Option) -> str:
    return "✓ Right." if option.right else "✗ Not this one."


def _asking(number: int, asked: Question) -> str:
    """A question with its options as HTML."""
    items = "".join(f"<li>{html.escape(option.text)}</li>" for option in asked.options)
    return (
        f'<div style="{_TEXT}"><p><b>{number}. {html.escape(asked.text)}</b></p>'
        f'<ol type="A" style="margin:0 0 4px 0">{items}</ol></div>'
    )


def _page(questions: tuple[Question, ...]) -> str:
    """The whole quiz without buttons: each answer folds out."""
    parts = []
    for number, asked in enumerate(questions, 1):
        why = "".join(
            f"<li>{_verdict(option)} {html.escape(option.because)}</li>" for option in asked.options
        )
        parts.append(
            f"{_asking(number, asked)}<details><summary>Answer to {number}</summary>"
            f'<ol type="A" style="{_TEXT}">{why}</ol></details>'
        )
    return without_formulas("".join(parts))


class _Buttons:
    """The questions on the page, each with a button for each option.

    The options stand above their buttons as text, where long ones wrap; the button has the letter,
    and the option as its title.

    Attributes:
        box: The whole.
        buttons: For each question, by letter.
    """

    def __init__(self, quiz: Quiz) -> None:
        import ipywidgets as w

        self._quiz = quiz
        self._before, trouble = _kept_answers()
        self._status = w.HTML()
        self.buttons: list[dict[str, Any]] = []
        self._notes: list[Any] = []
        parts: list[Any] = []
        for number, asked in enumerate(quiz.questions, 1):
            row = {
                letter: w.Button(
                    description=letter,
                    tooltip=f"Question {number}, answer {letter}: {option.text}",
                    layout=w.Layout(width="4em"),
                )
                for letter, option in zip(LETTERS, asked.options, strict=False)
            }
            for letter, button in row.items():
                button.on_click(lambda _, n=number, chosen=letter: self._pressed(n, chosen))
            note = w.HTML()
            self.buttons.append(row)
            self._notes.append(note)
            wrap = w.Layout(flex_flow="row wrap")
            text = w.HTML(without_formulas(_asking(number, asked)))
            parts += [text, w.HBox(list(row.values()), layout=wrap), note]
            self._recall(number, asked)
        self.box = w.VBox([*parts, self._status])
        self._count(trouble)

    def _pressed(self, number: int, letter: str) -> None:
        """Answer, and say why on the page, where what goes wrong would be lost else."""
        try:
            outcome = self._quiz.answer(number, letter)
        except CourseError as error:
            self._count(str(error))
            return
        option = self._quiz.questions[number - 1].options[LETTERS.index(letter)]
        self._tell(number, letter, option, outcome.message)
        self._before, trouble = _kept_answers()
        self._count(trouble)

    def _recall(self, number: int, asked: Question) -> None:
        """Show the answer that was given before, if it still is one of the options."""
        row = self._before.get(question_name(self._quiz.lesson, number), {})
        for letter, option in zip(LETTERS, asked.options, strict=False):
            if row.get("answer") == option.text:
                self._tell(number, letter, option, option.because)

    def _tell(self, number: int, letter: str, option: Option, because: str) -> None:
        for other, button in self.buttons[number - 1].items():
            sign = "✓" if option.right else "✗"
            button.description = f"{other} {sign}" if other == letter else other
        self._notes[number - 1].value = _said(f"{letter}. {_verdict(option)} {because}")

    def _count(self, trouble: str) -> None:
        """How many are right so far."""
        names = [question_name(self._quiz.lesson, n + 1) for n in range(len(self._notes))]
        right = sum(self._before.get(name, {}).get("right", False) for name in names)
        self._status.value = _said(f"{right} of {len(names)} solved so far. {trouble}".strip())


def _kept_answers() -> tuple[dict[str, dict[str, Any]], str]:
    """The quiz answers so far, and what stood in the way of reading them."""
    try:
        return kept.read().quizzes, ""
    except CourseError as error:
        return {}, str(error)


def _said(text: str) -> str:
    """A line that screen readers read out when it changes."""
    return without_formulas(
        f'<div role="status" aria-live="polite" style="{_TEXT}">{html.escape(text)}</div>'
    )
