"""Where files are kept, and how they are written: complete, or not at all.

The small JSON files that several processes add to (ledger, progress, labels, votes) are a `Store`.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from llmcourse.errors import CourseError, DataError, NoSpace, SettingError, first_line, is_disk_full


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
        _move(draft, path)
    except OSError as error:
        if is_disk_full(error):
            raise no_space(path.parent) from error
        raise
    finally:
        with suppress(OSError):  # nothing to remove where no draft could be made
            draft.unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Rename; on Windows a virus scanner or a reader may hold a file for a moment."""
    for seconds in (0.05, 0.1, 0.2, 0.4, 0.8) if os.name == "nt" else ():
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(seconds)
    source.replace(target)


def flush(*paths: Path) -> None:
    """Have files reach the disk before what follows: a rename, or the removal of older ones."""
    for path in paths:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


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
        for path in filter(Path.is_file, draft.iterdir()):
            path.chmod(0o644)  # safetensors makes private files; a shared cache must be readable
        # No rename replaces a folder that has files, so the old one moves aside first. A kill
        # between the two renames leaves no `target`; `_clear` then moves the old one back.
        if target.exists():
            _move(target, target.with_name(f".{target.name}.old-folder"))
        _move(draft, target)
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
        _move(old, target)
    for left_over in (old, target.with_name(f".{target.name}.new-folder")):
        shutil.rmtree(left_over, ignore_errors=True)


@dataclass(frozen=True)
class Store:
    """A JSON object in a file: complete at every moment, safe for several processes at once.

    Attributes:
        path: The file; it need not exist yet.
        what: What messages call it, such as "The ledger".
        sound: Returns the file's object without the entries that are damaged or unknown.
        error: Class of the errors raised.
    """

    path: Path
    what: str
    sound: Callable[[dict[str, Any]], dict[str, Any]]
    error: type[CourseError]

    def read(self) -> tuple[dict[str, Any], bool]:
        """The undamaged entries, none where there is no file; and whether that is all of the file.

        Raises:
            self.error: the file can't be opened.
        """
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, True
        except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested too deeply
            return {}, False
        except OSError as error:
            raise self.error(
                f"{self.what} {self.path} can't be read ({first_line(error)})."
            ) from error
        entries = self.sound(found) if isinstance(found, dict) else {}
        return entries, entries == found

    def update(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Let `change` edit the entries; a damaged file is kept under another name, with a message.

        Raises:
            self.error: the file can't be read or written; it stays as it is.
            NoSpace: the disk is full; it stays as it is.
        """
        try:
            # Read again under the lock: another notebook may have added entries meanwhile.
            with lock(self.path.with_suffix(".lock")):
                entries, undamaged = self.read()
                if not undamaged:
                    self._keep_damaged_copy()
                change(entries)
                write_json(self.path, entries)
        except OSError as error:
            raise self.error(
                f"{self.what} {self.path} can't be written ({first_line(error)}). Set "
                f"LLMCOURSE_WORK to a folder of your own."
            ) from error

    def _keep_damaged_copy(self) -> None:
        names = (self.path.with_suffix(f".damaged{number}.json") for number in count(1))
        aside = next(path for path in names if not path.exists())
        shutil.copyfile(self.path, aside)
        print(
            f"{self.path.name} was damaged. A copy is kept as {aside.name}; the entries that can "
            f"still be read stay."
        )


# --- files of one JSON object per line ------------------------------------------------------------


def lines_path(path: str | Path) -> Path:
    """`path` as a Path to a .jsonl file, with "~" expanded.

    Raises:
        DataError: its name does not end in .jsonl, or it is a folder.
    """
    found = Path(path).expanduser()
    if found.suffix.lower() != ".jsonl" or found.is_dir():
        raise DataError(f"{path} must be a file whose name ends in .jsonl.")
    return found


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a .jsonl file, each with the number of its line.

    Raises:
        DataError: there is no such file, it can't be read, or a line is not an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {first_line(error)}.") from error
    # Not splitlines(): it also splits at characters that JSON allows inside a string (U+2028).
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not JSON ({first_line(error)}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: not an object: {line:.60}")
        yield number, row


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` by one JSON object per line, completely or not at all.

    Raises:
        NoSpace, OSError: see `files.write_text`.
    """
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
