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
from llmcourse.errors import DataError, NoSpace, PromptError, SettingError, TemplateError
from llmcourse.evaluation import KINDS, evaluate, load_labels
from llmcourse.finetuning import Config, TrainingStopped, finetune
from llmcourse.generation import generate
from llmcourse.models import LoadedModel, load_tokenizer
from llmcourse.widgets import (
    Chat,
    ErrorBrowser,
    Mistakes,
    PairReview,
    Talk,
    TemplatePlayground,
    TokenExplorer,
    TrainingMonitor,
)
from llmcourse.widgets.chat import OWN, why_ended
from llmcourse.widgets.errors import FILTERS
from llmcourse.widgets.playground import exact
from llmcourse.widgets.reviewer import KEYS
from llmcourse.widgets.shared import Shown, status
from llmcourse.widgets.streaming import stream
from llmcourse.widgets.tokens import batch_of
from tests.test_widgets import VIEW, Kernel

EVIL = "<script>alert('x')</script> $x^2$ </div>"
RECORDS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(12)]


def texts(shown: Shown) -> str:
    """All that is on the page but the buttons."""
    found, waiting = [], [shown.widget]
    while waiting:
        widget = waiting.pop(0)
        waiting += getattr(widget, "children", ())
        found.append(str(getattr(widget, "value", "")))
    return "\n".join(found)


def controls(shown: Shown) -> list[Any]:
    """Everything on the page that a person can use."""
    found, waiting = [], [shown.widget]
    while waiting:
        widget = waiting.pop(0)
        waiting += getattr(widget, "children", ())
        if hasattr(widget, "disabled"):
            found.append(widget)
    return found


