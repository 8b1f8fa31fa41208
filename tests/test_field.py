"""What people bring: each kind of file, conversation and folder that somebody's work began with."""

from __future__ import annotations

import bz2
import gzip
import json
import mailbox
import sys
import unicodedata
import zipfile
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chardet
import pandas
import pytest

from llmcourse import cli, data, encoding, evaluation, generation, models, own, synthesis, words
from llmcourse.errors import DataError, SettingError, TemplateError
from llmcourse.evaluation import METRICS
from llmcourse.widgets import Chat

ASKED, SAID = "When does the ferry leave?", "At 6.40."
AGAIN, THEN = "And back?", "At noon."
PAIR = {"question": ASKED, "answer": SAID}
KIND = "You are the clerk."


def role(who: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": who, "content": content, **more}


def gpt(who: str, value: str, **more: Any) -> dict[str, Any]:
    return {"from": who, "value": value, **more}


USER, ANSWER = role("user", ASKED), role("assistant", SAID)
SYSTEM = role("system", KIND)
TWO = [USER, ANSWER, role("user", AGAIN), role("assistant", THEN)]
PARTS = [{"type": "text", "text": ASKED}]
CALL = {"function": {"name": "tides", "arguments": "{}"}}


def read(tmp_path: Path, *rows: Any, name: str = "r.jsonl", **how: Any) -> tuple[list, list, list]:
    """The records of a file with `rows`, what was noted, and the problems."""
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded, problems = data.load_records(path, strict=False, **how)
    return loaded.to_list(), data.how_read(loaded), list(problems["problem"])


# --- formats --------------------------------------------------------------------------------------

ONE: list[tuple[str, Any, list]] = [  # format, row, the turns before the question
    ("OpenAI", {"messages": [USER, ANSWER]}, []),
    ("OpenAI", [USER, ANSWER], []),
    (
        "OpenAI",
        {"messages": [role("user", PARTS), role("assistant", [{"text": SAID}])]},
        [],
    ),
    ("OpenAI", {"messages": [role("developer", KIND), USER, ANSWER]}, [SYSTEM]),
    (
        "OpenAI",
        {"system": KIND, "messages": [role("Human", ASKED), role("Chatbot", SAID)]},
        [SYSTEM],
    ),
    ("OpenAI", {"messages": json.dumps([USER, ANSWER])}, []),
    ("ShareGPT", {"conversations": [gpt("human", ASKED), gpt("gpt", SAID)]}, []),
    (
        "ShareGPT",
        {"conversations": [gpt("system", KIND), gpt("human", ASKED), gpt("gpt", SAID)]},
        [SYSTEM],
    ),
    ("LIMA", {"conversations": [ASKED, SAID]}, []),
    ("LIMA", [ASKED, SAID], []),
    ("LIMA", {"data": [ASKED, SAID]}, []),
    (
        "Gemini",
        {
            "contents": [
                {"role": "user", "parts": [{"text": ASKED}]},
                {"role": "model", "parts": [{"text": SAID}]},
            ]
        },
        [],
    ),
    (
        "input and output",
        {"conversation": [{"system": KIND, "input": ASKED, "output": SAID}]},
        [SYSTEM],
    ),
    ("human and assistant", {"conversation": [{"human": ASKED, "assistant": SAID}]}, []),
    ("TRL", {"prompt": [USER], "completion": [ANSWER]}, []),
    ("preference", {"prompt": ASKED, "chosen": SAID, "rejected": "No."}, []),
    ("preference", {"prompt": [SYSTEM, USER], "chosen": [ANSWER], "rejected": [ANSWER]}, [SYSTEM]),
    ("preference", {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, []),
    (
        "preference",
        {"prompt": ASKED, "messages": TWO, "chosen": [USER, ANSWER], "rejected": [USER]},
        [],
    ),
    (
        "preference",
        {"system": KIND, "question": ASKED, "chosen": SAID, "rejected": "No."},
        [SYSTEM],
    ),
    (
        "preference",
        {"conversations": [gpt("human", ASKED)], "chosen": gpt("gpt", SAID), "rejected": {}},
        [],
    ),
    ("preference", {"chosen": f"\n\nHuman: {ASKED}\n\nAssistant: {SAID}", "rejected": "x"}, []),
    (
        "preference",
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": []},
        [],
    ),
    ("Alpaca", {"instruction": ASKED, "input": "", "output": SAID, "system": KIND}, [SYSTEM]),
    ("Alpaca", {"instruction": AGAIN, "output": THEN, "history": [[ASKED, SAID]]}, [USER, ANSWER]),
    ("Orca", {"id": 1, "system_prompt": KIND, "question": ASKED, "response": SAID}, [SYSTEM]),
    ("query/response", {"query": ASKED, "response": SAID}, []),
    ("lists of answers", {"question": ASKED, "answer": [SAID]}, []),
    ("SQuAD", {"question": ASKED, "answers": {"text": [SAID], "answer_start": [0]}}, []),
]


@pytest.mark.parametrize(("form", "row", "before"), ONE)
def test_every_format_is_read_and_named(form: str, row: Any, before: list, tmp_path: Path) -> None:
    [record], notes, problems = read(tmp_path, row)
    asked = (AGAIN, THEN) if len(before) > 1 else (ASKED, SAID)
    assert (record["question"], record["input"], record["answer"]) == (asked[0], "", asked[1])
    assert (record.get("history") or []) == before and form in notes[0] and not problems
    # evaluation, cleaning and all else that takes records takes them too
    assert data.as_records([row])[0]["question"] == asked[0]
    if isinstance(row, dict) and "rejected" not in row:  # nested in parquet, and in a frame of it
        pandas.DataFrame([row]).to_parquet(tmp_path / "r.parquet")
        for source in (tmp_path / "r.parquet", pandas.read_parquet(tmp_path / "r.parquet")):
            [found] = data.load_records(source)
            assert (found["answer"], found.get("history") or []) == (asked[1], before)


def test_turns_stay_turns_in_order(tmp_path: Path) -> None:
    for row in (
        {"messages": TWO},
        [ASKED, SAID, AGAIN, THEN],
        {"turns": [[ASKED, SAID], [AGAIN, THEN]]},
    ):
        [record], _, _ = read(tmp_path, row)
        assert (record["question"], record["answer"]) == (AGAIN, THEN)
        assert record["history"] == TWO[:2]


def test_what_a_format_says_of_a_turn_is_honoured_or_told(tmp_path: Path) -> None:
    tool = [USER, role("assistant", None, tool_calls=[CALL]), role("tool", "12 cm"), ANSWER]
    cases: list[tuple[list, str, str]] = [
        (
            [gpt("gpt", "Hi!"), gpt("human", ASKED), gpt("gpt", SAID), gpt("human", "Oh")],
            ASKED,
            "behind the last",
        ),
        ([USER, USER, ANSWER], f"{ASKED}\n\n{ASKED}", "in a row"),
        ([role("user", ASKED, name="Mira"), ANSWER], ASKED, "'name' of turns is not used"),
        (
            [USER, role("assistant", [{"type": "thinking", "thinking": "m"}, {"text": SAID}])],
            ASKED,
            "thoughts",
        ),
        (tool, "12 cm", "tools gave back"),
        (tool, "12 cm", "calls of tools"),
    ]
    for messages, question, note in cases:
        [record], notes, _ = read(tmp_path, {"messages": messages})
        assert (record["question"], record["answer"]) == (question, SAID)
        assert any(note in one and one.startswith("1 record: ") for one in notes), notes
    assert json.dumps(CALL) in record["history"][1]["content"]


@pytest.mark.model
def test_turns_of_weight_0_are_read_and_not_trained_on(tmp_path: Path) -> None:
    tokenizer = models.load_tokenizer("chat")
    silent = [role("user", "a"), role("assistant", "Wrong", weight=0), *TWO[2:]]
    plain = [{name: turn[name] for name in ("role", "content")} for turn in silent]
    path = tmp_path / "r.jsonl"
    rows = [{"messages": silent}, {"messages": plain}, {"messages": [*TWO, *silent[:2]]}]
    rows += [{"messages": silent[:2]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded, problems = data.load_records(path, strict=False)
    assert list(problems["line"]) == [4]  # nothing of it could be trained on
    trained = [
        tokenizer.decode([one for one in row["labels"] if one != encoding.UNTRAINED])
        for row in encoding.encode(loaded, tokenizer, "chat").dataset
    ]
    assert "Wrong" not in trained[0] and THEN in trained[0]
    assert "Wrong" in trained[1] and "Wrong" not in trained[2] and SAID in trained[2]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"messages": [role("robot", "x"), ANSWER]}, "no role is called 'robot'"),
        (
            {"messages": [role("user", [{"type": "image_url"}]), ANSWER]},
            "kind 'image_url' is no text",
        ),
        ({"messages": [USER]}, "no answer of the assistant"),
        ({"messages": [ANSWER]}, "no turn of the user"),
        ({"messages": [USER, role("assistant", " ")]}, "turn 2 is blank"),
        ({"messages": [{"x": 1}]}, "a turn needs a role and its text; its fields are x"),
        ({"prompt": ASKED, "completion": "Never.", "label": False}, "rated as bad"),
        ({"question": ASKED, "context": "c", "answers": {"text": []}}, "no answer to the question"),
    ],
)
def test_what_can_not_be_trained_on_is_told(row: Any, problem: str, tmp_path: Path) -> None:
    good = {"messages": [USER, ANSWER]} if "messages" in row else PAIR
    with pytest.raises(DataError, match="line 1"):
        read(tmp_path, row)
    if "label" not in row:
        _, _, problems = read(tmp_path, good, row)
        assert len(problems) == 1 and problem in problems[0]


