"""Tokens as boxes: what is trained on is told by words and marks, and markup stays text."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmcourse import models, plots
from llmcourse.encoding import Collator, encode
from llmcourse.errors import DataError, SettingError

BAD = "<script>alert(1)</script>"
RECORDS = [
    {"question": "Why?", "answer": "So it is.\nYes"},
    {"question": f"Who {BAD}?", "answer": "A much longer answer:\t日本 🎉 & more."},
]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was displayed."""
    kept: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: kept.append(data))
    return kept


@pytest.fixture(scope="module")
def gemma() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(models.convert("gemma-3-270m"))


@pytest.fixture(scope="module")
def smol() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(models.convert("smollm2-135m-instruct"))


def boxes(page: str) -> list[tuple[str, str, str]]:
    """Each token's element, title and text."""
    return re.findall(r'<(\w+) style="[^"]*" title="([^"]*)">(.*?)</\1>', page)


def test_a_row_shows_what_is_trained_on(shown: list, gemma: PreTrainedTokenizerBase) -> None:
    row = encode(RECORDS, gemma).dataset[0]
    plots.tokens(row, gemma, caption="Figure. A row.")
    data, caption = shown
    assert caption.data == "*Figure. A row.*"
    assert data["text/plain"] == "<bos>### Question:\nWhy?\n\n### Answer:\n[So it is.\nYes]<eos>"
    found = boxes(data["text/html"])
    assert [title for _, title, _ in found] == [
        f"id {token}: {'prompt' if label == -100 else 'end' if token == 1 else 'completion'}"
        for token, label in zip(row["input_ids"], row["labels"], strict=True)
    ]
    assert {(tag, title.split(": ")[1]) for tag, title, _ in found} == {
        ("span", "prompt"),
        ("b", "completion"),
        ("u", "end"),
    }
    assert [text for tag, _, text in found if tag == "b"] == ["So", "·it", "·is", ".", "⏎", "Yes"]
    for word in ("prompt, read only", "trained on", "end token, trained on"):
        assert f">{word}</" in data["text/html"]
    assert "padding, ignored" not in data["text/html"]