def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens in a thread."""
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


# --- streaming ------------------------------------------------------------------------------------


def test_a_streamed_answer_is_that_of_generate(tiny: LoadedModel) -> None:
    seen: list[str] = []
    answer = stream(tiny, "Hello", max_new_tokens=12, more=lambda text: seen.append(text) or True)
    (usual,) = generate(tiny, "Hello", max_new_tokens=12, progress=False)
    assert (answer.text, answer.sent, answer.new_tokens, answer.finished) == (
        usual.text, usual.sent, usual.new_tokens, usual.finished,
    )  # fmt: skip
    assert len(seen) == 12 and seen[-1] == answer.text.rstrip("\ufffd")
    assert all(later.startswith(text) for text, later in itertools.pairwise(seen))


def test_draws_follow_the_seed_and_leave_the_programs_own_alone(tiny: LoadedModel) -> None:
    before = torch.random.get_rng_state()
    said = [
        stream(tiny, "Hi", max_new_tokens=8, temperature=1.0, seed=seed, more=lambda _: True).text
        for seed in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]
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
    ("prompt", "settings", "error", "told"),
    [
        (" ", {}, PromptError, "question is empty"),
        ("word " * 400, {}, PromptError, "^The prompt has .* tokens, but"),
        ("\ud800", {}, PromptError, "characters that are no text"),
        ("Hi", {"temperature": 0.001}, SettingError, "temperature=0.001"),
        ("Hi", {"max_new_tokens": 0}, SettingError, "max_new_tokens=0"),
        ("Hi", {"seed": -1}, SettingError, "seed=-1"),
        ("Hi", {"template": "none"}, TemplateError, "no template 'none'"),
    ],
)
def test_what_cannot_be_asked_is_told(
    prompt: str, settings: dict[str, Any], error: type, told: str, tiny: LoadedModel
) -> None:
    with pytest.raises(error, match=told):
        stream(tiny, prompt, **settings, more=lambda _: True)


# --- chat -----------------------------------------------------------------------------------------


def test_two_models_answer_in_a_thread(tiny: LoadedModel) -> None:
    chat = Chat({"one": tiny, "two": tiny}, "Hello")
    controls_of, buttons = chat.page.controls, chat.page.buttons
    controls_of["max_new_tokens"].value = 6
    controls_of["template"].value = "qa"
    buttons["ask"].click()
    assert chat.talk.wait(60)
    assert [(prompt, name) for prompt, name, _ in chat.talk.answers] == [
        ("Hello", "one"), ("Hello", "two"),
    ]  # fmt: skip
    (usual,) = generate(tiny, "Hello", "qa", max_new_tokens=6, progress=False)
    assert all(answer.text == usual.text for *_, answer in chat.talk.answers)
    page = texts(chat)
    assert page.count("cut off at the limit of 6 tokens.") == 2 and ">Done.<" in page
    assert repr(chat) == "Chat with one, two: 2 answers so far"


def test_stop_ends_an_answer_and_keeps_what_is_written(tiny: LoadedModel) -> None:
    talk, held = Talk({"one": tiny, "two": tiny}), threading.Event()

    def changed(place: int) -> None:
        if not held.is_set():
            held.set()
            talk.stop()

    talk.ask(["one", "two"], "Hello", max_new_tokens=200, changed=changed)
    assert talk.wait(60)
    one, two = talk.sides
    assert one.why == "stopped by you after 1 token" and one.text
    assert two.why == "stopped by you before it began" and two.answer is None
    talk.ask(["two"], "Hello", max_new_tokens=2)
    assert talk.wait(60) and talk.sides[0].why == "cut off at the limit of 2 tokens"


def test_asking_returns_at_once_and_a_second_time_waits(tiny: LoadedModel) -> None:
    chat, go = Chat({"one": tiny}), threading.Event()
    chat.talk.ask(["one"], "Hello", max_new_tokens=3, changed=lambda _: go.wait(60) and None)
    assert chat.talk.running
    chat.page.buttons["ask"].click()
    assert "Still answering. Press Stop first" in texts(chat)
    go.set()
    assert chat.talk.wait(60) and len(chat.talk.answers) == 1


def test_trouble_in_the_thread_is_told_on_the_page(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat({"one": tiny})
    chat.page.controls["prompt"].value = "word " * 400
    chat.page.buttons["ask"].click()
    assert chat.talk.wait(60)
    assert "one: not answered. The prompt has" in texts(chat) and ">Done.<" in texts(chat)

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("a <b>bug</b>")

    monkeypatch.setattr("llmcourse.widgets.chat.stream", broken)
    chat.page.buttons["ask"].click()
    assert chat.talk.wait(60)
    assert "not answered. ValueError: a &lt;b&gt;bug&lt;/b&gt;" in texts(chat)


def test_what_the_model_wrote_stays_text(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.tokenizer, "decode", lambda *_, **__: EVIL)
    chat = Chat({"<i>": tiny}, "Hello")
    chat.page.controls["max_new_tokens"].value = 2
    chat.page.buttons["ask"].click()
    assert chat.talk.wait(60)
    page = texts(chat)
    assert "&lt;script&gt;" in page and "<script" not in page and "mathjax_ignore" in page
    assert 'aria-label="&lt;i&gt;"' in page and "<i>:" not in page


@pytest.mark.parametrize("models", [{}, ["x"], {"one": "base"}])
def test_a_chat_wants_models(models: Any) -> None:
    with pytest.raises(SettingError, match="models must map|load the model first"):
        Chat(models)


def test_an_unknown_model_is_told(tiny: LoadedModel) -> None:
    with pytest.raises(SettingError, match="no model 'two'. There are: one"):
        Talk({"one": tiny}).ask(["two"], "Hi")


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


def test_cutting_loses_tokens_at_the_side_that_was_chosen(tokenizer: Any) -> None:
    text = "one two three four five"
    ids = tokenizer(text).input_ids
    before = tokenizer.truncation_side
    (right,) = batch_of([text], tokenizer, longest=3)
    (left,) = batch_of([text], tokenizer, longest=3, cut_side="left")
    assert [token.id for token in right.tokens] == ids[:3]
    assert [token.id for token in left.tokens] == ids[-3:]
    assert right.lost == left.lost == len(ids) - 3
    assert tokenizer.truncation_side == before
    assert len(tokenizer(text).input_ids) == len(ids)  # nothing of it sticks


def test_special_tokens_are_told_apart() -> None:
    gemma = load_tokenizer("gemma-3-270m")
    (row,) = batch_of(["Hi"], gemma)
    assert [token.kind for token in row.tokens] == ["special", "text"]
    (row,) = batch_of(["Hi"], gemma, special=False)
    assert [token.kind for token in row.tokens] == ["text"]


def test_the_explorer_follows_what_is_typed(tokenizer: Any) -> None:
    explorer = TokenExplorer(tokenizer, ["Hello there", "Hi"])
    control = explorer.page.controls
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
    assert "Only the first 16 texts" in texts(explorer) and "only 4000 signs" in texts(explorer)


@pytest.mark.parametrize(
    ("given", "settings", "error"),
    [
        ([], {}, DataError),
        (["a", " "], {}, DataError),
        (["\ud800"], {}, DataError),
        (["a"], {"longest": 0}, SettingError),
        (["a"], {"cut_side": "up"}, SettingError),
        (["a"], {"padding_side": "up"}, SettingError),
    ],
)
def test_a_batch_that_means_nothing_is_refused(
    given: list[str], settings: dict[str, Any], error: type, tokenizer: Any
) -> None:
    with pytest.raises(error):
        batch_of(given, tokenizer, **settings)


def test_an_explorer_wants_a_tokenizer_that_pads(tokenizer: Any) -> None:
    with pytest.raises(SettingError, match="Load it first"):
        TokenExplorer("base")
    bare = type(tokenizer).from_pretrained(tokenizer.name_or_path)
    bare.pad_token = None
    with pytest.raises(SettingError, match="no padding token"):
        TokenExplorer(bare)


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "qa", "alpaca", "llama2", "chat"])
def test_the_playground_shows_what_generate_sends(name: str, tiny: LoadedModel) -> None:
    found = exact("Why?", name, tiny.tokenizer)
    (answer,) = generate(tiny, "Why?", name, max_new_tokens=1, progress=False)
    assert "".join(text for text, _ in found.prompt) == answer.sent
    assert found.prompt_tokens == answer.prompt_tokens
    assert any(special for _, special in found.prompt) == (name == "chat")


def test_the_completion_ends_with_the_end_token(tokenizer: Any) -> None:
    found = exact({"question": "Why?", "answer": "So."}, "qa", tokenizer)
    assert found.completion == [("So.", False), (tokenizer.eos_token, True)]
    assert exact("Why?", "qa", tokenizer).completion == []


def test_the_playground_follows_its_boxes(tokenizer: Any) -> None:
    records = [{"instruction": "Sort.", "context": "b a", "output": "a b"}, {"question": "Why?"}]
    playground = TemplatePlayground(tokenizer, records)
    control = playground.page.controls
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
    control["signs"].value = True
    assert "Be·brief.⏎" in texts(playground)
    control["question"].value = " "
    assert "The question is empty" in texts(playground)


def test_a_model_without_a_chat_template_is_told() -> None:
    playground = TemplatePlayground(load_tokenizer("gemma-3-270m"))
    playground.page.controls["template"].value = "chat"
    assert "This model has no chat template" in texts(playground)
    playground.page.controls["template"].value = "qa"
    assert "&lt;bos&gt;" in texts(playground)


def test_a_playground_wants_records(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no record"):
        TemplatePlayground(tokenizer, [])
    with pytest.raises(TemplateError, match="no field 'question'"):
        TemplatePlayground(tokenizer, [{"answer": "x"}])
    with pytest.raises(TemplateError, match="no template 'x'"):
        TemplatePlayground(tokenizer, template="x")


# --- training -------------------------------------------------------------------------------------

FEW = Config(steps=4, batch_size=3, rank=2)


def test_the_monitor_trains_as_finetune_does(tiny: LoadedModel, tmp_path: Path) -> None:
    looks = {"held_out": RECORDS[:2], "watch": "What is number 3?", "every": 2, "watch_tokens": 3}
    usual = finetune(tiny, RECORDS, FEW, **looks, progress=False)
    monitor = TrainingMonitor(tiny, RECORDS, FEW, **looks)
    assert "Not begun." in texts(monitor)
    monitor.page.buttons["start"].click()
    tuned = monitor.result()
    assert [row["loss"] for row in tuned.history] == [row["loss"] for row in usual.history]
    assert tuned.held_out == usual.held_out
    until(lambda: not monitor.training.running)
    page = texts(monitor)
    assert "Finished. 4 of 4 updates." in page and "Held-out loss" in page
    assert 'alt="Line chart of the loss. training: from' in page and "held out: from" in page
    assert page.count("<li>update ") == 3  # looks after 0, 2 and 4 updates
    monitor.page.buttons["start"].click()
    assert "This training has finished." in texts(monitor)


@pytest.mark.parametrize("fresh", [False, True])
def test_stop_saves_and_train_goes_on_with_the_same_result(
    tiny: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture, fresh: bool
) -> None:
    usual = finetune(tiny, RECORDS, FEW, progress=False)
    out = {"out": tmp_path / "out", "save_every": 100, "fresh": fresh}
    monitor = TrainingMonitor(tiny, RECORDS, FEW, **out)
    training = monitor.training

    def stop_after_two() -> None:
        if training.step == 2:
            monitor.page.buttons["stop"].click()

    training.start(stop_after_two)
    assert len(training.result().history) == 2  # what it had learned, and a word about it
    assert "Stopped after update 2: this is the model" in capsys.readouterr().out
    assert "Stopped by you after update 2 of 4" in str(training.error)
    assert "All up to update 2 is kept" in str(training.error)
    assert training.state == "stopped" and training.step == 2 and len(training.history) == 2
    monitor.page.changed()
    assert "Stopped. 2 of 4 updates." in texts(monitor) and "is kept in" in texts(monitor)
    monitor.page.buttons["start"].click()
    tuned = monitor.result()
    assert training.state == "finished" and tuned.folder == tmp_path / "out"
    assert [row["loss"] for row in tuned.history] == [row["loss"] for row in usual.history]
    again = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out")
    again.start()
    assert again.result().history == tuned.history and again.training.step == 4


def test_train_after_a_failure_goes_on_where_it_was_saved(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = finetune(tiny, RECORDS, FEW, progress=False)
    monitor = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out", save_every=1, fresh=True)
    training = monitor.training

    def full_after_two() -> None:
        if training.step == 2 and training.state == "running":
            raise NoSpace("the disk is full")

    training.start(full_after_two)
    with pytest.raises(NoSpace):
        training.result()
    assert training.state == "failed"
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").glob("step-*"))
    steps = []
    training.start(lambda: steps.append(training.step))
    assert [row["loss"] for row in training.result().history] == [
        row["loss"] for row in usual.history
    ]
    assert steps[0] == 1, "it went on from the checkpoint"


def test_without_a_folder_what_was_learned_is_still_there(tiny: LoadedModel) -> None:
    monitor = TrainingMonitor(tiny, RECORDS, FEW)
    monitor.training.start(monitor.stop)  # as soon as it has begun
    assert len(monitor.result().history) == 1
    assert "Nothing was saved" in str(monitor.training.error)


def test_interrupt_while_waiting_stops_and_saves(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, go = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out"), threading.Event()
    training, usual = monitor.training, monitor.training.wait
    training.start(lambda: go.wait(60) and None)

    def interrupted(seconds: float | None = None) -> bool:
        if seconds is None:
            go.set()
            return usual()
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "wait", interrupted)
    with pytest.raises(TrainingStopped, match="All up to update 1 is kept"):
        training.result()


def test_outside_a_notebook_result_trains_here(
    tiny: LoadedModel, capsys: pytest.CaptureFixture
) -> None:
    monitor = TrainingMonitor(tiny, RECORDS, FEW)
    with pytest.raises(SettingError, match="has not begun"):
        monitor.training.result()
    monitor.show()
    said = capsys.readouterr().out
    assert said.endswith("Not begun; result() trains, and gives the tuned model.\n")
    assert len(monitor.result().history) == 4
    assert repr(monitor).endswith("Finished. 4 of 4 updates.")


def test_errors_of_a_training_are_told_and_raised(tiny: LoadedModel) -> None:
    monitor = TrainingMonitor(tiny, [{"question": "Why?", "answer": "x " * 900}], FEW)
    monitor.start()
    with pytest.raises(DataError, match="No record is short enough"):
        monitor.result()
    until(lambda: "Ended with an error. No record is short enough" in texts(monitor))
    for name in ("progress", "live", "seen"):
        with pytest.raises(SettingError, match=f"{name}= is set by the monitor"):
            TrainingMonitor(tiny, RECORDS, FEW, **{name: True})
    with pytest.raises(SettingError, match="load the model first"):
        TrainingMonitor("chat", RECORDS)


def test_sample_answers_stay_text(tiny: LoadedModel) -> None:
    from llmcourse.widgets.monitor import answers

    (answer,) = generate(tiny, "Hi", max_new_tokens=1, progress=False)
    page = answers([
        {"step": 3, "prompt": EVIL, "answer": dataclasses.replace(answer, text=EVIL)}
    ])  # fmt: skip
    assert "<script" not in page and page.count("&lt;script&gt;") == 2 and "update 3" in page


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(tiny: LoadedModel) -> Any:
    records = [*RECORDS[:5], {"question": "word " * 400, "answer": "x"}]
    return evaluate(tiny, records, ["f1", "normalised"], max_new_tokens=4, progress=False)


def test_filters_and_orders(evaluation: Any, tmp_path: Path) -> None:
    found = Mistakes(evaluation, tmp_path / "labels.jsonl", "Ada")
    assert found.places() == list(range(6)) and found.places("failed") == [5]
    for kind in KINDS:
        assert found.places(kind) == [p for p in range(6) if kind in evaluation.labels[p]]
    wrong, right = found.places("any mistake"), found.places("no mistake")
    assert sorted([*wrong, *right, 5]) == list(range(6))
    evaluation.table["f1"] = [0.5, 0.1, 0.9, float("nan"), 0.1, 0.0]
    assert found.places("all", "f1") == [5, 1, 4, 0, 2, 3]
    assert found.counts()["all"] == 6 and list(found.counts()) == list(FILTERS)
    with pytest.raises(SettingError, match="no 'lies'"):
        found.places("lies")
    with pytest.raises(SettingError, match="'bleu' was not measured"):
        found.places("all", "bleu")


def test_labels_are_kept_at_once_and_belong_to_the_answer(
    evaluation: Any, tiny: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    ada, ben = Mistakes(evaluation, path, "Ada"), Mistakes(evaluation, path, "Ben")
    ada.relabel(0, ["too long", "empty"])
    ada.relabel(1, [])
    ben.relabel(0, ["empty"])
    assert [len(theirs) for theirs in load_labels(path).values()] == [2, 1]
    again = Mistakes(evaluation, path, "Ada")
    assert again.mine == {0: ["empty", "too long"], 1: []}
    assert again.places("labelled") == [0, 1] and 0 in again.places("empty")
    assert again.places("not labelled") == [2, 3, 4]
    agreed = again.agreement()
    assert agreed["too long"].share.total == 2
    assert Mistakes(evaluation, path, "Cleo").agreement() == {}
    other = evaluate(tiny, evaluation.records, "f1", max_new_tokens=2, progress=False)
    assert Mistakes(other, path, "Ada").mine == {}  # other answers
    with pytest.raises(SettingError, match="no 'lies'"):
        ada.relabel(0, ["lies"])
    with pytest.raises(DataError, match="no answer to label"):
        ada.relabel(5, [])


def test_the_browser_reads_filters_and_labels(
    evaluation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    path = tmp_path / "labels.jsonl"
    browser = ErrorBrowser(evaluation, path, "Ada")
    page, mistakes = browser.page, browser.mistakes
    assert "1 of 6, record 0, labelled by the rules" in texts(browser)
    page.kinds["refused"].value = True
    assert "refused" in mistakes.mine[0] and path.exists()
    assert "record 0, labelled by Ada" in texts(browser)
    page.kinds["refused"].value = False
    assert "refused" not in load_labels(path)["Ada"].popitem()[1]
    page.buttons["right"].click()
    assert page.record == 1 and len(mistakes.mine) == 1
    page.buttons["right"].click()
    page.kinds["refused"].value = not page.kinds["refused"].value
    assert page.record == 1 and len(mistakes.mine) == 1, "a double click, a tick that came late"
    assert page.kinds["refused"].value == ("refused" in evaluation.labels[1])
    now[0] += 1
    page.buttons["right"].click()
    assert page.record == 2 and mistakes.mine[1] == evaluation.labels[1]
    page.buttons["back"].click()
    assert page.record == 1
    page.controls["kind"].value = "failed"
    assert page.record == 5 and "Failed" in texts(browser) and "400" not in browser.__repr__()
    page.buttons["right"].click()
    assert "Not saved. This record failed" in texts(browser) and len(mistakes.mine) == 2
    page.controls["kind"].value = "labelled"
    assert "1 of 2" in texts(browser)
    page.buttons["back"].click()
    assert "This is the first one." in texts(browser)
    assert repr(browser) == f"ErrorBrowser of {evaluation.name}: 6 answers, 2 labelled by Ada"
    assert browser.agreement().keys() == mistakes.agreement().keys()


def test_a_filter_that_leaves_nothing_and_markup(
    evaluation: Any, tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = ErrorBrowser(evaluation, tmp_path / "labels.jsonl")
    browser.page.controls["kind"].value = "labelled"
    assert browser.page.record is None and "No answer is left" in texts(browser)
    for button in browser.page.buttons.values():
        button.click()
    assert not (tmp_path / "labels.jsonl").exists()
    evil = evaluate(tiny, [{"question": EVIL, "answer": EVIL}], "f1", max_new_tokens=1,
                    progress=False)  # fmt: skip
    object.__setattr__(evil.answers[0], "text", EVIL)
    page = texts(ErrorBrowser(evil, tmp_path / "labels.jsonl"))
    assert "<script" not in page and page.count("&lt;script&gt;") == 3


def test_labels_that_cannot_be_kept_are_told(evaluation: Any, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    browser = ErrorBrowser(evaluation, folder / "mine.jsonl")
    folder.write_text("a file where the folder should be")
    browser.page.kinds["refused"].value = True
    assert "Not saved. " in texts(browser) and browser.mistakes.mine == {}
    assert not browser.page.kinds["refused"].value
    with pytest.raises(DataError, match="ends in .jsonl|ending in"):
        ErrorBrowser(evaluation, tmp_path / "labels.csv")
    with pytest.raises(DataError, match="must be a name"):
        ErrorBrowser(evaluation, tmp_path / "labels.jsonl", " ")
    with pytest.raises(SettingError, match="evaluation.evaluate gives"):
        ErrorBrowser([], tmp_path / "labels.jsonl")


# --- pairs ----------------------------------------------------------------------------------------


@pytest.fixture
def review(tmp_path: Path) -> Path:
    pairs = [{"question": f"Q{n}?", "answer": f"=A{n}", "heading": "Oars"} for n in range(4)]
    return own.save_for_review(pairs, tmp_path / "review.csv")


def test_decisions_are_in_the_file_that_load_reviewed_reads(review: Path) -> None:
    rows = Reviewing.of(review)
    rows.accept()
    rows.reject()
    rows.accept("Better?", "Yes,\n'quoted'")
    assert rows.counts == {"accepted": 2, "rejected": 1, "open": 1} and rows.place == 3
    assert own.load_reviewed(review) == [
        {"question": "Q0?", "answer": "=A0", "heading": "Oars"},
        {"question": "Better?", "answer": "Yes,\n'quoted'", "heading": "Oars"},
        {"question": "Q3?", "answer": "=A3", "heading": "Oars"},
    ]
    again = Reviewing.of(review)
    assert again.place == 3 and again.rows == rows.rows
    again.reject()
    assert again.current is None
    with pytest.raises(DataError, match="All pairs have been decided on"):
        again.accept()
    again.back()
    again.accept()
    assert again.counts["accepted"] == 3 and len(own.load_reviewed(review)) == 3


def test_a_spreadsheets_file_is_taken_and_keeps_its_manner(tmp_path: Path) -> None:
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
    changed = review.read_text("utf-8-sig").replace("Q1?", "Mended?")
    review.write_text(changed, encoding="utf-8-sig")
    with pytest.raises(DataError, match="was changed by another program"):
        rows.accept()
    assert rows.place == 0 and "Mended?" in review.read_text("utf-8-sig")
    renewed = Reviewing.of(review)
    renewed.accept()
    assert "Mended?" in review.read_text("utf-8-sig") and renewed.place == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("question,answer\nA?,b\n", "no column 'keep'"),
        ("question,answer,keep\n", "has no pairs|no rows|empty"),
        ("question,answer,keep\nA?,b,maybe\n", "line 2: keep is 'maybe'"),
        ("question,answer,keep\nA?,b,yes,more\n", "line 2"),
    ],
)
def test_a_file_that_is_no_review_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        PairReview(path)
    with pytest.raises(DataError, match="no such file"):
        PairReview(tmp_path / "none.csv")


def test_pairs_are_reviewed_with_the_keyboard_alone(review: Path) -> None:
    shown = PairReview(review)
    page = shown.page
    assert "Pair 1 of 4, open." in texts(shown) and "Oars" in texts(shown)
    page.texts["answer"].value = "mended"
    page.keys.value = "a"
    assert page.texts["question"].value == "Q1?" and "Pair 2 of 4" in texts(shown)
    page.keys.value = "arl"  # typed fast: two letters come at once
    assert "Pair 4 of 4" in texts(shown)
    page.keys.value = "ar"  # one deleted
    assert "Pair 4 of 4" in texts(shown)
    page.keys.value = "arB"
    page.keys.value = "arBx"
    assert "&#x27;x&#x27; is no key here." in texts(shown) and "Pair 3 of 4" in texts(shown)
    page.keys.value = "arBxe"
    page.keys.value = "arBxea"
    page.keys.value = "arBxeaa"
    assert "All 4 pairs are decided on: 3 accepted, 1 rejected, 0 open." in texts(shown)
    answers = [pair["answer"] for pair in own.load_reviewed(review)]
    assert answers == ["mended", "=A2", "=A3"]
    assert set(KEYS.values()) == {*page.buttons, "edit"}


def test_buttons_do_the_same_and_trouble_keeps_what_was_typed(review: Path) -> None:
    shown = PairReview(review)
    page = shown.page
    page.texts["answer"].value = " "
    page.buttons["accept"].click()
    assert "Not saved. This pair: the answer is blank" in texts(shown)
    assert page.texts["answer"].value == " " and shown.reviewing.place == 0
    page.texts["answer"].value = "\ud800"  # a press that did nothing can be repeated at once
    page.buttons["accept"].click()
    assert "characters that are no text" in texts(shown)
    with review.open(encoding="utf-8-sig", newline="") as file:
        assert [row["keep"] for row in csv.DictReader(file)] == ["yes"] * 4
    page.buttons["skip"].click()
    page.buttons["reject"].click()
    page.buttons["back"].click()
    assert "Pair 2 of 4, rejected." in texts(shown)
    assert repr(shown) == "PairReview of review.csv: 0 accepted, 1 rejected, 3 open"


def test_a_double_click_accepts_one_pair(review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = PairReview(review)
    for name, later, place in (("accept", 0, 1), ("accept", 0.2, 1), ("accept", 0.5, 2),
                               ("reject", 0, 3), ("back", 0, 2), ("back", 0, 1)):  # fmt: skip
        now[0] += later
        shown.page.buttons[name].click()
        assert shown.reviewing.place == place
    shown.page.keys.value = "bll"  # typed letters are as many as they are
    assert shown.reviewing.place == 2


def test_of_a_pair_nothing_becomes_markup(tmp_path: Path) -> None:
    pairs = [{"question": "Q?", "answer": "a", "source": EVIL}]
    shown = PairReview(own.save_for_review(pairs, tmp_path / "review.csv"))
    page = texts(shown)
    assert "<script" not in page and "&lt;script&gt;" in page and "mathjax_ignore" in page


# --- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def everything(tiny: LoadedModel, evaluation: Any, review: Path, tmp_path: Path) -> list[Shown]:
    return [
        Chat({"one": tiny, "two": tiny}), TokenExplorer(tiny), TemplatePlayground(tiny),
        TrainingMonitor(tiny, RECORDS, FEW), ErrorBrowser(evaluation, tmp_path / "l.jsonl"),
        PairReview(review),
    ]  # fmt: skip


def test_every_control_has_a_label_that_is_seen(everything: list[Shown]) -> None:
    for shown in everything:
        found = controls(shown)
        names = [control.description for control in found]
        assert all(names) and len(set(names)) == len(names), type(shown).__name__
        # Only kinds of controls that are plain elements of the browser.
        kinds = {type(control).__name__ for control in found}
        assert kinds <= {"Button", "Text", "Textarea", "Dropdown", "Checkbox", "BoundedIntText",
                         "BoundedFloatText"}  # fmt: skip
        assert not any(control.disabled for control in found)


def test_without_a_front_end_each_shows_a_table(
    everything: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    for widget in everything:
        if isinstance(widget, TrainingMonitor):
            widget.result()  # there are no losses before
        shown.clear()
        widget.show()
        table, caption = shown
        assert table["text/html"].count("<tr>") > 1 and "text/plain" in table
        assert caption.data.startswith("*")
        assert widget._repr_mimebundle_() == {"text/plain": repr(widget)}
        assert widget._page is None  # no widget was made for nobody


def test_the_chats_table_shows_what_was_asked(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    chat = Chat({"one": tiny, "two": tiny, "three": tiny}, "Hello")
    chat.show()
    assert shown[0]["text/html"].count("cut off at the limit of 24 tokens") == 2
    chat.talk.ask(["three"], "Another?", max_new_tokens=2)
    assert chat.talk.wait(60)
    chat.show()
    assert "Another?" in shown[2]["text/html"] and "Hello" not in shown[2]["text/html"]


def test_a_status_is_read_out() -> None:
    assert status("<b>") == '<div role="status" aria-live="polite">&lt;b&gt;</div>'
    assert status("") == ""


def test_every_template_can_be_chosen(tiny: LoadedModel) -> None:
    options = Chat({"one": tiny}).page.controls["template"].options
    assert list(options) == [OWN, *templates.NAMES]


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


def send(kernel: Kernel, widget: str, data: dict[str, Any]) -> None:
    """What a front end sends when somebody uses a widget, named by an expression in the kernel."""
    (model_id,) = kernel.shows(f"{widget}.model_id", person=True)
    content = {"comm_id": model_id["text/plain"].strip("'"), "data": data}
    kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", content))


def click(kernel: Kernel, button: str) -> None:
    """Press a button as a front end does."""
    send(kernel, button, {"method": "custom", "content": {"event": "click"}})


def heard(kernel: Kernel, text: str) -> None:
    """Wait until the kernel has told the front end of a widget's new value with `text` in it."""
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "comm_msg" and text in json.dumps(message["content"]["data"]):
            return


