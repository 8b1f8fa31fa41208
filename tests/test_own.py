"""A learner's own data, from a folder or a file to a tuned model and a report."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcourse import cli, club, models, own, pages, sizing, templates
from llmcourse.data import from_documents
from llmcourse.errors import DataError, SettingError
from llmcourse.own import pipeline
from llmcourse.own.assessing import BOTH, PROMPT, SEARCH, TUNED, Assessment
from llmcourse.own.source import BY_TEMPLATE
from tests.conftest import ROOT
from tests.test_pages import Page

EVIL = '<script>alert("x")</script>'
SMALL = own.Sizes(2, 12, 24, 300, 1, 5, 4, 1)


def rows(facts: int = 12, wordings: int = 2) -> list[dict[str, str]]:
    """Pairs on invented facts, so many wordings each."""
    return [
        {"question": f"{opening} shelf {fact}?", "answer": f"Shelf {fact} holds {3 * fact} jars."}
        for fact in range(1, facts + 1)
        for opening in ("What is on", "How many jars are on", "Please count the jars on")[:wordings]
    ]


def write_csv(path: Path, records: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(records[0]))
        table.writeheader()
        table.writerows(records)
    return path


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> Any:
    """The small random model's folder; the smoke tier, one thread and few tokens."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMCOURSE_TIER", "smoke")
        patch.setitem(own.SIZES, "smoke", SMALL)
        yield str(tiny_folder)
    torch.set_num_threads(usual)


@pytest.fixture
def go(base: str) -> Callable[..., own.Result]:
    """`own.run` on the small model; what it said is in `.said`."""

    def run(source: Path, out: Path, **settings: Any) -> own.Result:
        run.said = []
        return own.run(source, out, base=base, progress=False, say=run.said.append, **settings)

    return run


@pytest.fixture(scope="module")
def finished(base: str, tmp_path_factory: pytest.TempPathFactory) -> own.Result:
    """A whole run on a file of pairs, one of them with markup in it."""
    folder = tmp_path_factory.mktemp("finished")
    records = [*rows(), {"question": f"What says {EVIL}?", "answer": f"It says {EVIL}."}]
    source = write_csv(folder / "pairs.csv", records)
    return own.run(source, folder / "out", base=base, progress=False, say=lambda _: None)


# --- reading --------------------------------------------------------------------------------------


def test_a_folder_is_read_as_documents_and_a_file_as_pairs(tmp_path: Path) -> None:
    (tmp_path / "rules.md").write_text("# Rules\n\nKeep the gate shut at night.\n")
    (tmp_path / "plan.pdf").write_bytes(b"%PDF")
    found = own.read(tmp_path)
    assert (found.kind, found.documents, found.records) == ("documents", ["rules.md"], [])
    assert "1 document in 1 passage" in str(found)
    assert len(found.problems) == 1 and found.problems[0].startswith("plan.pdf")
    other = own.read(club.file("train"))
    assert (other.kind, len(other.records), other.passages) == ("pairs", 80, [])


def test_a_change_of_the_data_changes_the_digest(tmp_path: Path) -> None:
    document = tmp_path / "rules.md"
    document.write_text("# Rules\n\nKeep the gate shut at night.\n")
    before = own.read(tmp_path).digest
    assert own.read(tmp_path).digest == before
    document.write_text("# Rules\n\nKeep the gate open at night.\n")
    assert own.read(tmp_path).digest != before


def test_what_can_not_be_read_says_why(tmp_path: Path) -> None:
    for name, told in (("nothing", "nothing"), ("nothing.csv", "no such file")):
        with pytest.raises(DataError, match=told):
            own.read(tmp_path / name)
    with pytest.raises(SettingError):
        own.read("  ")
    (tmp_path / "one.md").write_text("# One\n\nText.\n")
    with pytest.raises(DataError, match="is one document. Name the folder"):
        own.read(tmp_path / "one.md")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "scan.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match="holds no documents.*In it: scan.pdf"):
        own.read(empty)
    texts = write_csv(tmp_path / "texts.csv", [{"text": "Only a text."}])
    with pytest.raises(DataError, match="needs a column for the question"):
        own.read(texts)


