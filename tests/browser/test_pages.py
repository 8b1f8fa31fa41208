"""The site in a browser: found by search, read with the keyboard alone, usable by everyone."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import driving
from tests.browser.conftest import AXE, LAPTOP, SHOTS
from tests.conftest import ROOT

PHONE = {"width": 390, "height": 844}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's files, built by `make site`'s command."""
    out = tmp_path_factory.mktemp("site") / "made"
    subprocess.run([sys.executable, "tools/build_site.py", "--out", str(out)], cwd=ROOT, check=True)
    return out


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    """The site's address on this machine."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_shuts_anyone_out(page: Page, site: str, folder: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    assert len(names) > 25
    found = {}
    for name in names:
        page.goto(f"{site}/{name}")
        found[name] = driving.violations(page, AXE, ["html"], [])
        target = SHOTS / "site" / scheme / f"{name.replace('/', '-')}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target)
    told = [f"{name}: {line}" for name, lines in found.items() for line in lines]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_no_page_is_wider_than_the_screen(
    page: Page, site: str, folder: Path, size: dict[str, int]
) -> None:
    page.set_viewport_size(size)
    wide = []
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder).as_posix()
        page.goto(f"{site}/{name}")
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(name)
    assert not wide
    for name in ("index", "ledger", "notebooks/05_training"):
        page.goto(f"{site}/{name}.html")
        target = SHOTS / "site" / f"{size['width']}" / f"{name.replace('/', '-')}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target, full_page=True)


def test_search_finds_a_lesson_with_the_keyboard_alone(page: Page, site: str) -> None:
    page.goto(site)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "q":
            break
    page.keyboard.type("perplexity")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    links = page.locator("#search-results li a")
    assert "06 · Evaluation" in links.all_inner_texts()
    links.first.focus()
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    assert "perplexity" in page.locator("article").inner_text().lower()


def test_the_keyboard_opens_a_lesson_and_scrolls_its_code(page: Page, site: str) -> None:
    page.goto(site)
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if seen[-1].startswith("00 · "):
            assert outline != "none"
            break
    assert seen[-1].startswith("00 · "), seen
    page.keyboard.press("Enter")
    page.wait_for_url("**/00_start_here.html")
    page.set_viewport_size(PHONE)
    scrolled = page.evaluate(
        "Array.from(document.querySelectorAll('pre')).find(p => p.scrollWidth > p.clientWidth)"
        "?.focus()"
    )
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    scrolled = page.evaluate("document.activeElement.scrollLeft")
    assert scrolled > 0