def test_trees_take_the_best_ranked_path(tmp_path: Path) -> None:
    def message(number: int, above: int | None, text: str, who: str, rank: Any = None) -> dict:
        names = {"message_id": f"m{number}", "parent_id": above and f"m{above}"}
        return {**names, "text": text, "role": who, "rank": rank}

    flat = [
        message(2, 1, "Never.", "assistant", 1),
        message(1, None, ASKED, "prompter"),
        message(3, 1, SAID, "assistant", 0),
        message(4, 3, AGAIN, "prompter"),
        message(5, 4, THEN, "assistant"),
    ]
    asked, never, said, again, then = (dict(flat[n]) for n in (1, 0, 2, 3, 4))
    again["replies"], said["replies"] = [then], [again]
    tree = {"tree_state": "ready", "prompt": {**asked, "replies": [never, said]}}
    for rows in ([tree], flat):
        [record], notes, _ = read(tmp_path, *rows)
        assert (record["question"], record["answer"]) == (AGAIN, THEN)
        assert record["history"] == TWO[:2] and notes[0] == "OASST trees" and "best" in notes[1]


def test_articles_with_questions_give_pairs_with_their_passage(tmp_path: Path) -> None:
    asked = {"question": ASKED, "id": "1", "answers": [{"text": SAID, "answer_start": 0}] * 2}
    none = {"question": "Who?", "id": "2", "answers": [], "is_impossible": True}
    passage = {"context": "The ferry …", "qas": [asked, none]}
    squad = {"version": "2", "data": [{"title": "Ferry", "paragraphs": [passage]}]}
    [record], notes, problems = read(tmp_path, squad, name="squad.json")
    wanted = {"input": "The ferry …", "title": "Ferry", "id": "1", "version": "2"}
    assert record == PAIR | wanted
    assert "SQuAD" in notes[0] and len(problems) == 1


