"""The ledger is whole at every moment, knows its claims, and shows its numbers."""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

from llmcourse import claims, store
from llmcourse.errors import ClaimError, NoSpace
from llmcourse.stats import Share
from tests.conftest import ROOT, Run


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path))
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    return tmp_path


def test_a_claim_is_recorded_with_all_it_depends_on(work: Path) -> None:
    claims.record("lora", {"accuracy": Share(9, 10), "seconds": 12.5}, holds=True, seed=3)
    entry = json.loads((work / "ledger-smoke.json").read_text())["lora"]
    assert entry["numbers"] == {"accuracy": {"count": 9, "of": 10}, "seconds": 12.5}
    assert entry["models"] == {"base": "gemma-3-270m", "chat": "smollm2-135m-instruct"}
    assert entry["tier"] == "smoke" and entry["seed"] == 3 and entry["holds"] is True
    assert {"python", "torch", "transformers", "llmcourse"} <= set(entry["versions"])


def test_each_tier_and_each_pair_of_models_has_its_own_ledger(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")
    assert claims.read() == {} and "lora" in claims.read("smoke")
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    monkeypatch.setenv("LLMCOURSE_MODELS", "apache")
    assert claims.read() == {}
    claims.record("lora", {"x": 2}, holds=True)
    assert {path.name for path in work.glob("*.json")} == {
        "ledger-smoke.json",
        "ledger-smoke-apache.json",
    }
    assert "Models: HuggingFaceTB/SmolLM2-135M and" in claims.as_text()
    with pytest.raises(ClaimError, match="There is no tier 'huge'. There are: smoke"):
        claims.read("huge")


def test_a_later_run_replaces_and_keeps_the_others() -> None:
    claims.record("lora", {"x": 1}, holds=True)
    claims.record("tone", {"x": 2}, holds=None, because="Too small.")
    claims.record("lora", {"x": 3}, holds=False)
    ledger = claims.read()
    assert list(ledger) == ["tone", "lora"]  # in the order of the list of claims
    assert ledger["lora"]["numbers"] == {"x": 3}
    text = claims.as_text()
    assert "Too small." in text and "holds here: too close to tell" in text


def record_one(claim_id: str) -> None:
    claims.record(claim_id, {"x": 1}, holds=True)


def test_lessons_that_run_at_once_lose_nothing() -> None:
    names = list(claims.CLAIMS)
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(record_one, names))
    assert list(claims.read()) == names