# --- pairs ----------------------------------------------------------------------------------------


def test_templates_ask_about_headings_all_over_the_documents() -> None:
    written = own.pairs(own.read(club.folder()), size=SMALL)
    assert len(written.records) + len(written.rejected) == SMALL.headings
    assert written.counts == {BY_TEMPLATE: len(written.records)} and len(written.records) >= 10
    assert len({record["document"] for record in written.records}) >= 8
    assert all(record["heading"] for record in written.records)


# --- review ---------------------------------------------------------------------------------------


# --- review ---------------------------------------------------------------------------------------


def test_a_review_gives_back_what_was_kept_and_corrected(tmp_path: Path) -> None:
    records = [
        {"question": "=1+1?", "answer": "-5 degrees", "document": "a.md", "input": ""},
        {"question": "'Tis it?", "answer": 'Says "yes",\nand\rno.', "document": ""},
    ]
    path = own.save_for_review(records, tmp_path / "pairs.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.reader(file))
    assert cells[0] == ["question", "answer", "keep", "document"]  # a column of blanks is left out
    assert not any(cell.startswith(("=", "-")) for row in cells for cell in row)  # no formulas
    with path.open("a", encoding="utf-8") as file:
        file.write("Who rows?,All of us.,,\nWho swims?,Nobody.,no,\n")
    assert own.load_reviewed(path) == [
        {"question": "=1+1?", "answer": "-5 degrees", "document": "a.md"},
        {"question": "'Tis it?", "answer": 'Says "yes",\nand\nno.', "document": ""},
        {"question": "Who rows?", "answer": "All of us.", "document": ""},
    ]
    with pytest.raises(DataError, match="may have been reviewed"):
        own.save_for_review(rows(3), path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("question,answer\nA?,B.\n", "no column 'keep'"),
        ("question,answer,keep\nA?,B.,perhaps\n", "line 2: keep is 'perhaps'. Write yes or no"),
        ("question,answer,keep\nA?,B.,yes\nC?,,yes\n", "line 3: the answer is blank"),
        ("question;answer;keep\nA?;B.;no\n", "no pair is kept"),
        ("question,answer,keep\nA?,B.,yes,more\n", "line 2: .*more cells"),
    ],
)
def test_what_is_wrong_with_a_review_is_told_by_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        own.load_reviewed(path)


# --- the split ------------------------------------------------------------------------------------


def questions(records: list[dict[str, str]]) -> set[str]:
    return {record["question"] for record in records}


def test_wordings_are_held_out_where_people_wrote_several() -> None:
    given = rows(20)
    parts = own.split(given)
    assert parts.held_out == "wordings" and len(parts.test) == 8 and len(parts.train) == 32
    assert questions(parts.train) | questions(parts.test) == questions(given)
    assert not questions(parts.train) & questions(parts.test)
    taught = {record["answer"] for record in parts.train}
    assert all(record["answer"] in taught for record in parts.test)
    assert own.split(given[::-1]).test != [] and questions(own.split(given[::-1]).test) == (
        questions(parts.test)
    )
    assert questions(own.split(given, seed=1).test) != questions(parts.test)


@pytest.mark.parametrize("wordings", [1, 3])
def test_facts_are_held_out_whole(wordings: int) -> None:
    parts = own.split(rows(20, wordings), hold_out="facts")
    assert parts.held_out == "facts" and 5 <= len(parts.test) <= 0.3 * 20 * wordings
    assert not {r["answer"] for r in parts.train} & {r["answer"] for r in parts.test}
    assert len(parts.train) + len(parts.test) == 20 * wordings


