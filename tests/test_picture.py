"""The README's opening picture: all of it comes from the published run, whatever was written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments import picture
from experiments.run import SIZES, Run
from llmcourse.company import desk
from llmcourse.stats import Score
from tests.conftest import ROOT
from tests.pictures import crossed, misplaced, strange_colours, texts

RIGHT = dict(zip(desk.FIELDS, ("FW-1-A", "Ambra", None, "high", "refund"), strict=True))
ANSWERS = {
    "right": json.dumps(RIGHT),
    "a field too few, one too long": json.dumps({"order": "W" * 300}),
    "long": "It goes on and on, and then it goes on. " * 20,
    "one word": "W" * 300,
    "nothing": " \n ",
    "signs": '$x_1$ <script> & "quoted" \\frac{1}{2} [link](x) \x00',
}


@pytest.mark.parametrize("name", ANSWERS)
def test_it_holds_whatever_was_written(name: str) -> None:
    text = ANSWERS[name]
    message = "Where is my kettle? " * 30 if name == "long" else "Where is my kettle?"
    right = dict.fromkeys(picture.ARMS, Score(0.0, 0.0, 0.2, 20)) | {"tuned": Score(1, 0.8, 1, 20)}
    found = picture.Found("A model", message, json.dumps(RIGHT), text, text, right, 500)
    figure = picture.draw(found)
    assert misplaced(figure) == [] and crossed(figure) == [] and strange_colours(figure) == set()
    shown = " ".join(text.get_text() for text in texts(figure))
    assert "500 messages" in shown and "100 %" in shown
    assert ("✓" in shown) == (name == "right")
    page = ET.fromstring(picture.svg(found))
    assert page.attrib["role"] == "img"
    assert "five examples 0 %, rules 0 %, tuned 100 %." in page.attrib["aria-label"]


def test_it_is_drawn_from_the_kept_answers_and_the_readme_says_so(
    tmp_path: Path, capsys: Any
) -> None:
    picture.main(["--out", str(tmp_path / "opening.svg")])
    line = capsys.readouterr().out.splitlines()[-1].replace("(opening.svg)", "(docs/opening.svg)")
    assert line in (ROOT / "README.md").read_text("utf-8")
    kept = Run(tmp_path, replace(SIZES["published"], seeds=1), answers=picture.ANSWERS)
    found = picture.published(kept)
    assert desk.scores(found.tuned, json.loads(found.answer))["all right"] == 1
    assert desk.scores(found.few_shot, json.loads(found.answer))["all right"] == 0
