"""What is saved comes back whole, or is refused by name; nothing is dropped silently."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow.parquet as parquet
import pytest

from llmcourse import data
from llmcourse.data.saving import WRITERS
from llmcourse.errors import DataError

ROW = {"question": "Why?", "answer": "So."}


def again(path: Path) -> list[dict[str, Any]]:
    """What a saved file holds."""
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()

    def never(value: str) -> None:
        raise AssertionError(f"{value} is no JSON")

    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=never) for line in lines]


@pytest.fixture(params=WRITERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"r{request.param}"


# --- what can be saved ---------------------------------------------------------------------------


def test_fields_of_later_records_are_saved(path: Path) -> None:
    found = again(data.save_records([{"a": 1}, {"a": 2, "b": [3]}, {"b": []}], path))
    assert [record.get("b") for record in found] == [None, [3], []]
    assert [record.get("a") for record in found] == [1, 2, None]


def test_numbers_and_arrays_of_numpy_are_numbers_and_lists(path: Path) -> None:
    row = {
        "a": np.int64(3),
        "b": np.arange(2),
        "c": np.float32(1.5),
        "d": np.bool_(True),
        "e": {"f": [np.int8(1)]},
        "g": np.str_("x"),
    }
    wanted = {"a": 3, "b": [0, 1], "c": 1.5, "d": True, "e": {"f": [1]}, "g": "x"}
    assert again(data.save_records([row], path)) == [wanted]


def test_what_is_no_number_is_null(path: Path) -> None:
    rows = [{"a": float("nan"), "b": [1.0, np.nan], "c": pandas.NA, "d": pandas.NaT} | ROW]
    wanted = [{"a": None, "b": [1.0, None], "c": None, "d": None} | ROW]
    assert again(data.save_records(rows, path)) == wanted


def test_a_set_with_nan_is_valid_json(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"a": [1.5, float("nan")]})
    assert again(data.save_records(table, tmp_path / "r.jsonl")) == [{"a": 1.5}, {"a": None}]


def test_times_and_decimals(tmp_path: Path) -> None:
    row = {
        "a": datetime.date(2024, 11, 19),
        "b": decimal.Decimal("3.50"),
        "c": np.datetime64("2024-11-19T08:40:00", "ns"),
        "d": pandas.NaT,
    }
    wanted = ["2024-11-19", "3.50", "2024-11-19 08:40:00", None]
    assert list(again(data.save_records([row], tmp_path / "r.jsonl"))[0].values()) == wanted
    found = again(data.save_records([row], tmp_path / "r.parquet"))[0]
    assert found["a"] == row["a"] and found["b"] == row["b"]
    assert found["c"] == datetime.datetime(2024, 11, 19, 8, 40)


def test_a_frame_is_saved_with_a_named_index(path: Path) -> None:
    frame = pandas.DataFrame({"a": ["x", None], "b": [1, 2]})
    assert again(data.save_records(frame, path)) == [{"a": "x", "b": 1}, {"a": None, "b": 2}]
    frame.index = pandas.Index([5, 6], name="id")
    assert [record["id"] for record in again(data.save_records(frame, path))] == [5, 6]


@pytest.mark.parametrize("kind", ["pandas", "torch", "arrow", "numpy", "transform", "stream"])
def test_a_format_is_not_saved(kind: str, path: Path) -> None:
    rows = [{"n": n, "t": ["a"] * n} | ROW for n in range(2)]
    table = datasets.Dataset.from_list(rows)
    if kind == "stream":
        table = table.to_iterable_dataset().with_format("numpy")
    elif kind == "transform":
        table = table.with_transform(lambda batch: {"other": batch["n"]})
    else:
        table = table.with_format(kind)
    assert again(data.save_records(table, path)) == rows


# --- what can not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "told"),
    [
        (ROW, "A list of records is wanted, not one record"),
        ("abc", "A list of records is wanted, not str"),
        (None, "can't be read from nothing"),
        ([], "there are no records to write"),
        ([ROW, "abc"], "record 2: an object belongs here, not str"),
        ([ROW, ROW | {"a": ["x\ud800"]}], "record 2, field 'a': half a character"),
        ([{"a": object()}], "field 'a': .*object"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "several columns are called 'a'"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_list([ROW])}), r"splits \(train\)"),
    ],
)
def test_what_can_not_be_saved_is_told(records: Any, told: str, path: Path) -> None:
    path.write_text("old", encoding="utf-8")
    with pytest.raises(DataError, match=told):
        data.save_records(records, path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (float("inf"), ".jsonl", "Out of range"),
        (b"x", ".jsonl", "bytes can't be in a .jsonl file"),
        ("x", ".parquet", "a .parquet file can't hold its values .*save as .jsonl"),
    ],
)
def test_what_a_file_has_no_form_for_is_told(
    value: Any, kind: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"r{kind}: .*field 'a': {told}"):
        data.save_records([{"a": 1}, {"a": value}], tmp_path / f"r{kind}")


def test_places_that_can_not_be_written_are_told(tmp_path: Path) -> None:
    for name in ("r", ".jsonl", "r.json"):
        with pytest.raises(DataError, match="written to .jsonl and .parquet files"):
            data.save_records([ROW], tmp_path / name)
    with pytest.raises(DataError, match="can't be written: "):
        data.save_records([ROW], tmp_path / ("x" * 400 + ".jsonl"))
    file = data.save_records([ROW], tmp_path / "deep" / "er" / "r.jsonl")
    with pytest.raises(DataError, match="can't be written: "):
        data.save_records([ROW], file / "r.jsonl")