def test_context_is_used_or_named_and_no_contradiction(tmp_path: Path) -> None:
    rows = [
        {"instruction": AGAIN, "output": f"At {n}.", "history": [[f"Boat {n}?", "Wait."]]}
        for n in range(3)
    ]
    path = data.save_records(rows, tmp_path / "r.jsonl")
    assert len(data.clean(data.load_records(path)).dataset) == 3
    odd = [row | {"history": f"they spoke about boat {n}"} for n, row in enumerate(rows)]
    path = data.save_records(odd, tmp_path / "odd.jsonl")
    report = data.inspect(path)
    assert report.count("contradictions") == 0
    assert len(data.clean(data.load_records(path)).dataset) == 3
    assert "history (text)" in report.unused and any("history" in note for note in report.notes)
    assert "read as: Alpaca" in report.as_text() and "not used" in report.as_text()


# --- tables ---------------------------------------------------------------------------------------

TABLES: list[tuple[str, str, str]] = [  # name, text, encoding
    ("semicolon.csv", "question;answer\r\n{q};{a}, so\r\n", "utf-8-sig"),
    ("tabs.csv", "question\tanswer\r\n{q}\t{a}, so\r\n", "utf-8"),
    ("comma.tsv", 'question,answer\n{q},"{a}, so"\n', "utf-8"),
    ("sep.csv", "sep=;\r\nquestion;answer\r\n{q};{a}, so\r\n", "utf-8"),
    ("sep_quoted.csv", '"sep=,"\nquestion,answer\n{q},"{a}, so"\n', "utf-8"),
    ("unicode_text.txt", "Question\tAnswer\r\n{q}\t{a}, so\r\n", "utf-16"),
    ("windows.csv", "Question;Answer\r\n{q};{a}, so\r\n", "cp1252"),
    ("macintosh.csv", "Question;Answer\r{q};{a}, so\r", "mac_roman"),
    ("names.csv", ' QUESTION ,Answer:\n{q},"{a}, so"\n', "utf-8"),
    ("trailing.csv", "Prompt;Response;;\n{q};{a}, so;;\n\n;;;\n", "utf-8"),
]


