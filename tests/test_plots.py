"""Pictures carry captions and alternative text; tables escape what a model wrote."""

from __future__ import annotations

import base64
import math
import sys
import warnings
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from bs4 import BeautifulSoup

from llmcourse import data, plots
from llmcourse.errors import DataError
from llmcourse.generation import Answer
from llmcourse.stats import Share


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
        plots.low_rank,
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
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")  # where no SVG is shown
    assert metadata["image/png"] == metadata["image/svg+xml"]
    assert caption.data.startswith("*Figure. ")


@pytest.mark.parametrize("live", [False, True])
def test_a_person_gets_a_picture_with_its_words(
    live: bool, shown: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots.base, "is_live", lambda: live)
    plots.three_ways()
    data, metadata = shown[0]
    assert ("text/html" in data) == live, "a saved lesson holds each picture once"
    if live:
        picture = BeautifulSoup(data["text/html"], "html.parser").img
        assert picture["alt"] == metadata["image/svg+xml"]["alt"]
        svg = base64.b64decode(picture["src"].partition("base64,")[2])
        assert ET.fromstring(svg).tag.endswith("svg")


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
    plots.curve(
        {"tuned": [(1, 3.0), (9, 0.5)]},
        "Loss",
        caption="C.",
        labels=("updates", "nats"),
        level=("knows nothing", 4.4),
    )
    said = shown[4][1]["image/png"]["alt"]
    assert "tuned: from 3.00 at 1 to 0.50 at 9; thin line, knows nothing: 4.40" in said
    for logarithmic in (False, True):
        plots.amounts(
            {"a": 6e12, "b": 17}, "Much", caption="C.", label="tokens", logarithmic=logarithmic
        )
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


def amounts(values: Any, **options: Any) -> None:
    plots.amounts(values, "T", caption="C.", label="L", **options)


def curve(lines: Any, **options: Any) -> None:
    plots.curve(lines, "T", caption="C.", labels=("x", "y"), **options)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: amounts({}), "amounts: there is nothing to show"),
        (lambda: curve({"a": []}), "curve: there is nothing to show for 'a'"),
        (lambda: plots.dots({"a": []}, "T", caption="", label=""), "nothing to show for 'a'"),
        (lambda: plots.shares({"g": {}}, "T", caption=""), "shares: there is nothing to show"),
        (lambda: plots.table([["a"]], ["x", "y"]), r"\['a'\] has 1 entries for 2 columns"),
        (lambda: plots.table([["a"]], ["x"], widths=[1, 2]), "has 2 entries for 1 columns"),
        (lambda: plots.side_by_side({}), "same prompts"),
        (
            lambda: plots.side_by_side({"a": [answer("x")], "b": [answer("x"), answer("y")]}),
            "same prompts",
        ),
    ],
)
def test_what_can_not_be_drawn_is_refused(draw: Any, message: str, shown: list) -> None:
    with pytest.raises(DataError, match=message):
        draw()
    assert shown == []


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"a": 0.0, "b": 0.05, "c": 5}, "a: 0; b: 0.05; c: 5"),
        ({"a": math.nan, "b": math.inf}, "a: not a number; b: infinite"),
    ],
)
def test_odd_amounts_are_drawn_without_a_warning(
    values: Any, told: str, logarithmic: bool, shown: list
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amounts(values, logarithmic=logarithmic)
    assert f"Bar chart. T. {told}." in shown[0][0]["text/plain"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of each picture of measured numbers, which are not displayed."""
    kept: list[Any] = []

    def keep(figure: Any, caption: str, alt: str) -> None:
        figure.canvas.draw()
        kept.append(figure.axes[0])

    monkeypatch.setattr("llmcourse.plots.measured.show", keep)
    return kept


def test_shares_end_at_100_percent_and_amounts_find_their_place(figures: list) -> None:
    plots.shares({"": {"base": Share(24, 24)}}, "T", caption="C.")
    amounts({"a": -3, "b": 5})
    amounts({"a": 0.01, "b": 0, "c": 20}, logarithmic=True)
    assert [axes.get_xlim() for axes in figures[:2]] == [(0, 1), (-3.75, 6.25)]
    low, high = figures[2].get_xlim()
    assert low < 0.01 and high > 20
    assert all(label.xy[0] >= low for label in figures[2].texts)


def test_a_single_point_is_seen_and_every_line_is_named(figures: list) -> None:
    curve({"_a": [(1, 2.0)], "b": [(1, math.nan), (2, 3.0), (3, 2.0)]})
    single, line = figures[0].lines
    assert single.get_marker() == "o" and line.get_marker() != "o"
    assert [text.get_text() for text in figures[0].get_legend().get_texts()] == ["_a", "b"]


FORMULAS = r"costs $5 or $6, $\nonsense$ _x \b"


def test_labels_are_drawn_as_they_are(figures: list) -> None:
    amounts({"$5": 1, r"a\$b": 2, "a\x00b": 3, "two\nlines": 4})
    ticks = [label.get_text() for label in figures[0].get_yticklabels()]
    assert ticks == [r"\$5", r"a\\$b", "a�b", "two\nlines"]  # matplotlib's own way to write "$"


def test_a_caption_is_plain_text(shown: list) -> None:
    for caption in ("", None):
        plots.table([["a"]], ["x"], caption=caption)
    assert len(shown) == 2
    bad = "a *b* _c_ `d` [e](f) <script> ~~g~~ | & $h$ \\(i\\)\n\nnew"
    plots.table([["a"]], ["x"], caption=bad)
    said = shown[-1][0].data
    assert said.startswith("*a &#42;b&#42; &#95;c&#95;") and said.endswith("new*")
    assert not set("_`[]~|$\\\n") & set(said) and "<script" not in said and said.count("*") == 2
    plots.table([["a"]], ["x"], caption='Table. It\'s 50 % (3 of 6); "■": done.')
    assert shown[-1][0].data == '*Table. It\'s 50 % (3 of 6); "■": done.*'


def test_a_table_has_no_formulas(shown: list) -> None:
    plots.table([["costs $5", "or $6"]], ["x", 2])
    plots.table([["costs 5", "or 6"]], ["x", 2])
    with_signs, without = (data["text/html"] for data, _ in shown)
    assert with_signs.startswith('<div class="tex2jax_ignore mathjax_ignore"><table>')
    assert without.startswith("<table>") and without.endswith("</table>")


def test_of_many_labels_the_most_frequent_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    module = sys.modules["llmcourse.plots.inspection"]  # the package's name is the function
    monkeypatch.setattr(module, "show", lambda *_: None)
    monkeypatch.setattr(module, "table", lambda rows, *_, **__: kept.extend(rows))
    rows = [
        {"question": f"Where is shelf {n}?", "answer": f"In hall {n * n}.", "hall": f"hall {n % 7}"}
        for n in range(60)
    ]
    plots.inspection(data.inspect(data.load_records(rows)))
    assert [row[1:3] for row in kept[:5]] == [[f"hall {n}", "9"] for n in (0, 1, 2, 3)] + [
        ["hall 4", "8"]
    ]
    assert [row[1:] for row in kept[5:]] == [["2 others", "16", "26.7 %"]]
