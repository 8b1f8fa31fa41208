"""The door: records come out the same whatever they were called; every problem is named."""

from __future__ import annotations

import datetime
import decimal
import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from datasets import Dataset
from huggingface_hub.errors import RepositoryNotFoundError
from hypothesis import example, given, settings, strategies
from pyarrow import parquet

from llmcourse import data
from llmcourse.data import readers, records
from llmcourse.data.reviewing import load_reviewed, save_for_review
from llmcourse.errors import DataError, NoSpace, SettingError
from llmcourse.templates import FIELDS, is_blank

GOOD = {"question": "Why?", "answer": "So."}
WANTED = {"question": "Why?", "input": "", "answer": "So."}
TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# --- what a record is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "input": None, "output": "So."},
        {"question": "Why?", "context": None, "output": "So."},
        {"input": "Why?", "output": "So."},
        {"messages": TURNS},
        *({q: "Why?", a: "So."} for q in FIELDS["question"] for a in FIELDS["answer"]),
    ],
)
def test_every_schema_comes_out_the_same(record: dict, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(lines(record, record))
    for source in (path, str(path), [record, record], Dataset.from_list([record, record])):
        assert data.load_records(source).to_list() == [WANTED, WANTED]
    assert data.as_records([record]).to_list() == [WANTED]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"input": "Here."}, {"input": "Here."}),
        ({"context": "Here."}, {"input": "Here."}),
        ({"context": "Here.", "input": ""}, {"input": "Here."}),
        ({"context": "There.", "input": "Here."}, {"input": "Here.", "context": "There."}),
        ({"text": "Why? So."}, {"text": "Why? So."}),
        ({"id": 7, "tags": ["a"], "note": None}, {"id": "7", "tags": '["a"]', "note": ""}),
    ],
)
def test_the_fields_beside_the_question(more: dict, wanted: dict) -> None:
    assert data.load_records([GOOD | more]).to_list() == [WANTED | wanted]


def test_fields_that_only_later_records_have_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK", 2)
    rows: list[dict[str, Any]] = [{"question": f"q{n}", "answer": "a"} for n in range(6)]
    rows[2] |= {"topic": "t"}
    rows[4] |= {"page": 7, "history": [["Hi", "Ho"]]}
    loaded = data.load_records(rows)
    assert loaded["topic"][:] == ["", "", "t", "", "", ""]
    assert loaded["page"][:] == ["", "", "", "", "7", ""]
    assert [len(turns) for turns in loaded["history"]] == [0, 0, 0, 0, 2, 0]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_earlier_turns_beside_a_question(ending: str, tmp_path: Path) -> None:
    """As the Alpaca format has them; and as they come back from a file of ours, or a table."""
    wanted = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    alpaca = {"instruction": "Why?", "output": "So.", "history": [["Hi", "Hello"]]}
    loaded = data.load_records([alpaca | {"system": "Be kind."}, GOOD | {"history": []}])
    assert loaded.to_list() == [{**WANTED, "history": wanted}, {**WANTED, "history": []}]
    path = tmp_path / f"r{ending}"
    if ending == ".csv":
        rows = [{**row, "history": json.dumps(row["history"])} for row in loaded.to_list()]
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        data.save_records(loaded, path)
    assert data.load_records(path).to_list() == loaded.to_list()
    review = save_for_review(loaded, tmp_path / "review.csv")
    assert [row.get("history") or [] for row in load_reviewed(review)] == [wanted, []]
    odd = data.load_records([GOOD | {"history": "a long one", "system": {"cpu": 1}}])[0]
    assert (odd["history (text)"], odd["system"]) == ("a long one", '{"cpu": 1}')


def test_a_field_called_like_a_column_is_not_lost() -> None:
    for record, field in (
        ({"instruction": "Why?", "output": "So.", "answer": "No."}, "answer"),
        ({"prompt": "Why?", "completion": "So.", "question": ["Who?"]}, "question"),
        ({"messages": TURNS, "input": "Here."}, "input"),
    ):
        with pytest.raises(DataError, match=f"field '{field}': it would be lost"):
            data.load_records([record])
        for nothing in (None, "", float("nan"), WANTED[field]):
            assert data.load_records([{**record, field: nothing}])[0][field] == WANTED[field]
        names = [name for name in record if name != field]
        schema = "messages" if "messages" in record else "/".join(names)
        chosen = data.load_records([record], schema=schema)[0]
        assert {name: chosen[name] for name in WANTED} == WANTED
    with pytest.raises(SettingError, match="no schema"):
        data.load_records([GOOD], schema="qa")


