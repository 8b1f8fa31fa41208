"""The right passages are found, by keyword and by meaning, and the prompt stays within its room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from llmcourse import company, data, retrieval
from llmcourse.errors import (
    DataError,
    ModelNotInstalled,
    PromptError,
    UnknownModel,
)
from llmcourse.retrieval import Hit, Index, embed, load_embedder, nearest, prompt_with, recall_at
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


# --- the embedding model and its cache ------------------------------------------------------------


@pytest.mark.model
def test_embeddings_of_documents_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCOURSE_CACHE", str(tmp_path))
    passages = [data.Passage("The lamp is grey.", "", "a.md", 1), data.Passage("A", "", "b.md", 1)]
    hits = Index(passages).search("Which colour has the lamp?")
    monkeypatch.setattr("llmcourse.retrieval.load_embedder", lambda name: 1 / 0)
    assert Index(passages).passages[0] is hits[0].passage  # no model was needed
    with pytest.raises(ZeroDivisionError):
        Index(passages[:1])  # other texts
    (kept,) = (tmp_path / "embeddings").iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(ZeroDivisionError):
        Index(passages)


HUB = """
from huggingface_hub import constants
from llmcourse.retrieval import embed
assert constants.HF_HUB_OFFLINE
print(*embed(["What does the lamp weigh?"], "owner/embedder")[0, :3])
"""


@pytest.mark.model
def test_a_folder_and_a_hub_name_are_embedders_too(tmp_path: Path) -> None:
    """Of sentence-transformers: what it saves loads here, from a folder or from the hub's cache."""
    folder = tmp_path / "models--owner--embedder" / "snapshots" / ("0" * 40)
    load_embedder().save(str(folder))
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("0" * 40)
    [wanted] = embed(["What does the lamp weigh?"])
    assert wanted.shape == (384,) and numpy.linalg.norm(wanted) == pytest.approx(1)
    assert numpy.allclose(embed(["What does the lamp weigh?"], str(folder)), wanted, atol=1e-5)
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert numpy.allclose([float(each) for each in done.stdout.split()], wanted[:3], atol=1e-5)


def test_an_embedding_model_that_is_not_there_is_named(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnknownModel, match="can't be loaded"):
        Index(index.passages[:2], model=str(tmp_path))
    monkeypatch.setitem(retrieval.PACKAGED, "all-MiniLM-L6-v2", "not_installed_here")
    with pytest.raises(ModelNotInstalled, match="requirements-models.txt"):
        Index(index.passages[:2])


def test_a_look_up_needs_known_questions() -> None:
    with pytest.raises(DataError, match="no known questions"):
        nearest([])


# --- searching and prompting ----------------------------------------------------------------------


def test_best_first_and_nothing_that_does_not_fit(index: Index) -> None:
    hits = index.search("How long is the cable of the Sable hand mixer?", k=5)
    assert hits[0].passage.document == "products/sable-hand-mixer.md"
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert index.search("xyzzy plugh") == []
    assert len(index.search("the Sable hand mixer", k=10_000)) <= len(index.passages)


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


@pytest.mark.parametrize(
    ("document", "heading", "above"),
    [
        ("products/toller-mill.md", "How it is built", "[toller mill: How it is built]\n"),
        ("", "", ""),
    ],
)
def test_a_passage_is_below_its_document_and_heading(
    document: str, heading: str, above: str
) -> None:
    hits = [Hit(data.Passage("It is loud.", heading, document, 1), 1.0)]
    assert prompt_with("Why?", hits) == f"{above}It is loud.\n\nAnswer from the text above. Why?"


def test_a_question_without_search_words_finds_nothing_and_stops_no_other() -> None:
    passages = [data.Passage("The kettle boils.", "", "a", 1), data.Passage("A lamp.", "", "b", 1)]
    nothing, found = Index(passages, by="bm25").search_all(["Is it on?", "kettle"])
    assert nothing == [] and found[0].passage.document == "a"
