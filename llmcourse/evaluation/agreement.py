"""How far two people, or a person and a rule, agree in labelling the same records.

Before a rule's labels are believed, a person labels some records too; before a person's are, a
second one does. The labels of both are kept in one file, a line per label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse.errors import DataError, first_line
from llmcourse.files import lock
from llmcourse.stats import Share
from llmcourse.store import lines_path, read_lines, write_lines

Label = str | int | list[str]  # what a file keeps; True and False are ints
_FIELDS = ("id", "label", "who")


@dataclass(frozen=True)
class Agreement:
    """How often two gave the same label, and what that is worth.

    Attributes:
        share: The records on which both gave the same label.
        kappa: Cohen's kappa: agreement beyond chance, 1 where it is perfect, 0 where it is what
            chance gives, below 0 where it is less. 0 where `one_label` is true.
        one_label: True where both gave one and the same label to every record. Then chance would
            agree as well, kappa is 0 over 0, and the records can't tell how far the two agree.
    """

    share: Share
    kappa: float
    one_label: bool = False

    def __str__(self) -> str:
        if self.one_label:
            return f"{self.share}; kappa can't tell, as both gave one label only"
        return f"{self.share}; kappa {self.kappa:.2f}"


def agreement(one: Any, other: Any) -> Agreement:
    """The agreement of two labellings of the same records, one label per record.

    Kappa is (p - c) / (1 - c): p is the share of records with the same label, c the share that two
    would have who give each label as often as these do, but at random (Cohen, A Coefficient of
    Agreement for Nominal Scales, 1960).

    Args:
        one: A label per record, in an ordered collection, or as a mapping of record to label.
        other: The labels of the same records: in the same order, or as a mapping too.

    Raises:
        DataError: they are not labels of the same records, there are none, or a record has none.
    """
    first, second = _paired(one, other)
    for number, label in [*enumerate(first), *enumerate(second)]:
        if label is None or label != label:
            raise DataError(f"Record {number} (counted from 0) has no label: {label!r}.")
        if isinstance(label, list | set):
            raise DataError(
                f"Record {number} (counted from 0) has {label!r:.60} for a label. Where a record "
                f"may have several labels, use agreement_by_class."
            )
    same = sum(a == b for a, b in zip(first, second, strict=True))
    total, often, often_too = len(first), Counter(first), Counter(second)
    by_chance = sum(count * often_too[label] for label, count in often.items())  # times total²
    share = Share(same, total)
    if by_chance == total * total:
        return Agreement(share, 0.0, one_label=True)
    return Agreement(share, (total * same - by_chance) / (total * total - by_chance))


def agreement_by_class(one: Any, other: Any) -> dict[str, Agreement]:
    """The agreement on each label, where a record may have several labels or none.

    For each label that one of the two gave at all: on which records did they give it?

    Args:
        one: A list, set or other collection of labels per record, in order or as a mapping.
        other: The same of the same records.

    Returns:
        Label to `Agreement`, in alphabetical order; empty where neither gave any label.

    Raises:
        DataError: they are not labels of the same records, there are no records, or a record has
            something other than a collection of texts.
    """
    pair = _paired(one, other)
    for labels in pair:
        for number, given in enumerate(labels):
            if not _is_texts(given):
                raise DataError(
                    f"Record {number} (counted from 0) must have a list or set of labels, not "
                    f"{given!r:.60}. For one label per record, use agreement."
                )
    names = sorted({name for labels in pair for given in labels for name in given})
    return {
        name: agreement(*([name in given for given in labels] for labels in pair)) for name in names
    }


def _paired(one: Any, other: Any) -> tuple[list[Any], list[Any]]:
    """Two labellings as lists in the same order.

    Raises:
        DataError: they are not labels of the same records, or there are none.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if apart := [key for key in {**one, **other} if (key in one) != (key in other)]:
            raise DataError(
                f"{len(apart)} records have labels of one side only, the first of them "
                f"{apart[0]!r:.60}. Keep the records that both have: "
                f"{{key: one[key] for key in one if key in other}}."
            )
        one, other = one.values(), [other[key] for key in one]
    for labels in (one, other):
        if isinstance(labels, str | Mapping | set) or not isinstance(labels, Iterable):
            raise DataError(
                f"Two lists of labels in the same order are needed, or two mappings of record to "
                f"label, not {type(labels).__name__}."
            )
    first, second = list(one), list(other)
    if len(first) != len(second):
        raise DataError(
            f"Only labels of the same records can be compared: there are {len(first)} labels "
            f"against {len(second)}."
        )
    if not first:
        raise DataError("There are no labels to compare.")
    return first, second


