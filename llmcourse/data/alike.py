"""Which records are the same, and which nearly so, among a million of them.

Texts are compared by 64-bit hashes (BLAKE2b), which are the same on every machine. Nearly the
same are those whose sets of three-word runs overlap by `NEAR` or more, as in Broder, "On the
resemblance and containment of documents" (1997). MinHash finds the candidates without comparing
all with all; each candidate is then checked on the texts themselves.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.data.records import as_text, load_records, unwritable
from llmcourse.errors import DataError
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

PAIR, TEXT = ("question", "input", "answer"), ("text",)
# Names of columns that an answer may depend on; others count where they hold sentences or lists.
_CONTEXT = (
    "history", "system", "context", "passage", "paragraph", "article", "conversation", "dialogue",
    "dialog", "background", "persona", "table", "schema", "title", "chat_history",
)  # fmt: skip
_LABELS = ("id", "keys", "split", "url", "reviewed", "written", "keep")
NEAR = 0.7  # share of three-word runs in common
BANDS, ROWS = 16, 4  # finds 98.8 % of the pairs at NEAR: 1 - (1 - 0.7**4)**16
MOST_PAIRS = 1_000_000  # candidates checked; more are only met in data made from one mould
_OPENING, _CLOSING = "\"'“”‘’«»„([{¿¡", ".,;:!?…\"'“”‘’«»)]}"


def as_records(source: Any, **options: Any) -> Dataset:
    """`source` as a data set with the columns `question`, `input`, `answer`, or `text`.

    A data set that has these columns already is taken as it is, blank fields and all, but without
    its format: a format or transform changes what comes out of it. So is a list of records; it
    gets the fields of all of them, as text. Anything else goes through `load_records`, with
    `options`.

    Raises:
        DataError: it holds no records, or can't be read; or a list holds records of both kinds,
            or half a character.
    """
    from datasets import Dataset, IterableDataset

    if isinstance(source, IterableDataset):
        raise DataError(
            "This is a stream (IterableDataset), which has no length and no places. Read it into "
            "a data set first: data.load_records(stream)."
        )
    if isinstance(source, Dataset):
        source = unformatted(source)
    if isinstance(source, Dataset) and _is_text(source):
        dataset = _with_input(source)
    elif isinstance(source, list) and source and all(_is_record(one) for one in source):
        dataset = Dataset.from_list(_filled(source))
    else:
        dataset = load_records(source, **options)
        dataset = dataset[0] if isinstance(dataset, tuple) else dataset
    if not len(dataset):
        raise DataError("The data set holds no records.")
    return dataset


def unformatted(dataset: Dataset) -> Dataset:
    """`dataset` without a format or a transform, so that its rows are what it holds."""
    if dataset.format["type"] is None and dataset.format["columns"] == dataset.column_names:
        return dataset
    plain = dataset.with_format(None)
    plain.source = dataset  # its files go when it does
    return plain


def _with_input(dataset: Dataset) -> Dataset:
    """`dataset` with a blank `input` where questions have none."""
    if set(fields(dataset)) <= set(dataset.column_names):
        return dataset
    with quiet_datasets():
        return dataset.add_column("input", [""] * len(dataset))


def _is_text(dataset: Dataset) -> bool:
    """True where a data set has the columns of records, as text."""
    kinds = {name: getattr(kind, "dtype", "") for name, kind in dataset.features.items()}
    given = [name for name in _own(kinds) if name != "input" or name in kinds]
    return all(kinds.get(name) in ("string", "large_string") for name in given)


def _is_record(record: Any) -> bool:
    """True for a mapping with the fields of a record, as text."""
    if not isinstance(record, Mapping):
        return False
    own = _own(record)
    return all(name in record for name in own if name != "input") and all(
        isinstance(record.get(name), str | None) for name in own
    )


def _filled(records: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Records with the fields of all of them, as text.

    Raises:
        DataError: they are of both kinds, or a field can't be kept as text.
    """
    own = _own(records[0])
    names = dict.fromkeys([*own, *(name for record in records for name in record)])
    columns = [str(name) for name in names]
    if len(set(columns)) < len(columns):
        raise DataError("the list: two fields have one name, once as a text. Rename one of them.")
    for column in columns:
        if trouble := unwritable(column):
            raise DataError(f"the list: the name of the field {column!r} has {trouble}.")
    filled: list[dict[str, str]] = []
    for number, record in enumerate(records, 1):
        if _own(record) != own:
            odd = next(name for name in _own(record) if name in record)
            raise DataError(
                f"the list, record {number}, field {odd!r}: the first record has "
                f"{_named(own)}, this one {_named(_own(record))}. Give all of them the same fields."
            )
        texts = (_text(number, name, record.get(name)) for name in names)
        filled.append(dict(zip(columns, texts, strict=True)))
    return filled


def _named(own: Iterable[str]) -> str:
    """The fields that a record must have."""
    return " and ".join(name for name in own if name != "input")


