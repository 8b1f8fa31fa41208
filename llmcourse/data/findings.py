"""Each kind of trouble that `inspect` looks for: how much of it, what it means, examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.data import alike, measuring, patterns
from llmcourse.data.records import as_records

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from datasets import Dataset

Example = tuple[int, str]


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in a data set.

    Attributes:
        kind: Its name, such as "duplicates" or "e-mail".
        count: How many records have it; 0 where none has. Of copies the first is not counted,
            of contradictions the questions are, of languages only those in a sample.
        what: What it means and the way out, in a sentence.
        examples: Up to three records, as (number from 1, excerpt); personal data is masked.
    """

    kind: str
    count: int
    what: str
    examples: tuple[Example, ...] = ()


# --- trouble --------------------------------------------------------------------------------------


def unreadable(problems: pandas.DataFrame | None) -> Finding:
    """What could not be loaded; examples have lines of the file.

    Args:
        problems: From `load_records(strict=False)`; None where nothing was left out.
    """
    rows = [] if problems is None else problems.to_dict("records")
    told = [(r["line"], excerpt(f"{r['field']} {r['problem']}".strip())) for r in rows[:3]]
    what = "Records that could not be used and are not in the data; mend them in the file."
    return Finding("unreadable", len(rows), what, tuple(told))


WHAT = {
    "blank": "The question or the answer is empty, so there is nothing to learn; leave them out.",
    "html": "Tags or entities of web pages are left over, and a model learns to write them; "
    "`clean` takes them out.",
    "encoding": "Text was decoded wrongly or holds control characters; `clean` mends what can be "
    "mended.",
    "e-mail": "E-mail addresses, which a model may repeat to anybody; `clean` replaces them.",
    "card": "Payment card numbers, which must never be in training data; `clean` replaces them.",
    "IBAN": "Bank account numbers (IBAN), which a model may repeat; `clean` replaces them.",
    "phone": "Telephone numbers, which a model may repeat to anybody; `clean` replaces them.",
    "IP": "Internet addresses of machines, which can point to people; `clean` replaces them.",
    "date of birth": "Dates of birth, which a model may repeat; `clean` replaces them.",
    "address": "Street addresses, which a model may repeat; `clean` replaces all but those named "
    "in `keep`.",
}


def single(
    records: Dataset, numbers: measuring.Numbers, longest: int, counter: measuring.Counter
) -> Iterator[Finding]:
    """What a record has by itself."""
    import numpy as np

    unit = "words" if counter.tokenizer is None else "tokens"
    flags = numbers["flags"]
    for kind in measuring.FLAGS:
        found = np.flatnonzero(flags & measuring.BIT[kind])
        what = WHAT.get(kind) or (
            f"Longer than {longest} {unit}, question and answer together: `encode` leaves out what "
            f"is too long; shorten or split them."
        )
        examples = [
            (place + 1, excerpt(*_seen(kind, record)))
            for place, record in _records(records, found[:3].tolist())
        ]
        yield Finding(kind, len(found), what, tuple(examples))


def _seen(kind: str, record: dict[str, str]) -> tuple[str, int]:
    """The text of a record that shows its trouble, masked, and where in it to look."""
    masked = {name: patterns.masked(text) for name, text in record.items()}
    for name, text in masked.items():
        if kind in patterns.PERSONAL and f"[{kind}]" in text:
            return text, text.index(f"[{kind}]")
        if kind == "html" and (spans := patterns.markup(text)):
            return text, spans[0][0]
        if kind == "encoding" and patterns.garbled(record[name]):
            return text, next((n for n, sign in enumerate(text) if _odd(sign)), 0)
    return " ".join(filter(str.strip, masked.values())) or "(blank)", 0


def _odd(sign: str) -> bool:
    """True for what a wrong encoding leaves behind."""
    return sign == "\ufffd" or not sign.isascii() or (sign < " " and not sign.isspace())


