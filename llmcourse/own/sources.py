"""What a learner points to: a folder of documents or a file of pairs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcourse import data
from llmcourse.data.documents import KINDS
from llmcourse.errors import DataError, SettingError, first_line
from llmcourse.own.reviewing import NO, YES

if TYPE_CHECKING:
    from llmcourse.data import Passage, Report

SHOWN = 10  # problems that a message or `str` lists


@dataclass(frozen=True)
class Source:
    """A learner's data as they were found.

    Attributes:
        kind: "documents" or "pairs".
        name: The folder or file as it was given.
        passages: Of the documents; none for a file.
        records: The pairs of a file with all their fields; none for a folder.
        problems: What was passed over, and why: files that are no documents, lines of a file that
            are no pairs.
    """

    kind: str
    name: str
    passages: list[Passage] = field(default_factory=list, repr=False)
    records: list[dict[str, str]] = field(default_factory=list, repr=False)
    problems: list[str] = field(default_factory=list, repr=False)

    @property
    def documents(self) -> list[str]:
        """The documents' paths below the folder."""
        return list(dict.fromkeys(passage.document for passage in self.passages))

    @property
    def digest(self) -> str:
        """A sign of the contents: another one means that something was changed."""
        rows: list[Any] = [vars(passage) for passage in self.passages] or self.records
        text = json.dumps(rows, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def inspected(self, tokenizer: Any = None) -> Report:
        """What `data.inspect` finds in it: lengths, copies, personal data and the like.

        Args:
            tokenizer: Counts lengths in tokens; None counts words.
        """
        rows: list[dict[str, str]] = self.records
        if self.kind == "documents":
            rows = [{"text": p.text, "document": p.document, "heading": p.heading}
                    for p in self.passages]  # fmt: skip
        return data.inspect(rows, tokenizer=tokenizer, name=Path(self.name).name or self.name)

    def __str__(self) -> str:
        if self.kind == "documents":
            found = f"{_many(self.documents, 'document')} in {_many(self.passages, 'passage')}"
        else:
            found = f"{_many(self.records, 'pair')} of question and answer"
        lines = [f"{self.name}: {found}"]
        lines += [f"  left out: {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"  left out: and {len(self.problems) - SHOWN} more")
        return "\n".join(lines)


def _many(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def read(source: str | os.PathLike[str]) -> Source:
    """Read a folder of documents, or a file of pairs.

    Args:
        source: A folder (Markdown, text and HTML files are read, also in folders below it), or a
            file of records (.csv, .tsv, .jsonl, .json, .parquet) with questions and answers.

    Raises:
        SettingError: `source` is no path.
        DataError: there is no such folder or file; a folder holds no documents, with what it
            holds instead; or a file holds no pairs, with the first problem.
    """
    if not isinstance(source, str | os.PathLike) or not str(source).strip():
        raise SettingError(f"source={source!r:.80} must be the path of a folder or a file.")
    name = str(source)
    try:
        path = Path(source).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{name!r:.200} can't be read: {first_line(error)}") from error
    if is_folder:
        return _of_folder(path, name)
    if not is_there:
        raise DataError(
            f"{name}: there is no such folder or file. Name a folder of documents "
            f"(.md, .txt, .html) or a file of pairs (.csv, .jsonl)."
        )
    if path.suffix.lower() in KINDS:
        raise DataError(f"{name} is one document. Name the folder that it is in.")
    return pairs_of(path)


def _of_folder(path: Path, name: str) -> Source:
    skipped = data.skipped_documents(path)
    problems = [_below(str(one), path) for one in skipped]
    try:
        passages = data.from_documents(path)
    except DataError as error:
        found = "; ".join(problems[:SHOWN]) or "nothing at all"
        raise DataError(f"{str(error).rstrip('.')}. In it: {found}.") from error
    return Source("documents", name, passages=passages, problems=problems)


def _below(problem: str, folder: Path) -> str:
    """A problem with its file named as below the folder."""
    return problem.removeprefix(str(folder)).lstrip("/\\")


def pairs_of(path: Path | str) -> Source:
    """The pairs of a file; lines that are no pairs are in `problems`.

    Raises:
        DataError: it can't be read, or holds no pairs.
    """
    dataset, problems = data.load_records(str(path), strict=False)
    if "question" not in dataset.column_names:
        raise DataError(
            f"{path} holds texts and no pairs. It needs a column for the question and one for the "
            f"answer, called question and answer, say; it has: {', '.join(dataset.column_names)}."
        )
    rows, told = list(map(dict, dataset)), []
    cells = [row.get("keep", "").strip().lower() for row in rows]
    if set(cells) <= {"", *YES, *NO}:  # as in a file that was reviewed
        rows = [row for row, cell in zip(rows, cells, strict=True) if cell not in NO]
        if len(rows) < len(cells):
            told.append(f"{len(cells) - len(rows)} pairs whose column keep says no")
    told += [str(data.Problem(**row)) for row in problems.to_dict("records")]
    return Source("pairs", str(path), records=rows, problems=told)
