"""Records as data sets in memory, and work on all of their rows."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llmcourse.errors import whole
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK = 5000  # rows that become a table at once
FEW = 20_000  # records below which a second process costs more than it saves


def in_memory(records: Iterator[dict[str, Any]]) -> Dataset | None:
    """Records as a data set with the columns of all of them; None where there are none."""
    import pyarrow as pa
    from datasets import Dataset

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kinds: dict[str, pa.DataType] = {}
    tables = []
    while chunk := list(itertools.islice(records, CHUNK)):
        names = dict.fromkeys(name for record in chunk for name in record)
        kinds |= {name: turns if name == "history" else pa.string() for name in names}
        blank = {name: [] if kinds[name] == turns else "" for name in names}
        schema = pa.schema([(name, kinds[name]) for name in names])
        tables.append(pa.Table.from_pylist([blank | record for record in chunk], schema=schema))
    if not tables:
        return None
    for place, table in enumerate(tables):  # columns that came with a later chunk
        for name in kinds.keys() - set(table.column_names):
            blanks = [[] if kinds[name] == turns else ""] * len(table)
            table = table.append_column(name, pa.array(blanks, kinds[name]))
        tables[place] = table.select(list(kinds))
    return Dataset(pa.concat_tables(tables))


def mapped(
    source: Dataset,
    job: Callable[..., Mapping[str, Any]],
    columns: Mapping[str, Any],
    workers: int | None = None,
    description: str = "",
) -> Dataset:
    """Run `job` over batches of `source`, on all cores where there are many records.

    Args:
        source: What the batches come from.
        job: Gets columns and row numbers, returns columns.
        columns: Their types; in a list, a list of that type.
        workers: Processes; if not given, 1 below 20,000 records, else one a usable core.
        description: What is going on, for the progress bar.

    Raises:
        SettingError: `workers` is no whole number of at least 1.
    """
    from datasets import Features, List, Value

    if workers is None:
        usable = getattr(os, "sched_getaffinity", None)
        cores = len(usable(0)) if usable else os.cpu_count() or 1
        many = cores if len(source) >= FEW else 1
    else:
        many = min(whole("workers", workers, 1), len(source))
    kinds = {
        name: List(Value(k[0])) if isinstance(k, list) else Value(k) for name, k in columns.items()
    }
    with quiet_datasets(long=many > 1):
        return source.map(
            job,
            batched=True,
            with_indices=True,
            remove_columns=source.column_names,
            features=Features(kinds),
            num_proc=many if many > 1 else None,
            keep_in_memory=True,
            load_from_cache_file=False,
            new_fingerprint=uuid.uuid4().hex,
            desc=description,
        )
