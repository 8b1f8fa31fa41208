"""Each kind of trouble is found where it is, and nothing is found where it only looks like it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import PreTrainedTokenizerBase

from llmcourse import company, data, models, plots
from llmcourse.data import alike, patterns
from llmcourse.errors import DataError, SettingError

pytestmark = pytest.mark.usefixtures("own_cache")

GOOD = {"question": "Where is the station?", "answer": "Behind the market hall, on the left."}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return models.load_tokenizer("base")


def told(kind: str, *records: dict, **options: Any) -> data.Finding:
    report = data.inspect(list(records), **options)
    return next(one for one in report.findings if one.kind == kind)


def asks(question: str, answer: str = "It is so, and we are glad to say it.") -> dict:
    return {"question": question, "answer": answer}


# --- what a text shows ---------------------------------------------------------------------------

TROUBLE = [
    ("e-mail", "Write to tamsin.orrell+shop@post.example today."),
    ("card", "Yours, P. Quarrie, card 4000 1234 5678 9010"),
    ("card", "Paid with 4111111111111111."),
    ("card", "Paid with 3782 822463 10005."),
    ("IBAN", "To GB82 WEST 1234 5698 7654 32, please."),
    ("IBAN", "DE89370400440532013000"),
    ("phone", "Ilse Fenn, telephone 05550 143 277"),
    ("phone", "Ring +44 20 7946 0958 after six."),
    ("phone", "Call (555) 123-4567 or 555-123-4567."),
    ("phone", "Appelez le 01 23 45 67 89."),
    ("IP", "It came from 203.0.113.77 at night."),
    ("date of birth", "Dora Whitlam, born 3 May 1971"),
    ("date of birth", "Date of birth: 1971-05-03"),
    ("address", "Mr B. Askew, 14 Weir Lane, Aldermere"),
    ("address", "Sie wohnt in der Lindenstraße 12."),
    ("address", "Il habite 12 rue Victor Hugo."),
    ("html", "<p>It is open.</p>"),
    ("html", "It is open.<br/>&nbsp;"),
    ("html", "<div class='answer'>Open</div>"),
    ("html", "Salt &amp; pepper"),
    ("html", "It&#39;s open"),
    ("html", "<script>alert(1)</script>Open"),
    ("encoding", "It is so â€“ thank you."),
    ("encoding", "Das CafÃ© ist offen."),
    ("encoding", "Das Caf\ufffd ist offen."),
    ("encoding", "It is\x07 open."),
]
INNOCENT = [
    "Order number 0123 456 789 has left us; case W-51839, parcel O-66214.",
    "The part number is WD2-F-096 and the serial number begins KV27.",
    "Version 10.12.14.16 and Latch 5.2.4 came in 2019, 2020, 2021 and 2022.",
    "In the years 2019 2020 2021 2022 we sold 12,345,678 pieces.",
    "It is open from 8.40 to 12.10, on 19 November 2024 and in 1914-1918.",
    "Localhost is 127.0.0.1, and 1.2.3.4 is a section; 999.888.777.666 is nothing.",
    "He gave @home 5 stars, at 3.14 on average; a@b is no address.",
    "She was born in 1971. The company was born again on Monday.",
    "It takes 14 working days and 3 long ways; page 12, lane 7.",
    "Account XX00 WEST 1234 5698 7654 32 has a wrong check sum.",
    "If a < b and c > d, or if x<y and y>z, then List<int> and Map<String, Option>.",
    "vector<b> holds b; use `<p>Text</p>` for a paragraph, and `&amp;` for &.",
    "```html\n<p>Hello</p>\n```",
    "AT&T; R&D; p = &sum; ?a=1&copy=2 <|im_start|> <s>[INST] <unk>",
    "« Voilà l’été », dit-il – “naïve” café, £5, 31 °C ± 2, ½ … 🎉 👩‍🚒 Ærø Łódź",
    "Привет, мир. 你好，世界。 مرحبا بالعالم",
    "def area(r):\n\treturn 3.14 * r ** 2  # a & b | c",
]


@pytest.mark.parametrize(("kind", "text"), TROUBLE)
def test_trouble_in_a_text_is_found(kind: str, text: str) -> None:
    finding = told(kind, GOOD, asks("Where is it?", text))
    assert finding.count == 1
    number, excerpt = finding.examples[0]
    assert number == 2 and 0 < len(excerpt) <= 80


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_trouble_is_not(text: str) -> None:
    assert patterns.personal(text) == []
    assert [text[start:end] for start, end in patterns.markup(text)] == []
    assert patterns.garbled(text) == ""


def test_personal_data_is_masked_in_excerpts() -> None:
    secrets = [text for kind, text in TROUBLE if kind in patterns.PERSONAL]
    report = data.inspect([asks(text, text) for text in secrets])
    shown = json.dumps(report.as_dict(), ensure_ascii=False) + report.as_text()
    for text in secrets:
        for start, end, _ in patterns.personal(text):
            assert text[start:end] not in shown
    assert "[e-mail]" in shown and "[card]" in shown


def test_what_is_ones_own_can_be_kept() -> None:
    text = "Write to help@ferrowick.example or to me@post.example, 11 Quillon Lane."
    assert patterns.masked(text, ["@ferrowick.example", "quillon lane"]) == (
        "Write to help@ferrowick.example or to [e-mail], 11 Quillon Lane."
    )


@pytest.mark.parametrize(
    ("text", "personal", "markup"),
    [
        ("1 " * 200_000, 0, 0),
        ("1." * 200_000, 0, 0),
        ("a@" * 200_000, 0, 0),
        ("+1 (" * 100_000, 0, 0),
        ("<p " * 100_000, 0, 0),
        ("&amp" * 100_000, 0, 0),
        ("A1" * 200_000, 0, 0),
        ("<b a=" * 50_000, 0, 0),
        ("0123 " * 80_000, 0, 0),
        ("1 A" * 100_000, 0, 0),
        ("`" * 300_001, 0, 0),
        ("1234567890" * 40_000, 0, 0),
        ("<!--" * 200_000, 0, 0),
        ("<!--" * 200_000 + "-->", 0, 1),
        ("`a` <br> " * 80_000, 0, 80_000),
        ("`a` &amp; " * 80_000, 0, 80_000),
        ("</p>" * 1_000_000 + "x", 0, 0),
        ("a@b.cd 203.0.113.77 " * 40_000, 80_000, 0),
    ],
)
def test_patterns_take_time_in_proportion(text: str, personal: int, markup: int) -> None:
    """The work grows with the text and not with its square, which would take many minutes."""
    assert len(patterns.personal(text)) == personal
    assert len(patterns.markup(text)) == markup


BLANKS = " " * 400_000


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<div>" * 50_000 + "x" + "</div>" * 50_000, "x"),
        ("<p>One" + "<div id=a>" * 50_000, "One"),
        ("<p>a</p>" + "\u00a0 " * 200_000 + "b", "a\nb"),
        (f"<p>a{BLANKS}b</p>", f"a{BLANKS}b"),
    ],
    ids=["nested", "not closed", "blanks after a line", "blanks within"],
)
def test_a_huge_page_becomes_text(text: str, wanted: str) -> None:
    assert patterns.without_markup(text) == wanted


def test_an_unclosed_comment_hides_no_tag() -> None:
    assert patterns.without_markup("<p>a<!-- b --></p><!-- c <b>d</b>") == "a\n<!-- c d"


# --- what records show together ------------------------------------------------------------------


def test_blank_and_overlong() -> None:
    assert told("blank", GOOD, asks(" "), asks("Why?", "\n")).count == 2
    assert told("blank", GOOD, {**GOOD, "input": ""}).count == 0
    words = asks("one two three", "four five")
    assert told("overlong", words, longest=4).count == 1
    assert told("overlong", words, longest=5).count == 0
    assert data.inspect([{"text": "a b c"}, {"text": ""}]).count("blank") == 1


def test_duplicates_are_counted_without_the_first() -> None:
    again = [GOOD, asks("Why?"), GOOD, {**GOOD, "answer": GOOD["answer"] + "  "}]
    finding = told("duplicates", *again)
    assert finding.count == 2 and [number for number, _ in finding.examples] == [3, 4]
    assert "1 of them repeated" in finding.what
    assert told("duplicates", GOOD, {**GOOD, "input": "In Ghent."}).count == 0


def test_repeated_questions_and_contradictions() -> None:
    loud = {**GOOD, "question": GOOD["question"].upper().replace("?", " ??")}
    other = {**GOOD, "answer": "In front of the bridge."}
    for records, repeated, contradictions in (
        ([GOOD, loud], 1, 0),
        ([GOOD, other], 0, 1),
        ([GOOD, GOOD], 0, 0),
        ([loud, other], 0, 1),
        ([asks("What is 3 + 4?", "7"), asks("What is 3 - 4?", "-1")], 0, 0),
        ([asks("Is 3.5 right?", "Yes."), asks("Is 35 right?", "No.")], 0, 0),
        ([{**GOOD, "input": "In Ghent."}, {**other, "input": "In Bruges."}], 0, 0),
        ([asks("", "One."), asks("", "Two.")], 0, 0),
    ):
        report = data.inspect(records)
        assert report.count("repeated questions") == repeated, records
        assert report.count("contradictions") == contradictions, records


LONG = (
    "The round shade of the reading lamp has a width of twelve centimetres and can be taken off "
    "by hand once the lamp is cold, which takes about a quarter of an hour in most rooms."
)


def test_near_duplicates_are_checked_on_the_texts() -> None:
    near = asks("How wide is the shade?", LONG.replace("about a quarter", "nearly a quarter"))
    far = asks("How wide is the shade?", "Nobody has measured it. " + LONG[:60])
    first = asks("How wide is the shade in all?", LONG)
    assert told("near-duplicates", first, near).examples[0][0] == 2
    assert told("near-duplicates", first, near).count == 1
    assert told("near-duplicates", first, far).count == 0
    assert told("near-duplicates", first, first).count == 0
    runs = [alike.runs(text) for text in ("a b c d e", "a b c d f")]
    assert alike.overlap(*runs) == 0.5 and alike.overlap(set(), set()) == 0


def test_minhash_finds_nearly_all_that_overlap() -> None:
    """Of pairs that overlap by 0.8 or more, the bands miss less than one in a hundred."""
    import numpy as np

    dice = np.random.default_rng(0)
    first, second = [], []
    for _ in range(300):
        words = [f"w{n}" for n in dice.integers(0, 10**6, 60)]
        first.append(" ".join(words))
        words[int(dice.integers(3, 57))] = "other"
        words[-1] = "end"
        second.append(" ".join(words))
    lowest = min(
        alike.overlap(alike.runs(a), alike.runs(b)) for a, b in zip(first, second, strict=True)
    )
    assert 0.7 < lowest < 0.9
    shared = (alike.bands(first) == alike.bands(second)).any(axis=1)
    assert shared.mean() > 0.97
    assert not (alike.bands(first) == alike.bands(second[::-1])).any(axis=1)[:100].any()


def test_a_bucket_of_many_is_not_compared_all_with_all() -> None:
    import numpy as np

    first, second, cut = alike.candidates([np.zeros(5000, dtype=np.int64)])
    assert len(first) < 10_000 and not cut
    assert set(second.tolist()) == set(range(1, 5000))
    assert told("near-duplicates", *(asks(f"{LONG} {n}") for n in range(300))).count == 299


def test_leaks_from_the_test_into_the_data() -> None:
    train = [GOOD, asks(LONG), asks("How much is it?")]
    test = [asks("where is THE station"), asks(LONG[:-8] + "a house."), asks("Is it far?")]
    report = data.inspect(train, test=test)
    assert (report.count("leaked"), report.count("nearly leaked")) == (1, 1)
    found = {one.kind: one.examples for one in report.findings}
    assert found["leaked"][0][0] == 1 and found["nearly leaked"][0][0] == 2
    clean = data.inspect(train, test=[asks("Is it far?"), asks("", "Nothing.")])
    assert (clean.count("leaked"), clean.count("nearly leaked")) == (0, 0)


def test_leaks_between_splits_of_one_data_set() -> None:
    rows = [
        (GOOD, "train"),
        (GOOD, "test"),
        (asks("Is it far?"), "validation"),
        (asks("How much is it?"), "train"),
        (asks("Is it far?"), "test"),
    ]
    report = data.inspect([record | {"split": split} for record, split in rows])
    assert report.count("leaked") == 1


@pytest.mark.parametrize("name", ["test", "validation", "Held-out", "dev", "eval"])
def test_every_split_is_compared_with_train(name: str) -> None:
    rows = [GOOD | {"split": "train"}, GOOD | {"split": name}]
    assert data.inspect(rows).count("leaked") == 1
    kind = datasets.ClassLabel(names=["train", name])
    labelled = datasets.Dataset.from_list(rows).cast_column("split", kind)
    assert data.inspect(labelled).count("leaked") == 1
    assert data.inspect([rows[0], GOOD | {"split": None}]).count("leaked") == 0


def test_the_companys_questions_leak_nothing() -> None:
    report = data.inspect(company.records("questions"))
    kinds = ("duplicates", "repeated questions", "contradictions", "leaked", "html", "encoding")
    assert {kind: report.count(kind) for kind in kinds} == dict.fromkeys(kinds, 0)
    assert report.count("near-duplicates") == report.count("nearly leaked") == 0
    assert set(report.languages) == {"en"}


def test_the_messy_copys_faults_are_counted() -> None:
    report = data.inspect(company.records("messy"))
    found = {one.kind: one.count for one in report.findings}
    assert found["blank"] == found["html"] == found["encoding"] == found["contradictions"] == 20
    assert found["duplicates"] + found["repeated questions"] == 40
    assert found["card"] == 6 and found["date of birth"] == 3 and found["phone"] == 1


# --- languages, labels, lengths ------------------------------------------------------------------


def test_languages_are_told_where_there_is_enough_text() -> None:
    german = "Wann kommt der nächste Zug nach Hamburg, und wo kann ich eine Karte kaufen?"
    english = "When does the next train leave for the coast, and where can I buy a ticket?"
    report = data.inspect([{"text": german}] * 3 + [{"text": english}] + [{"text": "OK 7"}] * 9)
    assert report.languages == {"de": 0.75, "en": 0.25}
    assert data.inspect([{"text": "x = 1"}]).languages == {}
    assert report.count("other language") == 1
    other = report.findings[-1]
    assert "(de)" in other.what and "among all 13" in other.what and other.examples[0][0] == 4
    assert (
        data.inspect([{"text": german}] * 3 + [{"text": "Where is it now, please?"}]).count(
            "other language"
        )
        == 0
    )  # too short to be told for certain


def test_languages_are_counted_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmcourse.data.report.SAMPLE", 10)
    english = "When does the next train leave for the coast, and where can I buy a ticket?"
    report = data.inspect([{"text": f"{english} {n}"} for n in range(30)])
    assert report.count("other language") == 0 and "sample of 10" in report.findings[-1].what


@pytest.mark.parametrize("name", ["questions", "extraction", "expansion", "seed_tasks", "messy"])
def test_the_companys_records_are_all_english(name: str) -> None:
    records = company.records(name)
    kept = ("question", "instruction", "input", "answer")
    rows = [{field: record[field] for field in kept if field in record} for record in records]
    assert data.inspect(rows).count("other language") == 0


def test_label_balance_is_of_columns_with_few_values() -> None:
    records = [asks(f"Is it {n}?") | {"kind": "ab"[n % 3 > 0], "id": str(n)} for n in range(30)]
    assert data.inspect(records).labels == {"kind": {"b": 20, "a": 10}}
    assert data.inspect(records[:3]).labels == {}
    assert data.inspect([record | {"kind": "a"} for record in records]).labels == {}


def test_labels_are_numbers_truth_values_class_labels_and_answers_too() -> None:
    rows = [asks(f"Is it {n}?", "yes" if n % 3 else "no") for n in range(30)]
    more = {
        "stars": [n % 5 for n in range(30)],
        "good": [n % 2 == 0 for n in range(30)],
        "kind": [n % 2 for n in range(30)],
        "number": list(range(30)),
    }
    table = datasets.Dataset.from_list(rows)
    for name, values in more.items():
        table = table.add_column(name, values)
    table = table.cast_column("kind", datasets.ClassLabel(names=["ham", "spam"]))
    assert data.inspect(table).labels == {
        "answer": {"yes": 20, "no": 10},
        "stars": {str(n): 6 for n in range(5)},
        "good": {"False": 15, "True": 15},
        "kind": {"ham": 15, "spam": 15},
    }


def test_more_columns_are_not_asked_for_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time all are copied, so ten thousand columns, each asked for, would take an hour."""
    asked: list[str] = []
    features = datasets.Dataset.features.fget
    counted = property(lambda self: (asked.append(""), features(self))[1])
    times = []
    for wide in (2, 60):
        columns = {f"c{n}": [n % 2 for n in range(6)] for n in range(wide)}
        table = datasets.Dataset.from_dict(columns | {"text": [f"T{n}" for n in range(6)]})
        with monkeypatch.context() as patched:
            patched.setattr(datasets.Dataset, "features", counted)
            asked.clear()
            report = data.inspect(table)
        times.append(len(asked))
        assert len(report.labels) == wide and report.labels["c1"] == {"0": 3, "1": 3}
    assert times[0] == times[1] > 0