def test_what_has_the_form_is_taken_as_it_is() -> None:
    """With its other columns, blank texts and all, but without a format that would change it."""
    rows = [{"question": "Why?", "answer": "", "stars": 3}, {"question": None, "answer": "So."}]
    table = Dataset.from_list(rows)
    changed = table.with_transform(lambda batch: {"text": ["x"] * len(batch["question"])})
    for source in (table, table.with_format("torch"), changed):
        found = data.as_records(source)
        assert found["stars"][:] == [3, None] and found["input"][:] == ["", ""]
    assert data.as_records(rows, may_be_blank=True)["answer"][:] == ["", "So."]
    with pytest.raises(DataError, match="record 1, field 'answer': blank"):
        data.as_records(rows)
    with pytest.raises(DataError, match=r"data.load_records\(stream\)"):
        data.as_records(table.to_iterable_dataset())
    with pytest.raises(DataError, match="no records"):
        data.as_records([])


# --- where records come from ---------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [float("nan"), None, pandas.NA, pandas.NaT])
def test_what_a_frame_has_for_nothing_is_missing(nothing: Any) -> None:
    rows = [GOOD | {"input": "Here.", "note": "n"}, GOOD | {"input": nothing, "note": nothing}]
    frame = pandas.DataFrame([*rows, {**rows[0], "answer": nothing}], dtype=object)
    good, problems = data.load_records(frame, strict=False)
    assert [(one["input"], one["note"]) for one in good] == [("Here.", "n"), ("", "")]
    assert [(one.line, one.field) for one in problems.itertuples()] == [(3, "answer")]


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = ["question", "answer", "answer"]
    table = pyarrow.table([["Why?"], ["So."], ["No."]], names=columns)
    parquet.write_table(table, tmp_path / "r.parquet")
    (tmp_path / "r.csv").write_text("question,answer,answer\nWhy?,So.,No.\n")
    frame = pandas.DataFrame([["Why?", "So.", "No."]], columns=columns)
    for source in (tmp_path / "r.parquet", tmp_path / "r.csv", frame):
        with pytest.raises(DataError, match="several columns are called 'answer'"):
            data.load_records(source)
    (tmp_path / "r.csv").write_text("question,answer,,\nWhy?,So.,No.,Or\n")
    kept = {"column 3": "No.", "column 4": "Or"}
    assert data.load_records(tmp_path / "r.csv").to_list() == [WANTED | kept]


