"""Evaluation: metrics, their intervals, paired tests, kinds of mistakes, nothing swallowed."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pandas
import pytest
import torch

from llmcourse import company, evaluation, models, plots
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation import (
    Method,
    compare,
    consistency,
    evaluate,
    keys_of,
    label,
    perplexity,
)
from llmcourse.finetuning import held_out_loss
from llmcourse.generation import Answer, generate
from llmcourse.words import has_keys

QUESTIONS = company.records("questions", "validation", keys=True)[:5]


def answer(text: str, finished: bool = True) -> Answer:
    return Answer("", "", text, finished, 5, 7, 0.1)


# --- metrics -------------------------------------------------------------------------------------


def test_keys_of_records() -> None:
    assert keys_of({"keys": "12 litres|twelve litres; blue"}) == ["12 litres|twelve litres", "blue"]
    assert keys_of({"keys": '["3", "a|b"]'}) == ["3", "a|b"], "as load_records writes a list"
    assert keys_of({"keys": "[half"}) == ["[half"]
    assert keys_of({"keys": numpy.array(["5", "blue"])}) == ["5", "blue"], "as in a parquet file"
    for none in ({"question": "?"}, {"keys": ""}, {"keys": math.nan}, {"fact": "f001"}):
        assert keys_of(none) == []
    for wrong in ({"keys": [1]}, {"keys": 5}, {"keys": [" "]}):
        with pytest.raises(DataError):
            keys_of(wrong)


# --- evaluate ------------------------------------------------------------------------------------


def test_every_metric_of_every_record(tiny: models.LoadedModel) -> None:
    found = evaluate(tiny, QUESTIONS, list(evaluation.METRICS), max_new_tokens=6, progress=False)
    given = generate(tiny, QUESTIONS, max_new_tokens=6, progress=False)
    assert [a.text for a in found.answers] == [a.text for a in given]
    table = found.table
    assert table["reference"].tolist() == [q["answer"] for q in QUESTIONS]
    assert table["facts"].tolist() == [
        has_keys(a.text, keys_of(q)) for a, q in zip(given, QUESTIONS, strict=True)
    ]
    assert table["tokens"].tolist() == [a.new_tokens for a in given]
    assert set(found.scores) == set(evaluation.METRICS)
    loss = held_out_loss(tiny, QUESTIONS)
    assert found.scores["loss"].mean == pytest.approx(loss, abs=1e-5)
    assert found.scores["perplexity"].mean == pytest.approx(math.exp(loss), rel=1e-4)
    assert found.scores["loss"].low < loss < found.scores["loss"].high
    assert found.share("facts").total == 5
    with pytest.raises(SettingError, match="not 0 or 1"):
        found.share("tokens")


def test_what_applies_is_measured_where_nothing_is_named(tiny: models.LoadedModel) -> None:
    short = {"max_new_tokens": 2, "progress": False}
    asked = evaluate(tiny, [{"question": "Hi?"}], **short)
    assert list(asked.scores) == ["finished", "repeated_ngrams", "tokens"]
    known = evaluate(tiny, [{"instruction": "Hi?", "response": "Ho."}], **short)
    assert "exact" in known.scores and "facts" not in known.scores
    rows = [{"question": "Hi?", "answer": "Ho."}, {"question": "Who?", "input": "a", "keys": "b"}]
    frame = evaluate(tiny, pandas.DataFrame(rows), "tokens", **short)
    assert frame.failed.empty, "empty cells are no values"
    frame = evaluate(tiny, pandas.DataFrame(rows[:1]), **short)
    assert frame.table["answer"].tolist() == known.table["answer"].tolist()


def test_a_record_that_fails_is_listed_and_counted(tiny: models.LoadedModel) -> None:
    rows = [*QUESTIONS[:2], {**QUESTIONS[2], "question": "word " * 400}, QUESTIONS[3]]

    def prompt(record: Any) -> str:
        if record is rows[3]:
            raise ValueError("no passage found")
        return record["question"]

    found = evaluate(
        Method(tiny, prompt=prompt),
        rows,
        ["facts", "tokens", "loss"],
        max_new_tokens=4,
        progress=False,
    )
    assert found.failed.index.tolist() == [2, 3]
    assert "Shorten the prompt" in found.failed["error"][2]
    assert found.failed["error"][3] == "ValueError: no passage found"
    assert found.scores["facts"].total == 4, "it counts as wrong"
    assert found.scores["tokens"].total == found.scores["loss"].total == 2
    assert found.answers[2] is None and found.labels[2] == []
    assert "2 failed" in found._repr_html_()


@pytest.mark.parametrize(
    ("rows", "wanted", "message"),
    [
        ([], None, "no records"),
        (["a question"], None, "Record 0 .* a mapping"),
        ([{"question": "Hi?"}], "exact", "needs the field 'answer', and record 0"),
        ([{"question": "Hi?", "answer": "x"}], ["facts"], "needs the field 'keys'"),
        ([{"question": "Hi?", "answer": 5}], None, "Record 0 .*must be text"),
        ([{"question": " "}], None, "No record could be answered"),
        (
            [{"question": "a", "keys": ["b"]}, {"question": "a", "keys": [1]}],
            None,
            "Record 1 .*must be a list of texts",
        ),
    ],
)
def test_wrong_records(tiny: models.LoadedModel, rows: Any, wanted: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(tiny, rows, wanted, progress=False)


def test_wrong_settings(tiny: models.LoadedModel) -> None:
    with pytest.raises(SettingError, match="no metric 'bleu'.* exact, normalised"):
        evaluate(tiny, QUESTIONS, "bleu")
    with pytest.raises(SettingError, match="at least one"):
        evaluate(tiny, QUESTIONS, [])
    with pytest.raises(SettingError, match="load the model first"):
        evaluate("chat", QUESTIONS)
    with pytest.raises(DataError, match="No record could be answered. The first: TypeError"):
        evaluate(Method(tiny, prompt="Answer: {question}"), QUESTIONS)
    assert evaluation.Way is Method, "its name in version 0.1"


def test_a_method_is_how_a_model_is_asked(tiny: models.LoadedModel) -> None:
    method = Method(tiny, "qa", prompt=lambda record: f"In one word: {record['question']}")
    found = evaluate(method, QUESTIONS[:1], ["tokens", "loss"], max_new_tokens=2, progress=False)
    sent = found.answers[0].sent
    assert sent == f"### Question:\nIn one word: {QUESTIONS[0]['question']}\n\n### Answer:\n"
    asked = [
        {"question": f"In one word: {QUESTIONS[0]['question']}", "answer": QUESTIONS[0]["answer"]}
    ]
    assert found.scores["loss"].mean == pytest.approx(held_out_loss(tiny, asked, "qa"), abs=1e-5)


def test_perplexity_is_that_of_the_plain_loss(tiny: models.LoadedModel) -> None:
    texts = ["The kettle is on the shelf.", "A short one."]
    total = count = 0.0
    for text in texts:
        ids = torch.tensor([[*tiny.tokenizer(text).input_ids, tiny.tokenizer.eos_token_id]])
        total += tiny.model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert perplexity(tiny, texts).mean == pytest.approx(math.exp(total / count), rel=1e-4)
    with pytest.raises(DataError, match="Text 1 .* longer"):
        perplexity(tiny, ["short", "word " * 400])


# --- compare -------------------------------------------------------------------------------------


def test_compare_asks_all_the_same(tiny: models.LoadedModel, capsys: Any) -> None:
    short = {"max_new_tokens": 3, "progress": False}
    ready = evaluate(tiny, QUESTIONS, name="plain", **short)
    both = compare({"plain": ready, "qa": Method(tiny, "qa")}, iter(QUESTIONS), **short)
    assert both["plain"] is ready
    assert both.table().index.tolist() == ["plain", "qa"]
    test = both.test("plain", "qa", "f1")
    assert test.wins + test.losses + test.ties == 5
    rows = both.rows("plain", "qa", "f1")
    assert len(rows) == test.wins + test.losses
    assert rows["difference"].is_monotonic_increasing
    plots.comparison(both)
    plots.comparison(both, "f1")
    with pytest.raises(SettingError, match="no 'chat' here"):
        both["chat"]
    other = evaluate(tiny, QUESTIONS[:2], **short)
    with pytest.raises(DataError, match="different questions"):
        compare({"a": ready, "b": other})
    same = [{**record, "answer": "Something else."} for record in QUESTIONS]
    with pytest.raises(DataError, match="different questions"):
        compare({"a": ready, "b": evaluate(tiny, same, **short)})
    with pytest.raises(SettingError, match="'b': model='chat'"):
        compare({"a": tiny, "b": "chat"}, QUESTIONS)
    with pytest.raises(DataError, match="records are needed"):
        compare({"a": tiny})
    with pytest.raises(SettingError, match="needs a dict"):
        compare([tiny], QUESTIONS)


def test_consistency() -> None:
    found = consistency(["40 watts", "40 watts", "50 watts", "x"], ["a", "a", "b", "c"])
    assert found == {"a": 1.0}
    assert consistency(["40 watts", "50 watts", ""], [1, 1, 1])[1] == pytest.approx(0.5 / 3)
    assert consistency(["", ""], [1, 1]) == {1: 1.0}, "both say nothing"
    assert consistency(["a", "a", None, None, None], [1, 1, 1, 2, 2]) == {1: 1.0}, "failed ones"
    with pytest.raises(DataError, match="as many groups"):
        consistency(["a"], [])
    with pytest.raises(DataError, match="No group"):
        consistency(["a"], [1])


# --- kinds of mistakes ---------------------------------------------------------------------------

RECORD = {
    "question": "How much water does the kettle hold?",
    "answer": "The kettle holds 1.35 litres of water.",
    "keys": ["1.35"],
}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("It holds 1.35 litres.", []),
        ("1.35", []),
        ("The kettle by Tornet holds 1.35 litres.", []),
        ("...", ["empty"]),
        ("I'm sorry, but I can't help with that.", ["refused"]),
        ("Paris is a lovely city.", ["off-topic"]),
        ("The kettle holds 1.7 litres.", ["wrong fact"]),
        ("The kettle hollds 1.35 litres of watter.", ["misspelling"]),
        ("Kettle 1.35 kettle 1.35 kettle 1.35 kettle 1.35", ["repetitive"]),
        (
            "The kettle holds 1.35 litres and " + "some more of water " * 4,
            ["repetitive", "too long"],
        ),
    ],
)
def test_kinds_of_mistakes(text: str, kinds: list[str]) -> None:
    assert label(answer(text), RECORD) == kinds


def test_a_rule_needs_what_the_record_has() -> None:
    unfinished = answer("The kettle holds 1.7", finished=False)
    assert label(unfinished, RECORD) == ["wrong fact", "unfinished"]
    assert label(answer("Hello there"), {"question": "Hello?"}) == []
    assert label(answer("No."), {"question": "Is it blue?", "answer": "No."}) == []


def test_good_answers_have_no_mistakes() -> None:
    """The rules do not cry wolf: of the company's own answers next to none is called wrong."""
    records = company.records("questions", "train", keys=True) + company.records("expansion")
    known = " ".join(company.documents().values())
    found = [label(answer(record["answer"]), record, known) for record in records]
    flagged = [(kinds, r["answer"]) for kinds, r in zip(found, records, strict=True) if kinds]
    assert len(flagged) <= 0.01 * len(records), flagged[:5]


