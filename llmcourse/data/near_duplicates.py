"""Which records are the same, and which nearly so, among a million of them.

Texts are compared by 64-bit hashes (BLAKE2b), which are the same on every machine. Nearly the
same are those whose sets of three-word shingles have a Jaccard index of `NEAR` or more, as in
Broder, "On the resemblance and containment of documents" (1997). MinHash finds the candidates
without comparing all with all; each candidate is then checked on the texts themselves.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.data.records import OTHER_HISTORY, as_text, question_of, text_fields, texts_of
from llmcourse.templates import is_blank
from llmcourse.words import UNSPACED

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from datasets import Dataset

# Names of columns that an answer may depend on; others count where they hold sentences or lists.
_CONTEXT = frozenset(
    f"""
    system context passage paragraph article conversation dialogue dialog background persona table
    schema title chat_history {OTHER_HISTORY.replace(" ", "_")}
    """.split()
)
_LABELS = ("id", "keys", "split", "url", "reviewed", "written", "keep")
NEAR = 0.7  # share of three-word shingles in common
BANDS, ROWS = 16, 4  # finds 98.8 % of the pairs at NEAR: 1 - (1 - 0.7**4)**16
MOST_PAIRS = 1_000_000  # candidates checked; more are only met in data made from one template
RECORD = [f"record {n}" for n in range(BANDS)]  # columns: the bands of all of a record
QUESTION = [f"question {n}" for n in range(BANDS)]  # those of its question
KEYS = {"blank": "bool", **dict.fromkeys(["record", "question", "answer", "context"], "int64")}
KEYS |= dict.fromkeys(RECORD, "int64")
_OPENING = "\"'“”‘’«»„([{¿¡「『（"
_CLOSING = ".,;:!?…\"'“”‘’«»)]}。，、！？；：」』）।॥؟،؛۔።"


# --- the same -------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of `text` in lower case, without the punctuation around them.

    Marks that carry meaning stay: "-5", "C++", "3.5", "a != b". Of a script without blanks between
    words each character is one.
    """
    if not text.isascii():
        text = UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFKC", text))
    stripped = (word.lstrip(_OPENING).rstrip(_CLOSING) for word in text.casefold().split())
    return [word for word in stripped if word]


def tidied(text: str) -> str:
    """`text` with single blanks and one way of writing accents."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def comparable(text: str) -> str:
    """What two texts have in common that differ only in case, blanks and punctuation."""
    return " ".join(words(text)) or tidied(text)


def number(text: str) -> int:
    """A signed 64-bit number for `text`, the same on every machine."""
    # not `hash`, which differs from process to process, so that no two workers would agree
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def compared(records: Dataset) -> Dataset:
    """The columns that count when records are compared, the records' own first."""
    own = text_fields(records.column_names)
    return records.select_columns([*own, *context_columns(records)])


def batch_keys(
    batch: dict[str, list[Any]], _: Any = None, *, questions: bool = False
) -> dict[str, Any]:
    """What a batch of records is compared by, as columns; `questions` adds the bands `QUESTION`.

    `blank` says whether the question, the answer or the text is; then come hashes of the `record`,
    and of its `question`, `answer` and `context` (see `context_columns`) without case and
    punctuation; and the MinHash bands of the record, `RECORD`.
    """
    names = text_fields(batch)
    rows = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    records = [texts_of(row) for row in rows]
    contexts = [[value for name, value in row.items() if name not in names] for row in rows]
    questions_of = [question_of(record) for record in records]
    needed = [name for name in names if name not in ("input", "history")]
    found: dict[str, Any] = {
        "blank": [any(is_blank(record[name]) for name in needed) for record in records],
        "record": [number("\x1f".join(map(tidied, record.values()))) for record in records],
        "question": [number(comparable(text)) for text in questions_of],
        "answer": [number(comparable(record.get("answer", ""))) for record in records],
        "context": [number("\x1f".join(map(as_text, values))) for values in contexts],
    }
    found |= zip(RECORD, bands(" ".join(record.values()) for record in records).T, strict=True)
    if questions:
        found |= zip(QUESTION, bands(questions_of).T, strict=True)
    return found


