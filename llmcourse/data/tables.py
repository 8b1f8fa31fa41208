"""Work on all rows of a data set, on all cores where there are many; and how long texts are."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcourse.errors import whole
from llmcourse.progress import quiet_datasets
from llmcourse.words import size

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FEW = 20_000  # records below which a second process costs more than it saves


def mapped(
    source: Dataset,
    job: Callable[..., Mapping[str, Any]],
    columns: Mapping[str, Any],
    workers: int | None = None,
    description: str = "",
) -> Dataset:
    """Run `job` over batches of `source`; the result is in memory, and nothing on the disk.

    Args:
        source: What the batches come from.
        job: Gets columns and row numbers, returns columns.
        columns: Their types: names such as "int32", in a list for a list of that type; or the
            `Features` of a data set.
        workers: Processes; if not given, 1 below 20,000 records, else one a usable core.
        description: What goes on, for the progress bar.

    Raises:
        SettingError: `workers` is no whole number of at least 1.
    """
    from datasets import Features, List, Value

    if workers is None:
        usable = getattr(os, "sched_getaffinity", None)  # fewer than all cores in a container
        cores = len(usable(0)) if usable else os.cpu_count() or 1
        workers = cores if len(source) >= FEW else 1
    many = min(whole("workers", workers, 1), len(source))
    if not isinstance(columns, Features):
        kinds = {
            name: List(Value(k[0])) if isinstance(k, list) else Value(k)
            for name, k in columns.items()
        }
        columns = Features(kinds)
    with quiet_datasets(long=many > 1):
        return source.map(
            job,
            batched=True,
            with_indices=True,
            remove_columns=source.column_names,
            features=columns,
            num_proc=many if many > 1 else None,
            keep_in_memory=True,  # what is read again within seconds needs no file
            load_from_cache_file=False,
            # without a name `datasets` would hash the job, its tokenizer and all
            new_fingerprint=uuid.uuid4().hex,
            desc=description,
        )


def token_counts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """The length of each text in tokens, without special tokens; None counts words."""
    if tokenizer is None:
        return [size(text) for text in texts]
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "encode_batch_fast") and not (backend.truncation or backend.padding):
        # (a call would make offsets and masks too, which nobody needs here)
        return [
            len(one) for one in backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
    return [len(one) for one in ids]
