"""Pictures carry captions and alternative text; what a model wrote is escaped everywhere."""

from __future__ import annotations

import base64
import re
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup

from llmcourse import models, plots
from llmcourse.encoding import encode
from llmcourse.errors import ClaimError, DataError, SettingError
from llmcourse.generation import Answer
from llmcourse.stats import Share

BAD = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict]]:
    """What was displayed: (data, metadata)."""
    kept: list[tuple[Any, dict]] = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, metadata=None, raw=False: kept.append((data, metadata or {})),
    )
    return kept


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of each picture of measured numbers, which are not displayed."""
    kept: list[Any] = []

    def keep(figure: Any, caption: str, alt: str) -> None:
        figure.canvas.draw()
        kept.append(figure.axes[0])

    monkeypatch.setattr("llmcourse.plots.measured.show", keep)
    return kept


def answer(text: str, finished: bool = True, prompt: str = "Why?") -> Answer:
    return Answer(prompt, prompt, text, finished, 3, 4, 0.1)


def amounts(values: Any, **options: Any) -> None:
    plots.amounts(values, "T", caption="C.", label="L", **options)


def curve(lines: Any, **options: Any) -> None:
    plots.curve(lines, "T", caption="C.", labels=("x", "y"), **options)


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
def test_diagrams_are_vector_and_carry_their_words(
    live: bool, shown: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots.base, "is_live", lambda: live)
    plots.lesson_map("03")
    plots.lesson_map("03")
    (data, metadata), (caption, _), again, _ = shown
    assert again[0] == data, "the same at every run"
    svg, alt = ET.fromstring(data["image/svg+xml"]), metadata["image/svg+xml"]["alt"]
    assert svg.attrib["aria-label"] == alt == data["text/plain"] and len(alt) > 80
    assert svg.attrib["role"] == "img" and metadata["image/png"] == metadata["image/svg+xml"]
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")  # where no SVG is shown
    assert caption.data.startswith("*Figure. ")
    assert ("text/html" in data) == live, "a saved lesson holds each picture once"
    assert not live or BeautifulSoup(data["text/html"], "html.parser").img["alt"] == alt


def test_an_axis_of_shares_ends_at_100_per_cent(figures: list) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.shares({"": {"base": Share(24, 24)}}, "T", caption="C.")
    assert figures[0].get_xlim() == (0, 1)


def test_charts_say_their_numbers_in_words(shown: list) -> None:
    plots.shares({"ends": {"base": Share(0, 4), "chat": Share(3, 4)}}, "Who ends?", caption="C.")
    plots.dots({"base": [0.5, 1.0]}, "Circles", caption="C.", label="share")
    curve({"tuned": [(1, 3.0), (9, 0.5)]}, level=("knows nothing", 4.4))
    amounts({"a": 6e12, "b": 17, "c": 0})
    memory = {"full": {"weights": 4, "moments": 8, "none": 0}, "LoRA": {"weights": 2}}
    plots.stacked(memory, "Memory", caption="C.", label="GB")
    wanted = (
        "ends chat: 75 % (3 of 4",
        "base: mean 0.75, from 0.50 to 1.00",
        "tuned: from 3.00 at 1 to 0.50 at 9; thin line, knows nothing: 4.40",
        "a: 6 trillion; b: 17; c: 0.",
        "full: 12 (weights 4, moments 8); LoRA: 2 (weights 2, moments 0)",
    )
    for words, (bundle, metadata) in zip(wanted, shown[::2], strict=True):
        assert words in metadata["image/png"]["alt"] == bundle["text/plain"]
    assert all(caption.data == "*C.*" for caption, _ in shown[1::2])


def test_what_can_not_be_drawn_is_refused(shown: list) -> None:
    nothing = {"caption": "", "label": ""}
    for draw in (
        lambda: amounts({}),
        lambda: plots.shares({"g": {}}, "T", caption=""),
        lambda: plots.stacked({}, "T", **nothing),
    ):
        with pytest.raises(DataError, match="nothing to show"):
            draw()
    for columns in ({}, {"a": [answer("x")], "b": [answer("x", prompt="Who?")]}):
        with pytest.raises(DataError, match="same prompts"):
            plots.side_by_side(columns)
    with pytest.raises(SettingError, match="lesson='99'"):
        plots.lesson_map("99")
    assert shown == []


# --- tables ---------------------------------------------------------------------------------------


def test_what_a_model_wrote_is_escaped_and_marked(shown: list) -> None:
    texts = [answer("done"), answer("cut", finished=False), answer(""), answer("x" * 900)]
    plots.side_by_side({"base": texts})
    page = shown[0][0]["text/html"]
    assert "done ■" in page and "cut …" in page and "(nothing) ■" in page and "x […]" in page
    plots.side_by_side({f"base {BAD}": [answer(BAD, prompt=BAD)]})
    page = shown[1][0]["text/html"]
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert BAD in shown[1][0]["text/plain"]
    plots.table([["costs $5", "or $6"]], ["x", 2])
    assert shown[2][0]["text/html"].startswith('<div class="tex2jax_ignore mathjax_ignore"><table>')


def test_a_caption_is_plain_text(shown: list) -> None:
    for caption in ("", None):
        plots.table([["a"]], ["x"], caption=caption)
    assert len(shown) == 2
    bad = "a *b* _c_ `d` [e](f) <script> ~~g~~ | & $h$ \\(i\\)\n\nnew"
    plots.table([["a"]], ["x"], caption=bad)
    words = shown[-1][0].data
    assert words.startswith("*a &#42;b&#42; &#95;c&#95;") and words.endswith("new*")
    assert not set("_`[]~|$\\\n") & set(words) and "<script" not in words and words.count("*") == 2


# --- tokens ---------------------------------------------------------------------------------------

TALK = [
    {"question": "Why?", "answer": "So it is.\nYes"},
    {"question": f"Who {BAD}?", "answer": "A much longer answer:\t日本 🎉 & more."},
]


@pytest.fixture(scope="module")
def gemma() -> Any:
    return models.load_tokenizer("gemma-3-270m")


@pytest.fixture(scope="module")
def smol() -> Any:
    return models.load_tokenizer("smollm2-135m-instruct")


def boxes(page: str) -> list[tuple[str, str, str]]:
    """Each token's element, title and text."""
    return re.findall(r'<(\w+) style="[^"]*" title="([^"]*)">(.*?)</\1>', page)


