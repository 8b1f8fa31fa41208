"""A folder of documents as passages, each with its heading."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmcourse.data.converting import CONVERTED, converted
from llmcourse.data.patterns import readable, ungarbled
from llmcourse.data.readers import TABLES, any_text, decoded
from llmcourse.data.records import Problem
from llmcourse.errors import DataError, SettingError, whole
from llmcourse.words import ENDS, size

_TEXTS = (".md", ".markdown", ".txt", ".rst", ".html", ".htm")
KINDS = (*_TEXTS, *CONVERTED)
_MARKDOWN = (".md", ".markdown", "", *CONVERTED)  # without ending: README
_UNREAD = ("node_modules", "__pycache__", "venv")  # folders of tools; hidden ones are unread too
# What systems and programs leave behind in folders: nobody misses it.
_LEFT = re.compile(r"\._.*|~\$.*|\.~lock.*|\.DS_Store|Thumbs\.db|desktop\.ini|__MACOSX", re.I)
SHOWN = 5  # files that are named where a folder gives nothing
LARGEST = 20_000_000  # bytes; more is no document that a person wrote
# Up to the mark that ends a sentence, or to the end of a line.
_SENTENCE = re.compile(
    rf".+?(?:(?<![.!?…])[.!?…]++[\"'”’»)\]]*\s+|[{ENDS}]+[”’」』）]*\s*|\n|$)", re.DOTALL
)
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

    @property
    def title(self) -> str:
        """The document's name in words."""
        return PurePosixPath(self.document).stem.replace("-", " ").replace("_", " ").strip()

    def record(self) -> dict[str, str]:
        """The passage as a record with a text."""
        return {"text": self.text, "document": self.document, "heading": self.heading}


@dataclass(frozen=True)
class Documents:
    """A folder of documents, read.

    Attributes:
        passages: Of all its documents.
        skipped: What gave no passages, or not all, and why: nothing vanishes without a word.
        guessed: Which documents are in an encoding that was guessed, in a line each.
    """

    passages: list[Passage]
    skipped: list[Problem]
    guessed: list[str]


def from_documents(folder: str | Path, *, words: int = 80) -> list[Passage]:
    """Cut every document below `folder` into passages; see `read_documents`."""
    return read_documents(folder, words=words).passages


def read_documents(folder: str | Path, *, words: int = 80) -> Documents:
    """Cut every document below `folder` into passages, at headings and between paragraphs.

    A table longer than `words` is cut between its rows, and each piece begins with the names of its
    columns: in Markdown, and in HTML where it has some (`th`). Each passage knows its heading.

    Markdown, reStructuredText, plain text, HTML, notebooks, subtitles and e-mail are read (`KINDS`,
    and files named README), and with the package markitdown PDF, Word and others. A file that can't
    be read stops no other; it is listed. Links to folders are not followed, so that a loop of links
    does no harm; hidden folders and those of tools (.git, node_modules) are not read. Headings that
    begin with "#" are Markdown's alone. Settings at a document's beginning (front matter) are left
    out, as is what a page hides. Characters of HTML pages that were decoded wrongly are fixed.

    Args:
        folder: Where the documents are.
        words: About the longest passage, in words; the default finds the most in
            `benchmarks/chunking.py`. A paragraph of over twice as many is cut where sentences end;
            in a script without blanks each character counts as a word.

    Raises:
        DataError: no such folder, no document in it, or none that gives a text.
        SettingError: `folder` is no path or blank, or `words` is below 1.
    """
    words, root, found = whole("words", words, 1), _root(folder), Documents([], [], [])
    paths = _files(root)
    for path in paths:
        name, why = path.relative_to(root).as_posix(), _no_document(path)
        if not why:
            try:
                text, encoding, unread = _text(path)
            except DataError as error:
                why = str(error).rstrip(".")
            else:
                pieces = list(_passages(text, path.suffix.lower(), words))
                found.passages.extend(Passage(t, h, name, n) for n, (h, t) in enumerate(pieces, 1))
                why = "; ".join(unread) if pieces else _no_text(path)
                if encoding:
                    found.guessed.append(
                        f"{name} is read as {encoding}; save it as UTF-8 if not so"
                    )
        if why:
            found.skipped.append(Problem(str(path), 0, "", why))
    if not found.passages:
        what = f"holds no documents. They are read from {', '.join(KINDS)}"
        if any(_is_document(path) for path in paths):
            what = "holds no document with a text"
        listed = (f"{Path(p.source).relative_to(root)}: {p.problem}" for p in found.skipped[:SHOWN])
        raise DataError(f"{folder} {what}. In it: {'; '.join(listed) or 'nothing at all'}.")
    return found


def _no_document(path: Path) -> str:
    """Why a path is no document; "" where it is one."""
    if path.is_dir():
        link = "a link to a folder, which is not followed"
        if path.is_symlink():
            return link
        if not os.access(path, os.R_OK | os.X_OK):
            return "a folder that can't be read"
        return "a hidden folder or one of tools, which is not read"
    if _is_document(path):
        return ""
    if path.suffix.lower() in TABLES:
        return "records and no document; name the file itself"
    kind = path.suffix or "without ending"
    return f"of the kind {kind!r}; documents are read from {', '.join(KINDS)}"


