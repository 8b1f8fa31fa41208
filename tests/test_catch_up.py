"""Who fell behind gets what earlier lessons make; nothing of their own is lost or passed off."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from classroom import checkpoints
from llmcourse import claims, cli, models, notebooks, tiers, workshop
from llmcourse.errors import DataError
from llmcourse.finetuning import Config, finetune
from llmcourse.finetuning.checkpoints import PUBLISHED

RECORDS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(4)]
SETTINGS = Config(steps=2, learning_rate=1e-3, rank=4, seed=0)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A learner's work folder, and a process that has loaded no published adapter."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(claims, "borrowed", "")
    return tmp_path / "work"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Data of lessons 03 to 05, as the teacher's folder has them."""
    for number, name in (("03", "desk"), ("04", "company-train"), ("05", "later")):
        path = tmp_path / "kit" / number / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(f"{name}\n", encoding="utf-8")
    return tmp_path / "kit"


def test_earlier_lessons_data_come_and_nothing_is_overwritten(work: Path, source: Path) -> None:
    (work / "data").mkdir(parents=True)
    (work / "data" / "desk.jsonl").write_text("mine", encoding="utf-8")
    lines = workshop.catch_up("5", source)
    assert "03: data/desk.jsonl is there already and stays" in lines
    assert "04: data/company-train.jsonl" in lines
    assert (work / "data" / "desk.jsonl").read_text(encoding="utf-8") == "mine"
    assert (work / "data" / "company-train.jsonl").read_text(encoding="utf-8") == "company-train\n"
    assert not (work / "data" / "later.jsonl").exists()  # lesson 05 makes that itself
    workshop.catch_up("05", source, skip_training=True)
    assert (work / "data" / "later.jsonl").exists()


def test_published_rows_fill_the_ledger_and_say_what_they_are(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")
    claims.record("base-continues", {"mine": 1}, holds=False)
    ours = {c for c, entry in claims.published().items() if entry["lesson"] < "03"}
    assert len(ours) > 2
    assert (
        workshop.catch_up("03", source)[0] == f"ledger: {len(ours) - 1} rows of the published run"
    )
    ledger = claims.read()
    assert set(ledger) == ours and ledger["base-continues"]["numbers"] == {"mine": 1}
    assert {c for c, entry in ledger.items() if entry.get("published") == "row"} == ours - {
        "base-continues"
    }
    text = claims.as_text()
    assert text.count("holds in the published run:") == len(ours) - 1
    claims.record("tags-matter", {"mine": 1}, holds=True)  # measured after all
    assert "published" not in claims.read()["tags-matter"]
    assert workshop.catch_up("03", source)[0].startswith("ledger: 0 rows")


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["catch-up", "77"]) == 1
    assert "lesson='77': use one of 00, 01," in capsys.readouterr().err
    assert cli.main(["catch-up", "02", "--from", str(tmp_path / "stick")]) == 0
    said = capsys.readouterr().out
    assert "rows of the published run" in said and "there is no folder" in said and "stick" in said


def test_everything_that_lessons_keep_is_known() -> None:
    kept = re.compile(r'work_dir\(\) / "([\w.-]+)" / f?"([^"]+)"')
    for path in notebooks.find(notebooks.folder()):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for folder, name in kept.findall("".join(cell["source"])):
                pattern = re.escape(f"{folder}/{name}").replace(r"\{tier\.name\}", "cpu")
                pattern = re.sub(r"\\\{\w+\\\}", r"\\w+", pattern)
                known: Sequence[str] = checkpoints.MADE.get(path.name[:2], ())
                assert any(re.fullmatch(pattern, made) for made in known), (path.name, folder, name)


@pytest.mark.model
def test_a_shipped_adapter_is_loaded_instead_of_training(
    tiny: models.LoadedModel,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    with pytest.raises(DataError, match=r"desk\.jsonl is missing. Run lesson 03 first"):
        checkpoints.copy(tmp_path / "kit")
    (work / "data").mkdir(parents=True)
    for names in checkpoints.MADE.values():
        for name in names:
            if name.startswith("data/"):
                (work / name).write_text("x", encoding="utf-8")
            else:
                trained = finetune(tiny, RECORDS, SETTINGS, out=work / name, progress=False)
    checkpoints.copy(tmp_path / "kit")
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "learner"))
    workshop.catch_up("07", tmp_path / "kit")
    assert not (tmp_path / "learner" / "models" / "07-taught-cpu").exists()
    place = tmp_path / "learner" / "models" / "06-desk-cpu"
    assert (place / PUBLISHED).is_file()
    capsys.readouterr()
    # the learner's own seed, and fresh=True as in the lesson
    mine = replace(SETTINGS, seed=7)
    loaded = finetune(tiny, RECORDS, mine, out=place, fresh=True)
    assert "holds the published run's training" in capsys.readouterr().out
    assert loaded.history == trained.history
    claims.record("structured-output", {"x": 1}, holds=True)
    assert claims.read()["structured-output"]["published"] == "adapter"
    assert "here, with the published run's adapter" in claims.as_text()
    with pytest.raises(DataError, match="came by catch-up"):
        monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path / "learner"))
        checkpoints.copy(tmp_path / "again")
    # other settings are another training: the learner's own
    other = finetune(tiny, RECORDS, replace(mine, steps=1), out=place, fresh=True, progress=False)
    assert len(other.history) == 1 and not (place / PUBLISHED).exists()
    assert tiers.seed() == 0