def test_columns_of_tables_hold_no_labels() -> None:
    kind = datasets.Array2D((1, 2), "int32")
    columns = {"text": ["a", "b", "c"], "grid": [[[1, 2]]] * 3}
    features = datasets.Features({"text": datasets.Value("string"), "grid": kind})
    assert data.inspect(datasets.Dataset.from_dict(columns, features=features)).labels == {}


def test_lengths_in_words_and_their_histogram() -> None:
    records = [asks("a " * n, "b") for n in range(1, 101)]
    report = data.inspect(records)
    prompt = report.lengths["prompt"]
    assert (prompt.minimum, prompt.median, prompt.maximum, prompt.mean) == (1, 50.5, 100, 50.5)
    assert prompt.p95 == pytest.approx(95, abs=0.1)
    assert sum(prompt.counts) == 100 and len(prompt.edges) == len(prompt.counts) + 1
    assert prompt.counts[0] == sum(1 for n in range(1, 101) if n < prompt.edges[1])
    assert report.total == 5050 + 100 and report.unit == "words"
    giant = data.inspect([*records, asks("a " * 9000)]).lengths["prompt"]
    assert giant.counts[-1] == 1 and giant.edges[-1] < 400


def test_lengths_in_tokens_are_the_tokenizers(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = ["Where is the station?", "Über den Fluss 🎉", "x" * 400]
    report = data.inspect([asks(text, text) for text in texts], tokenizer=tokenizer)
    sizes = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    assert report.unit == "tokens" and report.total == 2 * sum(sizes)
    assert report.lengths["answer"].maximum == max(sizes)
    tokenizer(["a", "b c"], padding=True)  # leaves the tokenizer set to pad
    assert data.inspect([asks("a", "b c d"), asks("a", "b")], tokenizer=tokenizer).total == 6


# --- how it works --------------------------------------------------------------------------------


def test_hashes_are_the_same_on_every_machine() -> None:
    assert alike.number("Ferrowick") == NUMBER
    assert alike.number("\ud800") != alike.number("\ud801")


NUMBER = -89918596862276702


def test_two_processes_find_what_one_does(tokenizer: PreTrainedTokenizerBase) -> None:
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    records = company.records("messy")
    reports = [data.inspect(records, tokenizer=tokenizer, workers=n) for n in (1, 2)]
    assert reports[0] == reports[1]
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before
    assert datasets.is_progress_bar_enabled()


def test_nothing_of_the_libraries_is_printed(capfd: pytest.CaptureFixture) -> None:
    data.inspect(company.records("messy"), workers=2)
    assert capfd.readouterr() == ("", "")


def test_whatever_load_records_takes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "Why?", "completion": "So."}) + '\n{"prompt": 7}\n')
    report = data.inspect(path)
    assert (report.name, report.records, report.count("unreadable")) == ("r.jsonl", 1, 1)
    assert report.findings[0].examples[0][0] == 2
    loaded = data.load_records(path, strict=False)[0]
    assert data.inspect(loaded).records == 1
    part = data.load_records([GOOD] * 4).select(range(2))  # its file has gone with the whole
    assert data.inspect(part, workers=2).records == 2
    with pytest.raises(DataError, match="text belongs here, not a number"):
        data.inspect([{"question": 7, "answer": "So."}])
    with pytest.raises(DataError, match="no records"):
        data.inspect([])


