"""Records come out the same whatever they were called; every problem is named, nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from hypothesis import given, settings, strategies

from llmcourse import company, data
from llmcourse.data import readers
from llmcourse.data.reviewing import load_reviewed, save_for_review
from llmcourse.errors import DataError, NoSpace, SettingError
from llmcourse.templates import FIELDS, is_blank

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
        {"instruction": "Why?", "input": "", "answer": "So."},
        {"question": "Why?", "context": "", "response": "So."},
        {"question": "Why?", "context": None, "output": "So."},
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


def test_every_set_of_the_company_with_answers_can_be_loaded() -> None:
    loaded = set()
    for path in sorted(Path(company.__path__[0]).glob("*.jsonl")):
        wanted = company.records(path.stem) if path.stem in company.SETS else []
        if not all(isinstance(record.get("answer"), str) for record in wanted):
            continue
        if path.stem == "messy":
            good, problems = data.load_records(path, strict=False)
            assert len(good) + len(problems) == len(wanted)
            continue
        records = data.load_records(path)
        asked = "question" if "question" in wanted[0] else "instruction"
        for column, field in (("question", asked), ("input", "input"), ("answer", "answer")):
            assert list(records[column]) == [one.get(field, "") for one in wanted], path.stem
        loaded.add(path.stem)
    assert loaded >= {"questions", "seed_tasks", "extraction", "expansion", "off_topic"}


def test_every_pair_of_names_is_a_schema() -> None:
    for question in FIELDS["question"]:
        for answer in FIELDS["answer"]:
            record = {answer: "So.", question: "Why?", "text": "Why? So.", "input": "Here."}
            loaded = data.load_records([record])
            assert loaded.to_list() == [
                {**WANTED, "input": "Here."}
                | ({} if "text" not in loaded.column_names else {"text": "Why? So."})
            ]
    assert list(data.SCHEMAS)[:2] == ["question/answer", "instruction/response"]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"input": "Here."}, {"input": "Here."}),
        ({"context": "Here."}, {"input": "Here."}),
        ({"context": "Here.", "input": ""}, {"input": "Here.", "context": "Here."}),
        ({"context": "There.", "input": "Here."}, {"input": "Here.", "context": "There."}),
    ],
)
def test_the_text_beside_the_question(more: dict, wanted: dict) -> None:
    assert data.load_records([GOOD | more]).to_list() == [WANTED | wanted]
    asked = {"input": "Why?", "output": "So.", "context": "Here."}
    assert data.load_records([asked]).to_list() == [{**WANTED, "input": "Here."}]
    with pytest.raises(DataError, match="record 1, field 'context': text belongs here"):
        data.load_records([GOOD | {"context": ["Here."]}])
    assert data.load_records([{"text": "Once.", "context": "a"}])[0]["context"] == "a"


def test_a_conversation_keeps_its_turns() -> None:
    assert data.load_records([{"text": "Once."}]).to_list() == [{"text": "Once."}]
    turns = [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Why?"),
        ("assistant", "So."),
    ]
    messages = [{"role": role, "content": text} for role, text in turns]
    loaded = data.load_records([{"messages": messages, "id": 1}, {"messages": messages[3:]}])
    assert loaded.to_list() == [
        {**WANTED, "history": messages[:3], "id": "1"},
        {**WANTED, "history": [], "id": ""},
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".csv"])
def test_earlier_turns_beside_a_question(ending: str, tmp_path: Path) -> None:
    """As the Alpaca format has them; and as they come back from a file of ours, or a table."""
    wanted = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    given = {
        "instruction": "Why?",
        "output": "So.",
        "system": "Be kind.",
        "history": [["Hi", "Hello"]],
    }
    loaded = data.load_records([given, GOOD | {"system": "", "history": []}])
    assert loaded.to_list() == [{**WANTED, "history": wanted}, {**WANTED, "history": []}]
    if ending == ".csv":
        path = tmp_path / "r.csv"
        rows = [{**row, "history": json.dumps(row["history"])} for row in loaded.to_list()]
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        path = data.save_records(loaded, tmp_path / f"r{ending}")
    assert data.load_records(path).to_list() == loaded.to_list()
    review = save_for_review(loaded, tmp_path / "review.csv")
    assert [row.get("history") or [] for row in load_reviewed(review)] == [wanted, []]
    odd = data.load_records([GOOD | {"history": "a long one", "system": {"cpu": 1}}])[0]
    assert (odd["history (text)"], odd["system"]) == ("a long one", '{"cpu": 1}')


def test_a_named_schema_wins_and_unknown_ones_list_the_known() -> None:
    both = {"question": "Why?", "answer": "So.", "prompt": "P", "completion": "C"}
    named = data.load_records([both], schema="prompt/completion")[0]
    assert (named["question"], named["answer"]) == ("P", "C")
    for wrong in ("qa", ["qa"], 3, {}):
        with pytest.raises(SettingError, match=r"no schema .*\. There are: question/answer"):
            data.load_records([both], schema=wrong)


TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    ("schema", "record", "field", "source"),
    [
        (
            "instruction/output",
            {"instruction": "Why?", "output": "So.", "answer": "No."},
            "answer",
            "output",
        ),
        (
            "instruction/output",
            {"instruction": "Why?", "output": "So.", "answer": ["No."]},
            "answer",
            "output",
        ),
        (
            "prompt/completion",
            {"prompt": "Why?", "completion": "So.", "question": "Who?"},
            "question",
            "prompt",
        ),
        ("messages", {"messages": TURNS, "question": "Who?", "id": "1"}, "question", "messages"),
        ("messages", {"messages": TURNS, "input": "Here."}, "input", "messages"),
    ],
)
def test_a_field_called_like_a_column_is_not_lost(
    schema: str, record: dict, field: str, source: str
) -> None:
    with pytest.raises(DataError, match=f"field '{field}': .* '{field}' is read from '{source}'"):
        data.load_records([record])
    chosen = data.load_records([record], schema=schema)[0]
    assert {name: chosen[name] for name in WANTED} == WANTED
    for nothing in (None, "", float("nan"), WANTED[field]):
        assert data.load_records([{**record, field: nothing}])[0][field] == WANTED[field]
    other = {**record, "category": "c"}
    del other[field]
    assert data.load_records([other])[0]["category"] == "c"


ITSELF: list[Any] = []
ITSELF.append(ITSELF)
NESTED: list[Any] = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"a\ud800": "x"}, r"name of the field 'a\ud800' has half a character"),
        ({"note": ITSELF}, "field 'note': it can't be kept as text: circular reference"),
        ({"note": NESTED}, "field 'note': it is nested too deeply"),
        ({"note": {(1, 2): 3}}, "field 'note': it can't be kept as text: keys must be"),
        ({1: "a", "1": "b"}, "two fields are called '1'"),
    ],
)
def test_other_fields_that_can_not_be_kept_are_told(more: dict, told: str) -> None:
    with pytest.raises(DataError) as error:
        data.load_records([GOOD | more])
    assert told in str(error.value)
    good, problems = data.load_records([GOOD | more, GOOD], strict=False)
    assert good.to_list() == [WANTED] and list(problems["line"]) == [1]


def test_columns_of_one_name_are_told(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = ["question", "answer", "answer"]
    table = pyarrow.table([["Why?"], ["So."], ["No."]], names=columns)
    parquet.write_table(table, tmp_path / "r.parquet")
    (tmp_path / "r.csv").write_text("question,answer,answer\nWhy?,So.,No.\n")
    frame = pandas.DataFrame([["Why?", "So.", "No."]], columns=columns)
    for source in (tmp_path / "r.parquet", tmp_path / "r.csv", frame):
        with pytest.raises(DataError, match="several columns are called 'answer'. Rename them"):
            data.load_records(source)
    (tmp_path / "r.csv").write_text("question,answer,,\nWhy?,So.,No.,Or\n")
    kept = {"column 3": "No.", "column 4": "Or"}
    assert data.load_records(tmp_path / "r.csv").to_list() == [WANTED | kept]


def test_a_lost_header_is_asked_about_and_shows_nothing_personal(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("What is it?,ann@home.org,0171 2345678\nb,c,d\n")
    with pytest.raises(DataError, match=r"'What is it\?', '\[e-mail\]', '\[phone\]'") as told:
        data.load_records(tmp_path / "r.csv")
    assert "Is the first line a header?" in str(told.value)
    many = {f"field {n}": "x" for n in range(50)} | {"y" * 5000: "x"}
    with pytest.raises(DataError, match=r"'field 6', 'field 7' and 43 more\) fit no") as told:
        data.load_records([many])
    assert len(str(told.value)) < 600


def test_other_fields_are_kept_as_text() -> None:
    first = {**GOOD, "id": 7, "tags": ["a"], "note": None}
    kept = data.load_records([first, {**GOOD, "other": 1}])
    assert kept[0] == WANTED | {"id": "7", "tags": '["a"]', "note": "", "other": ""}
    assert kept[1] == WANTED | {"id": "", "tags": "", "note": "", "other": "1"}


def test_blank_lines_are_passed_over_and_lines_counted_with_them(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n" + lines(GOOD) + b"  \n\n" + lines({"question": " ", "answer": "So."}))
    with pytest.raises(DataError, match=r"r.jsonl, line 5, field 'question': blank"):
        data.load_records(path)


BAD_LINES: list[tuple[bytes, str, str]] = [
    (b"[1, 2]\n", "", "an object belongs here, not a list"),
    (b'{"question": "half \\ud800", "answer": "So."}\n', "question", "half a character"),
    (b'{"question": "Why?", "answer": true}\n', "answer", "text belongs here, not true or false"),
    (b'{"question": "Why?"}\n', "answer", "missing (there are: 'question')"),
    (b'{"question": "Why?", "answer": NaN}\n', "answer", "missing"),
    (b'{"prompt": "P", "completion": "C"}\n', "question", "it looks like 'prompt/completion'"),
    (b'{"question": "Why?", "answer": " \\u200b\\n"}\n', "answer", "blank"),
    ('{"question": "né", "answer": "So."}\n'.encode("latin-1"), "", "not UTF-8 (byte 0xe9 at 16"),
    (b'{"question": "a\x00b", "answer": "So."}\n', "", "it holds NUL bytes"),
    (b'{"question": ' + b"[" * 100_000 + b"\n", "", "nested too deeply"),
    (b'{"question": "Why?\n', "", "no JSON: "),
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
        "source": str(path),
        "line": 2,
        "field": field,
        "problem": "",
    }
    assert hashlib.sha256(path.read_bytes()).digest() == before


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("empty.jsonl", b"", "is empty"),
    ("blank.jsonl", b"\n \n\n", "holds no records that can be used"),
    ("other.jsonl", b'{"q": "Why?", "a": "So."}\n', "the fields ('q', 'a') fit no known schema"),
    ("one.json", b'{"question": "Why?", "answer": "So."}', "a list of objects belongs here"),
    ("lines.json", lines(GOOD, GOOD), "should end in .jsonl"),
    ("latin.csv", "question,answer\nné,So.\n".encode("latin-1"), "line 2: it is not UTF-8"),
    ("wide.csv", b"question,answer\nWhy?,So.\na,b,c\n", "line 3: more cells than the 2 columns"),
    ("head-quote.csv", b'"question,answer\n', "no row of a table"),
    ("fake.parquet", b"not parquet at all", "is no parquet file"),
    ("records.pkl", b"\x80\x04K\x01.", "of the kind '.pkl'. Records are read from .jsonl"),
    (
        "roles.jsonl",
        lines({"messages": [{"role": "robot", "content": "x"}]}),
        "turn 1 needs a role",
    ),
    ("turns.jsonl", lines({"messages": [{"role": "user", "content": "x"}]}), "the last two turns"),
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
        ("x" * 5000, "can't be read: "),
        ("~nobody-at-all/r.jsonl", "can't be read: "),
        ({"question": ["Why?"], "answer": ["So."]}, "not one record. Put it into a list"),
        (
            DatasetDict({"train": Dataset.from_list([GOOD]), "test": Dataset.from_list([GOOD])}),
            "several splits (train, test); choose a split: x['train']",
        ),
        (".", "is a folder"),
        (GOOD, "not one record. Put it into a list"),
        (7, "can't be read from a number"),
        (None, "can't be read from nothing"),
        ([], "holds no records"),
    ],
)
def test_a_source_that_is_none_is_told(source: Any, message: str) -> None:
    with pytest.raises(DataError) as told:
        data.load_records(source)
    assert message in f"{told.value}\n" and ".." not in str(told.value)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_source_is_told(blank: str) -> None:
    with pytest.raises(SettingError, match="The source ' *' is blank. Name a file"):
        data.load_records(blank)


def test_formats_and_transforms_are_put_aside() -> None:
    dataset = Dataset.from_list([GOOD | {"id": 1}] * 2)
    wanted = [WANTED | {"id": "1"}] * 2
    formatted = [dataset.with_format(kind) for kind in ("pandas", "arrow", "numpy", "torch")]
    changed = dataset.with_transform(lambda batch: {"text": ["x"] * len(batch["question"])})
    streamed = dataset.to_iterable_dataset()
    part = dataset.with_format(None, columns=["question"])
    for source in (*formatted, changed, part, streamed, streamed.with_format("torch")):
        assert data.load_records(source).to_list() == wanted


@pytest.mark.parametrize("name", ["data/qa.jsnl", "data/qa", "nowhere/qa.txt", "nowhere/qa.jsnl"])
def test_a_mistyped_path_is_not_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers, "_read_hub", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match=f"{name}: no such file"):
        data.load_records(name)


def _answer(code: int, kind: type) -> Exception:
    """What the hub's client raises for a refusal."""
    answer = SimpleNamespace(status_code=code, headers={}, request=None)
    return kind("Refused.", response=answer)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("No route."), "(No route). Check the name, the split (train) and the"),
        (RuntimeError("no name"), "(no name). Check the name, the split (train) and the network"),
        (_answer(404, RepositoryNotFoundError), "The hub has none of this name that you may see"),
        (_answer(403, GatedRepoError), "It is gated: accept its terms on its hub page"),
    ],
)
def test_a_hub_that_refuses_is_asked_once(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refused(_: Any, name: str, **__: object) -> None:
        asked.append(name)
        raise error

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refused)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(DataError) as told:
        data.load_records("owner/questions")
    assert message in str(told.value) and len(str(told.value).splitlines()) == 1
    assert "owner/questions is no file here, and can't be had from the hub" in str(told.value)
    assert asked == ["owner/questions"]