def test_a_data_set_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once; a refusal says so in a line, and a mistyped path is not asked at all."""
    asked: list[tuple] = []
    stream = Dataset.from_list([GOOD, GOOD]).to_iterable_dataset()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **o: asked.append((a, o)) or stream)
    assert data.load_records("owner/questions", split="test").to_list() == [WANTED, WANTED]
    assert asked == [(("owner/questions",), {"split": "test", "streaming": True})]
    answer = SimpleNamespace(status_code=404, headers={}, request=None)
    for refusal in (ConnectionError("No route."), RepositoryNotFoundError("No.", response=answer)):

        def refuse(*_: Any, refusal: Exception = refusal, **__: Any) -> None:
            raise refusal

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
        with pytest.raises(DataError, match=r"\(No[^.]*\). Check the name, the split \(train\)"):
            data.load_records("owner/questions")
    monkeypatch.setattr(readers, "_read_hub", lambda *_: pytest.fail("asked the hub"))
    for name in ("tests/qa", "nowhere/qa.jsnl"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            data.load_records(name)


# --- every problem is named ----------------------------------------------------------------------

NESTED = b'{"question": ' + b"[" * 100_000
BAD_LINES: list[tuple[bytes, str, str]] = [
    (b"[1, 2]", "", "an object belongs here, not list"),
    (b'{"question": "half \\ud800", "answer": "So."}', "question", "half a character"),
    (b'{"question": "Why?", "answer": true}', "answer", "text belongs here, not bool"),
    (b'{"question": "Why?"}', "answer", "missing (there are: 'question')"),
    (b'{"question": "Why?", "answer": " \\u200b\\n"}', "answer", "blank"),
    ('{"question": "né", "answer": "So."}'.encode("latin-1"), "", "not UTF-8 (byte 0xe9 at 16"),
    (b'{"question": "a\x00b", "answer": "So."}', "", "it holds NUL bytes"),
    (NESTED, "", "no JSON"),
]


@pytest.mark.parametrize(("line", "field", "problem"), BAD_LINES)
def test_a_bad_line_is_named_and_the_good_ones_can_be_had(
    line: bytes, field: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(GOOD) + b"\n" + line + b"\n" + lines(GOOD))
    with pytest.raises(DataError) as error:
        data.load_records(path)
    place = f"{path}, line 3" + (f", field {field!r}" if field else "")
    assert str(error.value).startswith(place + ": ") and problem in str(error.value)
    assert len(str(error.value)) < 400
    good, problems = data.load_records(path, strict=False)
    assert good.to_list() == [WANTED, WANTED]
    assert [(p.source, p.line, p.field) for p in problems.itertuples()] == [(str(path), 3, field)]


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "is empty"),
    ("other.jsonl", b'{"x": "Why?", "y": "So."}\n', "the fields ('x', 'y') fit no known schema"),
    ("header.csv", b"What is it?,ann@home.org\nb,c\n", r"'What is it?', '[e-mail]'"),
    ("quote.csv", b'"question,answer\n', "no row of a table"),
    ("fake.parquet", b"not parquet at all", "is no parquet file"),
    ("records.pkl", b"\x80\x04K\x01.", "none of the files that are read"),
    (
        "roles.jsonl",
        lines({"messages": [{"role": "robot", "content": "x"}]}),
        "no role is called 'robot'",
    ),
    ("turns.jsonl", lines({"messages": TURNS[:1]}), "no answer of the assistant"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        data.load_records(path)
    assert message in str(error.value) and name in str(error.value)


# --- whatever people have ------------------------------------------------------------------------

CHARACTERS = strategies.characters(exclude_categories=["Cs"])
TEXTS = strategies.text(CHARACTERS).filter(lambda text: not is_blank(text))
FEW = settings(max_examples=40, deadline=None)
JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-(2**31), 2**31)
    | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text(CHARACTERS),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["role", "content", "x"]), inner)
    ),
    max_leaves=6,
)


@given(rows=strategies.lists(strategies.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5))
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@FEW
def test_every_text_comes_back_from_every_kind_of_file(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list
) -> None:
    path = tmp_path_factory.mktemp("texts") / f"r{ending}"
    rows = [tuple(text.replace("\0", "") or "x" for text in row) for row in rows]
    frame = pandas.DataFrame(rows, columns=["question", "answer", "note"])
    if ending in (".csv", ".tsv"):
        frame = frame.map(lambda text: text.replace("\r", "") or "x")  # pandas leaves it unquoted
        frame.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",", quoting=1)
    elif ending == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=ending == ".jsonl")
    kept, problems = data.load_records(path, strict=False)
    assert len(kept) + len(problems) == len(rows)
    wanted = [row for row in frame.itertuples(index=False) if not any(map(is_blank, row[:2]))]
    assert [(r["question"], r["answer"], r["note"]) for r in kept] == [tuple(r) for r in wanted]


@given(rows=strategies.lists(strategies.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=5))
@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
@FEW
def test_what_is_saved_or_reviewed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list
) -> None:
    path = tmp_path_factory.mktemp("saved") / f"r{ending}"
    given = [dict(zip(("question", "answer", "note"), row, strict=True)) for row in rows]
    if ending == ".csv":  # of a review, which has one way of ending lines and no NUL
        given = [{k: t.replace("\r", "").replace("\0", "") for k, t in r.items()} for r in given]
        given = [r for r in given if not any(map(is_blank, r.values()))] or [GOOD | {"note": "n"}]
        assert load_reviewed(save_for_review(given, path)) == given
    else:
        loaded = data.load_records(given)
        assert data.load_records(data.save_records(loaded, path)).to_list() == loaded.to_list()


@given(
    strategies.lists(
        strategies.dictionaries(strategies.sampled_from("abc"), JSON, min_size=1), min_size=1
    )
)
@FEW
def test_whatever_json_has_a_form_for_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict]
) -> None:
    path = data.save_records(rows, tmp_path_factory.mktemp("json") / "r.jsonl")
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == rows


@example(bad=b'"Why?,So.')  # an open quote would swallow all lines after it
@given(bad=strategies.binary(max_size=40).filter(lambda raw: b"\n" not in raw and raw.strip()))
@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
@FEW
def test_no_line_takes_another_with_it(
    tmp_path_factory: pytest.TempPathFactory, ending: str, bad: bytes
) -> None:
    path = tmp_path_factory.mktemp("lines") / f"r{ending}"
    good = lines(GOOD) if ending == ".jsonl" else b"Why?,So.\n"
    path.write_bytes(
        (b"question,answer\n" if ending == ".csv" else b"") + good + bad + b"\n" + good
    )
    kept, problems = data.load_records(path, strict=False)
    assert [row for row in kept if row == WANTED] == [WANTED] * 2
    assert set(problems["line"]) <= set(range(2, 2 + bad.count(b"\r") + 2))


FIELD_NAMES = (*records.PAIR, "history", "system", "id")


@given(
    strategies.dictionaries(
        strategies.sampled_from([*FIELD_NAMES, "context", "instruction", "output", "messages"]),
        JSON | strategies.floats() | strategies.text(),
        min_size=1,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_record_is_taken_or_refused_by_name(record: dict) -> None:
    try:
        [row] = data.load_records([record])
    except DataError as error:
        assert str(error).startswith("the list")
    else:
        assert not is_blank(row["question"]) and not is_blank(row["answer"])
        assert all(isinstance(row[name], str) for name in row if name != "history")


# --- saving ---------------------------------------------------------------------------------------


def test_what_can_not_be_saved_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("r.jsonl", "r.parquet"):
        path = data.save_records([GOOD], tmp_path / name)
        before = path.read_bytes()
        odd = [{"a": float("inf")}] if name == "r.jsonl" else [{"a": 1}, {"a": "x"}]
        wrong = (GOOD, "abc", None, [], [GOOD, "abc"], [{"a": "\ud800"}], [{"a": object()}])
        for bad in (*wrong, odd):
            with pytest.raises(DataError):
                data.save_records(bad, path)
        with pytest.raises(DataError, match="can't be written: "):
            data.save_records([GOOD], path / "sub" / name)
        with monkeypatch.context() as patched:

            def full(*_: Any, **__: Any) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patched.setattr(Path, "replace", full)
            with pytest.raises(NoSpace, match="No space left"):
                data.save_records([GOOD], path)
        assert path.read_bytes() == before
    with pytest.raises(DataError, match=r"written to a .jsonl or .parquet file"):
        data.save_records([GOOD], tmp_path / "r.xlsx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.jsonl", "r.parquet"]


def again(path: Path) -> list[dict[str, Any]]:
    """What a saved file holds."""
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_values_of_numpy_pandas_and_the_standard_library(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    row = {"a": np.int64(3), "b": np.arange(2), "c": np.float32(1.5), "d": np.bool_(True)}
    row |= {"e": {"f": [np.int8(1)]}, "g": np.str_("x"), "h": float("nan"), "i": pandas.NA}
    wanted = {"a": 3, "b": [0, 1], "c": 1.5, "d": True, "e": {"f": [1]}, "g": "x"}
    first, later = again(data.save_records([row, {"z": [3]}], path))
    assert {name: first[name] for name in row} == wanted | {"h": None, "i": None}
    assert later["z"] == [3]
    day, price = datetime.date(2024, 11, 19), decimal.Decimal("3.50")
    times = {"a": day, "b": price, "c": np.datetime64("2024-11-19T08:40", "ns"), "d": pandas.NaT}
    found = list(again(data.save_records([times], path))[0].values())
    in_words = ["2024-11-19", "3.50", "2024-11-19 08:40:00", None]
    values = [day, price, datetime.datetime(2024, 11, 19, 8, 40), None]
    assert found == (in_words if name == "r.jsonl" else values)
    frame = pandas.DataFrame({"a": ["x", None], "b": [1, 2]})
    assert again(data.save_records(frame, path)) == [{"a": "x", "b": 1}, {"a": None, "b": 2}]
    frame.index = pandas.Index([5, 6], name="id")
    assert [record["id"] for record in again(data.save_records(frame, path))] == [5, 6]


@pytest.mark.parametrize("kind", ["torch", "transform", "stream"])
@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_a_format_is_not_saved(kind: str, name: str, tmp_path: Path) -> None:
    rows = [{"n": n, "t": ["a"] * n} | GOOD for n in range(2)]
    table: Any = Dataset.from_list(rows)
    if kind == "stream":
        table = table.to_iterable_dataset().with_format("numpy")
    elif kind == "transform":
        table = table.with_transform(lambda batch: {"other": batch["n"]})
    else:
        table = table.with_format(kind)
    assert again(data.save_records(table, tmp_path / name)) == rows


def test_a_conversation_keeps_its_turns() -> None:
    messages = [{"role": "system", "content": "Be kind."}, *TURNS, *TURNS]
    loaded = data.load_records([{"messages": messages, "id": 1}, {"messages": TURNS}])
    assert loaded.to_list() == [
        {**WANTED, "history": messages[:3], "id": "1"},
        {**WANTED, "history": [], "id": ""},
    ]


def test_every_kind_of_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame([GOOD, {"question": 'A "quoted", word?', "answer": "Yes,\nquoted."}])
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_csv(tmp_path / "semicolons.csv", index=False, sep=";")
    frame.to_csv(tmp_path / "r.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_json(tmp_path / "r.json", orient="records")
    frame.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    (tmp_path / "blanks.csv").write_text(
        'question , answer\nWhy?,So.\n"A ""quoted"", word?","Yes,\nquoted."\n'
    )
    (tmp_path / "nested.json").write_text(json.dumps({"data": frame.to_dict("records")}))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(*frame.to_dict("records")))
    wanted = [WANTED, {"question": 'A "quoted", word?', "input": "", "answer": "Yes,\nquoted."}]
    for source in (frame, Dataset.from_pandas(frame).to_iterable_dataset(), *tmp_path.glob("*.*")):
        assert data.load_records(source).to_list() == wanted, source