def test_spoilt_words_are_found() -> None:
    """One letter of a long word is changed in every answer; most of them are seen."""
    spoilt, seen = 0, 0
    known = " ".join(company.documents().values())
    for record in company.records("questions", "train", keys=True)[::9]:
        words = record["answer"].split()
        place = next(
            (n for n, w in enumerate(words) if n and w.isalpha() and w.islower() and len(w) > 6),
            None,
        )
        if place is None:
            continue
        words[place] = words[place][:3] + "q" + words[place][4:]
        spoilt += 1
        seen += "misspelling" in label(answer(" ".join(words)), record, known)
    assert spoilt >= 40 and seen >= 0.8 * spoilt, (seen, spoilt)


def test_labels_worst_and_counted(tiny: models.LoadedModel) -> None:
    found = evaluate(tiny, QUESTIONS, max_new_tokens=4, progress=False)
    assert all("unfinished" in kinds for kinds in found.labels)
    assert evaluation.counted(found.labels)["unfinished"] == 5
    worst = found.worst("unfinished")
    assert len(worst) == 5 and worst["f1"].is_monotonic_increasing
    assert len(found.worst()) == 5 and len(found.worst("refused")) == 0
    with pytest.raises(SettingError, match="no 'dull'"):
        found.worst("dull")
    with pytest.raises(SettingError, match="was not measured"):
        found.worst(by="loss")
