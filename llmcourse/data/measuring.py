"""Measuring every record of a data set at once, on all cores, into columns of numbers.

Texts stay on disk: what comes back is a few numbers a record, in a temporary file that is read
column by column.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmcourse.data import alike, patterns
from llmcourse.errors import NoSpace, is_disk_full
from llmcourse.files import no_space, scratch_path
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FEW = 20_000  # records below which a second process costs more than it saves
# The bits of `flags`, by their places.
FLAGS = ("blank", "overlong", "html", "encoding", *patterns.PERSONAL)
BIT = {kind: 1 << place for place, kind in enumerate(FLAGS)}
CONTENT = tuple(f"content{n}" for n in range(alike.BANDS))
ASKED = tuple(f"asked{n}" for n in range(alike.BANDS))


class Counter:
    """Counts the tokens of texts, or their words without a tokenizer.

    Processes that begin as copies of this one use its tokenizer; only where they begin empty
    (Windows, macOS) is it sent to each.
    """

    held: dict[str, PreTrainedTokenizerBase | None] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.tokenizer = tokenizer
        self.key = uuid.uuid4().hex

    def __reduce__(self) -> tuple[Callable, tuple]:
        import multiprocess

        if multiprocess.get_start_method() == "fork" and self.key in Counter.held:
            return _inherited, (self.key,)
        return Counter, (self.tokenizer,)

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


def _inherited(key: str) -> Counter:
    return Counter(Counter.held[key])


@contextmanager
def quietly(counter: Counter, workers: int = 1) -> Iterator[None]:
    """Hold the tokenizer for child processes, and keep all libraries' bars and advice away."""
    Counter.held[counter.key] = counter.tokenizer
    try:
        with quiet_datasets(long=workers > 1):
            yield
    finally:
        Counter.held.pop(counter.key, None)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files that are needed only for a while; it goes in any case.

    Raises:
        NoSpace: the disk filled up.
    """
    folder = scratch_path("inspect")
    try:
        folder.mkdir(parents=True)
        yield folder
    except BaseException as error:
        if is_disk_full(error) and not isinstance(error, NoSpace):
            raise no_space(folder.parent) from error
        raise
    finally:
        gc.collect()  # lets go of mapped files, which Windows would not remove
        shutil.rmtree(folder, ignore_errors=True)


def workers_for(dataset: Dataset, workers: int | None) -> int:
    """How many processes measure `dataset`: all usable cores where it is worth their start.

    One where a file behind it has gone already: it can then be read only from here.
    """
    if any(not Path(file["filename"]).exists() for file in dataset.cache_files):
        return 1
    if workers is not None:
        return max(1, min(workers, len(dataset)))
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return cores if len(dataset) >= FEW else 1


def measured(
    dataset: Dataset, counter: Counter, folder: Path, *, longest: int, leaks: bool, workers: int
) -> Dataset:
    """The numbers of each record, as a data set with files in `folder`.

    Args:
        dataset: What to measure.
        counter: Counts tokens or words.
        folder: For the files.
        longest: Units above which a record is overlong.
        leaks: True also takes the signature of what is asked.
        workers: Number of processes.
    """
    from datasets import Features, Value

    names = alike.fields(dataset)
    kinds = {"prompt": "int32", "answer": "int32", "flags": "int64", "content": "int64",
             "asked": "int64", "answered": "int64"}  # fmt: skip
    kinds |= dict.fromkeys([*CONTENT, *(ASKED if leaks else ())], "int64")
    return dataset.map(
        functools.partial(
            _measure, names=names, counter=counter, longest=longest, leaks=leaks
        ),
        batched=True,
        batch_size=1000,
        input_columns=list(names),
        remove_columns=dataset.column_names,
        features=Features({name: Value(kind) for name, kind in kinds.items()}),
        num_proc=workers if workers > 1 else None,
        cache_file_name=str(folder / f"{uuid.uuid4().hex}.arrow"),
        load_from_cache_file=False,
        new_fingerprint=uuid.uuid4().hex,
        desc="Inspecting",
    )  # fmt: skip


def _measure(
    *columns: list[str | None],
    names: tuple[str, ...],
    counter: Counter,
    longest: int,
    leaks: bool,
) -> dict[str, np.ndarray]:
    """The numbers of a batch of records, given column by column."""
    import numpy as np

    records = [
        {name: text or "" for name, text in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]
    prompts = [alike.asked(record) for record in records]
    answers = [record.get("answer", "") for record in records]
    lengths = [np.array(counter(texts), dtype=np.int32) for texts in (prompts, answers)]
    flags = np.array([_flags(record) for record in records], dtype=np.int64)
    flags |= np.where(lengths[0] + lengths[1] > longest, BIT["overlong"], 0)
    whole = ["\x1f".join(map(alike.tidied, record.values())) for record in records]
    numbers = {
        "content": [alike.number(text) for text in whole],
        "asked": [alike.number(alike.wording(text)) for text in prompts],
        "answered": [alike.number(alike.wording(text)) for text in answers],
    }
    found = {"prompt": lengths[0], "answer": lengths[1], "flags": flags}
    found |= {name: np.array(values, dtype=np.int64) for name, values in numbers.items()}
    joined = [" ".join(record.values()) for record in records]
    for columns_of, texts in ((CONTENT, joined), (ASKED, prompts if leaks else [])):
        if texts:
            found |= dict(zip(columns_of, alike.bands(texts).T, strict=True))
    return found


def _flags(record: dict[str, str]) -> int:
    """What trouble a record has by itself, as bits."""
    flags = 0
    for name, text in record.items():
        if not text.strip():
            flags |= BIT["blank"] if name != "input" else 0
            continue
        if patterns.markup(text):
            flags |= BIT["html"]
        if patterns.garbled(text):
            flags |= BIT["encoding"]
        for _, _, kind in patterns.personal(text):
            flags |= BIT[kind]
    return flags


def column(numbers: Dataset, name: str) -> np.ndarray:
    """One column of `measured`, whole."""
    return numbers.data.column(name).to_numpy()