@pytest.mark.parametrize("options", [{"longest": 0}, {"workers": 0}, {"longest": "x"}])
def test_wrong_settings_are_told(options: dict) -> None:
    with pytest.raises(SettingError, match="must be a whole number of at least 1"):
        data.inspect([GOOD], **options)


def test_problems_are_found_in_a_file_and_not_given_with_it(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{}\n")
    records, problems = data.load_records(path, strict=False)
    assert data.inspect(records, problems=problems).count("unreadable") == 1
    with pytest.raises(SettingError, match="problems belong to loaded records"):
        data.inspect(path, problems=problems)


def test_an_unknown_kind_lists_the_known() -> None:
    with pytest.raises(SettingError, match="no kind 'dupes'. There are: unreadable, blank, .*html"):
        data.inspect([GOOD]).count("dupes")


# --- what comes in -------------------------------------------------------------------------------


TABLE = {
    "question": ["Who is it?", None, "Is it far?"],
    "answer": ["It is me.", "So.", "No."],
    "stars": [3, 4, 3],
}


@pytest.mark.parametrize("kind", ["pandas", "torch", "arrow", "numpy", "columns", "transform"])
def test_a_format_changes_nothing(kind: str) -> None:
    plain = datasets.Dataset.from_dict(TABLE)
    if kind == "transform":
        formatted = plain.with_transform(lambda batch: {"other": batch["stars"]})
    elif kind == "columns":
        formatted = plain.with_format(None, columns=["stars"])
    else:
        formatted = plain.with_format(kind)
    assert data.inspect(formatted, test=formatted) == data.inspect(plain, test=plain)
    assert data.clean(formatted).dataset.to_list() == data.clean(plain).dataset.to_list()
    halves = {"a": 0.5, "b": 0.5}
    found, wanted = (data.split(one, halves) for one in (formatted, plain))
    assert {n: p.to_list() for n, p in found.items()} == {n: p.to_list() for n, p in wanted.items()}


@pytest.mark.parametrize("use", [data.inspect, data.clean, data.split])
def test_streams_and_several_splits_are_told(use: Any) -> None:
    table = datasets.Dataset.from_dict(TABLE)
    with pytest.raises(DataError, match=r"a stream .* data.load_records\(stream\)"):
        use(table.to_iterable_dataset())
    with pytest.raises(DataError, match="several splits"):
        use(datasets.DatasetDict({"train": table, "test": table}))


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([GOOD, {"text": "t"}], "record 2, field 'text': the records before have question and"),
        (
            [GOOD, asks("a\ud800")],
            r"record 2, field 'question': half a character \('.ud800'\) at 2",
        ),
        ([GOOD | {"\ud800": "a"}], "the name of the field '.ud800' has half a character"),
        ([GOOD | {1: "a", "1": "b"}], "two fields are called"),
    ],
)
def test_what_a_list_would_lose_is_told(records: list, told: str) -> None:
    with pytest.raises(DataError, match=told):
        data.inspect(records)


