"""How far two people, or a person and a rule, agree in labelling the same records.

Before a rule's labels are believed, a person labels some records too; before a person's are, a
second one does. The labels of both are kept in one file, a line per label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse.errors import DataError, first_line
from llmcourse.files import lines_path, lock, read_lines, write_lines
from llmcourse.stats import Share

Label = str | int | list[str]  # what a file keeps; True and False are ints


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
    same = sum(a == b for a, b in zip(first, second, strict=True))
    total, often, often_too = len(first), Counter(first), Counter(second)
    # Counts times `total`, so that all is whole numbers and 0 over 0 is found exactly.
    by_chance = sum(count * often_too[label] for label, count in often.items())
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
            one text instead of a collection of texts.
    """
    first, second = _paired(one, other)
    if any(isinstance(labels, str) for labels in (*first, *second)):  # its letters are no labels
        raise DataError("Each record needs a list of labels. For one label each, use agreement.")
    names = sorted({name for labels in (*first, *second) for name in labels})
    return {
        name: agreement([name in labels for labels in first], [name in labels for labels in second])
        for name in names
    }


def _paired(one: Any, other: Any) -> tuple[list[Any], list[Any]]:
    """Two labellings as lists in the same order.

    Raises:
        DataError: they are not labels of the same records, there are none, or one is missing.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        one, other = one.values(), [other[key] for key in one]
    if isinstance(one, Mapping) or isinstance(other, Mapping) or len(one) != len(other):
        raise DataError("Only labels of the same records can be compared: keep those of both.")
    first, second = list(one), list(other)
    # In a frame a missing label is NaN, which is unequal to itself.
    if not first or any(label is None or label != label for label in (*first, *second)):
        raise DataError("There are no labels to compare, or a record has no label.")
    return first, second


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
    kept = [_label({"id": key, "label": label, "who": who}) for key, label in labels.items()]
    try:
        # Two notebooks may label into one file: what the other wrote meanwhile is read first.
        with lock(path.with_name(f".{path.name}.lock")):
            everyone = load_labels(path) if path.exists() else {}
            everyone[who] = everyone.get(who, {}) | {key: label for key, label, _ in kept}
            rows = (
                {"id": key, "label": label, "who": name}
                for name, theirs in everyone.items()
                for key, label in theirs.items()
            )
            write_lines(path, rows)
    except OSError as error:
        raise DataError(f"{path} can't be written: {first_line(error)}.") from error
    return path


def load_labels(path: str | Path) -> dict[str, dict[str | int, Label]]:
    """The labels that `save_labels` kept: who gave them, to record to label.

    Several labels of a record come as a list. With the labels of two people in the file,
    `agreement(labels["Ada"], labels["Ben"])` compares them. Of two labels that one person gave to
    a record, the later one counts.

    Raises:
        DataError: there is no such file, it can't be read, or a line in it is not a label; the
            message names the line.
    """
    path = lines_path(path)
    everyone: dict[str, dict[str | int, Label]] = {}
    for line, row in read_lines(path):
        key, label, who = _label(row, f"{path}, line {line}: ")
        everyone.setdefault(who, {})[key] = label
    return everyone


def _label(row: Mapping[str, Any], where: str = "") -> tuple[str | int, Label, str]:
    """A label as a file keeps it: record, label, who.

    Raises:
        DataError: a field is missing or can't be kept.
    """
    key: Any = row.get("id")
    label: Any = row.get("label")
    # numpy's numbers become Python's, which JSON takes.
    key, label = (value.item() if hasattr(value, "item") else value for value in (key, label))
    if isinstance(label, set | frozenset | list | tuple):
        label = sorted(label) if isinstance(label, set | frozenset) else list(label)
    texts = isinstance(label, list) and all(isinstance(text, str) for text in label)
    who = row.get("who")
    well = isinstance(key, str | int) and (texts or isinstance(label, str | int))
    if not well or not isinstance(who, str) or not who.strip():
        raise DataError(
            f"{where}a label has an id (a text or a whole number), a label (a text, a whole "
            f"number, or a list of texts) and who gave it, not {dict(row)!r:.80}."
        )
    return key, label, who
