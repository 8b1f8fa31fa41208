"""Where files live, and how they are written so that nothing is lost half-way."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from llmcourse.errors import NoSpace, SettingError, is_disk_full


def cache_dir() -> Path:
    """Folder of converted models: `LLMCOURSE_CACHE`, or the user's cache folder."""
    return _folder("LLMCOURSE_CACHE", platformdirs.user_cache_dir("llmcourse", appauthor=False))


def work_dir() -> Path:
    """Folder of what lessons make (ledgers, data, adapters): `LLMCOURSE_WORK`, or user data."""
    return _folder("LLMCOURSE_WORK", platformdirs.user_data_dir("llmcourse", appauthor=False))


def _folder(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or `default`; it need not exist yet.

    Raises:
        SettingError: it is a file, or names a user that does not exist.
    """
    chosen = os.environ.get(variable, "").strip()
    try:
        path = Path(chosen or default).expanduser()
    except RuntimeError as error:
        raise SettingError(f"{variable}={chosen!r}: {error}") from error
    if path.exists() and not path.is_dir():
        raise SettingError(f"{variable}: {path} is a file. Name a folder, new or existing.")
    return path


def scratch_path(ending: str) -> Path:
    """A new place in the cache folder for records that are on disk only while they are used.

    What killed processes left there more than two days ago is removed.
    """
    folder = cache_dir() / "records"
    if folder.is_dir():
        for old in folder.iterdir():
            try:
                if time.time() - old.stat().st_mtime > 2 * 86400:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            except OSError:
                pass  # still in use, or another process was faster
    return folder / f"{uuid.uuid4().hex}.{ending}"


def shown(path: Path) -> str:
    """`path` for people: their home folder as "~", so that no name gets into saved outputs."""
    path = path.expanduser().absolute()
    home = Path.home()
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
    """Give the path of a draft beside `path` that takes its place once the block succeeds.

    Raises:
        NoSpace: the disk is full; the old file is untouched.
        OSError: the folder can't be written to; the old file is untouched.
    """
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


def put_aside(path: Path) -> Path:
    """Keep a copy of a damaged file under a new name beside it, which is returned."""
    aside, number = path.with_suffix(".damaged.json"), 1
    while aside.exists():
        number += 1
        aside = path.with_suffix(f".damaged{number}.json")
    with replacing(aside) as draft:
        shutil.copyfile(path, draft)
    return aside


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON in the manner of `write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def no_space(folder: Path, needed: int = 0, hint: str = "") -> NoSpace:
    """The error for a full disk: where, how much is needed (bytes), and the way out."""
    amount = f"{needed / 1e9:.1f} GB are needed and " if needed else ""
    return NoSpace(
        f"No space left in {folder}: {amount}{free_bytes(folder) / 1e9:.1f} GB are free. "
        f"Free some space{hint or ', then run the same again; nothing half-written stays'}."
    )


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, whether `folder` exists yet or not."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def lock(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path`, saying `waiting` once where another process has it.

    The operating system lets go of the lock when its process dies, so a killed run
    never leaves a lock behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        if waiting:
            print(waiting, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def _put(draft: Path, target: Path) -> None:
    """Put `draft` in the place of `target`, which stays whole if that fails."""
    try:
        if target.exists():
            target.replace(target.with_name(f".{target.name}.old-{uuid.uuid4().hex[:8]}"))
        draft.replace(target)
    finally:
        _clear(target)


def _clear(target: Path) -> None:
    """Remove what was replaced; it gets its place back where a failure or a kill left none."""
    for old in target.parent.glob(f".{target.name}.old-*"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.replace(target)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that becomes `target` once the block succeeds.

    Call it under a lock: left-overs of killed runs beside `target` are removed first.

    Raises:
        NoSpace: the disk filled up; the temporary folder is removed.
    """
    prefix = f".{target.name}.new-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(prefix + "*"):
            shutil.rmtree(stale, ignore_errors=True)
        _clear(target)
        draft = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    except OSError as error:
        if is_disk_full(error):
            raise no_space(target.parent) from error
        raise
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp's folder is private; a shared cache is meant to be read
        for path in draft.iterdir():
            path.chmod(0o644)
        _put(draft, target)
    except Exception as error:
        if is_disk_full(error) and not isinstance(error, NoSpace):
            shutil.rmtree(draft, ignore_errors=True)
            raise no_space(target.parent) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
