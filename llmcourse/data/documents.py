"""A folder of documents as passages, each with the heading it stands under."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmcourse.data.records import decoded
from llmcourse.errors import DataError

KINDS = (".md", ".markdown", ".txt", ".rst", ".html", ".htm")
_BLOCKS = ("p", "div", "li", "tr", "br", "section", "article", "aside", "footer", "header", "form",
           "table", "ul", "ol", "pre", "blockquote", "button", "label")  # fmt: skip
LARGEST = 20_000_000  # bytes; more is no document that a person wrote


@dataclass(frozen=True)
class Passage:
    """A piece of a document, small enough for a prompt.

    Attributes:
        text: The piece, without markup of HTML.
        heading: The heading it stands under; "" before the first.
        document: The document's path below the folder, with "/" on every system.
        number: Its place in the document, from 1.
    """

    text: str
    heading: str
    document: str
    number: int


def from_documents(folder: str | Path, *, words: int = 160) -> list[Passage]:
    """Cut every document below `folder` into passages, at headings and between paragraphs.

    Markdown, plain text and HTML are read (`KINDS`, and files named README), others passed over.
    Links to folders are not followed, so that a loop of links does no harm.

    Args:
        folder: Where the documents are.
        words: About the longest passage, in words; a longer paragraph stays whole.

    Raises:
        DataError: no such folder, no document or no text in it, or a file that can't be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "is a file; name the folder it is in" if root.exists() else "there is no such folder"
        raise DataError(f"{folder}: {what}.")
    paths = [path for path in sorted(root.rglob("*")) if _is_document(path)]
    if not paths:
        raise DataError(f"{folder} holds no documents. They are read from {', '.join(KINDS)}.")
    passages: list[Passage] = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        pieces = [
            (heading, piece)
            for heading, text in _sections(path, _text(path))
            for piece in _pieces(text, words)
        ]
        passages += [
            Passage(text, heading, name, number) for number, (heading, text) in enumerate(pieces, 1)
        ]
    if not passages:
        raise DataError(f"The documents in {folder} hold no text.")
    return passages


def _is_document(path: Path) -> bool:
    named = path.suffix.lower() in KINDS or (path.stem.upper() == "README" and not path.suffix)
    return named and (path.is_file() or path.is_symlink()) and not path.is_dir()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has over {LARGEST // 1_000_000} MB; that is no document.")
        return decoded(path.read_bytes())
    except DataError as error:
        told = str(error)
        raise DataError(told if str(path) in told else f"{path}: {told}.") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def _sections(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """(heading, text under it) for each part of a document."""
    if path.suffix.lower() in (".html", ".htm"):
        text = _from_html(text)
    heading, lines = "", []
    for line in text.splitlines():
        if match := re.match(r"#{1,6}\s+(.+?)\s*#*$", line):
            yield heading, "\n".join(lines)
            heading, lines = match[1], []
        else:
            lines.append(line)
    yield heading, "\n".join(lines)


def _from_html(text: str) -> str:
    """The readable text of a page, headings as Markdown; scripts and styles are left out."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(text, "html.parser")
    for tag in soup(["script", "style", "template", "noscript", "nav", "head"]):
        tag.decompose()
    for tag in soup(re.compile(r"^h[1-6]$")):
        tag.replace_with(f"\n\n# {tag.get_text(' ', strip=True)}\n\n")
    for tag in soup(_BLOCKS):
        tag.insert_before("\n\n")
        tag.insert_after("\n\n")
    for tag in soup(["td", "th"]):
        tag.append(" ")
    return soup.get_text()


def _pieces(text: str, words: int) -> Iterator[str]:
    """Paragraphs, joined while they stay within `words`."""
    piece: list[str] = []
    size = 0
    for paragraph in filter(str.strip, re.split(r"\n\s*\n", text)):
        length = len(paragraph.split())
        if piece and size + length > words:
            yield "\n\n".join(piece)
            piece, size = [], 0
        piece.append(paragraph.strip())
        size += length
    if piece:
        yield "\n\n".join(piece)
