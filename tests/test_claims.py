"""The ledger is whole at every moment, knows its claims, and shows its numbers."""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

from llmcourse import claims
from llmcourse.claims import Share
from llmcourse.errors import ClaimError, NoSpace, SettingError
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
        ("lora", {"x": 10**5000}, "must be a finite number, not <int>"),
        ("lora", {"x": b"1"}, "must be a finite number"),
        ("lora", {"x": numpy.bool_(True)}, "must be a finite number"),
        ("lora", {"x": numpy.array([1, 2])}, "must be a finite number"),
        ("lora", {"x": {1}}, "must be a finite number"),
        ("lora", {("x",): 1}, "name must be text"),
        ("lora", {"": 1}, "name must be text on one line"),
        ("lora", {"a\nb": 1}, "name must be text on one line"),
        ("lora", {"\udcff": 1}, "name must be text on one line"),
        ("lora", [1], "needs at least one number, as a dict"),
        ("lora", None, "needs at least one number, as a dict"),
        (["lora"], {"x": 1}, r"There is no claim \['lora'\]"),
        (None, {"x": 1}, "There is no claim None"),
    ],
)
def test_wrong_records_are_refused(claim_id: Any, numbers: Any, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        claims.record(claim_id, numbers, holds=True)
    assert claims.read() == {}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"because": None}, ClaimError, "because must be text"),
        ({"because": {1}}, ClaimError, "because must be text"),
        ({"because": "\udcff"}, ClaimError, "because must be text"),
        ({"models": {"base": 1}}, ClaimError, "models a dict of texts"),
        ({"models": ["base"]}, ClaimError, "models a dict of texts"),
        ({"holds": "no"}, ClaimError, "holds must be True, False or None, not 'no'"),
        ({"holds": math.nan}, ClaimError, "holds must be True, False or None"),
        ({"holds": numpy.array([True, False])}, ClaimError, "holds must be True, False or None"),
        ({"holds": Share(1, 2)}, ClaimError, "holds must be True, False or None"),
        ({"seed": "a"}, SettingError, "seed='a' must be a whole number"),
        ({"seed": 1.5}, SettingError, "seed=1.5 must be a whole number"),
        ({"seed": None}, SettingError, "seed=None must be a whole number"),
    ],
)
def test_other_wrong_parts_are_refused_and_the_ledger_stays(
    options: dict, error: type, message: str
) -> None:
    claims.record("tone", {"x": 1}, holds=True)
    with pytest.raises(error, match=message):
        claims.record("lora", {"x": 1}, **{"holds": True} | options)
    assert list(claims.read()) == ["tone"]


def test_long_texts_and_signs_are_kept() -> None:
    claims.record("lora", {"a | b": 1}, holds=True, because="ä" * 1_000_000)
    assert claims.read()["lora"]["because"] == "ä" * 1_000_000
    assert r"| a \| b | 1 |" in claims.as_markdown("smoke", claims.ledger_path())


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
     '{"lora": {"numbers": {"x": {"count": 5, "of": 4}}, "holds": true, "because": ""}}',
     '{"lora": {"numbers": {"x": NaN}, "holds": true, "because": ""}}',
     '{"lora": {"numbers": {"x": 1}, "holds": true, "because": "", "models": {"base": 1}}}',
     '{"lora": {"numbers": {"x": 1}, "holds": true, "because": "\\udcff"}}',
     pytest.param("[" * 100_000, id="deep")],
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


def test_bytes_that_are_no_text_are_a_damaged_ledger(work: Path) -> None:
    (work / "ledger-smoke.json").write_bytes(b'{"\xff\xfe')
    with pytest.raises(ClaimError, match="is not a ledger"):
        claims.read()
    claims.record("lora", {"x": 1}, holds=True)
    assert (work / "ledger-smoke.damaged.json").read_bytes() == b'{"\xff\xfe'


