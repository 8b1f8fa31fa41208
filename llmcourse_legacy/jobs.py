"""Trainings as jobs: a folder each, which is the record, so that they survive a restart.

A job's number is made from what is trained on what: the same call finds the same job again, and
goes on with it or loads it. `start` runs one in a process of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from llmcourse import finetuning, models, tiers
from llmcourse.errors import CourseError, SettingError, UserError, first_line
from llmcourse.files import shown, work_dir, write_json, write_text
from llmcourse.finetuning.settings import OPTIMIZERS
from llmcourse.llama.settings import note

MARK = "process.json"  # the process that trains a job: its number, and when it began
FAILED, CANCELLED = "error.txt", "cancelled.txt"
TEST_SHARE, SEED = 0.1, 123  # of the data that is kept apart, as the course's labs do
SMOKE_STEPS = 4  # updates on the tests' tier
# What `finetuning.Config` calls transformers' settings.
NAMES = {
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "optim": "optimizer",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "schedule",
    "max_seq_length": "max_length",
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
}
FIELDS = {"created", "base", "records", "held_out", "settings"}  # of a job's own file


@dataclasses.dataclass(frozen=True)
class Job:
    """A training, by its number, which `BasicModelRunner` also takes for a model's name."""

    id: str

    @property
    def folder(self) -> Path:
        """Where its records, its model and its log are."""
        return home() / self.id

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
            return known
        except (OSError, ValueError) as error:
            raise UserError(
                f"Job {self.id}: {shown(path)} can't be read ({first_line(error)}). Delete "
                f"{shown(self.folder)} and train again."
            ) from None

    def process(self) -> psutil.Process | None:
        """The process that trains it now; another one that got its number began later."""
        try:
            number, begun = json.loads(self.read(MARK))
            process = psutil.Process(number)
            alive = abs(process.create_time() - begun) < 1 and process.status() != "zombie"
        except (ValueError, TypeError, psutil.Error):
            return None
        return process if alive else None

    def read(self, name: str) -> str:
        """A file of its folder; "" where there is none."""
        with suppress(OSError, ValueError):
            return (self.folder / name).read_text(encoding="utf-8").strip()
        return ""


def home() -> Path:
    """The folder of all jobs."""
    return work_dir() / "jobs"


def prepare(
    base: str, rows: Sequence[Any], held_out: Sequence[Any], config: finetuning.Config
) -> Job:
    """The job for a training; what is needed to run it is written into its folder.

    Args:
        base: What `models.load` takes.
        rows: Records to train on.
        held_out: Records kept apart, for `evaluate`.
        config: How to train.
    """
    asked = {"base": base, "records": list(rows), "held_out": list(held_out)}
    asked["settings"] = dataclasses.asdict(config)
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
    job = Job(hashlib.sha256(text.encode()).hexdigest()[:16])
    path = job.folder / "job.json"
    if not path.is_file():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(path, {"id": job.id, "created": now, **asked})
    return job


def is_job(name: object) -> bool:
    """Whether `name` is the number of a job."""
    plain = isinstance(name, str) and name.isalnum()
    return plain and (home() / str(name) / "job.json").is_file()


def status(job: Job) -> dict[str, Any]:
    """What has become of a job: job_id, status, model_name, base_model, records, created, error.

    The status is CREATED, RUNNING, COMPLETED, CANCELLED, FAILED or STOPPED.
    """
    known = job.known()
    if finetuning.tuned.is_saved(job.model):
        state = "COMPLETED"
    elif job.process():
        state = "RUNNING"
    elif failed := job.read(FAILED):
        state = "FAILED"
    elif job.read(CANCELLED):
        state = "CANCELLED"
    else:
        begun = job.model.is_dir() or (job.folder / MARK).is_file()
        state = "STOPPED" if begun else "CREATED"
    found = {"job_id": job.id, "status": state, "model_name": job.id, "base_model": known["base"]}
    found |= {"records": len(known["records"]), "created": known["created"]}
    return found | ({"error": failed} if state == "FAILED" else {})


def train(job: Job, model: models.LoadedModel, fresh: bool = False) -> finetuning.TunedModel:
    """Train a job in this process, with progress; one that was stopped goes on.

    Args:
        job: From `prepare`.
        model: The base.
        fresh: True begins anew where such a training is there.

    Raises:
        UserError: another process trains it.
        TrainingStopped, CourseError: see `finetuning.finetune`.
    """
    known, other = job.known(), job.process()
    if other and other.pid not in (os.getpid(), os.getppid()):  # Windows starts by a launcher
        raise UserError(f"Job {job.id} is running, in process {other.pid}. Wait, or cancel it.")
    begin(job, os.getpid())
    try:
        return finetuning.finetune(
            model,
            known["records"],
            finetuning.Config(**known["settings"]),
            held_out=known["held_out"] or None,
            out=job.model,
            fresh=fresh,
        )
    except Exception as error:
        if not getattr(error, "by_user", False):
            fail(job, error)
        raise
    finally:
        (job.folder / MARK).unlink(missing_ok=True)