@pytest.mark.parametrize("values", [("handbook.pdf",), ("handbook.pdf", "faq")])
@pytest.mark.parametrize("name", ["source", "document", "fact", "heading"])
def test_a_column_of_the_learners_own_decides_nothing(name: str, values: tuple) -> None:
    given = rows(20)
    named = [row | {"heading": "A", name: values[n % len(values)]} for n, row in enumerate(given)]
    usual, parts = own.split(given), own.split(named)
    assert questions(parts.test) == questions(usual.test) and parts.held_out == usual.held_out


def test_pairs_that_were_written_here_keep_their_headings(tmp_path: Path) -> None:
    """Also where their file, of this version or an older one, is given as a file of pairs."""
    given = [
        row
        | {"document": "a.md", "heading": f"part {n % 8}", "written": BY_TEMPLATE, "keep": "yes"}
        for n, row in enumerate(rows(16))
    ]
    given[3]["keep"] = "no"
    source = own.read(write_csv(tmp_path / "pairs.csv", given))
    assert source.problems == ["1 pairs whose column keep says no"]
    parts = own.split(own.pairs(source).records)
    assert len(parts.train) + len(parts.test) == 31
    assert not {r["heading"] for r in parts.train} & {r["heading"] for r in parts.test}


def test_a_field_split_and_test_pairs_of_ones_own_are_kept_to() -> None:
    given = rows(10, 3)
    names = ("train", "test", "validation")
    marked = [record | {"split": names[n % 3]} for n, record in enumerate(given)]
    parts = own.split(marked)
    assert (len(parts.train), len(parts.test), parts.held_out) == (10, 10, "your own")
    assert "10 pairs of other splits" in parts.notes[0]
    loud = [record | {"split": f" {record['split'].title()}"} for record in marked]
    assert own.split(loud).train == [r | {"split": " Train"} for r in given[::3]]
    both = [*marked, given[1] | {"split": "train"}]  # a test question, trained on too
    assert len(own.split(both).train) == 10 and "1 pairs" in own.split(both).notes[1]
    other = own.split(given, test=given[:3])
    assert len(other.train) == 27 and "3 pairs with a question of the test" in other.notes[0]
    with pytest.raises(DataError, match="nothing to train on"):
        own.split(given, test=given)


def test_too_few_pairs_and_too_few_facts_say_so() -> None:
    with pytest.raises(DataError, match="There is 1 pair, and at least 10 are needed"):
        own.split(rows(1, 1))
    with pytest.raises(DataError, match="Only 0 pairs.*more answers or headings"):
        own.split([record | {"answer": "One."} for record in rows(6)], hold_out="facts")
    with pytest.raises(DataError, match="Only 0 pairs.*other wordings"):
        own.split(rows(12, 1), hold_out="wordings")
    with pytest.raises(SettingError, match="must be 'wordings', 'facts' or 'questions'"):
        own.split(rows(), hold_out="all")


def test_fewer_pairs_keep_what_the_test_asks() -> None:
    parts = own.split(rows(20, 3))
    asked = own.trimmed(parts.test, 5)
    kept = own.trimmed(parts.train, 12, like=asked)
    assert len(asked) == 5 and len(kept) == 12
    taught = [record["answer"] for record in kept]
    assert all(taught.count(record["answer"]) == 2 for record in asked)
    assert own.trimmed(parts.train, 1000) == parts.train


# --- settings -------------------------------------------------------------------------------------


def test_more_pairs_are_seen_less_often(tiny: models.LoadedModel) -> None:
    size = own.Sizes(1, 1, 500, 4_000, 6, 5, 8, 1)
    few, some, many = (own.settings(rows(count, 1), tiny, size) for count in (2, 40, 400))
    assert few.epochs == 6 and 1 < some.epochs < 6 and many.epochs == 1
    assert few.batch_size == 4 and many.batch_size == 8
    assert few.template == "qa"
    with pytest.raises(DataError, match="no pairs to train on"):
        own.settings([], tiny, size)


# --- the whole way --------------------------------------------------------------------------------