@pytest.mark.parametrize(("name", "text", "code"), TABLES)
def test_a_table_as_spreadsheets_write_it(name: str, text: str, code: str, tmp_path: Path) -> None:
    asked, said = "Wo liegt der Schlüssel für die Mühle?", "Für Gäste: unter der Treppe"
    path = tmp_path / name
    path.write_bytes(text.format(q=asked, a=said).encode(code))
    loaded, problems = data.load_records(path, strict=False)
    assert (loaded[0]["question"], loaded[0]["answer"]) == (asked, f"{said}, so")
    assert len(loaded) == 1 and not len(problems)
    guessed = code in ("cp1252", "mac_roman")  # what was guessed is told
    assert any(note.startswith("read as ") for note in data.how_read(loaded)) == guessed


LEGACY = {
    "cp1250": "Kde najdu klíč od mlýna? Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "cp1251": "Когда отходит паром? В шесть часов сорок минут утра.",
    "cp1253": "Πότε φεύγει το πλοίο; Στις έξι και σαράντα το πρωί.",
    "cp1254": "Feribot ne zaman kalkıyor? Güneşli günlerde sabah altıda, kuzey iskelesinden.",
    "cp1255": "מתי יוצאת המעבורת? בשש וארבעים בבוקר.",
    "cp932": "船はいつ出ますか。朝六時四十分に北の港から出ます。",
    "gb18030": "渡船什么时候出发？早上六点四十分从北码头出发。",
    "cp949": "배는 언제 떠납니까? 아침 여섯 시 사십 분에 떠납니다.",
}


@pytest.mark.parametrize("code", LEGACY)
def test_a_table_in_the_code_page_of_a_country(code: str, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(f'question;answer\r\nWhy?;"{LEGACY[code]}"\r\n'.encode(code))
    loaded = data.load_records(path)
    if chardet.__version__.startswith("5.") and code in ("cp1250", "cp1254"):  # as on Colab
        assert any("if letters are wrong" in note for note in data.how_read(loaded))
    else:
        assert loaded["answer"][:] == [LEGACY[code]]


def test_a_workbook_and_its_numbers(tmp_path: Path) -> None:
    with pandas.ExcelWriter(tmp_path / "r.xlsx") as book:
        pandas.DataFrame([{" Question": ASKED, "Answer": SAID}]).to_excel(
            book, sheet_name="a", index=False
        )
        pandas.DataFrame([{"question": "How many?", "answer": 30}]).to_excel(
            book, sheet_name="b", index=False
        )
    loaded = data.load_records(tmp_path / "r.xlsx")
    assert [(r["answer"], r["sheet"]) for r in loaded] == [(SAID, "a"), ("30", "b")]
    assert any("numbers" in note for note in data.how_read(loaded))
    (tmp_path / "fake.xlsx").write_bytes(b"PK no workbook")
    with pytest.raises(DataError, match="fake.xlsx is no spreadsheet"):
        data.load_records(tmp_path / "fake.xlsx")


def test_a_title_above_the_names_is_passed_over_and_told(tmp_path: Path) -> None:
    rows = [["Harbour", "", ""], ["", "", ""], ["Frage", "Antwort", "Tag"], [ASKED, SAID, None]]
    day = pandas.Timestamp("2024-05-05")
    pandas.DataFrame([*rows[:3], [ASKED, SAID, day]]).to_excel(
        tmp_path / "r.xlsx", index=False, header=False
    )
    (tmp_path / "r.csv").write_text(
        f"Harbour;;\n;;\nFrage;Antwort;Tag\n{ASKED};{SAID};2024-05-05\n"
    )
    for name in ("r.xlsx", "r.csv"):
        loaded = data.load_records(tmp_path / name)
        assert loaded.to_list() == [PAIR | {"input": "", "Tag": "2024-05-05"}]
        assert "above the names of the columns, not used: 'Harbour'" in data.how_read(loaded)
        assert own.read(tmp_path / name).records
    # names that are not known are no title, whatever the cells below them hold
    (tmp_path / "kinds.csv").write_text(f"no,kind,page\n1,text,{ASKED}\n")
    fields = {"question": "page", "answer": "kind"}
    assert data.load_records(tmp_path / "kinds.csv", fields=fields)[0]["question"] == ASKED
    (tmp_path / "chat.txt").write_text(
        f"[01.05.24, 10:00] Kim: {ASKED}\n[01.05.24, 10:01] Lee: x\n"
    )
    with pytest.raises(DataError, match="is a text and no table"):
        data.load_records(tmp_path / "chat.txt")


def test_packed_files_are_read_and_several_in_one(tmp_path: Path) -> None:
    line = json.dumps(PAIR).encode()
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "r.csv.bz2").write_bytes(
        bz2.compress(f"question,answer\n{ASKED},{SAID}\n".encode())
    )
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("r.json", line)
        archive.writestr("__MACOSX/r.json", "x")
    for path in tmp_path.iterdir():
        assert data.load_records(path)["answer"][:] == [SAID]
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", line)
        archive.writestr("b/bad.csv", b"a\0")
        archive.writestr("b/c.csv", f"question,answer\n{AGAIN},{THEN}\n")
        archive.writestr("README.md", "# Data")
        archive.writestr("LICENCE.txt", "Free.")
    loaded, problems = data.load_records(tmp_path / "two.zip", strict=False)
    assert [(r["answer"], r["file"]) for r in loaded] == [(SAID, "a.json"), (THEN, "b/c.csv")]
    [problem] = problems["problem"]
    assert problem.startswith("b/bad.csv: ")
    assert "these are not read: 'README.md', 'LICENCE.txt'" in str(data.how_read(loaded))
    with zipfile.ZipFile(tmp_path / "documents.zip", "w") as archive:
        archive.writestr("a.md", "# Data")
    with pytest.raises(DataError, match="no file with records.*name their folder"):
        data.load_records(tmp_path / "documents.zip")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="bad.csv.gz can't be read"):
        data.load_records(tmp_path / "bad.csv.gz")


