"""The invented club's data: every fact findable, no paraphrase leaks, natural language."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from llmcourse import club, company, data
from llmcourse.errors import SettingError
from llmcourse.words import has_keys
from tests.test_company import near_copies, words

TRAIN, TEST = club.records("train"), club.records("test")
DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in club.folder().glob("*.md")}


KEYS = {record["fact"]: record["keys"].split(";") for record in TEST}


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
