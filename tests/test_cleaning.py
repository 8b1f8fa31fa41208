"""What can be fixed is fixed, what can't is left out, and both are listed."""

from __future__ import annotations

import collections
from typing import Any

import datasets
import pytest
from hypothesis import given, settings, strategies

from llmcourse import company, data
from llmcourse.data import patterns

GOOD = {"question": "Where is the station?", "answer": "Behind the market hall, on the left."}
OWN = ("@ferrowick", "Quillon Lane")


def fixed(text: str, *steps: str) -> str:
    found = data.clean([GOOD, {**GOOD, "question": text}], steps=steps or data.STEPS[:4])
    return found.dataset[1]["question"]


def answers(*records: dict, **options: Any) -> list[str]:
    return data.clean(list(records), **options).dataset["answer"][:]


# --- the messy copy ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def messy() -> tuple[list[dict], data.Cleaned]:
    records = company.records("messy")
    return records, data.clean(records, keep=OWN)


def test_every_defect_of_the_messy_copy_is_handled(messy: tuple) -> None:
    records, cleaned = messy
    left = {record["id"]: record for record in cleaned.dataset}
    did = collections.defaultdict(set)
    for row in cleaned.changes.to_dict("records"):
        did[row["record"]].add((row["step"], row["action"]))
    by_defect = collections.defaultdict(list)
    for number, record in enumerate(records, 1):
        by_defect[record["defect"]].append((record, did[number]))
    assert all(("blank", "left out") in done for _, done in by_defect["blank"])
    assert all(("contradictions", "left out") in done for _, done in by_defect["contradiction"])
    for defect in ("html", "encoding", "personal data"):
        assert all(done == {(defect, "fixed")} for _, done in by_defect[defect]), defect
    for text in (record[field] for record in left.values() for field in ("question", "answer")):
        assert patterns.masked(text, OWN) == text
        assert not patterns.markup(text) and not patterns.is_garbled(text), text
    # Of a copy and its twin one stays; a contradiction takes its twin with it.
    assert len(left) == 320 - 20 - 20 - 20 - 40
    lost = [record for record, done in by_defect[""] if any(a == "left out" for _, a in done)]
    twins = {
        r["question"].strip().lower().rstrip(" ?.")
        for r in records
        if r["defect"] in ("duplicate", "near-duplicate", "contradiction")
    }
    assert all(record["question"].lower().rstrip(" ?.") in twins for record in lost)


PIECES = strategies.sampled_from(
    [
        *("<p>", "</p>", "<b>", "<br>", "<!--", "-->", "<div", "</script>", "<script>", "&amp;"),
        *(
            "&lt;",
            "&nbsp;",
            "`",
            "```",
            "a",
            "b",
            "me@home.example",
            "+44",
            " 20 7946 0958",
            "born",
        ),
        *(" 3 May 1971", "4111111111111111", "14 Weir Lane", "203.0.113.77", "â€“", "Ã©", "é"),
        *("\x07", "\ufffd", ".", "?", '"', " ", "  ", "\n", "\n\n\n\n", "\t", "\xa0"),
    ]
)
MESSY = strategies.lists(PIECES, max_size=12).map("".join) | strategies.text(
    strategies.characters(exclude_categories=["Cs"]), max_size=20
)


