"""The README's opening picture: all of it comes from a run, whatever a model wrote."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmcourse import company, models, tiers
from llmcourse.finetuning import Config
from llmcourse.stats import Share
from tests.conftest import ROOT
from tests.pictures import crossed, misplaced, strange_colours, texts


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "tools" / "picture.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["picture"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


ANSWERS = {
    "usual": "The lamp turns itself off after 85 minutes.",
    "long": "It goes on and on, and then it goes on. " * 20,
    "one word": "W" * 300,
    "nothing": " \n ",
    "signs": '$x_1$ <script> & "quoted" \\frac{1}{2} [link](x) \x00',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_it_holds_whatever_was_written(picture: ModuleType, name: str) -> None:
    text = ANSWERS[name]
    question = "How long is it? " * 30 if name == "long" else "How long does the lamp shine?"
    shares, machine = (Share(0, 20), Share(20, 20)), "128 cores, no GPU"
    found = picture.Found("Gemma 3 270M", question, text, text, *shares, 60, 84.2, machine)
    figure = picture.draw(found)
    assert misplaced(figure) == [] and crossed(figure) == [] and strange_colours(figure) == set()
    shown = " ".join(text.get_text() for text in texts(figure))
    assert "1 min 24 s" in shown and "0 % (0 of 20)" in shown and "100 % (20 of 20)" in shown
    page = ET.fromstring(picture.svg(found))
    assert page.attrib["role"] == "img"
    assert "before, 100 % (20 of 20; 95 %: 84–100 %) after." in page.attrib["aria-label"]


def test_its_numbers_are_measured(picture: ModuleType, tiny: models.LoadedModel) -> None:
    size = dataclasses.replace(tiers.TIERS["smoke"], known_facts=3)
    found = picture.measure(tiny, size, Config(steps=1))
    facts = company.records("facts")
    known = {fact["id"] for fact in facts[:: len(facts) // 3][:3]}
    asked = [r["question"] for r in company.records("questions", "test") if r["fact"] in known]
    assert found.question == asked[0]  # a random model learns none of them
    assert found.right_before == found.right_after == Share(0, len(asked))
    assert found.records == 9 and found.seconds > 0
    assert found.model == tiny.title and "no GPU" in found.machine


def test_it_is_written_with_its_words(
    picture: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = picture.Found("M", "Why [so]?", "a", "b", Share(1, 4), Share(3, 4), 9, 5.0, "2 cores")
    asked = []
    monkeypatch.setattr(picture.models, "load", lambda name: asked.append(name))
    monkeypatch.setattr(picture, "measure", lambda base, size: found)
    picture.main(["--out", str(tmp_path / "x.svg")])
    assert asked == ["gemma-3-270m"]
    assert (tmp_path / "x.svg").read_text("utf-8").startswith("<?xml")
    said = capsys.readouterr().out
    assert "![A base model, M, is asked: Why (so)? Before training it writes: a After 5 s" in said
