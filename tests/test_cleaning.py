"""What can be mended is mended, what can't is left out, and both are listed."""

from __future__ import annotations

import collections
from pathlib import Path

import datasets
import pytest

from llmcourse import company, data
from llmcourse.data import patterns
from llmcourse.errors import DataError, SettingError

pytestmark = pytest.mark.usefixtures("own_cache")

GOOD = {"question": "Where is the station?", "answer": "Behind the market hall, on the left."}
OWN = ("@ferrowick", "Quillon Lane")


def mended(text: str, *steps: str) -> str:
    found = data.clean([GOOD, {**GOOD, "question": text}], steps=steps or data.STEPS[:4])
    return found.dataset[1]["question"]


def answers(*records: dict, **options: object) -> list[str]:
    return data.clean(list(records), **options).dataset["answer"][:]


# --- the messy copy ------------------------------------------------------------------------------


@pytest.fixture
def messy() -> tuple[list[dict], data.Cleaned]:
    records = company.records("messy")
    return records, data.clean(records, keep=OWN)


def test_every_fault_of_the_messy_copy_is_handled(messy: tuple) -> None:
    records, cleaned = messy
    left = {record["id"]: record for record in cleaned.dataset}
    did = collections.defaultdict(set)
    for row in cleaned.changes.to_dict("records"):
        did[row["record"]].add((row["step"], row["action"]))
    by_fault = collections.defaultdict(list)
    for number, record in enumerate(records, 1):
        by_fault[record["defect"]].append((record, did[number]))
    assert all(("blank", "left out") in done for _, done in by_fault["blank"])
    assert all(("contradictions", "left out") in done for _, done in by_fault["contradiction"])
    for fault in ("html", "encoding", "personal data"):
        assert all(done == {(fault, "mended")} for _, done in by_fault[fault]), fault
    for text in (record[field] for record in left.values() for field in ("question", "answer")):
        assert not patterns.personal(text, OWN), text
        assert not patterns.markup(text) and not patterns.garbled(text), text
    # Of a copy and its twin one stays; a contradiction takes its twin with it.
    keys = [
        (" ".join(r["question"].lower().split()).rstrip(" ?."), r["answer"]) for r in left.values()
    ]
    assert len(keys) == len(set(keys))
    assert len(left) == 320 - 20 - 20 - 20 - 40
    lost = [record for record, done in by_fault[""] if any(a == "left out" for _, a in done)]
    twins = {
        r["question"].strip().lower().rstrip(" ?.")
        for r in records
        if r["defect"] in ("duplicate", "near-duplicate", "contradiction")
    }
    assert all(record["question"].lower().rstrip(" ?.") in twins for record in lost)


def test_mended_texts_are_the_originals_where_they_can_be(messy: tuple) -> None:
    records, cleaned = messy
    original = {(r["question"], r["answer"]) for r in company.records("questions", "train")}
    fault = {r["id"]: r["defect"] for r in records}
    same = collections.Counter(
        fault[r["id"]] for r in cleaned.dataset if (r["question"], r["answer"]) in original
    )
    whole_html = sum(r["defect"] == "html" and "&amp;c." not in r["answer"] for r in records)
    assert same["html"] == whole_html >= 10  # "&c." itself is text
    assert all(
        "– thank you" in r["answer"] for r in cleaned.dataset if fault[r["id"]] == "encoding"
    )


def test_clean_records_stay_as_they_are() -> None:
    records = company.records("questions")
    cleaned = data.clean(records, keep=OWN)
    assert len(cleaned.changes) == 0
    assert cleaned.dataset["question"][:] == [record["question"] for record in records]
    assert cleaned.dataset["split"][:] == [record["split"] for record in records]


def test_a_second_cleaning_finds_nothing(messy: tuple) -> None:
    assert len(data.clean(messy[1].dataset, keep=OWN).changes) == 0


# --- mending -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It is so â€“ thank you.", "It is so – thank you."),
        ("Das CafÃ© ist offen.", "Das Café ist offen."),
        ("It is\x07 open.", "It is open."),
        ("Lost caf\ufffd", "Lost caf\ufffd"),
        ("<p>It is open.</p>", "It is open."),
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
        ("Yours, P. Quarrie, card 4000 1234 5678 9010", "Yours, P. Quarrie, card [card]"),
        ("Ask me@post.example, 14 Weir Lane", "Ask [e-mail], [address]"),
        ("D. W., born 3 May 1971", "D. W., [date of birth]"),
        ("Ilse Fenn, telephone 05550 143 277", "Ilse Fenn, telephone [phone]"),
        ("From 203.0.113.77 to GB82 WEST 1234 5698 7654 32.", "From [IP] to [IBAN]."),
    ],
)
def test_texts_are_mended(text: str, wanted: str) -> None:
    assert mended(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "If a < b and x<y and y>z, then List<int> and Map<String, Option> hold.",
        "“Curly” ‘quotes’, « guillemets », … ﬁne ｗｉｄｅ £5 café 🎉 👩‍🚒",
        "Order 0123 456 789 of 2019 2020 2021 2022, version 10.12.14.16",
        "AT&T; p = &sum; <|im_start|> <s>[INST]",
    ],
)
def test_what_is_right_is_left_alone(text: str) -> None:
    found = data.clean([{**GOOD, "question": text}])
    assert found.dataset[0]["question"] == text and len(found.changes) == 0


