"""Pictures carry captions and alternative text; tables escape what a model wrote."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from llmcourse import plots
from llmcourse.claims import Share
from llmcourse.generation import Answer


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict]]:
    """What was displayed: (data, metadata)."""
    kept: list[tuple[Any, dict]] = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, metadata=None, raw=False: kept.append((data, metadata or {})),
    )
    return kept


def answer(text: str, finished: bool = True, prompt: str = "Why?") -> Answer:
    return Answer(prompt, prompt, text, finished, 3, 4, 0.1)


@pytest.mark.parametrize(
    "draw",
    [
        plots.three_ways,
        plots.three_heights,
        plots.from_zero_to_chat,
        plots.the_loop,
        lambda: plots.lesson_map("03"),
    ],
)
def test_diagrams_are_vector_with_text_for_those_who_do_not_see(draw: Any, shown: list) -> None:
    draw()
    (data, metadata), (caption, _) = shown
    svg = ET.fromstring(data["image/svg+xml"])
    alt = metadata["image/svg+xml"]["alt"]
    assert svg.attrib["aria-label"] == alt == data["text/plain"]
    assert svg.attrib["role"] == "img" and len(alt) > 80
    assert caption.data.startswith("*Figure. ")


def test_diagrams_are_the_same_at_every_run(shown: list) -> None:
    plots.three_ways()
    plots.three_ways()
    assert shown[0][0] == shown[2][0]


def test_charts_say_their_numbers_in_words(shown: list) -> None:
    plots.shares({"ends": {"base": Share(0, 4), "chat": Share(3, 4)}}, "Who ends?", caption="C.")
    data, metadata = shown[0]
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "ends chat: 75 % (3 of 4" in metadata["image/png"]["alt"]
    plots.dots({"base": [0.5, 1.0]}, "Circles", caption="C.", label="share")
    assert "base: mean 0.75, from 0.50 to 1.00" in shown[2][1]["image/png"]["alt"]
    plots.curve({"tuned": [(1, 3.0), (9, 0.5)]}, "Loss", caption="C.", labels=("updates", "nats"),
                level=("knows nothing", 4.4))  # fmt: skip
    said = shown[4][1]["image/png"]["alt"]
    assert "tuned: from 3.00 at 1 to 0.50 at 9; thin line, knows nothing: 4.40" in said
    for logarithmic in (False, True):
        plots.amounts({"a": 6e12, "b": 17}, "Much", caption="C.", label="tokens",
                      logarithmic=logarithmic)  # fmt: skip
        assert "a: 6 trillion; b: 17." in shown[-2][1]["image/png"]["alt"]


def test_what_a_model_wrote_is_escaped(shown: list) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    plots.side_by_side(
        {f"base {bad}": [answer(bad, prompt=bad)], "chat": [answer("**x** & y", prompt=bad)]}
    )
    page = shown[0][0]["text/html"]
    assert "<script" not in page and "<img" not in page
    assert "&lt;script&gt;" in page and "**x** &amp; y" in page
    assert bad in shown[0][0]["text/plain"]


def test_marks_tell_ended_from_cut_off(shown: list) -> None:
    plots.side_by_side(
        {"a": [answer("done"), answer("cut", finished=False), answer(""), answer("x" * 900)]}
    )
    page = shown[0][0]["text/html"]
    assert "done ■" in page and "cut …" in page and "(nothing) ■" in page and "x […]" in page


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        plots.side_by_side({"a": [answer("x")], "b": []})
