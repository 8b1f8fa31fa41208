"""Text metrics and word splitting, without a model.

The rules are heuristics: they judge form, not truth. Where words matter, they are for English.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import regex  # knows scripts, and the marks that are parts of letters

# Function words, which say nothing about the content.
STOPWORDS = frozenset(
    """
    a about after an and are as at be been before but by can could did do does for from had
    has have he her his how i if in into is it its long many may much must my no not of on or
    our out over she should so than that the their them then there these they this those to up
    was we were what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 (a list would be far longer)
)
# A character of the scripts that put no blanks between words, with the marks on it.
UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
)
ENDS = "。！？।॥؟۔።"  # a sentence, in scripts that have marks of their own for that
_NUMBER = r"\d+(?:[.,:]\d+)*"  # 1,640 and 12.6 and 9:30 are one number each
_LETTERS = r"[\p{L}\p{M}]+"
_WORD = regex.compile(rf"{_NUMBER}|{UNSPACED.pattern}|{_LETTERS}(?:['’-]{_LETTERS})*")
_TOKEN = regex.compile(rf"{UNSPACED.pattern}|[\w\p{{M}}]+")
_TOKEN_OR_MARK = regex.compile(rf"{_TOKEN.pattern}|[^\w\s]")


def unified(text: str) -> str:
    """`text` in lower case and in one of the forms that Unicode has for it (NFKC)."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).lower()


# What may not stand around a key: a part of its word or number, a sign, the marks of "C++", "C#".
_BEFORE = r"(?<![\w\p{M}])(?<!\d[.,])(?<!(?:^|[\s(=<>])[-−](?=\d))"
_AFTER = r"(?![\w\p{M}#]|\+\+)(?![.,]\d)"

# --- words ---------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """The lower-case words and numbers of a text, without any marks around or between them.

    Of a script without blanks between words, such as Chinese or Thai, each character is one.

    `data` splits differently, to tell copies apart: there "C++" and "-5" keep their signs.
    """
    return _WORD.findall(unified(text))


def size(text: str) -> int:
    """About the number of words; each character of a script without blanks is one.

    A tokenizer makes about as many tokens of either.
    """
    if text.isascii():
        return sum(1 + len(word) // 40 for word in text.split())  # an address is no word
    return len(UNSPACED.findall(text)) + len(UNSPACED.sub(" ", text).split())


def content_words(text: str) -> set[str]:
    """Its words without articles, pronouns and other stop words, plural and singular as one."""
    return {
        word.removesuffix("s") if len(word) > 3 else word
        for word in split_words(text)
        if word not in STOPWORDS
    }


def numbers(text: str) -> set[str]:
    """The numbers in a text that are written in digits."""
    return set(re.findall(_NUMBER, text))


# --- one text ------------------------------------------------------------------------------------


def repeated_ngrams(text: str, n: int = 4) -> float:
    """Share of the `n`-grams in `text` that occurred earlier in it, from 0 to 1.

    Words and single punctuation marks are counted, so that a loop without spaces is seen too.
    0 means that no `n`-gram comes twice; texts shorter than `n` give 0. After the repetition
    measures in Holtzman et al., The Curious Case of Neural Text Degeneration (2020).
    """
    parts = _TOKEN_OR_MARK.findall(text)
    ngrams = [tuple(parts[start : start + n]) for start in range(len(parts) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def continues_the_sentence(text: str) -> bool:
    """True where `text` continues the prompt's last sentence instead of answering it.

    An answer opens a sentence of its own, so its first character is a capital, a digit, a list
    mark or a quotation mark; a continuation opens with a small letter, with punctuation that
    closes the sentence before, or is empty.
    """
    opening = text.lstrip(" \n\t")[:1]
    return not opening or opening.islower() or opening in ".,;:?!)…"


def is_question(text: str) -> bool:
    """True where the first sentence of `text` is a question."""
    first = re.match(rf"\s*[^.!?{ENDS}\n]*[.!?{ENDS}]?", text)
    return first is not None and first[0].endswith(("?", "？", "؟"))


def refuses(text: str) -> bool:
    """True where an answer begins by saying that it can't or won't answer, or isn't sure.

    Doubts that come later in the answer are not seen.
    """
    start = (
        r"(unfortunately, )?(i'm |i am )?((really|very|so) )?(sorry|not sure|unsure|unable to)\b"
        r"|(unfortunately, )?i (can't|cannot|(don't|do not) (know|have))\b"
        r"|as (an ai|a (large )?language model)\b"
    )
    return bool(re.match(start, text.strip().lower().replace("’", "'")))


def has_keys(text: str, keys: Sequence[str]) -> bool:
    """True where `text` contains every key; "a|b" is a key with two forms, one of which is enough.

    Case and runs of spaces do not matter. A key never counts inside a longer word or number:
    "14" is not in "140", "3.14" nor "-14", and "C" not in "C++".
    """
    text = " ".join(unified(text).split())

    def occurs(form: str) -> bool:
        # in a script without blanks, a key may stand between any two characters
        before = "" if UNSPACED.match(form) else _BEFORE
        after = "" if UNSPACED.match(form[-1]) else _AFTER
        return bool(regex.search(f"{before}{regex.escape(form)}{after}", text))

    forms = ([" ".join(one.split()) for one in unified(key).split("|")] for key in keys)
    return all(any(map(occurs, filter(None, key))) for key in forms)


# --- two texts -----------------------------------------------------------------------------------


def token_f1(text: str, reference: str) -> float:
    """Word overlap of `text` with a reference answer (F1), from 0 to 1.

    The harmonic mean of precision (words of `text` that are in the reference) and recall (words of
    the reference that are in `text`); order, case and punctuation do not matter. As in SQuAD
    (Rajpurkar et al., 2016), but articles count as well.
    """
    said, wanted = (Counter(_TOKEN.findall(unified(t))) for t in (text, reference))
    common = sum((said & wanted).values())
    return 2 * common / (said.total() + wanted.total()) if common else 0.0


def normalised(text: str, reference: str) -> bool:
    """True where the two are equal except for case, punctuation, articles and spaces.

    Signs count as punctuation: "-5" equals "5", and "C++" equals "C". `has_keys` tells them apart.

    The normalisation of SQuAD's scorer (Rajpurkar et al., 2016), with Unicode's compatibility
    forms made one (NFKC).
    """

    def bare(text: str) -> str:
        # (marks on letters stay: without them words of Hindi or Thai would be others)
        text = regex.sub(r"[^\w\s\p{M}]", "", unicodedata.normalize("NFKC", text).casefold())
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    one, other = bare(text), bare(reference)
    return one == other if one and other else text.strip() == reference.strip()


def chrf(text: str, reference: str) -> float:
    """Overlap in character n-grams of one to six, from 0 to 100.

    chrF2 (Popović, 2015) as sacrebleu computes it: recall counts twice; spaces do not count.
    """
    import sacrebleu

    return sacrebleu.sentence_chrf(text, [reference]).score
