"""A vote is blind, is kept at once, goes on after a restart, and reads well without a front end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmcourse.errors import DataError, PromptError, SettingError
from llmcourse.evaluation.judge import elo
from llmcourse.stats import Share
from llmcourse.widgets import CHOICES, BlindVote

QUESTIONS = [f"Question {number}?" for number in range(6)]
ANSWERS = {
    "base": [f"base says {number}" for number in range(6)],
    "tuned": [f"tuned says {number}" for number in range(6)],
}
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes" / "mine.jsonl"


def ballot(path: Path, seed: int = 0, **more: Any) -> BlindVote:
    return BlindVote(QUESTIONS, ANSWERS | more, path, seed=seed)


def choose(vote: BlindVote, name: str) -> None:
    """Vote for the answer that `name` wrote."""
    vote.vote("left" if vote.pairs[vote.place].left == name else "right")


def texts(widget: Any) -> str:
    """All that is on a page but the buttons."""
    found, waiting = [], [widget.widget]
    while waiting:
        part = waiting.pop(0)
        waiting += getattr(part, "children", ())
        found.append(str(getattr(part, "value", "")))
    return "\n".join(found)


# --- order, sides, votes --------------------------------------------------------------------------


def test_order_and_sides_follow_the_seed_and_nothing_is_lost(path: Path) -> None:
    assert ballot(path).pairs == ballot(path).pairs
    others = [ballot(path, seed=seed).pairs for seed in range(8)]
    assert len({tuple(pairs) for pairs in others}) == 8
    for pairs in others:
        assert sorted(pair.question for pair in pairs) == QUESTIONS
        for pair in pairs:
            number = int(pair.question.split()[1][:-1])
            assert {pair.left, pair.right} == {"base", "tuned"}
            assert pair.left_text == ANSWERS[pair.left][number]
            assert pair.right_text == ANSWERS[pair.right][number]
    sides = Counter(pair.left for pairs in others for pair in pairs)
    assert min(sides["base"], sides["tuned"]) > 12  # of 48
    met = Counter(frozenset((p.left, p.right)) for p in ballot(path, third=["x"] * 6).pairs)
    assert set(met.values()) == {6} and len(met) == 3  # of three names every two


def test_records_and_answers_of_any_kind_are_taken(path: Path) -> None:
    vote = BlindVote([{"instruction": "Sort.", "input": "b a"}], {"a": [1], "b": (None,)}, path)
    (pair,) = vote.pairs
    assert pair.question == "Sort.\nb a" and {pair.left_text, pair.right_text} == {"1", "None"}


@pytest.mark.parametrize(
    ("questions", "answers", "error", "message"),
    [
        ([], {"a": [], "b": []}, DataError, "a: 0 texts for 0 questions"),
        (["Why?"], {"a": ["x"]}, DataError, "at least two names"),
        (["Why?"], {"a": ["x"], "tie": ["y"]}, DataError, "none of them 'tie'"),
        (["Why?"], {"a": ["x"], "b": ["y", "z"]}, DataError, "b: 2 texts for 1 questions"),
        (["A?", "B?", "A?"], {"a": "xyz", "b": "xyz"}, DataError, "'A.' is there twice"),
        ([" "], {"a": ["x"], "b": ["y"]}, PromptError, "question is empty"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    questions: Any, answers: Any, error: type, message: str, path: Path
) -> None:
    with pytest.raises(error, match=message):
        BlindVote(questions, answers, path)


def test_votes_become_results_for_elo(path: Path) -> None:
    vote = ballot(path)
    assert vote.wins() == {} and vote.results() == []
    with pytest.raises(SettingError, match="no choice 'middle'"):
        vote.vote("middle")
    for name in ("tuned", "tuned", "base", "tuned"):
        choose(vote, name)
    vote.vote("equal")
    vote.vote("bad")
    winners = [winner for _, _, winner in vote.results()]
    assert winners == ["tuned", "tuned", "base", "tuned", "tie", "tie"]
    sides = [(left, right) for left, right, _ in vote.results()]
    assert sides == [(pair.left, pair.right) for pair in vote.pairs]
    assert vote.wins() == {"base": Share(1, 6), "tuned": Share(3, 6)}
    assert list(elo(vote.results())) == ["tuned", "base"]
    with pytest.raises(SettingError, match="Every pair has a vote"):
        vote.vote("left")
    for seed in (1, 2, 3):  # votes count whatever the seed
        other = ballot(path, seed=seed)
        assert other.place == 6 and other.wins() == vote.wins()


def test_every_vote_is_in_the_file_at_once_and_a_restart_goes_on(path: Path) -> None:
    vote = ballot(path)
    assert not path.exists()
    for count in range(1, 4):
        choose(vote, "tuned")
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert len(rows) == count
        again = ballot(path)
        assert again.place == count and again.results() == vote.results()
    assert set(rows[0]) == {"pair", "question", "left", "right", "vote"}
    assert "says" not in path.read_text("utf-8")  # the answers are not kept twice


def test_back_replaces_a_vote_and_a_pair_left_out_comes_at_the_end(path: Path) -> None:
    vote = ballot(path)
    vote.vote("equal")
    vote.vote("equal")
    for _ in range(3):
        vote.back()
    assert vote.place == 0 and vote.choice(0) == "equal"
    choose(vote, "base")
    assert vote.place == 2 and vote.voted == 2  # on to the next pair without a vote
    assert [winner for *_, winner in vote.results()] == ["base", "tie"]
    vote.place = 5
    vote.vote("bad")
    assert vote.place == 2
    assert len(path.read_text("utf-8").splitlines()) == 3


def test_votes_on_other_answers_stay_in_the_file_and_do_not_count(path: Path) -> None:
    first = ballot(path)
    choose(first, "base")
    renewed = ANSWERS | {"tuned": [text + "!" for text in ANSWERS["tuned"]]}
    second = BlindVote(QUESTIONS, renewed, path)
    assert (second.place, second.voted) == (0, 0)
    assert "mine.jsonl also has votes on 1 other pairs" in texts(second)
    second.vote("equal")
    assert ballot(path).results() == first.results()
    assert BlindVote(QUESTIONS, renewed, path).voted == 1


def test_two_windows_on_one_file_lose_nothing(path: Path) -> None:
    one, two = ballot(path), ballot(path)
    one.vote("equal")
    two.place = 3
    two.vote("bad")
    assert two.voted == ballot(path).voted == 2
    one.vote("equal")
    assert one.voted == ballot(path).voted == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "mine.jsonl, line 2: not JSON"),
        ('{"pair":"x","question":"q","left":"a","right":1,"vote":"left"}', "line 2: this is no v"),
    ],
)
def test_a_damaged_file_is_named_by_line_and_left_alone(
    line: str, message: str, path: Path
) -> None:
    vote = ballot(path)
    vote.vote("left")
    text = path.read_text("utf-8") + line + "\n"
    path.write_text(text, encoding="utf-8")
    for call in (lambda: ballot(path), lambda: vote.vote("left")):
        with pytest.raises(DataError, match=message):
            call()
    assert path.read_text("utf-8") == text and vote.place == 1 and vote.voted == 1


# --- the page -------------------------------------------------------------------------------------


def test_buttons_vote_and_the_page_never_tells_the_names(path: Path) -> None:
    answers = {
        "model-one": [f"text {n}" for n in range(6)],
        "model-two": [f"other {n}" for n in range(6)],
    }
    vote = BlindVote(QUESTIONS, answers, path)
    buttons = vote.buttons
    assert [b.description for b in buttons.values()] == [*CHOICES.values(), "Back one"]
    for number in range(6):
        page, pair = texts(vote), vote.pairs[vote.place]
        assert f">{number + 1} of 6<" in page and pair.question in page
        assert page.index(pair.left_text) < page.index(pair.right_text)
        assert not any(name in page for name in answers)
        assert buttons["back"].disabled == (number == 0)
        list(buttons.values())[number % 4].click()
        assert len(path.read_text("utf-8").splitlines()) == number + 1
    assert "All 6 pairs are voted on" in texts(vote)
    assert all(buttons[choice].disabled for choice in CHOICES) and not buttons["back"].disabled
    buttons["back"].click()
    assert ">6 of 6<" in texts(vote) and "Your vote so far: Right is better." in texts(vote)
    assert [winner for *_, winner in vote.results()].count("tie") == 2
    assert repr(vote) == "BlindVote: 6 of 6 pairs voted on"


def test_a_double_click_is_one_vote(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    vote = ballot(path)
    for later, voted in ((0, 1), (0.2, 1), (0.5, 2)):
        now[0] = 100 + later
        vote.buttons["left"].click()
        assert vote.voted == voted
    vote.buttons["right"].click()  # another button is meant
    assert vote.voted == 3


def test_what_is_right_is_under_the_question(path: Path) -> None:
    known = [f"right <{number}>" for number in range(6)]
    vote = BlindVote(QUESTIONS, ANSWERS, path, references=known)
    number = QUESTIONS.index(vote.pairs[0].question)
    assert "What is right" in texts(vote) and f"right &lt;{number}&gt;" in texts(vote)
    assert "What is right" not in texts(ballot(path))
    with pytest.raises(DataError, match="references: 5 texts for 6 questions"):
        BlindVote(QUESTIONS, ANSWERS, path, references=known[:-1])


def test_what_a_model_wrote_stays_text(path: Path) -> None:
    evil = "<script>alert('x')</script> $x^2$ </div>"
    vote = BlindVote([evil], {"a": [evil], "b": ["  "]}, path)
    page = texts(vote)
    assert "<script" not in page and page.count("&lt;script&gt;") == 2
    assert "mathjax_ignore" in page and "<i>(no text)</i>" in page
    assert 'aria-label="Answer on the left"' in page and 'role="status"' in page
    assert "<script" not in vote._repr_mimebundle_()["text/html"]


def test_a_vote_that_cannot_be_saved_says_so_on_the_page(path: Path) -> None:
    vote = ballot(path)
    assert ">1 of 6<" in texts(vote)
    path.parent.write_text("a file where the folder should be")
    vote.buttons["left"].click()
    assert "Not saved. " in texts(vote) and "can&#x27;t be written" in texts(vote)
    assert ">1 of 6<" in texts(vote) and vote.results() == []
    path.parent.unlink()
    vote.buttons["left"].click()
    assert "Not saved" not in texts(vote) and ">2 of 6<" in texts(vote)


# --- without a front end, and in a kernel ---------------------------------------------------------


def test_outside_a_notebook_a_plain_table_is_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    displayed: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    vote = ballot(path, tuned=["<b>" + "x" * 1000] * 6)
    vote.show()
    (table,) = displayed
    assert table == vote._repr_mimebundle_() and set(table) == {"text/html", "text/plain"}
    assert table["text/html"].count("<tr>") == 4 and "base says" in table["text/html"]
    assert "<b>" not in table["text/html"] and "x…" in table["text/html"]
    assert "3 of 6 pairs." in table["text/html"] and "x" * 401 not in table["text/html"]
    assert "widget" not in vote.__dict__  # no widget was made for nobody


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

    def send(self, widget: str, data: dict[str, Any]) -> None:
        """What a front end sends for a widget, named by an expression in the kernel."""
        (model_id,) = self.shows(f"{widget}.model_id", person=True)
        content = {"comm_id": model_id["text/plain"].strip("'"), "data": data}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def click(self, button: str) -> None:
        """Press a button as a front end does."""
        self.send(button, {"method": "custom", "content": {"event": "click"}})


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    started = Kernel()
    yield started
    started.client.stop_channels()
    started.manager.shutdown_kernel(now=True)


def test_in_a_kernel_the_buttons_are_shown_only_to_a_person(kernel: Kernel, path: Path) -> None:
    kernel.shows(
        f"import os; os.environ.pop('LLMCOURSE_STATIC', None)\n"
        f"from llmcourse.widgets import BlindVote\n"
        f"vote = BlindVote({QUESTIONS!r}, {ANSWERS!r}, {str(path)!r})",
        person=False,
    )
    for code in ("vote.show()", "vote"):
        (table,) = kernel.shows(code, person=False)
        assert VIEW not in table and "<table" in table["text/html"]
        (live,) = kernel.shows(code, person=True)
        assert live[VIEW]["model_id"] and live["text/html"] == table["text/html"]
        off = f"os.environ['LLMCOURSE_STATIC'] = '1'\n{code}"
        (table,) = kernel.shows(off, person=True)
        assert VIEW not in table and "<table" in table["text/html"]
        kernel.shows("del os.environ['LLMCOURSE_STATIC']", person=True)
    kernel.click("vote.buttons['equal']")
    # The kernel takes messages in order.
    (results,) = kernel.shows("[winner for *_, winner in vote.results()]", person=False)
    assert results["text/plain"] == "['tie']" and len(path.read_text("utf-8").splitlines()) == 1


def test_a_notebook_saved_with_buttons_reads_well_without_their_state(
    kernel: Kernel, path: Path
) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    (live,) = kernel.shows(
        f"from llmcourse.widgets import BlindVote\n"
        f"BlindVote({QUESTIONS!r}, {ANSWERS!r}, {str(path)!r})",
        person=True,
    )
    cell = nbformat.v4.new_code_cell("vote")
    cell.outputs = [nbformat.v4.new_output("display_data", live)]
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    body = page[page.index("<body") :]
    assert body.count("base says") == 3 and live[VIEW]["model_id"] not in body