def test_what_is_kept_is_a_text_or_several() -> None:
    text = {"question": "Who?", "answer": "a@own.example or b@other.example, 11 Quillon Lane"}
    one = "a@own.example or [e-mail], [address]"
    for keep in ("@own.example", ["@own.example"], iter(["@own.example"])):
        assert answers(text, text | {"question": "Whose?"}, keep=keep) == [one, one]
    assert answers(text, keep=("@own.example", "quillon LANE")) == [
        "a@own.example or [e-mail], 11 Quillon Lane"
    ]


@pytest.mark.parametrize("keep", ["", [" "], ["@own.example", None]])
def test_what_can_not_be_kept_is_told(keep: object) -> None:
    with pytest.raises(SettingError, match="^keep=.* must be pieces of text"):
        data.clean([GOOD], keep=keep)


def test_a_long_run_of_blanks_takes_time_in_proportion() -> None:
    assert mended("a\n" + " " * 300_000 + "b", "whitespace") == "a\n" + " " * 300_000 + "b"


def test_changes_say_before_and_after() -> None:
    found = data.clean([GOOD, {**GOOD, "question": "<b>Why</b>?  "}, {**GOOD, "answer": " "}])
    rows = found.changes.to_dict("records")
    assert rows[0] == {
        "record": 2,
        "step": "html",
        "action": "mended",
        "field": "question",
        "before": "<b>Why</b>?  ",
        "after": "Why?",
    }
    assert rows[-1] | {"before": ""} == {
        "record": 3,
        "step": "blank",
        "action": "left out",
        "field": "answer",
        "before": "",
        "after": "no answer",
    }
    assert [row["step"] for row in rows if row["record"] == 3] == ["whitespace", "blank"]


def test_only_the_steps_asked_for_are_taken() -> None:
    bad = {**GOOD, "question": " <b>Why</b>? "}
    assert mended(bad["question"], "whitespace") == "<b>Why</b>?"
    assert len(data.clean([bad, bad, {**GOOD, "answer": ""}], steps=()).dataset) == 3
    for steps in (["htlm"], "html"):
        with pytest.raises(SettingError, match="There is no step"):
            data.clean([GOOD], steps=steps)


def test_all_columns_are_kept() -> None:
    found = data.clean([{**GOOD, "id": "1", "tags": ["a"]}, {**GOOD, "id": "2"}])
    assert found.dataset.to_list() == [{**GOOD, "input": "", "id": "1", "tags": '["a"]'}]
    texts = data.clean([{"text": "One.  "}, {"text": "one"}, {"text": ""}])
    assert texts.dataset.to_list() == [{"text": "One."}]


TABLE = datasets.Features(
    {
        "id": datasets.Value("int16"),
        "question": datasets.Value("large_string"),
        "tags": datasets.List(datasets.Value("string")),
        "answer": datasets.Value("string"),
        "kind": datasets.ClassLabel(names=["ham", "spam"]),
        "note": datasets.Value("string"),
        "grid": datasets.Array2D((1, 2), "int32"),
    }
)


@pytest.mark.parametrize("shuffled", [False, True])
def test_other_columns_stay_as_they_are(shuffled: bool) -> None:
    rows = [
        {
            "id": n,
            "question": f" Q{n}?" if n % 3 else None,
            "tags": ["x"] * (n % 2),
            "answer": f"A  {n}",
            "kind": n % 2,
            "note": None if n % 2 else " <b>as it is</b> ",
            "grid": [[n, n]],
        }
        for n in range(11)
    ]
    table = datasets.Dataset.from_list(rows, features=TABLE)
    table = table.shuffle(seed=3) if shuffled else table
    found = data.clean(table).dataset
    assert found.features == TABLE | {"input": datasets.Value("string")}
    assert list(found.features) == [*TABLE, "input"]
    wanted = [
        row | {"question": row["question"].strip(), "answer": f"A {row['id']}", "input": ""}
        for row in table.to_list()
        if row["question"]
    ]
    assert found.to_list() == wanted and len(wanted) == 7