def context_columns(records: Dataset) -> list[str]:
    """The columns beside the records' own that an answer may depend on.

    The same question may have several right answers there: about several passages, after several
    conversations. A column of labels, such as a file's name, is none.
    """
    found = []
    for name in records.column_names:
        if name not in (*text_fields(records.column_names), *_LABELS):
            # (a look at the first thousand is enough, and cheap in a million)
            values = [text for text in map(as_text, records[:1000][name]) if text.strip()]
            long = sum(len(text.split()) > 3 or text.startswith("[") for text in values)
            known = name.lower().replace(" ", "_") in _CONTEXT
            if values and (known or 2 * long > len(values)):
                found.append(name)
    return found


# --- nearly the same ------------------------------------------------------------------------------


def shingles(text: str) -> set[str]:
    """The runs of three words in `text`; the words themselves where there are fewer."""
    found = words(text)
    if len(found) < 3:
        return set(found)
    return {" ".join(found[place : place + 3]) for place in range(len(found) - 2)}


def jaccard(first: set[str], second: set[str]) -> float:
    """What two sets share, of all that they hold: from 0 to 1."""
    return len(first & second) / len(first | second) if first and second else 0.0


def bands(texts: Iterable[str]) -> np.ndarray:
    """`BANDS` numbers for each text; texts with one in common are candidates.

    Each number is made of `ROWS` minima of a MinHash signature.

    Returns:
        Int64 of shape (texts, BANDS).
    """
    import numpy as np
    from datasketch import MinHash

    sets = ([one.encode("utf-8", "surrogatepass") for one in shingles(text)] for text in texts)
    minima = [one.hashvalues for one in MinHash.generator(sets, num_perm=BANDS * ROWS, seed=1)]
    values = np.array(minima, dtype=np.uint64).reshape(len(minima), BANDS, ROWS)
    # four numbers become one, by random odd factors; it wraps around at 64 bits as hashes do
    mix = np.random.default_rng(0).integers(1, 2**63, ROWS, dtype=np.uint64) | np.uint64(1)
    return (values * mix).sum(axis=2, dtype=np.uint64).view(np.int64)


def candidates(table: pandas.DataFrame) -> list[tuple[int, int]]:
    """Pairs of rows of `table`, by their index, that have the same number in a column.

    In a bucket of many each is paired with the first and with the one before it, so that the work
    grows with the records and not with their square. At most `MOST_PAIRS` are given.
    """
    import pandas

    pairs = pandas.DataFrame({"first": [], "second": []}, dtype="int64")
    for name in table.columns:
        # most records share no band with any other; the rest is far less to group
        shared = table[name][table[name].duplicated(keep=False)]
        if len(shared):
            places = shared.index.to_series()
            bucket = places.groupby(shared)
            found = pandas.DataFrame({"second": places, "first": bucket.shift()}).dropna()
            more = found.assign(first=bucket.transform("first"))
            pairs = pandas.concat([pairs, found.astype("int64"), more])
            pairs = pairs.drop_duplicates().head(MOST_PAIRS)
    return list(pairs.sort_values(["first", "second"]).itertuples(index=False, name=None))


def near(
    pairs: Sequence[tuple[int, int]],
    records: Dataset,
    others: Dataset,
    text_of: Callable[[dict[str, Any]], str],
) -> Iterator[tuple[int, int]]:
    """Those of the candidates that are nearly the same by their texts, which are read in blocks.

    Args:
        pairs: A place in `records` and one in `others`.
        records: Where the first of each pair is.
        others: Where the second of each pair is.
        text_of: The text of a record that is compared.
    """
    for start in range(0, len(pairs), 5000):  # the texts of all pairs may not fit into memory
        block = pairs[start : start + 5000]
        one, other = (
            {place: shingles(text_of(record)) for place, record in rows(dataset, places)}
            for dataset, places in zip((records, others), zip(*block, strict=True), strict=True)
        )
        for pair in block:
            if jaccard(one[pair[0]], other[pair[1]]) >= NEAR:
                yield pair


def rows(records: Dataset, places: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records at these places, each once and with its place: only their own fields are read."""
    chosen = sorted({int(place) for place in places})
    own = records.select_columns(list(text_fields(records.column_names))).select(chosen)
    return zip(chosen, own, strict=True)
