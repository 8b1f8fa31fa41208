"""A lesson's quiz: buttons for a person, the questions as text for everyone else.

It is made of ipywidgets, and not with jupyterquiz: that package runs in the browser alone and
can't tell the kernel what was answered (https://github.com/jmshea/jupyterquiz/issues/17), so no
answer could be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from llmcourse import pages
from llmcourse.errors import CourseError, ExerciseError
from llmcourse.exercises import kept
from llmcourse.exercises.checking import Outcome
from llmcourse.exercises.lessons import QUESTIONS, Question
from llmcourse.widgets.shared import Shown, buttons, row

if TYPE_CHECKING:
    import ipywidgets

_TEXT = "line-height:1.45;overflow-wrap:anywhere;max-width:48em"


class Quiz(Shown):
    """The quiz of a lesson; the last line of a cell shows it.

    Each answer is explained at once and kept in `progress.json` of the work folder. Nothing is
    sent anywhere, and any question may be answered again.
    """

    def __init__(self, lesson: str) -> None:
        self.questions = QUESTIONS[lesson]

    def __repr__(self) -> str:
        """The questions as plain text."""
        return "\n\n".join(
            "\n".join([f"{number}. {question.text}", *_lines(question)])
            for number, question in enumerate(self.questions, 1)
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
        question, letter = self._question(number), letter.strip().upper()
        if letter not in question.options:
            raise ExerciseError(
                f"Question {number} has the options {', '.join(question.options)}; {letter!r:.40} "
                f"is none of them."
            )
        text, reason = question.options[letter]
        right = letter == question.right
        try:
            kept.answered(question.name, text, right)
        except CourseError as error:
            reason += f" (Not kept. {error})"
        return Outcome("right" if right else "wrong", reason)

    def explain(self, number: int | None = None) -> None:
        """Print what is right and wrong about each option, of one question or of all.

        Raises:
            ExerciseError: there is no such question.
        """
        for chosen in range(1, len(self.questions) + 1) if number is None else [number]:
            question = self._question(chosen)
            print(f"{chosen}. {question.text}")
            for line, letter in zip(_lines(question), question.options, strict=True):
                print(f"{line}\n      {question.verdict(letter)}")

    def buttons(self, number: int) -> dict[str, ipywidgets.Button]:
        """The buttons of a question by letter."""
        self._question(number)
        return self.page.buttons[number - 1]

    def _question(self, number: int) -> Question:
        if number not in range(1, len(self.questions) + 1):
            raise ExerciseError(
                f"There are {len(self.questions)} questions, from 1; {number!r:.40} is none of "
                f"them."
            )
        return self.questions[number - 1]

    def _make(self) -> _Page:
        return _Page(self)

    def _show_plain(self) -> None:
        from IPython.display import display

        display(self._plain(), raw=True)

    def _plain(self) -> dict[str, Any]:
        """The quiz without buttons: the answer to each question folds out."""
        parts = []
        for number, question in enumerate(self.questions, 1):
            verdicts = pages.bullets(
                map(question.verdict, question.options), lettered=True, style=_TEXT
            )
            parts += [_asking(number, question), pages.details(f"Answer to {number}", verdicts)]
        page = pages.without_formulas("".join(parts))
        return {"text/plain": repr(self), "text/html": page}


def _lines(question: Question) -> list[str]:
    return [f"   {letter}. {text}" for letter, (text, _) in question.options.items()]


def _asking(number: int, question: Question) -> Markup:
    options = [text for text, _ in question.options.values()]
    return pages.fill(
        '<div style="{}"><p><b>{}. {}</b></p>{}</div>',
        _TEXT,
        number,
        question.text,
        pages.bullets(options, lettered=True, style="margin:0 0 4px 0"),
    )


class _Page:
    """The questions on the page, each with a button for each option.

    The options are text above their buttons, where long ones wrap; a button has the letter, and
    the option as its title.

    Attributes:
        box: Everything.
        buttons: For each question, by letter.
    """

    def __init__(self, quiz: Quiz) -> None:
        import ipywidgets as w

        self._quiz, self._status, self._notes = quiz, w.HTML(), [w.HTML() for _ in quiz.questions]
        self.buttons: list[dict[str, ipywidgets.Button]] = []
        parts: list[ipywidgets.Widget] = []
        done = self._count()
        for number, question in enumerate(quiz.questions, 1):
            made = buttons(
                dict(zip(question.options, question.options, strict=True)),
                lambda letter, number=number: self._pressed(number, letter),
            )
            self.buttons.append(made)
            text = w.HTML(pages.without_formulas(_asking(number, question)))
            parts += [text, row(*made.values()), self._notes[number - 1]]
            before = done.get(question.name, {}).get("answer")
            for letter, (option, reason) in question.options.items():
                made[letter].tooltip = f"Question {number}, answer {letter}: {option}"
                made[letter].layout.width = "4em"
                if option == before:
                    self._tell(number, letter, reason)
        self.box = w.VBox([*parts, self._status])

    def _pressed(self, number: int, letter: str) -> None:
        self._tell(number, letter, self._quiz.answer(number, letter).message)
        self._count()

    def _tell(self, number: int, letter: str, reason: str) -> None:
        """Mark the chosen button, and say why the answer is right or wrong."""
        question = self._quiz.questions[number - 1]
        mark = "✓" if letter == question.right else "✗"
        for other, button in self.buttons[number - 1].items():
            button.description = f"{other} {mark}" if other == letter else other
        verdict = question.verdict(letter).removesuffix(question.options[letter][1])
        self._notes[number - 1].value = pages.status(f"{letter}. {verdict}{reason}", _TEXT)

    def _count(self) -> dict[str, dict[str, Any]]:
        """Show how many are right so far; returns the answers that were kept."""
        try:
            done, problem = kept.read().quizzes, ""
        except CourseError as error:
            done, problem = {}, str(error)
        right = sum(done.get(q.name, {}).get("right", False) for q in self._quiz.questions)
        text = f"{right} of {len(self._quiz.questions)} solved so far. {problem}".strip()
        self._status.value = pages.status(text, _TEXT)
        return done
