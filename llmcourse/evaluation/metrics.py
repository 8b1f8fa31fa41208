"""What can be measured in an answer, each for one record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        measure: Takes the answer, the reference answer and the record's keys; None for a metric
            that needs a pass of its own through the model ("loss", "perplexity").
        needs: What a record must have for it: "answer", "keys" or nothing.
        failed: What a record counts whose question could not be answered; None leaves it out.
        better: "high", "low", or "" where neither is better.
    """

    text: str
    measure: Callable[[Answer, str, list[str]], float] | None
    needs: str = ""
    failed: float | None = None
    better: str = "high"


METRICS: dict[str, Metric] = {
    "exact": Metric(
        "the same as the reference, character for character (0 or 1)",
        lambda answer, reference, _: answer.text.strip() == reference.strip(),
        needs="answer",
        failed=0.0,
    ),
    "normalised": Metric(
        "the same but for case, punctuation, articles and blanks (0 or 1)",
        lambda answer, reference, _: normalised(answer.text, reference),
        needs="answer",
        failed=0.0,
    ),
    "facts": Metric(
        "contains every key of the fact (0 or 1)",
        lambda answer, _, keys: has_keys(answer.text, keys),
        needs="keys",
        failed=0.0,
    ),
    "f1": Metric(
        "words in common with the reference (F1, 0 to 1)",
        lambda answer, reference, _: token_f1(answer.text, reference),
        needs="answer",
        failed=0.0,
    ),
    "chrf": Metric(
        "letters in common with the reference (chrF, 0 to 100)",
        lambda answer, reference, _: chrf(answer.text, reference),
        needs="answer",
        failed=0.0,
    ),
    "finished": Metric("ended by itself (0 or 1)", lambda answer, *_: answer.finished, failed=0.0),
    "repeated_ngrams": Metric(
        "share of its 4-grams that occurred earlier in it (0 to 1)",
        lambda answer, *_: repeated_ngrams(answer.text),
        better="low",
    ),
    "tokens": Metric("tokens written", lambda answer, *_: answer.new_tokens, better=""),
    "loss": Metric("loss of the reference answer (nats per token)", None, "answer", better="low"),
    "perplexity": Metric("perplexity of the reference answer", None, "answer", better="low"),
}


def keys_of(record: Mapping[str, Any]) -> list[str]:
    """The keys that a right answer contains; none where the record has none.

    They are in the record's field `keys`: a list, its JSON as files hold it, or texts separated
    by ";". "a|b" is a key with two forms, one of which is enough.

    Raises:
        DataError: the field holds something else.
    """
    keys = record.get("keys")
    if keys is None or (isinstance(keys, float) and keys != keys):  # a data frame's empty cell
        return []
    if isinstance(keys, str):
        keys = _parsed(keys)
    keys = list(keys) if isinstance(keys, Iterable) else [keys]  # parquet gives arrays
    if not all(isinstance(key, str) and key.strip() for key in keys):
        raise DataError(f"keys must be a list of texts, not {keys!r:.60}.")
    return keys


def _parsed(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass  # an opening bracket of the key itself
    return [key.strip() for key in text.split(";") if key.strip()]


def choose(
    wanted: Sequence[str] | str | None, references: Sequence[str], keys: Sequence[list[str]]
) -> list[str]:
    """The metrics to measure: those named, or all that need no further pass and apply.

    Raises:
        SettingError: one is unknown.
        DataError: a record lacks what one needs.
    """
    # Number of the first record that lacks it.
    lacking = {
        "": None,
        "answer": next((n for n, text in enumerate(references) if not text.strip()), None),
        "keys": next((n for n, found in enumerate(keys) if not found), None),
    }
    if wanted is None:
        return [
            name
            for name, metric in METRICS.items()
            if metric.measure and lacking[metric.needs] is None
        ]
    names = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(wanted))
    for name in names:
        if name not in METRICS:
            raise SettingError(f"There is no metric {name!r}. There are: {', '.join(METRICS)}.")
        if (number := lacking[METRICS[name].needs]) is not None:
            raise DataError(
                f"The metric {name!r} needs the field {METRICS[name].needs!r}, and record {number} "
                f"(counted from 0) has none."
            )
    if not names:
        raise SettingError(f"Name at least one metric. There are: {', '.join(METRICS)}.")
    return names
