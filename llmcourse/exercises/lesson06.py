"""The exercises of lesson 06."""

from __future__ import annotations

from typing import Any

from llmcourse.exercises.base import Exercise, shown, tried


def _overlap(answer: Any) -> str | None:
    return tried(
        answer,
        [
            (("two litres", "two litres"), 1.0, "All words are the same: 1."),
            (("two litres of cold water", "two litres"), 4 / 7,
             "Two in common, of five and two words: 2 · 2 / 7. What is said too much costs, too."),
            (("litres", "two litres of cold water"), 1 / 3,
             "One in common, of one and five words: 2 · 1 / 6. What is missing costs, too."),
            (("no no no no", "no no"), 2 / 3,
             "A word counts as often as it stands in both, here twice: 2 · 2 / 6."),
            (("water two", "two water"), 1.0, "The order does not matter."),
            (("I do not know", "two litres"), 0.0, "Nothing in common: 0."),
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
                remark = "An old answer stands where there was none: the loop's fault in section 2."
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
        "Section 1 showed a score for words in common; write it. `overlap(answer, reference)`: "
        "twice the number of words in common, divided by the words of both together. A word that "
        "stands twice in both is in common twice. Split at blanks.",
        _overlap,
        "That is the F1 of the words: one number for what was said too much and what is missing.",
        ("Make lists of words first: answer.split(), reference.split().",
         "A word has min(one.count(word), two.count(word)) in common; go over set(one)."),
        "def overlap(answer, reference):\n"
        "    one, two = answer.split(), reference.split()\n"
        "    common = sum(min(one.count(word), two.count(word)) for word in set(one))\n"
        "    return 2 * common / (len(one) + len(two))",
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