def copies(records: Dataset, numbers: measuring.Numbers) -> Iterator[Finding]:
    """The same records, the same questions, contradictions, and nearly the same records.

    Each pair counts once, under the first of these that fits.
    """
    import numpy as np

    full = (numbers["flags"] & measuring.BIT["blank"]) == 0
    content = numbers["content"]
    places, extra, groups = _first_ones(content[:, None], np.arange(len(content)))
    yield Finding(
        "duplicates",
        len(extra),
        f"Copies of other records ({groups:,} of them repeated): they count more in training and "
        f"may fall into two splits; keep one of each.",
        tuple(_examples(records, extra)),
    )
    places = places[full[places]]
    asked, answered = (numbers[name] for name in ("asked", "answered"))
    places, extra, groups = _first_ones(np.stack([asked, answered], axis=1), places)
    yield Finding(
        "repeated questions",
        len(extra),
        f"The same question again with the same answer but for case and punctuation ({groups:,} "
        f"repeated); keep one of each.",
        tuple(_examples(records, extra)),
    )
    # (where another column gives the question a context of its own, that is part of it)
    keys = asked ^ numbers["around"]
    several, questions = _shared(keys[places])
    excused = _shared(asked[places])[1] - questions
    unused = ", ".join(alike.context(records))
    more = (
        f" {excused:,} more have different answers beside another {unused}, which no template "
        f"reads: put that into `input`."
    )
    yield Finding(
        "contradictions",
        questions,
        f"Questions with different answers ({int(several.sum()):,} records): settle which is "
        f"right, unless several are." + more * (excused > 0),
        tuple(_examples(records, places[several])),
    )
    yield _near(records, numbers, places, asked)


