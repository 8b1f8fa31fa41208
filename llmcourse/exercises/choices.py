"""What a multiple-choice question is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """One of the answers to choose from.

    Attributes:
        text: The answer.
        because: Why it is right, or what is wrong with it.
        right: Whether it is the right one.
    """

    text: str
    because: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with its options, one of which is right.

    Attributes:
        text: The question.
        options: In the order in which they are shown.
    """

    text: str
    options: tuple[Option, ...]

    @property
    def answer(self) -> Option:
        """The right option."""
        return next(option for option in self.options if option.right)


def question(text: str, *options: Option) -> Question:
    """A question, written in few lines."""
    return Question(text, options)


def right(text: str, because: str) -> Option:
    """The right option of a question."""
    return Option(text, because, True)


def wrong(text: str, because: str) -> Option:
    """A wrong option of a question."""
    return Option(text, because)
