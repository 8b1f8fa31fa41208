"""Kinds of values that Python, NumPy and pandas have: each is saved as a file has a form for it."""

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
from llmcourse.errors import DataError

ROW = {"question": "Why?", "answer": "So."}


def again(path: Path) -> list[dict[str, Any]]:
    """What a saved file holds."""
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(params=[".jsonl", ".parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"r{request.param}"


def test_fields_of_later_records_are_saved(path: Path) -> None:
    found = again(data.save_records([{"a": 1}, {"a": 2, "b": [3]}, {"b": []}], path))
    assert [(record.get("a"), record.get("b")) for record in found] == [
        *((1, None), (2, [3]), (None, []))
    ]


def test_numbers_and_arrays_of_numpy_and_what_is_no_number(path: Path) -> None:
    row = {"a": np.int64(3), "b": np.arange(2), "c": np.float32(1.5), "d": np.bool_(True)}
    more = {"e": {"f": [np.int8(1)]}, "g": np.str_("x"), "h": float("nan"), "i": pandas.NA}
    wanted = {"a": 3, "b": [0, 1], "c": 1.5, "d": True, "e": {"f": [1]}, "g": "x"}
    saved = again(data.save_records([row | more | ROW], path))
    assert saved == [wanted | {"h": None, "i": None} | ROW]


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


@pytest.mark.parametrize("kind", ["torch", "transform", "stream"])
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


@pytest.mark.parametrize(
    ("value", "kind"), [(float("inf"), ".jsonl"), (b"x", ".jsonl"), ("x", ".parquet")]
)
def test_what_a_file_has_no_form_for_is_refused(value: Any, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"r{kind}: (record 2|field 'a')"):
        data.save_records([{"a": 1}, {"a": value}], tmp_path / f"r{kind}")