@given(strategies.lists(strategies.tuples(MESSY, MESSY, MESSY), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_second_cleaning_finds_nothing(rows: list) -> None:
    records = [dict(zip(("question", "input", "answer"), row, strict=True)) for row in rows]
    first = data.clean(records).dataset
    if len(first):
        assert len(data.clean(first).changes) == 0


# --- fixing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It is so â€“ thank you.", "It is so – thank you."),
        ("Das CafÃ© ist\x07 offen.", "Das Café ist offen."),
        ("Lost caf\ufffd", "Lost caf\ufffd"),
        ("<p>One.</p><p>Two &amp; three.</p>", "One.\nTwo & three."),
        ("One<br>Two<br/>&nbsp;", "One\nTwo"),
        ("One<p>Two</p>three", "One\nTwo\nthree"),
        ("<table><tr><td>One</td><td>Two</td></tr></table>", "One Two"),
        ("<script>alert(1)</script>Open if a < b", "Open if a < b"),
        ('<a href="/x?a=1&amp;b=2">Here</a>, x<y and y>z', "Here, x<y and y>z"),
        ("<p>Write `<b>bold</b>` so.</p>", "Write `<b>bold</b>` so."),
        ("<ul><li>One</li><li>Two</li></ul>", "One\nTwo"),
        ("  Two  blanks \n\n\n\n here\u00a0 ", "Two blanks\n\n here"),
        ("```\na  =  1\n\n\n\nb\n```", "```\na  =  1\n\n\n\nb\n```"),
        ("def f():\n    return  1", "def f():\n    return 1"),
        ("Ask me@post.example, 14 Weir Lane", "Ask [e-mail], [address]"),
        ("From 203.0.113.77 to GB82 WEST 1234 5698 7654 32.", "From [IP] to [IBAN]."),
        ("a\n" + " " * 300_000 + "b", "a\n" + " " * 300_000 + "b"),
        *(
            (text, text)
            for text in (
                "If a < b and x<y and y>z, then List<int> and Map<String, Option> hold.",
                "“Curly” ‘quotes’, « guillemets », … ﬁne ｗｉｄｅ £5 café 🎉 👩‍🚒",
                "Order 0123 456 789 of 2019 2020 2021 2022, version 10.12.14.16",
                "AT&T; p = &sum; <|im_start|> <s>[INST]",
            )
        ),
    ],
)
def test_texts_are_fixed(text: str, wanted: str) -> None:
    assert fixed(text) == wanted


def test_changes_say_before_and_after() -> None:
    found = data.clean([GOOD, {**GOOD, "question": "<b>Why</b>?  "}, {**GOOD, "answer": " "}])
    rows = found.changes.to_dict("records")
    what = {"step": "html", "action": "fixed", "field": "question"}
    assert rows[0] == {"record": 2, **what, "before": "<b>Why</b>?  ", "after": "Why?"}
    assert [(row["step"], row["after"]) for row in rows if row["record"] == 3] == [
        ("whitespace", ""),
        ("blank", "no answer"),
    ]
    many = [{"text": f"T{n}" + " " * (n in (2, 2500))} for n in range(3000)]
    assert list(data.clean(many, steps=["whitespace"]).changes["record"]) == [3, 2501]


def test_other_columns_stay_as_they_are() -> None:
    rows = [
        {"id": n, "question": f" Q{n}?" if n % 3 else None, "answer": f"A  {n}", "kind": n % 2}
        | {"tags": ["x"] * (n % 2), "note": None if n % 2 else " <b>as it is</b> "}
        for n in range(11)
    ]
    kinds = {"id": datasets.Value("int16"), "question": datasets.Value("large_string")}
    kinds |= {"kind": datasets.ClassLabel(names=["ham", "spam"])}
    table = datasets.Dataset.from_list(rows)
    table = table.cast(datasets.Features(table.features | kinds)).shuffle(seed=3)
    found = data.clean(table).dataset
    assert found.features == table.features | {"input": datasets.Value("string")}
    assert found.to_list() == [
        row | {"question": row["question"].strip(), "answer": f"A {row['id']}", "input": ""}
        for row in table.to_list()
        if row["question"]
    ]


def test_earlier_turns_are_fixed_too() -> None:
    turns = [
        {"role": "user", "content": "I am  ann@home.example."},
        {"role": "assistant", "content": "Good morning."},
    ]
    found = data.clean(data.load_records([GOOD | {"history": turns}, GOOD]))
    assert found.dataset[0]["history"][0] == {"role": "user", "content": "I am [e-mail]."}
    assert found.dataset[0]["history"][1] == turns[1] and len(found.dataset) == 2
    assert set(found.changes["field"]) == {"history"}


# --- leaving out ---------------------------------------------------------------------------------

LONG = (
    "The round shade of the reading lamp has a width of 12 centimetres and can be taken off by "
    "hand once the lamp is cold, which takes about a quarter of an hour in most rooms that we know "
    "of, and longer in a very warm one, so please be patient and have a cup of tea in the meantime "
    "as our own colleagues in the repair centre do"
)