def begin(job: Job, number: int) -> None:
    """Note that process `number` trains a job."""
    for name in (FAILED, CANCELLED):
        (job.folder / name).unlink(missing_ok=True)
    with suppress(psutil.Error):  # it may be over already
        write_json(job.folder / MARK, [number, psutil.Process(number).create_time()])


def fail(job: Job, error: Exception) -> None:
    """Note why a job ended."""
    told = str(error) if isinstance(error, CourseError) else first_line(error)
    write_text(job.folder / FAILED, f"{told}\n")


# --- in a process of its own ----------------------------------------------------------------------


def find(job_id: object) -> Job:
    """The job of a number.

    Raises:
        UserError: there is none.
    """
    if is_job(job_id):
        return Job(str(job_id))
    known = ", ".join(job.id for job in listed()) or "none"
    raise UserError(f"There is no job {job_id!r}. Jobs on this machine: {known}.")


def listed() -> list[Job]:
    """All jobs, the newest last."""
    paths = sorted(home().glob("*/job.json"), key=lambda path: path.stat().st_mtime)
    return [Job(path.parent.name) for path in paths]


def statuses() -> list[dict[str, Any]]:
    """`status` of every job; one whose file is damaged is FAILED, with that for a reason."""
    found = []
    for job in listed():
        try:
            found.append(status(job))
        except UserError as error:
            found.append({"job_id": job.id, "status": "FAILED", "error": str(error)})
    return found


def start(job: Job) -> dict[str, Any]:
    """Train a job in a process of its own; returns its status at once."""
    if status(job)["status"] not in ("COMPLETED", "RUNNING"):
        code = f"from llmcourse_legacy import jobs; jobs.run({job.id!r})"
        with (job.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        begin(job, process.pid)
    return status(job)


def run(job_id: str) -> None:
    """Train a job; what `start` calls in the new process."""
    job = find(job_id)
    try:
        base = models.load(job.known()["base"])
    except Exception as error:
        fail(job, error)
        raise
    with suppress(KeyboardInterrupt):
        train(job, base)


def forget(job: Job) -> None:
    """Remove what a job has learned, so that it begins again.

    Raises:
        UserError: it is running.
    """
    if job.process():
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
    process = job.process()
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
    write_text(job.folder / CANCELLED, "by you\n")
    return status(job)


# --- how it is trained ----------------------------------------------------------------------------


def apart(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Records to train on, and a tenth of them kept apart; none of fewer than ten."""
    count = round(TEST_SHARE * len(rows)) if len(rows) >= 10 else 0
    chosen = set(random.Random(SEED).sample(range(len(rows)), count))
    return (
        [row for place, row in enumerate(rows) if place not in chosen],
        [row for place, row in enumerate(rows) if place in chosen],
    )


def config_of(
    args: Mapping[str, Any] | None,
    peft: Mapping[str, Any] | None,
    enable_peft: bool | None,
    template: str,
) -> finetuning.Config:
    """How to train, from the old library's arguments; a note names those that mean nothing here.

    Raises:
        UserError: a setting is out of range; see `finetuning.Config`.
    """
    known = {field.name for field in dataclasses.fields(finetuning.Config)} - {"template"}
    given = {
        NAMES.get(name, name): value for name, value in {**(args or {}), **(peft or {})}.items()
    }
    steps = given.pop("gradient_accumulation_steps", 1)
    for name in given.keys() - known:
        value = given.pop(name)
        there = ", ".join(sorted(known))
        note("ignored", f"{name}={value!r}: there is no such setting. There are: {there}")
    optimizers = {theirs: ours for ours, theirs in OPTIMIZERS.items()}
    if "optimizer" in given:
        given["optimizer"] = optimizers.get(given["optimizer"], given["optimizer"])
    if steps != 1:
        given["micro_batch"] = given.get("batch_size", 1)
        given["batch_size"] = given["micro_batch"] * steps
    if enable_peft is False:
        given["method"] = "full"
        if unused := given.keys() & {"rank", "alpha", "dropout"}:
            unused_names = ", ".join(sorted(unused))
            note("ignored", f"{unused_names}: every weight is trained, without an adapter")
    elif enable_peft:
        given["method"] = "lora"
    if tiers.current().name == "smoke" and "steps" not in given:
        note("ignored", f"on the smoke tier a training ends after {SMOKE_STEPS} updates")
        given["steps"] = SMOKE_STEPS
    try:
        return finetuning.Config(template=template, **given)
    except SettingError as error:
        raise UserError(str(error)) from None
