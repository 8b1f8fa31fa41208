"""Records come out the same whatever they were called; every problem is named, nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from datasets import Dataset

from llmcourse import company, data
from llmcourse.errors import CourseError, DataError, NoSpace
from tests.conftest import ROOT

GOOD = {"question": "Why?", "answer": "So."}
WANTED = {"question": "Why?", "input": "", "answer": "So."}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.parametrize(
    "record",
    [
        GOOD,
        {"instruction": "Why?", "response": "So."},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"instruction": "Why?", "input": None, "output": "So."},
        {"prompt": "Why?", "completion": "So."},
        {"input": "Why?", "output": "So."},
        {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "So."},
            ]
        },
    ],
)
def test_every_schema_comes_out_the_same(record: dict, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(lines(record, record))
    for source in (path, str(path), [record, record], Dataset.from_list([record, record])):
        assert data.load_records(source).to_list() == [WANTED, WANTED]


def test_every_kind_of_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame([GOOD, {"question": 'A "quoted", word?', "answer": "Yes,\nquoted."}])
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_csv(tmp_path / "r.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_json(tmp_path / "r.json", orient="records")
    frame.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    (tmp_path / "nested.json").write_text(json.dumps({"data": frame.to_dict("records")}))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(*frame.to_dict("records")))
    wanted = [WANTED, {"question": 'A "quoted", word?', "input": "", "answer": "Yes,\nquoted."}]
    assert data.load_records(frame).to_list() == wanted
    for path in tmp_path.glob("*.*"):
        assert data.load_records(path).to_list() == wanted, path.name


def test_the_companys_own_records() -> None:
    path = Path(company.__path__[0]) / "questions.jsonl"
    records = data.load_records(path)
    assert len(records) == len(company.records("questions"))
    assert set(records.column_names) == {"question", "input", "answer", "id", "fact", "split"}


def test_text_and_long_conversations() -> None:
    assert data.load_records([{"text": "Once."}]).to_list() == [{"text": "Once."}]
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"),
             ("assistant", "So.")]  # fmt: skip
    messages = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert data.load_records([messages]).to_list() == [
        {
            "question": "Why?",
            "input": "System: Be kind.\nUser: Hi\nAssistant: Hello",
            "answer": "So.",
        }
    ]


def test_a_named_schema_wins_and_unknown_ones_list_the_known() -> None:
    both = {"question": "Why?", "answer": "So.", "prompt": "P", "completion": "C"}
    named = data.load_records([both], schema="prompt/completion")[0]
    assert (named["question"], named["answer"]) == ("P", "C")
    with pytest.raises(DataError, match="no schema 'qa'. There are: question/answer"):
        data.load_records([both], schema="qa")


def test_other_fields_are_kept_as_text() -> None:
    first = {**GOOD, "id": 7, "tags": ["a"], "note": None}
    kept = data.load_records([first, {**GOOD, "other": 1}])
    assert kept[0] == WANTED | {"id": "7", "tags": '["a"]', "note": ""}
    assert kept[1] == WANTED | {"id": "", "tags": "", "note": ""}


def test_blank_lines_are_passed_over_and_lines_counted_with_them(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n" + lines(GOOD) + b"  \n\n" + lines({"question": " ", "answer": "So."}))
    with pytest.raises(DataError, match=r"r.jsonl, line 5, field 'question': blank"):
        data.load_records(path)


DEEP = b'{"question": ' + b"[" * 100_000
BAD_LINES: list[tuple[bytes, str, str]] = [
    (b'{"question": "half \\ud800", "answer": "b"}\n', "question", "half a character"),
    (b'{"question": "Why?", "answ\n', "", "no JSON: unterminated string"),
    (b'{"question": "Why?"} {"a": 1}\n', "", "no JSON: extra data at column 22"),
    (b"just words\n", "", "no JSON: expecting value at column 1"),
    (b"[1]\n", "", "an object belongs here, not a list"),
    (b"7\n", "", "an object belongs here, not a number"),
    (b'"text"\n', "", "an object belongs here, not text"),
    (b"null\n", "", "an object belongs here, not nothing"),
    (b'{"question": 7, "answer": "So."}\n', "question", "text belongs here, not a number"),
    (b'{"question": "Why?", "answer": ["So."]}\n', "answer", "text belongs here, not a list"),
    (b'{"question": "Why?", "answer": true}\n', "answer", "text belongs here, not true or false"),
    (b'{"question": "Why?"}\n', "answer", "missing (there are: 'question')"),
    (b'{"question": "Why?", "answer": null}\n', "answer", "missing"),
    (b"{}\n", "question", "missing (there are: none)"),
    (
        b'{"prompt": "P", "completion": "C"}\n',
        "question",
        "it looks like 'prompt/completion' in a file",
    ),
    (b'{"question": "", "answer": "So."}\n', "question", "blank"),
    (b'{"question": "Why?", "answer": " \\n"}\n', "answer", "blank"),
    ('{"question": "né", "answer": "So."}\n'.encode("latin-1"), "", "not UTF-8 (byte 0xe9 at 16"),
    (b'{"question": "a\x00b", "answer": "So."}\n', "", "it holds NUL bytes"),
    (DEEP + b"\n", "", "nested too deeply"),
    (b'{"question": "' + b"x" * 10_000_000 + b'", "answer": "So."}\n', "", "over 8 million bytes"),
]


@pytest.mark.parametrize(("line", "field", "problem"), BAD_LINES)
def test_a_bad_line_is_named_and_the_good_ones_can_be_had(
    line: bytes, field: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(GOOD) + line + lines(GOOD))
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(DataError) as told:
        data.load_records(path)
    place = f"{path}, line 2" + (f", field {field!r}" if field else "")
    assert str(told.value).startswith(place + ": ") and problem in str(told.value)
    assert len(str(told.value)) < 400
    good, problems = data.load_records(path, strict=False)
    assert good.to_list() == [WANTED, WANTED]
    assert problems.to_dict("records")[0] | {"problem": ""} == {
        "source": str(path), "line": 2, "field": field, "problem": ""
    }  # fmt: skip
    assert hashlib.sha256(path.read_bytes()).digest() == before


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "is empty"),
    ("blank.jsonl", b"\n \n\n", "holds no records that can be used"),
    ("bad.jsonl", b"[1]\n", "line 1: an object belongs here"),
    ("other.jsonl", b'{"q": "Why?", "a": "So."}\n', "the fields ('q', 'a') fit no known schema"),
    ("one.json", b'{"question": "Why?", "answer": "So."}', "a list of objects belongs here"),
    ("lines.json", lines(GOOD, GOOD), "should end in .jsonl"),
    ("cut.json", b'[{"question": "Why?"', "line 1: no JSON"),
    ("mixed.json", b'[{"question": "Why?", "answer": "So."}, 3]', "line 2: an object belongs here"),
    ("words.json", b'["Why?"]', "an object belongs here, not text"),
    ("latin.json", '["né"]'.encode("latin-1"), "not UTF-8 (byte 0xe9"),
    ("latin.csv", "question,answer\nné,So.\n".encode("latin-1"), "not UTF-8 (byte 0xe9"),
    ("wide.csv", b"question,answer\nWhy?,So.\na,b,c\n", "line 3: more cells than the 2 columns"),
    ("short.csv", b"question,answer\nWhy?,So.\na\n", "line 3, field 'answer': missing"),
    ("quote.csv", b'question,answer\n"Why?,So.\n', "no row of a table"),
    ("head.csv", b"question,answer\n", "holds no records"),
    ("none.csv", b"name,age\nA,3\n", "fit no known schema"),
    ("utf16.csv", "question,answer\n".encode("utf-16"), "NUL bytes"),
    ("fake.parquet", b"not parquet at all", "is no parquet file"),
    ("records.pkl", b"\x80\x04K\x01.", "of the kind '.pkl'. Records are read from .jsonl"),
    ("records", b"x", "'without ending'"),
    (
        "roles.jsonl",
        lines({"messages": [{"role": "robot", "content": "x"}]}),
        "turn 1 needs a role",
    ),
    ("turns.jsonl", lines({"messages": [{"role": "user", "content": "x"}]}), "the last two turns"),
    ("turn.jsonl", lines({"messages": "hello"}), "a list of turns belongs here, not text"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as told:
        data.load_records(path)
    assert message in str(told.value) and name in str(told.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("nowhere", "no such file. Name a file"),
        (".", "is a folder"),
        (GOOD, "not one record. Put it into a list"),
        (7, "can't be read from a number"),
        (None, "can't be read from nothing"),
        ([], "holds no records"),
        (["Why?"], "the list, line 1: an object belongs here, not text"),
    ],
)
def test_a_source_that_is_none_is_told(source: Any, message: str) -> None:
    with pytest.raises(DataError) as told:
        data.load_records(source)
    assert message in str(told.value)


def test_a_hub_data_set_without_a_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr("datasets.load_dataset", refused)
    with pytest.raises(DataError, match="owner/questions is no file here, and can't be had from"):
        data.load_records("owner/questions")


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege to make links")
def test_a_loop_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(CourseError, match="a.jsonl can't be read: "):
        data.load_records(tmp_path / "a.jsonl")


def test_unreadable_permissions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(GOOD))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="r.jsonl can't be read: Permission denied"):
        data.load_records(path)


def test_nothing_is_dropped_silently(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(GOOD) * 3 + b"[1]\n" + lines({**GOOD, "answer": ""}) + lines(GOOD))
    good, problems = data.load_records(path, strict=False)
    assert len(good) + len(problems) == 6
    assert list(problems["line"]) == [4, 5]
    clean, none = data.load_records([GOOD], strict=False)
    assert len(clean) == 1 and list(none.columns) == ["source", "line", "field", "problem"]


def test_a_full_disk_leaves_no_half_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.ipc, "new_stream", full)
    with pytest.raises(NoSpace, match="No space left in"):
        data.load_records([GOOD])
    assert not list((cache / "records").iterdir())


def test_the_file_behind_goes_with_the_data_set(cache: Path) -> None:
    code = (
        "from llmcourse import data; d = data.load_records([{'text': 'x'}]);"
        "import os; print(len(os.listdir(os.environ['LLMCOURSE_CACHE'] + '/records')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "1"
    assert os.name == "nt" or not list((cache / "records").iterdir())


@pytest.mark.parametrize("ending", data.saving.WRITERS)
def test_saved_records_come_back(tmp_path: Path, ending: str) -> None:
    records = [{"question": f"Why {n}? “é”", "answer": "So.", "fact": str(n)} for n in range(3)]
    for source in (records, data.load_records(records), iter(records)):
        path = data.save_records(source, tmp_path / "new" / f"r{ending}")
        again = data.load_records(path)
        assert again["question"] == [r["question"] for r in records]
        assert again["fact"] == ["0", "1", "2"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_can_not_be_saved_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data.save_records([{"question": "Why?", "answer": "So."}], tmp_path / "r.jsonl")
    before = path.read_bytes()
    with pytest.raises(DataError, match="there are no records to write"):
        data.save_records([], path)
    with pytest.raises(DataError, match=r"written to .jsonl and .parquet"):
        data.save_records([{"a": "b"}], tmp_path / "r.xlsx")
    with pytest.raises(DataError, match="can't be written: "):
        data.save_records([{"a": "b"}], path / "sub" / "r.jsonl")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(NoSpace, match="No space left"):
        data.save_records([{"a": "b"}], path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]
