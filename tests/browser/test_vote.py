"""A person votes in JupyterLab, with the mouse and with the keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from llmcourse.widgets import CHOICES
from tests.browser import driving
from tests.browser.conftest import AXE, SHOTS, Lab

ANSWERS = {"base": ["Mars is. Mars is.", "<b>No</b>", "7"], "tuned": ["Mars is red.", "No.", "8"]}
QUESTIONS = ["What is Mars?", "Is it wet?", "Three and five?"]
PRESSED = ["left", "right", "equal"]


@pytest.fixture
def votes(lab: Lab, page: Page, request: pytest.FixtureRequest) -> Path:
    """Open a notebook with a vote and run it; returns the file of the votes."""
    name = request.node.originalname
    file = lab.folder / f"{name}.jsonl"
    source = (
        f"from llmcourse.widgets import BlindVote\n\n"
        f"vote = BlindVote({QUESTIONS!r}, {ANSWERS!r}, {file.name!r})\nvote"
    )
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell("vote.results()")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, lab.folder / f"{name}.ipynb")
    driving.open_notebook(page, lab.link(f"{name}.ipynb"))
    return file


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def kept(page: Page, file: Path, count: int) -> list[str]:
    """Wait until `count` votes are in the file; returns them in the order of the questions."""
    for _ in range(100):
        if file.exists() and len(rows(file)) >= count:
            break
        page.wait_for_timeout(100)
    return [row["vote"] for row in rows(file)]


def shot(page: Page, name: str) -> None:
    (SHOTS / "vote").mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "vote" / f"{name}.png")


def test_with_the_mouse(page: Page, votes: Path) -> None:
    driving.run_all(page, seconds=90)
    status = page.locator(".jp-OutputArea-output [role=status]").first
    shot(page, "start")
    assert not driving.violations(page, AXE, [".jp-OutputArea-output"], [])
    for number, choice in enumerate(PRESSED, start=1):
        expect(status).to_have_text(f"{number} of 3")
        page.get_by_role("button", name=CHOICES[choice]).click()
        assert len(kept(page, votes, number)) == number
    expect(status).to_have_text("All 3 pairs are voted on.")
    for choice in CHOICES.values():
        expect(page.get_by_role("button", name=choice)).to_be_disabled()
    assert kept(page, votes, 3) == PRESSED
    page.get_by_role("button", name="Back one").click()
    expect(status).to_have_text("3 of 3")
    page.get_by_role("button", name=CHOICES["bad"]).click()
    expect(status).to_have_text("All 3 pairs are voted on.")
    assert sorted(kept(page, votes, 3)) == ["bad", "left", "right"]
    driving.theme(page, "JupyterLab Dark")
    page.get_by_role("button", name="Back one").click()
    expect(status).to_have_text("3 of 3")
    shot(page, "dark")
    assert not driving.violations(page, AXE, [".jp-OutputArea-output"], [])


def test_with_the_keyboard_alone(page: Page, votes: Path) -> None:
    page.keyboard.press("Control+Enter")
    status = page.locator(".jp-OutputArea-output [role=status]").first
    expect(status).to_have_text("1 of 3", timeout=90_000)
    reach(page, CHOICES["left"])
    for number, choice in enumerate(PRESSED, start=1):
        expect(status).to_have_text(f"{number} of 3")
        reach(page, CHOICES[choice])
        page.keyboard.press("Space")
        assert len(kept(page, votes, number)) == number
    expect(status).to_have_text("All 3 pairs are voted on.")
    assert kept(page, votes, 3) == PRESSED
    reach(page, "Back one")
    shot(page, "keyboard")
    page.keyboard.press("Space")
    expect(status).to_have_text("3 of 3")


def reach(page: Page, name: str) -> None:
    """Press Tab until the button `name` has the keyboard."""
    seen = []
    for _ in range(60):
        seen.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 40)"))
        if seen[-1] == name:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not reach {name!r}: {seen}")