def _shared(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Which of `keys` come more than once, and how many different ones these are."""
    import numpy as np

    _, again, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[again] > 1, int((counts > 1).sum())


def _first_ones(keys: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Of `places`, the first with each key, all others, and how many keys have others."""
    import numpy as np

    _, first, counts = np.unique(keys[places], axis=0, return_index=True, return_counts=True)
    chosen = np.zeros(len(places), dtype=bool)
    chosen[first] = True
    return places[chosen], places[~chosen], int((counts > 1).sum())


def _near(
    records: Dataset, numbers: measuring.Numbers, places: np.ndarray, asked: np.ndarray
) -> Finding:
    """Of `places`, all but the first of each group of records that are nearly the same."""
    columns = (numbers[name][places] for name in measuring.CONTENT)
    first, second, cut = alike.candidates(columns)
    leader: dict[int, int] = {}

    def skip(low: int, high: int) -> bool:
        same = alike.top(leader, low) == alike.top(leader, high)
        return same or bool(asked[low] == asked[high])  # these count as contradictions

    pairs = places[first].tolist(), places[second].tolist()
    for pair in near_pairs(records, pairs[0], records, pairs[1], whole=True, skip=skip):
        low, high = sorted(alike.top(leader, place) for place in pair)
        leader[high] = low
    extra = sorted(leader)
    groups = len({alike.top(leader, place) for place in extra})
    what = (
        f"Nearly the same as another record ({'at least ' if cut else ''}{groups:,} have such "
        f"copies): look at them, and keep one of each."
    )
    return Finding("near-duplicates", len(extra), what, tuple(_examples(records, extra)))


def near_pairs(
    one: Dataset,
    first: Sequence[int],
    other: Dataset,
    second: Sequence[int],
    *,
    whole: bool,
    skip: Callable[[int, int], bool],
) -> Iterator[tuple[int, int]]:
    """Those of the candidates that are near indeed, by their texts, which are read in blocks.

    Args:
        one: Where the first of each pair is.
        first: The places of the first ones.
        other: Where the second of each pair is.
        second: The places of the second ones.
        whole: True compares whole records, False what they ask.
        skip: Says of a pair that it needs no look any more.
    """
    for start in range(0, len(first), 5000):
        lows, highs = first[start : start + 5000], second[start : start + 5000]
        left = {n: alike.runs(text) for n, text in texts(one, sorted(set(lows)), whole=whole)}
        right = {n: alike.runs(text) for n, text in texts(other, sorted(set(highs)), whole=whole)}
        for low, high in zip(lows, highs, strict=True):
            if not skip(low, high) and alike.overlap(left[low], right[high]) >= alike.NEAR:
                yield low, high


# --- leaks ----------------------------------------------------------------------------------------


def leaks(
    records: Dataset,
    numbers: measuring.Numbers,
    test: Any,
    counter: measuring.Counter,
    workers: int | None,
) -> Iterator[Finding]:
    """Test records whose question is in the training data, the same or nearly.

    Args:
        records: The training data, or with `test` not given all splits.
        numbers: What `measuring.measured` says of them.
        test: Records that must not be in the training data.
        counter, workers: For measuring `test`.
    """
    import numpy as np

    trained = held = np.empty(0, dtype=np.int64)
    others, numbers_of = records, numbers
    if test is not None:
        others = as_records(test)
        numbers_of = measuring.measured(
            others, counter, longest=1 << 30, leaks=True, workers=workers
        )
        trained, held = np.arange(len(records)), np.arange(len(others))
    elif "split" in records.column_names:
        splits = np.array(_splits(records))
        trained = np.flatnonzero(splits == "train")
        held = np.flatnonzero((splits != "train") & (splits != ""))
    same, near = _leaked(records, numbers, trained, others, numbers_of, held)
    yield Finding(
        "leaked",
        len(same),
        "Test questions that are in the training data too: the test would measure memory; take "
        "them out of one.",
        tuple(_examples(others, same)),
    )
    yield Finding(
        "nearly leaked",
        len(near),
        "Test questions that are nearly the same as one in the training data; look at them, and "
        "keep one of each.",
        tuple(_examples(others, near)),
    )


def _splits(records: Dataset) -> list[str]:
    """The name of the split of each record, in small letters; "" where it has none."""
    kind, values = records.features["split"], records.with_format(None)["split"][:]
    if hasattr(kind, "int2str"):
        values = (None if value is None else kind.int2str(value) for value in values)
    return ["" if value is None else str(value).strip().lower() for value in values]


def _leaked(
    records: Dataset,
    numbers: measuring.Numbers,
    trained: np.ndarray,
    others: Dataset,
    numbers_of: measuring.Numbers,
    held: np.ndarray,
) -> tuple[list[int], list[int]]:
    """Of `held`, the places of the questions that are in `trained`, and of those nearly so."""
    import numpy as np

    if not len(trained) or not len(held):
        return [], []
    asked = numbers["asked"][trained]
    flags = numbers_of["flags"][held]
    held = held[(flags & measuring.BIT["blank"]) == 0]
    known = np.isin(numbers_of["asked"][held], asked)
    same, held = held[known], held[~known]
    _, first = np.unique(asked, return_index=True)
    trained = trained[np.sort(first)]
    pairs: list[np.ndarray] = []
    for name in measuring.ASKED:
        here = numbers[name][trained]
        order = np.argsort(here, kind="stable")
        there = numbers_of[name][held]
        start = np.searchsorted(here[order], there)
        for step in range(3):  # of a bucket of many, three are looked at
            place = np.minimum(start + step, len(order) - 1)
            hit = (here[order[place]] == there) & (start + step < len(order))
            pairs.append(np.stack([held[hit], trained[order[place[hit]]]], axis=1))
    second, first = np.unique(np.concatenate(pairs), axis=0)[: alike.MOST_PAIRS].T
    near: set[int] = set()
    pairs = near_pairs(
        records, first.tolist(), others, second.tolist(), whole=False, skip=lambda _, n: n in near
    )
    for _, place in pairs:
        near.add(place)
    return same.tolist(), sorted(near)


# --- languages ------------------------------------------------------------------------------------


def other_language(records: Dataset, main: str, others: Sequence[int], looked: int) -> Finding:
    """Records in another language than most.

    Args:
        records: All of them.
        main: The code of the language of most; "" where none is sure.
        others: The places of those in another one.
        looked: In how many records a language was looked for.
    """
    sample = "in the sample of " if looked < len(records) else "among all "
    return Finding(
        "other language",
        len(others),
        f"In another language than most ({main or 'unknown'}), as counted {sample}{looked:,} "
        f"records; leave them out where one language is wanted.",
        tuple(_examples(records, others)),
    )


# --- texts ----------------------------------------------------------------------------------------


def _records(records: Dataset, places: Sequence[int]) -> Iterator[tuple[int, dict[str, str]]]:
    """The place and the texts of each record at `places`."""
    chosen = [int(place) for place in places]
    rows = records.select_columns(list(alike.fields(records))).select(chosen)
    return zip(chosen, map(alike.texts_of, rows), strict=True)


def texts(
    records: Dataset, places: Sequence[int], *, whole: bool = True
) -> Iterator[tuple[int, str]]:
    """The place (from 0) and the text of each record at `places`: all of it, or what it asks."""
    for place, record in _records(records, places):
        yield place, " ".join(record.values()) if whole else alike.asked(record)


def _examples(records: Dataset, places: Iterable[int]) -> Iterator[Example]:
    """The first three of `places`, masked."""
    chosen = [int(place) for place, _ in zip(places, range(3), strict=False)]
    for place, text in texts(records, chosen):
        yield place + 1, excerpt(patterns.masked(text))


def excerpt(text: str, place: int = 0, longest: int = 80) -> str:
    """At most `longest` characters of `text` around a place, in one line that is safe to print."""
    start = max(0, place - longest // 3) if len(text) > longest else 0
    piece = text[start : start + 4 * longest]
    piece = "".join(
        sign if sign.isprintable() else "\ufffd" if sign.strip() else " " for sign in piece
    )
    piece = ("…" if start else "") + " ".join(piece.split())
    return piece if len(piece) <= longest else piece[: longest - 1] + "…"
