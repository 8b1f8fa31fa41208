"""Where files are kept, and how they are written: complete, or not at all."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from llmcourse.errors import NoSpace, SettingError, is_disk_full


def cache_dir() -> Path:
    """Folder of converted models: `LLMCOURSE_CACHE`, or the user's cache folder.

    Raises:
        SettingError: it is a file, or the user has no home folder.
    """
    return _folder("LLMCOURSE_CACHE", platformdirs.user_cache_dir)


def work_dir() -> Path:
    """Folder of what lessons make (ledgers, data, adapters): `LLMCOURSE_WORK`, or user data.

    Raises:
        SettingError: it is a file, or the user has no home folder.
    """
    return _folder("LLMCOURSE_WORK", platformdirs.user_data_dir)


def _folder(variable: str, default: Callable[..., str]) -> Path:
    """The folder that an environment variable names, or the system's; it may not exist yet."""
    chosen = os.environ.get(variable, "").strip()
    try:
        path = Path(chosen or default("llmcourse", appauthor=False)).expanduser()
    except RuntimeError:  # of platformdirs and pathlib: no such user, or one without a home folder
        raise SettingError(
            f"There is no home folder here. Set {variable} to the path of a folder."
        ) from None
    if os.path.isfile(path):  # noqa: PTH113 - `Path` raises where it may not look
        raise SettingError(f"{variable}: {path} is a file. Name a folder, new or existing.")
    return path


def writable_cache(name: str = "") -> Path:
    """The folder `name` of the cache, made where this user can write.

    A class may share one read-only cache of unpacked models. Then the folder is in the user's own
    cache. Where that can't be written either (in a container without a home folder, say), it is a
    temporary folder that is removed when this process ends.
    """
    # Each is called inside `try`: the folder's name may be wrong, or there may be no home folder.
    for cache in (cache_dir, partial(platformdirs.user_cache_path, "llmcourse", appauthor=False)):
        try:
            folder = cache() / name
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, SettingError, RuntimeError):  # platformdirs': there is no home folder
            continue
        if is_writable(folder):
            return folder
    folder = _temporary() / name
    folder.mkdir(exist_ok=True)
    return folder


@lru_cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix="llmcourse-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or where it does not exist yet, a folder for it.

    It tries: permissions alone say little on Windows, network drives and read-only disks.
    """
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            return True
    except OSError:
        return False


def _nearest(folder: Path) -> Path:
    """`folder`, or the nearest parent that exists."""
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 - as above
        folder = folder.parent
    return folder


def shown(path: Path) -> str:
    """`path` with "~" for the home folder, so that no user's name gets into saved outputs."""
    path = path.expanduser().absolute()
    home = os.path.expanduser("~")  # noqa: PTH111 - stays "~" where nobody has a home folder
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a reader sees the old file or the new one, never half.

    Raises:
        NoSpace: the disk is full; the old file is untouched.
        OSError: the folder can't be written to; the old file is untouched.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a draft beside `path` that replaces it once the block succeeds.

    Raises:
        NoSpace: the disk is full; the old file is untouched.
        OSError: the folder can't be written to; the old file is untouched.
    """
    # In the same folder, as a rename is atomic on one disk only; with the process's number, so that
    # two processes never share a draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        if is_disk_full(error):
            raise no_space(path.parent) from error
        raise
    finally:
        with suppress(OSError):  # nothing to remove where no draft could be made
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON, as `write_text` writes text."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def no_space(folder: Path, needed: int = 0, hint: str = "") -> NoSpace:
    """The error for a full disk: the folder, the bytes needed, and what to do."""
    amount = f"{needed / 1e9:.1f} GB are needed and " if needed else ""
    return NoSpace(
        f"No space left in {folder}: {amount}{free_bytes(folder) / 1e9:.1f} GB are free. "
        f"Free some space{hint or ', then run the same again; nothing half-written stays'}."
    )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, whether `folder` exists yet or not."""
    return shutil.disk_usage(_nearest(folder)).free


@contextmanager
def lock(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path`; print `waiting` once where another process holds it.

    The operating system releases the lock when its process dies, so a killed run leaves none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=0)  # to know whether there is something to wait for
    except Timeout:
        if waiting:
            print(waiting, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that becomes `target` once the block succeeds.

    Call it under a lock: what killed runs left beside `target` is cleaned up first.

    Raises:
        NoSpace: the disk filled up; the temporary folder is removed.
    """
    draft = target.with_name(f".{target.name}.new-folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target)
        draft.mkdir()
        yield draft
        for path in draft.iterdir():
            path.chmod(0o644)  # safetensors makes private files; a shared cache must be readable
        # No rename replaces a folder that has files, so the old one moves aside first. A kill
        # between the two renames leaves no `target`; `_clear` then moves the old one back.
        if target.exists():
            target.replace(target.with_name(f".{target.name}.old-folder"))
        draft.replace(target)
    except Exception as error:
        if is_disk_full(error) and not isinstance(error, NoSpace):
            raise no_space(target.parent) from error
        raise
    finally:
        _clear(target)


def _clear(target: Path) -> None:
    """Remove the folders that `new_folder` made beside `target`; restore a lost `target`."""
    old = target.with_name(f".{target.name}.old-folder")
    if old.exists() and not target.exists():
        old.replace(target)
    for left_over in (old, target.with_name(f".{target.name}.new-folder")):
        shutil.rmtree(left_over, ignore_errors=True)
