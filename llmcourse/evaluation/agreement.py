"""How far two people, or a person and a rule, agree in labelling the same records.

Before a rule's labels are believed, a person labels some records too; before a person's are, a
second one does. The labels of both are kept in one file, a line a label.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcourse.data.readers import Bad, kind_of, open_source
from llmcourse.errors import DataError, first_line
from llmcourse.files import lock, write_text
from llmcourse.stats import Share

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
    """The agreement of two labellings of the same records, one label a record.

    Kappa is (p - c) / (1 - c): p is the share of records with the same label, c the share that two
    would have who give each label as often as these do, but at random (Cohen, A Coefficient of
    Agreement for Nominal Scales, 1960).

    Args:
        one: A label a record, in a list or another ordered collection, or as a mapping of record
            to label.
        other: The labels of the same records: in the same order, or as a mapping too.

    Raises:
        DataError: they are not labels of the same records, there are none, or a record has none.
    """
    first, second = _paired(one, other)
    for place, label in [*enumerate(first), *enumerate(second)]:
        if label is None or label != label:
            raise DataError(f"Record {place} (counted from 0) has no label: {label!r}.")
        if not isinstance(label, Hashable):
            raise DataError(
                f"Record {place} (counted from 0) has {label!r:.60} for a label. Where a record "
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

    Of each label that one of the two gave at all, it is asked of every record whether they gave it.

    Args:
        one: A list, set or other collection of labels a record, in order or as a mapping.
        other: The same of the same records.

    Returns:
        Label to `Agreement`, in alphabetical order; empty where neither gave any label.

    Raises:
        DataError: they are not labels of the same records, there are no records, or what a record
            has is no collection of texts.
    """
    pair = _paired(one, other)
    for labels in pair:
        for place, given in enumerate(labels):
            if not _is_texts(given):
                raise DataError(
                    f"Record {place} (counted from 0) must have a list or set of labels, not "
                    f"{given!r:.60}. For one label a record, use agreement."
                )
    names = sorted({name for labels in pair for given in labels for name in given})
    return {name: agreement(*([name in given for given in labels] for labels in pair))
            for name in names}  # fmt: skip


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
    sides = []
    for labels in (one, other):
        if isinstance(labels, str | bytes | Mapping | set | frozenset) or not isinstance(
            labels, Iterable
        ):
            raise DataError(
                f"Two lists of labels in the same order are wanted, or two mappings of record to "
                f"label, not {type(labels).__name__}."
            )
        sides.append(list(labels))
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"Only labels of the same records can be compared: there are {len(sides[0])} labels "
            f"against {len(sides[1])}."
        )
    if not sides[0]:
        raise DataError("There are no labels to compare.")
    return sides[0], sides[1]


def _is_texts(value: Any) -> bool:
    """True for a collection of texts."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes | Mapping)
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
        DataError: there are no labels, one can't be kept, `who` is blank, or the file that is
            there holds no labels or can't be written. It stays as it is.
        NoSpace: the disk is full; the old file stays.
    """
    path = jsonl(path)
    if not _is_name(who):
        raise DataError(f"who={who!r:.60} must be a name for whoever gave the labels.")
    if not isinstance(labels, Mapping) or not labels:
        raise DataError("labels must map each record to its label, and there must be some.")
    mine = {_own(key): _plain(key, label) for key, label in labels.items()}
    try:
        with lock(path.with_name(f".{path.name}.lock")):
            everyone = load_labels(path) if path.exists() else {}
            everyone[who] = everyone.get(who, {}) | mine
            write_jsonl(
                path,
                ({"id": key, "label": label, "who": name}
                 for name, theirs in everyone.items() for key, label in theirs.items()),
            )  # fmt: skip
    except OSError as error:
        raise DataError(f"{path} can't be written: {first_line(error)}.") from error
    return path


def load_labels(path: str | Path) -> dict[str, dict[str | int, Label]]:
    """The labels that `save_labels` kept: who gave them, to record to label.

    Several labels of a record come as a list. With the labels of two people in the file,
    `agreement(labels["Ada"], labels["Ben"])` compares them.

    Raises:
        DataError: there is no such file, it can't be read, or a line in it is no label; the
            message names the line.
    """
    path = jsonl(path)
    everyone: dict[str, dict[str | int, Label]] = {}
    for line, row in read_jsonl(path):
        here = f"{path}, line {line}"
        if set(row) != set(_FIELDS):
            raise DataError(
                f"{here}: a label has the fields {', '.join(_FIELDS)}; this line has "
                f"{', '.join(map(repr, row)) or 'none'}."
            )
        key, who = row["id"], row["who"]
        if not _is_name(who):
            raise DataError(f"{here}: 'who' must be a name, not {who!r:.60}.")
        try:
            label = _plain(key, row["label"])
        except DataError as error:
            raise DataError(f"{here}: {error}") from None
        if key in everyone.setdefault(who, {}):
            raise DataError(
                f"{here}: {who} has labelled {key!r:.60} before. Remove one of the two."
            )
        everyone[who][key] = label
    return everyone


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_writable(value)


def is_writable(text: str) -> bool:
    """False for half a character, which no file can keep."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _own(value: Any) -> Any:
    """A number of numpy's, as frames have them, as Python's own."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _plain(key: Any, label: Any) -> Label:
    """A label as a file keeps it.

    Raises:
        DataError: the record or its label can't be kept.
    """
    key, label = _own(key), _own(label)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise DataError(f"A record is named by a text or a whole number, not by {key!r:.60}.")
    several = _is_texts(label)
    if several:
        label = sorted(label) if isinstance(label, set | frozenset) else list(label)
    texts = [part for part in (key, *(label if several else [label])) if isinstance(part, str)]
    if not (several or isinstance(label, str | int)) or not all(map(is_writable, texts)):
        raise DataError(
            f"Record {key!r:.60}: a label is text, a whole number, true or false, or a list of "
            f"texts, not {label!r:.60}."
        )
    return label


# --- files of one JSON object a line --------------------------------------------------------------


def jsonl(path: Any) -> Path:
    """`path` as a Path to a .jsonl file, with the home folder filled in.

    Raises:
        DataError: it is no path, or its name does not end in .jsonl.
    """
    try:
        found = Path(path).expanduser()
    except (TypeError, RuntimeError) as error:  # no path at all; the home of nobody
        raise DataError(f"{path!r:.200} is no path of a file ({first_line(error)}).") from error
    if found.suffix.lower() != ".jsonl" or found.is_dir():
        raise DataError(f"{path} must be a file whose name ends in .jsonl.")
    return found


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl file, each with the number of its line.

    Raises:
        DataError: there is no such file, it can't be read, or a line is no object.
    """
    name, rows = open_source(path, "train")
    for line, row in rows:
        if isinstance(row, Bad):
            raise DataError(f"{name}, line {line}: {row}.")
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {line}: an object belongs here, not {kind_of(row)}.")
        yield line, row


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` by one JSON object a line, whole or not at all.

    Raises:
        NoSpace, OSError: see `files.write_text`.
    """
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
