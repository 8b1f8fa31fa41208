"""What can be measured in an answer, each metric for one record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse.errors import DataError, SettingError
from llmcourse.generation import Answer
from llmcourse.words import chrf, has_keys, normalised, repeated_ngrams, token_f1


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
        "the same but for case, punctuation, articles and blanks (0 or 1)",
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


def require_known(what: str, name: str, choices: Collection[str]) -> str:
    """`name`, which is one of `choices`.

    Raises:
        SettingError: it is not; the message lists them.
    """
    if name not in choices:
        raise SettingError(f"There is no {what} {name!r}. There are: {', '.join(choices)}.")
    return name


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
        needs = METRICS[require_known("metric", name, METRICS)].needs
        if not has[needs]:
            raise DataError(f"The metric {name!r} needs the field {needs!r} in every record.")
    return names