def test_changes_have_the_numbers_of_their_records() -> None:
    rows = [{"text": f"T{n}" + " " * (n in (2, 2500))} for n in range(3000)]
    assert list(data.clean(rows, steps=["whitespace"]).changes["record"]) == [3, 2501]


def test_earlier_turns_are_mended_too() -> None:
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
    wording = {**first, "question": "What is the width of the lamp's shade?"}
    assert len(answers(first, near, steps=["near-duplicates"])) == 1
    assert len(answers(first, wording, steps=["near-duplicates"])) == 2
    assert len(answers(first, number, steps=["near-duplicates"])) == 2


def test_contradictions_are_left_out_or_settled() -> None:
    wrong = {**GOOD, "answer": "In front of the bridge."}
    other = {"question": "How far is it?", "answer": "A mile."}
    assert answers(GOOD, other, wrong) == [other["answer"]]
    rows = data.clean([GOOD, other, wrong]).changes
    assert list(rows["record"]) == [1, 3] and "record 3" in rows["after"][0]
    asked: list[list[dict]] = []

    def settle(group: list[dict]) -> int:
        asked.append(group)
        return 1

    assert answers(GOOD, other, wrong, settle=settle) == [other["answer"], wrong["answer"]]
    assert [record["answer"] for record in asked[0]] == [GOOD["answer"], wrong["answer"]]
    assert answers(GOOD, wrong, other, settle=lambda _: None) == [other["answer"]]
    with pytest.raises(
        SettingError, match="settle returned 2 for the records 1, 2; .* from 0 to 1, or None"
    ):
        data.clean([GOOD, wrong], settle=lambda _: 2)
    apart = [{**GOOD, "input": "Ghent"}, {**wrong, "input": "Bruges"}]
    assert len(answers(*apart)) == 2
    labelled = [{**GOOD, "source": "faq"}, {**wrong, "source": "handbook.pdf"}]
    assert answers(*labelled) == []


@pytest.mark.parametrize(
    "more",
    [
        (
            "passage",
            "The lamp is 2 m tall and stands here.",
            "The tree is 3 m tall and stands there.",
        ),
        ("Context", "lamp", "tree"),
    ],
    ids=lambda more: more[0],
)
def test_another_context_is_no_contradiction(more: tuple) -> None:
    """Whatever an answer may depend on, in a column that no template reads, is part of it."""
    name, first, second = more
    apart = [{**GOOD, name: first}, {**GOOD, "answer": "There.", name: second}]
    same = [{**GOOD, name: first}, {**GOOD, "answer": "There.", name: first}]
    assert len(data.clean(data.load_records(apart)).dataset) == 2
    assert len(data.clean(data.load_records(same)).dataset) == 0
    report = data.inspect(data.load_records(apart))
    assert report.count("contradictions") == 0
    what = next(one.what for one in report.findings if one.kind == "contradictions")
    assert f"1 more have different answers beside another {name}" in what


def test_what_was_said_before_is_part_of_a_question() -> None:
    apart = [
        {"instruction": "And at what time?", "output": answer, "history": [[before, "Wait."]]}
        for before, answer in (("When does the ferry leave?", "At 6."), ("And the bus?", "At 7."))
    ]
    loaded = data.load_records(apart)
    assert len(data.clean(loaded).dataset) == 2
    assert data.inspect(loaded).count("contradictions") == 0
    assert (
        len(data.clean(data.load_records([apart[0], apart[0] | {"output": "At 9."}])).dataset) == 0
    )


def test_an_error_of_the_course_in_settle_stays_itself() -> None:
    def settle(_: list[dict]) -> int:
        raise DataError("no key")

    with pytest.raises(DataError, match="^no key$"):
        data.clean([GOOD, {**GOOD, "answer": "By the bridge."}], settle=settle)


def test_overlong_records_are_left_out_where_asked() -> None:
    long = {"question": "one two three", "answer": "four five"}
    assert answers(long, GOOD, longest=4, steps=()) == []
    assert answers(long, GOOD, longest=5, steps=()) == ["four five"]
    assert list(data.clean([long], longest=4).changes["after"]) == ["5 words"]
    for wrong in (-1, 0, 2.5, "4"):
        with pytest.raises(SettingError, match="longest=.* must be a whole number of at least 1"):
            data.clean([long], longest=wrong)


def test_everything_may_be_left_out_and_files_must_be_whole(tmp_path: Path) -> None:
    assert len(data.clean([{**GOOD, "answer": ""}]).dataset) == 0
    path = tmp_path / "r.jsonl"
    path.write_text('{"question": "Why?", "answer": ""}\n')
    with pytest.raises(DataError, match="line 1, field 'answer': blank"):
        data.clean(path)
