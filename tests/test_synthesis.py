"""The filters reject what they should and nothing else; both methods work with a real model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmcourse import company, data, generation, models, synthesis
from llmcourse.data import Passage
from llmcourse.errors import DataError, TemplateError
from llmcourse.generation import Answer
from llmcourse.synthesis import Pool, documents
from llmcourse.words import numbers

DOCUMENTS = Path(company.__path__[0]) / "documents"


def answer(text: str, *, finished: bool = True) -> Answer:
    return Answer("q", "q", text, finished, 1, 5, 0.0)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("Name three rivers in Europe.", ""),
        ("What is the most extreme city? Explain in simple words.", ""),
        ("100 grams are how many ounces?", ""),
        ("Don't lie.", "too short"),
        (" ".join(["Write"] + ["very"] * 45) + ".", "too long"),
        ("name three rivers in Europe.", "does not begin like a sentence"),
        ("Name three rivers in", "breaks off"),
        ("The best part of my job is lunch.", "is no task"),
        ("Fill the gap: the sky is ____.", "has a gap to fill in"),
        ("Describe the picture below.", "asks for what text can't do"),
        ("Describe the images below.", "asks for what text can't do"),
        ("Draw a cat on paper.", "asks for what text can't do"),
        ("Name an animal, then draw it.", "asks for what text can't do"),
        ("How many watts does the heating plate draw?", ""),
        ("Explain how to draw attention in a speech.", ""),
        ("Read the files on https://example.org.", "asks for what text can't do"),
        ("Explain the geography of Spain.", ""),
        ("Say yes or no or yes or no or yes or no.", "repeats itself"),
    ],
)
def test_the_form_of_instructions(text: str, trouble: str) -> None:
    assert synthesis.instruction_trouble(text) == trouble


def test_no_seed_task_and_no_company_question_is_rejected_for_its_form() -> None:
    seeds = [task["instruction"] for task in company.records("seed_tasks")]
    found = {text: synthesis.instruction_trouble(text) for text in seeds}
    wrong = {text: why for text, why in found.items() if why}
    assert len(wrong) <= 0.1 * len(seeds), wrong


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        (answer("The blue whale."), ""),
        (answer("I can recommend the coast."), ""),
        (answer("  \n"), "empty"),
        (answer("The blue whale", finished=False), "not finished within the limit"),
        (answer("I'm sorry, I can't help."), "refuses"),
        (answer("As an AI, I have none."), "refuses"),
        (answer(" of all animals."), "goes on with the question"),
        (answer("Which animal do you mean?"), "asks back"),
        (answer("The whale is big. " * 4), "repeats itself"),
        (answer("The largest animal."), "only repeats the question"),
    ],
)
def test_the_form_of_answers(given: Answer, trouble: str) -> None:
    assert synthesis.answer_trouble(given, "What is the largest animal?") == trouble


def test_groundedness_counts_words_and_forbids_other_numbers() -> None:
    passage = "At full heat the Toller takes 1,640 watts, which sockets carry."
    assert synthesis.groundedness("The Toller takes 1,640 watts.", passage) == 1
    assert synthesis.groundedness("The Toller takes 640 watts.", passage) == 0
    assert synthesis.groundedness("The Toller eats cheese.", passage) == pytest.approx(1 / 3)
    assert synthesis.groundedness("It is.", passage) == 0
    assert synthesis.groundedness("A socket carries it.", passage) == pytest.approx(0.5)


def test_the_pool_knows_near_copies() -> None:
    pool = Pool(["Name three rivers in Europe."])
    assert pool.has_like("name three rivers in europe")
    assert pool.has_like("Name three long rivers in Europe.")
    assert not pool.has_like("Which three rivers meet in Passau?")
    pool.add("Which three rivers meet in Passau?")
    assert pool.has_like("Which three rivers meet in Passau?")


def test_sentences_come_without_marks() -> None:
    text = "- **Weight.** The oven weighs 12.6 kg without its stone.\n- Short one.\n\nNo end, so it"
    assert synthesis.sentences(text) == ["The oven weighs 12.6 kg without its stone."]


def test_headings_become_plain_questions() -> None:
    passages = [
        Passage("The oven weighs 12.6 kg without its stone.", "Weight", "products/toller.md", 1),
        Passage("The oven weighs 12.6 kg without its stone.", "Weight", "products/toller.md", 2),
        Passage("Something stands here without any heading.", "", "notes.txt", 1),
        Passage("- too short", "List", "products/toller.md", 3),
    ]
    made = synthesis.questions_from_documents(passages)
    assert [r["question"] for r in made.records] == ["What does “toller” say about “Weight”?"]
    assert made.records[0]["answer"] == passages[0].text
    reasons = [r["reason"] for r in made.rejected]
    assert reasons == ["is much like another", "has no heading", "has no sentence"]
    assert made.tried == 4
    report = made.report()
    assert list(report["count"]) == [1, 1, 1, 1] and report["reason"][0] == "passed"


SENTENCE = "The oven weighs 12 kg without its stone."
PASSAGE = Passage(SENTENCE, "Weight", "oven.md", 1)
SEEDS = [{"instruction": f"Name the river that is number {n}."} for n in range(9)]


def stand_in(room: int) -> models.LoadedModel:
    """A model that reads and writes `room` tokens; a word is a token."""
    model = SimpleNamespace(
        config=SimpleNamespace(max_position_embeddings=room),
        get_input_embeddings=lambda: SimpleNamespace(num_embeddings=10),
    )
    tokenizer = type(
        "Tokenizer",
        (),
        {
            "eos_token_id": 9,
            "__call__": lambda self, texts, **_: SimpleNamespace(
                input_ids=[[1] * len(text.split()) for text in texts]
            ),
        },
    )
    return models.LoadedModel(model, tokenizer(), "stand-in", "plain")


def scripted(
    model: models.LoadedModel,
    prompts: list[str],
    template: str | None = None,
    *,
    max_new_tokens: int,
    **_: Any,
) -> list[Answer]:
    """Writes a good question, or repeats the passage; refuses what the real one refuses."""
    asking = template == "plain"
    for prompt in prompts:
        assert generation.fits(model, prompt, template, max_new_tokens=max_new_tokens)
    return [
        answer("How many kg weighs the oven without stone?" if asking else prompt.split("\n")[0])
        for prompt in prompts
    ]


@pytest.mark.parametrize(
    "long",
    [
        Passage(f"{SENTENCE} {'Heat. ' * 500}", "Weight", "oven.md", 2),  # nor answered from
        Passage(SENTENCE, "Weight " * 500, "oven.md", 3),  # nor asked about
        Passage(f"{SENTENCE} {'Heat. ' * 230}", "Weight", "oven.md", 4),  # no room for a question
    ],
    ids=["text", "heading", "barely"],
)
def test_a_passage_too_long_for_the_model_is_rejected_first_and_nothing_is_lost(
    long: Passage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "generate", scripted)
    made = synthesis.questions_from_documents(
        [long, PASSAGE, replace(long, text=f"{long.text} {SENTENCE}")], stand_in(300), limit=1
    )
    assert [record["source"] for record in made.records] == [SENTENCE]
    every = synthesis.questions_from_documents([long, PASSAGE], stand_in(300))
    assert [r["reason"] for r in every.rejected] == ["is too long for the model"]
    assert f"passage {long.number})" in every.rejected[0]["question"]
    assert every.rejected[0]["answer"] == long.text and len(every.records) == 1
    assert "is too long for the model" in list(every.report()["reason"])


def test_without_passages_or_seed_tasks_nothing_can_be_written() -> None:
    with pytest.raises(DataError, match="no passages to ask about"):
        synthesis.questions_from_documents([], stand_in(300))
    with pytest.raises(DataError, match="3 seed tasks .* too few for lists of 6"):
        synthesis.self_instruct(SEEDS[:3], stand_in(300), 4)
    with pytest.raises(TemplateError, match="no field 'question'"):
        synthesis.self_instruct([{"task": "Name a river."}] * 9, stand_in(300), 4)


def test_questions_from_documents_with_a_model(chat32: models.LoadedModel) -> None:
    passages = data.from_documents(DOCUMENTS)
    made = synthesis.questions_from_documents(passages, chat32, limit=16, progress=False)
    assert made.tried == 16 and made.records
    text = company.documents()
    for record in made.records:
        assert record["question"].endswith("?") and record["heading"]
        there = next(
            p.text
            for p in passages
            if p.document == record["document"]
            and record["source"].split()[0] in p.text
            and p.heading == record["heading"]
        )
        assert numbers(record["answer"]) <= numbers(text[record["document"]])
        assert synthesis.groundedness(record["answer"], text[record["document"]]) > 0.5, there
    again = [synthesis.questions_from_documents(passages, limit=16) for _ in range(2)]
    assert again[0].records == again[1].records  # the same sentences are chosen
    with pytest.raises(DataError, match="no sentence of 6 to 40 words"):
        synthesis.questions_from_documents([Passage("Too short.", "", "a", 1)], chat32)


def test_self_instruct_with_a_model(chat32: models.LoadedModel) -> None:
    seeds = company.records("seed_tasks", "train")
    made = synthesis.self_instruct(
        seeds, chat32, 10, rounds=1, progress=False, unwanted=lambda text: "What" in text
    )
    assert len(made.records) >= 5
    asked = [record["question"] for record in made.records]
    assert len(set(asked)) == len(asked)
    assert not set(asked) & {seed["instruction"] for seed in seeds}
    assert not any("What" in text or "Reply briefly" in text for text in asked)
    assert all(record["answer"] for record in made.records)
    reasons = {(r["stage"], r["reason"]) for r in made.rejected}
    assert ("instruction", "is of an unwanted kind") in reasons
    assert "per minute" in str(made)