def test_a_row_shows_what_is_trained_on(shown: list, gemma: Any) -> None:
    row = encode(TALK, gemma).dataset[0]
    plots.tokens(row, gemma, caption="Figure. A row.")
    (data, _), (caption, _) = shown
    assert caption.data == "*Figure. A row.*"
    assert data["text/plain"] == "<bos>### Question:\nWhy?\n\n### Answer:\n[So it is.\nYes]<eos>"
    found = boxes(data["text/html"])
    assert [title for _, title, _ in found] == [
        f"id {token}: {'prompt' if label == -100 else 'end' if token == 1 else 'completion'}"
        for token, label in zip(row["input_ids"], row["labels"], strict=True)
    ]
    assert [text for tag, _, text in found if tag == "b"] == ["So", "·it", "·is", ".", "⏎", "Yes"]
    assert ">end token, trained on</" in data["text/html"]
    assert "padding, ignored" not in data["text/html"]


def test_the_end_token_of_a_prompt_is_not_the_one_trained_on(shown: list, smol: Any) -> None:
    plots.tokens(encode(TALK, smol, "chat").dataset[0], smol)
    ends = [title for _, title, text in boxes(shown[0][0]["text/html"]) if "im_end" in text]
    assert ends == ["id 2: prompt", "id 2: prompt", "id 2: end"]


@pytest.mark.model
@pytest.mark.parametrize("name", ["gemma", "smol"])
def test_a_text_shows_tokens_and_ids_and_what_can_not_be_seen(
    name: str, shown: list, request: pytest.FixtureRequest
) -> None:
    tokenizer, text = request.getfixturevalue(name), "Hello  world\ntokenization 🎉"
    plots.tokens(text, SimpleNamespace(tokenizer=tokenizer))  # as a model has it
    data, ids = shown[0][0], tokenizer(text, add_special_tokens=False).input_ids
    plain, numbers, count = data["text/plain"].rsplit("\n", 2)
    assert numbers == " ".join(map(str, ids)) and count == f"{len(ids)} tokens, 27 characters"
    assert plain.startswith("Hello|") and plain.count("|") == len(ids) - 1
    assert re.findall(r"<small>(\d+)</small>", data["text/html"]) == list(map(str, ids))
    assert "·world" in data["text/html"] or "··" in data["text/html"]
    assert "⏎" in data["text/html"] and "\n" not in data["text/html"]
    plots.tokens(f"a\x00b\x1b[1m\x7f{BAD}", tokenizer)
    page = shown[1][0]["text/html"]
    assert all(sign in page for sign in "␀␛␡") and not re.search(r"[\x00-\x1f\x7f]", page)
    assert "<script" not in page


def test_a_lessons_numbers_stand_beside_the_published_ones(
    monkeypatch: pytest.MonkeyPatch, shown: list[tuple[Any, dict]]
) -> None:
    arms = {"tuned, natural": {"n": 100, "mean": 0.61, "low": 0.51, "high": 0.7}}
    found = {"arms": arms, "seeds": 3, "command": "python -m experiments paraphrases"}
    monkeypatch.setattr("llmcourse.claims.result", lambda claim: found)
    plots.beside(
        "paraphrases",
        {"tuned": "tuned, natural"},
        {"tuned": Share(14, 40)},
        title="Facts right",
        caption="Figure.",
    )
    (_, metadata), (caption, _) = shown
    assert "tuned: published 61 % of 100, yours 35 % (14 of 40" in metadata["image/png"]["alt"]
    assert "3 seeds" in caption.data and "python -m experiments paraphrases" in caption.data


def test_a_claim_that_was_not_published_yet_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[tuple[Any, dict]]
) -> None:
    monkeypatch.setattr("llmcourse.claims.__file__", str(tmp_path / "claims.py"))
    plots.beside("lora", {"tuned": "tuned"}, title="T", caption="Figure.")
    [(caption, _)] = shown
    assert "python -m experiments lora" in caption.data
    plots.beside("lora", {"tuned": "tuned"}, {"tuned": 0.5}, title="T", caption="Figure.")
    _, (_, metadata), (caption, _) = shown
    assert "tuned: yours 50 %" in metadata["image/png"]["alt"]  # your numbers stand alone
    assert "not measured this yet" in caption.data
    with pytest.raises(ClaimError, match="There is no claim 'nothing'"):
        plots.beside("nothing", {}, title="", caption="")