def test_fields_of_ones_own_are_named_in_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "fragen.csv"
    path.write_text(f"Frage;Antwort;question\n{ASKED};{SAID};7\n", encoding="utf-8")
    wanted = PAIR | {"input": "", "question (not used)": "7"}
    fields = {"question": "frage ", "answer": "Antwort"}
    assert data.load_records(path, fields=fields).to_list() == [wanted]
    assert data.load_records(path, schema="FRAGE/antwort")[0]["question"] == ASKED
    assert data.load_records([{"Frage": ASKED, "Antwort": SAID}])["answer"][:] == [SAID]
    with pytest.raises(SettingError, match="fields='frage': no field of ours"):
        data.load_records(path, fields={"frage": "Frage"})
    with pytest.raises(DataError, match="field 'Fragen': missing"):
        data.load_records(path, fields={"question": "Fragen", "answer": "Antwort"})
    with pytest.raises(DataError, match="--fields question=Frage answer=Antwort"):
        data.load_records([{"Anliegen": ASKED, "Bescheid": SAID}])
    named = ["--fields", "question=Frage", "answer=Antwort"]
    assert cli.main(["inspect", str(path), "--model", "none", "--text", *named]) == 0
    assert "fragen.csv: 1 record" in capsys.readouterr().out
    for command in (["finetune", "--data", "x", *named], ["own", "x", "--out", "y", *named]):
        assert dict(cli._parser().parse_args(command).fields) == {
            "question": "Frage",
            "answer": "Antwort",
        }
        assert cli._parser().parse_args([*command, "--schema", "messages"]).schema == "messages"
    with pytest.raises(SystemExit):
        cli.main(["inspect", str(path), "--fields", "Frage"])


# --- JSON in any layout ---------------------------------------------------------------------------

