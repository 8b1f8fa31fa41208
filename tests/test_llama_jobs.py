"""Trainings as jobs: in the background, stopped, killed, failed, and found again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmcourse import llama
from llmcourse.llama.settings import taken
from llmcourse_legacy import jobs
from tests import test_llama as shared
from tests.test_llama import FAST, PAIRS

alone = shared.alone
LONG = {"max_steps": 240, "per_device_train_batch_size": 2}  # seconds, and many checkpoints


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings' processes are fastest so."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def model(tiny_folder: Path) -> llama.Lamini:
    return llama.Lamini(str(tiny_folder))


def until(reached: Callable[[], Any], seconds: float = 120) -> Any:
    """What `reached` gives once it is true; an error if it never is."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def steps(job: jobs.Job) -> int:
    """Updates in the newest complete checkpoint."""
    done = [path.name for path in job.model.glob("checkpoints/step-*")]
    return max((int(name.removeprefix("step-")) for name in done), default=0)


def test_a_job_from_its_start_through_a_stop_and_a_kill_to_its_end(
    model: llama.Lamini, tiny_folder: Path
) -> None:
    begun = model.tune(PAIRS, LONG)
    job = jobs.find(begun["job_id"])
    assert begun["status"] == "RUNNING" and model.job_id == job.id
    assert begun["base_model"] == str(tiny_folder) and begun["records"] == 11
    assert model.tune(PAIRS, LONG) == begun, "a second call starts no second process"
    until(lambda: steps(job))
    assert model.check_job_status() == begun
    for ask in (lambda: llama.BasicModelRunner(job.id), model.evaluate):
        with pytest.raises(llama.UserError, match="RUNNING. Wait for it"):
            ask()
    with pytest.raises(llama.UserError, match=rf"Job {job.id} is running, in process \d+"):
        model.train(PAIRS, LONG)
    with pytest.raises(llama.UserError, match="cancel it first"):
        model.tune(PAIRS, LONG, use_cached_model=False)

    assert model.cancel_job()["status"] == "CANCELLED" == model.check_job_status(job.id)["status"]
    stopped = steps(job)
    assert 0 < stopped < LONG["max_steps"] and not job.process()
    with pytest.raises(llama.UserError, match="CANCELLED. Train the same data again"):
        llama.BasicModelRunner(job.id)

    again = llama.Lamini(str(tiny_folder)).tune(PAIRS, LONG)
    assert again == begun
    until(lambda: steps(job) > stopped)
    job.process().kill()
    until(lambda: model.check_job_status(job.id)["status"] == "STOPPED")
    killed = steps(job)
    assert stopped < killed < LONG["max_steps"]

    model.tune(PAIRS, LONG)
    until(lambda: model.check_job_status()["status"] != "RUNNING")
    done = model.check_job_status()
    assert done == begun | {"status": "COMPLETED"}, (job.folder / "log.txt").read_text()
    known = json.loads((job.model / "tuned.json").read_text(encoding="utf-8"))
    assert f"Goes on after update {killed}" in "".join(known["notes"])
    assert [row["step"] for row in known["history"]] == list(range(1, LONG["max_steps"] + 1))
    assert model.cancel_job() == done == model.tune(PAIRS, LONG), "nothing changes what is done"
    assert model.cancel_all_jobs() == [done]


def test_a_job_that_fails_says_why_and_can_be_begun_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "base")
    model = llama.Lamini(str(tmp_path / "base"))
    config = tmp_path / "base" / "config.json"
    good = config.read_bytes()
    config.unlink()
    model.tune(PAIRS, FAST)
    failed = until(lambda: (s := model.check_job_status())["status"] != "RUNNING" and s)
    assert failed["status"] == "FAILED" and "config.json" in failed["error"]
    with pytest.raises(llama.UserError, match="FAILED. Train the same data again"):
        llama.Lamini(failed["job_id"])
    config.write_bytes(good)
    done = model.train(PAIRS, FAST)
    assert done["status"] == "COMPLETED" and done["job_id"] == failed["job_id"]
    assert "error" not in done


def test_trainings_end_sooner_where_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")
    assert jobs.config_of(None, None, None, "plain").steps is None
    monkeypatch.setattr(jobs.settings, "steps", 20)
    assert jobs.config_of(None, None, None, "plain").steps == 20
    assert jobs.config_of({"max_steps": 30}, None, None, "plain").steps == 30
    taken()
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    assert jobs.config_of(None, None, None, "plain").steps == 20
    assert [note["text"] for note in taken()] == ["as asked for, a training ends after 20 updates"]


def test_a_process_killed_before_its_first_update_leaves_a_stopped_job(model: llama.Lamini) -> None:
    job, _ = model_job(model)
    assert jobs.status(job)["status"] == "CREATED"
    me = psutil.Process()
    job.set_state("RUNNING", pid=me.pid, begun=me.create_time() - 60)
    assert jobs.status(job)["status"] == "STOPPED", "its number went to another process"
    job.set_running(me.pid)
    with pytest.raises(llama.UserError, match="runs here"):
        model.cancel_job(job.id)


def model_job(model: llama.Lamini) -> tuple[jobs.Job, Any]:
    """A job that is known and not begun."""
    model.load_data(PAIRS)
    return model._job(FAST)