@pytest.mark.parametrize("made", [list, datasets.Dataset.from_list])
def test_text_beside_question_and_answer_is_a_column_like_others(made: Any) -> None:
    rows = [asks(f"Q{n}?", f"A{n} ") | {"text": f"T {n % 2} "} for n in range(9)]
    report = data.inspect(made(rows))
    assert set(report.lengths) == {"prompt", "answer"} and set(report.labels) == {"text"}
    cleaned = data.clean(made(rows)).dataset
    assert cleaned[1] == rows[1] | {"answer": "A1", "input": ""}
    assert set(data.split(made(rows), {"a": 0.5, "b": 0.5})) == {"a", "b"}
    texts = [{"text": f"T {n} ", "question": "Q "} for n in range(9)]  # a question alone is none
    assert set(data.inspect(made(texts)).lengths) == {"text"}
    assert data.clean(made(texts)).dataset[1] == {"text": "T 1", "question": "Q "}
    assert set(data.split(made(texts), {"a": 0.5, "b": 0.5})) == {"a", "b"}


# --- the report ----------------------------------------------------------------------------------


def test_the_text_fits_a_screen_whatever_was_found() -> None:
    worst = [asks(text, text) for _, text in TROUBLE] + [GOOD, GOOD, asks(""), asks(LONG)]
    worst += [GOOD | {"answer": "No."}, asks(LONG + " Yes."), asks(LONG.upper())]
    rows = [record | {f"a long column {n}": str(n % 3) for n in range(30)} for record in worst * 3]
    for report in (
        data.inspect(rows, test=rows, longest=3, name="n\n" * 80),
        data.inspect([GOOD]),
        data.inspect([{"text": "x\x1b[31m" * 99}]),
    ):
        lines = report.as_text().splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 100
        assert "\x1b" not in report.as_text() + json.dumps(report.as_dict(), ensure_ascii=False)
        assert f"{report.records:,} records" in lines[0] and "█" in report.as_text()
    assert "No trouble was found." in data.inspect([GOOD]).as_text()


