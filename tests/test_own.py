"""A learner's own data, from a folder or a file to a tuned model and a report."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcourse import cli, club, evaluation, models, own, pages, sizing, synthesis, templates
from llmcourse.data import from_documents
from llmcourse.errors import DataError, SettingError
from llmcourse.generation import Answer
from llmcourse.own import pipeline
from llmcourse.own.assessing import BOTH, LOOK_UP, PROMPT, SEARCH, TUNED, UNKNOWN
from llmcourse.own.source import BY_MODEL
from llmcourse.stats import Paired
from tests.conftest import ROOT
from tests.test_pages import Page

EVIL = '<script>alert("x")</script>'
SMALL = own.Sizes(12, 24, 300, 1, 5, 4, 1)


def rows(facts: int = 12, wordings: int = 2) -> list[dict[str, str]]:
    """Pairs on invented facts, so many wordings each."""
    return [
        {"question": f"{opening} shelf {fact}?", "answer": f"Shelf {fact} holds {3 * fact} jars."}
        for fact in range(1, facts + 1)
        for opening in ("What is on", "How many jars are on", "Please count the jars on")[:wordings]
    ]


def write_csv(path: Path, records: list[dict[str, str]]) -> Path:
    pandas.DataFrame(records).to_csv(path, index=False)
    return path


def questions(records: list[dict[str, str]]) -> set[str]:
    return {record["question"] for record in records}


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> Iterator[str]:
    """The small random model's folder; the smoke tier, one thread and few tokens."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMCOURSE_TIER", "smoke")
        patch.setitem(own.SIZES, "smoke", SMALL)
        yield str(tiny_folder)
    torch.set_num_threads(usual)


@pytest.fixture(scope="module")
def go(base: str) -> Callable[..., own.Result]:
    """`own.run` on the small model."""
    return lambda source, out, **how: own.run(source, out, base=base, **how)


@pytest.fixture(scope="module")
def finished(go: Callable[..., own.Result], tmp_path_factory: Any) -> own.Result:
    """A complete run on a file of pairs with markup in them."""
    folder = tmp_path_factory.mktemp("finished")
    records = [row | {"answer": f"{row['answer']} {EVIL}"} for row in rows()]
    return go(write_csv(folder / "pairs.csv", records), folder / "out")


# --- reading and pairs ----------------------------------------------------------------------------


def test_a_folder_is_read_as_documents_and_a_file_as_pairs(tmp_path: Path) -> None:
    document = tmp_path / "rules.md"
    document.write_text("# Rules\n\nKeep the gate shut at night.\n")
    (tmp_path / "plan.pdf").write_bytes(b"%PDF")
    found = own.read(tmp_path)
    assert (found.kind, len(found.passages), found.records) == ("documents", 1, [])
    assert len(found.problems) == 1 and found.problems[0].startswith("plan.pdf")
    assert "1 documents in 1 passages" in str(found) and "left out: plan.pdf" in str(found)
    assert own.read(tmp_path).digest == found.digest
    document.write_text("# Rules\n\nKeep the gate open at night.\n")
    assert own.read(tmp_path).digest != found.digest
    other = own.read(club.file("train"))
    assert (other.kind, len(other.records), other.passages) == ("pairs", 80, [])


