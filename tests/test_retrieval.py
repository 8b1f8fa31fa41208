"""Documents become passages, the right ones are found, and the prompt stays within its room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmcourse import company, data, models, retrieval, templates
from llmcourse.data.documents import skipped_documents
from llmcourse.errors import (
    DataError,
    ModelNotInstalled,
    PromptError,
    SettingError,
    TemplateError,
    UnknownModel,
)
from llmcourse.retrieval import Hit, Index, nearest, prompt_with, recall_at
from llmcourse.words import has_keys

DOCUMENTS = Path(company.__path__[0]) / "documents"
FACTS = {fact["id"]: fact for fact in company.records("facts")}


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(data.from_documents(DOCUMENTS), by="bm25")


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
            p.document == fact["document"]
            and p.heading == fact["heading"]
            and has_keys(p.text, [key.split("|")[0] for key in fact["keys"]])
            for p in index.passages
        ), fact["id"]


def holds(record: dict, passage: data.Passage) -> bool:
    return has_keys(passage.text, FACTS[record["fact"]]["keys"])


@pytest.mark.model
def test_meaning_finds_what_keywords_miss(index: Index) -> None:
    """On all facts, in natural words and in words that avoid the document's."""
    by_meaning = Index(index.passages)
    natural = [r for r in company.records("paraphrases") if r["kind"] == "natural"]
    hard = company.records("questions", "test")
    found = {
        (way.by, name): recall_at(way, records, holds)[3].value
        for way in (index, by_meaning, Index(index.passages, by="hybrid"))
        for name, records in (("natural", natural), ("hard", hard))
    }
    assert found["embeddings", "natural"] > 0.85 and found["embeddings", "hard"] > 0.6
    assert found["embeddings", "natural"] > found["bm25", "natural"] > found["bm25", "hard"]
    assert found["embeddings", "hard"] > found["hybrid", "hard"] > found["bm25", "hard"]


def test_recall_rises_with_k(index: Index) -> None:
    recall = recall_at(index, company.records("questions", "validation")[:40], holds, k=(1, 5))
    assert recall[1].total == 40 and recall[1].count < recall[5].count


def test_embeddings_of_documents_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    passages = [data.Passage("The lamp is grey.", "", "a.md", 1), data.Passage("A", "", "b.md", 1)]
    hits = Index(passages).search("Which colour has the lamp?")
    monkeypatch.setattr("llmcourse.retrieval.load_embedder", lambda name: 1 / 0)
    assert Index(passages).passages[0] is hits[0].passage  # no model was asked again
    (kept,) = (tmp_path / "embeddings").iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(ZeroDivisionError):
        Index(passages)


def test_a_question_looked_up_gets_the_nearest_known_answer() -> None:
    known = [
        {"question": "How heavy is the lamp?", "answer": "It weighs 1.74 kg."},
        {"question": "Where is the showroom?", "answer": "In Aldermere."},
    ]
    look_up = nearest(known, threshold=0.5)
    heavy, unknown = look_up(["What does the lamp weigh?", "Who wrote Hamlet?"])
    assert heavy.answer == "It weighs 1.74 kg." and heavy.question == known[0]["question"]
    assert unknown.answer == "" and unknown.similarity < 0.5 < heavy.similarity <= 1
    with pytest.raises(DataError, match="no known questions"):
        nearest([])


def test_an_embedding_model_that_is_not_there_is_named(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnknownModel, match="can't be loaded"):
        Index(index.passages[:2], model=str(tmp_path))
    with pytest.raises(SettingError, match="by='meaning' is none of 'embeddings', 'bm25'"):
        Index(index.passages, by="meaning")
    monkeypatch.setitem(retrieval.PACKAGED, "all-MiniLM-L6-v2", "not_installed_here")
    with pytest.raises(ModelNotInstalled, match="requirements-models.txt"):
        Index(index.passages[:2])


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