@pytest.mark.parametrize(
    ("claim_id", "numbers", "message"),
    [
        ("loar", {"x": 1}, "There is no claim 'loar'. There are: base-continues"),
        ("lora", {}, "needs at least one number"),
        ("lora", {"x": math.nan}, "'x' must be a finite number, not nan"),
        ("lora", {"x": "much"}, "must be a finite number, not 'much'"),
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


def test_a_full_disk_keeps_the_old_ledger(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims.record("lora", {"x": 1}, holds=True)

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NoSpace, match="No space left in"):
        claims.record("tone", {"x": 2}, holds=True)
    monkeypatch.undo()
    assert json.loads((work / "ledger-smoke.json").read_text())["lora"]["numbers"] == {"x": 1}
    assert [path.name for path in work.glob("*.tmp")] == []


@pytest.mark.parametrize(
    "text",
    [
        b"{half",
        b"[]",
        b'{"lora": 3}',
        b'{"\xff\xfe',
        b'{"lora": {"numbers": {"x": {"count": 5, "of": 4}}, "holds": true, "because": ""}}',
        b'{"lora": {"numbers": {"x": NaN}, "holds": true, "because": ""}}',
        b'{"lora": {"numbers": {"x": 1}, "holds": true, "because": "", "models": {"base": 1}}}',
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_a_damaged_ledger_is_reported_kept_and_loses_no_new_work(
    work: Path, text: bytes, capsys: pytest.CaptureFixture
) -> None:
    path = work / "ledger-smoke.json"
    path.write_bytes(text)
    with pytest.raises(ClaimError, match="ledger-smoke.json is not a ledger. Move it away"):
        claims.read()
    claims.record("lora", {"x": 1}, holds=True)
    assert "kept as ledger-smoke.damaged.json" in capsys.readouterr().out
    assert (work / "ledger-smoke.damaged.json").read_bytes() == text
    assert list(claims.read()) == ["lora"]


def test_what_is_whole_in_a_damaged_ledger_is_kept_and_no_copy_is_overwritten(work: Path) -> None:
    path = work / "ledger-smoke.json"
    claims.record("tone", {"x": 1}, holds=True)
    for number in (1, 2):
        entries = json.loads(path.read_text()) | {"lora": number}
        path.write_text(json.dumps(entries))
        claims.record("private", {"x": number}, holds=True)
        assert list(claims.read()) == ["tone", "private"]
    aside = [work / "ledger-smoke.damaged.json", work / "ledger-smoke.damaged2.json"]
    assert [json.loads(file.read_text())["lora"] for file in aside] == [1, 2]


def test_a_ledger_that_cant_be_written_or_read_is_reported_and_left_alone(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)

    def refuse(path: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store, "write_json", refuse)
    with pytest.raises(ClaimError, match=r"ledger-smoke.json can't be written \(.*Set LLMCOURSE_W"):
        claims.record("tone", {"x": 1}, holds=True)
    monkeypatch.undo()
    monkeypatch.setenv("LLMCOURSE_WORK", str(work))
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    assert list(claims.read()) == ["lora"]
    (work / "ledger-smoke.json").unlink()
    (work / "ledger-smoke.json").mkdir()
    for use in (claims.read, lambda: claims.record("lora", {"x": 1}, holds=True)):
        with pytest.raises(ClaimError, match="ledger-smoke.json can't be read"):
            use()
    assert (work / "ledger-smoke.json").is_dir()


def test_claims_of_another_version_stay_in_the_file(work: Path) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    path = work / "ledger-smoke.json"
    path.write_text(path.read_text().replace('"lora": {', '"renamed": {', 1))
    assert claims.read() == {}
    claims.record("tone", {"x": 1}, holds=True)
    assert list(claims.read()) == ["tone"] and '"renamed"' in path.read_text()


def test_numpys_numbers_become_pythons() -> None:
    some = Share(numpy.int64(3), numpy.int64(4))
    numbers = {"a": some, "b": numpy.float32(0.5), "c": numpy.int64(3), "d": numpy.array(4)}
    claims.record("lora", numbers, holds=numpy.bool_(False), seed=numpy.int64(3))
    entry = claims.read()["lora"]
    assert entry["numbers"] == {"a": {"count": 3, "of": 4}, "b": 0.5, "c": 3, "d": 4}
    assert entry["holds"] is False and isinstance(entry["numbers"]["c"], int)


def test_tables_show_one_row_per_number() -> None:
    claims.record("base-continues", {"a | b": Share(3, 24), "repeats": 0.8}, holds=True)
    assert claims.rows(lesson="01") == [
        {
            "claim": "base-continues",
            "measured": "a | b",
            "value": "13 % (3 of 24; 95 %: 4–31 %)",
            "holds": "yes",
        },
        {"claim": "", "measured": "repeats", "value": "0.8", "holds": ""},
    ]
    assert claims.rows(lesson="05") == []
    assert r"| a \| b | 13 %" in claims.as_markdown("smoke", claims.ledger_path())


def test_the_published_ledger_is_whole() -> None:
    """Each share that was published is printed in the README as the ledger prints it today."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in claims.published().values():
        assert all(claims.shown(value) in readme for value in entry["numbers"].values())


def test_results_on_the_command_line(cli: Run, tmp_path: Path) -> None:
    assert "Nothing measured yet on the cpu tier" in cli("results", "--tier", "cpu").stdout
    work = {"LLMCOURSE_WORK": str(tmp_path)}
    claims.record("lora", {"seconds": 2.5}, holds=False, because="Too little data.")
    text = cli("results", "--tier", "smoke", **work)
    assert text.returncode == 0
    assert "holds here: no" in text.stdout and "Too little data." in text.stdout
    data = json.loads(cli("results", "--json", "--tier", "smoke", **work).stdout)
    assert data["lora"]["numbers"] == {"seconds": 2.5}
