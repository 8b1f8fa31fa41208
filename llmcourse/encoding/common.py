"""What encoding and packing share: rows on disk, and numbers that are checked."""

from __future__ import annotations

import operator
import shutil
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse.errors import CourseError, DataError, NoSpace, SettingError, causes, is_disk_full
from llmcourse.files import no_space, scratch_path
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    from datasets import Dataset

UNTRAINED = -100  # the label that torch's cross-entropy leaves out


def whole(name: str, value: object, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise SettingError(f"{name}={value!r} must be a whole number of at least {least}.")
    return number


def map_rows(
    source: Dataset, job: Callable, columns: Mapping[str, Any], workers: int = 1
) -> tuple[Dataset, Path]:
    """Run `job` over batches of `source`.

    Args:
        source: What the batches come from.
        job: Gets columns and row numbers, returns columns.
        columns: Their types; in a list, a list of that type.
        workers: Processes.

    Returns:
        The rows, and the folder with their files; see `with_files`.
    """
    from datasets import Features, Sequence, Value

    folder = scratch_path("rows")
    features = Features(
        {k: Sequence(Value(v[0])) if isinstance(v, list) else Value(v) for k, v in columns.items()}
    )
    try:
        folder.mkdir(parents=True)
        with quiet_datasets(long=workers > 1):
            rows = source.map(
                job, batched=True, with_indices=True, remove_columns=source.column_names,
                features=features, num_proc=workers if workers > 1 else None,
                cache_file_name=str(folder / "rows.arrow"), load_from_cache_file=False,
                new_fingerprint=uuid.uuid4().hex, desc="Encoding",
            )  # fmt: skip
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        meant = _map_error(error, folder, workers)
        if meant is error:
            raise
        raise meant from error
    return rows, folder


def with_files(dataset: Dataset, folder: Path) -> Dataset:
    """`dataset`, with its files in `folder` going when it goes (Windows keeps open ones)."""
    weakref.finalize(dataset, shutil.rmtree, folder, ignore_errors=True)
    return dataset


def _map_error(error: BaseException, folder: Path, workers: int) -> BaseException:
    """What a failure means; an error of ours or a keyboard interrupt is itself."""
    for cause in causes(error):
        if isinstance(cause, CourseError | KeyboardInterrupt):
            return cause
    if is_disk_full(error) and not isinstance(error, NoSpace):
        return no_space(folder.parent)
    if "abruptly died" in str(error):
        return DataError(
            f"One of {workers} worker processes was ended from outside, most likely because "
            f"memory ran out. Close other programs, or use workers=1."
        )
    return error
