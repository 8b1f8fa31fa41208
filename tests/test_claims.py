"""The ledger is whole at every moment, knows its claims, and shows its numbers."""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from llmcourse import claims
from llmcourse.claims import Share
from llmcourse.errors import ClaimError, NoSpace
from tests.conftest import Run


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


def test_each_tier_has_its_own_ledger(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    monkeypatch.setenv("LLMCOURSE_TIER", "cpu")
    assert claims.read() == {}
    assert "lora" in claims.read("smoke")


def test_each_pair_of_models_has_its_own_ledger(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    monkeypatch.setenv("LLMCOURSE_MODELS", "apache")
    assert claims.read() == {}
    claims.record("lora", {"x": 2}, holds=True)
    assert {path.name for path in work.glob("*.json")} == {
        "ledger-smoke.json", "ledger-smoke-apache.json"
    }  # fmt: skip
    assert "Models: HuggingFaceTB/SmolLM2-135M and" in claims.as_text()


def test_a_later_run_replaces_and_keeps_the_others() -> None:
    claims.record("lora", {"x": 1}, holds=True)
    claims.record("tone", {"x": 2}, holds=False, because="Too small.")
    claims.record("lora", {"x": 3}, holds=False)
    ledger = claims.read()
    assert list(ledger) == ["tone", "lora"]  # in the order of the list of claims
    assert ledger["lora"]["numbers"] == {"x": 3}
    assert "Too small." in claims.as_text()


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
        ("lora", {"x": math.inf}, "must be a finite number"),
        ("lora", {"x": "much"}, "must be a finite number, not 'much'"),
        ("lora", {"x": True}, "must be a finite number, not True"),
        ("lora", {"x": [1]}, "must be a finite number"),
        ("lora", {"x": 10**400}, "must be a finite number"),
        ("lora", {("x",): 1}, "name must be text"),
    ],
)
def test_wrong_records_are_refused(claim_id: str, numbers: dict, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        claims.record(claim_id, numbers, holds=True)
    assert claims.read() == {}


def test_a_full_disk_keeps_the_old_ledger(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims.record("lora", {"x": 1}, holds=True)

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NoSpace, match="No space left in"):
        claims.record("tone", {"x": 2}, holds=True)
    monkeypatch.undo()
    monkeypatch.setenv("LLMCOURSE_WORK", str(work))
    assert json.loads((work / "ledger-smoke.json").read_text())["lora"]["numbers"] == {"x": 1}
    assert [path.name for path in work.glob("*.tmp")] == []


@pytest.mark.parametrize(
    "text",
    ["{half", "[]", "null", '{"lora": 3}', '{"lora": {"numbers": {"x": "much"}}}',
     '{"lora": {"numbers": {"x": {"count": 5, "of": 4}}, "holds": true, "because": ""}}'],
)  # fmt: skip
def test_a_damaged_ledger_is_told_kept_and_loses_no_new_work(
    work: Path, text: str, capsys: pytest.CaptureFixture
) -> None:
    path = work / "ledger-smoke.json"
    path.write_text(text)
    with pytest.raises(ClaimError, match="ledger-smoke.json is not a ledger. Move it away"):
        claims.read()
    claims.record("lora", {"x": 1}, holds=True)
    assert "kept as ledger-smoke.damaged.json" in capsys.readouterr().out
    assert (work / "ledger-smoke.damaged.json").read_text() == text
    assert list(claims.read()) == ["lora"]


def test_claims_of_another_version_stay_in_the_file(work: Path) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    path = work / "ledger-smoke.json"
    path.write_text(path.read_text().replace('"lora": {', '"renamed": {', 1))
    assert claims.read() == {}
    claims.record("tone", {"x": 1}, holds=True)
    assert list(claims.read()) == ["tone"] and '"renamed"' in path.read_text()


def test_numpys_numbers_become_pythons(work: Path) -> None:
    import numpy

    some = Share(numpy.int64(3), numpy.int64(4))
    claims.record("lora", {"a": some, "b": numpy.float32(0.5)}, holds=True, seed=numpy.int64(3))
    assert claims.read()["lora"]["numbers"] == {"a": {"count": 3, "of": 4}, "b": 0.5}


def test_shares_carry_wilsons_interval() -> None:
    low, high = Share(0, 24).interval
    assert (round(low, 3), round(high, 3)) == (0.0, 0.138)
    low, high = Share(12, 24).interval  # symmetric about one half
    assert math.isclose(low, 1 - high) and math.isclose(low, 0.3143, abs_tol=1e-3)
    assert str(Share(3, 4)) == "75 % (3 of 4; 95 %: 30–95 %)"
    with pytest.raises(ClaimError, match="5 of 4 is no share"):
        Share(5, 4)
    with pytest.raises(ClaimError, match=r"1.5 of 3 is no share"):
        Share(1.5, 3)
    with pytest.raises(ClaimError, match="0 of 0"):
        claims.share([])


def test_close_calls_are_said_to_be_close() -> None:
    assert claims.more_often(Share(20, 24), Share(0, 24)) is True
    assert claims.more_often(Share(0, 24), Share(20, 24)) is False
    assert claims.more_often(Share(1, 8), Share(0, 8)) is None
    assert claims.more_often(Share(5, 9), Share(5, 9)) is None
    claims.record("tone", {"x": 1}, holds=None)
    assert "holds here: too close to tell" in claims.as_text()
    # Newcombe's own example: 56/70 against 48/80 gives 0.0524 to 0.3339, which leaves out zero.
    assert claims.more_often(Share(56, 70), Share(48, 80)) is True


def test_means_are_compared_with_their_uncertainty() -> None:
    high, low = [0.6, 0.7, 0.8, 0.7] * 5, [0.3, 0.2, 0.4, 0.3] * 5
    assert claims.larger(high, low) is True
    assert claims.larger(low, high) is False
    assert claims.larger([0.1, 0.9, 0.5], [0.2, 0.8, 0.4]) is None
    assert claims.larger(high, high) is None
    with pytest.raises(ClaimError, match="no numbers to compare"):
        claims.larger([], low)


def test_tables_show_one_row_a_number() -> None:
    claims.record("base-continues", {"ends": Share(1, 4), "repeats": 0.8}, holds=True)
    table = claims.table("01")
    assert list(table["measured"]) == ["ends", "repeats"]
    assert list(table["claim"]) == ["base-continues", ""]
    assert claims.table("05").empty


def test_results_on_the_command_line(cli: Run, tmp_path: Path) -> None:
    assert "Nothing measured yet on the cpu tier" in cli("results", "--tier", "cpu").stdout
    work = {"LLMCOURSE_WORK": str(tmp_path)}
    claims.record("lora", {"seconds": 2.5}, holds=False, because="Too little data.")
    text = cli("results", "--tier", "smoke", **work)
    assert text.returncode == 0
    assert "holds here: no" in text.stdout and "Too little data." in text.stdout
    data = json.loads(cli("results", "--json", "--tier", "smoke", **work).stdout)
    assert data["lora"]["numbers"] == {"seconds": 2.5}
