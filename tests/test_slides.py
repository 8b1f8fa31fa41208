"""The slides have the lessons' own pictures, with their alternative texts, and notes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from classroom import slides
from llmcourse.errors import NotebookError
from tests.conftest import ROOT

MARP = ROOT / "build" / "marp" / "node_modules" / ".bin" / "marp"


def test_every_link_to_a_lesson_becomes_its_picture() -> None:
    text = slides.DECK.read_text(encoding="utf-8")
    deck = slides.with_pictures(slides.DECK)
    links = slides.LINK.findall(text)
    assert len(links) > 9 and "[picture]" not in deck
    images = BeautifulSoup(deck, "html.parser")("img")
    for image, (_, begin) in zip(images, links, strict=True):
        assert image["alt"].startswith(begin.replace('\\"', '"'))
        assert re.match("data:image/(svg.xml|png);base64,[A-Za-z0-9+/]{1000}", image["src"])
    # each slide says something, and the speaker knows what to say
    for slide in text.split("\n---\n")[2:]:
        assert re.search("^#", slide, re.MULTILINE) and "<!--" in slide


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "01_x.ipynb")
    deck = tmp_path / "deck.md"
    deck.write_text('[picture](01_x.ipynb "Bar \\"chart\\"")\n', encoding="utf-8")
    with pytest.raises(NotebookError, match="01_x.ipynb has no picture .* 'Bar \"chart\"'"):
        slides.with_pictures(deck)


@pytest.mark.skipif(not MARP.exists(), reason="needs Marp: make slides installs it (npm)")
def test_the_page_works_offline_and_keeps_texts_and_notes(tmp_path: Path) -> None:
    deck, page = tmp_path / "slides.md", tmp_path / "slides.html"
    subprocess.run([sys.executable, "-m", "classroom.slides", deck], cwd=ROOT, check=True)
    config = ROOT / "classroom" / "marp.json"
    command = [shutil.which(MARP) or MARP, "--config-file", config, deck, "-o", page]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    html = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    wanted = BeautifulSoup(slides.with_pictures(slides.DECK), "html.parser")("img")
    assert [image["alt"] for image in html("img")] == [image["alt"] for image in wanted]
    for tag in html(["img", "script", "link", "iframe"]):
        assert not re.match("https?:", tag.get("src") or tag.get("href") or "")
    assert not re.search(r"url\(.?https?:|@import", "".join(style.text for style in html("style")))
    notes = [note.text for note in html(class_="bespoke-marp-note")]
    assert len(notes) == len(html("section", {"data-marpit-pagination": True}))
    assert "The thin line is the interval" in " ".join(notes)
