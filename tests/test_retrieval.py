"""Documents become passages, the right ones are found, and the prompt stays within its room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmcourse import company, data
from llmcourse.errors import DataError, PromptError
from llmcourse.retrieval import Index, prompt_with

DOCUMENTS = Path(company.__path__[0]) / "documents"


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(data.from_documents(DOCUMENTS))


def test_nothing_of_a_document_is_lost(index: Index) -> None:
    for name, text in company.documents().items():
        passages = [p for p in index.passages if p.document == name]
        kept = " ".join(p.text for p in passages).split()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert kept == " ".join(lines).split(), name
        assert [p.number for p in passages] == list(range(1, len(passages) + 1))


def test_each_fact_stands_in_a_passage_under_its_heading(index: Index) -> None:
    for fact in company.records("facts"):
        assert any(
            p.document == fact["document"] and p.heading == fact["heading"]
            and company.has_keys(p.text, [key.split("|")[0] for key in fact["keys"]])
            for p in index.passages
        ), fact["id"]  # fmt: skip


def test_the_right_passage_is_mostly_among_the_first_three(index: Index) -> None:
    facts = {fact["id"]: fact for fact in company.records("facts")}
    questions = company.records("questions", "validation")
    found = sum(
        any(company.has_keys(hit.passage.text, facts[q["fact"]]["keys"])
            for hit in index.search(q["question"]))
        for q in questions
    )  # fmt: skip
    assert found / len(questions) > 0.6


def test_best_first_and_nothing_that_does_not_fit(index: Index) -> None:
    hits = index.search("How long is the cable of the Sable hand mixer?", k=5)
    assert hits[0].passage.document == "products/sable-hand-mixer.md"
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert index.search("xyzzy plugh") == []
    with pytest.raises(PromptError, match="nothing to search for"):
        index.search("  ")
    with pytest.raises(DataError, match="no passages"):
        Index([])


def test_the_prompt_keeps_to_its_room(index: Index) -> None:
    question = "What does the Linnet weigh?"
    hits = index.search(question)
    count = lambda text: len(text.split())  # noqa: E731
    whole = prompt_with(question, hits)
    assert all(hit.passage.text in whole for hit in hits) and whole.endswith(question)
    for room in (count(whole) - 1, 40, 6):
        short = prompt_with(question, hits, count=count, room=room)
        assert count(short) <= room and short.endswith(question)
    with pytest.raises(PromptError, match="more than the 3 tokens"):
        prompt_with(question, hits, count=count, room=3)


def test_html_is_read_without_its_scripts(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<html><head><title>t</title><style>p {}</style></head><body><script>alert('x')</script>"
        "<h1>Care &amp; use</h1><small>Daily</small><p>Wipe it.</p><div>Twice.</div><h2>More</h2>"
        "<ul><li>One</li><li>Two</li></ul><table><tr><td>Height</td><td>4 cm</td></tr></table>"
    )
    assert [(p.heading, p.text) for p in data.from_documents(tmp_path)] == [
        ("Care & use", "Daily\n\nWipe it.\n\nTwice."), ("More", "One\n\nTwo\n\nHeight 4 cm")
    ]  # fmt: skip


def test_long_parts_are_cut_between_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"{n} " + "word " * 29 for n in range(5)]
    (tmp_path / "README").write_text("\n\n".join(paragraphs))
    passages = data.from_documents(tmp_path, words=70)
    assert [len(p.text.split()) for p in passages] == [60, 60, 30]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no documents. They are read from .md"),
        ({"photo.jpg": b"x"}, "holds no documents"),
        ({"empty.md": b""}, "hold no text"),
        ({"only.md": b"# Heading\n\n"}, "hold no text"),
        ({"only.html": b"<script>alert(1)</script>"}, "hold no text"),
        ({"latin.txt": "café".encode("latin-1")}, "latin.txt: it is not UTF-8 (byte 0xe9"),
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


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file.md").write_text("x")
    with pytest.raises(DataError, match="is a file; name the folder it is in"):
        data.from_documents(tmp_path / "file.md")
    with pytest.raises(DataError, match="there is no such folder"):
        data.from_documents(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege to make links")
def test_loops_of_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(data.from_documents(tmp_path)) == 1
    (tmp_path / "b.md").symlink_to(tmp_path / "b.md")
    with pytest.raises(DataError, match="b.md can't be read"):
        data.from_documents(tmp_path)
