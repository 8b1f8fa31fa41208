"""Every lesson runs in JupyterLab from the first cell to the last, and can be looked at."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Page, expect

from llmcourse import notebooks
from tests.browser import driving
from tests.browser.conftest import AXE, DESKTOP, LAPTOP, SHOTS, Lab
from tests.conftest import ROOT

LESSONS = [path.stem for path in notebooks.find(ROOT / "notebooks")]
# What the lessons put on the page. All else is JupyterLab's own: menus, editors, prompts.
OURS = [".jp-RenderedMarkdown", ".jp-OutputArea-output"]
# So are the signs behind headings that are seen only under the mouse.
NOT_OURS = [".jp-InternalAnchorLink"]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_and_looks_right(lab: Lab, page: Page, name: str) -> None:
    shutil.rmtree(SHOTS / name, ignore_errors=True)
    driving.open_notebook(page, lab.link(f"{name}.ipynb"))
    driving.run_all(page, seconds=600)
    saved = driving.save(page, lab.folder / f"{name}.ipynb")
    code = [cell for cell in saved.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert len(outputs) > 5
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [o for o in outputs if any("image/" in mime for mime in o.get("data", {}))]
    assert pictures and page.locator(".jp-OutputArea-output :is(img, svg)").count() >= len(pictures)
    assert driving.screens(page, SHOTS / name / "desktop") > 2
    page.set_viewport_size(LAPTOP)
    assert driving.screens(page, SHOTS / name / "laptop") > 2
    page.set_viewport_size(DESKTOP)
    found = driving.violations(page, AXE, OURS, NOT_OURS)
    driving.theme(page, "JupyterLab Dark")
    found += driving.violations(page, AXE, OURS, NOT_OURS)
    assert driving.screens(page, SHOTS / name / "dark") > 2
    assert not found, "\n".join(found)


def test_links_reach_the_documents(lab: Lab, page: Page) -> None:
    driving.open_notebook(page, lab.link("00_start_here.ipynb"))
    page.get_by_role("link", name="docs/troubleshooting.md").click()
    shown = page.locator(".jp-FileEditor:visible, .jp-MarkdownViewer:visible")
    expect(shown).to_contain_text("doctor", timeout=30_000)