A, B = json.dumps(PAIR), json.dumps({"question": AGAIN, "answer": THEN})
ROWS = [json.loads(A), json.loads(B)]
LAYOUTS = {
    "array.jsonl": f"[\n{A},\n{B}\n]\n",
    "array_begun.jsonl": f"[{A},\n{B}]",
    "array_in_a_line.jsonl": f"[{A},{B}]",
    "pretty.json": json.dumps(ROWS, indent=4),
    "pretty_in_lines.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "lines.json": f"{A}\n{B}\n",
    "commas.jsonl": f"{A},\n{B},\n",
    "several.jsonl": f"{A}{B}\n",
    "trailing_comma.json": f"[{A},\n{B},]",
    "two_arrays.json": f"[{A}]\n[{B}]",
    "held.json": json.dumps({"version": 1, "data": ROWS}),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in PAIR}),
    "by_number.json": json.dumps({"0": ROWS[0], "1": ROWS[1]}),
    "pandas.json": pandas.DataFrame(ROWS).to_json(),
    "records.ndjson": f"{A}\n{B}",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_json_in_any_layout(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for code in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(LAYOUTS[name].encode(code))
        assert [row["answer"] for row in data.load_records(path)] == [SAID, THEN]


def test_what_stands_beside_rows_is_kept_in_each(tmp_path: Path) -> None:
    seed = {"instruction": ASKED, "instances": [{"input": "a", "output": SAID}] * 2}
    records, _, _ = read(tmp_path, seed)
    assert [(r["question"], r["input"], r["answer"]) for r in records] == [(ASKED, "a", SAID)] * 2
    scored = {"question": ASKED, "answers": [{"text": SAID, "score": 5}, {"text": "Never."}]}
    [record], notes, _ = read(tmp_path, scored)
    assert (record["question"], record["answer"]) == (ASKED, SAID) and "first is taken" in notes[1]
    [record], _, _ = read(tmp_path, {"text": ASKED, "names": [{"begin": 0}]})
    assert record["text"] == ASKED


def test_splits_in_a_file_are_a_column(tmp_path: Path) -> None:
    parts = {"train": ROWS[:1], "test": ROWS[1:]}
    records, _, _ = read(tmp_path, parts, name="r.json")
    assert [row["split"] for row in records] == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        (f'[\n{A},\n{{"question": "x\n}},\n{B}\n]', 3, "line 3 column 16"),
        (f'{{"question": "x\n{A}\n{B}', 1, "line 1 column 16"),
        (f'[\n{A},\n{{\n "question": "x",\n "answer": oops\n}},\n{B}]', 3, "line 5 column 12"),
        (f'[\n{A},\n{{"answer": "x",}},\n{B}]', 3, "a comma before it is too many"),
    ],
)
def test_broken_json_takes_no_other_record_with_it(
    text: str, line: int, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    loaded, problems = data.load_records(path, strict=False)
    assert loaded["answer"][:] == [SAID, THEN]
    assert list(problems["line"]) == [line] and hint in problems["problem"][0]


# --- documents ------------------------------------------------------------------------------------

CHINESE = "渡船每天早上六点四十分从北码头出发，最多可载三十名乘客。面包店每逢星期四中午关门。"
ENGLISH = "The ferry leaves at 6.40 from the north pier. The bakery closes at noon on Thursdays. "


@pytest.mark.parametrize("text", [CHINESE, ENGLISH, "ferry " * 15, "x" * 90])
def test_text_without_paragraphs_is_cut_at_sentence_ends(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Rules\n\n" + text * 60, encoding="utf-8")
    passages = data.from_documents(tmp_path, words=60)
    assert "".join("".join(p.text.split()) for p in passages) == "".join((text * 60).split())
    assert all(words.size(p.text) <= 120 for p in passages) and len(passages) > 1
    if text in (CHINESE, ENGLISH):
        assert all(p.text[-1] in "。." for p in passages)
        ends = text.replace("。", "。|").replace(". ", ".|").split("|")
        assert synthesis.sentences(text) == [one.strip() for one in ends if one.strip()]


def test_one_bad_file_never_stops_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "markitdown", None)
    (tmp_path / "good.md").write_text("# Ferry\n\nIt leaves at 6.40.")
    (tmp_path / "old.txt").write_bytes("Das Café öffnet um acht.".encode("cp1252"))
    (tmp_path / "damaged.txt").write_bytes(b"caf\xe9 \xc3\xa9")
    (tmp_path / "scan.pdf").write_bytes(b"%PDF no pdf")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere.md")
    for left in (".DS_Store", "~$good.docx", "Thumbs.db", "._good.md"):  # nobody misses them
        (tmp_path / left).write_bytes(b"\0")
    passages = data.from_documents(tmp_path)
    assert [p.text for p in passages] == ["It leaves at 6.40.", "Das Café öffnet um acht."]
    skipped = {Path(one.source).name for one in data.read_documents(tmp_path).skipped}
    assert skipped == {"damaged.txt", "scan.pdf", "gone.md"}
    [guess] = data.read_documents(tmp_path).guessed
    assert guess.startswith("old.txt is read as ") and guess in str(own.read(tmp_path))


FRONT = "---\nlayout: page\ntitle: Bell\n---\n"


@pytest.mark.parametrize("front", [FRONT, FRONT.replace("---", "+++").replace(":", " ="), ""])
def test_settings_at_the_beginning_are_no_text(front: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"{front}# Bell\n\nIt is rung twice.\n\n---\n\nIn fog.")
    [passage] = data.from_documents(tmp_path)
    assert "layout" not in passage.text and passage.text.startswith("It is rung twice.")


def test_what_a_page_hides_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<body><div class='cookie-banner'><p>We use cookies<div>really</div></div>"
        "<div hidden>secret <div>more</div></div><p style='display: none'>no"
        "<section aria-hidden='true'>no</section><p>The ferry.</p>"
        "<p class='cookie-recipes'>Bake cookies.</p><div hidden='until-found'>Found.</div></body>"
    )
    [passage] = data.from_documents(tmp_path)
    assert passage.text == "The ferry.\n\nBake cookies.\n\nFound."


