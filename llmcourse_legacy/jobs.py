"""Trainings as jobs: a folder each, which is the record, so that they survive a restart.

A job's number is a digest of what is trained on what: the same call finds the same job again, and
resumes or loads it. `start` runs one in a process of its own.
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
from llmcourse.files import shown, work_dir, write_json
from llmcourse.finetuning.settings import OPTIMIZERS
from llmcourse.llama.settings import note, settings

TEST_SHARE, SEED = 0.1, 123  # of the held-out data, as in the course's labs
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


@dataclasses.dataclass(frozen=True)
class Job:
    """A training, by its number, which `BasicModelRunner` also takes as a model's name."""

    id: str

    @property
    def folder(self) -> Path:
        """The folder of its records, its model and its log."""
        return home() / self.id

    @property
    def model(self) -> Path:
        """The folder of its model."""
        return self.folder / "model"

    def known(self) -> dict[str, Any]:
        """What is trained on what: created, base, records, held_out and settings.

        Raises:
            UserError: the file that says so is damaged.
        """
        path = self.folder / "job.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            return {name: known[name] for name in _FIELDS}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"Job {self.id}: {shown(path)} can't be read ({first_line(error)}). Delete "
                f"{shown(self.folder)} and train again."
            ) from None

    def state(self) -> dict[str, Any]:
        """What was last noted: status, with an error, or with a process (pid, begun)."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        return {"status": "CREATED"}

    def set_state(self, status: str, **more: Any) -> None:
        """Note a status."""
        write_json(self.folder / "state.json", {"status": status, **more})

    def set_running(self, pid: int) -> None:
        """Note that a process trains it."""
        with suppress(psutil.Error):  # it may have ended already
            self.set_state("RUNNING", pid=pid, begun=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process that trains it now."""
        state = self.state()
        try:
            process = psutil.Process(state["pid"])
            # A process that got the same number later began later.
            alive = abs(process.create_time() - state["begun"]) < 1 and process.status() != "zombie"
        except (KeyError, psutil.Error):
            return None
        return process if alive else None


_FIELDS = ("created", "base", "records", "held_out", "settings")


def home() -> Path:
    """The folder of all jobs."""
    return work_dir() / "jobs"


def prepare(
    base: str, rows: Sequence[Any], held_out: Sequence[Any], config: finetuning.Config
) -> Job:
    """The job for a training; what is needed to run it is written into its folder.

    Args:
        base: Name of the model, for `models.load`.
        rows: Records to train on.
        held_out: Records for `evaluate`.
        config: How to train.
    """
    content = {"base": base, "records": list(rows), "held_out": list(held_out)}
    content["settings"] = dataclasses.asdict(config)
    # Everything that decides the result goes into the number, so that equal numbers are equal jobs.
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    job = Job(hashlib.sha256(text.encode()).hexdigest()[:16])
    if not is_job(job.id):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(job.folder / "job.json", {"id": job.id, "created": now, **content})
    return job


def is_job(name: object) -> bool:
    """Whether `name` is the number of a job."""
    plain = isinstance(name, str) and name.isalnum()
    return plain and (home() / str(name) / "job.json").is_file()


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


def status(job: Job) -> dict[str, Any]:
    """A job's job_id, status, model_name, base_model, records, created, and error if it failed.

    The status is CREATED, RUNNING, COMPLETED, CANCELLED, FAILED or STOPPED.
    """
    known, state = job.known(), job.state()
    name = state["status"]
    if finetuning.tuned.is_saved(job.model):  # the model itself is the proof, not the note
        name = "COMPLETED"
    elif name == "RUNNING" and not job.process():  # it was killed
        name = "STOPPED"
    found = {"job_id": job.id, "status": name, "model_name": job.id, "base_model": known["base"]}
    found |= {"records": len(known["records"]), "created": known["created"]}
    return found | ({"error": state["error"]} if name == "FAILED" else {})


def statuses() -> list[dict[str, Any]]:
    """`status` of every job; one whose file is damaged is FAILED, with that as the error."""
    found = []
    for job in listed():
        try:
            found.append(status(job))
        except UserError as error:
            found.append({"job_id": job.id, "status": "FAILED", "error": str(error)})
    return found