def test_a_hub_data_set_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict]] = []

    def given(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return Dataset.from_list([GOOD, GOOD]).to_iterable_dataset()

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", given)
    assert data.load_records("owner/questions", split="test").to_list() == [WANTED, WANTED]
    assert data.load_records("owner/questions").to_list() == [WANTED, WANTED]
    assert asked == [
        ("owner/questions", {"split": split, "streaming": True}) for split in ("test", "train")
    ]


def test_only_files_with_a_record_a_line_have_lines(tmp_path: Path) -> None:
    frame = pandas.DataFrame([GOOD, {**GOOD, "answer": " "}])
    frame.to_parquet(tmp_path / "r.parquet")
    frame.to_json(tmp_path / "r.json", orient="records")
    frame.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "r.csv", index=False)
    frame.to_csv(tmp_path / "r.TSV", index=False, sep="\t")
    rows = frame.to_dict("records")
    for source, place in (
        (frame, "the data frame, record 2"),
        (rows, "the list, record 2"),
        (Dataset.from_list(rows), "the data set, record 2"),
        (tmp_path / "r.parquet", "r.parquet, record 2"),
        (tmp_path / "r.json", "r.json, record 2"),
        (tmp_path / "r.jsonl", "r.jsonl, line 2"),
        (tmp_path / "r.csv", "r.csv, line 3"),
        (tmp_path / "r.TSV", "r.TSV, line 3"),
    ):
        with pytest.raises(DataError, match=f"{place}, field 'answer': blank"):
            data.load_records(source)


