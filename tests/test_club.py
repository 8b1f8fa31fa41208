"""The invented club's data: every fact findable, no paraphrase leaks, natural language."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from llmcourse import club, company, data
from llmcourse.errors import SettingError
from llmcourse.words import has_keys
from tests.test_company import near_copies, words

TRAIN, TEST = club.records("train"), club.records("test")
DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in club.folder().glob("*.md")}


KEYS = {record["fact"]: record["keys"].split(";") for record in TEST}


def test_the_documents_are_short_all_used_and_invented() -> None:
    assert 8 <= len(DOCUMENTS) <= 10
    for name, text in DOCUMENTS.items():
        assert 120 <= len(text.split()) <= 250, name
        assert not re.search(r"https?://|www\.|\.com\b|@", text), name
    assert {record["document"] for record in TRAIN + TEST} == set(DOCUMENTS)
    assert len({p.document for p in data.from_documents(club.folder())}) == len(DOCUMENTS)


def test_two_paraphrases_of_each_fact_train_and_another_tests() -> None:
    assert len(KEYS) == len(TEST) == 40
    assert Counter(record["fact"] for record in TRAIN) == dict.fromkeys(KEYS, 2)


def test_each_fact_is_under_its_heading_in_answers_and_not_in_questions() -> None:
    for record in TRAIN + TEST:
        keys = KEYS[record["fact"]]
        section = company.sections(DOCUMENTS[record["document"]])[record["heading"]]
        assert has_keys(section, [key.split("|")[0] for key in keys]), record["fact"]
        assert has_keys(record["answer"], keys), record
        assert not any(has_keys(record["question"], [key]) for key in keys), record


def test_a_fact_has_one_answer_and_no_other_facts_keys_within_a_document() -> None:
    answers = {record["fact"]: record["answer"] for record in TEST}
    assert len(set(answers.values())) == len(answers)
    assert all(record["answer"] == answers[record["fact"]] for record in TRAIN)
    places = {record["fact"]: record["document"] for record in TEST}
    for fact, keys in KEYS.items():
        for other, answer in answers.items():
            if other != fact and places[other] == places[fact]:
                assert not has_keys(answer, keys), (fact, other)


def test_answers_are_one_short_sentence() -> None:
    for answer in (record["answer"] for record in TEST):
        assert answer.endswith(".") and "!" not in answer and len(answer.split()) <= 30, answer
        assert len(re.findall(r"[.?](?=\s|$)", answer)) == 1, answer


def test_questions_differ_across_splits_and_open_in_many_ways() -> None:
    asked = [record["question"] for record in TRAIN + TEST]
    assert len({" ".join(words(text)) for text in asked}) == len(asked)
    assert near_copies(asked, ["train"] * len(TRAIN) + ["test"] * len(TEST)) == []
    openings = Counter(" ".join(words(text)[:2]) for text in asked)
    assert openings.most_common(1)[0][1] <= 0.08 * len(asked), openings.most_common(1)


def test_the_files_load_as_a_learners_would() -> None:
    loaded = data.load_records(club.file("train"))
    assert [row["question"] for row in loaded] == [record["question"] for record in TRAIN]
    with pytest.raises(SettingError, match="use one of train, test"):
        club.records("validation")


def test_the_data_card_has_the_true_sizes() -> None:
    card = (Path(club.__path__[0]) / "README.md").read_text(encoding="utf-8")
    total = sum(len(text.split()) for text in DOCUMENTS.values())
    assert f"{len(DOCUMENTS)} documents, {total:,} words" in card
    assert f"| `pairs.csv` | {len(TRAIN)} |" in card and f"| `test.csv` | {len(TEST)} |" in card
    assert "CC BY 4.0" in card