@pytest.mark.parametrize("template", [None, "chat", "alpaca"])
def test_the_prompt_that_the_model_reads_keeps_to_its_room(
    index: Index, template: str | None
) -> None:
    tokenizer = models.load_tokenizer("chat")
    question = "What does the Linnet weigh?"
    hits = index.search(question)
    kept = []
    for room in (60, 200, 400, 2000):
        text = prompt_with(question, hits, room=room, tokenizer=tokenizer, template=template)
        rendered = templates.render(text, template or "chat", tokenizer=tokenizer)
        ids = tokenizer(rendered.prompt, add_special_tokens=not rendered.special).input_ids
        assert len(ids) <= room and text.endswith(question)
        kept.append(sum(hit.passage.text in text for hit in hits))
    assert kept[0] == 0 and kept[-1] == len(hits) and kept == sorted(kept)
    with pytest.raises(PromptError, match="more than the 10 tokens"):
        prompt_with(question, hits, room=10, tokenizer=tokenizer, template=template)


def test_wrong_settings_are_told(index: Index) -> None:
    hits = index.search("What does the Linnet weigh?")
    tokenizer = models.load_tokenizer("chat")
    for options, message in (
        ({"room": 100}, "room=100 needs tokenizer= or count="),
        ({"room": -1, "count": len}, "room=-1 must be a whole number of at least 0"),
        ({"room": 9.5, "count": len}, "room=9.5 must be"),
        ({"room": 9, "count": len, "tokenizer": tokenizer}, "not both"),
        ({"room": 9, "template": "chat"}, "template='chat' needs tokenizer="),
    ):
        with pytest.raises(SettingError, match=message):
            prompt_with("Why?", hits, **options)
    with pytest.raises(TemplateError, match="no template 'qq'"):
        prompt_with("Why?", hits, room=99, tokenizer=tokenizer, template="qq")
    for k in (0, -1, 2.5, "3", None):
        with pytest.raises(SettingError, match="k=.* must be a whole number of at least 1"):
            index.search("What does the Linnet weigh?", k=k)
    for words in (0, -5, 1.5, "9"):
        with pytest.raises(SettingError, match="words=.* must be a whole number of at least 1"):
            data.from_documents(DOCUMENTS, words=words)


@pytest.mark.parametrize(
    ("document", "heading", "above"),
    [
        ("products/toller-mill.md", "How it is built", "[toller mill: How it is built]"),
        ("a.md", "", "[a]"),
        ("", "Care", "[Care]"),
    ],
)
def test_a_passage_stands_under_its_document_and_heading(
    document: str, heading: str, above: str
) -> None:
    hits = [Hit(data.Passage("It is loud.", heading, document, 1), 1.0)]
    assert prompt_with("Why?", hits).startswith(f"{above}\nIt is loud.\n\nAnswer from")


def test_blank_questions_and_headings_leave_no_trace() -> None:
    hits = [Hit(data.Passage("Text.", "", "", 1), 1.0)]
    assert prompt_with("Why?", hits) == "Text.\n\nAnswer from the text above. Why?"
    with pytest.raises(PromptError, match="The question is empty"):
        prompt_with(" \n", hits)


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
        "Two lines\nof text\n-------\n\n- item\n------",
        [("", "Two lines\nof text\n-------\n\n- item\n------")],
    ),
    (
        "a.md",
        "---\ntitle: Care\n# note\nd: e\n---\n# Care\nWipe.",
        [("", "---\ntitle: Care\n# note\nd: e\n---"), ("Care", "Wipe.")],
    ),
    ("a.md", "---\nt: e\n---\n", [("", "---\nt: e\n---")]),
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


def test_code_is_not_cut_in_two(tmp_path: Path) -> None:
    code = "```\n" + "\n\n".join(["# comment " + "word " * 20] * 3) + "\n```"
    (tmp_path / "a.md").write_text(f"Before.\n\n{code}\n\nAfter.")
    assert code in [p.text for p in data.from_documents(tmp_path, words=10)]


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
    found = skipped_documents(tmp_path)
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
    assert skipped_documents(DOCUMENTS) == []
    with pytest.raises(DataError, match="there is no such folder"):
        skipped_documents(tmp_path / "nowhere")


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
    with pytest.raises(DataError, match="there is no such folder"):
        data.from_documents(tmp_path / "file.md")
    with pytest.raises(DataError, match="there is no such folder"):
        data.from_documents(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a privilege to make links")
def test_loops_of_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(data.from_documents(tmp_path)) == 1
    assert [str(one) for one in skipped_documents(tmp_path)] == [
        f"{tmp_path / 'loop'}: a link to a folder, which is not followed"
    ]
    (tmp_path / "b.md").symlink_to(tmp_path / "b.md")
    with pytest.raises(DataError, match="b.md can't be read"):
        data.from_documents(tmp_path)
