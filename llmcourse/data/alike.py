"""Which records are the same, and which nearly so, among a million of them.

Texts are compared by 64-bit hashes (BLAKE2b), which are the same on every machine. Nearly the
same are those whose sets of three-word runs overlap by `NEAR` or more, as in Broder, "On the
resemblance and containment of documents" (1997). MinHash finds the candidates without comparing
all with all; each candidate is then checked on the texts themselves.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.data.records import OTHER_HISTORY, PAIR, TEXT, as_text, own_fields

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

# Names of columns that an answer may depend on; others count where they hold sentences or lists.
_CONTEXT = (
    OTHER_HISTORY,
    "system",
    "context",
    "passage",
    "paragraph",
    "article",
    "conversation",
    "dialogue",
    "dialog",
    "background",
    "persona",
    "table",
    "schema",
    "title",
    "chat_history",
)
_LABELS = ("id", "keys", "split", "url", "reviewed", "written", "keep")
NEAR = 0.7  # share of three-word runs in common
BANDS, ROWS = 16, 4  # finds 98.8 % of the pairs at NEAR: 1 - (1 - 0.7**4)**16
MOST_PAIRS = 1_000_000  # candidates checked; more are only met in data made from one mould
_OPENING, _CLOSING = "\"'“”‘’«»„([{¿¡", ".,;:!?…\"'“”‘’«»)]}"


def fields(dataset: Dataset) -> tuple[str, ...]:
    """The columns that hold the records' own text, earlier turns among them."""
    own = own_fields(dataset.column_names)
    return ("history", *own) if "history" in dataset.column_names and own == PAIR else own


def texts_of(record: Mapping[str, Any]) -> dict[str, str]:
    """A record's fields as texts: the earlier turns of a conversation as one."""
    return {
        name: "\n".join(turn["content"] for turn in value or ())
        if name == "history"
        else value or ""
        for name, value in record.items()
    }


def asked(record: Mapping[str, Any]) -> str:
    """What a record asks: its question with the input and the turns before, or its text."""
    if own_fields(record) == TEXT:
        return record["text"] or ""
    turns = record.get("history") or ""
    if not isinstance(turns, str):
        turns = "\n".join(turn["content"] for turn in turns)
    return "\n".join(filter(None, (turns, record["question"], record.get("input"))))


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
