"""Measuring every record of a data set at once, on all cores, into columns of numbers.

What comes back is a few numbers a record, column by column.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmcourse import templates
from llmcourse.data import alike, patterns
from llmcourse.data.records import as_text
from llmcourse.data.tables import mapped

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Numbers = dict[str, Any]  # name -> an array with a number for each record
# The bits of `flags`, by their places.
FLAGS = ("blank", "overlong", "html", "encoding", *patterns.PERSONAL)
BIT = {kind: 1 << place for place, kind in enumerate(FLAGS)}
CONTENT = tuple(f"content{n}" for n in range(alike.BANDS))
ASKED = tuple(f"asked{n}" for n in range(alike.BANDS))


class Counter:
    """Counts the tokens of texts, or their words without a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> list[int]:
        """The length of each text."""
        if self.tokenizer is None:
            return [len(text.split()) for text in texts]
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        fast = getattr(backend, "encode_batch_fast", None)
        if fast and backend.truncation is None and backend.padding is None:
            return [len(one) for one in fast(list(texts), add_special_tokens=False)]
        ids = self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        return [len(one) for one in ids]


def measured(
    dataset: Dataset, counter: Counter, *, longest: int, leaks: bool, workers: int | None
) -> Numbers:
    """The numbers of each record: name -> a column of them.

    Args:
        dataset: What to measure.
        counter: Counts tokens or words.
        longest: Units above which a record is overlong.
        leaks: True also takes the signature of what is asked.
        workers: Number of processes; see `records.mapped`.
    """
    names = alike.fields(dataset)
    kinds = {
        "prompt": "int32",
        "answer": "int32",
        "flags": "int64",
        "content": "int64",
        "asked": "int64",
        "answered": "int64",
        "around": "int64",
    }
    kinds |= dict.fromkeys([*CONTENT, *(ASKED if leaks else ())], "int64")
    job = functools.partial(_measure, names=names, counter=counter, longest=longest, leaks=leaks)
    texts = dataset.select_columns([*names, *alike.context(dataset)])
    rows = mapped(texts, job, kinds, workers, "Inspecting")
    return {name: rows.data.column(name).to_numpy() for name in kinds}


def _measure(
    batch: dict[str, list[Any]],
    _: list[int],
    names: Sequence[str],
    counter: Counter,
    longest: int,
    leaks: bool,
) -> dict[str, np.ndarray]:
    """The numbers of a batch of records."""
    import numpy as np

    records = [
        alike.texts_of(dict(zip(names, row, strict=True)))
        for row in zip(*(batch.pop(name) for name in names), strict=True)
    ]
    around = zip(*batch.values(), strict=True) if batch else [()] * len(records)
    prompts = [alike.asked(record) for record in records]
    answers = [record.get("answer", "") for record in records]
    lengths = [np.array(counter(texts), dtype=np.int32) for texts in (prompts, answers)]
    flags = np.array([_flags(record) for record in records], dtype=np.int64)
    flags |= np.where(lengths[0] + lengths[1] > longest, BIT["overlong"], 0)
    whole = ["\x1f".join(map(alike.tidied, record.values())) for record in records]
    hashes = {
        "content": [alike.number(text) for text in whole],
        "asked": [alike.number(alike.wording(text)) for text in prompts],
        "answered": [alike.number(alike.wording(text)) for text in answers],
        "around": [alike.number("\x1f".join(map(as_text, row))) for row in around],
    }
    found = {"prompt": lengths[0], "answer": lengths[1], "flags": flags}
    found |= {name: np.array(values, dtype=np.int64) for name, values in hashes.items()}
    joined = [" ".join(record.values()) for record in records]
    for columns_of, texts in ((CONTENT, joined), (ASKED, prompts if leaks else [])):
        if texts:
            found |= dict(zip(columns_of, alike.bands(texts).T, strict=True))
    return found


def _flags(record: dict[str, str]) -> int:
    """What trouble a record has by itself, as bits."""
    flags = 0
    for name, text in record.items():
        if templates.is_blank(text):
            flags |= BIT["blank"] if name not in ("input", "history") else 0
            continue
        if patterns.markup(text):
            flags |= BIT["html"]
        if patterns.garbled(text):
            flags |= BIT["encoding"]
        for _, _, kind in patterns.personal(text):
            flags |= BIT[kind]
    return flags
