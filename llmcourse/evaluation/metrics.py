"""What is measured: in one answer, its kinds of mistakes, and how surprised a model is by a text.

An answer's metrics and kinds of mistakes follow from rules that can be read. The kinds are those
one looks for first: misspelt words, answers that are too long or repeat themselves, and what is
worse, answers that are off-topic or state a wrong fact. A rule is coarse. So read some answers of
each kind, and let a second person label them (`agreement`).
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse import encoding
from llmcourse.errors import DataError, one_of
from llmcourse.generation import Answer, check_loaded, reading
from llmcourse.models import LoadedModel
from llmcourse.stats import Score
from llmcourse.words import (
    chrf,
    content_words,
    has_keys,
    normalised,
    refuses,
    repeated_ngrams,
    token_f1,
)


@dataclass(frozen=True)
class Metric:
    """One way to measure an answer.

    Attributes:
        text: What the number says, with its unit and range.
        measure: Takes the answer, the reference answer and the record's keys.
        needs: What a record must have for it: "answer", "keys" or nothing.
        better: "high", "low", or "" where neither is better.
    """

    text: str
    measure: Callable[[Answer, str, list[str]], float]
    needs: str = "answer"
    better: str = "high"

    @property
    def failed(self) -> float:
        """What a record counts that could not be answered: 0, or NaN, which leaves it out.

        A method must not gain by failing, so no answer is a wrong answer. But no answer has
        neither length nor repetitions, so there it is left out.
        """
        return 0.0 if self.better == "high" else math.nan


# From strict to lenient, then what needs no reference. Look at several: a right answer in other
# words scores low in most of them, and a wrong one in the right words high in F1 and chrF.
METRICS: dict[str, Metric] = {
    "exact": Metric(
        "the same as the reference, character for character (0 or 1)",
        lambda answer, reference, _: answer.text.strip() == reference.strip(),
    ),
    "normalised": Metric(
        "the same but for case, articles, blanks, punctuation and signs: -5 is 5 (0 or 1)",
        lambda answer, reference, _: normalised(answer.text, reference),
    ),
    "facts": Metric(
        "contains every key of the fact (0 or 1)",
        lambda answer, _, keys: has_keys(answer.text, keys),
        needs="keys",
    ),
    "f1": Metric(
        "words in common with the reference (F1, 0 to 1)",
        lambda answer, reference, _: token_f1(answer.text, reference),
    ),
    "chrf": Metric(
        "letters in common with the reference (chrF, 0 to 100)",
        lambda answer, reference, _: chrf(answer.text, reference),
    ),
    "finished": Metric("ended by itself (0 or 1)", lambda answer, *_: answer.finished, needs=""),
    "repeated_ngrams": Metric(
        "share of its 4-grams that occurred earlier in it (0 to 1)",
        lambda answer, *_: repeated_ngrams(answer.text),
        needs="",
        better="low",
    ),
    "tokens": Metric("tokens written", lambda answer, *_: answer.new_tokens, needs="", better=""),
}


def keys_of(record: Mapping[str, Any]) -> list[str]:
    """The keys that a right answer contains; none where the record has none.

    They are in the record's field `keys`: a list, its JSON as the door keeps it, or texts separated
    by ";", as in a CSV file. "a|b" is a key with two forms, one of which is enough.

    Raises:
        DataError: the field holds something else.
    """
    keys = text = record.get("keys") or []
    if isinstance(text, str):
        try:
            keys = json.loads(text) if text.lstrip().startswith("[") else text.split(";")
        except ValueError:  # the opening bracket belongs to the key itself
            keys = text.split(";")
    if not isinstance(keys, Iterable) or not all(isinstance(key, str) for key in keys):
        raise DataError(f"keys must be a list of texts, not {keys!r:.60}.")
    return [key.strip() for key in keys if key.strip()]


def choose(
    metrics: Sequence[str] | str | None, references: Sequence[str], keys: Sequence[list[str]]
) -> list[str]:
    """The metrics to measure: those named, or all that apply.

    Raises:
        SettingError: one is unknown, or none is named.
        DataError: a record lacks what one needs.
    """
    has = {"": True, "answer": all(map(str.strip, references)), "keys": all(keys)}
    if metrics is None:
        return [name for name, metric in METRICS.items() if has[metric.needs]]
    names = [metrics] if isinstance(metrics, str) else list(dict.fromkeys(metrics))
    for name in names or [""]:
        needs = METRICS[one_of("metric", name, METRICS)].needs
        if not has[needs]:
            raise DataError(f"The metric {name!r} needs the field {needs!r} in every record.")
    return names


# Both, as twice a reference of three words is no long answer.
LONGER = 2.0  # times as many words as the reference, and
MORE_WORDS = 10  # so many more, make an answer too long

# Worst first: the first that applies is the main one.
KINDS: dict[str, str] = {
    "empty": "no word at all",
    "refused": "says that it can't or won't answer",
    "off-topic": "no content word of the question or of the reference answer",
    "wrong fact": "not all keys of the fact, and neither refused nor off-topic",
    "repetitive": "over a fifth of its 3-grams occurred earlier in it",
    "unfinished": "cut off by the limit",
    "too long": "over twice the reference's words, and over 10 more",
    "misspelling": "a word that neither a dictionary nor the known texts have, with a "
    "dictionary word one letter away",
}


def label(answer: Answer, record: Mapping[str, Any], known: str = "") -> list[str]:
    """The kinds of mistakes in an answer, worst first; none where nothing is wrong by the rules.

    Args:
        answer: From `generation.generate`.
        record: Its question, reference answer and, where it has them, keys (see `keys_of`). A
            rule that needs what the record lacks is not applied.
        known: Text whose words are spelt right, besides the record's own: names and terms of
            the subject.
    """
    text = answer.text.strip()
    # Without a word no other rule says anything.
    if not re.search(r"\w", text):
        return ["empty"]
    question, extra, reference = (
        record.get(name) or "" for name in ("question", "input", "answer")
    )
    expected = f"{question} {extra} {reference}"
    keys = keys_of(record)
    right = bool(keys) and has_keys(text, keys)
    content = content_words(text)
    unrelated = bool(content) and not content & content_words(expected)
    count, usual = len(text.split()), len(reference.split())
    applies = {  # in the order of KINDS
        "refused": refuses(text),
        "off-topic": reference and not right and not normalised(text, reference) and unrelated,
        "wrong fact": keys and not right,
        "repetitive": repeated_ngrams(text, 3) > 0.2,
        "unfinished": not answer.finished,
        "too long": reference and count > LONGER * usual and count > usual + MORE_WORDS,
        "misspelling": misspelt(text, known) - _words(expected.lower()),
    }
    kinds = [kind for kind, holds in applies.items() if holds]
    # An answer that refuses is not off-topic, and one of both states no wrong fact.
    exclusive = [kind for kind in kinds if kind in ("refused", "off-topic", "wrong fact")]
    return [kind for kind in kinds if kind not in exclusive[1:]]


def misspelt(text: str, known: str = "") -> set[str]:
    """The words of `text` that look misspelt, in English.

    A word counts where neither the dictionary of pyspellchecker nor `known` has it, and a word of
    the dictionary is one letter away (Norvig's edit distance). Names and words with digits don't
    count: there is nothing to check their spelling by.
    """
    dictionary, words = _dictionary(), _words(text)
    # (its words are American: "colour", "metres", "organised")
    unknown = {w for w in dictionary.unknown(words) if not dictionary.known([_american(w)])}
    if len(words) > 5 and 2 * len(unknown) > len(words):
        return set()  # another language
    return {
        word
        for word in unknown - _known_words(known)
        if dictionary.known(dictionary.edit_distance_1(word))
    }


def _american(word: str) -> str:
    """A British word as Americans write it."""
    for british, american in (
        (r"our", "or"),
        (r"(?<=[bt])re(s?)$", r"er\1"),
        (r"ys(?=e|ing)", "yz"),
    ):
        word = re.sub(british, american, word)
    return re.sub(r"is(?=e[ds]?$|ing$|ations?$)", "iz", word)


def _words(text: str) -> set[str]:
    """Lower-case words of four letters and more, except names: what begins with a capital."""
    # Short words are one letter away from too many others to tell a slip from a name.
    words = set(re.findall(r"(?<![\w'’-])[a-z]{4,}(?![\w'’-])", text))
    return words | {first.lower() for first in re.findall(r"(?:^|[.!?]\s+)([A-Z][a-z]{3,})", text)}


@functools.lru_cache(maxsize=8)
def _known_words(text: str) -> set[str]:
    """The words of a text that every answer of a test set is compared with: read once."""
    return _words(text.lower())


@functools.cache
def _dictionary() -> Any:
    from spellchecker import SpellChecker

    return SpellChecker(language="en", distance=1)


def counted(labels: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many answers have each kind of mistake, the most frequent first; none left out."""
    every = [kind for kinds in labels for kind in kinds]
    # Sorting is stable: kinds that are as frequent stay in the order of KINDS, the worst first.
    counts = Counter(sorted(every, key=list(KINDS).index))
    return dict(counts.most_common())


Loss = tuple[float, int]  # nats of all tokens, and how many tokens


def record_losses(
    model: LoadedModel,
    records: Sequence[Mapping[str, Any]],
    template: str | None = None,
) -> list[Loss | None]:
    """The summed loss (nats) and the tokens of each record's answer, its end token among them.

    A record of more than 1,024 tokens has no loss, but None.

    Args:
        model: From `models.load`, or a tuned one.
        records: With question and answer, or `text`, all of which then counts.
        template: The model's own if not given.

    Raises:
        DataError, TemplateError: see `encoding.encode`.
    """
    import torch

    from llmcourse.loss import completion_loss

    check_loaded(model)
    encoded = encoding.encode(
        records,
        model.tokenizer,
        template or model.template,
        max_length=min(1024, model.context_length),
        every_turn=False,
    )
    losses: list[Loss | None] = [None] * len(records)
    with torch.no_grad(), reading(model):
        # One record at a time, so that a loss does not depend on which others are in its batch.
        for row in encoded.dataset:
            ids, labels = (
                torch.tensor([row[name]], device=model.device) for name in ("input_ids", "labels")
            )
            count = int((labels[:, 1:] != encoding.UNTRAINED).sum())
            if count:
                losses[row["record"]] = completion_loss(model.model, ids, labels).item(), count
    return losses


def perplexity(model: LoadedModel, texts: Iterable[str]) -> Score:
    """The perplexity of `texts`: as if a model chose among so many words at each token.

    The exponential of the mean loss per token (Jelinek et al., 1977). The vocabulary matters: only
    models with the same tokenizer can be compared.

    Args:
        model: From `models.load`, or a tuned one.
        texts: Plain texts, each of at most 1,024 tokens.

    Raises:
        DataError: there are none, or one is blank or too long.
    """
    # A record with a text alone is all completion: every token but the first is counted.
    rows = [{"text": text} for text in ([texts] if isinstance(texts, str) else texts)]
    losses = record_losses(model, rows, "plain")
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses):
        raise DataError(
            f"Text {losses.index(None)} (counted from 0) is longer than 1,024 tokens or than the "
            f"model can read. Cut it into parts."
        )
    sums, counts = zip(*known, strict=True)
    import numpy

    return Score.of_ratio(sums, counts, numpy.exp)
