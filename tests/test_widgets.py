"""The widgets without a browser: what they keep, what they show, how they read as a table."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmcourse import own, ui
from llmcourse.errors import DataError, SettingError
from llmcourse.evaluation import KINDS, evaluate, load_labels
from llmcourse.evaluation.judge import elo
from llmcourse.finetuning import Config, TrainingStopped, finetune
from llmcourse.generation import generate, stream
from llmcourse.models import LoadedModel, load_tokenizer
from llmcourse.stats import Share
from llmcourse.widgets import (
    BlindVote,
    Chat,
    ErrorBrowser,
    PairReview,
    TemplatePlayground,
    TokenExplorer,
    TrainingMonitor,
)
from llmcourse.widgets.errors import FILTERS
from llmcourse.widgets.reviewer import KEYS
from llmcourse.widgets.tokens import batch_of, pieces, prompt_and_completion

EVIL = "<script>alert('x')</script> $x^2$ </div>"
RECORDS = [{"question": f"What is number {n}?", "answer": f"It is {n}."} for n in range(12)]
QUESTIONS = [f"Question {number}?" for number in range(6)]
ANSWERS = {
    "base": [f"base says {number}" for number in range(6)],
    "tuned": [f"tuned says {number}" for number in range(6)],
}
FEW = Config(steps=4, batch_size=3, rank=2)


def parts(widget: Any) -> list[Any]:
    """All controls and places for HTML on a page."""
    found, waiting = [], [widget.widget]
    while waiting:
        found.append(waiting.pop(0))
        waiting += getattr(found[-1], "children", ())
    return found


def texts(widget: Any) -> str:
    """All HTML on a page."""
    return "\n".join(part.value for part in parts(widget) if type(part).__name__ == "HTML")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test sets."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("smollm2-135m-instruct")


# --- votes ----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes" / "mine.jsonl"


def ballot(path: Path, seed: int = 0, **more: Any) -> BlindVote:
    return BlindVote(QUESTIONS, ANSWERS | more, path, seed=seed)


def choose(vote: BlindVote, name: str) -> None:
    """Vote for the answer that `name` wrote."""
    vote.vote("left" if vote.pairs[vote.place].left == name else "right")


def test_order_and_sides_follow_the_seed_and_nothing_is_lost(path: Path) -> None:
    assert ballot(path).pairs == ballot(path).pairs
    others = [ballot(path, seed=seed).pairs for seed in range(8)]
    assert len({tuple(pairs) for pairs in others}) == 8
    for pair in itertools.chain(*others):
        number = QUESTIONS.index(pair.question)
        assert {pair.left, pair.right} == {"base", "tuned"}
        assert pair.left_text == ANSWERS[pair.left][number]
        assert pair.right_text == ANSWERS[pair.right][number]
    sides = Counter(pair.left for pairs in others for pair in pairs)
    assert min(sides["base"], sides["tuned"]) > 12  # of 48
    met = Counter(frozenset((p.left, p.right)) for p in ballot(path, third=["x"] * 6).pairs)
    assert set(met.values()) == {6} and len(met) == 3  # of three names every two


def test_votes_become_results_for_elo(path: Path) -> None:
    vote = ballot(path)
    assert vote.wins() == {} and vote.results() == []
    for name in ("tuned", "tuned", "base", "tuned"):
        choose(vote, name)
    vote.vote("equal")
    vote.vote("bad")
    winners = [winner for _, _, winner in vote.results()]
    assert winners == ["tuned", "tuned", "base", "tuned", "tie", "tie"]
    assert [two[:2] for two in vote.results()] == [(pair.left, pair.right) for pair in vote.pairs]
    assert vote.wins() == {"base": Share(1, 6), "tuned": Share(3, 6)}
    assert list(elo(vote.results())) == ["tuned", "base"]
    with pytest.raises(SettingError):
        vote.vote("left")
    for seed in (1, 2, 3):  # votes count whatever the seed
        other = ballot(path, seed=seed)
        assert other.place == 6 and other.wins() == vote.wins()


def test_every_vote_is_in_the_file_at_once_and_a_restart_goes_on(path: Path) -> None:
    vote = ballot(path)
    for count in range(1, 4):
        choose(vote, "tuned")
        assert len(path.read_text("utf-8").splitlines()) == count
        again = ballot(path)
        assert again.place == count and again.results() == vote.results()
    assert "says" not in path.read_text("utf-8")  # the answers are not kept twice
    for _ in range(4):
        vote.back()
    choose(vote, "base")  # replaces the old vote, and goes on to the next pair without one
    assert vote.place == 3 and vote.voted == 3
    vote.place = 5
    vote.vote("bad")
    assert vote.place == 3  # a pair that was left out comes at the end
    renewed = ANSWERS | {"tuned": [text + "!" for text in ANSWERS["tuned"]]}
    other = BlindVote(QUESTIONS, renewed, path)
    assert other.voted == 0 and "votes on 4 other pairs" in texts(other)


@pytest.mark.parametrize("line", ["{", '{"pair":"x","vote":"left"}'])
def test_a_damaged_file_is_named_by_line_and_left_alone(line: str, path: Path) -> None:
    vote = ballot(path)
    vote.vote("left")
    text = path.read_text("utf-8") + line + "\n"
    path.write_text(text, encoding="utf-8")
    for call in (lambda: ballot(path), lambda: vote.vote("left")):
        with pytest.raises(DataError, match="mine.jsonl, line 2"):
            call()
    assert path.read_text("utf-8") == text and vote.place == 1 and vote.voted == 1


# --- streaming and chat ---------------------------------------------------------------------------


def test_a_streamed_answer_is_that_of_generate(tiny: LoadedModel) -> None:
    grown: list[str] = []
    answer = stream(tiny, "Hello", max_new_tokens=12, more=lambda text: grown.append(text) or True)
    (usual,) = generate(tiny, "Hello", max_new_tokens=12, progress=False)
    assert dataclasses.replace(answer, seconds=0) == dataclasses.replace(usual, seconds=0)
    assert len(grown) == 12 and grown[-1] == answer.text.rstrip("\ufffd")
    assert all(later.startswith(text) for text, later in itertools.pairwise(grown))


def test_two_models_answer_in_a_thread_and_what_they_write_stays_text(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat({"<i>": tiny, "two": tiny}, "Hello")
    (usual,) = generate(tiny, "Hello", "qa", max_new_tokens=6, progress=False)
    chat.controls["max_new_tokens"].value, chat.controls["template"].value = 6, "qa"
    chat.buttons["ask"].click()
    assert chat.wait(60)
    asked = [(prompt, name, answer.text) for prompt, name, answer in chat.answers]
    assert asked == [("Hello", "<i>", usual.text), ("Hello", "two", usual.text)]
    page = texts(chat)
    assert page.count("cut off at the limit of 6 tokens.") == 2 and ">Done.<" in page
    assert 'aria-label="&lt;i&gt;"' in page and "<i>:" not in page
    monkeypatch.setattr(tiny.tokenizer, "decode", lambda *_, **__: EVIL)
    chat.buttons["ask"].click()
    assert chat.wait(60)
    page = texts(chat)
    assert "&lt;script&gt;" in page and "<script" not in page and "mathjax_ignore" in page


def test_stop_ends_an_answer_and_a_second_question_waits(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, written, go = Chat({"one": tiny, "two": tiny}), threading.Event(), threading.Event()
    show = chat._show_side
    monkeypatch.setattr(chat, "_show_side", lambda side: (show(side), written.set(), go.wait(60)))
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


# --- tokens and templates -------------------------------------------------------------------------


def test_a_batch_is_the_tokenizers_own(tokenizer: Any) -> None:
    given = ["The kettle draws 1,870 watts.", "Yes."]
    for side in ("right", "left"):
        rows = batch_of(given, tokenizer, padding_side=side)
        usual = tokenizer(given, padding=True, padding_side=side)
        assert [row.ids for row in rows] == usual.input_ids
        assert [row.mask for row in rows] == usual.attention_mask
    ids, before = tokenizer(given[0]).input_ids, tokenizer.truncation_side
    (right,) = batch_of(given[:1], tokenizer, longest=3)
    (left,) = batch_of(given[:1], tokenizer, longest=3, cut_side="left")
    assert right.ids == ids[:3] and left.ids == ids[-3:]
    assert right.lost == left.lost == len(ids) - 3
    assert tokenizer.truncation_side == before
    assert tokenizer(given[0]).input_ids == ids  # nothing of it sticks


@pytest.mark.parametrize("name", ["plain", "qa", "llama2", "chat"])
def test_the_playground_shows_what_generate_sends(name: str, tiny: LoadedModel) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    for record in ("Why?", {"question": "Why?", "input": "", "answer": "So.", "history": talk}):
        read, written = prompt_and_completion(record, name, tiny.tokenizer)
        (answer,) = generate(tiny, record, name, max_new_tokens=1, progress=False)
        found = pieces(read, tiny.tokenizer)
        assert "".join(text for text, _ in found) == answer.sent
        assert len(read) == answer.prompt_tokens
    assert pieces(written, tiny.tokenizer) == [("So.", False), (tiny.tokenizer.eos_token, True)]


# --- training -------------------------------------------------------------------------------------


def after_each_update(monitor: TrainingMonitor, act: Callable[[], object]) -> None:
    show = monitor._show_progress
    monitor._show_progress = lambda: [show(), act()]


def losses(tuned: Any) -> list[float]:
    return [row["loss"] for row in tuned.history]


def test_the_monitor_trains_as_finetune_does(tiny: LoadedModel) -> None:
    looks = {
        "held_out": RECORDS[:2],
        "sample_prompts": "What is number 3?",
        "eval_steps": 2,
        "sample_tokens": 3,
    }
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


def test_stop_saves_and_train_goes_on_with_the_same_result(
    tiny: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    usual = finetune(tiny, RECORDS, FEW, progress=False)
    shown = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out", save_steps=100, fresh=True)
    after_each_update(shown, lambda: shown.step == 2 and shown.buttons["stop"].click())
    shown.start()
    assert len(shown.result().history) == 2  # what it had learned, and a word about it
    assert "Stopped after update 2: this is the model" in capsys.readouterr().out
    assert shown.state == "stopped" and shown.step == 2
    assert "Stopped. 2 of 4 updates." in texts(shown) and "is kept in" in texts(shown)
    del shown._show_progress  # nobody clicks any more
    shown.buttons["start"].click()
    tuned = shown.result()
    assert shown.state == "finished" and tuned.folder == tmp_path / "out"
    assert losses(tuned) == losses(usual)


def test_interrupt_while_waiting_stops_and_saves(
    tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, go = TrainingMonitor(tiny, RECORDS, FEW, out=tmp_path / "out"), threading.Event()
    after_each_update(shown, lambda: go.wait(60))
    shown.start()
    usual = shown.wait

    def interrupted(seconds: float | None = None) -> bool:
        if seconds is None:
            go.set()
            return usual()
        raise KeyboardInterrupt

    monkeypatch.setattr(shown, "wait", interrupted)
    with pytest.raises(TrainingStopped, match="All up to update 1 is kept"):
        shown.result()


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
    assert again.left("labelled") == [0, 1] and again.left("not labelled") == [2, 3, 4]
    assert again.agreement()["too long"].share.total == 2
    assert ErrorBrowser(evaluation, path, "Cleo").agreement() == {}
    other = evaluate(tiny, evaluation.records, "f1", max_new_tokens=2, progress=False)
    assert ErrorBrowser(other, path, "Ada").mine == {}  # other answers


# --- pairs ----------------------------------------------------------------------------------------


@pytest.fixture
def review(tmp_path: Path) -> Path:
    pairs = [{"question": f"Q{n}?", "answer": f"=A{n}", "heading": "Oars"} for n in range(4)]
    return own.save_for_review(pairs, tmp_path / "review.csv")


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
    for keys in ("arB", "arBx"):
        shown.keys.value = keys
    assert "&#x27;x&#x27; is no key here." in texts(shown) and "Pair 3 of 4" in texts(shown)
    for keys in ("arBxe", "arBxea", "arBxeaa"):
        shown.keys.value = keys
    assert "All 4 pairs are decided on: 3 accepted, 1 rejected, 0 open." in texts(shown)
    answers = [pair["answer"] for pair in own.load_reviewed(review)]
    assert answers == ["corrected", "=A2", "=A3"]
    assert set(KEYS.values()) == {*shown.buttons, "edit"}


# --- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def everything(tiny: LoadedModel, tmp_path: Path) -> list[ui.Widget]:
    """Each widget, with markup, formulas and a long text in what was written."""
    record, long = {"question": EVIL, "answer": EVIL}, EVIL + "x" * 1000
    evil = evaluate(tiny, [record], "f1", max_new_tokens=1, progress=False)
    object.__setattr__(evil.answers[0], "text", EVIL)
    review = own.save_for_review([record], tmp_path / "review.csv")
    return [
        BlindVote([EVIL], {"a": [long], "b": [EVIL]}, tmp_path / "votes.jsonl", references=[EVIL]),
        Chat({EVIL: tiny}, EVIL),
        TokenExplorer(tiny, EVIL),
        TemplatePlayground(tiny, record),
        TrainingMonitor(tiny, RECORDS, FEW, sample_prompts=EVIL),
        ErrorBrowser(evil, tmp_path / "labels.jsonl"),
        PairReview(review),
    ]


def test_everything_stays_text_with_a_front_end_and_without(
    everything: list[ui.Widget], monkeypatch: pytest.MonkeyPatch
) -> None:
    displayed: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    for shown in everything:
        if isinstance(shown, TrainingMonitor):
            shown.result()  # there are no losses before; outside a notebook it trains here
        shown.show()
        bundle = displayed.pop()
        assert set(bundle) == {"text/html", "text/plain"}
        assert "widget" not in shown.__dict__  # no widget was made for nobody
        table = bundle["text/html"]
        assert table.count("<tr>") > 1 and "<caption>" in table and "x" * 401 not in table
        for page in (table, texts(shown)):
            assert "<script" not in page and "</div> <" not in page, type(shown).__name__
            assert "$" not in page or "mathjax_ignore" in page


def test_every_control_has_a_label_that_is_seen(everything: list[ui.Widget]) -> None:
    # Only kinds of controls that are plain elements of the browser.
    plain = {"Button", "Text", "Textarea", "Dropdown", "Checkbox"}
    plain |= {"BoundedIntText", "BoundedFloatText"}
    for shown in everything:
        controls = [part for part in parts(shown) if hasattr(part, "disabled")]
        names = [control.description for control in controls]
        assert all(names) and len(set(names)) == len(names), type(shown).__name__
        assert {type(control).__name__ for control in controls} <= plain


def test_a_double_click_is_one_press(now: list[float]) -> None:
    pressed: list[str] = []
    button = ui.once(lambda name: pressed.append(name) is None and name != "nothing", "back")
    for later, name in ((0, "a"), (0.2, "a"), (0.5, "a"), (0, "b"), (0, "back"), (0, "back")):
        now[0] += later
        button(name)
    button("nothing")
    button("nothing")  # a press that did nothing can be repeated at once
    assert pressed == ["a", "a", "b", "back", "back", "nothing", "nothing"]


# --- in a real kernel -----------------------------------------------------------------------------


class Kernel:
    """A kernel, and what its cells show."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(
            kernel_name="python3", extra_arguments=["--IPKernelApp.log_level=40"]
        )

    def shows(self, code: str, *, person: bool) -> list[dict[str, Any]]:
        """The data of each output; `person` as a front end with somebody before it asks."""
        found: list[dict[str, Any]] = []

        def hook(message: dict[str, Any]) -> None:
            assert message["msg_type"] != "error", message["content"]
            if message["msg_type"] in ("display_data", "execute_result"):
                found.append(message["content"]["data"])

        self.client.execute_interactive(code, allow_stdin=person, output_hook=hook, timeout=120)
        return found

    def value(self, code: str) -> str:
        """What an expression is in the kernel, as text."""
        (found,) = self.shows(code, person=False)
        return found["text/plain"]

    def click(self, button: str) -> None:
        """Press a button, named by an expression in the kernel, as a front end does."""
        model_id = self.value(f"{button}.model_id").strip("'")
        data = {"method": "custom", "content": {"event": "click"}}
        content = {"comm_id": model_id, "data": data}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))