@pytest.mark.parametrize("nothing", [float("nan"), None, pandas.NA, pandas.NaT])
def test_what_a_frame_has_for_nothing_is_missing(nothing: Any) -> None:
    rows = [GOOD | {"input": "Here.", "note": "n"}, GOOD | {"input": nothing, "note": nothing}]
    frame = pandas.DataFrame([*rows, {**rows[0], "answer": nothing}], dtype=object)
    good, problems = data.load_records(frame, strict=False)
    assert [(one["input"], one["note"]) for one in good] == [("Here.", "n"), ("", "")]
    assert [(one.line, one.field) for one in problems.itertuples()] == [(3, "answer")]
    assert problems["problem"][0].startswith("missing")


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


BAD_ROWS: list[tuple[bytes, str]] = [
    (b'"Why" not?,So.', "no row of a table: ',' expected after"),
    (b'"Why?,So.', "no row of a table: "),  # the open quote swallows what follows
    (b"a,b,c", "more cells than the 2 columns"),
    (b"a", "missing"),
    (b"n\xe9,So.", "it is not UTF-8 (byte 0xe9 at 2"),
    (b"a\0,So.", "it holds NUL bytes"),
]


@pytest.mark.parametrize(("row", "problem"), BAD_ROWS)
@pytest.mark.parametrize("after", [b"Why?,So.\n", b'"Why?","So."\n'])
def test_a_bad_row_takes_no_other_with_it(
    row: bytes, problem: str, after: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"question,answer\nWhy?,So.\n\n" + row + b"\n" + after * 3 + row + b"\n")
    good, problems = data.load_records(path, strict=False)
    assert good.to_list() == [WANTED] * 4
    assert len(good) + len(problems) == 6
    assert list(problems["line"]) == [4, 8]
    assert all(problem in told for told in problems["problem"])