def test_names_reach_no_terminal_as_they_are() -> None:
    rows = [asks(f"Q{n}?") | {"a\x1b[31m\u202eb": f"v{n % 2}\x1b]"} for n in range(6)]
    report = data.inspect(rows, name="my\x1b[2J\nset")
    text = report.as_text()
    assert all(sign.isprintable() for sign in text.replace("\n", ""))
    assert report.name == "my\ufffd[2J set" and text.startswith("my\ufffd[2J set: 6 records")
    assert "values of a\ufffd[31m\ufffdb: v0\ufffd] 3, v1\ufffd] 3" in text
    assert "a\x1b[31m\u202eb" in report.columns  # as they are called in the data


def test_the_report_goes_through_json() -> None:
    report = data.inspect(company.records("messy"), name="messy").as_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["findings"][1]["kind"] == "blank" and report["findings"][1]["count"] == 20


def test_every_finding_says_what_it_means_in_a_sentence() -> None:
    for one in data.inspect([GOOD]).findings:
        assert one.what[0].isupper() and one.what.endswith(".") and len(one.what) < 180


def test_the_picture_says_its_numbers_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[Any, dict]] = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda it, metadata=None, raw=False: shown.append((it, metadata or {})),
    )
    plots.inspection(data.inspect(company.records("messy"), name="The messy copy"))
    (picture, metadata), (caption, _), (labels, _), _ = shown
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    alt = metadata["image/png"]["alt"]
    assert "blank 20" in alt and "leaked 0" in alt and "prompt: from 0 to" in alt
    assert caption.data.startswith("*Figure. The messy copy") and caption.data.endswith(".*")
    assert "duplicate" in labels["text/html"] and "6.2 %" in labels["text/html"]
    plots.inspection(data.inspect([{"text": "Once upon a time."}]))
    assert len(shown) == 6  # no labels, no table


def test_a_model_may_stand_for_its_tokenizer_and_a_name_may_not(
    chat32: models.LoadedModel,
) -> None:
    records = [{"question": "Why?", "answer": "So."}]
    both = [data.inspect(records, tokenizer=t).lengths for t in (chat32, chat32.tokenizer)]
    assert both[0] == both[1]
    with pytest.raises(SettingError, match=r"models.load_tokenizer\('base'\)"):
        data.inspect(records, tokenizer="base")
