"""The exercises of lesson 03."""

from __future__ import annotations

from itertools import islice
from typing import Any

from llmcourse.exercises.base import Exercise, shown, tried

_HEAD, _TAIL = "### Question:\n", "\n\n### Answer:\n"


def _prompt(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (({"question": "Why?", "answer": "So."},), f"{_HEAD}Why?{_TAIL}",
             "Blanks and line ends count: look at the printed template."),
            (({"question": "Why?", "input": "", "answer": "So."},), f"{_HEAD}Why?{_TAIL}",
             "An empty input is the same as none."),
            (({"question": "Shorten.", "input": "A long text.", "answer": "Text."},),
             f"{_HEAD}Shorten.\nA long text.{_TAIL}", "The input stands on a line of its own."),
            (({"question": "What is {x}?", "answer": "A set."},), f"{_HEAD}What is {{x}}?{_TAIL}",
             "Braces in a question are text. str.format would read them as a field's name."),
        ],
    )  # fmt: skip


def _invented(answer: Any) -> str | None:
    passage = "The Ambra holds 1.35 litres and costs 94 crowns."
    return tried(
        answer,
        [
            (("It costs 94 crowns.", passage), [], "94 stands in the passage."),
            (("It costs 99 crowns.", passage), ["99"], "99 does not stand in the passage."),
            (("The Ambra costs 94.", passage), [],
             "The point at the end closes the sentence; it is no part of the number."),
            (("It holds 1.35 litres, or 2.", passage), ["2"],
             "1.35 is one number and stands in the passage; 2 is another, without its full stop."),
            (("It holds 1.53 litres.", passage), ["1.53"],
             "1.53 is one number: keep the point and what follows it together."),
            (("It holds 35 litres.", passage), ["35"],
             "35 is a part of 1.35, but it is another number: compare whole numbers."),
            (("It costs 9 crowns.", passage), ["9"],
             "9 is a part of 94, but it is another number: compare whole numbers."),
            (("It costs 99 or 88 crowns.", passage), ["99", "88"],
             "In the answer 99 comes first: keep the order of the answer."),
            (("It is a kettle.", passage), [], "No number, nothing invented."),
        ],
    )  # fmt: skip


_FAULTS = {
    2: "Pair 2 breaks off in the middle of a sentence. A model that learns from it learns to.",
    4: "Pair 4 does not answer: it asks back.",
    5: "Pair 5 has a number that is not in the passage.",
}


def _whole(value: Any) -> int:
    """`value` as a whole number; ValueError for 2.5."""
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    return number


def _rejected(answer: Any) -> str | None:
    try:
        if isinstance(answer, str | bytes):
            raise TypeError
        chosen = {_whole(number) for number in islice(answer, 100)}
    except (TypeError, ValueError, OverflowError):
        return "A set of whole numbers is wanted, such as {1, 6}."
    if odd := chosen - set(range(1, 7)):
        return f"There are pairs 1 to 6; {shown(min(odd))} is none of them."
    if good := chosen - set(_FAULTS):
        return f"Pair {min(good)} is in order: proper form, and all it says is in the passage."
    if missed := set(_FAULTS) - chosen:
        return _FAULTS[min(missed)]
    return None


TASKS = (
    Exercise(
        "03-1",
        "Write `to_prompt(record)`: the prompt of the `qa` template. `question` is always there, "
        "`input` may be missing or empty.",
        _prompt,
        "This function must be the same in training and in use. That is why the package has it "
        "in one place.",
        ("Look at the printed template in section 2. Where does the input go?",
         "Join the pieces with +, and use record.get('input')."),
        'def to_prompt(record):\n'
        '    extra = "\\n" + record["input"] if record.get("input") else ""\n'
        '    return "### Question:\\n" + record["question"] + extra + "\\n\\n### Answer:\\n"',
    ),
    Exercise(
        "03-2",
        "Write `invented_numbers(answer, passage)`: the list of numbers (as text) in the answer "
        "that do not stand in the passage, in their order.",
        _invented,
        "The cheapest test for truth there is, and it catches a good part of what small models "
        "make up.",
        (r"re.findall(r'\d[\d.,]*\d|\d', text) finds the numbers of a text, 1.35 and 1,640 too.",
         "[n for n in numbers of the answer if n not in numbers of the passage]"),
        "import re\n\n\ndef invented_numbers(answer, passage):\n"
        '    found = re.compile(r"\\d[\\d.,]*\\d|\\d").findall\n'
        "    return [n for n in found(answer) if n not in found(passage)]",
    ),
    Exercise(
        "03-3",
        "You are the filter. Which of the six pairs should not go into training? Give the set of "
        "their numbers.",
        _rejected,
        "Form can be checked by a program, and numbers too. For the rest, someone has to read.",
        ("Check three things: is it finished, is it an answer, is it in the passage?",
         "There are three of them."),
        "rejected = {2, 4, 5}",
    ),
)  # fmt: skip
