"""Folders of documents: what is read, what is passed over, and pages that take no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmcourse import data
from llmcourse.data import skipped_documents
from llmcourse.errors import DataError, SettingError
from tests.conftest import ROOT


def read(folder: Path) -> list[tuple[str, str]]:
    return [(one.heading, one.text) for one in data.from_documents(folder)]


@pytest.mark.parametrize(
    ("name", "is_heading"),
    [("a.md", True), ("A.MARKDOWN", True), ("README", True), ("a.txt", False), ("a.rst", False)],
)
def test_hashes_begin_headings_in_markdown_alone(
    name: str, is_heading: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("# make all\nrun")
    assert read(tmp_path) == [("make all", "run") if is_heading else ("", "# make all\nrun")]


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# Use", "Use"),
        ("######\tUse  ", "Use"),
        ("## Use ##", "Use"),
        ("# Use #  ", "Use"),
        ("# C#", "C#"),
        ("#  a # b", "a # b"),
        ("#Use", ""),
        ("####### Use", ""),
        ("# ", ""),
        ("#", ""),
    ],
)
def test_a_heading_of_hashes(line: str, heading: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"{line}\n\nText.")
    assert data.from_documents(tmp_path)[-1].heading == heading


LONG = 400_000
PAGES = {
    "blanks.md": f"# a{' ' * LONG}b\nText.",
    "hashes.md": f"# {'#' * LONG} x\nText.",
    "fences.md": "````x\n```\n" * (LONG // 4),
    "tags.html": "<a " * (LONG // 4),
    "values.html": "<a x='" * (LONG // 4),
    "comments.html": f"{'<!--' * (LONG // 2)}>",
    "headings.html": f"{'<h1>' * (LONG // 10)}x",
}


def test_no_page_takes_longer_than_its_length(tmp_path: Path) -> None:
    """Any of these took minutes to hours when a line or a tag was looked at again and again."""
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    code = f"from llmcourse import data; data.from_documents({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_what_never_ends_is_text(tmp_path: Path) -> None:
    page = "<!-- note --><p>One</p><!-- <p>2 < 3</p> and a <b"
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text("<h1>Use <h2>daily</h2></h1><p>Wipe.</p>")
    assert read(tmp_path) == [("", "One\n\n<!--\n\n2 < 3\n\nand a <b"), ("daily", "Wipe.")]


def test_hidden_folders_and_those_of_tools_are_listed_as_skipped(tmp_path: Path) -> None:
    closed = (".git", ".hidden", ".venv", "__pycache__", "node_modules")
    for name in (*closed, "docs"):
        (tmp_path / "sub" / name).mkdir(parents=True)
        (tmp_path / "sub" / name / "a.md").write_text("Text.")
    assert [one.document for one in data.from_documents(tmp_path)] == ["sub/docs/a.md"]
    assert [(one.source, one.problem) for one in skipped_documents(tmp_path)] == [
        (str(tmp_path / "sub" / name), "a hidden folder or one of tools, which is not read")
        for name in closed
    ]
    assert read(tmp_path / "sub" / ".hidden") == [("", "Text.")]


@pytest.mark.parametrize("folder", [None, 3, "", " "])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    for function in (data.from_documents, skipped_documents):
        with pytest.raises(SettingError, match="^folder=.* is no path of a folder"):
            function(folder)
        for name in ("~nobody-at-all/x", "x" * 5000, __file__):
            with pytest.raises(DataError, match="there is no such folder"):
                function(name)
