"""Checkers accept right answers of any form, and say what is wrong with the usual wrong ones."""

from __future__ import annotations

import itertools
import math
import random
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from llmcourse import exercises, templates
from llmcourse.errors import ExerciseError

BY_NAME = {task.name: task for tasks in exercises._LESSONS.values() for task in tasks}


def counted(text: str) -> float:
    words = text.lower().split()
    seen: set[str] = set()
    again = 0
    for word in words:
        again += word in seen
        seen.add(word)
    return again / max(1, len(words))


def by_loop(ids: list[int], end: int) -> list[int]:
    kept = []
    for token in ids:
        if token == end:
            break
        kept.append(token)
    return kept


def letters(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def or_none(ask: Any, question: str) -> str | None:
    """What `ask` says, or None where it raises."""
    try:
        return ask(question)
    except ValueError:
        return None


def in_both(answer: str, reference: str) -> int:
    """How many words of `answer` are somewhere in `reference`."""
    return sum(word in reference.split() for word in answer.split())


def stale(ask: Any, questions: list[str]) -> list[str]:
    """The loop of section 2: what was answered last stands for what was not answered."""
    found, last = [], None
    for question in questions:
        last = or_none(ask, question) or last
        found.append(last)
    return found


NEEDS = {
    "prices change weekly": "retrieve",
    "answers in the house style": "tune",
    "a sign-off that lawyers wrote": "prompt",
    "which passage says so?": "retrieve",
}
RIGHT = [
    ("00-1", 0.27), ("00-1", np.float32(0.27)), ("00-1", Fraction(27, 100)),
    ("00-1", np.array(0.268)), ("00-1", np.array([0.27])),
    ("00-2", {"once": " Prompt", "voice": "finetune", "prices": "RAG"}),
    ("01-1", counted),
    ("01-1", lambda text: Fraction(round(counted(text) * 20), 20)),
    ("01-2", "<s>[INST] <<SYS>>\r\nBe brief.\r\n<</SYS>>\n\nWhat is a lake? [/INST]\n"),
    ("01-3", by_loop),
    ("01-3", lambda ids, end: tuple(by_loop(ids, end))),
    ("01-3", lambda ids, end: np.array(by_loop(ids, end), dtype=int)),
    ("01-3", lambda ids, end: torch.tensor(by_loop(ids, end))),
    ("02-1", lambda ids: [[a, b] for a, b in itertools.pairwise(ids)]),
    ("02-1", lambda ids: torch.tensor([ids[:-1], ids[1:]]).T),
    ("02-2", -math.log(1 / 256)), ("02-2", torch.tensor(5.545)),
    ("02-2", torch.tensor(5.545, requires_grad=True)), ("02-2", torch.tensor([5.545])),
    ("02-3", {"route": "Reading", "slogan": "write", "mood": "extract", "minutes": "expansion "}),
    ("03-1", lambda record: templates.render(record, "qa").prompt),
    ("03-2", lambda answer, passage: [
        n for n in re.findall(r"[0-9.]*[0-9]", answer)
        if n not in re.findall(r"[0-9.]*[0-9]", passage)]),
    ("03-2", lambda answer, passage: [
        n for n in (word.strip(".,") for word in answer.split())
        if n[:1].isdigit() and n not in passage.split()]),
    ("03-2", lambda answer, passage: (n for n in NUMBER(answer) if n not in NUMBER(passage))),
    ("03-3", [2, 4, 5]), ("03-3", ("5", "4", "2")),
    ("04-1", lambda prompt, completion, end: np.array([-100] * len(prompt) + completion + [end])),
    ("04-2", lambda rows, pad: torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=pad).long()),
    ("04-3", lambda train, test: [
        t for t in test if letters(t) in [letters(known) for known in train]]),
    ("05-1", lambda parts: np.average(
        [loss for loss, _ in parts], weights=[count for _, count in parts])),
    ("05-2", lambda x, weight, down, up, scale: x @ (weight + scale * up @ down).T),
    ("05-2", lambda x, weight, down, up, scale: (
        torch.nn.functional.linear(x, weight) + (scale * x @ down.T) @ up.T).numpy()),
    ("05-3", lambda weights: weights * 4 * 4 * 1e-9),
    ("06-1", lambda answer, reference: 2 * sum(
        min(answer.split().count(word), reference.split().count(word))
        for word in {*answer.split()}) / len((answer + " " + reference).split())),
    ("06-2", lambda ask, questions: tuple(or_none(ask, question) for question in questions)),
    ("06-3", lambda one, other: (
        lambda agreed, chance: 1 - (1 - agreed) / (1 - chance))(
            np.mean([a == b for a, b in zip(one, other, strict=True)]),
            sum(one.count(x) * other.count(x) for x in {*one, *other}) / len(one) / len(other))),
    ("07-1", lambda setup, prompt, tuned: (
        np.inf if prompt <= tuned else setup / np.float64(prompt - tuned))),
    ("07-2", {key: {"retrieve": "RAG", "tune": "fine-tuning"}.get(way, " Prompt")
              for key, way in NEEDS.items()}),
    ("07-3", lambda right, refused: np.mean(~np.array(right) & ~np.array(refused))),
    ("08-1", lambda train, test: (
        q for q in test if any(q.casefold().split() == t.casefold().split() for t in train))),
    ("08-2", lambda customers, base, adapter: sum([adapter] * customers, start=base)),
]  # fmt: skip