def test_what_can_not_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("# One\n\nText.\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "scan.pdf").write_bytes(b"%PDF")
    write_csv(tmp_path / "texts.csv", [{"text": "Only a text."}])
    for name, message in (
        ("nothing.csv", "no such file"),
        ("one.md", "is one document. Name the folder"),
        ("empty", "scan.pdf"),
        ("texts.csv", "needs the columns question and answer"),
    ):
        with pytest.raises(DataError, match=message):
            own.read(tmp_path / name)


def test_a_review_keeps_what_is_said_and_no_spreadsheet_sees_a_formula(tmp_path: Path) -> None:
    path = own.save_for_review([{"question": "=1+1?", "answer": "-5 degrees"}], tmp_path / "r.csv")
    assert "'=1+1?,'-5 degrees,yes" in path.read_text("utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("Who rows?,All of us.,\nWho swims?,Nobody.,no\n")
    kept = [{"question": "=1+1?", "answer": "-5 degrees"}]
    assert own.load_reviewed(path) == [*kept, {"question": "Who rows?", "answer": "All of us."}]
    with pytest.raises(DataError, match="may have been reviewed"):
        own.save_for_review(rows(3), path)


# --- the split ------------------------------------------------------------------------------------


def test_wordings_are_held_out_where_people_wrote_several() -> None:
    pairs = rows(20)
    parts = own.split(pairs)
    assert parts.held_out == "wordings" and len(parts.test) == 8 and len(parts.train) == 32
    assert own.split(3 * rows(8, 1)).held_out == "facts", "copies are no other wordings"
    assert questions(parts.train) | questions(parts.test) == questions(pairs)
    taught = {record["answer"] for record in parts.train}
    assert all(record["answer"] in taught for record in parts.test)
    assert questions(own.split(pairs[::-1]).test) == questions(parts.test), "in any order"
    assert questions(own.split(pairs, seed=1).test) != questions(parts.test)
    for name in ("source", "document", "heading"):  # a column of the learner's own says nothing
        named = own.split([row | {name: "abc"[n % 3]} for n, row in enumerate(pairs)])
        assert questions(named.test) == questions(parts.test)


PAIR = st.fixed_dictionaries(
    {name: st.sampled_from(["a", "b", "c", "d"]) for name in ("question", "input", "answer")}
)


@given(
    st.lists(PAIR, min_size=10, max_size=80), st.sampled_from(["wordings", "facts", "questions"])
)
@settings(deadline=None)
def test_no_question_of_the_test_is_trained_on(pairs: list[dict[str, str]], hold_out: str) -> None:
    try:
        parts = own.split(pairs, hold_out=hold_out)
    except DataError:  # too few pairs can be held out
        return
    asked, trained = ({(r["question"], r["input"]) for r in p} for p in (parts.test, parts.train))
    assert len(parts.test) >= 5 and not asked & trained
    taught, right = ({r["answer"] for r in part} for part in (parts.train, parts.test))
    if hold_out == "facts":
        assert not taught & right
    gone = len(pairs) - len(parts.test) - len(parts.train)
    assert bool(gone) == bool(parts.notes), "what is left out is said"


def test_pairs_that_were_written_here_keep_their_headings(tmp_path: Path) -> None:
    """Also where their file is read as a file of pairs."""
    pairs = [
        row | {"document": "a.md", "heading": f"part {n % 8}", "written": BY_MODEL, "keep": "yes"}
        for n, row in enumerate(rows(16))
    ]
    pairs[3]["keep"] = "no"
    source = own.read(write_csv(tmp_path / "pairs.csv", pairs))
    assert source.problems == ["1 pairs whose column keep says no"]
    parts = own.split(own.pairs(source).records)
    assert len(parts.train) + len(parts.test) == 31
    assert not {r["heading"] for r in parts.train} & {r["heading"] for r in parts.test}


@pytest.mark.parametrize(
    ("count", "labels"), [(100, ("positive", "negative")), (20, ("yes", "no")), (96, "abcdef")]
)
def test_answers_that_are_labels_are_in_both_parts(count: int, labels: Any) -> None:
    pairs = [
        {"question": f"Review {n}: it was {n % 3}", "answer": labels[n % len(labels)]}
        for n in range(count)
    ]
    parts = own.split(pairs)
    assert parts.held_out == "questions"
    for part in (parts.train, parts.test):
        assert {row["answer"] for row in part} == set(labels)
    assert len(parts.test) >= count // 5 and len(parts.train) + len(parts.test) == count
    many = [{"question": f"Wording {n}?", "answer": f"Fact {n % 20}."} for n in range(200)]
    assert own.split(many).held_out == "wordings", "facts with many wordings are no labels"


def test_a_split_of_ones_own_is_kept_to() -> None:
    pairs = rows(10, 3)
    names = ("train", " Test", "validation")
    marked = own.split([record | {"split": names[n % 3]} for n, record in enumerate(pairs)])
    assert (len(marked.train), len(marked.test), marked.held_out) == (10, 10, "your own")
    assert "10 pairs of other splits" in marked.notes[0]
    mine = own.split(pairs, test=pairs[:3])
    assert len(mine.train) == 27 and "3 pairs with a question of the test" in mine.notes[0]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    after = {**pairs[0], "history": turns}  # after other turns it is another question
    assert len(own.split(pairs, test=[after]).train) == 30


def test_too_few_pairs_and_too_few_facts_say_so() -> None:
    with pytest.raises(DataError, match="There are 1 pairs, and at least 10 are needed"):
        own.split(rows(1, 1))
    same_answer = [record | {"answer": "One."} for record in rows(6)]
    for pairs, how in ((same_answer, "facts"), (rows(12, 1), "wordings")):
        with pytest.raises(DataError, match="Only 0 of"):
            own.split(pairs, hold_out=how)
    with pytest.raises(DataError, match="nothing to train on"):
        own.split(rows(), test=rows())
    with pytest.raises(SettingError, match="wordings, facts, questions"):
        own.split(rows(), hold_out="all")


def test_fewer_pairs_keep_what_the_test_asks() -> None:
    parts = own.split(rows(20, 3))
    asked = own.trimmed(parts.test, 5)
    kept = own.trimmed(parts.train, 12, like=asked)
    assert len(asked) == 5 and len(kept) == 12
    taught = [record["answer"] for record in kept]
    assert all(taught.count(record["answer"]) == 2 for record in asked)
    assert own.trimmed(parts.train, 1000) == parts.train


# --- the whole way --------------------------------------------------------------------------------


def test_more_pairs_are_seen_less_often(tiny: models.LoadedModel) -> None:
    size = own.Sizes(1, 500, 4_000, 6, 5, 8, 1)
    few, some, many = (own.settings(rows(count, 1), tiny, size) for count in (2, 40, 400))
    assert few.epochs == 6 and 1 < some.epochs < 6 and many.epochs == 1
    assert few.learning_rate is few.prompt_dropout is None, "left to `finetune`"
    with pytest.raises(DataError):
        own.settings([], tiny, size)


def test_a_file_of_pairs_leaves_every_steps_file(finished: own.Result) -> None:
    out, found, parts = finished.out, finished.assessment, finished.parts
    for name in ("pairs.csv", "split/train.jsonl", "split/test.jsonl", "report.html"):
        assert (out / name).is_file(), name
    assert len(parts.train) <= SMALL.pairs and len(parts.test) == SMALL.questions
    assert found.methods == [LOOK_UP, PROMPT, TUNED] and found.main == "f1"
    answers = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    assert answers == found.answers().to_dict("records") and len(answers) == SMALL.questions
    worst = found.worst(count=2)
    values = found[TUNED].values("f1")
    assert list(worst.columns) == ["question", "reference", LOOK_UP, PROMPT, TUNED]
    assert values[worst.index[0]] == min(values)
    assert len(finished.tuned.history) >= 1 and finished.tuned.held_out
    assert models.load(str(out / "model")).template == "qa"
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert f"f1, test pairs: {found.score(TUNED, 'f1')}" in card
    assert json.loads((out / "model" / "tuned.json").read_text())["results"]


def test_the_report_is_complete_safe_and_can_be_read_without_eyes(finished: own.Result) -> None:
    text = (finished.out / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    assert EVIL not in text and pages.escape(EVIL) in text
    assert not any(found.all(tag) for tag in ("script", "link", "iframe", "object", "form"))
    assert [len(image["alt"] or "") > 20 for image in found.all("img")] == [True]
    assert len(found.all("caption")) == len(found.all("table")) >= 5
    words = " ".join(found.words)
    for name in (
        "pairs.csv was not changed",
        "Highest in f1",
        LOOK_UP,
        PROMPT,
        TUNED,
        "95 % interval",
        "What to do next",
    ):
        assert name in words, name


def test_a_second_run_trains_only_what_changed_and_goes_on_after_a_stop(
    go: Callable[..., own.Result],
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = write_csv(tmp_path / "shelves.csv", rows()), tmp_path / "out"
    path = own.write_pairs(source, out, base=base)
    assert path == out / "pairs.csv" and not (out / "model").exists()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "assess", stop)
        go(source, out)
    weights = out / "model" / "adapter_model.safetensors"
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "pairs", None)  # would fail if it were called
        first = go(source, out)
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    assert not first.writing["reviewed"]
    cells = pandas.read_csv(path).to_dict("records")
    cells[0]["keep"], cells[2]["answer"], cells[3]["answer"] = "no", "Empty.", "Empty."
    write_csv(path, cells)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline.training, "train", stop)
        go(source, out)
    assert "trained again" in capsys.readouterr().out
    again = go(source, out)  # after a stop before the first update, the same command goes on
    assert weights.read_bytes() != before[0]
    assert again.writing["reviewed"] and again.writing["kept"] == 23
    used = again.parts.train + again.parts.test
    assert cells[0]["question"] not in questions(used)
    assert {r["answer"] for r in used if " 2?" in r["question"]} == {"Empty."}


def test_a_folder_of_documents_goes_the_whole_way(
    go: Callable[..., own.Result],
    tiny: models.LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = []

    def write(passages: Any, model: Any, **_: Any) -> Any:
        """A question about each heading, as no small random model writes one."""
        used.append(model)
        found = synthesis.questions_from_documents(passages)
        found.rejected.append(found.records.pop() | {"stage": "question", "reason": "tested"})
        return found

    monkeypatch.setattr(own.source, "questions_from_documents", write)
    monkeypatch.setattr(
        models,
        "load",
        lambda name, load=models.load, **how: tiny if name == "gemma-3-270m" else load(name, **how),
    )
    result = go(club.folder(), tmp_path / "out")
    found = result.assessment
    assert used == [tiny], "the base model writes"
    assert found.methods == [LOOK_UP, PROMPT, SEARCH, TUNED, BOTH]
    written = own.load_reviewed(tmp_path / "out" / "pairs.csv")
    assert len(written) >= 10 and result.parts.held_out == "facts"
    assert all(row["heading"] and row["written"] == BY_MODEL for row in written)
    assert set(result.findings) == {"documents", "pairs"}
    read = found.table()["tokens read"].astype(float)
    assert read[SEARCH] > read[PROMPT] > read[LOOK_UP] == 0
    pairs = {(TUNED, LOOK_UP), (TUNED, PROMPT), (TUNED, SEARCH), (BOTH, SEARCH), (BOTH, TUNED)}
    assert pairs == set(found.tests)
    assert (tmp_path / "out" / "rejected.jsonl").is_file()
    assert "Why pairs were rejected" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_look_up_answers_as_the_nearest_pair_or_not_at_all(tiny: models.LoadedModel) -> None:
    known = [
        {"question": "How many jars are on the first shelf?", "answer": "Three jars."},
        {"question": "Who may row?", "input": "In a single", "answer": "Whoever has swum."},
    ]
    asked = [
        {"question": "How many jars does the first shelf hold?", "answer": "Three jars."},
        {"question": "Who may row?", "input": "In a single", "answer": "Whoever has swum."},
        {"question": "When was the mill built?", "answer": "In 1820."},
    ]
    found = own.assess(tiny, tiny, asked, size=SMALL, known=known)
    texts = [answer.text for answer in found[LOOK_UP].answers]
    assert texts == ["Three jars.", "Whoever has swum.", UNKNOWN]
    assert LOOK_UP not in own.assess(tiny, tiny, asked, size=SMALL).methods


def test_what_won_is_recommended_with_what_is_less_work() -> None:
    def found(**right: str) -> own.Assessment:
        records = [{"question": f"{n}?", "answer": "Yes.", "keys": "yes"} for n in range(12)]
        return own.Assessment(
            {
                name: evaluation.measured(
                    records,
                    [
                        Answer("", "", "Yes." if one == "1" else "No.", True, 1, 1, 0.1)
                        for one in row
                    ],
                    "facts",
                )
                for name, row in right.items()
            }
        )

    clear = found(**{LOOK_UP: "0" * 12, PROMPT: "0" * 12, TUNED: "1" * 12}).recommendation
    assert clear.startswith("Highest in facts: tuned (100 % (12 of 12")
    assert "It beats look-up, prompt." in clear and "can't tell" not in clear
    close = found(**{LOOK_UP: "1" * 11 + "0", PROMPT: "0" * 12, TUNED: "1" * 12}).recommendation
    assert "It beats prompt." in close
    assert "These 12 questions can't tell it from look-up: start with look-up" in close
    first = found(**{LOOK_UP: "1" * 12, TUNED: "1" * 12}).recommendation
    assert first.startswith("Highest in facts: look-up") and "can't tell" not in first


def test_every_method_asks_the_turns_before_too(tiny: models.LoadedModel) -> None:
    passages = from_documents(club.folder(), words=40)
    turns = [{"role": "user", "content": "Hello club"}, {"role": "assistant", "content": "Hello"}]
    record = {"history": turns, "question": "Where are throw lines kept?", "answer": "There."}
    found = own.assess(tiny, tiny, [record], passages, SMALL)
    sent = {name: one.answers[0].sent for name, one in found.evaluations.items()}
    assert all(text.count("Hello club") == 1 for text in sent.values())
    assert [name for name, text in sent.items() if "orange locker" in text] == [SEARCH, BOTH]
    brief = [name for name, text in sent.items() if "Answer in one short sentence." in text]
    assert brief == [PROMPT, SEARCH]
    assert found.tests[TUNED, PROMPT].p == 1, "one question tells nothing"


def test_keys_in_the_test_pairs_count_facts_and_keep_the_model(
    go: Callable[..., own.Result], tmp_path: Path
) -> None:
    pairs = [{"question": f"Question {n}?", "answer": f"Answer {n} is this."} for n in range(12)]
    file, out = write_csv(tmp_path / "pairs.csv", pairs), tmp_path / "out"
    tests = [row | {"question": f"Number {n} was what?"} for n, row in enumerate(pairs[:6])]
    first = go(file, out, test=write_csv(tmp_path / "test.csv", tests))
    made = (out / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    with_keys = [row | {"keys": "is this"} for row in tests]
    second = go(file, out, test=write_csv(tmp_path / "test.csv", with_keys))
    assert made == (out / "model" / "adapter_model.safetensors").stat().st_mtime_ns
    assert first.assessment.main == "f1" and second.assessment.main == "facts"
    assert first.assessment.caution and not second.assessment.caution
    assert any("Of 6 pairs to test, this tier uses 5" in note for note in second.parts.notes)


# --- what stops it --------------------------------------------------------------------------------


def test_out_holds_nothing_else_and_no_documents(
    go: Callable[..., own.Result], tmp_path: Path
) -> None:
    source, other = write_csv(tmp_path / "pairs.csv", rows()), tmp_path / "other"
    other.mkdir()
    (other / "letter.md").write_text("Dear Odile")
    for out in (other, source):
        with pytest.raises(SettingError, match="holds something else already"):
            go(source, out)
    for out in (other, other / "out"):
        with pytest.raises(SettingError, match="is in the folder of the documents"):
            go(other, out)
    assert [path.name for path in other.iterdir()] == ["letter.md"]


def test_pairs_of_other_data_are_not_mixed_up(
    go: Callable[..., own.Result], base: str, tmp_path: Path
) -> None:
    source, out = write_csv(tmp_path / "a.csv", rows()), tmp_path / "out"
    own.write_pairs(source, out, base=base)
    for other in (write_csv(source, rows(13)), write_csv(tmp_path / "b.csv", rows(14))):
        with pytest.raises(SettingError, match="was made from other data, .*a.csv"):
            go(other, out)
    (out / "pairs.csv").unlink()
    own.write_pairs(source, out, base=base)
    assert len(own.load_reviewed(out / "pairs.csv")) == 26


# --- what follows ---------------------------------------------------------------------------------


def test_advice_follows_the_numbers(finished: own.Result) -> None:
    def advised(difference: float = 0.0, p: float = 1.0, **changes: Any) -> str:
        found = own.Assessment(finished.assessment.evaluations)
        found.__dict__["tests"] = {(TUNED, PROMPT): Paired(difference, 0, 0, p, 0, 0, 0)}
        return " ".join(own.advice(dataclasses.replace(finished, assessment=found, **changes)))

    assert "Highest in f1" in advised()
    for difference, p in ((-0.2, 0.01), (0.2, 0.01), (-0.2, 0.2)):
        line = advised(difference, p)
        assert ("prompt beats the tuned model" in line) == (difference < 0 and p < 0.05)
    parts, tuned = finished.parts, finished.tuned
    for held_out in ("facts", "wordings"):
        line = advised(parts=dataclasses.replace(parts, held_out=held_out))
        assert ("No training pair has" in line) == (held_out == "facts")
    assert "are few" not in advised(parts=dataclasses.replace(parts, train=parts.train * 100))
    for losses, line in (((3, 2), "still fell at the end"), ((3, 2, 4), "overfitting")):
        held_out = [{"step": n, "loss": loss} for n, loss in enumerate(losses)]
        assert line in advised(tuned=dataclasses.replace(tuned, held_out=held_out))


def test_memory_grows_with_the_model_and_an_adapter_a_customer_shares_the_base() -> None:
    machine = sizing.HARDWARE["laptop 8 GB"]
    table = own.considerations(machine=machine)
    for _, row in table.iterrows():
        assert row["GB to answer"] < row["GB to train an adapter"] < row["GB to train every weight"]
        fits = row["GB to answer"] <= (machine.memory - machine.reserved) / 1e9
        assert row["answers here"] == ("yes" if fits else "no")
    assert table["GB to answer"].is_monotonic_increasing
    many = own.customers().iloc[[0, 2]]
    size = sizing.Size.of("smollm2-135m-instruct")
    one, hundred = many["GB, an adapter each"]
    assert hundred - one == pytest.approx(99 * 4 * size.lora_parameters(16) / 1e9)
    assert many["GB, a model each"].iloc[1] == pytest.approx(100 * 2 * size.parameters / 1e9)


# --- the command and the export -------------------------------------------------------------------


def test_the_command_stops_for_a_review_and_goes_on(
    base: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    called: list[dict[str, Any]] = []
    run = own.run
    monkeypatch.setattr(own, "run", lambda *a, **how: called.append(how) or run(*a, **how))
    source, out = write_csv(tmp_path / "shelves.csv", rows()), tmp_path / "out"
    options = (str(source), "--out", str(out), "--base", base)
    assert cli.main(["own", *options, "--review"]) == 0
    assert "run the same without --review" in capsys.readouterr().out
    assert (out / "pairs.csv").exists() and not (out / "model").exists()
    assert cli.main(["own", *options, "--hold-out", "facts", "--epochs", "1"]) == 0
    assert called[-1]["hold_out"] == "facts" and called[-1]["epochs"] == 1
    shown = capsys.readouterr().out
    assert "- Highest in f1" in shown
    assert "report.html" in shown and re.search(r"^tuned +0", shown, flags=re.M)


def test_the_modelfile_of_the_export_page_is_the_template() -> None:
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    template = re.search(r'^TEMPLATE """(.+?)"""', text, flags=re.M | re.S)[1]
    plain = re.sub(r"\{\{ if \.System \}\}.*?\{\{ end \}\}", "", template, flags=re.S)
    sent = plain.replace("{{ .Prompt }}", "What?").removesuffix("{{ .Response }}")
    assert sent == templates.render("What?", "qa").prompt
    prompt = re.search(r'-p "(.+?)"', text)[1].replace("\\n", "\n")
    assert prompt == templates.render("Your question?", "qa").prompt
