"""A folder of documents as passages, each with its heading."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmcourse.data.patterns import readable, ungarbled
from llmcourse.data.readers import decoded
from llmcourse.data.records import Problem
from llmcourse.errors import DataError, SettingError, whole

KINDS = (".md", ".markdown", ".txt", ".rst", ".html", ".htm")
_MARKDOWN = (".md", ".markdown", "")  # without ending: README
_UNREAD = ("node_modules", "__pycache__", "venv")  # folders of tools; hidden ones are unread too
LARGEST = 20_000_000  # bytes; more is no document that a person wrote
_HEADING = "\0"  # begins a heading's line in the text of a page; no document that is read has it


@dataclass(frozen=True)
class Passage:
    """A piece of a document, small enough for a prompt.

    Attributes:
        text: The piece, without markup of HTML.
        heading: The heading above it; "" before the first.
        document: The document's path below the folder, with "/" on every system.
        number: Its place in the document, from 1.
    """

    text: str
    heading: str
    document: str
    number: int


def from_documents(folder: str | Path, *, words: int = 80) -> list[Passage]:
    """Cut every document below `folder` into passages, at headings and between paragraphs.

    A table longer than `words` is cut between its rows, and each piece begins with the names of its
    columns: in Markdown, and in HTML where it has some (`th`). Each passage knows its heading.

    Markdown, reStructuredText, plain text and HTML are read (`KINDS`, and files named README).
    `skipped_documents` lists the others. Links to folders are not followed, so that a loop of links
    does no harm; hidden folders and those of tools (.git, node_modules) are not read. Headings that
    begin with "#" are Markdown's alone. Characters of HTML pages that were decoded wrongly are
    fixed.

    Args:
        folder: Where the documents are.
        words: About the longest passage, in words; a longer paragraph stays undivided. The default
            finds the most in `benchmarks/chunking.py`.

    Raises:
        DataError: no such folder, no document or no text in it, or a file that can't be read.
        SettingError: `folder` is no path or blank, or `words` is below 1.
    """
    words = whole("words", words, 1)
    root = _root(folder)
    paths = [path for path in _files(root) if _is_document(path)]
    if not paths:
        raise DataError(f"{folder} holds no documents. They are read from {', '.join(KINDS)}.")
    passages = [
        Passage(text, heading, path.relative_to(root).as_posix(), number)
        for path in paths
        for number, (heading, text) in enumerate(_passages(path, words), 1)
    ]
    if not passages:
        raise DataError(f"The documents in {folder} hold no text.")
    return passages


def skipped_documents(folder: str | Path) -> list[Problem]:
    """What below `folder` gives no passages, and why: nothing vanishes without a word.

    Raises:
        DataError: no such folder, or one that can't be read.
        SettingError: `folder` is no path or blank.
    """
    found = ((path, _why_skipped(path)) for path in _files(_root(folder)))
    return [Problem(str(path), 0, "", why) for path, why in found if why]


def _why_skipped(path: Path) -> str:
    if path.is_dir():
        link = "a link to a folder, which is not followed"
        return link if path.is_symlink() else "a hidden folder or one of tools, which is not read"
    if not _is_document(path):
        kind = path.suffix or "without ending"
        return f"of the kind {kind!r}; documents are read from {', '.join(KINDS)}"
    try:
        return "" if next(_passages(path, 1), None) else "it holds no text"
    except DataError as error:
        return str(error).removeprefix(str(path)).lstrip(": ").rstrip(".")


def _root(folder: str | Path) -> Path:
    if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
        raise SettingError(f"folder={folder!r:.80} is no path of a folder.")
    root = os.path.expanduser(folder)  # noqa: PTH111 - never raises, unlike Path's; so does isdir
    if not os.path.isdir(root):  # noqa: PTH112
        raise DataError(f"{folder!s:.200}: there is no such folder.")
    return Path(root)


def _files(root: Path) -> list[Path]:
    """All files below `root`, and the folders that are not entered, in a fixed order."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} can't be read: {error.strerror or error}.") from error

    found: list[Path] = []
    for place, folders, names in os.walk(root, onerror=refuse):
        closed = [
            name
            for name in folders
            if name.startswith(".") or name in _UNREAD or Path(place, name).is_symlink()
        ]
        folders[:] = [name for name in folders if name not in closed]
        found += [Path(place, name) for name in (*names, *closed)]
    return sorted(found)


def _is_document(path: Path) -> bool:
    named = path.suffix.lower() in KINDS or (path.stem.upper() == "README" and not path.suffix)
    return named and not path.is_dir()