def _is_texts(value: Any) -> bool:
    """True for a collection of texts."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | Mapping)
        and all(isinstance(item, str) for item in value)
    )


# --- labels in a file -----------------------------------------------------------------------------


def save_labels(path: str | Path, labels: Mapping[str | int, Any], who: str) -> Path:
    """Add somebody's labels to a file; written whole or not at all.

    Other people's labels in the file stay, and so do this one's of records that are not in
    `labels`. A record that this one has labelled before gets the new label.

    Args:
        path: A .jsonl file, there already or not.
        labels: Record (its number or its question) to label: text, a whole number, true or false;
            or a list or set of texts where a record may have several labels.
        who: A name for whoever gave them.

    Returns:
        The path.

    Raises:
        DataError: a label can't be kept, `who` is blank, or the existing file holds no labels or
            can't be written. It stays as it is.
        NoSpace: the disk is full; the old file stays.
    """
    path = lines_path(path)
    given = [_checked({"id": key, "label": label, "who": who}) for key, label in labels.items()]
    try:
        with lock(path.with_name(f".{path.name}.lock")):
            everyone = load_labels(path) if path.exists() else {}
            everyone[who] = everyone.get(who, {}) | {key: label for key, label, _ in given}
            write_lines(
                path,
                (
                    dict(zip(_FIELDS, (key, label, name), strict=True))
                    for name, theirs in everyone.items()
                    for key, label in theirs.items()
                ),
            )
    except OSError as error:
        raise DataError(f"{path} can't be written: {first_line(error)}.") from error
    return path


def load_labels(path: str | Path) -> dict[str, dict[str | int, Label]]:
    """The labels that `save_labels` kept: who gave them, to record to label.

    Several labels of a record come as a list. With the labels of two people in the file,
    `agreement(labels["Ada"], labels["Ben"])` compares them.

    Raises:
        DataError: there is no such file, it can't be read, or a line in it is not a label; the
            message names the line.
    """
    path = lines_path(path)
    everyone: dict[str, dict[str | int, Label]] = {}
    for line, row in read_lines(path):
        try:
            key, label, who = _checked(row)
            if key in everyone.setdefault(who, {}):
                raise DataError(f"{who} has labelled {key!r:.60} before. Remove one of the two.")
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        everyone[who][key] = label
    return everyone


def _checked(row: Mapping[str, Any]) -> tuple[str | int, Label, str]:
    """A label as a file keeps it: record, label, who.

    Raises:
        DataError: a field is missing or can't be kept.
    """
    if set(row) != set(_FIELDS):
        raise DataError(f"a label has the fields {', '.join(_FIELDS)}, not {', '.join(row)}.")
    key, label = (v.item() if hasattr(v, "item") else v for v in (row["id"], row["label"]))
    if _is_texts(label):
        label = sorted(label) if isinstance(label, set | frozenset) else list(label)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise DataError(f"a record is named by a text or a whole number, not by {key!r:.60}.")
    if not isinstance(label, str | int) and not _is_texts(label):
        raise DataError(
            f"record {key!r:.60}: a label is text, a whole number, true or false, or a list of "
            f"texts, not {label!r:.60}."
        )
    if not isinstance(row["who"], str) or not row["who"].strip():
        raise DataError(f"who must be a name for whoever gave the labels, not {row['who']!r:.60}.")
    return key, label, row["who"]
