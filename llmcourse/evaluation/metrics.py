"""What can be measured in an answer, each for one record."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmcourse import company
from llmcourse.errors import DataError, SettingError
from llmcourse.generation import Answer
from llmcourse.words import chrf, has_keys, normalised, repeated_ngrams, token_f1


@dataclass(frozen=True)
class Metric:
    """One way to measure an answer.

    Attributes:
        text: What the number says, with its unit and range.
        measure: Takes the answer, the reference answer and the record; None for a metric that
            needs a pass of its own through the model ("loss", "perplexity").
        needs: What a record must have for it: "answer", "keys" or nothing.
        failed: What a record counts whose question could not be answered; None leaves it out.
        better: "high", "low", or "" where neither is better.
    """

    text: str
    measure: Callable[[Answer, str, Mapping[str, Any]], float] | None
    needs: str = ""
    failed: float | None = None
    better: str = "high"


def keys_of(record: Mapping[str, Any]) -> list[str] | None:
    """The keys an answer must contain; None where the record has none.

    They stand in `keys` (a list, its JSON, or texts separated by ";"), or the record names a fact
    of Ferrowick's in `fact`. "a|b" is a key with two forms.

    A fact that is none of Ferrowick's is a learner's own, and has no keys here.

    Raises:
        DataError: they are something else.
    """
    keys, fact = record.get("keys"), record.get("fact")
    if hasattr(keys, "tolist"):  # an array, as frames that were read from parquet hold
        keys = keys.tolist()
    if isinstance(keys, float) and keys != keys:  # an empty cell of a data frame
        keys = None
    if isinstance(keys, str):
        keys = _listed(keys) or None
    if keys is None and isinstance(fact, str) and fact:
        return _facts().get(fact)
    if keys is None or (isinstance(keys, Sequence) and not keys):
        return None
    if not isinstance(keys, Sequence) or not all(isinstance(k, str) and k.strip() for k in keys):
        raise DataError(f"keys must be a list of texts, not {keys!r:.60}.")
    return list(keys)


def _listed(text: str) -> list[Any]:
    """Keys that were written as one text."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return [key.strip() for key in text.split(";") if key.strip()]


@functools.cache
def _facts() -> dict[str, list[str]]:
    return {fact["id"]: fact["keys"] for fact in company.records("facts")}


METRICS: dict[str, Metric] = {
    "exact": Metric(
        "the same as the reference, sign for sign (0 or 1)",
        lambda answer, reference, _: answer.text.strip() == reference.strip(),
        "answer", 0.0,
    ),
    "normalised": Metric(
        "the same but for case, punctuation, articles and blanks (0 or 1)",
        lambda answer, reference, _: normalised(answer.text, reference),
        "answer", 0.0,
    ),
    "facts": Metric(
        "contains every key of the fact (0 or 1)",
        lambda answer, _, record: has_keys(answer.text, keys_of(record) or []),
        "keys", 0.0,
    ),
    "f1": Metric(
        "words in common with the reference (F1, 0 to 1)",
        lambda answer, reference, _: token_f1(answer.text, reference),
        "answer", 0.0,
    ),
    "chrf": Metric(
        "letters in common with the reference (chrF, 0 to 100)",
        lambda answer, reference, _: chrf(answer.text, reference),
        "answer", 0.0,
    ),
    "finished": Metric("ended by itself (0 or 1)", lambda answer, *_: answer.finished, "", 0.0),
    "repeated_ngrams": Metric(
        "share of its 4-grams that occurred earlier in it (0 to 1)",
        lambda answer, *_: repeated_ngrams(answer.text), better="low",
    ),
    "tokens": Metric("tokens written", lambda answer, *_: answer.new_tokens, better=""),
    "loss": Metric("loss of the reference answer (nats a token)", None, "answer", better="low"),
    "perplexity": Metric("perplexity of the reference answer", None, "answer", better="low"),
}  # fmt: skip


def chosen(wanted: Sequence[str] | str | None, records: Sequence[Mapping[str, Any]],
           references: Sequence[str]) -> list[str]:  # fmt: skip
    """The metrics to measure: those asked for, or all that need no further pass and apply.

    Raises:
        SettingError: one is unknown.
        DataError: a record lacks what one needs.
    """
    lacking = {
        "": None,
        "answer": next((n for n, text in enumerate(references) if not text.strip()), None),
        "keys": _without_keys(records) if wanted is None or "facts" in wanted else None,
    }
    if wanted is None:
        return [name for name, metric in METRICS.items()
                if metric.measure and lacking[metric.needs] is None]  # fmt: skip
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in METRICS:
            raise SettingError(f"There is no metric {name!r}. There are: {', '.join(METRICS)}.")
        if (number := lacking[METRICS[name].needs]) is not None:
            fields = {"answer": "an answer", "keys": '"keys" (or "fact", a fact of Ferrowick\'s)'}
            raise DataError(
                f"The metric {name!r} needs {fields[METRICS[name].needs]}, and record {number} "
                f"(counted from 0) has none."
            )
    if not names:
        raise SettingError(f"Name at least one metric. There are: {', '.join(METRICS)}.")
    return list(dict.fromkeys(names))


def _without_keys(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The number of the first record that has no keys.

    Raises:
        DataError: a record's keys are no keys; the message names the record.
    """
    for number, record in enumerate(records):
        try:
            if keys_of(record) is None:
                return number
        except DataError as error:
            raise DataError(f"Record {number} (counted from 0): {error}") from error
    return None