def _text(number: int, name: Any, value: Any) -> str:
    """A field's value as text.

    Raises:
        DataError: it holds half a character, or can't be kept as text.
    """
    try:
        text = value if isinstance(value, str) else as_text(value)
        nested = isinstance(value, list | tuple | Mapping)
        whole = json.dumps(value, ensure_ascii=False, default=str) if nested else text
        trouble = unwritable(whole)
    except DataError as error:
        trouble = str(error)
    if trouble:
        raise DataError(f"the list, record {number}, field {name!r}: {trouble}.")
    return text


def _own(names: Iterable[str]) -> tuple[str, ...]:
    """The fields of the records' own text, where there are fields of these `names`."""
    return PAIR if {"question", "answer"} <= set(names) else TEXT


def fields(dataset: Dataset) -> tuple[str, ...]:
    """The columns that hold the records' own text: `PAIR` or, without question and answer, `TEXT`.

    `text` beside question and answer is a column like any other.
    """
    return _own(dataset.column_names)


def asked(record: Mapping[str, str | None]) -> str:
    """What a record asks: its question with the input, or its text."""
    if _own(record) == TEXT:
        return record["text"] or ""
    return "\n".join(filter(None, (record["question"], record.get("input"))))


def context(dataset: Dataset) -> list[str]:
    """The columns beside the records' own that an answer may depend on.

    The same question may have several right answers there: about several passages, after several
    conversations. A column of labels, such as a file's name, is none.
    """
    own = {*fields(dataset), *_LABELS}
    found = []
    for name in dataset.column_names:
        if name not in own:
            values = [text for text in map(as_text, dataset[:1000][name]) if text.strip()]
            long = sum(len(text.split()) > 3 or text.startswith("[") for text in values)
            if values and (name.lower() in _CONTEXT or 2 * long > len(values)):
                found.append(name)
    return found


# --- the same -------------------------------------------------------------------------------------


def tidied(text: str) -> str:
    """`text` with single blanks and one way of writing accents."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def words(text: str) -> list[str]:
    """The words of `text` in lower case, without the punctuation around them.

    Signs that carry meaning stay: "-5", "C++", "3.5", "a != b".
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    stripped = (word.lstrip(_OPENING).rstrip(_CLOSING) for word in text.casefold().split())
    return [word for word in stripped if word]


def wording(text: str) -> str:
    """What two texts have in common that differ only in case, blanks and punctuation."""
    return " ".join(words(text)) or tidied(text)


def number(text: str) -> int:
    """A signed 64-bit number for `text`, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


# --- nearly the same ------------------------------------------------------------------------------


def runs(text: str) -> set[str]:
    """The runs of three words in `text`; the words themselves where there are fewer."""
    found = words(text)
    if len(found) < 3:
        return set(found)
    return {" ".join(found[place : place + 3]) for place in range(len(found) - 2)}


def overlap(first: set[str], second: set[str]) -> float:
    """Jaccard's index: what two sets share, of all that they hold."""
    both = len(first & second)
    return both / (len(first) + len(second) - both) if both else 0.0


def bands(texts: Iterable[str]) -> np.ndarray:
    """`BANDS` numbers for each text; texts with one in common are candidates.

    Each number stands for `ROWS` minima of a MinHash signature.

    Returns:
        Int64 of shape (texts, BANDS).
    """
    import numpy as np
    from datasketch import MinHash

    sets = ([run.encode("utf-8", "surrogatepass") for run in runs(text)] for text in texts)
    signs = [one.hashvalues for one in MinHash.generator(sets, num_perm=BANDS * ROWS, seed=1)]
    values = np.array(signs, dtype=np.uint64).reshape(len(signs), BANDS, ROWS)
    mixed = np.zeros((len(signs), BANDS), dtype=np.uint64)
    for row in range(ROWS):  # wraps around at 64 bits, as hashes do
        mixed = (mixed ^ values[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)


def candidates(columns: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Pairs of places that share a band, and whether there were more than `MOST_PAIRS`.

    In a bucket of many each is paired with the first and with the one before it, so that the
    work grows with the records and not with their square.
    """
    import numpy as np

    pairs, cut, count = np.empty(0, dtype=np.int64), False, 1
    for column in columns:
        count = len(column)
        order = np.argsort(column, kind="stable")
        again = np.flatnonzero(column[order[1:]] == column[order[:-1]]) + 1
        starts = np.arange(count)
        starts[again] = 0
        firsts = order[np.maximum.accumulate(starts)][again]
        found = [order[again - 1] * count + order[again], firsts * count + order[again]]
        pairs = np.unique(np.concatenate([pairs, *found]))
        cut, pairs = cut or len(pairs) > MOST_PAIRS, pairs[:MOST_PAIRS]
    return pairs // count, pairs % count, cut


def top(leader: Mapping[int, int], place: int) -> int:
    """The first of the group that a record belongs to.

    Args:
        leader: Record -> an earlier one of its group; the first of a group is not in it.
        place: The record.
    """
    while place in leader:
        place = leader[place]
    return place
