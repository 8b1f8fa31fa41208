"""What a person does in JupyterLab: open, run all, wait, save, look."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Page

# JupyterLab's own model of the notebook on the page tells more than the page does.
STATE = """() => {
  const panel = window.jupyterapp?.shell.currentWidget;
  const cells = panel?.content?.model?.cells;
  if (!cells || !panel.isVisible) return null;
  const code = Array.from(cells).filter(cell => cell.type === 'code'
    && cell.sharedModel.getSource().trim());
  return {
    status: panel.sessionContext.session?.kernel?.status ?? 'none',
    cells: code.length,
    left: code.filter(cell => cell.executionCount === null).length,
    dirty: panel.context.model.dirty,
    errors: code.flatMap(cell => cell.sharedModel.getOutputs())
      .filter(output => output.output_type === 'error')
      .map(output => `${output.ename}: ${output.evalue}`),
  };
}"""


def wait(page: Page, what: str, good: Any, seconds: float) -> dict[str, Any]:
    """Wait until `good` is true of the notebook's state; an error in a cell ends it at once."""
    deadline, state = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        state = page.evaluate(STATE)
        if state and state["errors"]:
            pytest.fail(f"{what}: {state['errors'][0]}")
        if state and good(state):
            return state
        page.wait_for_timeout(300)
    return pytest.fail(f"{what}: not within {seconds} s; last seen: {state}")


def open_notebook(page: Page, link: str) -> None:
    """Open a notebook in the light theme and wait for its kernel."""
    page.goto(link)
    wait(page, "opening", lambda state: state["status"] == "idle", 90)
    theme(page, "JupyterLab Light")  # JupyterLab remembers the last one


def run_all(page: Page, seconds: float) -> None:
    """Use the menu Run, then Run All Cells, and wait for the last cell's end."""
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator('[data-command="runmenu:run-all"]').click()
    wait(page, "running", lambda s: s["left"] == 0 and s["status"] == "idle", seconds)


def save(page: Page, path: Path) -> nbformat.NotebookNode:
    """Press Control and S; returns what is in the file then."""
    page.keyboard.press("Control+s")
    wait(page, "saving", lambda state: not state["dirty"], 30)
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def theme(page: Page, name: str) -> None:
    """Change JupyterLab's theme, by the command that its menu calls."""
    change = "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
    page.evaluate(change, name)
    page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")
    page.wait_for_timeout(1000)  # the style sheet comes after the attribute


def screens(page: Page, folder: Path, limit: int = 60) -> int:
    """Scroll through the notebook and keep a picture of each screenful; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    outer = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer").first
    outer.evaluate("panel => panel.scrollTo(0, 0)")
    for number in range(limit):
        page.wait_for_timeout(150)
        page.screenshot(path=folder / f"{number:02}.png")
        end = outer.evaluate(
            "panel => { const before = panel.scrollTop;"
            " panel.scrollBy(0, panel.clientHeight - 60); return panel.scrollTop === before; }"
        )
        if end:
            return number + 1
    return limit


def violations(page: Page, axe: Path, include: list[str], exclude: list[str]) -> list[str]:
    """axe-core's serious and critical findings, a line each: rule, element, what is wrong.

    Args:
        page: The page, as it is now.
        axe: The file axe.min.js.
        include: Selectors of what is looked at.
        exclude: Selectors of what within them is not.
    """
    if not axe.exists():
        pytest.fail(f"{axe} is not there. make test-browser gets it from npm.")
    page.evaluate(axe.read_text(encoding="utf-8"))
    context = json.dumps({"include": include, "exclude": exclude})
    found = page.evaluate(f"axe.run({context}, {{resultTypes: ['violations']}})")
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} | {node['failureSummary'][:300]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