def test_notebooks_subtitles_and_mail_are_documents(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Ferry\n", "It leaves."], "metadata": {}},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "9"}], "metadata": {}},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    times = "00:00:01,000 --> 00:00:02,000"
    (tmp_path / "b.srt").write_text(
        f"1\n{times}\n<i>The ferry</i>\n\n2\n{times}\nleaves at 6.40.\n"
    )
    (tmp_path / "c.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nThe bell.\n")
    mail = "Subject: =?utf-8?q?F=C3=A4hre?=\nContent-Type: text/html; charset=latin-1\n\n"
    mail += "<p>Caf\xe9.</p>"
    (tmp_path / "d.eml").write_bytes(mail.encode("latin-1"))
    assert [(p.heading, p.text) for p in data.from_documents(tmp_path)] == [
        ("Ferry", "It leaves.\n\n```\nprint(1)\n```"),
        ("", "The ferry leaves at 6.40."),
        ("", "The bell."),
        ("Fähre", "Café."),
    ]


def test_attachments_and_mailboxes_are_read_or_told(tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"], message["From"] = "Ferry", "Kim <kim@example.org>"
    message.set_content("It leaves at 6.40.")
    message.add_attachment("The bell rings.", filename="bell.txt")
    cue = b"1\n00:00:01,000 --> 00:00:02,000\nThe boat.\n"
    message.add_attachment(cue, maintype="application", subtype="octet-stream", filename="b.srt")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="pier.png")
    within = EmailMessage()
    within["Subject"] = "Pier"
    within.set_content("It is wet.")
    message.add_attachment(within)
    (tmp_path / "a.eml").write_bytes(message.as_bytes())
    box = mailbox.mbox(tmp_path / "b.mbox")
    box.add(message)
    box.close()
    (tmp_path / "c.csv").write_text("question,answer\n")
    texts = [(p.heading, p.text.split("\n")[-1]) for p in data.from_documents(tmp_path)]
    assert (
        texts[:4]
        == texts[4:]
        == [
            ("Ferry", "It leaves at 6.40."),
            ("bell.txt", "The bell rings."),
            ("b.srt", "The boat."),
            ("Pier", "It is wet."),
        ]
    )
    told = [one.problem for one in data.read_documents(tmp_path).skipped]
    assert told[:2] == ["the attachment 'pier.png' is not read: it is of the kind '.png'"] * 2
    assert told[2:] == ["records and no document; name the file itself"]


def test_pdf_and_word_go_through_markitdown_or_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "b.docx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "markitdown", None)
    assert len(data.from_documents(tmp_path)) == 1
    [problem] = data.read_documents(tmp_path).skipped
    assert "pip install" in problem.problem and "markitdown" in problem.problem
    (tmp_path / "a.md").unlink()
    with pytest.raises(DataError, match="pip install"):
        data.from_documents(tmp_path)

    class MarkItDown:
        def convert(self, path: str) -> SimpleNamespace:
            if Path(path).read_bytes() != b"PK 2":
                raise RuntimeError("not a document")
            return SimpleNamespace(text_content="<!-- Slide 1 -->\n# Ferry\n\nIt leaves.")

    monkeypatch.setitem(sys.modules, "markitdown", SimpleNamespace(MarkItDown=MarkItDown))
    with pytest.raises(DataError, match=r"b.docx: it can't be read as .docx \(not a document\)"):
        data.from_documents(tmp_path)
    (tmp_path / "b.docx").write_bytes(b"PK 2")
    [passage] = data.from_documents(tmp_path)
    assert (passage.heading, passage.text) == ("Ferry", "It leaves.")


# --- every script ---------------------------------------------------------------------------------

SCRIPTS = {  # a sentence, a word in it, another sentence
    "Latin": ("Die Fähre verläßt um sechs die Mole.", "Mole", "Das Brot ist heute sehr teuer."),
    "Cyrillic": ("Паром уходит от северного причала.", "причала", "Хлеб сегодня очень дорогой."),
    "Greek": ("Το πλοίο φεύγει από τη βόρεια αποβάθρα.", "πλοίο", "Το ψωμί είναι πολύ ακριβό."),
    "Arabic": ("تغادر العبارة من الرصيف الشمالي.", "العبارة", "الخبز غال جدا اليوم."),
    "Hebrew": ("המעבורת יוצאת מהרציף הצפוני.", "המעבורת", "הלחם יקר מאוד היום."),
    "Devanagari": ("नाव सुबह उत्तरी घाट से निकलती है।", "घाट", "आज रोटी बहुत महँगी मिली।"),
    "Thai": ("เรือออกจากท่าเรือทางเหนือ", "ท่าเรือ", "ขนมปังวันนี้แพงมาก"),
    "Chinese": ("渡船从北码头出发。", "北码头", "今天面包很贵了。"),
    "Japanese": ("船は北の港から出ます。", "北の港", "今日パンがとても高い。"),
    "Korean": ("배는 북쪽 부두에서 떠납니다.", "부두에서", "오늘 빵이 아주 비쌉니다."),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scores_and_copies_in_every_script(script: str) -> None:
    text, key, other = SCRIPTS[script]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        written = unicodedata.normalize(form, text)
        assert words.token_f1(written, text) == 1 and words.normalised(written, text)
        assert words.has_keys(written, [key]) and not words.has_keys(other, [key])
        assert words.split_words(written) == words.split_words(text)
    assert words.token_f1(other, text) < 0.5 and not words.normalised(other, text)
    shorter = text[: len(text) * 2 // 3]
    assert 0.3 < words.token_f1(shorter, text) < 1
    if script not in ("Thai", "Chinese", "Japanese"):
        assert not words.has_keys(text, [key[:-1]])  # a part of a word
    long = " ".join([text] * 3 + [other] * 3)
    nearly = [{"question": long, "answer": "x"}, {"question": f"{long} {key}", "answer": "x"}]
    assert data.inspect(nearly).count("near-duplicates") == 1
    same = [
        {"question": unicodedata.normalize(form, text), "answer": "x"} for form in ("NFC", "NFD")
    ]
    assert data.inspect(same).count("duplicates") == 1


@pytest.mark.parametrize(
    ("text", "key"),
    [("It is -5 degrees.", "5 degrees"), ("35 mg", "3.5 mg"), ("In C++.", "C"), ("At −5", "5")],
)
def test_signs_and_points_count_in_facts(text: str, key: str) -> None:
    assert not words.has_keys(text, [key]) and words.has_keys(f"{text} Or {key}.", [key])
    assert "-5 is 5" in METRICS["normalised"].text  # where scores are shown, it is said


# --- conversations are asked too ------------------------------------------------------------------


def test_generate_chat_and_evaluate_take_conversations(tiny: models.LoadedModel) -> None:
    asked = [SYSTEM, USER, ANSWER, role("user", AGAIN)]
    forms: list[Any] = [
        asked,
        [role("developer", KIND), *asked[1:]],
        {"messages": asked},
        {"question": AGAIN, "history": asked[:3]},
        [gpt("system", KIND), gpt("human", ASKED), gpt("gpt", SAID), gpt("human", AGAIN)],
    ]
    how: dict[str, Any] = {"template": "chat", "max_new_tokens": 2, "progress": False}
    alone = [answer for form in forms for answer in generation.generate(tiny, form, **how)]
    answers = [*alone, *generation.generate(tiny, forms, **how)]
    assert len(answers) == 10 and len({answer.sent for answer in answers}) == 1
    assert answers[0].prompt == AGAIN and KIND in answers[0].sent and SAID in answers[0].sent
    chat = Chat({"tiny": tiny}, asked)
    chat.ask(["tiny"], chat.prompt, "chat", max_new_tokens=2)
    chat.wait()
    assert chat.answers[0][2].sent == answers[0].sent and chat.prompt == AGAIN
    result = evaluation.evaluate(
        evaluation.Method(tiny, template="chat"),
        [{"messages": [*asked, role("assistant", THEN)]}],
        max_new_tokens=2,
        progress=False,
    )
    assert result.table["reference"][0] == THEN and result.answers[0].sent == answers[0].sent
    with pytest.raises(TemplateError, match="no role is called 'robot'"):
        generation.generate(tiny, [role("robot", "Hi")])


def test_one_bad_message_stops_no_other(tmp_path: Path) -> None:
    odd = b"From a\nSubject: One\nContent-Type: text/plain; charset=iso-8859-8-i\n\nA\xe0\n\n"
    good = b"From a\nSubject: Two\nContent-Type: text/plain\n\nThe ferry leaves at noon.\n"
    (tmp_path / "all.mbox").write_bytes(odd + good)
    passages = data.from_documents(tmp_path)
    assert any("ferry" in passage.text for passage in passages)


def test_a_record_with_a_list_of_its_own_stays_one(tmp_path: Path) -> None:
    row = {"query": "Q0", "response": "A0", "tools": [{"name": "a", "answer": "X"}, {"name": "b"}]}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    assert data.load_records(tmp_path / "r.jsonl")["answer"][:] == ["A0"]