def value_of(kernel: Kernel, code: str) -> str:
    """What an expression is in the kernel, as text."""
    (found,) = kernel.shows(code, person=False)
    return found["text/plain"]


def test_a_person_sees_controls_and_a_program_a_table(kernel: Kernel) -> None:
    kernel.shows("explorer = TokenExplorer(tiny)", person=False)
    (live,) = kernel.shows("explorer", person=True)
    assert live[VIEW]["model_id"] and "<table>" in live["text/html"]
    (plain,) = kernel.shows("explorer", person=False)
    assert VIEW not in plain and plain["text/html"] == live["text/html"]
    typed = {"method": "update", "state": {"value": "Typed by a person"}, "buffer_paths": []}
    send(kernel, "explorer.page.controls['texts']", typed)
    page = value_of(kernel, "explorer.widget.children[-1].value")
    assert "Text 1" in page and "Text 2" not in page


def test_a_chat_answers_while_the_kernel_is_free(kernel: Kernel) -> None:
    kernel.shows(
        "chat = Chat({'one': tiny, 'two': tiny})\nchat.page.controls['max_new_tokens'].value = 200",
        person=True,
    )
    click(kernel, "chat.page.buttons['ask']")
    until(lambda: value_of(kernel, "bool(chat.talk.sides and chat.talk.sides[0].text)") == "True")
    click(kernel, "chat.page.buttons['stop']")
    until(lambda: value_of(kernel, "chat.talk.running") == "False")
    whys = value_of(kernel, "[side.why for side in chat.talk.sides]")
    assert "stopped by you" in whys and "not answered" not in whys
    assert "stopped by you" in value_of(kernel, "chat.widget.children[-1].children[1].value")


def test_what_comes_in_a_thread_reaches_the_front_end(kernel: Kernel) -> None:
    kernel.shows(
        "short = Chat({'one': tiny, 'two': tiny})\nshort.page.controls['max_new_tokens'].value = 3",
        person=True,
    )
    click(kernel, "short.page.buttons['ask']")
    heard(kernel, "two: cut off at the limit of 3 tokens.")
    heard(kernel, ">Done.<")


def test_a_training_is_stopped_by_a_click(kernel: Kernel, tmp_path: Path) -> None:
    kernel.shows(
        f"monitor = TrainingMonitor(tiny, records, Config(steps=5000, batch_size=3, rank=2), "
        f"out={str(tmp_path / 'out')!r}, save_every=10000)",
        person=True,
    )
    click(kernel, "monitor.page.buttons['start']")
    until(lambda: int(value_of(kernel, "monitor.training.step")) > 2)
    click(kernel, "monitor.page.buttons['stop']")
    until(lambda: value_of(kernel, "monitor.training.state") == "'stopped'")
    told = value_of(kernel, "monitor.widget.children[1].value")
    assert "Stopped." in told and "is kept in" in told
    until(lambda: "<img" in value_of(kernel, "monitor.widget.children[2].value"))
