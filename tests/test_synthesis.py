"""The filters reject what they should and nothing else; both methods work with a real model."""

from __future__ import annotations

import pytest

from llmcourse import club, company, data, models, synthesis
from llmcourse.data import Passage
from llmcourse.errors import DataError
from llmcourse.generation import Answer
from llmcourse.synthesis import Pool, documents


def answer(text: str, *, finished: bool = True) -> Answer:
    return Answer("q", "q", text, finished, 1, 5, 0.0)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("What is the most extreme city? Explain in simple words.", ""),
        ("Don't lie.", "too short"),
        (" ".join(["Write"] + ["very"] * 45) + ".", "too long"),
        ("name three rivers in Europe.", "does not begin like a sentence"),
        ("Name three rivers in", "breaks off"),
        ("The best part of my job is lunch.", "is no task"),
        ("Fill the gap: the sky is ____.", "has a gap to fill in"),
        ("Describe the images below.", "asks for what text can't do"),
        ("Name an animal, then draw it.", "asks for what text can't do"),
        ("How many watts does the heating plate draw?", ""),
        ("Explain how to draw attention in a speech.", ""),
        ("Explain the geography of Spain.", ""),
        ("Say yes or no or yes or no or yes or no.", "repeats itself"),
    ],
)
def test_the_form_of_instructions(text: str, trouble: str) -> None:
    assert synthesis.instruction_trouble(text) == trouble


def test_next_to_no_seed_task_is_rejected_for_its_form() -> None:
    seeds = [task["instruction"] for task in company.records("seed_tasks")]
    wrong = [text for text in seeds if synthesis.instruction_trouble(text)]
    assert len(wrong) <= 0.1 * len(seeds), wrong


def test_the_form_of_answers() -> None:
    for text, trouble in (
        ("I can recommend the coast.", ""),
        ("  \n", "empty"),
        ("As an AI, I have none.", "refuses"),
        (" of all animals.", "goes on with the question"),
        ("Which animal do you mean?", "asks back"),
        ("The whale is big. " * 4, "repeats itself"),
        ("The largest animal.", "only repeats the question"),
    ):
        assert synthesis.answer_trouble(answer(text), "What is the largest animal?") == trouble
    cut = synthesis.answer_trouble(answer("The blue whale", finished=False), "Which is it?")
    assert cut == "not finished within the limit"


def test_groundedness_counts_words_and_forbids_other_numbers() -> None:
    passage = "At full heat the Toller takes 1,640 watts, which sockets carry."
    assert synthesis.groundedness("The Toller takes 1,640 watts.", passage) == 1
    assert synthesis.groundedness("The Toller takes 640 watts.", passage) == 0
    assert synthesis.groundedness("The Toller eats cheese.", passage) == pytest.approx(1 / 3)
    assert synthesis.groundedness("It is.", passage) == 0


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


def test_a_sentence_that_refers_comes_after_the_one_before_it() -> None:
    text = "The club lends a blue cap to each junior. It floats.\n\nThese come back in the autumn."
    assert synthesis.sentences(text) == [
        "The club lends a blue cap to each junior.",
        "The club lends a blue cap to each junior. It floats.",
    ]


@pytest.mark.parametrize(
    ("sentence", "beginnings"),
    [
        ("Everything is kept for 40 days.", ["How long"]),
        ("A full year costs an adult £184.", ["How much"]),
        ("The box holds four lanterns of tin.", ["How many lanterns"]),
        ("The book is read every evening at 9.20.", ["How often", "When"]),
        ("Two keys are kept behind the bar.", ["How many keys", "Where"]),
        ("Give the form to Mrs Orrin by hand.", ["Who"]),
        ("Tag the boat so that nobody takes it out.", ["Why"]),
        ("The lake looks gentle and is not.", []),
    ],
)
def test_a_question_begins_as_its_sentence_can_answer(sentence: str, beginnings: list[str]) -> None:
    assert documents._beginnings(sentence) == beginnings