def test_the_first_of_the_same_stays() -> None:
    copies = [{**GOOD, "id": str(n)} for n in range(3)]
    loud = {**GOOD, "question": "WHERE is the station ??", "id": "3"}
    found = data.clean([*copies, loud])
    assert found.dataset["id"][:] == ["0"]
    assert list(found.changes["after"]) == ["the same as record 1"] * 3
    assert list(found.changes["step"]) == ["duplicates", "duplicates", "near-duplicates"]


def test_long_records_that_are_nearly_the_same_are_one() -> None:
    first = {"question": "How wide is the shade?", "answer": f"{LONG}, now and then."}
    near = {**first, "answer": f"{LONG}, every now and then."}
    number = {**first, "answer": first["answer"].replace("12", "14"), "question": "How wide, then?"}
    paraphrase = {**first, "question": "What is the width of the lamp's shade?"}
    assert len(answers(first, near, steps=["near-duplicates"])) == 1
    assert len(answers(first, paraphrase, steps=["near-duplicates"])) == 2
    assert len(answers(first, number, steps=["near-duplicates"])) == 2


def test_contradictions_are_left_out_or_settled() -> None:
    wrong = {**GOOD, "answer": "In front of the bridge."}
    other = {"question": "How far is it?", "answer": "A mile."}
    assert answers(GOOD, other, wrong) == [other["answer"]]
    rows = data.clean([GOOD, other, wrong]).changes
    assert list(rows["record"]) == [1, 3] and "record 3" in rows["after"][0]
    seen: list[list[str]] = []

    def settle(group: list[dict]) -> int:
        seen.append([record["answer"] for record in group])
        return 1

    assert answers(GOOD, other, wrong, settle=settle) == [other["answer"], wrong["answer"]]
    assert seen == [[GOOD["answer"], wrong["answer"]]]
    assert answers(GOOD, wrong, other, settle=lambda _: None) == [other["answer"]]


@pytest.mark.parametrize(
    ("more", "other", "contradict"),
    [
        ({"input": "Ghent"}, {"input": "Bruges"}, False),
        ({"source": "faq"}, {"source": "handbook.pdf"}, True),
        ({"passage": "The lamp is 2 m tall."}, {"passage": "The tree is 3 m tall."}, False),
        ({"passage": "The lamp is 2 m tall."}, {"passage": "The lamp is 2 m tall."}, True),
        ({"Context": "lamp"}, {"Context": "tree"}, False),
        ({"history": [["The ferry?", "Wait."]]}, {"history": [["The bus?", "Wait."]]}, False),
        ({"history": [["The ferry?", "Wait."]]}, {"history": [["The ferry?", "Wait."]]}, True),
    ],
)
def test_another_context_is_no_contradiction(more: dict, other: dict, contradict: bool) -> None:
    """Whatever an answer may depend on, in a column that no template reads, is part of it."""
    records = data.load_records([GOOD | more, GOOD | {"answer": "There."} | other])
    assert len(data.clean(records).dataset) == (0 if contradict else 2)
    report = data.inspect(records)
    assert report.count("contradictions") == contradict
    what = next(one.what for one in report.findings if one.kind == "contradictions")
    unread = not contradict and not {"input", "history", "Context"} & set(more)
    assert ("1 more differ in" in what) == unread


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("DE89 3704 0044 0532 0130 00", "[IBAN]"),
        ("AT61 1904 3002 3457 3201 BIC BKAUATWW", "[IBAN] BIC BKAUATWW"),
        ("2223000048410010", "[card]"),
        ("0171/123 45 67", "[phone]"),
        ("Tel.: 01711234567", "Tel.: [phone]"),
        ("Order 0123 456 789 of 2019 2020", "Order 0123 456 789 of 2019 2020"),
    ],
)
def test_a_number_is_masked_whole_and_as_what_it_is(text: str, masked: str) -> None:
    assert patterns.masked(text) == masked


def test_a_negation_makes_another_answer() -> None:
    long = "You may return the kettle within thirty days if it is clean and in its box. " * 4
    rows = [
        {"question": "May I return it?", "answer": long},
        {"question": "May I return it?", "answer": long.replace("You may", "You may not", 1)},
    ]
    assert "near-duplicates" not in set(data.clean(rows).changes["step"])