def train(
    job: Job, model: models.LoadedModel | None = None, fresh: bool = False
) -> finetuning.TunedModel:
    """Train a job in this process, with progress; one that was stopped resumes.

    Args:
        job: From `prepare`.
        model: The base; loaded if not given.
        fresh: True starts over where such a training exists.

    Raises:
        UserError: another process trains it.
        TrainingStopped, CourseError: see `finetuning.finetune`.
    """
    known, other = job.known(), job.process()
    if other and other.pid not in (os.getpid(), os.getppid()):  # Windows starts by a launcher
        raise UserError(f"Job {job.id} is running, in process {other.pid}. Wait, or cancel it.")
    job.set_running(os.getpid())
    try:
        tuned = finetuning.finetune(
            model or models.load(known["base"]),
            known["records"],
            finetuning.Config(**known["settings"]),
            held_out=known["held_out"] or None,
            out=job.model,
            fresh=fresh,
        )
    except Exception as error:
        if not getattr(error, "by_user", False):
            text = str(error) if isinstance(error, CourseError) else first_line(error)
            job.set_state("FAILED", error=text)
        raise
    finally:
        if job.state()["status"] == "RUNNING":
            job.set_state("STOPPED")  # where it is not saved
    return tuned


def start(job: Job) -> dict[str, Any]:
    """Train a job in a process of its own; returns its status at once."""
    if status(job)["status"] not in ("COMPLETED", "RUNNING"):
        code = f"from llmcourse_legacy import jobs; jobs.train(jobs.find({job.id!r}))"
        with (job.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the notebook does not reach it
            )
        job.set_running(process.pid)
    return status(job)


def forget(job: Job) -> None:
    """Remove what a job has learned, so that it starts over.

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
        patience: Seconds before a process that does not stop is killed.

    Raises:
        UserError: it runs in this very process.
    """
    process = job.process()
    if process is None:
        return status(job)
    if process.pid == os.getpid():
        raise UserError("This job runs here: press Ctrl-C, or Interrupt in a notebook, to stop it.")
    with suppress(psutil.Error):
        # SIGINT lets the training save a checkpoint; Windows has none for one process.
        process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
    job.set_state("CANCELLED")
    return status(job)


# --- how it is trained ----------------------------------------------------------------------------


def split(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Records to train on, and a tenth of them held out; none of fewer than ten."""
    # The seed makes the same split each time, or the same data would be another job.
    count = round(TEST_SHARE * len(rows)) if len(rows) >= 10 else 0
    chosen = set(random.Random(SEED).sample(range(len(rows)), count))
    return (
        [row for number, row in enumerate(rows) if number not in chosen],
        [row for number, row in enumerate(rows) if number in chosen],
    )


def most_steps() -> int | None:
    """Updates after which a training ends that does not say so itself; None is no limit."""
    return settings.steps or (SMOKE_STEPS if tiers.current().name == "smoke" else None)


def config_of(
    args: Mapping[str, Any] | None,
    peft: Mapping[str, Any] | None,
    enable_peft: bool | None,
    template: str,
) -> finetuning.Config:
    """How to train, from the old library's arguments; a note lists those that have no effect here.

    Raises:
        UserError: a setting is out of range; see `finetuning.Config`.
    """
    known = {field.name for field in dataclasses.fields(finetuning.Config)} - {"template"}
    given = {NAMES.get(name, name): value for name, value in ((args or {}) | (peft or {})).items()}
    accumulated = given.pop("gradient_accumulation_steps", 1)
    for name in given.keys() - known:
        there = ", ".join(sorted(known))
        note("ignored", f"{name}={given.pop(name)!r}: no such setting. There are: {there}")
    if "optimizer" in given:
        optimizers = {theirs: ours for ours, theirs in OPTIMIZERS.items()}
        given["optimizer"] = optimizers.get(given["optimizer"], given["optimizer"])
    # transformers' batch size is that of one step; ours is that of one update.
    if accumulated != 1:
        given["micro_batch"] = given.get("batch_size", 1)
        given["batch_size"] = given["micro_batch"] * accumulated
    if enable_peft is not None:
        given["method"] = "lora" if enable_peft else "full"
    if unused := given.keys() & {"rank", "alpha", "dropout"} if enable_peft is False else ():
        note("ignored", f"{', '.join(sorted(unused))}: every weight is trained, without an adapter")
    if (most := most_steps()) and "steps" not in given:
        why = "as asked for" if settings.steps else "on the smoke tier"
        note("ignored", f"{why}, a training ends after {most} updates")
        given["steps"] = most
    try:
        return finetuning.Config(template=template, **given)
    except SettingError as error:
        raise UserError(str(error)) from None
