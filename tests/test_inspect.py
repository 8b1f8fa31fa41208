"""Each kind of problem is found where it is, and nothing is found where it only looks like it."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pytest
from transformers import PreTrainedTokenizerBase

from llmcourse import company, data, models
from llmcourse.data import patterns
from llmcourse.errors import SettingError

GOOD = {"question": "Where is the station?", "answer": "Behind the market hall, on the left."}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return models.load_tokenizer("chat")


def finding(kind: str, *records: dict, **options: Any) -> data.Finding:
    report = data.inspect(list(records), **options)
    return next(one for one in report.findings if one.kind == kind)


def asks(question: str, answer: str = "It is so, and we are glad to say it.") -> dict:
    return {"question": question, "answer": answer}


# --- what a text shows ---------------------------------------------------------------------------

PROBLEMS = [
    ("e-mail", "Write to tamsin.orrell+shop@post.example today."),
    ("card", "Yours, P. Quarrie, card 4000 1234 5678 9010"),
    ("card", "Paid with 4111111111111111."),
    ("IBAN", "To GB82 WEST 1234 5698 7654 32, please."),
    ("phone", "Ilse Fenn, telephone 05550 143 277"),
    ("phone", "Call (555) 123-4567 or 555-123-4567."),
    ("IP", "It came from 203.0.113.77 at night."),
    ("date of birth", "Dora Whitlam, born 3 May 1971"),
    ("address", "Mr B. Askew, 14 Weir Lane, Aldermere"),
    ("address", "Sie wohnt in der Lindenstraße 12."),
    ("html", "<p>It is open.</p>"),
    ("html", "Salt &amp; pepper"),
    ("encoding", "It is so â€“ thank you."),
    ("encoding", "Das Caf\ufffd ist offen."),
]
INNOCENT = [
    "Order number 0123 456 789 has left us; case W-51839, parcel O-66214.",
    "The part number is WD2-F-096 and the serial number begins KV27.",
    "Version 10.12.14.16 and Latch 5.2.4 came in 2019, 2020, 2021 and 2022.",
    "It is open from 8.40 to 12.10, on 19 November 2024 and in 1914-1918.",
    "Localhost is 127.0.0.1, and 1.2.3.4 is a section; 999.888.777.666 is nothing.",
    "Account XX00 WEST 1234 5698 7654 32 has a wrong check sum.",
    "If a < b and c > d, or if x<y and y>z, then List<int> and Map<String, Option>.",
    "vector<b> holds b; use `<p>Text</p>` for a paragraph, and `&amp;` for &.",
    "```html\n<p>Hello</p>\n```",
    "AT&T; R&D; p = &sum; ?a=1&copy=2 <|im_start|> <s>[INST] <unk>",
    "« Voilà l’été », dit-il – “naïve” café, £5, 31 °C ± 2, ½ … 🎉 👩‍🚒 Ærø Łódź",
    "def area(r):\n\treturn 3.14 * r ** 2  # a & b | c",
]


@pytest.mark.parametrize(("kind", "text"), PROBLEMS)
def test_a_problem_of_a_text_is_found_and_masked(kind: str, text: str) -> None:
    report = data.inspect([GOOD, asks(text, text)])
    found = next(one for one in report.findings if one.kind == kind)
    assert found.count == 1
    number, excerpt = found.examples[0]
    assert number == 2 and 0 < len(excerpt) <= 80
    if kind in patterns.PERSONAL:
        assert f"[{kind}]" in excerpt and patterns.masked(excerpt) == excerpt
        shown = json.dumps(report.as_dict(), ensure_ascii=False) + report.as_text()
        assert patterns.masked(text) != text and text not in shown


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_a_problem_is_none(text: str) -> None:
    assert patterns.personal(text) == (text, [])
    assert [text[start:end] for start, end in patterns.markup(text)] == []
    assert not patterns.is_garbled(text)


@pytest.mark.parametrize(
    ("text", "personal", "markup"),
    [
        *((piece * 200_000, 0, 0) for piece in ("1 ", "1.", "a@", "A1", "<!--", "1 A")),
        *((piece * 80_000, 0, 0) for piece in ("+1 (", "<p ", "&amp", "<b a=", "0123 ", "`")),
        ("1234567890" * 40_000, 0, 0),
        ("<!--" * 200_000 + "-->", 0, 1),
        ("`a` <br> " * 80_000, 0, 80_000),
        ("`a` &amp; " * 80_000, 0, 80_000),
        ("</p>" * 300_000 + "x", 0, 0),
        ("a@b.cd 203.0.113.77 " * 40_000, 80_000, 0),
    ],
    ids=lambda value: str(value)[:12],
)
def test_patterns_take_time_in_proportion(text: str, personal: int, markup: int) -> None:
    """The work grows with the text and not with its square, which would take many minutes."""
    assert len(patterns.personal(text)[1]) == personal
    assert len(patterns.markup(text)) == markup


# --- what records show together ------------------------------------------------------------------


def test_blank_and_overlong() -> None:
    assert finding("blank", GOOD, asks(" "), asks("Why?", "\n")).count == 2
    assert finding("blank", GOOD, {**GOOD, "input": ""}).count == 0
    words = asks("one two three", "four five")
    assert [finding("overlong", words, longest=n).count for n in (4, 5)] == [1, 0]
    assert data.inspect([{"text": "a b c"}, {"text": ""}]).count("blank") == 1


LONG = (
    "The round shade of the reading lamp has a width of twelve centimetres and can be taken off "
    "by hand once the lamp is cold, which takes about a quarter of an hour in most rooms."
)
LOUD = {**GOOD, "question": GOOD["question"].upper().replace("?", " ??")}
OTHER = {**GOOD, "answer": "In front of the bridge."}
WIDE = asks("How wide is the shade in all?", LONG)
COPIES = ("duplicates", "repeated questions", "contradictions", "near-duplicates")


@pytest.mark.parametrize(
    ("records", "counts"),
    [
        ([GOOD, asks("Why?"), GOOD, {**GOOD, "answer": GOOD["answer"] + "  "}], (2, 0, 0, 0)),
        ([GOOD, {**GOOD, "input": "In Ghent."}], (0, 0, 0, 0)),
        ([GOOD, LOUD], (0, 1, 0, 0)),
        ([GOOD, OTHER], (0, 0, 1, 0)),
        ([LOUD, OTHER], (0, 0, 1, 0)),
        ([asks("What is 3 + 4?", "7"), asks("What is 3 - 4?", "-1")], (0, 0, 0, 0)),
        ([asks("Is 3.5 right?", "Yes."), asks("Is 35 right?", "No.")], (0, 0, 0, 0)),
        ([{**GOOD, "input": "In Ghent."}, {**OTHER, "input": "In Bruges."}], (0, 0, 0, 0)),
        ([asks("", "One."), asks("", "Two.")], (0, 0, 0, 0)),
        ([WIDE, asks("How wide is the shade?", LONG.replace("about", "nearly"))], (0, 0, 0, 1)),
        ([WIDE, asks("How wide is it?", "Nobody has measured it. " + LONG[:60])], (0, 0, 0, 0)),
        ([asks(f"{LONG} {n}") for n in range(300)], (0, 0, 0, 299)),
    ],
)
def test_copies_are_counted_once_and_without_the_first(records: list, counts: tuple) -> None:
    report = data.inspect(records)
    assert tuple(map(report.count, COPIES)) == counts


def test_leaks_from_the_test_into_the_data() -> None:
    train = [GOOD, asks(LONG), asks("How much is it?")]
    test = [asks("where is THE station"), asks(LONG[:-8] + "a house."), asks("Is it far?")]
    report = data.inspect(train, test=test)
    found = {one.kind: (one.count, one.examples[0][0]) for one in report.findings if one.count}
    assert (found["leaked"], found["nearly leaked"]) == ((1, 1), (1, 2))
    clean = data.inspect(train, test=[asks("Is it far?"), asks("", "Nothing.")])
    assert (clean.count("leaked"), clean.count("nearly leaked")) == (0, 0)


@pytest.mark.parametrize("name", ["test", "validation", "Held-out", "dev", "eval"])
def test_every_split_is_compared_with_train(name: str) -> None:
    rows = [GOOD | {"split": "train"}, GOOD | {"split": name}, asks("Is it?") | {"split": name}]
    assert data.inspect(rows).count("leaked") == 1
    kind = datasets.ClassLabel(names=["train", name])
    labelled = datasets.Dataset.from_list(rows).cast_column("split", kind)
    assert data.inspect(labelled).count("leaked") == 1
    assert data.inspect([rows[0], GOOD | {"split": None}]).count("leaked") == 0


def test_the_defects_of_the_messy_copy_are_counted() -> None:
    report = data.inspect(company.records("messy"), name="messy")
    found = {one.kind: one.count for one in report.findings}
    assert found["blank"] == found["html"] == found["encoding"] == found["contradictions"] == 20
    assert found["duplicates"] + found["repeated questions"] == 40
    assert found["card"] == 6 and found["date of birth"] == 3 and found["phone"] == 1
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


# --- languages, labels, lengths ------------------------------------------------------------------

ENGLISH = "When does the next train leave for the coast, and where can I buy a ticket?"
GERMAN = "Wann kommt der nächste Zug nach Hamburg, und wo kann ich eine Karte kaufen?"


def test_languages_are_identified_where_there_is_enough_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = data.inspect([{"text": GERMAN}] * 3 + [{"text": ENGLISH}] + [{"text": "OK 7"}] * 9)
    assert report.languages == {"de": 0.75, "en": 0.25}
    other = report.findings[-1]
    assert other.count == 1 and other.examples[0][0] == 4 and "among all 13" in other.what
    short = [{"text": GERMAN}] * 3 + [{"text": "Where is it now, please?"}]
    assert data.inspect(short).count("other language") == 0  # not certain
    monkeypatch.setattr("llmcourse.data.findings.SAMPLE", 10)
    report = data.inspect([{"text": f"{ENGLISH} {n}"} for n in range(30)])
    assert report.count("other language") == 0 and "a sample of 10" in report.findings[-1].what


def test_labels_are_numbers_truth_values_class_labels_and_answers_too() -> None:
    rows = [asks(f"Is it {n}?", "yes" if n % 3 else "no") for n in range(30)]
    table = datasets.Dataset.from_list(rows)
    more = {
        "stars": [n % 5 for n in range(30)],
        "good": [n % 2 == 0 for n in range(30)],
        "kind": [n % 2 for n in range(30)],
        "number": list(range(30)),
        "same": ["a"] * 30,
        "grid": [[n] for n in range(30)],
    }
    for name, values in more.items():
        table = table.add_column(name, values)
    table = table.cast_column("kind", datasets.ClassLabel(names=["ham", "spam"]))
    assert data.inspect(table).labels == {
        "answer": {"yes": 20, "no": 10},
        "stars": {str(n): 6 for n in range(5)},
        "good": {"False": 15, "True": 15},
        "kind": {"ham": 15, "spam": 15},
    }


def test_lengths_in_tokens_are_the_tokenizers(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = ["Where is the station?", "Über den Fluss 🎉", "x" * 400]
    sizes = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    for _ in range(2):
        report = data.inspect([asks(text, text) for text in texts], tokenizer=tokenizer)
        assert report.unit == "tokens" and report.total == 2 * sum(sizes)
        tokenizer(["a", "b c"], padding=True)  # leaves the tokenizer set to pad
    with pytest.raises(SettingError, match=r"models.load_tokenizer\('base'\)"):
        data.inspect([GOOD], tokenizer="base")


# --- how it works --------------------------------------------------------------------------------


# --- the report ----------------------------------------------------------------------------------


def test_the_text_fits_a_screen_and_is_safe_to_print() -> None:
    worst = [asks(text, text) for _, text in PROBLEMS] + [GOOD, GOOD, asks(""), asks(LONG)]
    worst += [GOOD | {"answer": "No."}, asks(LONG + " Yes."), asks(LONG.upper())]
    rows = [record | {f"a long column {n}": str(n % 3) for n in range(30)} for record in worst * 3]
    evil = [asks(f"Q{n}?") | {"a\x1b[31m\u202eb": f"v{n % 2}\x1b]"} for n in range(6)]
    for report in (
        data.inspect(rows, test=rows, longest=3, name="n\n" * 80),
        data.inspect([GOOD]),
        data.inspect([{"text": "x\x1b[31m" * 99}]),
        data.inspect(evil, name="my\x1b[2J\nset"),
    ):
        text = report.as_text()
        lines = text.splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 100
        assert all(sign.isprintable() for sign in text.replace("\n", ""))
        assert f"{report.records:,} records" in lines[0]
        assert all(one.what[0].isupper() and one.what[-1] == "." for one in report.findings)