@pytest.mark.parametrize(
    ("word", "question", "trouble"),
    [
        ("How long", "How long are lost gloves kept?", ""),
        ("How long", "How long are lost gloves", "breaks off"),
        ("How long", "How long is the lake of the next town?", "is not about the sentence"),
        ("How long", "How long are they kept as gloves?", "refers to something"),
        ("How long", "How long are lost gloves kept for 40 days?", "gives the answer away"),
        ("How long", "How long do lost gloves get kept by the steward?", "is much like another"),
        ("Where", "Where are lost gloves kept?", ""),
        ("Where", "Where is the steward?", "asks for another place"),
        ("Where", "Where are gloves kept in the trunk?", "asks for another place"),
    ],
)
def test_questions_that_can_not_be_used(word: str, question: str, trouble: str) -> None:
    passage = Passage("", "Gloves", "lost-property.md", 1)
    source = "Lost gloves are kept in the trunk for 40 days by the steward."
    pool = Pool(["How long do lost gloves get kept by the old steward?"])
    assert documents._trouble(question, word, passage, source, pool) == trouble


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


def test_a_question_must_lead_back_to_its_sentence(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = [
        Passage("The oven weighs 12 kilos without its stone.", "Weight", "oven.md", 1),
        Passage("The oven of the museum weighs 50 kilos with its stone.", "Room 2", "old.md", 1),
    ]

    def generate(_: object, prompts: list[str], *__: object, **___: object) -> list[Answer]:
        """About the second the model asks what the first says, with a next example after it."""
        ends = {"oven": " does the oven weigh?", "old": " without its stone weighs the oven?"}
        return [
            answer(f"{ends[prompt.split('Sentence (')[-1].split(',')[0]]}\n\nSentence")
            for prompt in prompts
        ]

    monkeypatch.setattr(documents, "generate", generate)
    monkeypatch.setattr(documents, "_beginnings", lambda _: ["How many kilos"])
    made = synthesis.questions_from_documents(passages, tiny, progress=False)
    assert [(r["question"], r["answer"], r["document"]) for r in made.records] == [
        ("How many kilos does the oven weigh?", passages[0].text, "oven.md")
    ]
    assert [r["reason"] for r in made.rejected] == ["does not lead back to the sentence"]


def test_what_is_too_long_for_the_model_is_rejected_and_the_rest_is_not_lost(
    tiny: models.LoadedModel,
) -> None:
    sentence = "The oven weighs 12 kilos without its stone."
    passages = [
        Passage(sentence, "Weight", "oven.md", 1),
        Passage(sentence, "Weight " * 500, "oven.md", 2),
    ]
    made = synthesis.questions_from_documents(passages, tiny, progress=False)
    reasons = [row["reason"] for row in made.rejected]
    assert len(reasons) == made.tried == 2 and reasons.count("is too long for the model") == 1
    assert made.reasons()[0]["stage"] == "question" and not made.records


def test_without_passages_or_seed_tasks_nothing_can_be_written(tiny: models.LoadedModel) -> None:
    with pytest.raises(DataError, match="no passages to ask about"):
        synthesis.questions_from_documents([], tiny)
    with pytest.raises(DataError, match="no sentence of 6 to 40 words"):
        synthesis.questions_from_documents([Passage("Too short.", "", "a", 1)], tiny)
    seeds = [{"instruction": f"Name river {n}.", "answer": "Po."} for n in range(3)]
    with pytest.raises(DataError, match="3 seed tasks .* too few for lists of 6"):
        synthesis.self_instruct(seeds, tiny, 4)


def test_questions_from_documents_with_a_model(base32: models.LoadedModel) -> None:
    passages = data.from_documents(club.folder())
    made = synthesis.questions_from_documents(passages, base32, limit=8, progress=False)
    assert made.tried == 8 and made.records
    texts = {passage.document: "" for passage in passages}
    for passage in passages:
        texts[passage.document] += " ".join(passage.text.replace("**", "").split())
    for record in made.records:
        assert record["question"].endswith("?") and record["heading"]
        assert record["answer"] in texts[record["document"]], "word for word"
