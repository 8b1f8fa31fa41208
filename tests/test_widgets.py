"""A vote is blind, is kept at once, goes on after a restart, and reads well without a front end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmcourse import widgets
from llmcourse.errors import DataError, PromptError, SettingError
from llmcourse.evaluation.judge import elo
from llmcourse.stats import Share
from llmcourse.widgets import CHOICES, Ballot, BlindVote

QUESTIONS = [f"Question {number}?" for number in range(6)]
ANSWERS = {
    "base": [f"base says {number}" for number in range(6)],
    "tuned": [f"tuned says {number}" for number in range(6)],
}
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes" / "mine.jsonl"


def ballot(path: Path, seed: int = 0, **more: Any) -> Ballot:
    return Ballot(QUESTIONS, ANSWERS | more, path, seed=seed)


def choose(votes: Ballot, name: str) -> None:
    """Vote for the answer that `name` wrote."""
    assert votes.current is not None
    votes.vote("left" if votes.current.left == name else "right")


# --- order and sides ------------------------------------------------------------------------------


def test_order_and_sides_follow_the_seed_and_nothing_is_lost(path: Path) -> None:
    one, same = ballot(path), ballot(path)
    assert one.pairs == same.pairs
    others = [ballot(path, seed=seed).pairs for seed in range(1, 9)]
    assert all(pairs != one.pairs for pairs in others)
    for pairs in (one.pairs, *others):
        assert sorted(pair.question for pair in pairs) == QUESTIONS
        for pair in pairs:
            number = int(pair.question.split()[1][:-1])
            assert {pair.left, pair.right} == {"base", "tuned"}
            assert pair.left_text == ANSWERS[pair.left][number]
            assert pair.right_text == ANSWERS[pair.right][number]
    sides = Counter(pair.left for pairs in others for pair in pairs)
    assert min(sides["base"], sides["tuned"]) > 12  # of 48


def test_of_three_names_every_two_are_compared(path: Path) -> None:
    votes = ballot(path, third=["x"] * 6)
    assert len(votes.pairs) == 18
    met = Counter(frozenset((pair.left, pair.right)) for pair in votes.pairs)
    assert set(met.values()) == {6} and len(met) == 3


def test_records_and_answers_of_any_kind_are_taken(path: Path) -> None:
    votes = Ballot([{"instruction": "Sort.", "input": "b a"}], {"a": [1], "b": (None,)}, path)
    (pair,) = votes.pairs
    assert pair.question == "Sort.\nb a" and {pair.left_text, pair.right_text} == {"1", "None"}


@pytest.mark.parametrize(
    ("questions", "answers", "error", "told"),
    [
        ([], {"a": [], "b": []}, DataError, "no questions"),
        ("Why?", {"a": ["x"], "b": ["y"]}, DataError, "questions must be a list, not str"),
        (["Why?"], {"a": ["x"]}, DataError, "at least two names"),
        (["Why?"], [["x"], ["y"]], DataError, "at least two names"),
        (["Why?"], {"a": ["x"], "b": ["y", "z"]}, DataError, "b: there are 2 answers to 1 q"),
        (["Why?"], {"a": ["x"], "b": "y"}, DataError, "b: a list of answers is wanted, not str"),
        (["Why?"], {"a": ["x"], "tie": ["y"]}, DataError, "'tie' is no name"),
        (["Why?"], {"a": ["x"], " ": ["y"]}, DataError, "' ' is no name"),
        (["A?", "B?", "A?"], {"a": "xyz", "b": "xyz"}, DataError, "Question 2 .* as question 0"),
        (["\ud800?"], {"a": ["x"], "b": ["y"]}, DataError, "Question 0 .* are no text"),
        ([" "], {"a": ["x"], "b": ["y"]}, PromptError, "question is empty"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    questions: Any, answers: Any, error: type, told: str, path: Path
) -> None:
    with pytest.raises(error, match=told):
        Ballot(questions, answers, path)


def test_settings_that_mean_nothing_are_refused(path: Path) -> None:
    with pytest.raises(SettingError, match="seed=-1"):
        ballot(path, seed=-1)
    with pytest.raises(DataError, match="ends in .jsonl"):
        ballot(path.with_suffix(".csv"))


# --- votes ----------------------------------------------------------------------------------------


def test_votes_become_results_for_elo(path: Path) -> None:
    votes = ballot(path)
    for name in ("tuned", "tuned", "base", "tuned"):
        choose(votes, name)
    votes.vote("equal")
    votes.vote("bad")
    assert votes.current is None and votes.voted == 6
    winners = [winner for _, _, winner in votes.results()]
    assert winners == ["tuned", "tuned", "base", "tuned", "tie", "tie"]
    sides = [(left, right) for left, right, _ in votes.results()]
    assert sides == [(pair.left, pair.right) for pair in votes.pairs]
    assert votes.wins() == {"base": Share(1, 6), "tuned": Share(3, 6)}
    assert list(elo(votes.results())) == ["tuned", "base"]
    with pytest.raises(SettingError, match="Every pair has a vote"):
        votes.vote("left")


def test_names_without_a_vote_have_no_share(path: Path) -> None:
    votes = ballot(path)
    assert votes.wins() == {} and votes.results() == []
    with pytest.raises(SettingError, match="no choice 'middle'"):
        votes.vote("middle")


def test_every_vote_is_in_the_file_at_once_and_a_restart_goes_on(path: Path) -> None:
    votes = ballot(path)
    assert not path.exists()
    for count in range(1, 4):
        choose(votes, "tuned")
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert len(rows) == count
        again = ballot(path)
        assert again.place == count and again.current == votes.current
        assert again.results() == votes.results()
    assert set(rows[0]) == {"pair", "question", "left", "right", "vote"}
    assert "says" not in path.read_text("utf-8")  # the answers are not kept twice


def test_votes_count_whatever_the_seed(path: Path) -> None:
    votes = ballot(path)
    while votes.current:
        choose(votes, "tuned")
    for seed in (1, 2, 3):
        other = ballot(path, seed=seed)
        assert other.current is None
        assert other.wins() == {"base": Share(0, 6), "tuned": Share(6, 6)}
        for place, pair in enumerate(other.pairs):
            assert getattr(pair, other.given(place)) == "tuned"


def test_back_and_a_new_vote_replace_the_old_one(path: Path) -> None:
    votes = ballot(path)
    votes.back()
    assert votes.place == 0
    votes.vote("equal")
    votes.vote("equal")
    votes.back()
    votes.back()
    assert votes.place == 0 and votes.given(0) == "equal"
    choose(votes, "base")
    assert votes.place == 2 and votes.voted == 2  # on to the next pair without a vote
    assert [winner for *_, winner in votes.results()] == ["base", "tie"]
    assert len(path.read_text("utf-8").splitlines()) == 2


def test_a_pair_left_out_comes_back_at_the_end(path: Path) -> None:
    votes = ballot(path)
    votes.place = 4
    votes.vote("bad")
    votes.vote("bad")
    assert votes.place == 0
    for _ in range(4):
        votes.vote("bad")
    assert votes.current is None
    votes.back()
    assert votes.place == 5


def test_other_answers_votes_stay_in_the_file_and_do_not_count(path: Path) -> None:
    first = ballot(path)
    choose(first, "base")
    renewed = {"base": ANSWERS["base"], "tuned": [text + "!" for text in ANSWERS["tuned"]]}
    second = Ballot(QUESTIONS, renewed, path)
    assert (second.place, second.others, second.voted) == (0, 1, 0)
    second.vote("equal")
    assert ballot(path).results() == first.results()
    assert Ballot(QUESTIONS, renewed, path).voted == 1
    more = Ballot([*QUESTIONS, "One more?"], {n: [*a, "new"] for n, a in ANSWERS.items()}, path)
    assert more.voted == 1 and len(more.pairs) == 7


def test_two_windows_on_one_file_lose_nothing(path: Path) -> None:
    one, two = ballot(path), ballot(path)
    one.vote("equal")
    two.place = 3
    two.vote("bad")
    assert two.voted == 2
    assert ballot(path).voted == 2
    one.vote("equal")
    assert ballot(path).voted == 3 and one.voted == 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "mine.jsonl, line 2: no JSON"),
        ("3", "line 2: an object belongs here, not a number"),
        ('{"pair": "x"}', "line 2: this is no vote"),
        ('{"pair":"x","question":"q","left":"a","right":"b","vote":"up"}', "line 2: this is no v"),
        ('{"pair":"x","question":"q","left":"a","right":1,"vote":"left"}', "line 2: this is no v"),
    ],
)
def test_a_damaged_file_is_told_by_line_and_left_alone(line: str, told: str, path: Path) -> None:
    votes = ballot(path)
    votes.vote("left")
    text = path.read_text("utf-8") + line + "\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        ballot(path)
    with pytest.raises(DataError, match=told):
        votes.vote("left")
    assert path.read_text("utf-8") == text and votes.place == 1 and votes.voted == 1


# --- the page -------------------------------------------------------------------------------------


def texts(vote: BlindVote) -> str:
    """All that is on the page but the buttons."""
    found, waiting = [], [vote.widget]
    while waiting:
        widget = waiting.pop(0)
        waiting += getattr(widget, "children", ())
        found.append(getattr(widget, "value", ""))
    return "\n".join(found)


def test_buttons_vote_and_the_page_never_tells_the_names(path: Path) -> None:
    answers = {
        "model-one": [f"text {n}" for n in range(6)],
        "model-two": [f"other {n}" for n in range(6)],
    }
    vote = BlindVote(QUESTIONS, answers, path)
    buttons = vote.buttons()
    assert [b.description for b in buttons.values()] == [*CHOICES.values(), "Back one"]
    assert buttons["back"].disabled
    seen = []
    for number in range(6):
        page, pair = texts(vote), vote.ballot.current
        assert f">{number + 1} of 6<" in page and pair.question in page
        assert page.index(pair.left_text) < page.index(pair.right_text)
        assert not any(name in page for name in answers)
        seen.append(pair.question)
        list(buttons.values())[number % 4].click()
        assert len(path.read_text("utf-8").splitlines()) == number + 1
    assert sorted(seen) == QUESTIONS
    assert "All 6 pairs are voted on" in texts(vote)
    assert all(buttons[choice].disabled for choice in CHOICES) and not buttons["back"].disabled
    buttons["back"].click()
    assert ">6 of 6<" in texts(vote) and "Your vote so far: Right is better." in texts(vote)
    assert not any(buttons[name].disabled for name in buttons)
    assert [winner for *_, winner in vote.results()].count("tie") == 2
    assert repr(vote) == "BlindVote: 6 of 6 pairs voted on"


def test_a_double_click_is_one_vote(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    vote = BlindVote(QUESTIONS, ANSWERS, path)
    for later, voted in ((0, 1), (0.2, 1), (0.5, 2)):
        now[0] = 100 + later
        vote.buttons()["left"].click()
        assert vote.ballot.voted == voted
    vote.buttons()["right"].click()  # another button is meant
    assert vote.ballot.voted == 3


def test_what_is_right_stands_under_the_question(path: Path) -> None:
    known = [f"right <{number}>" for number in range(len(QUESTIONS))]
    vote = BlindVote(QUESTIONS, ANSWERS, path, references=known)
    place = QUESTIONS.index(vote.ballot.current.question)
    assert "What is right" in texts(vote) and f"right &lt;{place}&gt;" in texts(vote)
    assert "What is right" not in texts(BlindVote(QUESTIONS, ANSWERS, path))
    for wrong in (known[:-1], "right", [None] * len(QUESTIONS)):
        with pytest.raises(DataError, match="references must be"):
            BlindVote(QUESTIONS, ANSWERS, path, references=wrong)


def test_a_restart_shows_the_pair_that_is_next(path: Path) -> None:
    vote = BlindVote(QUESTIONS, ANSWERS, path)
    vote.buttons()["left"].click()
    vote.buttons()["bad"].click()
    again = BlindVote(QUESTIONS, ANSWERS, path)
    assert ">3 of 6<" in texts(again) and again.ballot.current.question in texts(again)
    assert not again.buttons()["back"].disabled


def test_what_a_model_wrote_stays_text(path: Path) -> None:
    evil = "<script>alert('x')</script> $x^2$ </div>"
    vote = BlindVote([evil], {"a": [evil], "b": ["  "]}, path)
    page = texts(vote)
    assert "<script" not in page and page.count("&lt;script&gt;") == 2
    assert "mathjax_ignore" in page and "<i>(no text)</i>" in page
    assert 'aria-label="Answer on the left"' in page and 'role="status"' in page


def test_a_vote_that_cannot_be_saved_is_told_on_the_page(path: Path) -> None:
    vote = BlindVote(QUESTIONS, ANSWERS, path)
    path.parent.write_text("a file where the folder should be")
    vote.buttons()["left"].click()
    assert "Not saved. " in texts(vote) and "can&#x27;t be written" in texts(vote)
    assert ">1 of 6<" in texts(vote) and vote.results() == []
    path.parent.unlink()
    vote.buttons()["left"].click()
    assert "Not saved" not in texts(vote) and ">2 of 6<" in texts(vote)


def test_votes_on_other_answers_are_told(path: Path) -> None:
    ballot(path).vote("left")
    vote = BlindVote(["Another?"], {"a": ["x"], "b": ["y"]}, path)
    assert "mine.jsonl also has votes on 1 other pairs" in texts(vote)


# --- without a front end --------------------------------------------------------------------------


def test_outside_a_notebook_a_plain_table_is_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    long = "<b>" + "x" * 1000
    BlindVote(QUESTIONS, ANSWERS | {"tuned": [long] * 6}, path).show()
    table, caption = shown
    assert set(table) == {"text/html", "text/plain"}
    assert table["text/html"].count("<tr>") == 4 and "base says" in table["text/html"]
    assert "<b>" not in table["text/html"] and "x…" in table["text/html"]
    assert "x" * 401 not in table["text/html"]
    assert caption.data.startswith("*3 of 6 pairs.")
    bundle = BlindVote(QUESTIONS, ANSWERS, path)._repr_mimebundle_()
    assert bundle == {"text/plain": "BlindVote: 0 of 6 pairs voted on"}


def test_a_wrong_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_STATIC", "yes")
    with pytest.raises(SettingError, match="LLMCOURSE_STATIC='yes' is not known"):
        widgets.is_live()
    monkeypatch.setenv("LLMCOURSE_STATIC", "0")
    assert not widgets.is_live()  # no notebook here


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
        table, *_ = kernel.shows(code, person=False)
        assert VIEW not in table and "<table>" in table["text/html"]
        (live,) = kernel.shows(code, person=True)
        assert live[VIEW]["model_id"] and live["text/html"] == table["text/html"]
        off = f"os.environ['LLMCOURSE_STATIC'] = '1'\n{code}"
        table, *_ = kernel.shows(off, person=True)
        assert VIEW not in table and "<table>" in table["text/html"]
        kernel.shows("del os.environ['LLMCOURSE_STATIC']", person=True)


def test_a_click_in_the_front_end_votes(kernel: Kernel, path: Path) -> None:
    (button,) = kernel.shows(
        f"from llmcourse.widgets import BlindVote\n"
        f"clicked = BlindVote({QUESTIONS!r}, {ANSWERS!r}, {str(path)!r})\n"
        f"clicked.buttons()['equal'].model_id",
        person=True,
    )
    pressed = {"method": "custom", "content": {"event": "click"}}
    content = {"comm_id": button["text/plain"].strip("'"), "data": pressed}
    kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", content))
    # The kernel takes messages in order.
    (results,) = kernel.shows("[winner for *_, winner in clicked.results()]", person=False)
    assert results["text/plain"] == "['tie']"
    assert len(path.read_text("utf-8").splitlines()) == 1


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
