"""The invented company's data: every fact findable, no wording leaks, natural language."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter, defaultdict

import pytest

from llmcourse import company
from llmcourse.errors import SettingError
from tests.conftest import ROOT

FACTS = company.records("facts")
QUESTIONS = company.records("questions")
BY_ID = {fact["id"]: fact for fact in FACTS}


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def grams(text: str, n: int = 3) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)} or {tuple(found)}


def test_there_is_enough_of_everything() -> None:
    assert len(company.documents()) >= 30
    assert len(FACTS) >= 240
    assert len(QUESTIONS) == 5 * len(FACTS) >= 1200
    assert {name: len(company.records(name)) >= 24 for name in company.SETS} == dict.fromkeys(
        company.SETS, True
    )


def test_each_fact_stands_under_its_heading() -> None:
    documents = {path: company.sections(text) for path, text in company.documents().items()}
    for fact in FACTS:
        section = documents[fact["document"]][fact["heading"]]
        first_forms = [key.split("|")[0] for key in fact["keys"]]
        assert company.has_keys(section, first_forms), fact["id"]
        assert company.has_keys(fact["fact"], fact["keys"]), fact["id"]


def test_every_document_is_used() -> None:
    assert {fact["document"] for fact in FACTS} == set(company.documents())


def test_answers_hold_the_keys_and_questions_do_not() -> None:
    for record in QUESTIONS:
        keys = BY_ID[record["fact"]]["keys"]
        assert company.has_keys(record["answer"], keys), record["id"]
        for key in keys:
            assert not company.has_keys(record["question"], [key]), record["id"]


def test_answers_keep_the_house_style() -> None:
    for record in QUESTIONS:
        assert len(record["answer"].split()) <= 30, record["id"]
        assert "!" not in record["answer"], record["id"]


def test_three_wordings_train_one_validates_one_tests() -> None:
    splits = defaultdict(Counter)
    for record in QUESTIONS:
        splits[record["fact"]][record["split"]] += 1
    assert set(splits) == set(BY_ID)
    assert all(split == {"train": 3, "validation": 1, "test": 1} for split in splits.values())


def test_no_question_stands_twice() -> None:
    for name in ("questions", "two_facts", "off_topic"):
        counts = Counter(" ".join(words(record["question"])) for record in company.records(name))
        assert counts.most_common(1)[0][1] == 1, counts.most_common(1)


def test_questions_open_in_many_ways() -> None:
    """Natural language, not a template filled in: no opening of two words in over 6 %."""
    openings = Counter(" ".join(words(record["question"])[:2]) for record in QUESTIONS)
    opening, count = openings.most_common(1)[0]
    assert count / len(QUESTIONS) <= 0.06, opening
    assert len(openings) >= 200


def test_test_questions_are_no_near_copies_of_training_questions() -> None:
    """Word 3-grams of each held-out question against every training and validation question."""
    seen = [(r, grams(r["question"])) for r in QUESTIONS if r["split"] != "test"]
    index = defaultdict(set)
    for number, (_, found) in enumerate(seen):
        for gram in found:
            index[gram].add(number)
    for record in QUESTIONS:
        if record["split"] != "test":
            continue
        own = grams(record["question"])
        for number in set().union(*(index[gram] for gram in own)):
            other = seen[number][1]
            overlap = len(own & other) / len(own | other)
            assert overlap < 0.5, (record["question"], seen[number][0]["question"])


def test_a_key_answers_only_its_own_kind_of_question() -> None:
    """Facts of one document differ in their keys, so that no answer is right by accident."""
    for document in company.documents():
        keys = [tuple(f["keys"]) for f in FACTS if f["document"] == document]
        assert len(keys) == len(set(keys)), document


def test_off_topic_answers_lead_back() -> None:
    for record in company.records("off_topic"):
        assert "Ferrowick" in record["answer"] and len(record["answer"].split()) <= 30
    assert Counter(r["split"] for r in company.records("off_topic")) == {
        "train": 36, "validation": 12, "test": 12
    }  # fmt: skip


def test_two_fact_questions_need_both_facts() -> None:
    for record in company.records("two_facts"):
        first, second = (BY_ID[fact] for fact in record["facts"])
        assert first["id"] != second["id"]
        assert record["keys"] == first["keys"] + second["keys"]
        assert company.has_keys(record["answer"], record["keys"]), record["id"]


def test_reading_tasks_have_their_answers_in_the_text() -> None:
    for record in company.records("extraction"):
        if record["task"] == "sentiment":
            assert record["answer"] in {"positive", "negative", "neutral"}
            continue
        for piece in record["answer"].split(", "):
            assert piece.lower() in record["input"].lower(), record
    assert len({r["task"] for r in company.records("extraction")}) == 3


def test_seed_tasks_hold_whole_kinds_out() -> None:
    seeds = company.records("seed_tasks")
    held = {r["kind"] for r in seeds if r["split"] == "held-out"}
    assert "code" in held
    assert not held & {r["kind"] for r in seeds if r["split"] != "held-out"}
    for record in seeds:
        if record["kind"] == "code":
            compile(record["answer"], "seed", "exec")


def test_the_messy_copy_has_every_fault_and_is_made_by_its_script() -> None:
    spec = importlib.util.spec_from_file_location("messy", ROOT / "tools" / "messy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    messy = company.records("messy")
    assert messy == script.make()
    counts = Counter(record["defect"] for record in messy)
    assert counts == dict.fromkeys(script.FAULTS, script.EACH) | {"": script.CLEAN}
    clean = {r["question"]: r["answer"] for r in messy if not r["defect"]}
    for record in messy:
        copy = clean.get(record["question"])
        if record["defect"] == "contradiction":
            assert copy and copy != record["answer"]
        if record["defect"] == "duplicate":
            assert copy == record["answer"]
        if record["defect"] in ("encoding", "html"):
            assert re.search(r"â€|<|&", record["answer"])
    train = {r["question"] for r in company.records("questions", "train")}
    assert set(clean) <= train


def test_nothing_real_is_named() -> None:
    for path, text in company.documents().items():
        assert not re.search(r"https?://|www\.|\.com\b", text), path
        for address in re.findall(r"\S+@\S+", text):
            assert "@ferrowick.example" in address, (path, address)


def test_keys_are_found_whole_only() -> None:
    assert company.has_keys("It takes 14 days.", ["14 days|fourteen days"])
    assert company.has_keys("It takes FOURTEEN\n days.", ["14 days|fourteen days"])
    assert not company.has_keys("It takes 140 days", ["14"])
    assert not company.has_keys("It weighs 3.14 kg", ["14"])
    assert not company.has_keys("1.355 litres", ["1.35"])
    assert company.has_keys("It holds 1.35 litres, in slate green.", ["1.35", "slate green"])
    assert not company.has_keys("It holds 1.35 litres.", ["1.35", "slate green"])


@pytest.mark.parametrize("options", [("fax",), ("facts", "exam")])
def test_unknown_sets_and_splits_list_what_there_is(options: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="There are: "):
        company.records(*options)


def test_the_data_card_tells_the_true_sizes() -> None:
    card = company.__path__[0] + "/README.md"
    with open(card, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    for name in company.SETS:
        row = re.search(rf"^\| `{name}` \| (\d+) \|", text, flags=re.M)
        assert row and int(row[1]) == len(company.records(name)), name
    assert f"{len(company.documents())} documents" in text
