"""Folders of documents: what is read, what is passed over, and pages that take no time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmcourse import company, data
from llmcourse.errors import DataError
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


LONG = 400_000
PAGES = {
    "blanks.md": f"# a{' ' * LONG}b\nText.",
    "hashes.md": f"# {'#' * LONG} x\nText.",
    "fences.md": "````x\n```\n" * (LONG // 4),
    "tags.html": "<a " * (LONG // 4),
    "values.html": "<a x='" * (LONG // 4),
    "comments.html": f"{'<!--' * (LONG // 2)}>",
    "headings.html": f"{'<h1>' * (LONG // 10)}x",
    "word.txt": "x" * LONG,
    "dots.txt": "." * LONG,
    "words.txt": "x " * LONG,
}


def test_no_page_takes_longer_than_its_length(tmp_path: Path) -> None:
    """Any of these took minutes to hours when a line or a tag was looked at again and again."""
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    code = f"from llmcourse import data; data.from_documents({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_hidden_folders_and_those_of_tools_are_listed_as_skipped(tmp_path: Path) -> None:
    closed = (".git", ".hidden", ".venv", "__pycache__", "node_modules")
    for name in (*closed, "docs"):
        (tmp_path / "sub" / name).mkdir(parents=True)
        (tmp_path / "sub" / name / "a.md").write_text("Text.")
    assert [one.document for one in data.from_documents(tmp_path)] == ["sub/docs/a.md"]
    assert [(one.source, one.problem) for one in data.read_documents(tmp_path).skipped] == [
        (str(tmp_path / "sub" / name), "a hidden folder or one of tools, which is not read")
        for name in closed
    ]
    assert read(tmp_path / "sub" / ".hidden") == [("", "Text.")]


# --- headings, passages, what is skipped ---------------------------------------------------------

CODE = "```sh\n# comment\n\n## more\nrun\n```"
HEADINGS: list[tuple[str, str, list[tuple[str, str]]]] = [
    (
        "a.md",
        f"# Use\n\nFirst:\n\n{CODE}\n\n# End\nBye.",
        [("Use", f"First:\n\n{CODE}"), ("End", "Bye.")],
    ),
    (
        "a.md",
        "~~~\n# comment\n```\n# more\n~~~\n# End\nBye.",
        [("", "~~~\n# comment\n```\n# more\n~~~"), ("End", "Bye.")],
    ),
    ("a.md", "```\nnever closed\n\n# End\nBye.", [("", "```\nnever closed"), ("End", "Bye.")]),
    (
        "a.md",
        "Care\n====\n\nWipe.\n\nDaily use\n---------\nOn.\n",
        [("Care", "Wipe."), ("Daily use", "On.")],
    ),
    (
        "a.md",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\na | b\n--- | ---\n\n| a |\n-----\n",
        [("", "| a | b |\n|---|---|\n| 1 | 2 |\n\na | b\n--- | ---\n\n| a |\n-----")],
    ),
    (
        "a.md",
        "One line.\n---\nAnother.\n\n---\n\nLast.",
        [("", "One line.\n---\nAnother.\n\n---\n\nLast.")],
    ),
    (
        "a.md",
        "---\ntitle: Care\n# note\nd: e\n---\n# Care\nWipe.",
        [("Care", "Wipe.")],
    ),
    ("a.md", "Care\n~~~~\nWipe.\n~~~~", [("", "Care\n\n~~~~\nWipe.\n~~~~")]),
    (
        "a.rst",
        "=====\n Care\n=====\n\nWipe.\n\nUse\n~~~\n\nOn.\n\n1. Off\n''''''\nOff.",
        [("Care", "Wipe."), ("Use", "On."), ("1. Off", "Off.")],
    ),
    (
        "a.rst",
        "Longer than its line\n====\n\n===  ===\na    b\n===  ===\n\n+---+\n| a |\n+---+",
        [("", "Longer than its line\n====\n\n===  ===\na    b\n===  ===\n\n+---+\n| a |\n+---+")],
    ),
    (
        "a.html",
        "<h1>Care\n daily</h1><pre># note\nTitle\n=====\n</pre><p># 5</p><h2>End</h2>Bye",
        [("Care daily", "# note\nTitle\n=====\n\n# 5"), ("End", "Bye")],
    ),
    ("a.html", "<h1>CafÃ©</h1><p>76 Â°C â€“ itâ€™s hot.</p>", [("Café", "76 °C – it’s hot.")]),
    ("a.md", "# CafÃ©\n76 Â°C", [("CafÃ©", "76 Â°C")]),
]


@pytest.mark.parametrize(("name", "text", "wanted"), HEADINGS)
def test_headings_are_seen_and_nothing_else_is_one(
    name: str, text: str, wanted: list[tuple[str, str]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(p.heading, p.text) for p in data.from_documents(tmp_path)] == wanted


def test_what_is_skipped_is_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, content in {
        "a.md": b"Text.",
        "empty.md": b"",
        "only.md": b"# Heading\n",
        "image.html": b"<img src=x>",
        "sub/photo.jpg": b"x",
        "sub/Makefile": b"x",
        "nul.txt": b"a\0b",
    }.items():
        (tmp_path / name).write_bytes(content)
    found = data.read_documents(tmp_path).skipped
    assert all(isinstance(one, data.Problem) and one.line == 0 for one in found)
    told = {Path(one.source).relative_to(tmp_path).as_posix(): one.problem for one in found}
    assert set(told) == {
        "empty.md",
        "only.md",
        "image.html",
        "sub/photo.jpg",
        "sub/Makefile",
        "nul.txt",
    }
    assert told["empty.md"] == told["only.md"] == told["image.html"] == "it holds no text"
    assert told["sub/photo.jpg"].startswith("of the kind '.jpg'; documents are read from .md")
    assert told["sub/Makefile"].startswith("of the kind 'without ending'")
    assert told["nul.txt"].startswith("it holds NUL bytes")
    assert data.read_documents(Path(company.__path__[0]) / "documents").skipped == []
    with pytest.raises(DataError, match="there is no such folder"):
        data.read_documents(tmp_path / "nowhere")


def test_html_is_read_without_its_scripts(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<html><head><title>t</title><style>p {}</style></head><body><script>alert('x')</script>"
        "<h1>Care &amp; use</h1><small>Daily</small><p>Wipe it.</p><div>Twice.</div><h2>More</h2>"
        "<ul><li>One</li><li>Two</li></ul><table><tr><td>Height</td><td>4 cm</td></tr></table>"
    )
    assert [(p.heading, p.text) for p in data.from_documents(tmp_path)] == [
        ("Care & use", "Daily\n\nWipe it.\n\nTwice."),
        ("More", "One\n\nTwo\n\nHeight 4 cm"),
    ]


def test_long_parts_are_cut_between_paragraphs_but_not_in_code(tmp_path: Path) -> None:
    code = "```\n" + "\n\n".join(["# comment " + "word " * 20] * 3) + "\n```"
    (tmp_path / "a.md").write_text(f"Before.\n\n{code}\n\nAfter.")
    assert code in [p.text for p in data.from_documents(tmp_path, words=10)]
    (tmp_path / "a.md").unlink()
    paragraphs = [f"{n} " + "word " * 29 for n in range(5)]
    (tmp_path / "README").write_text("\n\n".join(paragraphs))
    passages = data.from_documents(tmp_path, words=70)
    assert [len(p.text.split()) for p in passages] == [60, 60, 30]


MARKDOWN_TABLE = [
    "| Part | Price |",
    "|:--|--:|",
    *(f"| part {n} | {n} crowns |" for n in range(9)),
]
HTML_TABLE = """<h2>Prices</h2><p>In crowns.</p><table><caption>All parts</caption>
<thead> <tr> <th>Part</th> <th>Price</th> </tr> </thead>
{}</table><table><tr><td>No<p>names</p></td></tr></table>"""


def test_a_table_is_cut_between_rows_below_its_columns_names(tmp_path: Path) -> None:
    table = "\n".join(MARKDOWN_TABLE)
    (tmp_path / "a.md").write_text(f"# Prices\n\nIn crowns.\n\n{table}\n\nAfter.\n")
    passages = data.from_documents(tmp_path, words=25)
    assert {p.heading for p in passages} == {"Prices"}
    pieces = [p.text.removeprefix("In crowns.\n\n").splitlines() for p in passages]
    assert len(pieces) == 5
    assert all(piece[:2] == MARKDOWN_TABLE[:2] for piece in pieces)
    assert [row for piece in pieces for row in piece[2:]] == [*MARKDOWN_TABLE[2:], "", "After."]
    assert [p.text for p in data.from_documents(tmp_path, words=200)] == [
        f"In crowns.\n\n{table}\n\nAfter."
    ]


@pytest.mark.parametrize("end", ["</p></td></tr>", ""])  # HTML lets ends of rows and cells out
def test_rows_of_html_tables_are_lines_below_their_columns_names(end: str, tmp_path: Path) -> None:
    rows = "".join(f"<tr>\n<td><p>part</p> {n}<td><p>{n} crowns{end}\n" for n in range(9))
    (tmp_path / "a.html").write_text(HTML_TABLE.format(rows))
    passages = data.from_documents(tmp_path, words=28)
    assert {p.heading for p in passages} == {"Prices"}
    assert passages[0].text.startswith(
        "In crowns.\n\nAll parts\n\n| Part | Price\n|---|\n| part 0 |"
    )
    assert all("| Part | Price\n|---|\n| part" in p.text for p in passages)
    lines = [line for p in passages for line in p.text.splitlines() if line.startswith("| part")]
    assert lines == [f"| part {n} | {n} crowns" for n in range(9)]
    assert passages[-1].text.endswith("crowns\n\nNo\n\nnames")


def test_code_with_a_table_stays_in_one_piece(tmp_path: Path) -> None:
    code = "\n".join(["```", *MARKDOWN_TABLE, "```"])
    (tmp_path / "a.md").write_text(code)
    assert [p.text for p in data.from_documents(tmp_path, words=5)] == [code]


def test_a_line_of_many_dashes_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| a |\n|" + "-" * 1_000_000 + "x")
    assert len(data.from_documents(tmp_path)) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no documents. They are read from .md"),
        ({"photo.jpg": b"x"}, "holds no documents"),
        ({"only.md": b"# Heading\n\n"}, "only.md: it holds no text"),
        ({"damaged.txt": b"caf\xe9 \xc3\xa9"}, "damaged.txt: it is not UTF-8 (byte 0xe9"),
        ({"nul.txt": b"a\x00b"}, "nul.txt: it holds NUL bytes"),
        ({"huge.txt": b"x" * 20_000_001}, "has over 20 MB"),
    ],
)
def test_folders_that_give_nothing_are_told(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as told:
        data.from_documents(tmp_path)
    assert message in str(told.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege to make links")
def test_loops_of_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(data.from_documents(tmp_path)) == 1
    assert [str(one) for one in data.read_documents(tmp_path).skipped] == [
        f"{tmp_path / 'loop'}: a link to a folder, which is not followed"
    ]
    (tmp_path / "b.md").symlink_to(tmp_path / "b.md")
    assert len(data.from_documents(tmp_path)) == 1
    assert any("b.md: can't be read" in str(one) for one in data.read_documents(tmp_path).skipped)
