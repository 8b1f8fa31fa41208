"""The invented company's data: every fact findable, no wording leaks, natural language."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from llmcourse import company
from llmcourse.company import desk
from llmcourse.errors import SettingError
from llmcourse.words import has_keys
from tests.conftest import ROOT

RECORDS = {name: company.records(name) for name in company.SETS}
FACTS, QUESTIONS, CHOICES = (RECORDS[name] for name in ("facts", "questions", "choices"))
BY_ID = {fact["id"]: fact for fact in FACTS}
ASKED_SETS = ("questions", "paraphrases", "off_topic", "two_facts", "untaught", "choices")


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def grams(text: str, n: int = 3) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)} or {tuple(found)}


def near_copies(texts: list[str], splits: list[str], share: float = 0.5) -> list[tuple[str, str]]:
    """Pairs of texts in different splits that share half (or `share`) or more of their 3-grams."""
    sets = [grams(text) for text in texts]
    holders = defaultdict(list)  # 3-gram -> the texts before that have it
    pairs = []
    for place, found in enumerate(sets):
        for other, shared in Counter(o for gram in found for o in holders[gram]).items():
            if splits[other] != splits[place] and shared >= share * len(sets[other] | found):
                pairs.append((texts[other], texts[place]))
        for gram in found:
            holders[gram].append(place)
    return pairs


def test_the_data_card_tells_the_true_sizes() -> None:
    text = (Path(company.__path__[0]) / "README.md").read_text(encoding="utf-8")
    for name, records in RECORDS.items():
        row = re.search(rf"^\| `{name}` \| (\d+) \| (.+?) \|", text, flags=re.M)
        splits = Counter(record.get("split", "all") for record in records)
        assert row and int(row[1]) == len(records), name
        assert row[2] == ", ".join(f"{n} {split}" for split, n in splits.items()), name
    assert all(f"`{page}`" in text for page in company.web_pages())
    assert f"{len(company.documents())} documents" in text


def test_each_fact_stands_under_its_heading() -> None:
    documents = {path: company.sections(text) for path, text in company.documents().items()}
    assert {fact["document"] for fact in FACTS} == set(documents)
    for fact in FACTS:
        section = documents[fact["document"]][fact["heading"]]
        first_forms = [key.split("|")[0] for key in fact["keys"]]
        assert has_keys(section, first_forms), fact["id"]
        assert has_keys(fact["fact"], fact["keys"]), fact["id"]
    for document in documents:  # no answer is right by accident
        keys = [tuple(f["keys"]) for f in FACTS if f["document"] == document]
        assert len(keys) == len(set(keys)), document


def test_answers_hold_the_keys_in_house_style_and_questions_do_not() -> None:
    splits = defaultdict(Counter)
    for record in QUESTIONS:
        keys = BY_ID[record["fact"]]["keys"]
        assert has_keys(record["answer"], keys), record["id"]
        assert not any(has_keys(record["question"], [key]) for key in keys), record["id"]
        assert len(record["answer"].split()) <= 30 and "!" not in record["answer"], record["id"]
        splits[record["fact"]][record["split"]] += 1
    assert set(splits) == set(BY_ID)
    assert all(split == {"train": 3, "validation": 1, "test": 1} for split in splits.values())


def test_paraphrases_ask_for_their_fact_without_naming_it() -> None:
    kinds = defaultdict(set)
    for record in RECORDS["paraphrases"]:
        kinds[record["kind"]].add(record["fact"])
        keys = record.get("keys") or BY_ID[record["fact"]]["keys"]
        assert not any(has_keys(record["question"], [key]) for key in keys), record["id"]
        if record["kind"] == "reverse":  # it asks for the thing of which the fact speaks
            fact = BY_ID[record["fact"]]["fact"].lower()
            assert any(form.lower() in fact for form in keys[0].split("|")), record["id"]
        else:
            assert has_keys(record["answer"], keys), record["id"]
    assert kinds["natural"] == set(BY_ID)
    assert kinds["more"] == kinds["untrained"] == kinds["reverse"] and len(kinds["more"]) >= 100


def test_nothing_asked_stands_twice_or_nearly_so_in_another_split() -> None:
    """All splits of all that is asked, so that no set's test is another set's training."""
    records = [record for name in ASKED_SETS for record in RECORDS[name]]
    questions = [record["question"] for record in records]
    assert near_copies(questions, [record["split"] for record in records]) == []
    for name in ASKED_SETS:
        asked = [" ".join(words(record["question"])) for record in RECORDS[name]]
        assert len(set(asked)) == len(asked), name


def test_one_option_alone_is_right() -> None:
    for record in CHOICES:
        keys = BY_ID[record["fact"]]["keys"]
        right = [has_keys(option, keys) for option in record["choices"]]
        assert right == [place == record["answer"] for place in range(4)], record["id"]
        assert len({" ".join(words(option)) for option in record["choices"]}) == 4, record["id"]
        assert not any(has_keys(record["question"], [key]) for key in keys), record["id"]
    assert len({record["fact"] for record in CHOICES}) == len(CHOICES)
    asked = [record["question"] for record in (*CHOICES, *QUESTIONS)]
    assert near_copies(asked, ["choices"] * len(CHOICES) + ["questions"] * len(QUESTIONS)) == []


@pytest.mark.parametrize("name", ["extraction", "expansion", "seed_tasks"])
def test_tasks_are_no_near_copies_across_splits(name: str) -> None:
    """As with the questions: 3-grams of instruction and input, and of a longer input by itself."""
    records = RECORDS[name]
    asked = [" ".join(words(f"{r['instruction']} {r['input']}")) for r in records]
    assert len({r["instruction"] for r in records}) == len(records)
    assert near_copies(asked, [record["split"] for record in records]) == []
    long = [record for record in records if len(words(record["input"])) >= 6]
    assert near_copies([r["input"] for r in long], [r["split"] for r in long]) == []


FIELDS = {
    "product": ["Ambra", "Corvo", "Hearthling", "Linnet", "Pellow", "Sable", "Toller", "Wren"],
    "problem": ["late", "damaged", "faulty", "wrong item", "missing part", "billing"],
    "urgency": ["high", "low"],
    "request": ["refund", "replacement", "repair", "spare part", "cancel", "change", "information"],
}
TYPED = re.compile(r"FW[ -]?\d{5}[ -]?[A-Z]", re.IGNORECASE)  # an order, as customers type it


def test_messages_fill_the_schema_and_name_their_order() -> None:
    for split in ("train", "test"):
        records = company.records("messages", split)
        for field, values in FIELDS.items():
            assert {record[field] for record in records} == {*values, None}, (split, field)
        # The first order is not always the right one, nor is it always typed as it is filed.
        orders = [(r["order"], TYPED.findall(r["message"])) for r in records if r["order"]]
        assert sum(len(typed) > 1 for _, typed in orders) >= 5
        assert sum(order not in typed for order, typed in orders) >= 5
    records = [record for record in RECORDS["messages"] if record["order"]]
    assert len({record["order"] for record in records}) == len(records)
    for record in records:
        assert re.fullmatch(r"FW-\d{5}-[A-Z]", record["order"]), record["id"]
        typed = re.sub(r"\W", "", record["message"]).upper()
        assert record["order"][3:8] in typed, record["id"]


def test_the_desk_scores_fields_and_its_rules_read_most_numbers_and_products() -> None:
    records = desk.records("test")
    wanted = [json.loads(r["answer"]) for r in records]
    read = [json.loads(desk.rules(r["question"])) for r in records]
    assert all(tuple(row) == desk.FIELDS for row in read + wanted)
    for name, least in {"order": 0.9, "product": 0.8}.items():
        same = [row[name] == right[name] for row, right in zip(read, wanted, strict=True)]
        assert least < sum(same) / len(same)
    right = wanted[0]
    perfect = {"valid": 1.0, "all right": 1.0, "fields right": 1.0}
    assert desk.scores(json.dumps(right), right) == perfect
    assert desk.scores(json.dumps(right | {"mood": 1}), right) == perfect | {"all right": 0.0}
    missing = {name: value for name, value in right.items() if name != "order"}
    assert desk.scores(json.dumps(missing), right) == {
        "valid": 1.0,
        "all right": 0.0,
        "fields right": 0.8,
    }
    for text in ("", "null", "[1]", f"Here it is: {json.dumps(right)}"):
        assert set(desk.scores(text, right).values()) == {0.0}
    assert desk.first_object(f"Here it is: {json.dumps(right)}.") == json.dumps(right)


def test_the_desks_prompt_has_the_schema_and_solved_training_messages() -> None:
    solved, message = desk.examples(), desk.records("test")[0]["question"]
    assert len(solved) == 5 and all(record in desk.records("train") for record in solved)
    answers = [json.loads(record["answer"]) for record in solved]
    missing = {name for answer in answers for name, value in answer.items() if value is None}
    assert missing == set(desk.FIELDS)  # each may be null, and the prompt shows it
    text = desk.prompt(message, solved)
    assert text.count("Message:") == 6 and text.endswith(f"Message: {message}\nJSON:")
    assert all(f'"{name}": ' in desk.SCHEMA for name in desk.FIELDS)
    assert all(f"JSON: {record['answer']}" in text for record in solved)


def test_messages_share_few_word_runs_with_each_other_and_with_the_tasks() -> None:
    records, test = RECORDS["messages"], company.records("messages", "test")
    texts = [record["message"] for record in records]
    assert near_copies(texts, [record["id"] for record in records], 0.08) == []
    others = [r["input"] for name in ("extraction", "expansion") for r in RECORDS[name]]
    for record in RECORDS["conversations"]:
        others.append(" ".join(m["content"] for m in record["messages"] if m["role"] == "user"))
    texts = [record["message"] for record in test]
    assert near_copies(texts + others, ["test"] * len(texts) + ["task"] * len(others), 0.08) == []
    # The second part may not give a test or validation message away: of that one's own 3-grams,
    # however few they are, no added training message has more than 8 %.
    added = [grams(record["message"]) for record in company.records("messages", "train")[100:]]
    for record in test + company.records("messages", "validation"):
        own = grams(record["message"])
        assert max(len(own & other) for other in added) <= 0.08 * len(own), record["id"]


def test_the_messy_copy_has_every_fault_and_is_made_by_its_script() -> None:
    spec = importlib.util.spec_from_file_location("messy", ROOT / "tools" / "messy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    messy = RECORDS["messy"]
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
    assert set(clean) <= {r["question"] for r in company.records("questions", "train")}


def test_nothing_real_is_named() -> None:
    for path, text in company.documents().items():
        assert not re.search(r"https?://|www\.|\.com\b", text), path
        assert all("@ferrowick.example" in address for address in re.findall(r"\S+@\S+", text)), (
            path
        )


@pytest.mark.parametrize("options", [("fax",), ("facts", "exam")])
def test_unknown_sets_and_splits_list_what_there_is(options: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="use one of "):
        company.records(*options)
