"""Text metrics see what they say they see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from llmcourse import words

TEXT = st.text(max_size=60)


def test_words_and_numbers() -> None:
    text = "It’s 1,640 watts at 9:30; the well-known hobs aren't."
    found = "it’s 1,640 watts at 9:30 the well-known hobs aren't"
    assert words.split_words(text) == found.split()
    assert words.content_words("The hobs and a hob") == {"hob"}
    assert words.numbers(text) == {"1,640", "9:30"}


def test_repeated_ngrams() -> None:
    assert words.repeated_ngrams("one two three four five") == words.repeated_ngrams("a b") == 0
    assert words.repeated_ngrams("a b c d " * 10) == pytest.approx(1 - 4 / 37)
    assert words.repeated_ngrams("<start>" * 40) > 0.9  # a loop without spaces


@pytest.mark.parametrize(
    ("rule", "true", "false"),
    [
        (
            words.continues_the_sentence,
            [".", " on a chair?", "", "\n\n", "?"],
            ["Training a dog", "1. Bananas", "\n\nMars is", "“Hello”", "* item"],
        ),
        (
            words.is_question,
            ["\n\nWhat is the capital of France?\nParis"],
            ["It is Mexico City.", "Paris. And you?", ""],
        ),
        (
            words.refuses,
            ["I don’t know.", "Unfortunately, I cannot say.", "As a language model I have none."],
            ["I can recommend the coast."],
        ),
    ],
)
def test_rules_about_one_text(
    rule: Callable[[str], bool], true: list[str], false: list[str]
) -> None:
    assert all(map(rule, true)) and not any(map(rule, false))


@given(TEXT, TEXT)
def test_metrics_of_two_texts_have_their_range_and_are_symmetric(one: str, other: str) -> None:
    assert 0 <= words.token_f1(one, other) == words.token_f1(other, one) <= 1
    assert words.normalised(one, one) and words.normalised(one, other) == words.normalised(
        other, one
    )


def test_words_in_common_with_a_good_answer() -> None:
    assert words.token_f1("Squeak, hinge!", "hinge squeak") == 1
    assert words.token_f1("no no no", "no") == 0.5  # saying it three times is no gain
    assert words.token_f1("", "no") == words.token_f1("yes", "no") == 0
    pair = "The plate draws 45 watts.", "It draws 40 watts."
    assert words.chrf(*pair) == CHRF().sentence_score(pair[0], [pair[1]]).score


@pytest.mark.parametrize(
    ("text", "reference", "same"),
    [
        ("The kettle holds 1.5 litres.", "kettle holds 1.5 litres", True),
        ("A  KETTLE, an oven", "kettle oven", True),
        ("Kettle holds 1.6 litres", "kettle holds 1.5 litres", False),
        ("theatre", "atre", False),
        ("ﬁne", "fine", True),
        ("...", "the", False),
    ],
)
def test_normalised(text: str, reference: str, same: bool) -> None:
    assert words.normalised(text, reference) is same


@pytest.mark.parametrize(
    ("text", "keys", "found"),
    [
        ("It takes FOURTEEN\n days.", ["14 days|fourteen days"], True),
        ("It takes 14 days.", ["14 | fourteen"], True),
        ("It takes long.", ["14|"], False),  # an empty form is none
        ("It takes 140 days", ["14"], False),
        ("It weighs 3.14 kg", ["14"], False),
        ("1.355 litres", ["1.35"], False),
        ("It holds 1.35 litres, in slate green.", ["1.35", "slate green"], True),
        ("It holds 1.35 litres.", ["1.35", "slate green"], False),
    ],
)
def test_keys_are_found_whole_only(text: str, keys: list[str], found: bool) -> None:
    assert words.has_keys(text, keys) is found