def test_a_folder_that_cant_be_written_to_is_told(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.record("lora", {"x": 1}, holds=True)

    def refuse(path: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(claims, "write_json", refuse)
    with pytest.raises(ClaimError, match=r"ledger-smoke.json can't be written \(.*Set LLMCOURSE_W"):
        claims.record("tone", {"x": 1}, holds=True)
    assert list(claims.read()) == ["lora"]
    monkeypatch.undo()
    (work / "file").write_text("")
    monkeypatch.setenv("LLMCOURSE_TIER", "smoke")
    monkeypatch.setenv("LLMCOURSE_WORK", str(work / "file" / "below"))
    with pytest.raises(ClaimError, match="can't be written"):
        claims.record("tone", {"x": 1}, holds=True)


def test_a_ledger_that_cant_be_read_is_left_alone(work: Path) -> None:
    (work / "ledger-smoke.json").mkdir()
    for use in (claims.read, lambda: claims.record("lora", {"x": 1}, holds=True)):
        with pytest.raises(ClaimError, match="ledger-smoke.json can't be read"):
            use()
    assert (work / "ledger-smoke.json").is_dir()


def test_a_tier_that_is_not_there_is_told() -> None:
    with pytest.raises(ClaimError, match="There is no tier 'huge'. There are: smoke"):
        claims.read("huge")


def test_claims_of_another_version_stay_in_the_file(work: Path) -> None:
    claims.record("lora", {"x": 1}, holds=True)
    path = work / "ledger-smoke.json"
    path.write_text(path.read_text().replace('"lora": {', '"renamed": {', 1))
    assert claims.read() == {}
    claims.record("tone", {"x": 1}, holds=True)
    assert list(claims.read()) == ["tone"] and '"renamed"' in path.read_text()


def test_numpys_numbers_become_pythons(work: Path) -> None:
    some = Share(numpy.int64(3), numpy.int64(4))
    numbers = {"a": some, "b": numpy.float32(0.5), "c": numpy.int64(3), "d": numpy.array(4)}
    claims.record("lora", numbers, holds=numpy.bool_(False), seed=numpy.int64(3))
    entry = claims.read()["lora"]
    assert entry["numbers"] == {"a": {"count": 3, "of": 4}, "b": 0.5, "c": 3, "d": 4}
    assert entry["holds"] is False and isinstance(entry["numbers"]["c"], int)


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
    assert claims.larger((x for x in high), numpy.array(low)) is True


@pytest.mark.parametrize(
    ("first", "second"), [([1], [0]), ([5, 6, 7], [0]), ([9], [5, 6, 7]), ([1.0], [1.0])]
)
def test_fewer_than_two_numbers_are_too_few_to_tell(first: list, second: list) -> None:
    assert claims.larger(first, second) is None


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([], "no numbers to compare"),
        ([math.nan, 1, 2], "number 1 must be a finite number, not nan"),
        ([1, math.inf], "number 2 must be a finite number, not inf"),
        (["1", "2"], "number 1 must be a finite number, not '1'"),
        ([1, None], "number 2 must be a finite number, not None"),
        ([True, False], "not True. To compare how often something is true, use more_often"),
        ([1, 10**400], "number 2 must be a finite number"),
        (numpy.ones((2, 2)), "number 1 must be a finite number"),
        ("12", "must be a list, not str"),
        ({1: 2}, "must be a list, not dict"),
        ({1, 2}, "must be a list, not set"),
        (None, "must be a list, not NoneType"),
    ],
)
@pytest.mark.parametrize("side", ["first", "second"])
def test_what_are_no_numbers_is_refused(side: str, numbers: Any, message: str) -> None:
    with pytest.raises(ClaimError, match=f"{side}.*{message}"):
        claims.larger(**{"first": [1, 2], "second": [1, 2]} | {side: numbers})


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ("yes", "outcomes must be a list, not str"),
        (None, "outcomes must be a list, not NoneType"),
        ([True, math.nan], "number 2 must be true or false, not nan"),
        (numpy.ones((2, 2)), "number 1 must be true or false"),
    ],
)
def test_what_is_neither_true_nor_false_has_no_share(outcomes: Any, message: str) -> None:
    with pytest.raises(ClaimError, match=message):
        claims.share(outcomes)


def test_only_shares_are_compared_by_how_often() -> None:
    with pytest.raises(ClaimError, match="more_often compares two shares"):
        claims.more_often(0.5, Share(1, 2))


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
