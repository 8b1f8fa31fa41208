"""Exercises with `check()`, `hint()` and `solution()`; a wrong answer is told what is wrong.

The manner is the one people know from Kaggle Learn; values are passed in, nothing is read
behind the learner's back, and nothing is sent anywhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse import templates
from llmcourse.errors import ExerciseError, first_line

# A checker returns None for a right answer and says what is wrong otherwise.
Checker = Callable[[Any], str | None]


@dataclass(frozen=True)
class Outcome:
    """What a check found; shown as its message.

    Attributes:
        kind: "right", "wrong", "not tried" or "raised".
        message: For the learner.
    """

    kind: str
    message: str

    def __repr__(self) -> str:
        sign = {"right": "✓ Right.", "wrong": "✗ Not yet."}.get(self.kind, "○")
        return f"{sign} {self.message}"


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        name: "01-2" is the second of lesson 01.
        task: What to do, in a sentence.
        checker: See `Checker`.
        praise: What a right answer shows.
        hints: One after the other, from vague to plain.
        answer: A right answer as Python source.
    """

    name: str
    task: str
    checker: Checker
    praise: str
    hints: tuple[str, ...]
    answer: str

    def check(self, answer: Any = ...) -> Outcome:
        """Check an answer: a value, or a function that is tried on examples."""
        if answer is ... or answer is None or _is_empty(answer):
            return Outcome("not tried", "Put your answer in place of the dots, then run again.")
        try:
            trouble = self.checker(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the learner's code raises is told, not thrown
            told = error.args[0] if isinstance(error, _Stopped) else _named(error)
            return Outcome("raised", f"Your code stopped with {told}. Fix that first.")
        return Outcome("wrong", trouble) if trouble else Outcome("right", self.praise)

    def hint(self, number: int = 1) -> None:
        """Print the hint of that number, the first if none is given."""
        if not 1 <= number <= len(self.hints):
            raise ExerciseError(f"There are {len(self.hints)} hints; {number} is none of them.")
        more = f" (hint {number + 1} says more)" if number < len(self.hints) else ""
        print(self.hints[number - 1] + more)

    def solution(self) -> None:
        """Print a right answer."""
        print(self.answer)


def lesson(number: str) -> tuple[Exercise, ...]:
    """The exercises of a lesson, in order.

    Raises:
        ExerciseError: the lesson has none.
    """
    if number not in _LESSONS:
        raise ExerciseError(f"Lesson {number!r} has no exercises. Try {', '.join(_LESSONS)}.")
    return _LESSONS[number]


def _untouched() -> None: ...


def _is_empty(function: Any) -> bool:
    """True for a function whose body is still the dots."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_code == _untouched.__code__.co_code


def _named(error: BaseException) -> str:
    """An error's type and message."""
    name, told = type(error).__name__, first_line(error)
    return name if told == name else f"{name}: {told}"


class _Stopped(Exception):
    """The learner's function raised on one of the examples."""


def _try(function: Any, cases: Sequence[tuple[tuple, Any, str]]) -> str | None:
    """Call `function` on each case; the first that differs is told, with its own remark."""
    if not callable(function):
        return f"A function is wanted here, not {function!r:.40}."
    for arguments, wanted, remark in cases:
        shown = ", ".join(repr(argument) for argument in arguments)
        try:
            found = function(*copy.deepcopy(arguments))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _Stopped(f"{_named(error)} (tried with {shown}; {remark})") from error
        if found is None:
            return f"For {shown} it gives None. Is the line with `return` missing?"
        if not _same(found, wanted):
            return f"For {shown} it gives {found!r} instead of {wanted!r}. {remark}"
    return None


def _same(found: Any, wanted: Any) -> bool:
    """Equal in value, whatever the kind of number or sequence."""
    if isinstance(wanted, float):
        number = _number(found)
        return number is not None and math.isclose(number, wanted, abs_tol=1e-6)
    try:
        return [int(item) for item in found] == wanted
    except (TypeError, ValueError):
        return False


def _number(value: Any) -> float | None:
    """`value` as a float if it is a number of any kind (numpy's and fractions too)."""
    if isinstance(value, str | bytes | bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


# --- lesson 00 ------------------------------------------------------------------------------------


def _weight_gigabytes(answer: Any) -> str | None:
    number = _number(answer)
    if number is None:
        return f"A number of gigabytes is wanted, without quotes, not {answer!r:.40}."
    right = 0.27
    if abs(number - right) <= 0.015:
        return None
    for factor, remark in (
        (2, "That is float32, with 4 bytes a weight. bfloat16 has 16 bits."),
        (8, "You multiplied by 16: those are bits. A byte has 8 of them."),
        (0.5, "That counts one byte a weight. 16 bits are two bytes."),
        (0.25, "That counts 4 bits a weight. bfloat16 has 16."),
        (1000, "That is the number of megabytes. Gigabytes are wanted."),
        (1e9, "That is the number of bytes. A gigabyte is a billion of them."),
    ):
        if abs(number / factor - right) <= 0.015:
            return remark
    return "Multiply the number of weights by the bytes of each, then divide by a billion."


_WISHES = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}
_OTHER_NAMES = {"prompting": "prompt", "better prompt": "prompt", "rag": "retrieve",
                "retrieval": "retrieve", "finetune": "fine-tune", "fine tune": "fine-tune",
                "fine-tuning": "fine-tune", "finetuning": "fine-tune"}  # fmt: skip
_REMARKS = {
    ("prices", "fine-tune"): "Prices that change daily would have to be trained in daily. What "
    "can be looked up at the moment of the question?",
    ("prices", "prompt"): "Typing all prices into every prompt works for a short list only. What "
    "puts in just those that the question is about?",
    ("voice", "prompt"): "That has to be said again each time, and is read again each time. Which "
    "way changes how the model behaves without saying it?",
    ("voice", "retrieve"): "Passages bring facts. A manner wanted in every answer, on every "
    "subject, is behaviour. Which way changes that?",
    ("once", "retrieve"): "For one letter an index costs more than it brings. What costs nothing "
    "to start?",
    ("once", "fine-tune"): "For one letter, gathering examples and training cost more than they "
    "bring. What costs nothing to start?",
}


def _ways(answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != set(_WISHES):
        return f"A dict with the keys {', '.join(_WISHES)} is wanted."
    for wish, right in _WISHES.items():
        given = str(answer[wish]).strip().lower()
        given = _OTHER_NAMES.get(given, given)
        if given not in _WISHES.values():
            return f"{wish}: {answer[wish]!r} is none of prompt, retrieve, fine-tune."
        if given != right:
            return f"{wish}: {_REMARKS[wish, given]}"
    return None


# --- lesson 01 ------------------------------------------------------------------------------------


def _repeated_words(answer: Any) -> str | None:
    return _try(
        answer,
        [
            (("a b c d",), 0.0, "No word comes twice, so nothing is repeated."),
            (("no no no no",), 0.75, "Three of the four words stood there before."),
            (("the cat saw the dog",), 0.2, "One of five words, the second 'the', came before."),
            (("No no",), 0.5, "Capitals should not matter: make the words lower case first."),
            (("",), 0.0, "A text without words repeats nothing, and must not divide by zero."),
        ],
    )


def _llama2_prompt(answer: Any) -> str | None:
    wanted = templates.render("What is a lake?", "llama2", system="Be brief.").prompt
    if not isinstance(answer, str):
        return f"A text is wanted, not {type(answer).__name__}."
    given = answer.strip().removeprefix("<s>").strip().replace("\r\n", "\n")
    if given == wanted:
        return None
    if not given.startswith("[INST]"):
        return "The prompt starts with the tag [INST]; everything else stands after it."
    if not given.endswith("[/INST]"):
        return "It ends with the closing tag [/INST]: that tells the model that it is its turn."
    if "<<SYS>>\nBe brief.\n<</SYS>>" not in given:
        return (
            "The system text belongs between <<SYS>> and <</SYS>>, each tag and the text on a "
            "line of its own."
        )
    if "lake" not in given:
        return "The question itself is missing."
    if given.index("lake") < given.index("<<SYS>>"):
        return "The system text comes first, then the question."
    place = next(
        (n for n, (a, b) in enumerate(zip(given, wanted, strict=False)) if a != b),
        min(len(given), len(wanted)),
    )
    return (
        f"Close. It is right up to {given[max(0, place - 12) : place]!r}; then comes "
        f"{given[place : place + 3]!r} where something else belongs. Spaces and line ends count."
    )


def _cut_at_end(answer: Any) -> str | None:
    return _try(
        answer,
        [
            (([5, 6, 2, 0, 0], 2), [5, 6], "Keep what stands before the first end token."),
            (([5, 6, 7], 2), [5, 6, 7], "Without an end token everything is kept."),
            (([5, 2, 6, 2], 2), [5], "Only the first end token counts; the rest is not an answer."),
            (([2], 2), [], "An answer may be empty."),
        ],
    )


_LESSONS: dict[str, tuple[Exercise, ...]] = {
    "00": (
        Exercise(
            "00-1",
            "How many gigabytes do the 135 million weights of the chat model take in bfloat16?",
            _weight_gigabytes,
            "135 million weights at 2 bytes each are 0.27 GB. Running a model needs somewhat more "
            "than its weights; ordinary full training about four times as much (weights, "
            "gradients, and two averages that the optimiser keeps). Lesson 5 gets by with less.",
            ("How many bits has bfloat16, and how many bytes are that?",
             "135e6 weights times 2 bytes, divided by 1e9."),
            "135e6 * 2 / 1e9",
        ),
        Exercise(
            "00-2",
            "Which way fits which wish: prompt, retrieve or fine-tune?",
            _ways,
            "What changes is looked up, what should always be so is trained, what is wanted once "
            "is said in the prompt.",
            ("Ask of each: does it change, is it wanted always, or is it wanted once?",
             "Prices change daily: look them up when asked."),
            '{"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}',
        ),
    ),
    "01": (
        Exercise(
            "01-1",
            "Write `repeated(text)`: the share of words that already came before in the text. "
            "Capitals do not matter; a text without words gives 0.",
            _repeated_words,
            "Section 6 counts runs of four words instead of single ones: that tells a model that "
            "goes in circles from one that merely says 'the' often.",
            ("How many words are there, and how many different ones?",
             "1 - len(set(words)) / len(words), with lower-case words, and 0 for no words."),
            "def repeated(text):\n"
            "    words = text.lower().split()\n"
            "    return 1 - len(set(words)) / len(words) if words else 0.0",
        ),
        Exercise(
            "01-2",
            "Write by hand the Llama 2 prompt for the question 'What is a lake?' with the system "
            "text 'Be brief.'",
            _llama2_prompt,
            "This is what Llama 2's chat models saw in training. Its tokenizer puts one more tag, "
            "<s> for the beginning, before it.",
            ("Look at section 5: print the template with a system text of your own.",
             "[INST], a space, <<SYS>>, a new line, the system text, a new line, <</SYS>>, an "
             "empty line, the question, a space, [/INST]."),
            'prompt = "[INST] <<SYS>>\\nBe brief.\\n<</SYS>>\\n\\nWhat is a lake? [/INST]"',
        ),
        Exercise(
            "01-3",
            "Write `cut(ids, end)`: return the list of token ids before the first `end`, and all "
            "of them where there is none.",
            _cut_at_end,
            "That is how an answer is taken out of a batch, in which short answers are padded.",
            ("A list has a method that finds the place of a value.",
             "ids[: ids.index(end)] if end in ids else ids"),
            "def cut(ids, end):\n    return ids[: ids.index(end)] if end in ids else ids",
        ),
    ),
}  # fmt: skip
