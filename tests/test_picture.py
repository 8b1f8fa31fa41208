"""The README's opening picture: all of it comes from a run, whatever a model wrote."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from experiments import picture
from llmcourse import models, tiers
from llmcourse.company import desk
from llmcourse.finetuning import Config
from llmcourse.stats import Score
from tests.pictures import crossed, misplaced, strange_colours, texts

ANSWERS = {
    "usual": "The lamp turns itself off after 85 minutes.",
    "long": "It goes on and on, and then it goes on. " * 20,
    "one word": "W" * 300,
    "nothing": " \n ",
    "signs": '$x_1$ <script> & "quoted" \\frac{1}{2} [link](x) \x00',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_it_holds_whatever_was_written(name: str) -> None:
    text = ANSWERS[name]
    question = "How long is it? " * 30 if name == "long" else "How long does the lamp shine?"
    shares = Score(0.0, 0.0, 0.2, 20), Score(1.0, 0.8, 1.0, 20)
    machine = "128 cores, no GPU"
    found = picture.Found("Gemma 3 270M", question, text, text, *shares, 60, 84.2, machine)
    figure = picture.draw(found)
    assert misplaced(figure) == [] and crossed(figure) == [] and strange_colours(figure) == set()
    shown = " ".join(text.get_text() for text in texts(figure))
    assert "1 min 24 s" in shown and "100 %" in shown
    page = ET.fromstring(picture.svg(found))
    assert page.attrib["role"] == "img"
    assert "in 20 unseen messages: 0 % before, 100 % after." in page.attrib["aria-label"]


def test_its_numbers_are_measured(
    tiny: models.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "SCHEMA", "JSON:")  # the tiny model reads few tokens
    found = picture.measure(tiny, tiers.TIERS["smoke"], Config(steps=1))
    assert found.message == desk.records("test")[0]["question"]  # a random model learns nothing
    assert found.right_before == found.right_after and found.right_after.mean == 0
    assert found.records == 6 and found.seconds > 0
    assert found.model == tiny.title and "no GPU" in found.machine


def test_it_is_written_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    scores = Score(0.25, 0.1, 0.5, 4), Score(0.75, 0.5, 0.9, 4)
    found = picture.Found("M", "Why [so]?", "a", "b", *scores, 9, 5.0, "2 cores")
    asked = []
    monkeypatch.setattr(picture.models, "load", lambda name: asked.append(name))
    monkeypatch.setattr(picture, "measure", lambda base, size: found)
    picture.main(["--out", str(tmp_path / "x.svg")])
    assert asked == ["gemma-3-270m"]
    assert (tmp_path / "x.svg").read_text("utf-8").startswith("<?xml")
    said = capsys.readouterr().out
    assert "of this message: Why (so)? Before training it writes: a After 5 s" in said