def _no_text(path: Path) -> str:
    scanned = "; scanned pages need text recognition first"
    return f"it holds no text{scanned if path.suffix.lower() == '.pdf' else ''}"


def _root(folder: str | Path) -> Path:
    if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
        raise SettingError(f"folder={folder!r:.80} is no path of a folder.")
    root = os.path.expanduser(folder)  # noqa: PTH111 - never raises, unlike Path's; so does isdir
    if not os.path.isdir(root):  # noqa: PTH112
        raise DataError(f"{folder!s:.200}: there is no such folder.")
    return Path(root)


def _files(root: Path) -> list[Path]:
    """All files below `root`, and the folders that are not entered, in a fixed order."""

    found: list[Path] = []

    def refuse(error: OSError) -> None:
        if Path(error.filename) == root:
            raise DataError(f"{root} can't be read: {error.strerror or error}.") from error
        found.append(Path(error.filename))

    for place, folders, names in os.walk(root, onerror=refuse):
        closed = [
            name
            for name in folders
            if name.startswith(".") or name in _UNREAD or Path(place, name).is_symlink()
        ]
        folders[:] = [name for name in folders if name not in closed]
        found += [Path(place, one) for one in (*names, *closed) if not _LEFT.fullmatch(one)]
    return sorted(found)


def _is_document(path: Path) -> bool:
    named = path.suffix.lower() in KINDS or (path.stem.upper() == "README" and not path.suffix)
    return named and not path.is_dir()


def _text(path: Path) -> tuple[str, str, list[str]]:
    """A document's text, the encoding that was guessed for it, and what of it is not read.

    Raises:
        DataError: it can't be read.
    """
    try:
        if path.suffix.lower() in CONVERTED:
            text, unread = converted(path)
            return text, "", unread
        if path.stat().st_size > LARGEST:
            raise DataError(f"it has over {LARGEST // 1_000_000} MB; that is no document")
        text, encoding = any_text(path.read_bytes())
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}") from error
    if not encoding:
        decoded(text.encode("utf-8", "surrogateescape"))  # damaged, or NUL bytes
    return text, encoding, []


def _passages(text: str, kind: str, words: int) -> Iterator[tuple[str, str]]:
    """(heading, piece) for each passage of a document."""
    sections = _of_page(text) if kind in (".html", ".htm") else _of_text(text, kind)
    for heading, blocks in sections:
        for piece in _pieces(blocks, words):
            yield heading, piece


def _pieces(paragraphs: list[str], words: int) -> Iterator[str]:
    """Paragraphs, joined while they stay within `words`."""
    piece: list[str] = []
    total = 0
    rows = (part for paragraph in paragraphs for part in _rows(paragraph, words))
    parts = (part for row in rows for part in _sentences(row, words))
    for paragraph in filter(str.strip, parts):
        length = size(paragraph)
        if piece and total + length > words:
            yield "\n\n".join(piece)
            piece, total = [], 0
        piece.append(paragraph.strip())
        total += length
    if piece:
        yield "\n\n".join(piece)


def _rows(paragraph: str, words: int) -> Iterator[str]:
    """A long Markdown table in pieces of `words`: a row means nothing without its columns' names.

    Anything else stays as it is.
    """
    lines = paragraph.splitlines()
    below = next((n for n, line in enumerate(lines[1:], 2) if _COLUMNS.fullmatch(line)), 0)
    if not below or size(paragraph) <= words or _FENCE.match(lines[0]):
        yield paragraph
        return
    names = lines[below - 2 : below]
    piece = lines[:below]  # text right above the table stays with its first rows
    for number, row in enumerate(lines[below:]):
        if number and size("\n".join([*piece, row])) > words:
            yield "\n".join(piece)
            piece = names.copy()
        piece.append(row)
    yield "\n".join(piece)


def _sentences(paragraph: str, words: int) -> Iterator[str]:
    """A paragraph, in pieces of about `words` where it has over twice as many.

    Code and rows of tables stay whole.
    """
    first = paragraph.split("\n", 1)[0]
    if size(paragraph) <= 2 * words or first.startswith("|") or _FENCE.match(first):
        yield paragraph
        return
    piece, total = "", 0
    for sentence in _SENTENCE.findall(paragraph):
        length = size(sentence)
        if piece and total + length > words:
            yield piece
            piece, total = "", 0
        if length > 2 * words:  # a sentence without end: at blanks, or anywhere
            share = max(1, len(sentence) * words // length)
            yield from textwrap.wrap(sentence, share, break_on_hyphens=False)
            continue
        piece, total = piece + sentence, total + length
    if piece:
        yield piece


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
    heading, blocks = "", []
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
    mark = lines[0].rstrip() if lines else ""
    if mark not in ("---", "+++") or not re.match(r"#|[\w-]+\s*[:=]", "".join(lines[1:2])):
        return 0
    ends = (n for n, line in enumerate(lines[1:], 2) if line.rstrip() in (mark, "..."))
    end = next(ends, 0)
    # (a rule above a heading begins no settings)
    return end if any(re.match(r"[\w-]+\s*[:=]", line) for line in lines[1:end]) else 0


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