@pytest.fixture(scope="module")
def kernel(tiny_folder: Path) -> Iterator[Kernel]:
    started = Kernel()
    started.shows(
        f"import os; os.environ.pop('LLMCOURSE_STATIC', None)\n"
        f"import torch; torch.set_num_threads(1)\n"
        f"from llmcourse import models\n"
        f"from llmcourse.widgets import BlindVote, Chat\n"
        f"tiny = models.load({str(tiny_folder)!r}, dtype=torch.float32)",
        person=False,
    )
    yield started
    started.client.stop_channels()
    started.manager.shutdown_kernel(now=True)


def test_in_a_kernel_the_buttons_are_shown_only_to_a_person(kernel: Kernel, path: Path) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    kernel.shows(f"vote = BlindVote({QUESTIONS!r}, {ANSWERS!r}, {str(path)!r})", person=False)
    (table,) = kernel.shows("vote.show()", person=False)
    assert ui.VIEW not in table and "<table" in table["text/html"]
    (live,) = kernel.shows("vote", person=True)
    assert live[ui.VIEW]["model_id"] and live["text/html"] == table["text/html"]
    (static,) = kernel.shows("os.environ['LLMCOURSE_STATIC'] = '1'\nvote", person=True)
    assert static == table
    kernel.shows("del os.environ['LLMCOURSE_STATIC']", person=True)
    kernel.click("vote.buttons['equal']")
    # The kernel takes messages in order.
    assert kernel.value("[winner for *_, winner in vote.results()]") == "['tie']"
    # A notebook saved with buttons reads well without their state.
    cell = nbformat.v4.new_code_cell("vote")
    cell.outputs = [nbformat.v4.new_output("display_data", live)]
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    body = page[page.index("<body") :]
    assert body.count("base says") == 3 and live[ui.VIEW]["model_id"] not in body
