"""The widgets for asking, looking, training, labelling and reviewing, without a browser."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcourse import own, templates
from llmcourse.data.reviewing import Reviewing
from llmcourse.errors import DataError, PromptError, SettingError, TemplateError
from llmcourse.evaluation import KINDS, evaluate, load_labels
from llmcourse.finetuning import Config, TrainingStopped, finetune
from llmcourse.generation import generate, stream
from llmcourse.models import LoadedModel, load_tokenizer
from llmcourse.widgets import (
    Chat,
    ErrorBrowser,
    PairReview,
    TemplatePlayground,
    TokenExplorer,
    TrainingMonitor,
    monitor,
    ui,
)
from llmcourse.widgets.chat import OWN, why_ended
from llmcourse.widgets.errors import FILTERS
from llmcourse.widgets.playground import exact
from llmcourse.widgets.reviewer import KEYS
from llmcourse.widgets.tokens import batch_of
from tests.test_widgets import Kernel, texts

EVIL = "<script>alert('x')</script> $x^2$ </div>"
RECORDS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(12)]


def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens in a thread."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


# --- streaming ------------------------------------------------------------------------------------


def test_a_streamed_answer_is_that_of_generate(tiny: LoadedModel) -> None:
    grown: list[str] = []
    answer = stream(tiny, "Hello", max_new_tokens=12, more=lambda text: grown.append(text) or True)
    (usual,) = generate(tiny, "Hello", max_new_tokens=12, progress=False)
    assert dataclasses.replace(answer, seconds=0) == dataclasses.replace(usual, seconds=0)
    assert len(grown) == 12 and grown[-1] == answer.text.rstrip("\ufffd")
    assert all(later.startswith(text) for text, later in itertools.pairwise(grown))


def test_draws_follow_the_seed_and_leave_the_programs_own_alone(tiny: LoadedModel) -> None:
    before = torch.random.get_rng_state()
    drawn = [
        stream(tiny, "Hi", max_new_tokens=8, temperature=1.0, seed=seed, more=lambda _: True).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(before, torch.random.get_rng_state())
    cold = stream(tiny, "Hi", max_new_tokens=8, temperature=0.01, seed=5, more=lambda _: True)
    likeliest = stream(tiny, "Hi", max_new_tokens=8, more=lambda _: True)
    # At 0.01 a random model's second-best tokens have next to no chance.
    assert cold.text[:3] == likeliest.text[:3]


def test_an_end_token_ends_it(tiny: LoadedModel) -> None:
    first = stream(tiny, "Hello", max_new_tokens=4, more=lambda _: True)
    ids = tiny.tokenizer(first.text, add_special_tokens=False).input_ids
    tiny.model.generation_config.eos_token_id = ids[0]
    answer = stream(tiny, "Hello", max_new_tokens=4, more=lambda _: True)
    assert answer.finished and answer.new_tokens == 1 and answer.text == ""
    assert why_ended(answer) == "ended by itself after 1 token, with its end token"


@pytest.mark.parametrize(
    ("prompt", "settings", "error", "message"),
    [
        (" ", {}, PromptError, "question is empty"),
        ("word " * 400, {}, PromptError, "has .* tokens, but"),
        ("Hi", {"temperature": 0.001}, SettingError, "temperature=0.001"),
        ("Hi", {"max_new_tokens": 0}, SettingError, "max_new_tokens=0"),
    ],
)
def test_what_cannot_be_asked_is_explained(
    prompt: str, settings: dict[str, Any], error: type, message: str, tiny: LoadedModel
) -> None:
    with pytest.raises(error, match=message):
        stream(tiny, prompt, **settings, more=lambda _: True)


# --- chat -----------------------------------------------------------------------------------------


def test_two_models_answer_in_a_thread(tiny: LoadedModel) -> None:
    chat = Chat({"one": tiny, "two": tiny}, "Hello")
    chat.controls["max_new_tokens"].value, chat.controls["template"].value = 6, "qa"
    chat.buttons["ask"].click()
    assert chat.wait(60)
    assert [(prompt, name) for prompt, name, _ in chat.answers] == [
        ("Hello", "one"),
        ("Hello", "two"),
    ]
    (usual,) = generate(tiny, "Hello", "qa", max_new_tokens=6, progress=False)
    assert all(answer.text == usual.text for *_, answer in chat.answers)
    page = texts(chat)
    assert page.count("cut off at the limit of 6 tokens.") == 2 and ">Done.<" in page
    assert repr(chat) == "Chat with one, two: 2 answers so far"


def test_stop_ends_an_answer_and_a_second_question_waits(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, written, go = Chat({"one": tiny, "two": tiny}), threading.Event(), threading.Event()
    fill = chat._fill
    monkeypatch.setattr(chat, "_fill", lambda side: (fill(side), written.set(), go.wait(60)))
    chat.ask(["one", "two"], "Hello", max_new_tokens=200)
    assert written.wait(60) and chat.running  # ask() has returned before the answer is complete
    chat.buttons["ask"].click()
    assert "Still answering. Press Stop first" in texts(chat)
    chat.buttons["stop"].click()
    go.set()
    assert chat.wait(60)
    one, two = chat.sides
    assert one.why == "stopped by you after 1 token" and one.text
    assert two.why == "stopped by you before it began" and ">Stopped.<" in texts(chat)
    chat.ask(["two"], "Hello", max_new_tokens=2)
    assert chat.wait(60) and chat.sides[0].why == "cut off at the limit of 2 tokens"


def test_trouble_in_the_thread_is_on_the_page(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat({"one": tiny})
    chat.controls["prompt"].value = "word " * 400
    chat.buttons["ask"].click()
    assert chat.wait(60)
    assert "one: not answered. " in texts(chat) and " tokens, but" in texts(chat)
    assert ">Done.<" in texts(chat)

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a <b>bug</b>")

    monkeypatch.setattr("llmcourse.widgets.chat.stream", broken)
    chat.buttons["ask"].click()
    assert chat.wait(60)
    assert "not answered. ValueError: a &lt;b&gt;bug&lt;/b&gt;" in texts(chat)


def test_what_the_model_wrote_stays_text(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.tokenizer, "decode", lambda *_, **__: EVIL)
    chat = Chat({"<i>": tiny}, "Hello")
    chat.controls["max_new_tokens"].value = 2
    chat.buttons["ask"].click()
    assert chat.wait(60)
    page = texts(chat)
    assert "&lt;script&gt;" in page and "<script" not in page and "mathjax_ignore" in page
    assert 'aria-label="&lt;i&gt;"' in page and "<i>:" not in page


@pytest.mark.parametrize("models", [{}, {"one": "base"}])
def test_a_chat_wants_models(models: Any) -> None:
    with pytest.raises(SettingError, match="models must map|load the model first"):
        Chat(models)


def test_the_chats_table_shows_what_was_asked(tiny: LoadedModel) -> None:
    chat = Chat({"one": tiny, "two": tiny, "three": tiny}, "Hello")
    page = chat._repr_mimebundle_()["text/html"]
    assert page.count("cut off at the limit of 24 tokens") == 2
    chat.ask(["three"], "Another?", max_new_tokens=2)
    assert chat.wait(60)
    page = chat._repr_mimebundle_()["text/html"]
    assert "Another?" in page and "Hello" not in page
    assert list(chat.controls["template"].options) == [OWN, *templates.NAMES]


# --- tokens ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("smollm2-135m-instruct")


def test_a_batch_is_the_tokenizers_own(tokenizer: Any) -> None:
    given = ["The kettle draws 1,870 watts.", "Yes."]
    for side in ("right", "left"):
        rows = batch_of(given, tokenizer, padding_side=side)
        usual = tokenizer(given, padding=True, padding_side=side)
        assert [[token.id for token in row.tokens] for row in rows] == usual.input_ids
        assert [[token.mask for token in row.tokens] for row in rows] == usual.attention_mask
        padded = [token.kind == "padding" for token in rows[1].tokens]
        assert any(padded) and padded == sorted(padded, reverse=side == "left")
    ids, before = tokenizer(given[0]).input_ids, tokenizer.truncation_side
    (right,) = batch_of(given[:1], tokenizer, longest=3)
    (left,) = batch_of(given[:1], tokenizer, longest=3, cut_side="left")
    assert [token.id for token in right.tokens] == ids[:3]
    assert [token.id for token in left.tokens] == ids[-3:]
    assert right.lost == left.lost == len(ids) - 3
    assert tokenizer.truncation_side == before
    assert tokenizer(given[0]).input_ids == ids  # nothing of it sticks
    (row,) = batch_of(["Hi"], load_tokenizer("gemma-3-270m"))
    assert [token.kind for token in row.tokens] == ["special", "text"]


def test_the_explorer_follows_what_is_typed(tokenizer: Any) -> None:
    explorer = TokenExplorer(tokenizer, ["Hello there", "Hi"])
    control = explorer.controls
    assert "Text 1: 2 tokens" in texts(explorer) and "1 of padding" in texts(explorer)
    control["texts"].value = f"{EVIL}\n\nHi"
    page = texts(explorer).replace(control["texts"].value, "")
    assert "<script" not in page and "&lt;" in page and "mathjax_ignore" in page
    assert "Text 2: 1 tokens" in page and "Text 3" not in page
    control["longest"].value = 2
    assert "2 tokens, " in texts(explorer) and " cut off" in texts(explorer)
    control["texts"].value = "\n"
    assert "Type at least one text" in texts(explorer)
    control["texts"].value = "\n".join("ab" * 3000 for _ in range(20))
    assert "Only the first 16 texts and 4000 characters" in texts(explorer)


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "qa", "alpaca", "llama2", "chat"])
def test_the_playground_shows_what_generate_sends(name: str, tiny: LoadedModel) -> None:
    found = exact("Why?", name, tiny.tokenizer)
    (answer,) = generate(tiny, "Why?", name, max_new_tokens=1, progress=False)
    assert "".join(text for text, _ in found.prompt) == answer.sent
    assert found.prompt_tokens == answer.prompt_tokens
    assert any(special for _, special in found.prompt) == (name == "chat")
    found = exact({"question": "Why?", "answer": "So."}, name, tiny.tokenizer)
    assert found.completion == [("So.", False), (tiny.tokenizer.eos_token, True)]


def test_the_playground_follows_its_boxes(tokenizer: Any) -> None:
    records = [{"instruction": "Sort.", "context": "b a", "output": "a b"}, {"question": "Why?"}]
    playground = TemplatePlayground(tokenizer, records)
    control = playground.controls
    assert "### Question:\nSort.\nb a" in texts(playground)
    control["template"].value = "chat"
    assert "<mark" in texts(playground) and "&lt;|im_start|&gt;" in texts(playground)
    control["record"].value = 2
    assert control["question"].value == "Why?" and control["answer"].value == ""
    assert "What it should write" not in texts(playground)
    control["template"].value, control["question"].value = "qa", EVIL
    control["system"].value = "Be brief."
    page = texts(playground).replace(EVIL, "", 1)
    assert "Be brief.\n\n### Question:" in page and "<script" not in page
    control["spaces"].value = True
    assert "Be·brief.⏎" in texts(playground)
    control["question"].value = " "
    assert "The question is empty" in texts(playground)


def test_a_playground_says_what_it_can_not_show(tokenizer: Any) -> None:
    playground = TemplatePlayground(load_tokenizer("gemma-3-270m"))
    playground.controls["template"].value = "chat"
    assert "This model has no chat template" in texts(playground)
    playground.controls["template"].value = "qa"
    assert "&lt;bos&gt;" in texts(playground)
    with pytest.raises(DataError, match="no record"):
        TemplatePlayground(tokenizer, [])
    with pytest.raises(TemplateError, match="no field 'question'"):
        TemplatePlayground(tokenizer, [{"answer": "x"}])
    with pytest.raises(TemplateError, match="no template 'x'"):
        TemplatePlayground(tokenizer, template="x")


# --- training -------------------------------------------------------------------------------------

FEW = Config(steps=4, batch_size=3, rank=2)


def losses(tuned: Any) -> list[float]:
    return [row["loss"] for row in tuned.history]


def test_the_monitor_trains_as_finetune_does(tiny: LoadedModel) -> None:
    looks = {"held_out": RECORDS[:2], "watch": "What is number 3?", "every": 2, "watch_tokens": 3}
    usual = finetune(tiny, RECORDS, FEW, **looks, progress=False)
    shown = TrainingMonitor(tiny, RECORDS, FEW, **looks)
    assert "Not begun." in texts(shown)
    shown.buttons["start"].click()
    tuned = shown.result()
    assert losses(tuned) == losses(usual) and tuned.held_out == usual.held_out
    page = texts(shown)
    assert "Finished. 4 of 4 updates." in page and "Held-out loss" in page
    assert 'alt="Line chart. Loss. training: from' in page and "held out: from" in page
    assert page.count("<li>update ") == 3  # looks after 0, 2 and 4 updates
    shown.buttons["start"].click()
    assert "This training has finished." in texts(shown)


@pytest.mark.parametrize("fresh", [False, True])
def test_stop_saves_and_train_goes_on_with_the_same_result(
    tiny: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture, fresh: bool
) -> None:
    usual = finetune(tiny, RECORDS, FEW, progress=False)
    shown = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out", save_every=100, fresh=fresh)
    shown.start(lambda: shown.step == 2 and shown.buttons["stop"].click())
    assert len(shown.result().history) == 2  # what it had learned, and a word about it
    assert "Stopped after update 2: this is the model" in capsys.readouterr().out
    assert "All up to update 2 is kept" in str(shown.error)
    assert shown.state == "stopped" and shown.step == 2
    assert "Stopped. 2 of 4 updates." in texts(shown) and "is kept in" in texts(shown)
    shown.buttons["start"].click()
    tuned = shown.result()
    assert shown.state == "finished" and tuned.folder == tmp_path / "out"
    assert losses(tuned) == losses(usual)
    again = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out")
    again.start()
    assert again.result().history == tuned.history and again.step == 4


def test_interrupt_while_waiting_stops_and_saves(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, go = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out"), threading.Event()
    shown.start(lambda: go.wait(60) and None)
    usual = shown.wait

    def interrupted(seconds: float | None = None) -> bool:
        if seconds is None:
            go.set()
            return usual()
        raise KeyboardInterrupt

    monkeypatch.setattr(shown, "wait", interrupted)
    with pytest.raises(TrainingStopped, match="All up to update 1 is kept"):
        shown.result()


def test_outside_a_notebook_result_trains_here(
    tiny: LoadedModel, capsys: pytest.CaptureFixture
) -> None:
    shown = TrainingMonitor(tiny, RECORDS, FEW)
    assert shown._repr_mimebundle_() == {"text/plain": repr(shown)}
    assert repr(shown).endswith("Not begun. result() trains, and gives the tuned model.")
    assert len(shown.result().history) == 4
    assert repr(shown).endswith("Finished. 4 of 4 updates.")
    assert shown._repr_mimebundle_()["text/html"].count("<tr>") == 5


def test_errors_of_a_training_are_shown_and_raised(tiny: LoadedModel) -> None:
    shown = TrainingMonitor(tiny, [{"question": "Why?", "answer": "x " * 900}], FEW)
    shown.start()
    with pytest.raises(DataError, match="No record is short enough"):
        shown.result()
    assert "Ended with an error. No record is short enough" in texts(shown)
    with pytest.raises(SettingError, match="live= is set by the monitor"):
        TrainingMonitor(tiny, RECORDS, FEW, live=True)
    with pytest.raises(SettingError, match="load the model first"):
        TrainingMonitor("chat", RECORDS)


def test_sample_answers_stay_text(tiny: LoadedModel) -> None:
    (answer,) = generate(tiny, "Hi", max_new_tokens=1, progress=False)
    sample = {"step": 3, "prompt": EVIL, "answer": dataclasses.replace(answer, text=EVIL)}
    page = monitor.answers([sample])
    assert "<script" not in page and page.count("&lt;script&gt;") == 2 and "update 3" in page


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(tiny: LoadedModel) -> Any:
    records = [*RECORDS[:5], {"question": "word " * 400, "answer": "x"}]
    return evaluate(tiny, records, ["f1", "normalised"], max_new_tokens=4, progress=False)


def test_filters_and_orders(evaluation: Any, tmp_path: Path) -> None:
    browser = ErrorBrowser(evaluation, tmp_path / "labels.jsonl", "Ada")
    assert browser.left() == list(range(6)) and browser.left("failed") == [5]
    for kind in KINDS:
        assert browser.left(kind) == [n for n in range(6) if kind in evaluation.labels[n]]
    wrong, right = browser.left("any mistake"), browser.left("no mistake")
    assert sorted([*wrong, *right, 5]) == list(range(6))
    evaluation.table["f1"] = [0.5, 0.1, 0.9, float("nan"), 0.1, 0.0]
    assert browser.left("all", "f1") == [5, 1, 4, 0, 2, 3]
    filters = [value for _, value in browser.controls["kind"].options]
    assert filters == list(FILTERS) and browser.controls["kind"].options[0][0] == "all (6)"


def test_labels_are_kept_at_once_and_belong_to_the_answer(
    evaluation: Any, tiny: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    ada, ben = ErrorBrowser(evaluation, path, "Ada"), ErrorBrowser(evaluation, path, "Ben")
    ada.relabel(0, ["too long", "empty"])
    ada.relabel(1, [])
    ben.relabel(0, ["empty"])
    assert [len(theirs) for theirs in load_labels(path).values()] == [2, 1]
    again = ErrorBrowser(evaluation, path, "Ada")
    assert again.mine == {0: ["empty", "too long"], 1: []}
    assert again.left("labelled") == [0, 1] and 0 in again.left("empty")
    assert again.left("not labelled") == [2, 3, 4]
    assert again.agreement()["too long"].share.total == 2
    assert ErrorBrowser(evaluation, path, "Cleo").agreement() == {}
    other = evaluate(tiny, evaluation.records, "f1", max_new_tokens=2, progress=False)
    assert ErrorBrowser(other, path, "Ada").mine == {}  # other answers


def test_the_browser_reads_filters_and_labels(
    evaluation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    path = tmp_path / "labels.jsonl"
    browser = ErrorBrowser(evaluation, path, "Ada")
    assert "1 of 6, record 0, labelled by the rules" in texts(browser)
    browser.kinds["refused"].value = True
    assert "refused" in browser.mine[0] and path.exists()
    assert "record 0, labelled by Ada" in texts(browser)
    browser.kinds["refused"].value = False
    assert "refused" not in load_labels(path)["Ada"].popitem()[1]
    browser.buttons["right"].click()
    assert browser.record == 1 and len(browser.mine) == 1
    browser.buttons["right"].click()
    browser.kinds["refused"].value = not browser.kinds["refused"].value
    assert browser.record == 1 and len(browser.mine) == 1, "a double click, a tick that came late"
    assert browser.kinds["refused"].value == ("refused" in evaluation.labels[1])
    now[0] += 1
    browser.buttons["right"].click()
    assert browser.record == 2 and browser.mine[1] == evaluation.labels[1]
    browser.buttons["back"].click()
    assert browser.record == 1
    browser.controls["kind"].value = "failed"
    assert browser.record == 5 and "Failed" in texts(browser)
    browser.buttons["right"].click()
    assert "Not saved. This record failed" in texts(browser) and len(browser.mine) == 2
    browser.controls["kind"].value = "labelled"
    assert "1 of 2" in texts(browser)
    browser.buttons["back"].click()
    assert "This is the first one." in texts(browser)
    assert repr(browser) == f"ErrorBrowser of {evaluation.name}: 6 answers, 2 labelled by Ada"


def test_a_filter_that_leaves_nothing_and_markup(
    evaluation: Any, tmp_path: Path, tiny: LoadedModel
) -> None:
    browser = ErrorBrowser(evaluation, tmp_path / "labels.jsonl")
    browser.controls["kind"].value = "labelled"
    assert browser.record is None and "No answer is left" in texts(browser)
    for button in browser.buttons.values():
        button.click()
    assert not (tmp_path / "labels.jsonl").exists()
    evil = evaluate(
        tiny, [{"question": EVIL, "answer": EVIL}], "f1", max_new_tokens=1, progress=False
    )
    object.__setattr__(evil.answers[0], "text", EVIL)
    page = texts(ErrorBrowser(evil, tmp_path / "labels.jsonl"))
    assert "<script" not in page and page.count("&lt;script&gt;") == 3


def test_labels_that_cannot_be_kept_are_not_counted(evaluation: Any, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    browser = ErrorBrowser(evaluation, folder / "mine.jsonl")
    assert "1 of 6" in texts(browser)
    folder.write_text("a file where the folder should be")
    browser.kinds["refused"].value = True
    assert "Not saved. " in texts(browser) and browser.mine == {}
    assert not browser.kinds["refused"].value
    with pytest.raises(DataError, match="ends in .jsonl|ending in"):
        ErrorBrowser(evaluation, tmp_path / "labels.csv")


# --- pairs ----------------------------------------------------------------------------------------


@pytest.fixture
def review(tmp_path: Path) -> Path:
    pairs = [{"question": f"Q{n}?", "answer": f"=A{n}", "heading": "Oars"} for n in range(4)]
    return own.save_for_review(pairs, tmp_path / "review.csv")


def test_a_spreadsheets_file_is_taken_and_keeps_its_form(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text("question;answer;keep\nA?;b;JA\nC?;d;nein\n", encoding="utf-8")
    rows = Reviewing.of(path)
    assert [row["keep"] for row in rows.rows] == ["yes", "no"]
    rows.reject()
    head, first, *_ = path.read_text("utf-8-sig").splitlines()
    assert head == "question;answer;keep;reviewed" and first == "A?;b;no;yes"
    rows.accept()
    assert own.load_reviewed(path) == [{"question": "C?", "answer": "d"}]


def test_what_another_program_changed_is_not_written_over(review: Path) -> None:
    rows = Reviewing.of(review)
    changed = review.read_text("utf-8-sig").replace("Q1?", "Changed?")
    review.write_text(changed, encoding="utf-8-sig")
    with pytest.raises(DataError, match="was changed by another program"):
        rows.accept()
    assert rows.place == 0 and "Changed?" in review.read_text("utf-8-sig")
    Reviewing.of(review).accept()
    assert "Changed?" in review.read_text("utf-8-sig")


def test_pairs_are_reviewed_with_the_keyboard_alone(review: Path) -> None:
    shown = PairReview(review)
    assert "Pair 1 of 4, open." in texts(shown) and "Oars" in texts(shown)
    shown.texts["answer"].value = "corrected"
    shown.keys.value = "a"
    assert shown.texts["question"].value == "Q1?" and "Pair 2 of 4" in texts(shown)
    shown.keys.value = "arl"  # typed fast: two letters come at once
    assert "Pair 4 of 4" in texts(shown)
    shown.keys.value = "ar"  # one deleted
    assert "Pair 4 of 4" in texts(shown)
    shown.keys.value = "arB"
    shown.keys.value = "arBx"
    assert "&#x27;x&#x27; is no key here." in texts(shown) and "Pair 3 of 4" in texts(shown)
    for keys in ("arBxe", "arBxea", "arBxeaa"):
        shown.keys.value = keys
    assert "All 4 pairs are decided on: 3 accepted, 1 rejected, 0 open." in texts(shown)
    answers = [pair["answer"] for pair in own.load_reviewed(review)]
    assert answers == ["corrected", "=A2", "=A3"]
    assert set(KEYS.values()) == {*shown.buttons, "edit"}


def test_buttons_do_the_same_and_trouble_keeps_what_was_typed(review: Path) -> None:
    shown = PairReview(review)
    assert "Pair 1 of 4" in texts(shown)
    # Words reach the file before Accept does: the box sends them as a whole when it is left.
    assert not any(box.continuous_update for box in shown.texts.values())
    shown.texts["answer"].value = " "
    shown.buttons["accept"].click()
    assert "Not saved. This pair: the answer is blank" in texts(shown)
    assert shown.texts["answer"].value == " " and shown.reviewing.place == 0
    shown.texts["answer"].value = "\ud800"  # a press that did nothing can be repeated at once
    shown.buttons["accept"].click()
    assert "characters that are no text" in texts(shown)
    with review.open(encoding="utf-8-sig", newline="") as file:
        assert [row["keep"] for row in csv.DictReader(file)] == ["yes"] * 4
    for name in ("skip", "reject", "back"):
        shown.buttons[name].click()
    assert "Pair 2 of 4, rejected." in texts(shown)
    assert Reviewing.of(review).place == 0  # the same call goes on where it was
    assert repr(shown) == "PairReview of review.csv: 0 accepted, 1 rejected, 3 open"


def test_a_double_click_accepts_one_pair(review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = PairReview(review)
    assert "Pair 1 of 4" in texts(shown)
    for name, later, place in (
        ("accept", 0, 1),
        ("accept", 0.2, 1),
        ("accept", 0.5, 2),
        ("reject", 0, 3),
        ("back", 0, 2),
        ("back", 0, 1),
    ):
        now[0] += later
        shown.buttons[name].click()
        assert shown.reviewing.place == place
    shown.keys.value = "bll"  # typed letters are as many as they are
    assert shown.reviewing.place == 2


# --- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def everything(tiny: LoadedModel, evaluation: Any, review: Path, tmp_path: Path) -> list[ui.Widget]:
    return [
        Chat({"one": tiny, "two": tiny}),
        TokenExplorer(tiny),
        TemplatePlayground(tiny),
        TrainingMonitor(tiny, RECORDS, FEW),
        ErrorBrowser(evaluation, tmp_path / "l.jsonl"),
        PairReview(review),
    ]


def test_every_control_has_a_label_that_is_seen(everything: list[ui.Widget]) -> None:
    for shown in everything:
        controls, waiting = [], [shown.widget]
        while waiting:
            part = waiting.pop(0)
            waiting += getattr(part, "children", ())
            controls += [part] if hasattr(part, "disabled") else []
        names = [control.description for control in controls]
        assert all(names) and len(set(names)) == len(names), type(shown).__name__
        # Only kinds of controls that are plain elements of the browser.
        kinds = {type(control).__name__ for control in controls}
        assert kinds <= {
            "Button",
            "Text",
            "Textarea",
            "Dropdown",
            "Checkbox",
            "BoundedIntText",
            "BoundedFloatText",
        }
        assert not any(control.disabled for control in controls)


def test_without_a_front_end_each_shows_a_table(everything: list[ui.Widget]) -> None:
    for shown in everything:
        if isinstance(shown, TrainingMonitor):
            shown.result()  # there are no losses before
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/html", "text/plain"}
        assert bundle["text/html"].count("<tr>") > 1 and "<caption>" in bundle["text/html"]
        assert "widget" not in shown.__dict__  # no widget was made for nobody


# --- in a real kernel -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(tiny_folder: Path) -> Iterator[Kernel]:
    started = Kernel()
    started.shows(
        f"import os; os.environ.pop('LLMCOURSE_STATIC', None)\n"
        f"import torch; torch.set_num_threads(1)\n"
        f"from llmcourse import models\n"
        f"from llmcourse.widgets import Chat, TokenExplorer, TrainingMonitor\n"
        f"from llmcourse.finetuning import Config\n"
        f"tiny = models.load({str(tiny_folder)!r}, dtype=torch.float32)\n"
        f"records = {RECORDS!r}",
        person=False,
    )
    yield started
    started.client.stop_channels()
    started.manager.shutdown_kernel(now=True)


def told(kernel: Kernel, text: str) -> None:
    """Wait until the kernel has told the front end of a widget's new value with `text` in it."""
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "comm_msg" and text in json.dumps(message["content"]["data"]):
            return


def value_of(kernel: Kernel, code: str) -> str:
    """What an expression is in the kernel, as text."""
    (found,) = kernel.shows(code, person=False)
    return found["text/plain"]


def test_a_chat_answers_while_the_kernel_is_free(kernel: Kernel) -> None:
    kernel.shows(
        "chat = Chat({'one': tiny, 'two': tiny})\nchat.controls['max_new_tokens'].value = 200",
        person=True,
    )
    kernel.click("chat.buttons['ask']")
    until(lambda: value_of(kernel, "bool(chat.sides and chat.sides[0].text)") == "True")
    kernel.click("chat.buttons['stop']")
    until(lambda: value_of(kernel, "chat.running") == "False")
    whys = value_of(kernel, "[side.why for side in chat.sides]")
    assert "stopped by you" in whys and "not answered" not in whys
    assert "stopped by you" in value_of(kernel, "chat.widget.children[-1].children[1].value")
    # What comes in the thread reaches the front end.
    kernel.shows("chat.controls['max_new_tokens'].value = 3", person=True)
    kernel.click("chat.buttons['ask']")
    told(kernel, "two: cut off at the limit of 3 tokens.")
    told(kernel, ">Done.<")
