"""The notebooks as others show them: nbconvert, GitHub, Colab, VS Code. See test_notebooks too."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from llmcourse import notebooks
from tests.conftest import ROOT
from tests.test_notebooks import read

LESSONS = notebooks.find(ROOT / "notebooks")
ALL = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))
# Kinds that GitHub, Colab, VS Code and nbconvert all show; nothing here needs a front end.
KINDS = {"text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml"}


def shown(path: Path) -> list[nbformat.NotebookNode]:
    """The outputs that are displayed, in order."""
    outputs = [output for cell in read(path).cells for output in cell.get("outputs", [])]
    return [o for o in outputs if o.output_type in ("display_data", "execute_result")]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
class TestEveryNotebook:
    def test_metadata_is_the_same_wherever_it_was_saved(self, path: Path) -> None:
        notebook = read(path)
        assert set(notebook.metadata) == {"kernelspec", "language_info", "llmcourse"}
        assert set(notebook.metadata.language_info) == {"name"}  # the version is one machine's
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags"}, cell.metadata  # no times, no editor's marks
        ids = [cell.id for cell in notebook.cells]
        assert len(set(ids)) == len(ids)

    def test_outputs_need_no_front_end(self, path: Path) -> None:
        for output in shown(path):
            assert set(output.data) <= KINDS, set(output.data) - KINDS
            assert output.data.get("text/plain"), "a viewer without HTML shows nothing"
            page = output.data.get("text/html", "") + output.data.get("image/svg+xml", "")
            page = page.replace('<style type="text/css">', "")  # every drawing has one
            assert not re.search(r"<(script|iframe|style|object|form)[ >]", page)
            assert not re.search(r"\b(src|xlink:href)\s*=\s*.https?:", page), "loads from elsewhere"
            assert not re.search(r"\son\w+\s*=", page)


@pytest.mark.parametrize("path", LESSONS[::4], ids=lambda path: path.stem)
def test_a_page_of_html_has_everything(path: Path) -> None:
    page = notebooks.html_page(read(path))
    soup = BeautifulSoup(page, "html.parser")
    text, outputs = soup.get_text(), shown(path)
    assert not soup.select('[data-mime-type*="stderr"], [data-mime-type*="widget"]')
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                assert output.text.strip().splitlines()[0].strip() in text
    words = [dict.fromkeys(kind["alt"] for kind in o.metadata.values() if kind) for o in outputs]
    pictures = soup.select(".jp-OutputArea-output img")
    assert [picture["alt"] for picture in pictures] == [alt for alts in words for alt in alts]
    assert all(picture["src"].startswith("data:") for picture in pictures)
    headings = [found.get_text().rstrip("¶") for found in soup.select("h1, h2")]
    written = [
        line.lstrip("# ")
        for cell in read(path).cells
        if cell.cell_type == "markdown"
        for line in re.findall(r"^##? .*", cell.source, flags=re.M)
    ]
    assert headings == written
