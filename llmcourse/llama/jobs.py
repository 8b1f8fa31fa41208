"""Trainings as jobs: a folder each, which is the record, so that they survive a restart.

A job's number is made from what is trained on what: the same call finds the same job again, and
goes on with it or loads it. `start` runs one in a process of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from llmcourse import finetuning, models
from llmcourse.errors import CourseError, UserError, first_line
from llmcourse.files import shown, work_dir, write_json, write_text

STATUS = ("CREATED", "RUNNING", "COMPLETED", "CANCELLED", "FAILED", "STOPPED")
MARK = "process.json"  # the process that trains it: its number, and when it began
DONE = "tuned.json"  # stands in the model's folder once it is complete
FIELDS = {"created", "base", "records", "held_out", "settings"}  # of a job's own file


@dataclass(frozen=True)
class Job:
    """A training and its folder.

    Attributes:
        id: Its number, which `BasicModelRunner` also takes for a model's name.
        folder: Where its records, its model and its log are.
    """

    id: str
    folder: Path

    @property
    def model(self) -> Path:
        """The folder of its model."""
        return self.folder / "model"

    def known(self) -> dict[str, Any]:
        """What was asked for.

        Raises:
            UserError: the file that says so is damaged.
        """
        path = self.folder / "job.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(known, dict) or not known.keys() >= FIELDS:
                raise ValueError("it lacks a part")
        except (OSError, ValueError) as error:
            raise UserError(
                f"Job {self.id}: {shown(path)} can't be read ({first_line(error)}). Delete "
                f"{shown(self.folder)} and train again."
            ) from None
        return known


Rows = Sequence[dict[str, str]]


def home() -> Path:
    """The folder of all jobs."""
    return work_dir() / "jobs"


def prepare(base: str, rows: Rows, held_out: Rows, config: finetuning.Config) -> Job:
    """The job for a training; what is needed to run it is written into its folder.

    Args:
        base: What `models.load` is asked for.
        rows: Records to train on.
        held_out: Records kept apart, for `evaluate`.
        config: How to train.
    """
    asked = {"base": base, "records": list(rows), "held_out": list(held_out),
             "settings": dataclasses.asdict(config)}  # fmt: skip
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    number = hashlib.sha256(text.encode()).hexdigest()[:16]
    job = Job(number, home() / number)
    path = job.folder / "job.json"
    if not path.is_file():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(path, {"id": job.id, "created": now, **asked})
    return job


def find(job_id: object) -> Job:
    """The job of a number.

    Raises:
        UserError: there is none.
    """
    if is_job(job_id):
        return Job(str(job_id), home() / str(job_id))
    known = ", ".join(job.id for job in listed()) or "none"
    raise UserError(f"There is no job {job_id!r}. Jobs on this machine: {known}.")


def is_job(name: object) -> bool:
    """Whether `name` is the number of a job."""
    plain = isinstance(name, str) and name.isalnum()
    return plain and (home() / str(name) / "job.json").is_file()


def listed() -> list[Job]:
    """All jobs, the newest last."""
    if not home().is_dir():
        return []
    paths = sorted(home().glob("*/job.json"), key=lambda path: path.stat().st_mtime)
    return [Job(path.parent.name, path.parent) for path in paths]


def status(job: Job) -> dict[str, Any]:
    """What has become of a job: job_id, status (one of `STATUS`), model_name, base_model, …"""
    known = job.known()
    found = {
        "job_id": job.id, "status": _state(job), "model_name": job.id, "base_model": known["base"],
        "records": len(known["records"]), "created": known["created"],
    }  # fmt: skip
    if found["status"] == "FAILED":
        found["error"] = _read(job, "error.txt")
    return found


def statuses() -> list[dict[str, Any]]:
    """`status` of every job; one whose file is damaged is FAILED, with that for a reason."""
    found = []
    for job in listed():
        try:
            found.append(status(job))
        except UserError as error:
            found.append({"job_id": job.id, "status": "FAILED", "error": str(error)})
    return found


def _state(job: Job) -> str:
    if (job.model / DONE).is_file():
        return "COMPLETED"
    if _process(job):
        return "RUNNING"
    for name, state in (("error.txt", "FAILED"), ("cancelled.txt", "CANCELLED")):
        if (job.folder / name).is_file():
            return state
    begun = job.model.is_dir() or (job.folder / MARK).is_file()
    return "STOPPED" if begun else "CREATED"


def _read(job: Job, name: str) -> str:
    with suppress(OSError, ValueError):
        return (job.folder / name).read_text(encoding="utf-8").strip()
    return ""


def _process(job: Job) -> psutil.Process | None:
    """The process that trains a job now; another one that got its number is told by its start."""
    try:
        number, begun = json.loads(_read(job, MARK))
        process = psutil.Process(number)
        alive = abs(process.create_time() - begun) < 1 and process.status() != "zombie"
    except (ValueError, TypeError, psutil.Error):
        return None
    return process if alive else None


def train(job: Job, model: models.LoadedModel, **shown: Any) -> finetuning.TunedModel:
    """Train a job in this process, with progress; one that was stopped goes on.

    Args:
        job: From `prepare`.
        model: The base.
        shown: `progress` and the like, for `finetuning.finetune`.

    Raises:
        UserError: it is being trained by another process.
        TrainingStopped, CourseError: see `finetuning.finetune`.
    """
    known = job.known()
    other = _process(job)
    if other and other.pid not in (os.getpid(), os.getppid()):  # Windows starts by a launcher
        raise UserError(f"Job {job.id} is running, in process {other.pid}. Wait, or cancel it.")
    for name in ("error.txt", "cancelled.txt"):
        (job.folder / name).unlink(missing_ok=True)
    mark = job.folder / MARK
    write_json(mark, [os.getpid(), psutil.Process().create_time()])
    try:
        config = finetuning.Config(**known["settings"])
        return finetuning.finetune(
            model, known["records"], config, held_out=known["held_out"] or None, out=job.model,
            **shown,
        )  # fmt: skip
    except finetuning.TrainingStopped as stopped:
        if not stopped.by_user:
            _failed(job, stopped)
        raise
    except Exception as error:
        _failed(job, error)
        raise
    finally:
        mark.unlink(missing_ok=True)


def _failed(job: Job, error: Exception) -> None:
    """Write down why a job ended."""
    told = str(error) if isinstance(error, CourseError) else first_line(error)
    write_text(job.folder / "error.txt", f"{told}\n")


def run(job_id: str) -> None:
    """Train a job; what `start` calls in the new process."""
    job = find(job_id)
    try:
        base = models.load(job.known()["base"])
    except Exception as error:
        _failed(job, error)
        raise
    try:
        train(job, base)
    except finetuning.TrainingStopped as stopped:
        if not stopped.by_user:
            raise


def start(job: Job) -> dict[str, Any]:
    """Train a job in a process of its own; returns its status at once."""
    if _state(job) not in ("COMPLETED", "RUNNING"):
        code = f"from llmcourse.llama import jobs; jobs.run({job.id!r})"
        for name in ("error.txt", "cancelled.txt"):
            (job.folder / name).unlink(missing_ok=True)
        with (job.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        with suppress(psutil.Error):  # it may be over already
            begun = psutil.Process(process.pid).create_time()
            write_json(job.folder / MARK, [process.pid, begun])
    return status(job)


def forget(job: Job) -> None:
    """Remove what a job has learned, so that it begins anew.

    Raises:
        UserError: it is running.
    """
    if _process(job):
        raise UserError(f"Job {job.id} is running: cancel it first.")
    shutil.rmtree(job.model, ignore_errors=True)


def cancel(job: Job, patience: float = 30.0) -> dict[str, Any]:
    """Stop a job's process, after its update if it can; what it has learned is kept.

    Args:
        job: Any job; one that does not run is left alone.
        patience: Seconds before a process that does not stop is ended by force.

    Raises:
        UserError: it runs in this very process.
    """
    process = _process(job)
    if process is None:
        return status(job)
    if process.pid == os.getpid():
        raise UserError("This job runs here: press Ctrl-C, or Interrupt in a notebook, to stop it.")
    with suppress(psutil.Error):
        process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
    if not _process(job):
        write_text(job.folder / "cancelled.txt", "by you\n")
    return status(job)


def cancel_all() -> list[dict[str, Any]]:
    """`cancel` every job that runs; the statuses of all."""
    for job in listed():
        if _process(job):
            cancel(job)
    return statuses()
