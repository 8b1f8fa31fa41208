"""The pictures of the course's ideas: words for all, own numbers, nothing cut or hidden."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from llmcourse import claims, company, models, plots, stats
from llmcourse.plots import base, sketch
from tests.conftest import ROOT
from tests.pictures import crossed, misplaced, strange_colours, texts

STILL = (
    plots.general_to_special,
    plots.pretraining,
    plots.scraping,
    plots.first_time,
    plots.three_methods,
    plots.three_levels,
    plots.from_zero_to_chat,
    plots.the_loop,
    plots.instruction_tuning,
    plots.instruction_data,
)
MEASURED = (
    plots.what_it_does,
    plots.tuned_or_not,
    plots.prompt_or_tune,
    plots.benefits,
    plots.limits,
    plots.what_can_change,
    plots.two_kinds_of_task,
)
PUBLISHED = json.loads((ROOT / "llmcourse" / "ledger-cpu.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
Drawn = list[tuple[Figure, str, str]]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work folder in which nothing is measured."""
    monkeypatch.setenv("LLMCOURSE_WORK", str(tmp_path))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The figures that were shown, with their captions and alternative texts."""
    kept: Drawn = []

    def keep(figure: Figure, caption: str, alt: str, *, vector: bool = False) -> None:
        assert vector
        kept.append((figure, caption, alt))

    monkeypatch.setattr(sketch, "show", keep)
    return kept


@pytest.mark.parametrize(
    ("draw", "measured"),
    [*((draw, False) for draw in (*STILL, *MEASURED)), *((draw, True) for draw in MEASURED)],
    ids=lambda value: getattr(value, "__name__", "measured" if value else "not measured"),
)
def test_a_picture_is_readable_in_the_palette_and_said_in_words(
    draw: Any, measured: bool, drawn: Drawn
) -> None:
    if measured:  # every number that the lessons record, each another one than was published
        entries = {
            claim: entry | {"numbers": {n: {"count": 3, "of": 7} for n in entry["numbers"]}}
            for claim, entry in PUBLISHED.items()
        }
        claims.ledger_path().write_text(json.dumps(entries), encoding="utf-8")
    draw()
    figure, caption, alt = drawn[0]
    assert len(texts(figure)) >= 4
    assert misplaced(figure) == [] and crossed(figure) == []
    assert strange_colours(figure) == set()
    assert caption.startswith("Figure. ") and caption.endswith(".") and len(alt) > 120
    assert ("your own ledger" in caption) == (draw in MEASURED)
    in_words = NUMBER.findall(alt)
    words = [text.get_text() for text in texts(figure)]
    shown = [number for text in words for number in NUMBER.findall(text)]
    assert [number for number in shown if number not in in_words] == []
    if draw in MEASURED:
        assert shown and "run lesson" not in alt, "a name that no lesson records"
        assert ("until you have run its lesson" in caption) == (not measured)
        assert any("*" in text for text in words) == (not measured)
        assert ("43 % (3 of 7)" in alt) == any("43 % (3 of 7)" in text for text in words)
        assert ("43 % (3 of 7)" in alt) == measured


@pytest.mark.model
def test_a_conversation_shows_what_is_trained_on(drawn: Drawn) -> None:
    tokenizer = models.load_tokenizer("smollm2-135m-instruct")
    for record in company.records("conversations", "train")[:4]:
        plots.conversation(record["messages"], tokenizer)
        figure, caption, alt = drawn[-1]
        assert misplaced(figure) == [] and crossed(figure) == []
        assert strange_colours(figure) == set() and caption.startswith("Figure. ")
        blue = [text for text in texts(figure) if text.get_bbox_patch()]
        assert {base.SKY} == {to_hex(t.get_bbox_patch().get_facecolor()).upper() for t in blue}
        said = " ".join(t.get_text() for t in blue)
        wrote = [t["content"] for t in record["messages"] if t["role"] == "assistant"]
        assert said == " ".join(f"{text}<|im_end|>" for text in wrote)
        for turn in record["messages"]:
            assert turn["content"] in alt.replace("] [", " ")


def test_a_gain_that_chance_may_have_made_says_so(drawn: Drawn) -> None:
    names = [f"{who}, taught: confident and wrong" for who in ("untuned", "tuned")]
    for counts, close in (((17, 14), True), ((17, 2), False)):
        shares = [stats.Share(count, 20) for count in counts]
        claims.record("hallucination", dict(zip(names, shares, strict=True)), holds=None)
        plots.what_it_does()
        titles = [text.get_text() for text in texts(drawn[-1][0])]
        assert ("Less invention (too close to tell)" in titles) == close


def test_a_missing_number_is_the_lesson_to_run() -> None:
    pair = ("chat: agreement of three answers", "tuned: agreement of three answers")
    claims.record("consistency", {pair[0]: 0.25}, holds=None)
    found = sketch.Measured()
    assert found.change("consistency", *pair) == "0.25 → run lesson 06"
    assert found.change("tone", "a", "b") == "run lesson 07"
    assert not found.borrowed
    assert found.text("private", "connections to other machines") == "0*" and found.borrowed
    assert found.value("consistency", pair[0]) == 0.25
    assert found.value("consistency", pair[1]) is None
