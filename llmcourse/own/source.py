"""What a learner points to, documents or pairs, and the pairs that come of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import data, tiers
from llmcourse.data.documents import KINDS
from llmcourse.data.readers import TABLES
from llmcourse.data.reviewing import NO, YES
from llmcourse.errors import DataError
from llmcourse.own.training import Sizes, sizes
from llmcourse.synthesis import Synthesis, questions_from_documents

if TYPE_CHECKING:
    from llmcourse.data import Passage, Report

SHOWN = 10  # problems that a message or `str` lists
BY_MODEL, BY_HAND = "the model", "your file"


def digest(value: Any) -> str:
    """A fingerprint: another one means that something in `value` has changed."""
    # (surrogates: a file name may hold bytes that are no UTF-8)
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """A learner's data as they were found.

    Attributes:
        kind: "documents" or "pairs".
        name: The folder or file as it was given.
        passages: Of the documents; none for a file.
        records: The pairs of a file with all their fields; none for a folder.
        problems: What was left out, and why: files that are no documents, lines of a file that
            are no pairs.
        read_as: The format of a file, then notes on how it was read.
    """

    kind: str
    name: str
    passages: list[Passage] = field(default_factory=list, repr=False)
    records: list[dict[str, Any]] = field(default_factory=list, repr=False)
    problems: list[str] = field(default_factory=list, repr=False)
    read_as: list[str] = field(default_factory=list, repr=False)

    @property
    def digest(self) -> str:
        """A fingerprint of the contents."""
        return digest([vars(passage) for passage in self.passages] or self.records)

    def inspected(self, tokenizer: Any = None) -> Report:
        """What `data.inspect` finds in it: lengths, copies, personal data and the like.

        Args:
            tokenizer: Counts lengths in tokens; None counts words.
        """
        # A passage is looked at as a record with a text; where it is from names it in examples.
        texts = [passage.record() for passage in self.passages]
        name = Path(self.name).name or self.name
        return data.inspect(texts or self.records, tokenizer=tokenizer, name=name)

    def __str__(self) -> str:
        contents = f"{len(self.records)} pairs of question and answer"
        if self.kind == "documents":
            documents = {passage.document for passage in self.passages}
            contents = f"{len(documents)} documents in {len(self.passages)} passages"
        read_as = "\n  ".join([f"\n  read as {one}" for one in self.read_as[:1]] + self.read_as[1:])
        lines = [f"{self.name}: {contents}{read_as}", *self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN} more")
        return "\n  left out: ".join(lines)


def read(source: str | os.PathLike[str], **called: Any) -> Source:
    """Read a folder of documents, or a file of pairs.

    Args:
        source: A folder (Markdown, text and HTML files are read, also in folders below it), or a
            file of records with questions and answers or conversations; see `data.load_records`.
        called: `schema` and `fields`: what the fields of a file are called.

    Raises:
        SettingError: `source` is blank, or there is no such schema or field.
        DataError: there is no such folder or file; a folder holds no documents, with what it
            holds instead; or a file holds no pairs, with the first problem.
    """
    name, path = str(source), Path(source).expanduser()
    if not path.is_dir():
        # (as records, a document would be refused in words about columns)
        kind = path.suffix.lower()
        if kind in KINDS and kind not in TABLES and path.exists():
            raise DataError(f"{name} is one document. Name the folder that it is in.")
        return pairs_of(path, **called)
    found = data.read_documents(path)
    problems = [f"{Path(one.source).relative_to(path)}: {one.problem}" for one in found.skipped]
    return Source("documents", name, found.passages, [], problems, found.guessed)


def pairs_of(path: Path | str, **called: Any) -> Source:
    """The pairs of a file; lines that are no pairs are in `problems`.

    Raises:
        DataError: it can't be read, or holds no pairs.
    """
    # Not strict: one bad line in a table of a thousand should stop nobody.
    dataset, problems = data.load_records(str(path), **called, strict=False)
    if "question" not in dataset.column_names:
        raise DataError(
            f"{path} holds texts and no pairs. It needs the columns question and answer; it has: "
            f"{', '.join(dataset.column_names)}."
        )
    left_out = [str(data.Problem(**row)) for row in problems.to_dict("records")]
    rows: list[dict[str, Any]] = list(map(dict, dataset))
    cells = [row.get("keep", "").strip().lower() for row in rows]
    if set(cells) <= {"", *YES, *NO}:  # a reviewed file; elsewhere "keep" may mean anything
        rows = [row for row, cell in zip(rows, cells, strict=True) if cell not in NO]
        if len(rows) < len(cells):
            left_out.append(f"{len(cells) - len(rows)} pairs whose column keep says no")
    read_as = data.how_read(dataset)
    return Source("pairs", str(path), records=rows, problems=left_out, read_as=read_as)


def is_ours(record: Mapping[str, Any]) -> bool:
    """True for a pair that was written here about a document: its other columns are known then.

    A column of a learner's own file may have any name (`source`, `document`) and mean anything.
    """
    return record.get("written") == BY_MODEL


def pairs(source: Source, size: Sizes | None = None) -> Synthesis:
    """The pairs to train and test on, and what was rejected on the way.

    A file's pairs are taken as they are. About documents the tier's base model writes questions,
    whose answer is the sentence that they are about (`synthesis.questions_from_documents`). Each
    record has question, answer, `written` (by whom), and where known input, history, document,
    heading, source and the file's other fields.

    Args:
        source: From `read`.
        size: Of the tier in force if not given.

    Raises:
        DataError: nothing passed.
    """
    if source.kind == "pairs":
        # Who wrote a pair decides how it is grouped for the test, and what the report advises.
        rows = [row if is_ours(row) else row | {"written": BY_HAND} for row in source.records]
        return Synthesis(rows, [], 0.0)
    from llmcourse import models

    model, size = models.load(tiers.pair().base), size or sizes()
    done = questions_from_documents(source.passages, model, limit=size.tries)
    if not done.records:
        raise DataError(
            f"No pair could be written about {source.name}: documents need full sentences with "
            f"facts in them. You can write pairs yourself, in a CSV file (question, answer)."
        )
    records = [row | {"written": BY_MODEL} for row in done.records]
    return Synthesis(records, done.rejected, done.seconds)