def test_a_file_of_pairs_leaves_every_steps_file(finished: own.Result) -> None:
    out = finished.out
    for name in (
        "pairs.csv",
        "split/train.jsonl",
        "split/test.jsonl",
        "answers.json",
        "report.html",
        "model/README.md",
        "model/adapter_model.safetensors",
    ):
        assert (out / name).is_file(), name
    parts = finished.parts
    assert len(parts.train) <= SMALL.pairs and len(parts.test) == SMALL.questions
    found = finished.assessment
    assert found.ways == [PROMPT, TUNED] and found.main == "f1"
    assert len(found.rows) == SMALL.questions
    assert set(finished.seconds) == {"loading", "pairs", "training", "evaluation", "inspection"}
    assert finished.memory > 1e8
    assert len(finished.tuned.history) >= 1 and finished.tuned.held_out
    loaded = models.load(str(out / "model"))
    assert loaded.template == "qa"
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert f"f1, test pairs: {found.scores[TUNED]['f1']['mean']:.3g}" in card
    assert json.loads((out / "model" / "tuned.json").read_text())["results"]


def test_the_report_is_whole_safe_and_can_be_read_without_eyes(finished: own.Result) -> None:
    text = (finished.out / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert found.all("html") == [{"lang": "en"}]
    assert EVIL not in text and pages.escape(EVIL) in text
    assert not any(found.all(tag) for tag in ("script", "link", "iframe", "object", "form"))
    assert len(found.all("img")) == 2
    assert all(len(image["alt"] or "") > 20 for image in found.all("img"))
    scrolls = [one for one in found.all("div") if one.get("class") == "scroll"]
    assert len(scrolls) == len(found.all("caption")) == len(found.all("table")) > 5
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in scrolls)
    assert all(head.get("scope") in ("col", "row") for head in found.all("th"))
    words = " ".join(found.words)
    for name in (
        "loss",
        "Settings",
        "torch",
        "pairs.csv was not changed by hand",
        PROMPT,
        TUNED,
        "95 % interval",
        "What to do next",
    ):
        assert name in words, name


