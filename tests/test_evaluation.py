"""Evaluation: metrics, their intervals, paired tests, kinds of mistakes, nothing swallowed."""

from __future__ import annotations

import math
from typing import Any

import pandas
import pytest
import torch

from llmcourse import company, evaluation, models
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation import Method, compare, consistency, evaluate, keys_of, label, perplexity
from llmcourse.generation import Answer, generate
from llmcourse.words import has_keys

QUESTIONS = company.records("questions", "validation", keys=True)[:5]
SHORT = {"max_new_tokens": 4, "progress": False}


def answer(text: str, finished: bool = True) -> Answer:
    return Answer("", "", text, finished, 5, 7, 0.1)


# --- one method ----------------------------------------------------------------------------------


def test_keys_as_lists_and_as_files_have_them() -> None:
    assert keys_of({"keys": "12 litres|twelve litres; blue"}) == ["12 litres|twelve litres", "blue"]
    assert keys_of({"keys": '["3", "a|b"]'}) == keys_of({"keys": ["3", "a|b"]}) == ["3", "a|b"]
    assert keys_of({"keys": "[half"}) == ["[half"]
    assert keys_of({"keys": ""}) == keys_of({"keys": None}) == keys_of({}) == []
    with pytest.raises(DataError):
        keys_of({"keys": [1]})


def test_every_metric_of_every_record(tiny: models.LoadedModel) -> None:
    found = evaluate(tiny, QUESTIONS, list(evaluation.METRICS), **SHORT)
    given = generate(tiny, QUESTIONS, **SHORT)
    assert [a.text for a in found.answers] == [a.text for a in given]
    table = found.table
    assert table["reference"].tolist() == [q["answer"] for q in QUESTIONS]
    right = [has_keys(a.text, keys_of(q)) for a, q in zip(given, QUESTIONS, strict=True)]
    assert table["facts"].tolist() == right
    assert table["tokens"].tolist() == [a.new_tokens for a in given]
    assert set(found.scores) == set(evaluation.METRICS)
    assert found.share("facts").total == 5
    with pytest.raises(SettingError, match="not 0 or 1"):
        found.share("tokens")


def test_records_come_through_the_door(tiny: models.LoadedModel, tmp_path: Any) -> None:
    rows = [{"instruction": "Hi?", "response": "Ho."}, {"instruction": "Who?", "response": "Me."}]
    named = evaluate(tiny, rows, **SHORT)
    assert named.table["question"].tolist() == ["Hi?", "Who?"]
    assert "exact" in named.scores and "facts" not in named.scores
    frame = pandas.DataFrame(rows)
    frame.to_csv(tmp_path / "test.csv", index=False)
    for same in (frame, tmp_path / "test.csv"):
        again = evaluate(tiny, same, **SHORT)
        assert again.table["answer"].tolist() == named.table["answer"].tolist()
    turns = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
    later = evaluate(tiny, [{"messages": [*turns, *turns]}], **SHORT)
    assert later.answers[0].sent.count("One?") == 2, "the turns before are asked too"


def test_a_record_that_fails_is_listed_and_counted(tiny: models.LoadedModel) -> None:
    rows = [*QUESTIONS[:2], {**QUESTIONS[2], "question": "word " * 400}, QUESTIONS[3]]

    def prompt(record: Any) -> str:
        if record["id"] == rows[3]["id"]:
            raise ValueError("no passage found")
        return record["question"]

    found = evaluate(Method(tiny, prompt=prompt), rows, ["facts", "tokens"], **SHORT)
    assert found.failed.index.tolist() == [2, 3]
    assert "Shorten the prompt" in found.failed["error"][2]
    assert found.failed["error"][3] == "ValueError: no passage found"
    assert found.scores["facts"].total == 4, "it counts as wrong"
    assert found.scores["tokens"].total == 2
    assert found.answers[2] is None and found.labels[2] == []
    assert "2 failed" in found._repr_html_()
    with pytest.raises(DataError, match="No record could be answered. The first: TypeError"):
        evaluate(Method(tiny, prompt="Answer: {question}"), QUESTIONS, **SHORT)


def test_a_method_is_how_a_model_is_asked(tiny: models.LoadedModel) -> None:
    changed = f"In one word: {QUESTIONS[0]['question']}"
    for prompt in (lambda record: changed, lambda record: {**record, "question": changed}):
        method = Method(tiny, "qa", prompt=prompt)
        found = evaluate(method, QUESTIONS[:1], **SHORT)
        assert found.answers[0].sent == f"### Question:\n{changed}\n\n### Answer:\n"


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


