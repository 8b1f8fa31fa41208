"""Splitting records into train, validation and test, so that the test measures what it should.

What belongs together stays together: a question that is trained on is not tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.data.near_duplicates import comparable
from llmcourse.data.records import as_records, question_of
from llmcourse.errors import DataError, SettingError, whole

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def split(
    dataset: Any,
    shares: Mapping[str, float] = SHARES,
    *,
    group: str | None = None,
    seed: int = 0,
) -> DatasetDict:
    """Split records into named parts, the same on every machine and in whatever order they are.

    Groups are put in the order of the SHA-256 of seed and group, and each goes to the part that
    lacks the largest share of its records. A group too large for the smallest part is placed
    before the others, so that the parts come as close to their shares as undivided groups allow.

    Args:
        dataset: What `load_records` gives, or whatever it takes. A format goes.
        shares: Name of each part -> its share; they sum to 1.
        group: A column whose equal values stay together. None keeps together what asks the same:
            questions (with their input) equal but for case, blanks and punctuation.
        seed: Another number gives another split.

    Raises:
        SettingError: the shares are not above 0 or do not sum to 1, or `seed` is no whole number
            of at least 0.
        DataError: the records can't be read, there is no such column, or a part would be empty.
    """
    from datasets import DatasetDict

    if min(shares.values(), default=0) <= 0 or abs(sum(shares.values()) - 1) >= 1e-6:
        raise SettingError(
            f"shares={shares!r:.80} must be numbers above 0 that sum to 1: {SHARES}."
        )
    seed = whole("seed", seed, 0)
    records = as_records(dataset, may_be_blank=True)
    members: dict[str, list[int]] = {}
    for place, name in enumerate(_groups(records, group)):
        members.setdefault(name, []).append(place)
    targets = {name: share * len(records) for name, share in shares.items()}
    parts = _shared_out(members, targets, seed)
    empty = [name for name, places in parts.items() if not places]
    if empty:
        raise DataError(
            f"The part {empty[0]!r} would be empty: its share of {len(records)} records in "
            f"{len(members)} groups is {targets[empty[0]]:.1f}, and no group is divided. Give it a "
            f"larger share, or use more records."
        )
    return DatasetDict({name: records.select(sorted(places)) for name, places in parts.items()})


def _groups(records: Dataset, group: str | None) -> Iterator[str]:
    """The name of the group that each record belongs to, in their order."""
    if group is None:
        yield from (comparable(question_of(record)) for record in records)
    elif group in records.column_names:
        # a blank cell says nothing of what belongs together
        for name, record in zip(records[group], records, strict=True):
            yield comparable(question_of(record)) if name in (None, "") else str(name)
    else:
        raise DataError(
            f"There is no column {group!r} to group by. There are: "
            f"{', '.join(records.column_names)}."
        )


def _shared_out(
    members: Mapping[str, list[int]], targets: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """Each part's records, in undivided groups."""

    def order(name: str) -> tuple[int, str]:
        """Groups too large for the smallest part first, all others at random."""
        size = len(members[name])
        early = size if size > min(targets.values()) else 0
        # a hash: a random generator's order would depend on that of the records
        digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).hexdigest()
        return -early, digest

    parts: dict[str, list[int]] = {name: [] for name in targets}
    for group in sorted(members, key=order):
        size = len(members[group])
        lacking = {name: target - len(parts[name]) for name, target in targets.items()}
        fitting = [name for name in targets if lacking[name] >= size]
        if fitting:  # the emptiest part, by its share
            chosen = max(fitting, key=lambda name: lacking[name] / targets[name])
        else:  # no part has room, so the excess goes where most is missing
            chosen = max(targets, key=lacking.__getitem__)
        parts[chosen] += members[group]
    return parts
