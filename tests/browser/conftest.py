"""A real JupyterLab and a real browser; `make test-browser` runs what is in this folder.

The browser is the system's Chromium: Playwright brings none of its own here.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

from llmcourse import files, notebooks
from tests.conftest import ROOT

SHOTS = ROOT / "build" / "browser"
AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, LAPTOP = {"width": 1440, "height": 900}, {"width": 1024, "height": 768}
# No questions to the network; every cell on the page, and no blank page behind the last one.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "scrollPastEnd": False},
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out unless this folder is named: `make test` needs no browser."""
    return None if any("browser" in argument for argument in config.args) else True


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        address: Of the server, without a slash at the end.
        token: That opens it.
        folder: Where its notebooks lie.
        work: Where the lessons' own files go.
    """

    address: str
    token: str
    folder: Path
    work: Path

    def ask(self, path: str, method: str = "GET") -> Any:
        """Ask the server's interface for programs; returns what its JSON says, None for none."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.address}/api/{path}", headers=headers)
        request.method = method
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def link(self, name: str) -> str:
        """The page on which JupyterLab shows the notebook `name`, alone in a new workspace."""
        return f"{self.address}/lab/workspaces/t/tree/notebooks/{name}?token={self.token}&reset"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail("There is no Chromium here. On Debian and Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a new profile that reaches this machine only."""
    with browser.new_context(viewport=DESKTOP, reduced_motion="reduce") as context:
        context.route("**/*", _local_only)
        yield context.new_page()


def _local_only(route: Route, request: Request) -> None:
    here = request.url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))
    route.continue_() if here else route.abort()


@pytest.fixture
def lab(server: Lab) -> Iterator[Lab]:
    """The running JupyterLab; the test's kernels end with it, so that their memory is free."""
    yield server
    for session in server.ask("sessions"):
        server.ask(f"sessions/{session['id']}", "DELETE")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a free port, with a home of its own and copies of the lessons, no outputs.

    Its root is the folder above them, with docs, as `python -m llmcourse lab` has it.
    """
    base = tmp_path_factory.mktemp("lab")
    folder, home, work = base / "course" / "notebooks", base / "home", base / "work"
    home.mkdir()
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "docs", folder.parent / "docs")
    for path in notebooks.find(ROOT / "notebooks"):
        without_outputs(path, folder / path.name)
    for name, settings in SETTINGS.items():
        file = base / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), encoding="utf-8")
    token, runtime = secrets.token_hex(16), base / "runtime"
    own = {
        "HOME": home,
        "JUPYTER_CONFIG_DIR": base / "config",
        "JUPYTER_DATA_DIR": base / "data",
        "JUPYTER_RUNTIME_DIR": runtime,
        "JUPYTERLAB_SETTINGS_DIR": base / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": base / "workspaces",
        "IPYTHONDIR": base / "ipython",
        "LLMCOURSE_CACHE": files.cache_dir(),
        "LLMCOURSE_WORK": work,
        "LLMCOURSE_TIER": "smoke",
        "JUPYTER_TOKEN": token,
        "PYTHONPATH": ROOT,
    }
    environment = os.environ | {name: str(value) for name, value in own.items()}
    environment.pop("LLMCOURSE_STATIC", None)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        f"--ServerApp.root_dir={folder.parent}",
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.allow_root=True",
    ]
    with (base / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log)
    try:
        yield Lab(_address(runtime, process, base / "log"), token, folder, work)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


def _address(runtime: Path, process: subprocess.Popen, log: Path) -> str:
    """The server's address, as soon as it says so."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # not written to the end yet
                return f"http://127.0.0.1:{json.loads(path.read_text('utf-8'))['port']}"
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text('utf-8')[-2000:]}")


def without_outputs(path: Path, target: Path) -> None:
    """Copy a notebook as it is before its first run."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, target)