# --- several methods -----------------------------------------------------------------------------


def test_compare_asks_all_the_same(tiny: models.LoadedModel) -> None:
    ready = evaluate(tiny, QUESTIONS, name="plain", **SHORT)
    both = compare({"plain": ready, "qa": Method(tiny, "qa")}, iter(QUESTIONS), **SHORT)
    assert both["plain"] is ready and both.table().index.tolist() == ["plain", "qa"]
    test, rows = both.test("plain", "qa", "f1"), both.rows("plain", "qa", "f1")
    assert test.wins + test.losses + test.ties == 5 and len(rows) == test.wins + test.losses
    assert rows["difference"].is_monotonic_increasing
    other = evaluate(tiny, [{**q, "answer": "Something else."} for q in QUESTIONS], **SHORT)
    for one in (other, evaluate(tiny, QUESTIONS[:2], **SHORT)):
        with pytest.raises(DataError, match="different questions"):
            compare({"a": ready, "b": one})
    with pytest.raises(SettingError):
        compare({"a": tiny, "b": "chat"}, QUESTIONS)


def test_consistency() -> None:
    found = consistency(["40 watts", "40 watts", "50 watts", "x"], ["a", "a", "b", "c"])
    assert found == {"a": 1.0}
    assert consistency(["40 watts", "50 watts", ""], [1, 1, 1])[1] == pytest.approx(0.5 / 3)
    assert consistency(["", ""], [1, 1]) == {1: 1.0}, "both say nothing"
    assert consistency(["a", "a", None, None, None], [1, 1, 1, 2, 2]) == {1: 1.0}, "failed ones"
    for answers in (["a"], ["a", "a"]):
        with pytest.raises(DataError, match="needs a group"):
            consistency(answers, [1])


# --- kinds of mistakes ---------------------------------------------------------------------------

RECORD = {
    "question": "How much water does the kettle hold?",
    "answer": "The kettle holds 1.35 litres of water.",
    "keys": ["1.35"],
}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("The kettle by Tornet holds 1.35 litres.", []),
        ("...", ["empty"]),
        ("I'm sorry, but I can't help with that.", ["refused"]),
        ("Paris is a lovely city.", ["off-topic"]),
        ("The kettle holds 1.7 litres.", ["wrong fact"]),
        ("The kettle hollds 1.35 litres of watter.", ["misspelling"]),
        ("The kettle holds 1.35 litres and " + "some more of it " * 4, ["repetitive", "too long"]),
    ],
)
def test_kinds_of_mistakes(text: str, kinds: list[str]) -> None:
    assert label(answer(text), RECORD) == kinds


def test_a_rule_needs_what_the_record_has() -> None:
    unfinished = answer("The kettle holds 1.7", finished=False)
    assert label(unfinished, RECORD) == ["wrong fact", "unfinished"]
    assert label(answer("Hello there"), {"question": "Hello?"}) == []
    assert label(answer("No."), {"question": "Is it blue?", "answer": "No."}) == []


def test_good_answers_have_no_mistakes_and_spoilt_words_are_found() -> None:
    """Of the company's own answers next to none is called wrong; with a letter changed most are."""
    records = company.records("questions", "train", keys=True) + company.records("expansion")
    known = " ".join(company.documents().values())
    flagged = [r["answer"] for r in records if label(answer(r["answer"]), r, known)]
    assert len(flagged) <= 0.01 * len(records), flagged[:5]
    spoilt = seen = 0
    for record in records[:800:9]:
        words = record["answer"].split()
        long = [n for n, w in enumerate(words) if n and w.isalpha() and w.islower() and len(w) > 6]
        if long:
            words[long[0]] = words[long[0]][:3] + "q" + words[long[0]][4:]
            spoilt += 1
            seen += "misspelling" in label(answer(" ".join(words)), record, known)
    assert spoilt >= 40 and seen >= 0.8 * spoilt, (seen, spoilt)


def test_labels_worst_and_counted(tiny: models.LoadedModel) -> None:
    found = evaluate(tiny, QUESTIONS, **SHORT)
    assert evaluation.counted(found.labels)["unfinished"] == 5
    worst = found.worst()
    assert len(worst) == 5 and worst["f1"].is_monotonic_increasing
