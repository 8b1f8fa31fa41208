"""The invented company's data: every fact findable, no wording leaks, natural language."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import ftfy
import pytest
from bs4 import BeautifulSoup
from datasketch import MinHash, MinHashLSH

from llmcourse import company, data
from llmcourse.errors import SettingError
from llmcourse.words import has_keys
from tests.conftest import ROOT

FACTS = company.records("facts")
QUESTIONS = company.records("questions")
BY_ID = {fact["id"]: fact for fact in FACTS}
CHOICES = company.records("choices")
ASKED_SETS = ("questions", "paraphrases", "off_topic", "two_facts", "choices")
TASK_SETS = ("extraction", "expansion", "seed_tasks")


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def grams(text: str, n: int = 3) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)} or {tuple(found)}


def near_copies(texts: list[str], splits: list[str]) -> list[tuple[str, str]]:
    """Pairs of texts in different splits that share half or more of their word 3-grams.

    MinHash finds them, with weights that rather propose a pair too many; each is then counted out.
    """
    sets = [grams(text) for text in texts]
    runs = ([" ".join(gram).encode() for gram in found] for found in sets)
    index = MinHashLSH(threshold=0.5, num_perm=256, weights=(0.1, 0.9))
    pairs = []
    for place, hashes in enumerate(MinHash.generator(runs, num_perm=256, seed=1)):
        for other in index.query(hashes):
            shared = len(sets[place] & sets[other]) / len(sets[place] | sets[other])
            if splits[place] != splits[other] and shared >= 0.5:
                pairs.append((texts[other], texts[place]))
        index.insert(place, hashes)
    return pairs


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
        assert has_keys(section, first_forms), fact["id"]
        assert has_keys(fact["fact"], fact["keys"]), fact["id"]


def test_every_document_is_used() -> None:
    assert {fact["document"] for fact in FACTS} == set(company.documents())


def test_answers_hold_the_keys_and_questions_do_not() -> None:
    for record in QUESTIONS:
        keys = BY_ID[record["fact"]]["keys"]
        assert has_keys(record["answer"], keys), record["id"]
        for key in keys:
            assert not has_keys(record["question"], [key]), record["id"]


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


def test_paraphrases_ask_for_their_fact_without_naming_it() -> None:
    records = company.records("paraphrases")
    kinds = defaultdict(set)
    for record in records:
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
    openings = Counter(" ".join(words(record["question"])[:2]) for record in records)
    assert openings.most_common(1)[0][1] <= 0.12 * len(records)


def test_no_question_stands_twice() -> None:
    for name in ASKED_SETS:
        counts = Counter(" ".join(words(record["question"])) for record in company.records(name))
        assert counts.most_common(1)[0][1] == 1, counts.most_common(1)


def test_questions_open_in_many_ways() -> None:
    """Natural language, not a template filled in: no opening of two words in over 6 %."""
    openings = Counter(" ".join(words(record["question"])[:2]) for record in QUESTIONS)
    opening, count = openings.most_common(1)[0]
    assert count / len(QUESTIONS) <= 0.06, opening
    assert len(openings) >= 200


def test_near_copies_are_found() -> None:
    text = "How long does the kettle take to boil a full litre of water?"
    near = text.replace("full", "whole")
    assert near_copies([text, near, "Who are you?"], ["train", "test", "test"]) == [(text, near)]
    assert near_copies([text, near], ["train", "train"]) == []


def test_questions_are_no_near_copies_across_splits() -> None:
    """All splits of all that is asked, so that no set's test is another set's training."""
    records = [record for name in ASKED_SETS for record in company.records(name)]
    splits = [record["split"] for record in records]
    assert {"train", "validation", "test"} == set(splits)
    assert near_copies([record["question"] for record in records], splits) == []


def test_a_key_answers_only_its_own_kind_of_question() -> None:
    """Facts of one document differ in their keys, so that no answer is right by accident."""
    for document in company.documents():
        keys = [tuple(f["keys"]) for f in FACTS if f["document"] == document]
        assert len(keys) == len(set(keys)), document


def test_off_topic_answers_lead_back() -> None:
    for record in company.records("off_topic"):
        assert "Ferrowick" in record["answer"] and len(record["answer"].split()) <= 30
    assert Counter(r["split"] for r in company.records("off_topic")) == {
        "train": 36,
        "validation": 12,
        "test": 12,
    }


def test_two_fact_questions_need_both_facts() -> None:
    for record in company.records("two_facts"):
        first, second = (BY_ID[fact] for fact in record["facts"])
        assert first["id"] != second["id"]
        assert record["keys"] == first["keys"] + second["keys"]
        assert has_keys(record["answer"], record["keys"]), record["id"]


def test_one_option_alone_is_right() -> None:
    for record in CHOICES:
        keys = BY_ID[record["fact"]]["keys"]
        right = [has_keys(option, keys) for option in record["choices"]]
        assert right == [place == record["answer"] for place in range(4)], record["id"]
        assert len({" ".join(words(option)) for option in record["choices"]}) == 4, record["id"]
        for key in keys:
            assert not has_keys(record["question"], [key]), record["id"]


def test_choices_are_many_and_each_asks_another_fact() -> None:
    assert len(CHOICES) >= 48
    assert len({record["fact"] for record in CHOICES}) == len(CHOICES)
    assert len({BY_ID[record["fact"]]["document"] for record in CHOICES}) >= 20
    assert {record["split"] for record in CHOICES} == {"test"}


def test_choices_are_asked_in_words_of_their_own() -> None:
    asked = [record["question"] for record in (*CHOICES, *QUESTIONS)]
    sets = ["choices"] * len(CHOICES) + ["questions"] * len(QUESTIONS)
    assert near_copies(asked, sets) == []


def figure(option: str) -> float:
    return float(re.search(r"\d[\d.:]*", option)[0].replace(":", "."))


def test_no_rule_that_knows_nothing_finds_the_right_option() -> None:
    """Each place is right equally often, and neither length nor size gives the answer away."""
    assert Counter(r["answer"] for r in CHOICES) == dict.fromkeys(range(4), len(CHOICES) // 4)
    numbers = [r for r in CHOICES if all(re.search(r"\d", option) for option in r["choices"])]
    assert len(numbers) >= 12
    for records, measure, sign in (
        (CHOICES, len, 1),
        (CHOICES, len, -1),
        (numbers, figure, 1),
        (numbers, figure, -1),
    ):
        rule = [max(range(4), key=lambda i: sign * measure(r["choices"][i])) for r in records]
        right = sum(place == r["answer"] for place, r in zip(rule, records, strict=True))
        assert right <= 0.4 * len(records), (measure, sign, right)
    for record in CHOICES:
        lengths = [len(option) for option in record["choices"]]
        assert max(lengths) <= 1.7 * min(lengths) + 2, record["id"]


def test_reading_tasks_have_their_answers_in_the_text() -> None:
    for record in company.records("extraction"):
        if record["task"] == "sentiment":
            assert record["answer"] in {"positive", "negative", "neutral"}
            continue
        for piece in record["answer"].split(", "):
            assert piece.lower() in record["input"].lower(), record
        if record["task"] == "keywords":
            assert len(set(record["answer"].split(", "))) == 3, record
        else:
            assert re.fullmatch(r"FW-\d{5}-[A-Z]", record["answer"]), record


def test_each_split_of_the_tasks_is_large_enough() -> None:
    def sizes(name: str, split: str, field: str = "task") -> Counter:
        return Counter(record[field] for record in company.records(name, split))

    for name, train, validation, test, kinds in (
        ("extraction", 28, 6, 8, {"keywords", "sentiment", "order-number"}),
        ("expansion", 24, 6, 12, {"reply", "announcement"}),
    ):
        assert sizes(name, "train").total() >= train
        assert sizes(name, "validation").total() >= validation
        for split in ("train", "validation", "test"):
            assert set(sizes(name, split)) == kinds
        assert min(sizes(name, "test").values()) >= test
    labels = Counter(r["answer"] for r in company.records("extraction", "test"))
    assert len({labels[label] for label in ("positive", "negative", "neutral")}) == 1, labels
    kinds = sizes("seed_tasks", "train", "kind")
    assert kinds.total() >= 72 and len(kinds) >= 16 and min(kinds.values()) >= 4
    tested = sizes("seed_tasks", "test", "kind")
    assert tested.total() >= 24 and set(tested) == set(kinds) and min(tested.values()) >= 2
    assert sizes("seed_tasks", "held-out", "kind") == {"code": 12, "compare": 12}


@pytest.mark.parametrize("name", TASK_SETS)
def test_tasks_are_no_near_copies_across_splits(name: str) -> None:
    """As with the questions: 3-grams of instruction and input, and of a longer input by itself."""
    records = company.records(name)
    asked = [" ".join(words(f"{r['instruction']} {r['input']}")) for r in records]
    assert len(set(asked)) == len(asked)
    assert len({r["instruction"] for r in records}) == len(records)
    assert near_copies(asked, [record["split"] for record in records]) == []
    long = [record for record in records if len(words(record["input"])) >= 6]
    assert near_copies([r["input"] for r in long], [r["split"] for r in long]) == []


def test_conversations_are_turns_in_order() -> None:
    records = company.records("conversations")
    assert len(records) >= 40
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2) and len(turns) >= 4, record["id"]
    prompts = {record["messages"][0]["content"] for record in records}
    assert len(prompts) >= 10
    asked = [" ".join(m["content"] for m in r["messages"] if m["role"] == "user") for r in records]
    assert near_copies(asked, [record["split"] for record in records]) == []


FIELDS = {
    "product": {*("Ambra", "Corvo", "Hearthling", "Linnet", "Pellow", "Sable", "Toller", "Wren")},
    "problem": {"late", "damaged", "faulty", "wrong item", "missing part", "billing"},
    "urgency": {"high", "low"},
    "request": {
        *("refund", "replacement", "repair", "spare part", "cancel", "change", "information")
    },
}


def test_messages_fill_the_schema_and_every_value_is_trained_and_tested() -> None:
    for split in ("train", "test"):
        records = company.records("messages", split)
        assert len(records) >= 100
        for field, values in FIELDS.items():
            assert {record[field] for record in records} == values | {None}, (split, field)


def test_an_order_in_the_record_is_one_that_the_customer_typed() -> None:
    records = [record for record in company.records("messages") if record["order"]]
    assert len({record["order"] for record in records}) == len(records)
    for record in records:
        assert re.fullmatch(r"FW-\d{5}-[A-Z]", record["order"]), record["id"]
        typed = re.sub(r"\W", "", record["message"]).upper()
        assert record["order"][3:8] in typed, record["id"]


def test_messages_are_no_template_filled_in() -> None:
    records = company.records("messages")
    texts, splits = zip(*((r["message"], r["split"]) for r in records), strict=True)
    assert near_copies(list(texts), list(splits)) == []
    openings = Counter(" ".join(words(text)[:2]) for text in texts)
    assert openings.most_common(1)[0][1] <= 0.04 * len(texts), openings.most_common(1)
    several = [text for text in texts if len(set(re.findall(r"FW-\d{5}-[A-Z]", text))) > 1]
    assert len(several) >= 10  # the first number found is not always the right one


def test_seed_tasks_open_in_many_ways() -> None:
    train = company.records("seed_tasks", "train")
    openings = Counter(" ".join(words(record["instruction"])[:2]) for record in train)
    opening, count = openings.most_common(1)[0]
    assert count <= 0.06 * len(train), opening
    assert len(openings) >= 0.6 * len(train)


def test_written_answers_keep_the_house_style_and_the_figures() -> None:
    for record in company.records("expansion"):
        answer = record["answer"]
        assert "!" not in answer and answer.endswith((".", "?")), record
        assert 2 <= len(re.findall(r"[.?](?=\s|$)", answer)) <= 5, record
        assert 25 <= len(answer.split()) <= 80, record
        given, told = (set(re.findall(r"\d+", text)) for text in (record["input"], answer))
        assert told <= given, record  # no figure is invented,
        if record["task"] == "announcement" or "Staff note:" in record["input"]:
            assert told == given, record  # and none is left out


def test_seed_answers_are_short_plain_and_finished() -> None:
    for record in company.records("seed_tasks"):
        answer = record["answer"]
        assert answer == answer.strip() and len(answer.split()) <= 70, record
        if record["kind"] == "code":
            continue
        assert not re.search(r"[*#`_]|https?:", answer), record
        assert len(answer.split()) >= 8, record
        if record["kind"] not in ("list", "e-mail", "translate-style"):  # may end with a name
            assert re.search(r"[.?!][\")]?$", answer), record


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


PAGES = {
    "ambra-kettle.html": ("products/ambra-kettle.md", "manuals/ambra-kettle-manual.md"),
    "news.html": ("faq.md", "release-notes/latch-app-5.md"),
    "returns.html": ("policies/returns.md",),
}


def test_web_pages_tell_the_documents_facts() -> None:
    documents = "\n".join(company.documents().values())
    assert list(company.web_pages()) == list(PAGES)
    for name, page in company.web_pages().items():
        soup = BeautifulSoup(ftfy.fix_text(page, unescape_html=False), "html.parser")
        text = soup.article.get_text(" ", strip=True)
        assert 120 <= len(text.split()) <= 250, name
        facts = [fact for fact in FACTS if fact["document"] in PAGES[name]]
        assert sum(has_keys(text, fact["keys"]) for fact in facts) >= 8, name
        for figure in re.findall(r"\d[\d.,]*\d|\d", text):
            assert re.search(rf"(?<!\d){re.escape(figure)}(?!\d)", documents), (name, figure)


def test_web_pages_are_as_dirty_as_a_scraper_leaves_them() -> None:
    pages = company.web_pages()
    passages = data.from_documents(Path(company.__path__[0]) / "web")
    lines = defaultdict(set)
    for passage in passages:
        lines[passage.document].update(filter(None, passage.text.splitlines()))
    assert len(set.intersection(*lines.values())) >= 5  # boilerplate
    for name, page in pages.items():
        assert 3000 <= len(page.encode()) <= 6000, name
        soup = BeautifulSoup(page, "html.parser")
        assert soup.head.style and soup.nav and soup.footer
        assert soup.select_one(".cookie") and soup.select_one(".ad")
        assert len(soup.select("script")) >= 3, name
        json.loads(soup.find("script", type="application/ld+json").string)
        for host in re.findall(r"(?://|\w@)([\w.-]+)", page):
            assert host.endswith(".example"), (name, host)
        assert not re.search(r"www\.|\.com\b", page), name
        text = " ".join(lines[name])
        assert "cookies" in text and "All rights reserved" in text and "Advertisement" in text
        assert "tally.push" not in text and "schema.example" not in text and "Basket" not in text
    wrong = [name for name, page in pages.items() if re.search("â€|Â|Ã", page)]
    assert wrong == ["ambra-kettle.html"]
    assert "76 Â°C" in pages[wrong[0]]


@pytest.mark.parametrize("options", [("fax",), ("facts", "exam")])
def test_unknown_sets_and_splits_list_what_there_is(options: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="There are: "):
        company.records(*options)


def test_the_data_card_tells_the_true_sizes() -> None:
    card = company.__path__[0] + "/README.md"
    with open(card, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    for name in company.SETS:
        row = re.search(rf"^\| `{name}` \| (\d+) \| (.+?) \|", text, flags=re.M)
        records = company.records(name)
        splits = Counter(record.get("split", "all") for record in records)
        assert row and int(row[1]) == len(records), name
        assert row[2] == ", ".join(f"{n} {split}" for split, n in splits.items()), name
    for page in company.web_pages():
        assert f"`{page}`" in text
    assert f"{len(company.documents())} documents" in text