def test_long_cells_and_cells_of_several_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    text = "é" * 200_000
    path.write_bytes(f'question,answer\r\n"Why,\r\nthen?",{text}\r\na\r\n'.encode("utf-8-sig"))
    good, problems = data.load_records(path, strict=False)
    assert good.to_list() == [{"question": "Why,\r\nthen?", "input": "", "answer": text}]
    assert list(problems["line"]) == [4]


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


@pytest.mark.parametrize("chunk", [1, 2, 3, 5000])
def test_fields_that_only_later_records_have_are_kept(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(data.tables, "CHUNK", chunk)
    rows: list[dict[str, Any]] = [{"question": f"q{n}", "answer": "a"} for n in range(6)]
    rows[2] |= {"topic": "t"}
    rows[4] |= {"page": 7, "topic": "u"}
    loaded = data.load_records(rows)
    assert loaded.column_names == ["question", "input", "answer", "topic", "page"]
    assert loaded["topic"][:] == ["", "", "t", "", "u", ""]
    assert loaded["page"][:] == ["", "", "", "", "7", ""]
    assert loaded["question"][:] == [f"q{n}" for n in range(6)]


# --- whatever people have ------------------------------------------------------------------------

TEXTS = strategies.text(strategies.characters(exclude_categories=["Cs"])).filter(
    lambda text: not is_blank(text)
)
FEW = settings(max_examples=40, deadline=None)


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


@given(
    strategies.dictionaries(
        strategies.sampled_from(
            [
                "question",
                "answer",
                "input",
                "context",
                "instruction",
                "output",
                "text",
                "messages",
                "history",
                "system",
                "id",
            ]
        ),
        strategies.recursive(
            strategies.none() | strategies.booleans() | strategies.floats() | strategies.text(),
            lambda inner: (
                strategies.lists(inner, max_size=3)
                | strategies.dictionaries(strategies.sampled_from(["role", "content", "x"]), inner)
            ),
            max_leaves=6,
        ),
        min_size=1,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_record_is_taken_or_told(record: dict) -> None:
    try:
        [row] = data.load_records([record])
    except DataError as error:
        assert str(error).startswith("the list")
    else:
        own = ("question", "answer") if "question" in row else ("text",)
        assert not any(is_blank(row[name]) for name in own)
        assert all(isinstance(row[name], str) for name in row if name != "history")
