"""The invented club's data: every fact findable, no wording leaks, natural language."""

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


def keys_of(record: dict[str, str]) -> list[str]:
    return record["keys"].split(";")


KEYS = {record["fact"]: keys_of(record) for record in TEST}


def test_the_documents_are_short_and_all_used() -> None:
    assert 8 <= len(DOCUMENTS) <= 10
    for name, text in DOCUMENTS.items():
        assert 120 <= len(text.split()) <= 250, name
    assert {record["document"] for record in TRAIN + TEST} == set(DOCUMENTS)
    assert len({p.document for p in data.from_documents(club.folder())}) == len(DOCUMENTS)


def test_two_wordings_of_each_fact_train_and_another_tests() -> None:
    assert len(KEYS) == len(TEST) == 40
    assert Counter(record["fact"] for record in TRAIN) == dict.fromkeys(KEYS, 2)


def test_each_fact_stands_under_its_heading() -> None:
    for record in TRAIN + TEST:
        section = company.sections(DOCUMENTS[record["document"]])[record["heading"]]
        forms = [key.split("|")[0] for key in KEYS[record["fact"]]]
        assert has_keys(section, forms), record["fact"]


def test_answers_hold_the_keys_and_questions_do_not() -> None:
    for record in TRAIN + TEST:
        keys = KEYS[record["fact"]]
        assert has_keys(record["answer"], keys), record
        for key in keys:
            assert not has_keys(record["question"], [key]), record


def test_a_fact_has_one_answer_and_no_other_facts_keys_within_a_document() -> None:
    answers = {record["fact"]: record["answer"] for record in TEST}
    assert len(set(answers.values())) == len(answers)
    for record in TRAIN:
        assert record["answer"] == answers[record["fact"]]
    places = {record["fact"]: record["document"] for record in TEST}
    for fact, keys in KEYS.items():
        for other, answer in answers.items():
            if other != fact and places[other] == places[fact]:
                assert not has_keys(answer, keys), (fact, other)


def test_answers_keep_the_style() -> None:
    for record in TEST:
        answer = record["answer"]
        assert answer.endswith(".") and "!" not in answer and len(answer.split()) <= 30, answer
        assert len(re.findall(r"[.?](?=\s|$)", answer)) == 1, answer


def test_questions_are_no_near_copies_across_splits() -> None:
    asked = [record["question"] for record in TRAIN + TEST]
    assert len({" ".join(words(text)) for text in asked}) == len(asked)
    assert near_copies(asked, ["train"] * len(TRAIN) + ["test"] * len(TEST)) == []


def test_questions_open_in_many_ways() -> None:
    openings = Counter(" ".join(words(r["question"])[:2]) for r in TRAIN + TEST)
    opening, count = openings.most_common(1)[0]
    assert count <= 0.08 * len(TRAIN + TEST), (opening, count)


def test_nothing_real_is_named() -> None:
    for name, text in DOCUMENTS.items():
        assert not re.search(r"https?://|www\.|\.com\b|@", text), name


def test_the_files_load_as_a_learners_would() -> None:
    loaded = data.load_records(club.file("train"))
    assert [row["question"] for row in loaded] == [record["question"] for record in TRAIN]
    assert isinstance(club.folder(), Path) and club.folder().is_dir()


def test_an_unknown_split_lists_what_there_is() -> None:
    with pytest.raises(SettingError, match="use one of train, test"):
        club.records("validation")


def test_the_data_card_tells_the_true_sizes() -> None:
    card = (Path(club.__path__[0]) / "README.md").read_text(encoding="utf-8")
    total = sum(len(text.split()) for text in DOCUMENTS.values())
    assert f"{len(DOCUMENTS)} documents, {total:,} words" in card
    assert f"| `pairs.csv` | {len(TRAIN)} |" in card and f"| `test.csv` | {len(TEST)} |" in card
    assert "CC BY 4.0" in card