def test_a_second_run_does_nothing_again(
    finished: own.Result, go: Callable[..., own.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = finished.out / "model" / "adapter_model.safetensors"
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    monkeypatch.setattr(pipeline, "assess", None)  # would fail if it were called
    monkeypatch.setattr(pipeline, "pairs", None)
    again = go(finished.out.parent / "pairs.csv", finished.out)
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    assert again.assessment == finished.assessment
    assert not again.writing["reviewed"]


def _stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_reviewed_pairs_are_used_and_trained_on_anew(
    go: Callable[..., own.Result], base: str, tmp_path: Path
) -> None:
    source, out = write_csv(tmp_path / "shelves.csv", rows()), tmp_path / "out"
    path = own.write_pairs(source, out, base=base, progress=False, say=lambda _: None)
    assert path == out / "pairs.csv" and not (out / "model").exists()
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = list(csv.DictReader(file))
    cells[0]["keep"], cells[2]["answer"] = "no", "Shelf 2 is empty."
    cells[3]["answer"] = "Shelf 2 is empty."
    write_csv(path, cells)
    assert own.write_pairs(source, out, base=base, progress=False, say=lambda _: None) == path
    result = go(source, out)
    used = [
        json.loads(line)
        for name in ("train", "test")
        for line in (out / "split" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert cells[0]["question"] not in questions(used)
    assert {r["answer"] for r in used if " 2?" in r["question"]} == {"Shelf 2 is empty."}
    assert result.writing["reviewed"] and result.writing["kept"] == 23
    assert "changed by hand" in (out / "report.html").read_text(encoding="utf-8")
    first = (out / "model" / "adapter_model.safetensors").read_bytes()
    cells[1]["answer"] = cells[0]["answer"] = "Shelf 1 has moved."
    write_csv(path, cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.training, "train", _stopped)
        with pytest.raises(KeyboardInterrupt):
            go(source, out)
    assert any("trained again" in line for line in go.said)
    go(source, out)  # after a stop before the first update, the same command goes on
    assert (out / "model" / "adapter_model.safetensors").read_bytes() != first


def test_a_stopped_run_goes_on(
    go: Callable[..., own.Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_csv(tmp_path / "shelves.csv", rows()), tmp_path / "out"
    with monkeypatch.context() as patch:

        def stop(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(pipeline, "assess", stop)
        with pytest.raises(KeyboardInterrupt):
            go(source, out)
    weights = out / "model" / "adapter_model.safetensors"
    trained = weights.stat().st_mtime_ns
    assert not (out / "report.html").exists()
    monkeypatch.setattr(pipeline, "pairs", None)  # pairs.csv is there
    go(source, out)
    assert weights.stat().st_mtime_ns == trained and (out / "report.html").is_file()


def test_a_folder_of_documents_goes_the_whole_way(
    go: Callable[..., own.Result], tmp_path: Path
) -> None:
    result = go(club.folder(), tmp_path / "out")
    found = result.assessment
    assert found.ways == [PROMPT, SEARCH, TUNED, BOTH]
    assert result.writing["counts"][BY_TEMPLATE] >= 10 and result.parts.held_out == "facts"
    assert set(result.findings) == {"documents", "pairs"}
    assert found.costs[SEARCH]["prompt_tokens"] > found.costs[PROMPT]["prompt_tokens"]
    assert {(test["first"], test["second"]) for test in found.tests} == {
        (TUNED, PROMPT),
        (TUNED, SEARCH),
        (BOTH, SEARCH),
        (BOTH, TUNED),
    }
    assert result.writing["rejected"]  # the random model's questions
    assert (tmp_path / "out" / "rejected.jsonl").is_file()
    assert "Why pairs were rejected" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_retrieval_puts_the_passage_before_the_question(tiny: models.LoadedModel) -> None:
    size = dataclasses.replace(SMALL, passages=1)
    found = own.ways(tiny, tiny, from_documents(club.folder(), words=40), size)
    record = {"question": "Where are throw lines kept?", "answer": "…"}
    asked = {name: method.prompt and method.prompt(record) for name, method in found.items()}
    assert "orange locker" in asked[SEARCH] and "orange locker" in asked[BOTH]
    assert asked[PROMPT] == f"{record['question']} Answer in one short sentence."
    assert asked[SEARCH].endswith(asked[PROMPT]) and asked[TUNED] is None


# --- what stops it --------------------------------------------------------------------------------


def test_out_may_hold_nothing_else(go: Callable[..., own.Result], tmp_path: Path) -> None:
    source = write_csv(tmp_path / "pairs.csv", rows())
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("Dear Odile")
    with pytest.raises(SettingError, match="holds something else already"):
        go(source, other)
    assert [path.name for path in other.iterdir()] == ["letter.txt"]
    with pytest.raises(SettingError, match="is a file or holds something else"):
        go(source, source)
    (other / "letter.txt").unlink()
    (other / "own.json").write_text("{broken")
    with pytest.raises(SettingError, match="own.json can't be read"):
        go(source, other)


def test_out_may_not_lie_in_the_documents(go: Callable[..., own.Result], tmp_path: Path) -> None:
    (tmp_path / "rules.md").write_text("# Rules\n\nKeep the gate shut at night.\n")
    for out in (tmp_path, tmp_path / "out"):
        with pytest.raises(SettingError, match="is in the folder of the documents"):
            go(tmp_path, out)
    assert [path.name for path in tmp_path.iterdir()] == ["rules.md"]


def test_pairs_of_other_data_are_not_mixed_up(
    go: Callable[..., own.Result], base: str, tmp_path: Path
) -> None:
    source, out = write_csv(tmp_path / "a.csv", rows()), tmp_path / "out"
    own.write_pairs(source, out, base=base, progress=False, say=lambda _: None)
    write_csv(source, rows(13))
    with pytest.raises(SettingError, match="these data were changed since"):
        go(source, out)
    with pytest.raises(SettingError, match="it is about .*a.csv"):
        go(write_csv(tmp_path / "b.csv", rows(14)), out)
    (out / "pairs.csv").unlink()
    own.write_pairs(source, out, base=base, progress=False, say=lambda _: None)
    assert len(own.load_reviewed(out / "pairs.csv")) == 26


# --- what follows ---------------------------------------------------------------------------------


def told(result: own.Result, low: float, high: float, **changes: Any) -> str:
    """The advice where the tuned model is better than the prompt by `low` to `high`."""
    test = {
        "first": TUNED,
        "second": PROMPT,
        "metric": "f1",
        "difference": 0.0,
        "low": low,
        "high": high,
    }
    found = dataclasses.replace(result.assessment, tests=[test])
    return " ".join(own.advice(dataclasses.replace(result, assessment=found, **changes)))


def test_advice_follows_the_numbers(finished: own.Result) -> None:
    assert "beats the prompt" in told(finished, 0.1, 0.3)
    assert "The prompt beats" in told(finished, -0.3, -0.1)
    assert "can't tell" in told(finished, -0.1, 0.1)
    parts, tuned = finished.parts, finished.tuned
    for held_out in ("facts", "wordings"):
        line = told(finished, 0, 0, parts=dataclasses.replace(parts, held_out=held_out))
        assert ("no training pair has" in line) == (held_out == "facts")
    many = dataclasses.replace(parts, train=parts.train * 100)
    assert "are few" not in told(finished, 0, 0, parts=many)
    for losses, line in (((3, 2), "more epochs may still help"), ((3, 2, 4), "begins to overfit")):
        held_out = [{"step": n, "loss": loss} for n, loss in enumerate(losses)]
        changed = dataclasses.replace(tuned, held_out=held_out)
        assert line in told(finished, 0, 0, tuned=changed)
    writing = finished.writing | {"reviewed": True}
    assert "Nobody has read" not in told(finished, 0, 0, writing=writing)


def test_the_worst_answers_come_first() -> None:
    def row(name: str, value: float | None) -> dict[str, Any]:
        return {"question": name, "values": {TUNED: {"f1": value}}}

    scores = {TUNED: {"f1": {"mean": 0.5, "low": 0.1, "high": 0.9, "total": 3}}}
    found = Assessment(scores, {}, {}, [], [row("b", 0.5), row("c", None), row("a", 0.2)], 1.0)
    assert [one["question"] for one in found.worst()] == ["c", "a", "b"]
    assert [one["question"] for one in found.worst(count=1)] == ["c"]


def test_considerations_are_the_formulas_and_grow_with_the_model() -> None:
    machine = sizing.HARDWARE["laptop 8 GB"]
    table = own.considerations(machine=machine)
    assert len(table) >= 6
    for _, row in table.iterrows():
        assert row["GB to answer"] < row["GB to train an adapter"] < row["GB to train every weight"]
        fits = row["GB to answer"] <= (machine.memory - machine.reserved) / 1e9
        assert row["answers here"] == ("yes" if fits else "no")
    assert table["GB to answer"].is_monotonic_increasing
    assert table.iloc[0]["trains every weight here"] == "yes"
    assert table.iloc[-1]["answers here"] == "no"


def test_an_adapter_a_customer_shares_the_base() -> None:
    table = own.customers(counts=(1, 100))
    size = sizing.Size.of("smollm2-135m-instruct")
    one, hundred = table["GB, an adapter each"]
    assert hundred - one == pytest.approx(99 * 4 * size.lora_parameters(16) / 1e9)
    assert hundred < 0.1 * table["GB, a model each"].iloc[1]
    assert table["GB, a model each"].iloc[1] == pytest.approx(100 * 2 * size.parameters / 1e9)


# --- the command and the export -------------------------------------------------------------------


def test_the_command_stops_for_a_review_and_goes_on(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_csv(tmp_path / "shelves.csv", rows()), tmp_path / "out"
    given = (str(source), "--out", str(out), "--base", base)
    assert cli.main(["own", *given, "--review"]) == 0
    assert "run the same without --review" in capsys.readouterr().out
    assert not (out / "model").exists()
    assert cli.main(["own", *given, "--hold-out", "facts", "--epochs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "report.html" in shown and re.search(r"^tuned +0", shown, flags=re.M)


def test_the_modelfile_of_the_export_page_is_the_template() -> None:
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    template = re.search(r'^TEMPLATE """(.+?)"""', text, flags=re.M | re.S)[1]
    plain = re.sub(r"\{\{ if \.System \}\}.*?\{\{ end \}\}", "", template, flags=re.S)
    sent = plain.replace("{{ .Prompt }}", "What?").removesuffix("{{ .Response }}")
    assert sent == templates.render("What?", "qa").prompt
    prompt = re.search(r'-p "(.+?)"', text)[1].replace("\\n", "\n")
    assert prompt == templates.render("Your question?", "qa").prompt


def test_a_question_of_the_test_is_never_trained_on_with_another_answer() -> None:
    rows = [
        {"question": f"Question {n}?", "answer": f"Answer {n}, {m}."}
        for n in range(10)
        for m in (1, 2)
    ]
    parts = own.split(rows, hold_out="facts")
    assert len(parts.test) >= 4
    assert not {row["question"] for row in parts.train} & {row["question"] for row in parts.test}


def test_answers_that_are_labels_are_in_both_parts() -> None:
    for count, names in ((100, ("positive", "negative")), (20, ("yes", "no")), (96, "abcdef")):
        rows = [
            {
                "question": f"Review {n}: it was {['good', 'bad', 'so-so'][n % 3]}",
                "answer": names[n % len(names)],
            }
            for n in range(count)
        ]
        parts = own.split(rows)
        assert parts.held_out == "questions"
        for part in (parts.train, parts.test):
            assert {row["answer"] for row in part} == set(names)
        assert len(parts.test) >= count // 5 and len(parts.train) + len(parts.test) == count
        assert not {row["question"] for row in parts.train} & {r["question"] for r in parts.test}
        assert "the right one is chosen" in str(parts)


def test_facts_with_many_wordings_are_no_labels() -> None:
    rows = [
        {"question": f"Wording {w} of fact {fact}?", "answer": f"Fact {fact}."}
        for fact in range(20)
        for w in range(10)
    ]
    assert own.split(rows).held_out == "wordings"
    with pytest.raises(SettingError, match="'questions'"):
        own.split(rows, hold_out="labels")
    with pytest.raises(DataError, match="more different questions"):
        own.split([{"question": "Why?", "answer": "So."}] * 20, hold_out="questions")


def test_an_instruction_with_many_inputs_is_many_questions() -> None:
    rows = [
        {"question": "List the keywords.", "input": f"Text number {n}.", "answer": f"word {n}"}
        for n in range(60)
    ]
    others = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(140)]
    for given in (rows, rows + others):
        parts = own.split(given)
        assert len(parts.train) + len(parts.test) == len(given) and not parts.notes
    parts = own.split(rows[10:], test=rows[:15])
    assert len(parts.train) == 45 and parts.notes == [
        "5 pairs with a question of the test were not trained on."
    ]


def test_keys_in_the_test_pairs_count_facts_and_keep_the_model(
    go: Callable[..., own.Result], tmp_path: Path
) -> None:
    lines = [(f"Question {n} about it?", f"Answer {n} is this.") for n in range(12)]
    pairs = [{"question": question, "answer": answer} for question, answer in lines]
    file, out = write_csv(tmp_path / "pairs.csv", pairs), tmp_path / "out"
    tests = [row | {"question": f"Number {n} was what?"} for n, row in enumerate(pairs[:6])]
    first = go(file, out, test=write_csv(tmp_path / "test.csv", tests))
    made = (out / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    with_keys = [row | {"keys": "is this"} for row in tests]
    second = go(file, out, test=write_csv(tmp_path / "test.csv", with_keys))
    assert made == (out / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    assert first.assessment.main == "f1" and second.assessment.main == "facts"
    assert second.parts.held_out == "your own"
    assert any("Of 6 pairs to test with, 5 were used" in note for note in second.parts.notes)
