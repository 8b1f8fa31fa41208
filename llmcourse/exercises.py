"""Exercises with `check()`, `hint()` and `solution()`; a wrong answer is told what is wrong.

The manner is the one people know from Kaggle Learn; values are passed in, nothing is read
behind the learner's back, and nothing is sent anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse import templates
from llmcourse.errors import ExerciseError

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
        if answer is ... or answer is None:
            return Outcome("not tried", "Put your answer in place of the dots, then run again.")
        try:
            trouble = self.checker(answer)
        except Exception as error:
            return Outcome(
                "raised",
                f"Your code stopped with {type(error).__name__}: {error}. Mend that first.",
            )
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


def _try(function: Any, cases: Sequence[tuple[tuple, Any, str]]) -> str | None:
    """Call `function` on each case; the first that differs is told, with its own remark."""
    if not callable(function):
        return f"A function is wanted here, not {function!r:.40}."
    for arguments, wanted, remark in cases:
        found = function(*arguments)
        if isinstance(wanted, list) and isinstance(found, tuple):
            found = list(found)
        same = (
            abs(found - wanted) < 1e-6
            if isinstance(wanted, float) and isinstance(found, int | float)
            else found == wanted
        )
        if not same:
            shown = ", ".join(repr(argument) for argument in arguments)
            return f"For {shown} it gives {found!r} instead of {wanted!r}. {remark}"
    return None


# --- lesson 00 ------------------------------------------------------------------------------------


def _weight_gigabytes(answer: Any) -> str | None:
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return f"A number of gigabytes is wanted, not {answer!r}."
    right = 0.536
    if abs(answer - right) <= 0.045:  # 0.5 is a fair reading too
        return None
    for factor, remark in (
        (2, "That is float32, with 4 bytes a weight. bfloat16 has 16 bits."),
        (8, "You multiplied by 16: those are bits. A byte has 8 of them."),
        (0.5, "That counts one byte a weight. 16 bits are two bytes."),
        (1000, "That is the number of megabytes. Gigabytes are wanted."),
        (1e9, "That is the number of bytes. A gigabyte is a billion of them."),
    ):
        if abs(answer / factor - right) <= 0.045:
            return remark
    return "Multiply the number of weights by the bytes of each, then divide by a billion."


_SHOP_CASES = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}


def _ways(answer: Any) -> str | None:
    if not isinstance(answer, dict) or set(answer) != set(_SHOP_CASES):
        return f"A dict with the keys {', '.join(_SHOP_CASES)} is wanted."
    remarks = {
        "prices": "Prices that change daily would have to be trained in daily. What can be "
        "looked up at the moment of the question?",
        "voice": "A manner wanted in every answer, on every subject, is behaviour. Which way "
        "changes how the model behaves without saying it each time?",
        "once": "For one letter, gathering data or documents costs more than it brings. "
        "What costs nothing to start?",
    }
    for case, right in _SHOP_CASES.items():
        given = str(answer[case]).lower()
        if given not in _SHOP_CASES.values():
            return f"{answer[case]!r} is none of prompt, retrieve, fine-tune."
        if given != right:
            return f"{case}: {given} can be made to work, but look again. {remarks[case]}"
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
    if answer.strip() == wanted:
        return None
    for piece, remark in (
        ("[INST]", "It does not start with the tag [INST]."),
        ("[/INST]", "The closing tag [/INST] is missing: the model would not know it is its turn."),
        ("<<SYS>>\nBe brief.\n<</SYS>>", "The system text belongs between <<SYS>> and <</SYS>>, "
         "each on a line of its own."),
        ("What is a lake?", "The question itself is missing."),
    ):  # fmt: skip
        if piece not in answer:
            return remark
    if answer.index("<<SYS>>") < answer.index("[INST]"):
        return "The system text stands inside the [INST] tags, not before them."
    return f"Close. Compare it sign by sign with {wanted!r}: blanks and line ends count too."


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
            "How many gigabytes do the 268 million weights of the base model take in bfloat16?",
            _weight_gigabytes,
            "268 million weights at 2 bytes each are 0.54 GB. The same sum tells you for any "
            "model whether it fits your machine.",
            ("How many bits has bfloat16, and how many bytes are that?",
             "268e6 weights times 2 bytes, divided by 1e9."),
            "268e6 * 2 / 1e9",
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
            "Write `repeated(text)`: the share of words that came before in the text.",
            _repeated_words,
            "This is `generation.repetition` for single words. With runs of four words it tells a "
            "model that goes in circles from one that merely says 'the' often.",
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
            "These are exactly the signs that Llama 2's chat models saw in training.",
            ("Look at section 5: print the template with a system text of your own.",
             "[INST], a blank, <<SYS>>, a new line, the system text, a new line, <</SYS>>, an "
             "empty line, the question, a blank, [/INST]."),
            'prompt = "[INST] <<SYS>>\\nBe brief.\\n<</SYS>>\\n\\nWhat is a lake? [/INST]"',
        ),
        Exercise(
            "01-3",
            "Write `cut(ids, end)`: the token ids before the first end token.",
            _cut_at_end,
            "That is how an answer is taken out of a batch, in which short answers are padded.",
            ("A list has a method that finds the place of a value.",
             "ids[: ids.index(end)] if end in ids else ids"),
            "def cut(ids, end):\n    return ids[: ids.index(end)] if end in ids else ids",
        ),
    ),
}  # fmt: skip
