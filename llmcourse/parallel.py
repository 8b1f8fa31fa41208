"""A data set's rows through a function, on several processes, into files of their own.

What comes back stands on disk, so a million rows need little memory.
"""

from __future__ import annotations

import gc
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmcourse.errors import CourseError, DataError, causes, is_disk_full, whole
from llmcourse.files import no_space, scratch_path
from llmcourse.progress import quiet_datasets

if TYPE_CHECKING:
    from datasets import Dataset

FEW = 20_000  # records below which a second process costs more than it saves


def workers_for(dataset: Dataset, workers: int | None) -> int:
    """How many processes to use: all usable cores where it is worth their start.

    One where a file behind `dataset` has gone already: it can then be read only from here.

    Args:
        dataset: What is worked on.
        workers: The number wished for, if any; never more than there are records.

    Raises:
        SettingError: `workers` is no whole number of at least 1.
    """
    asked = None if workers is None else whole("workers", workers, 1)
    if any(not Path(file["filename"]).exists() for file in dataset.cache_files):
        return 1
    if asked is not None:
        return max(1, min(asked, len(dataset)))
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    return cores if len(dataset) >= FEW else 1


# --- what processes share -------------------------------------------------------------------------


class Shared:
    """Something large that processes find instead of being sent it, while it is `within_reach`.

    Processes that begin as copies of this one have it already; only where they begin empty
    (Windows, macOS) is it sent to each. Sending a tokenizer of 260,000 tokens takes four seconds
    a process, and each then has a copy of its own.
    """

    held: ClassVar[dict[int, Shared]] = {}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What is sent to a process: where it has this already, only the place."""
        from multiprocess import get_start_method  # what `datasets` starts its processes with

        if id(self) in Shared.held and get_start_method() == "fork":
            return _inherited, (id(self),)
        return super().__reduce_ex__(protocol)


def _inherited(key: int) -> Shared:
    """What a forked process has from the one that began it."""
    return Shared.held[key]


@contextmanager
def within_reach(thing: Shared) -> Iterator[None]:
    """Hold `thing` for the processes that begin in the block."""
    Shared.held[id(thing)] = thing
    try:
        yield
    finally:
        Shared.held.pop(id(thing), None)


# --- rows into files ------------------------------------------------------------------------------


@contextmanager
def scratch(*, kept: bool = False) -> Iterator[Path]:
    """A new folder for the files of `map_rows`, which goes when the block ends.

    Args:
        kept: True keeps it where the block succeeds; see `with_files`.

    Raises:
        NoSpace: the disk filled up.
    """
    folder = scratch_path("rows")
    done = False
    try:
        folder.mkdir()
        yield folder
        done = True
    except BaseException as error:
        if is_disk_full(error) and not isinstance(error, CourseError):
            raise no_space(folder.parent) from error
        raise
    finally:
        if not (kept and done):
            gc.collect()  # lets go of mapped files, which Windows would not remove
            shutil.rmtree(folder, ignore_errors=True)


def map_rows(
    source: Dataset,
    job: Callable[[dict[str, list], list[int]], Mapping[str, Any]],
    columns: Mapping[str, Any],
    folder: Path,
    *,
    workers: int = 1,
    description: str = "",
) -> Dataset:
    """Run `job` over batches of `source`.

    Args:
        source: What the batches come from.
        job: Gets columns and row numbers, returns columns.
        columns: Their types; in a list, a list of that type.
        folder: For the files; from `scratch`.
        workers: Processes.
        description: What is going on, for the progress bar.

    Returns:
        The rows, with their file in `folder`.

    Raises:
        CourseError: one that `job` raised, in whichever process.
        DataError: a process was ended from outside.
    """
    from datasets import Features, Sequence, Value

    features = Features(
        {k: Sequence(Value(v[0])) if isinstance(v, list) else Value(v) for k, v in columns.items()}
    )
    try:
        with quiet_datasets(long=workers > 1):
            return source.map(
                job, batched=True, with_indices=True, remove_columns=source.column_names,
                features=features, num_proc=workers if workers > 1 else None,
                cache_file_name=str(folder / f"{uuid.uuid4().hex}.arrow"),
                load_from_cache_file=False, new_fingerprint=uuid.uuid4().hex, desc=description,
            )  # fmt: skip
    except BaseException as error:
        meant = _meant(error, workers)
        if meant is error:
            raise
        raise meant from error


def _meant(error: BaseException, workers: int) -> BaseException:
    """What a failure means; an error of ours or a keyboard interrupt is itself."""
    for cause in causes(error):
        if isinstance(cause, CourseError | KeyboardInterrupt):
            return cause
    if "abruptly died" in str(error):
        return DataError(
            f"One of {workers} worker processes was ended from outside, most likely because "
            f"memory ran out. Close other programs, or use workers=1."
        )
    return error


def with_files(dataset: Dataset, folder: Path) -> Dataset:
    """`dataset`, with its files in `folder` going when it goes (Windows keeps open ones)."""
    weakref.finalize(dataset, shutil.rmtree, folder, ignore_errors=True)
    return dataset
