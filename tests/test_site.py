"""The site is built without a warning, holds together, is light, and has nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from bs4 import BeautifulSoup

from llmcourse import claims, notebooks
from tests.conftest import ROOT

pytest.importorskip("myst_nb", reason="pip install -r requirements-site.txt")
LESSONS = [path.stem for path in notebooks.find(ROOT / "notebooks")]
LIMIT = 2_000_000  # bytes of a page with all that it shows


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it."""
    out = tmp_path_factory.mktemp("site") / "made"
    done = subprocess.run(
        [sys.executable, "tools/build_site.py", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    """Every page, parsed."""
    return {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted(site.rglob("*.html"))
    }


def local(page: Path, link: str) -> Path | None:
    """The file that a link of `page` leads to; None where it leads to another machine."""
    if re.match(r"[a-z]+:", link):
        return None
    name = unquote(urldefrag(link)[0].split("?")[0])
    return (page.parent / name).resolve() if name else page


def loaded(page: Path, soup: BeautifulSoup) -> Iterator[str]:
    """The addresses of what a browser gets to show `page`."""
    for element in soup.find_all(["script", "img", "iframe", "source", "video"], src=True):
        yield element["src"]
    for element in soup.find_all("link", href=True):
        if set(element.get("rel", [])) & {"stylesheet", "icon", "preload"}:
            yield element["href"]


def test_every_lesson_and_document_has_a_page_with_its_title(
    pages: dict[Path, BeautifulSoup], site: Path
) -> None:
    wanted = {f"notebooks/{name}" for name in LESSONS}
    wanted |= {f"notebooks/solutions/{name}_solutions" for name in LESSONS}
    more = (ROOT / "notebooks" / "more").glob("*.ipynb")
    wanted |= {f"notebooks/more/{path.stem}" for path in more}
    wanted |= {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")}
    wanted |= {"index", "ledger", "search"}
    there = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    assert wanted <= there
    for name in LESSONS:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        heading = cells[0].source.splitlines()[0].removeprefix("# ")
        soup = pages[site / "notebooks" / f"{name}.html"]
        assert soup.title.get_text().startswith(heading)
        assert soup.find("h1").get_text().startswith(heading)
    titles = [soup.title.get_text() for soup in pages.values()]
    assert len(set(titles)) == len(titles)


def test_every_page_is_light_and_loads_nothing_from_elsewhere(
    pages: dict[Path, BeautifulSoup],
) -> None:
    for path, soup in pages.items():
        weight, links = path.stat().st_size, list(loaded(path, soup))
        assert len(links) > 3, path.name
        for link in links:
            if not link.startswith("data:"):
                file = local(path, link)
                assert file is not None, f"{path.name} loads {link}"
                weight += file.stat().st_size
        assert weight < LIMIT, f"{path.name}: {weight} bytes"


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, BeautifulSoup]) -> None:
    marks = {
        path: {element["id"] for element in soup.find_all(id=True)} for path, soup in pages.items()
    }
    checked = 0
    for path, soup in pages.items():
        for element in soup.find_all("a", href=True):
            target, mark = local(path, element["href"]), urldefrag(element["href"])[1]
            if target is None:
                assert element["href"].startswith(("https://", "mailto:")), element["href"]
                continue
            assert target.is_file(), f"{path.name}: {element['href']}"
            if mark and target in marks:
                assert unquote(mark) in marks[target], f"{path.name}: {element['href']}"
            checked += 1
    assert checked > 300


def test_every_picture_of_a_lesson_is_there_with_its_words(
    pages: dict[Path, BeautifulSoup], site: Path
) -> None:
    for path, soup in pages.items():
        for image in soup.find_all("img"):
            assert image.get("alt"), f"{path.name}: {image}"
    for name in LESSONS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        told = [
            [
                found["alt"]
                for mime, found in output.get("metadata", {}).items()
                if mime.startswith("image/")
            ]
            for output in outputs
        ]
        assert all(len(set(words)) == 1 for words in told if words)  # an SVG and the PNG beside it
        wanted = [words[0] for words in told if words]
        shown = pages[site / "notebooks" / f"{name}.html"].find_all("img", class_="picture")
        assert [image["alt"] for image in shown] == wanted and wanted
        assert all(int(image["width"]) > 100 < int(image["height"]) for image in shown)


def test_outputs_and_ledger_are_those_saved(pages: dict[Path, BeautifulSoup], site: Path) -> None:
    for name in LESSONS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        text = pages[site / "notebooks" / f"{name}.html"].get_text()
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                for line in output.get("text", "").splitlines()[:1]:
                    assert line.strip() in text, f"{name}: {line}"
    text = pages[site / "ledger.html"].get_text()
    for claim in claims.read(path=ROOT / "llmcourse" / "ledger-cpu.json"):
        assert claims.CLAIMS[claim].text in text


def test_there_is_nothing_of_one_machine(site: Path) -> None:
    traces = [str(ROOT), str(Path.home()), "/home/", "/root/", "/Users/", "/tmp/", "C:\\Users"]
    for path in [*site.rglob("*.html"), *site.rglob("*.js"), *site.rglob("*.svg")]:
        text = unescape(path.read_text(encoding="utf-8"))
        for trace in traces:
            assert trace not in text, f"{path.name}: {trace}"
