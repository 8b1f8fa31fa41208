"""The ledger is complete at every moment, knows its claims, and shows its numbers."""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

from llmcourse import claims, files
from llmcourse.errors import ClaimError, NoSpace
from llmcourse.stats import Share
from tests.conftest import ROOT, Run


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The smoke tier's ledger, in a work folder of the test's own."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path))
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    return tmp_path / "ledger-smoke.json"


def test_a_claim_is_recorded_with_all_it_depends_on(ledger: Path) -> None:
    numbers = {"a": Share(9, 10), "b": numpy.float32(0.5), "c": numpy.int64(3), "d": 12.5}
    claims.record("lora", numbers, holds=numpy.bool_(True))
    entry = json.loads(ledger.read_text())["lora"]
    assert entry["numbers"] == {"a": {"count": 9, "of": 10}, "b": 0.5, "c": 3, "d": 12.5}
    assert entry["models"] == {"base": "gemma-3-270m", "chat": "smollm2-135m-instruct"}
    assert entry["tier"] == "smoke" and entry["seed"] == 0 and entry["holds"] is True
    assert {"python", "torch", "transformers", "llmcourse"} == set(entry["versions"])


def test_each_tier_and_each_pair_of_models_has_its_own_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")
    assert claims.read() == {}
    monkeypatch.setenv("LLMCOURSE_MODELS", "apache")
    claims.record("lora", {"x": 2}, holds=True)
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"ledger-smoke.json", "ledger-cpu-apache.json"}
    assert "Models: HuggingFaceTB/SmolLM2-135M and" in claims.as_text()


def test_a_later_run_replaces_and_keeps_the_others(ledger: Path) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    claims.record("tone", {"x": 2}, holds=None, because="Too small.")
    claims.record("lora", {"x": 3}, holds=False)
    assert list(claims.read()) == ["tone", "lora"]  # in the order of the list of claims
    assert claims.read()["lora"]["numbers"] == {"x": 3}
    text = claims.as_text()
    assert "Too small." in text and "holds here: too close to tell" in text
    # A claim of another version of the course stays in the file and is not shown.
    ledger.write_text(ledger.read_text().replace('"lora": {', '"renamed": {', 1))
    claims.record("tone", {"x": 1}, holds=True)
    assert list(claims.read()) == ["tone"] and '"renamed"' in ledger.read_text()


def record_one(claim_id: str) -> None:
    claims.record(claim_id, {"x": 1}, holds=True)


def test_lessons_that_run_at_once_lose_nothing() -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(record_one, claims.CLAIMS))
    assert list(claims.read()) == list(claims.CLAIMS)


@pytest.mark.parametrize(
    ("claim_id", "numbers", "message"),
    [
        ("loar", {"x": 1}, "There is no claim 'loar'"),
        ("lora", {}, "at least one number"),
        ("lora", {"x": math.nan}, "'x' must be a finite number"),
        ("lora", {"x": numpy.bool_(True)}, "must be a finite number"),
    ],
)
def test_wrong_records_are_refused_and_the_ledger_stays(
    claim_id: str, numbers: Any, message: str
) -> None:
    claims.record("tone", {"x": 1}, holds=True)
    with pytest.raises(ClaimError, match=message):
        claims.record(claim_id, numbers, holds=True)
    assert list(claims.read()) == ["tone"]


@pytest.mark.parametrize(
    "entry",
    ["3", '{"numbers": {"x": {"count": 5, "of": 4}}, "holds": true, "because": ""}', "{half"],
)
def test_a_damaged_ledger_is_reported_kept_and_loses_no_new_work(
    ledger: Path, entry: str, capsys: pytest.CaptureFixture
) -> None:
    claims.record("tone", {"x": 1}, holds=True)
    whole = ledger.read_text()
    damaged = whole.replace("{", f'{{"lora": {entry},', 1)
    for number in (1, 2):
        ledger.write_text(damaged)
        with pytest.raises(ClaimError, match="ledger-smoke.json is not a ledger. Move it away"):
            claims.read()
        claims.record("private", {"x": number}, holds=True)
        assert f"kept as ledger-smoke.damaged{number}.json" in capsys.readouterr().out
        assert ledger.with_suffix(f".damaged{number}.json").read_text() == damaged
        assert list(claims.read()) == ["private"] if "half" in entry else ["tone", "private"]


def test_a_ledger_that_cant_be_written_or_read_is_reported_and_left_alone(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    errors = {
        NoSpace("No space left in x"): NoSpace,  # `files.replacing` raises this for a full disk
        PermissionError(13, "Permission denied"): ClaimError,
    }
    for error, shown in errors.items():

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch, pytest.raises(shown):
            patch.setattr(files, "write_json", refuse)
            claims.record("tone", {"x": 1}, holds=True)
        assert list(claims.read()) == ["lora"]
    ledger.unlink()
    ledger.mkdir()
    for use in (claims.read, lambda: record_one("lora")):
        with pytest.raises(ClaimError, match="ledger-smoke.json can't be read"):
            use()


def test_tables_show_one_row_per_number() -> None:
    claims.record("base-continues", {"a | b": Share(3, 24), "repeats": 0.8}, holds=True)
    assert list(claims.rows(lesson="01")) == [
        ("base-continues", "a | b", "13 % (3 of 24; 95 %: 4–31 %)", "yes"),
        ("", "repeats", "0.8", ""),
    ]
    assert not list(claims.rows(lesson="05"))
    assert r"| a \| b | 13 %" in claims.as_markdown(claims.ledger_path())


def test_the_readme_has_a_line_for_each_published_claim() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert claims.summary(ROOT / "llmcourse" / "ledger-cpu.json") in readme
    assert len(readme.encode()) <= 12_288


def test_results_on_the_command_line(cli: Run, tmp_path: Path) -> None:
    assert "Nothing measured yet on the cpu tier" in cli("results", "--tier", "cpu").stdout
    claims.record("lora", {"seconds": 2.5}, holds=False, because="Too little data.")
    work = {"LLMCOURSE_WORK": str(tmp_path)}
    text = cli("results", "--tier", "smoke", **work).stdout
    assert "holds here: no" in text and "Too little data." in text
    data = json.loads(cli("results", "--json", "--tier", "smoke", **work).stdout)
    assert data["lora"]["numbers"] == {"seconds": 2.5}