NUMBER = re.compile(r"\d+(?:\.\d+)?").findall
KINDS = {"route": "extraction", "slogan": "expansion", "mood": "extraction", "minutes": "expansion"}
LAKE = "<<SYS>>\nBe brief.\n<</SYS>>"
WRONG: list[tuple[str, Any, str]] = [
    ("00-1", 0.54, "That is float32"),
    ("00-1", 2.16, "those are bits"),
    ("00-1", 0.135, "one byte a weight"),
    ("00-1", 0.07, "4 bits a weight"),
    ("00-1", 270, "megabytes"),
    ("00-1", 270e6, "bytes. A gigabyte"),
    ("00-1", 3, "Multiply the number of weights"),
    ("00-1", "0.27", "without quotes"),
    ("00-1", True, "A number of gigabytes is wanted"),
    ("00-2", {"prices": "fine-tune", "voice": "fine-tune", "once": "prompt"}, "trained in daily"),
    ("00-2", {"prices": "prompt", "voice": "fine-tune", "once": "prompt"}, "a short list only"),
    ("00-2", {"prices": "retrieve", "voice": "prompt", "once": "prompt"}, "said again each time"),
    ("00-2", {"prices": "retrieve", "voice": "rag", "once": "prompt"}, "Passages bring facts"),
    ("00-2", {"prices": "retrieve", "voice": "fine-tune", "once": "retrieve"}, "an index costs"),
    ("00-2", {"prices": "rag"}, "keys prices, voice, once"),
    ("00-2", {"prices": "…", "voice": "…", "once": "…"}, "'…' is none of retrieve"),
    (
        "01-1",
        lambda text: len(set(text.split())) / max(1, len(text.split())),
        "nothing is repeated",
    ),
    ("01-1", lambda text: 1 - len(set(text.split())) / max(1, len(text.split())), "Capitals"),
    ("01-1", lambda text: 1 - len(set(text)) / max(1, len(text)), "instead of"),
    ("01-1", lambda text: print(end=""), "Is the line with `return` missing?"),
    ("01-1", 0.5, "A function is wanted"),
    ("01-2", f"{LAKE}\n\nWhat is a lake?", "starts with the tag [INST]"),
    ("01-2", f"[INST] {LAKE}\n\nWhat is a lake?", "ends with the closing tag"),
    ("01-2", "[INST] Be brief. What is a lake? [/INST]", "between <<SYS>> and <</SYS>>"),
    ("01-2", f"[INST] What is a lake? {LAKE} [/INST]", "The system text comes first"),
    ("01-2", f"[INST] {LAKE}\n\n [/INST]", "The question itself is missing"),
    ("01-2", f"[INST]{LAKE}\n\nWhat is a lake? [/INST]", "right up to '[INST]'; then comes '<<S'"),
    ("01-2", 5, "A text is wanted"),
    ("01-3", lambda ids, end: ids[: ids.index(end) + 1] if end in ids else ids, "before the first"),
    ("01-3", lambda ids, end: [i for i in ids if i != end], "before the first"),
    ("01-3", lambda ids, end: ids[:2], "everything is kept"),
    ("01-3", lambda ids, end: str(ids), "before the first"),
    ("01-3", lambda ids, end: itertools.count(5), "[5, 6, 7"),
    ("01-3", lambda ids, end: np.array([[i] for i in by_loop(ids, end)]), "before the first"),
    ("02-1", lambda ids: list(zip(ids, ids, strict=True)), "Each id is read once"),
    ("02-1", lambda ids: ids[1:], "Each id is read once"),
    ("02-1", lambda ids: sorted({(a, b) for a, b in itertools.pairwise(ids)})[:1], "read once"),
    ("02-2", 8, "base 2"),
    ("02-2", math.log10(256), "base 10"),
    ("02-2", 256, "perplexity"),
    ("02-2", -math.log(256), "minus the logarithm"),
    ("02-2", 1 / 256, "probability of the right"),
    ("02-2", math.log(79), "This model has 256"),
    ("02-2", 3.0, "equally likely"),
    ("02-2", "5.545", "A number is wanted"),
    ("02-2", np.array([5.545, 5.545]), "A number is wanted"),
    ("02-2", np.bool_(True), "A number is wanted"),
    ("02-3", KINDS | {"mood": "expansion"}, "one word comes out"),
    ("02-3", KINDS | {"slogan": "extraction"}, "have to be made up"),
    ("02-3", KINDS | {"minutes": "read"}, "a page of minutes"),
    ("02-3", KINDS | {"route": "expansion"}, "name of one department"),
    ("02-3", KINDS | {"route": ...}, "none of extraction, expansion"),
    ("02-3", {"route": "extraction"}, "keys route, slogan"),
    ("03-1", lambda record: np.array(["a", "b"]), "Blanks and line ends count"),
    ("03-1", lambda record: record["question"], "Blanks and line ends count"),
    (
        "03-1",
        lambda record: templates.render({"question": record["question"]}, "qa").prompt,
        "line of its own",
    ),
    (
        "03-1",
        lambda record: (
            f"### Question:\n{record['question']}\n{record.get('input', '')}\n\n### Answer:\n"
        ),
        "Blanks and line ends count",
    ),
    (
        "03-1",
        lambda record: "### Question:\n{question}\n\n### Answer:\n".format(**record),
        "line of its own",
    ),
    ("03-2", lambda answer, passage: [n for n in NUMBER(answer) if n not in passage], "another"),
    (
        "03-2",
        lambda answer, passage: (
            [n for n in re.findall(r"\d+", answer) if n not in re.findall(r"\d+", passage)][:9]
            or None
        ),
        "Is the line with `return` missing?",
    ),
    (
        "03-2",
        lambda answer, passage: [
            n for n in re.findall(r"\d+", answer) if n not in re.findall(r"\d+", passage)
        ],
        "1.53 is one number",
    ),
    (
        "03-2",
        lambda answer, passage: [
            n for n in re.findall(r"[\d.]+", answer) if n not in re.findall(r"[\d.]+", passage)
        ],
        "The point at the end closes the sentence",
    ),
    ("03-2", lambda answer, passage: set(NUMBER(answer)) - set(NUMBER(passage)), "return a list"),
    (
        "03-2",
        lambda answer, passage: sorted(set(NUMBER(answer)) - set(NUMBER(passage))),
        "keep the order",
    ),
    ("03-2", lambda answer, passage: NUMBER(answer), "94 stands in the passage"),
    ("03-2", lambda answer, passage: [], "99 does not stand"),
    ("03-3", {2, 4}, "number that is not in the passage"),
    ("03-3", {4, 5}, "breaks off"),
    ("03-3", {2, 5}, "asks back"),
    ("03-3", {1, 2, 4, 5}, "Pair 1 is in order"),
    ("03-3", {7}, "none of them"),
    ("03-3", "all", "set of whole numbers"),
    ("03-3", "245", "set of whole numbers"),
    ("03-3", {math.inf}, "set of whole numbers"),
    ("03-3", {2.5, 4, 5}, "set of whole numbers"),
    ("03-3", itertools.count(4), "7 is none of them"),
    ("04-1", lambda prompt, completion, end: prompt + completion + [end], "get -100"),
    ("04-1", lambda prompt, completion, end: [-100] * len(prompt) + completion, "get -100"),
    ("04-1", lambda prompt, completion, end: [-100] * len(prompt) + completion + [2], "passed in"),
    ("04-2", lambda rows, pad: [[pad] * (3 - len(row)) + row for row in rows], "on the right"),
    ("04-2", lambda rows, pad: rows, "length of the longest"),
    ("04-2", lambda rows, pad: [row + [pad] * (3 - len(row)) for row in rows], "no padding"),
    (
        "04-2",
        lambda rows, pad: [row + [0] * (max(map(len, rows)) - len(row)) for row in rows],
        "passed in",
    ),
    ("04-3", lambda train, test: [t for t in test if t in train], "Capitals and the question"),
    ("04-3", lambda train, test: [t for t in test if t not in train], "not in training"),
    (
        "04-3",
        lambda train, test: [
            t for t in test if t.lower().strip("?") in [k.lower().strip("?") for k in train]
        ],
        "Compare words only",
    ),
    (
        "04-3",
        lambda train, test: [t.lower() for t in test if letters(t) in map(letters, train)],
        "stands in both",
    ),
    ("05-1", lambda parts: sum(loss for loss, _ in parts) / len(parts), "three times as much"),
    ("05-1", lambda parts: sum(loss * count for loss, count in parts), "One part alone"),
    ("05-1", lambda parts: sum(loss for loss, _ in parts), "three times as much"),
    (
        "05-1",
        lambda parts: (
            sum(loss * count for loss, count in parts) / sum(max(1, count) for _, count in parts)
        ),
        "without a label weighs nothing",
    ),
    ("05-2", lambda x, weight, down, up, scale: x @ weight.T, "added to the frozen layer's"),
    ("05-2", lambda x, weight, down, up, scale: scale * x @ down.T @ up.T, "frozen layer works"),
    (
        "05-2",
        lambda x, weight, down, up, scale: x @ weight.T + x @ down.T @ up.T,
        "multiplied by scale",
    ),
    (
        "05-2",
        lambda x, weight, down, up, scale: scale * (x @ weight.T + x @ down.T @ up.T),
        "only the frozen layer works",
    ),
    ("05-3", lambda weights: 4 * weights / 1e9, "the weights alone"),
    ("05-3", lambda weights: 8 * weights / 1e9, "Weights and gradients"),
    ("05-3", lambda weights: 12 * weights / 1e9, "One number is missing"),
    ("05-3", lambda weights: 2 * weights / 1e9, "a weight in bfloat16"),
    ("05-3", lambda weights: 16 * weights, "That is in bytes"),
    ("05-3", lambda weights: 16 * weights / 2**30, "not 2³⁰"),
    ("05-3", lambda weights: 16 * weights / 1e6, "Four numbers of four bytes"),
    ("05-3", lambda weights: 2.16, "Four numbers of four bytes"),
    ("05-3", 2.16, "A function is wanted"),
    (
        "06-1",
        lambda answer, reference: in_both(answer, reference) / len(answer.split()),
        "said too much",
    ),
    (
        "06-1",
        lambda answer, reference: in_both(answer, reference) / len(reference.split()),
        "said too much",
    ),
    (
        "06-1",
        lambda answer, reference: (
            2
            * len({*answer.split()} & {*reference.split()})
            / len({*answer.split()} | {*reference.split()})
            / 2
        ),
        "said too much",
    ),
    (
        "06-1",
        lambda answer, reference: (
            2
            * len({*answer.split()} & {*reference.split()})
            / len((answer + " " + reference).split())
        ),
        "as often as it stands in both",
    ),
    ("06-1", lambda answer, reference: float(answer == reference), "said too much"),
    ("06-1", 1.0, "A function is wanted"),
    ("06-2", stale, "the loop's fault in section 2"),
    ("06-2", lambda ask, questions: [ask(q) for q in questions if "?" in q], "keep its place"),
    ("06-2", lambda ask, questions: [or_none(ask, q) or "" for q in questions], "None stands"),
    (
        "06-2",
        lambda ask, questions: [or_none(ask, q) and or_none(ask, q) for q in questions],
        "asked once",
    ),
    ("06-2", ["A?"], "A function is wanted"),
    (
        "06-3",
        lambda one, other: sum(a == b for a, b in zip(one, other, strict=True)) / len(one),
        "chance alone gives half",
    ),
    ("06-3", lambda one, other: 1.0, "chance alone gives half"),
    (
        "06-3",
        lambda one, other: 2 * sum(a == b for a, b in zip(one, other, strict=True)) / len(one) - 1,
        "says a to everything",
    ),
    ("07-1", lambda setup, prompt, tuned: setup / prompt, "only the difference"),
    ("07-1", lambda setup, prompt, tuned: setup * (prompt - tuned), "not times it"),
    (
        "07-1",
        lambda setup, prompt, tuned: setup / (prompt - tuned) if prompt != tuned else math.inf,
        "costs more, so it never pays",
    ),
    ("07-1", 200, "A function is wanted"),
    ("07-2", NEEDS | {"prices change weekly": "tune"}, "old by next week"),
    ("07-2", NEEDS | {"answers in the house style": "prompt"}, "paid for each time"),
    ("07-2", NEEDS | {"a sign-off that lawyers wrote": "tune"}, "word for word"),
    ("07-2", NEEDS | {"which passage says so?": "tune"}, "the passage at hand"),
    ("07-2", ["retrieve"], "A dict with the keys"),
    ("07-3", lambda right, refused: right.count(False) / len(right), "it can't tell"),
    (
        "07-3",
        lambda right, refused: (
            sum(not r and not d for r, d in zip(right, refused, strict=True))
            / max(1, right.count(False))
        ),
        "half of all answers",
    ),
    ("07-3", lambda right, refused: refused.count(False) / len(refused), "wrong and does not say"),
    ("08-1", lambda train, test: [q for q in test if q in train], "Case does not matter"),
    ("08-1", lambda train, test: sorted({*train} & {*test}), "Case does not matter"),
    (
        "08-1",
        lambda train, test: [q for q in test if q.lower() in map(str.lower, train)],
        "Blanks do not matter",
    ),
    (
        "08-1",
        lambda train, test: [q.lower() for q in test if q.lower() in map(str.lower, train)],
        "in both",
    ),
    ("08-2", lambda customers, base, adapter: customers * (base + adapter), "in memory once"),
    ("08-2", lambda customers, base, adapter: customers * base, "a whole model for each"),
    ("08-2", lambda customers, base, adapter: base + adapter, "an adapter of its own"),
    ("08-2", 15.0, "A function is wanted"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers_are_accepted(name: str, answer: Any) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "right", outcome


@pytest.mark.parametrize(("name", "answer", "message"), WRONG)
def test_wrong_answers_are_told_what_is_wrong(name: str, answer: Any, message: str) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "wrong", outcome
    assert message in outcome.message


def test_every_exercise_has_three_typical_wrong_answers() -> None:
    for name in BY_NAME:
        assert sum(wrong[0] == name for wrong in WRONG) >= 3, name


@pytest.mark.parametrize("name", BY_NAME)
def test_not_tried_raised_and_the_printed_solution(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    task = BY_NAME[name]
    assert task.check().kind == task.check(...).kind == task.check(None).kind == "not tried"

    def still_the_dots(ids: Any, end: Any = 0) -> Any: ...

    assert task.check(still_the_dots).kind == "not tried"
    task.solution()
    printed = capsys.readouterr().out
    space: dict[str, Any] = {}
    if "=" in printed.split("\n")[0] or printed.startswith(("def", "import")):
        exec(printed, space)
        answer = list(space.values())[-1]
    else:
        answer = eval(printed)
    assert task.check(answer).kind == "right"
    for number in range(1, len(task.hints) + 1):
        task.hint(number)
    assert task.hints[-1] in capsys.readouterr().out
    with pytest.raises(ExerciseError, match=f"{len(task.hints)} hints"):
        task.hint(9)


def only_told(ids: list[int], end: int) -> None:
    """To be written."""


def told_and_dots(ids: list[int], end: int) -> None:
    """To be written."""
    ...  # noqa: PIE790


def told_and_passed(ids: list[int], end: int) -> None:
    """To be written."""
    pass  # noqa: PIE790


def told_and_returned(ids: list[int], end: int) -> int:
    """Always five."""
    return 5


@pytest.mark.parametrize("stub", [only_told, told_and_dots, told_and_passed])
def test_a_function_with_a_docstring_only_is_not_written_yet(stub: Any) -> None:
    outcome = BY_NAME["01-3"].check(stub)
    assert outcome.kind == "not tried" and "not written yet" in outcome.message


def test_a_function_that_returns_a_constant_is_an_answer() -> None:
    assert BY_NAME["01-3"].check(told_and_returned).kind == "wrong"


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("00-1", "x" * 3_000_000),
        ("00-2", {"prices": "x" * 3_000_000, "voice": "", "once": ""}),
        ("01-1", lambda text: 10**5000),
        ("01-3", lambda ids, end: list(range(500_000))),
        ("01-3", lambda ids, end: [["x" * 9_000] * 90] * 90),
        ("01-3", lambda ids, end: Unprintable()),
        ("01-3", [0] * 500_000),
        ("02-2", Unprintable()),
        ("03-1", lambda record: "x" * 3_000_000),
        ("03-3", {10**5000}),
    ],
)
def test_messages_stay_short_whatever_the_answer(name: str, answer: Any) -> None:
    outcome = BY_NAME[name].check(answer)
    assert outcome.kind == "wrong" and len(outcome.message) < 600


@pytest.mark.filterwarnings("error")
def test_a_tensor_with_a_gradient_gives_no_warning() -> None:
    torch.set_warn_always(True)  # else torch warns once a process
    try:
        outcome = BY_NAME["02-2"].check(torch.tensor(5.545, requires_grad=True))
    finally:
        torch.set_warn_always(False)
    assert outcome.kind == "right"


@pytest.mark.parametrize("number", [0, 99, -1, "x", 1.0, None, [1], [10**5000]])
def test_hints_that_are_not_there_are_told(number: Any) -> None:
    with pytest.raises(ExerciseError, match="none of them"):
        BY_NAME["00-1"].hint(number)


def test_code_that_stops_is_told_as_such() -> None:
    outcome = BY_NAME["01-1"].check(lambda text: len(text) / 0)
    assert outcome.kind == "raised" and "ZeroDivisionError" in outcome.message

    # The example that stopped it is named, and the learner's own objects are not touched.
    def emptying(ids: list[int], end: int) -> list[int]:
        ids.clear()
        return ids[0]

    outcome = BY_NAME["01-3"].check(emptying)
    assert "IndexError" in outcome.message and "tried with [5, 6, 2, 0, 0], 2" in outcome.message

    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    for error in (SystemExit(1), Mute()):

        def stops(ids: list[int], end: int, error: BaseException = error) -> list[int]:
            raise error

        assert BY_NAME["01-3"].check(stops).kind == "raised"

    def endless(ids: list[int], end: int) -> list[int]:
        return endless(ids, end)

    assert BY_NAME["01-3"].check(endless).kind == "raised"


def test_checkers_do_not_change_the_learners_objects() -> None:
    given = {"prices": "retrieve", "voice": "fine-tune", "once": "prompt"}
    before = dict(given)
    random.seed(1)
    BY_NAME["00-2"].check(given)
    assert given == before


@pytest.mark.parametrize("number", ["99", 2, ["02"], None])
def test_lessons_without_exercises_are_told(number: Any) -> None:
    with pytest.raises(ExerciseError, match=re.escape(f"Lesson {number!r} has no exercises")):
        exercises.lesson(number)


def test_a_task_is_shown_with_its_number(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    BY_NAME["03-1"].ask()
    assert capsys.readouterr().out.startswith("1. Write `to_prompt(record)`: ")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: seen.append(data))
    BY_NAME["03-2"].ask()
    assert seen[0]["text/markdown"].startswith("**2.** Write `invented_numbers(")
    assert seen[0]["text/plain"].startswith("2. Write `invented_numbers(")
