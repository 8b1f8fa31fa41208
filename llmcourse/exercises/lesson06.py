"""The exercises of lesson 06."""

from __future__ import annotations

from typing import Any

from llmcourse.exercises.base import Exercise, shown, tried


def _normalised(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (("kettle",), "kettle", "Nothing is to be changed here."),
            (("Kettle",), "kettle", "Upper and lower case do not matter."),
            (("It holds 2 litres.",), "it holds 2 litres", "A full stop does not matter."),
            (("  two   litres ",), "two litres", "Blanks in a row are one, at the ends none."),
            (("The kettle, an oven",), "kettle oven", "The articles a, an and the go."),
            (("another theatre",), "another theatre",
             "Only whole words are articles: take care with replace."),
        ],
    )  # fmt: skip


def _ask_all(answer: Any) -> str | None:
    if not callable(answer):
        return f"A function is wanted here, not {shown(answer, 40)}."
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if "?" not in question:
            raise ValueError("this is no question")
        return question.upper()

    cases = (
        (["a?", "b?"], ["A?", "B?"], "No question fails here."),
        (["a?", "b", "c?"], ["A?", None, "C?"], "Where ask raises, None stands in the list."),
        (["b", "a?"], [None, "A?"], "The first one may fail too."),
        ([], [], "No question, no answer."),
    )
    for questions, wanted, remark in cases:
        asked.clear()
        found = answer(ask, list(questions))
        if found is None:
            return "It gives None. Is the line with `return` missing?"
        if list(found) != wanted:
            if list(found) == [wanted[max(0, n - 1)] if w is None else w
                               for n, w in enumerate(wanted)]:  # fmt: skip
                remark = "An old answer stands where there was none: the fault of the lab's loop."
            elif len(found) < len(wanted):
                remark = "A question that fails must keep its place, or all later ones shift."
            return f"For {questions} it gives {shown(found)} instead of {wanted}. {remark}"
        if asked != questions:
            return f"Each question is to be asked once; asked were {shown(asked)}."
    return None


def _kappa(answer: Any) -> str | None:
    return tried(
        answer,
        [
            ((["a", "b", "a", "b"], ["a", "b", "a", "b"]), 1.0, "They agree on everything."),
            ((["a", "a", "b", "b"], ["a", "b", "a", "b"]), 0.0,
             "They agree on half, and chance alone gives half: 0."),
            ((["a", "b"], ["b", "a"]), -1.0, "They never agree, where chance gives half."),
            ((["a", "a", "a", "b"], ["a", "a", "b", "b"]), 0.5,
             "They agree on 3 of 4. By chance: both a, 3/4 · 2/4, or both b, 1/4 · 2/4: half."),
            ((["a", "a", "a", "b"], ["a", "a", "a", "a"]), 0.0,
             "One of them says a to everything, so chance gives 3 of 4 as well."),
        ],
    )  # fmt: skip


TASKS = (
    Exercise(
        "06-1",
        "Write `normalised(text)`: the text in lower case, without punctuation, without the words "
        "a, an and the, and with single blanks between words.",
        _normalised,
        "With this before the comparison, a full stop costs no model a point.",
        ("Go sign by sign first, then word by word.",
         "Keep signs with s.isalnum() or s.isspace(), then split() and leave out the articles."),
        "def normalised(text):\n"
        "    kept = ''.join(s for s in text.lower() if s.isalnum() or s.isspace())\n"
        "    return ' '.join(w for w in kept.split() if w not in {'a', 'an', 'the'})",
    ),
    Exercise(
        "06-2",
        "Write `ask_all(ask, questions)`: the list of ask(question) for all of them, with None in "
        "the place of each question for which ask raises an exception.",
        _ask_all,
        "Every answer is in its own place, and what failed can be counted.",
        ("What does the variable hold when ask raises? Set it anew for each question.",
         "Put `answers.append(ask(question))` into try, and `answers.append(None)` into except."),
        "def ask_all(ask, questions):\n"
        "    answers = []\n"
        "    for question in questions:\n"
        "        try:\n"
        "            answers.append(ask(question))\n"
        "        except Exception:\n"
        "            answers.append(None)\n"
        "    return answers",
    ),
    Exercise(
        "06-3",
        "Write `kappa(one, other)` for two people's labels of the same answers: (agreed - chance) "
        "/ (1 - chance). agreed: the share of answers with the same label. chance: how often they "
        "would agree if each threw labels at random, each label as often as that person gave it.",
        _kappa,
        "Two people who call nearly everything fine agree often by chance. Kappa takes that off.",
        ("The chance for one label: the share of it in one, times the share of it in other.",
         "chance = sum(one.count(x) * other.count(x) for x in set(one)) / len(one) ** 2"),
        "def kappa(one, other):\n"
        "    agreed = sum(a == b for a, b in zip(one, other)) / len(one)\n"
        "    chance = sum(one.count(x) * other.count(x) for x in set(one)) / len(one) ** 2\n"
        "    return (agreed - chance) / (1 - chance)",
    ),
)  # fmt: skip