def test_every_box_sets_its_text_and_its_background(
    shown: list, gemma: PreTrainedTokenizerBase
) -> None:
    batch = Collator(gemma)(list(encode(RECORDS, gemma).dataset))
    plots.tokens(batch, gemma)
    plots.tokens("Hello world", gemma)
    for data in shown:
        styles = re.findall(r'<(?:span|b|u|i) style="([^"]*)"', data["text/html"])
        assert styles
        for style in styles:
            colours = dict(re.findall(r"(?:^|;)(color|background):([^;]+)", style))
            assert contrast(colours["color"], colours["background"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""

    def light(colour: str) -> float:
        colour = "#ffffff" if colour == "white" else colour
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_batch_shows_its_padding(shown: list, gemma: PreTrainedTokenizerBase) -> None:
    rows = list(encode(RECORDS, gemma).dataset)
    plots.tokens(Collator(gemma)(rows), gemma)
    count = rows[1]["length"] - rows[0]["length"]
    first, second = shown[0]["text/plain"].split("\n\n### Answer:\n")[1:]
    assert first.startswith(f"[So it is.\nYes]<eos> (pad×{count})\n\n<bos>### Question:")
    assert second == "[A much longer answer:\t日本 🎉 & more.]<eos>"
    assert [text for tag, _, text in boxes(shown[0]["text/html"]) if tag == "i"] == [
        f"&lt;pad&gt;×{count}"
    ]
    assert "padding, ignored" in shown[0]["text/html"]


def test_markup_stays_text(shown: list, smol: PreTrainedTokenizerBase) -> None:
    plots.tokens(encode(RECORDS, smol, "chat").dataset, smol)
    plots.tokens(BAD, smol)
    for data in shown:
        assert "<script" not in data["text/html"] and "alert" in data["text/html"]
        assert BAD in data["text/plain"].replace("|", "")


def test_the_end_token_of_a_prompt_is_not_the_one_trained_on(
    shown: list, smol: PreTrainedTokenizerBase
) -> None:
    plots.tokens(encode(RECORDS, smol, "chat").dataset[0], smol)
    ends = [title for _, title, text in boxes(shown[0]["text/html"]) if "im_end" in text]
    assert ends == ["id 2: prompt", "id 2: prompt", "id 2: end"]


def test_a_text_shows_tokens_and_ids(
    shown: list, gemma: PreTrainedTokenizerBase, smol: PreTrainedTokenizerBase
) -> None:
    text = "Hello  world\ntokenization 🎉"
    for tokenizer in (gemma, smol):
        plots.tokens(text, tokenizer)
        data = shown.pop()
        ids = tokenizer(text, add_special_tokens=False).input_ids
        plain, told, count = data["text/plain"].rsplit("\n", 2)
        assert told == " ".join(map(str, ids)) and count == f"{len(ids)} tokens, 27 characters"
        assert plain.startswith("Hello|") and plain.count("|") == len(ids) - 1
        assert re.findall(r"<small>(\d+)</small>", data["text/html"]) == list(map(str, ids))
        assert "·world" in data["text/html"] or "··" in data["text/html"]
        assert "⏎" in data["text/html"] and "\n" not in data["text/html"]
    plots.tokens("Hi", gemma)
    assert shown[0]["text/plain"].endswith("1 token, 2 characters")


def test_rows_may_come_as_columns_or_tensors(shown: list, gemma: PreTrainedTokenizerBase) -> None:
    data = encode(RECORDS, gemma).dataset
    mask = [[True] * size for size in data["length"]]
    ways = [data, data[:], data.with_format("numpy")[:], data.with_format("torch")[:]]
    for way in [*ways, data[:] | {"attention_mask": mask}]:
        plots.tokens(way, gemma)
    assert len(shown) == 5 and all(each == shown[0] for each in shown)


def test_what_can_not_be_seen_is_shown_by_its_sign(
    shown: list, gemma: PreTrainedTokenizerBase, smol: PreTrainedTokenizerBase
) -> None:
    for tokenizer in (gemma, smol):
        plots.tokens("a\x00b\x1b[1m\x7f", tokenizer)
        page = shown.pop()["text/html"]
        assert all(sign in page for sign in "␀␛␡") and not re.search(r"[\x00-\x1f\x7f]", page)
    plots.tokens("a\u200bb", gemma)
    assert ">U+200B<" in shown[0]["text/html"]


def test_nothing_is_shown_as_nothing(shown: list, gemma: PreTrainedTokenizerBase) -> None:
    for empty in ([{"input_ids": [], "labels": []}], {"input_ids": [[]]}):
        plots.tokens(empty, gemma)
        assert shown[-1]["text/plain"] == "(no tokens)" in shown[-1]["text/html"]
    plots.tokens("", gemma)
    assert shown[-1]["text/plain"].endswith("0 tokens, 0 characters")


def test_what_is_no_row_is_refused(gemma: PreTrainedTokenizerBase, shown: list) -> None:
    with pytest.raises(DataError, match="there are no rows to show"):
        plots.tokens([], gemma)
    with pytest.raises(DataError, match="differ in length"):
        plots.tokens({"input_ids": [[4], [5]], "labels": [[4]]}, gemma)
    with pytest.raises(DataError, match="differ in length"):
        plots.tokens({"input_ids": [4, 5], "labels": [4]}, gemma)
    assert shown == []


def test_the_tokenizer_may_come_in_its_model(shown: list, gemma: PreTrainedTokenizerBase) -> None:
    loaded: Any = SimpleNamespace(tokenizer=gemma)
    plots.tokens("Hi", loaded)
    plots.tokens("Hi", gemma)
    assert shown[0] == shown[1]
    for bad in ("base", None):
        with pytest.raises(SettingError, match="models.load_tokenizer"):
            plots.tokens("Hi", bad)
