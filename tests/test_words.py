"""Text metrics see what they say they see."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import CHRF

from llmcourse.words import (
    chrf,
    content_words,
    continues_the_sentence,
    has_keys,
    is_question,
    normalised,
    numbers,
    refuses,
    repeated_ngrams,
    split_words,
    token_f1,
)


def test_words_and_numbers() -> None:
    text = "It’s 1,640 watts at 9:30; the well-known hobs aren't."
    assert split_words(text) == [
        "it’s",
        "1,640",
        "watts",
        "at",
        "9:30",
        "the",
        "well-known",
        "hobs",
        "aren't",
    ]
    assert content_words("The hobs and a hob") == {"hob"}
    assert numbers(text) == {"1,640", "9:30"}


def test_repeated_ngrams() -> None:
    assert repeated_ngrams("one two three four five") == 0
    assert repeated_ngrams("") == repeated_ngrams("a b") == 0
    assert repeated_ngrams("a b c d " * 10) == pytest.approx(1 - 4 / 37)
    assert repeated_ngrams("no " * 100) > 0.98
    assert repeated_ngrams("<start>" * 40) > 0.9  # a loop without spaces


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        (".", True),
        (" on a chair?", True),
        ("", True),
        ("\n\n", True),
        ("?", True),
        ("Training a dog", False),
        ("1. Bananas", False),
        ("\n\nMars is", False),
        ("“Hello”", False),
        ("* item", False),
    ],
)
def test_going_on_with_the_sentence(text: str, goes_on: bool) -> None:
    assert continues_the_sentence(text) is goes_on


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("\n\nWhat is the capital of France?\nParis", True),
        ("It is Mexico City.", False),
        ("Paris. And you?", False),
        ("", False),
    ],
)
def test_a_first_sentence_that_asks(text: str, asks: bool) -> None:
    assert is_question(text) is asks


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I don’t know.", True),
        ("I'm not sure how to answer that.", True),
        ("Unfortunately, I cannot say.", True),
        ("As a language model I have no kettle.", True),
        ("I am unable to tell.", True),
        ("I can recommend the coast.", False),
    ],
)
def test_refusals(text: str, refused: bool) -> None:
    assert refuses(text) is refused


def test_words_in_common_with_a_good_answer() -> None:
    assert token_f1("Squeak, hinge!", "hinge squeak") == 1
    assert token_f1("a lamp", "a kettle") == 0.5
    assert token_f1("no no no", "no") == pytest.approx(0.5)  # saying it three times is no gain
    assert token_f1("", "no") == token_f1("yes", "no") == 0


@pytest.mark.parametrize(
    ("text", "reference", "same"),
    [
        ("The kettle holds 1.5 litres.", "kettle holds 1.5 litres", True),
        ("A  KETTLE, an oven", "kettle oven", True),
        ("Kettle holds 1.6 litres", "kettle holds 1.5 litres", False),
        ("theatre", "atre", False),
        ("ﬁne", "fine", True),
        ("", "A", False),
        ("...", "the", False),
    ],
)
def test_normalised(text: str, reference: str, same: bool) -> None:
    assert normalised(text, reference) is same


def test_chrf_is_sacrebleus() -> None:
    pair = "The plate draws 45 watts.", "It draws 40 watts."
    assert chrf(*pair) == CHRF().sentence_score(pair[0], [pair[1]]).score
    assert chrf("same", "same") == pytest.approx(100)


def test_blanks_around_a_form_do_not_matter_and_an_empty_form_is_none() -> None:
    assert has_keys("It takes 14 days.", ["14 | fourteen"])
    assert not has_keys("It takes long.", ["14|"])


def test_keys_are_found_whole_only() -> None:
    assert has_keys("It takes 14 days.", ["14 days|fourteen days"])
    assert has_keys("It takes FOURTEEN\n days.", ["14 days|fourteen days"])
    assert not has_keys("It takes 140 days", ["14"])
    assert not has_keys("It weighs 3.14 kg", ["14"])
    assert not has_keys("1.355 litres", ["1.35"])
    assert has_keys("It holds 1.35 litres, in slate green.", ["1.35", "slate green"])
    assert not has_keys("It holds 1.35 litres.", ["1.35", "slate green"])
