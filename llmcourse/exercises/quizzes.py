"""A lesson's quiz: buttons for a person, the questions as text for everyone else.

It is made of ipywidgets, and not with jupyterquiz: that package runs in the browser alone and
can't tell the kernel what was answered (https://github.com/jmshea/jupyterquiz/issues/17), so no
answer could be kept.
"""

from __future__ import annotations

import functools
from functools import cached_property
from typing import Any

from llmcourse import pages, ui
from llmcourse.errors import CourseError, ExerciseError
from llmcourse.exercises import kept
from llmcourse.exercises.checking import Outcome
from llmcourse.exercises.lessons import QUESTIONS, Question
from llmcourse.pages import Markup

TEXT = "line-height:1.45;overflow-wrap:anywhere;max-width:48em"


class Quiz(ui.Widget):
    """The quiz of a lesson; the last line of a cell shows it.

    Each answer is explained at once and kept in `progress.json` of the work folder. Nothing is
    sent anywhere, and any question may be answered again.
    """

    def __init__(self, lesson: str) -> None:
        self.questions = QUESTIONS[lesson]

    def __repr__(self) -> str:
        """The questions as plain text."""
        return "\n\n".join(
            "\n".join([f"{number}. {question.text}", *option_lines(question)])
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
        # A full disk must not keep anybody from learning why: the reason comes all the same.
        try:
            kept.answered(question.name, text, right)
        except CourseError as error:
            reason += f" (Not kept. {error})"
        return Outcome("right" if right else "wrong", reason)

    def _question(self, number: int) -> Question:
        if number not in range(1, len(self.questions) + 1):
            raise ExerciseError(
                f"There are {len(self.questions)} questions, from 1; {number!r:.40} is none of "
                f"them."
            )
        return self.questions[number - 1]

    def fallback(self) -> dict[str, Any]:
        """The quiz without buttons: the answer to each question folds out."""
        parts = []
        for number, question in enumerate(self.questions, 1):
            verdicts = map(question.verdict, question.options)
            answers = pages.bullets(verdicts, lettered=True, style=TEXT)
            parts += [
                question_page(number, question),
                pages.details(f"Answer to {number}", answers),
            ]
        return {"text/plain": repr(self), "text/html": pages.without_formulas("".join(parts))}

    # --- the page ---------------------------------------------------------------------------------

    @cached_property
    def buttons(self) -> list[dict[str, Any]]:
        """For each question, a button for each option, by letter.

        The options are text above their buttons, where long ones wrap; a button has the letter,
        and the option as its title.
        """
        rows = []
        for number, question in enumerate(self.questions, 1):
            letters = dict(zip(question.options, question.options, strict=True))
            press = functools.partial(self._pressed, number)
            rows.append(made := ui.make_buttons(letters, press))
            for letter, (option, _) in question.options.items():
                made[letter].tooltip = f"Question {number}, answer {letter}: {option}"
                made[letter].layout.width = "4em"
        return rows

    def build(self) -> Any:
        import ipywidgets as w

        parts, done = [], self._show_count()
        for number, question in enumerate(self.questions, 1):
            text = w.HTML(pages.without_formulas(question_page(number, question)))
            parts += [text, ui.row(*self.buttons[number - 1].values()), self.html[question.name]]
            before = done.get(question.name, {}).get("answer")
            for letter, (option, reason) in question.options.items():
                if option == before:  # by its text, as an edited quiz may have other letters
                    self._explain_choice(number, letter, reason)
        return ui.column(*parts, self.html["count"])

    def _pressed(self, number: int, letter: str) -> None:
        self._explain_choice(number, letter, self.answer(number, letter).message)
        self._show_count()

    def _explain_choice(self, number: int, letter: str, reason: str) -> None:
        """Mark the chosen button, and say why the answer is right or wrong."""
        question = self.questions[number - 1]
        mark = "✓" if letter == question.right else "✗"
        for other, button in self.buttons[number - 1].items():
            button.description = f"{other} {mark}" if other == letter else other
        text = f"{letter}. {question.verdict(letter, reason)}"
        self.put(**{question.name: pages.status(text, TEXT)})

    def _show_count(self) -> dict[str, dict[str, Any]]:
        """Show how many are right so far; returns the answers that were kept."""
        try:
            done, trouble = kept.read().quizzes, ""
        except CourseError as error:
            done, trouble = {}, str(error)
        right = sum(done.get(question.name, {}).get("right", False) for question in self.questions)
        text = f"{right} of {len(self.questions)} solved so far. {trouble}".strip()
        self.put(count=pages.status(text, TEXT))
        return done


def option_lines(question: Question) -> list[str]:
    """The options as plain text."""
    return [f"   {letter}. {text}" for letter, (text, _) in question.options.items()]


def question_page(number: int, question: Question) -> Markup:
    """A question with its options as HTML."""
    options = [text for text, _ in question.options.values()]
    return pages.fill(
        '<div style="{}"><p><b>{}. {}</b></p>{}</div>',
        TEXT,
        number,
        question.text,
        pages.bullets(options, lettered=True, style="margin:0 0 4px 0"),
    )