def _passages(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """(heading, piece) for each passage of a document.

    Raises:
        DataError: it can't be read.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"it has over {LARGEST // 1_000_000} MB; that is no document")
        text = decoded(path.read_bytes())
    except (DataError, OSError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{path}: {error}.") from error
        raise DataError(f"{path} can't be read: {error.strerror}.") from error
    kind = path.suffix.lower()
    sections = _of_page(text) if kind in (".html", ".htm") else _of_text(text, kind)
    for heading, blocks in sections:
        for piece in _pieces(blocks, words):
            yield heading, piece


def _pieces(paragraphs: list[str], words: int) -> Iterator[str]:
    """Paragraphs, joined while they stay within `words`."""
    piece: list[str] = []
    size = 0
    rows = (part for paragraph in paragraphs for part in _rows(paragraph, words))
    for paragraph in filter(str.strip, rows):
        length = len(paragraph.split())
        if piece and size + length > words:
            yield "\n\n".join(piece)
            piece, size = [], 0
        piece.append(paragraph.strip())
        size += length
    if piece:
        yield "\n\n".join(piece)


def _rows(paragraph: str, words: int) -> Iterator[str]:
    """A long Markdown table in pieces of `words`: a row means nothing without its columns' names.

    Anything else stays as it is.
    """
    lines = paragraph.splitlines()
    below = next((n for n, line in enumerate(lines[1:], 2) if _COLUMNS.fullmatch(line)), 0)
    if not below or len(paragraph.split()) <= words or _FENCE.match(lines[0]):
        yield paragraph
        return
    names = lines[below - 2 : below]
    piece = lines[:below]  # text right above the table stays with its first rows
    for number, row in enumerate(lines[below:]):
        if number and len(" ".join([*piece, row]).split()) > words:
            yield "\n".join(piece)
            piece = names.copy()
        piece.append(row)
    yield "\n".join(piece)


# --- headings -------------------------------------------------------------------------------------

Section = tuple[str, list[str]]  # a heading, and the paragraphs under it
_UNDERLINE = re.compile(r"([=\-~^\"'#*+])\1{2,}\s*$")
_COLUMNS = re.compile(r"(?=.*\|)[ \t|]*:?-[ \t|:-]*")  # the line below the names of columns
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(?=[^`]*$)")  # begins or ends code in Markdown
_NO_TITLE = re.compile(r"\s|[-*+>|]\s|[^\w]*$")  # indented, an item, a quote, no word


def _of_page(text: str) -> Iterator[Section]:
    """The parts of an HTML page."""
    first, *parts = readable(text, "\n\n", _HEADING).split(f"\n{_HEADING}")
    for heading, _, below in [("", "", first), *(part.partition("\n") for part in parts)]:
        yield ungarbled(heading), re.split(r"\n\s*\n", ungarbled(below))


def _of_text(text: str, kind: str) -> Iterator[Section]:
    """The parts of a document that is no page. Code between fences is one paragraph."""
    lines = text.splitlines()
    fences = {} if kind == ".rst" else _fences(lines)
    place = _front_matter(lines)
    heading, blocks = "", ["\n".join(lines[:place])]
    paragraph: list[str] = []  # the lines of the paragraph that is not finished
    while place < len(lines):
        # a line under several lines of text makes no title of the last one
        begun = bool(paragraph) and not _UNDERLINE.match(paragraph[-1])
        title, used = _title(lines[place : place + 3], kind, begun)
        end = 0 if title else fences.get(place, 0)
        if title or end or not lines[place].strip():
            blocks.append("\n".join(paragraph))
            paragraph = []
        if title:
            yield heading, blocks
            heading, blocks = title, []
        elif end:
            blocks.append("\n".join(lines[place:end]))
            used = end - place
        elif lines[place].strip():
            paragraph.append(lines[place])
        place += used
    yield heading, [*blocks, "\n".join(paragraph)]


def _front_matter(lines: list[str]) -> int:
    """How many lines at the beginning are settings between `---`, as site builders have them."""
    if len(lines) < 3 or lines[0].rstrip() != "---" or not re.match(r"#|[\w-]+\s*:", lines[1]):
        return 0
    ends = (n for n, line in enumerate(lines[1:], 2) if line.rstrip() in ("---", "..."))
    return next(ends, 0)


def _fences(lines: list[str]) -> dict[int, int]:
    """Where fenced code begins -> the line after its end. A fence that nothing ends is text.

    Lines are read backwards, so that the end of each fence is known where it begins.
    """
    ends: dict[int, int] = {}
    closing: dict[str, int] = {}  # a fence without more on its line -> the next such line
    for place in range(len(lines) - 1, -1, -1):
        if match := _FENCE.match(lines[place]):
            fence = match[1]
            later = [n for closer, n in closing.items() if closer.startswith(fence)]
            if later:
                ends[place] = min(later) + 1
            if lines[place].strip() == fence:
                closing[fence] = place
    return ends


def _title(lines: list[str], kind: str, begun: bool) -> tuple[str, int]:
    """The title that begins with the first of up to three lines, and how many lines it takes.

    ("", 1) where none does. Where a paragraph has `begun`, only a title with "#" can follow.
    """
    first = lines[0].rstrip()
    if kind in _MARKDOWN and re.match(r"#{1,6}\s", lines[0]):
        title = lines[0].lstrip("#").strip()
        bare = title.rstrip("#")  # a closing sequence, but "C#" keeps its own
        title = bare.rstrip() if bare[-1:].isspace() else title
        if title:
            return title, 1
    marks = "=-" if kind in _MARKDOWN else "=-~^\"'#*+"
    if not begun and _is_underlined(lines[:2], marks):
        return first, 2
    if not begun and _UNDERLINE.match(first) and _is_underlined(lines[1:], marks, over=first):
        return lines[1].strip(), 3
    return "", 1


def _is_underlined(lines: list[str], marks: str, over: str = "") -> bool:
    """Whether the second line makes a title of the first, which a line `over` lets indent."""
    if len(lines) < 2:
        return False
    title, under = lines[0].rstrip(), lines[1].rstrip()
    fits = bool(_UNDERLINE.match(under)) and under[0] in marks and len(under) >= len(title)
    if not fits or "|" in title or (over and over != under):
        return False
    return not _NO_TITLE.match(title.strip() if over else title)
