"""A folder of documents as passages, each with the heading it stands under."""

from __future__ import annotations

import bisect
import html
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmcourse.data.patterns import readable, ungarbled
from llmcourse.data.readers import decoded
from llmcourse.data.records import Problem
from llmcourse.errors import DataError, SettingError, first_line, whole

KINDS = (".md", ".markdown", ".txt", ".rst", ".html", ".htm")
_PAGES = (".html", ".htm")
_MARKDOWN = (".md", ".markdown", "")  # without ending: README
_UNREAD = ("node_modules", "__pycache__", "venv")  # folders of tools; hidden ones are unread too
LARGEST = 20_000_000  # bytes; more is no document that a person wrote
_HEADING = "\0"  # begins a heading's line in the text of a page; no document that is read has it


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

    Markdown, reStructuredText, plain text and HTML are read (`KINDS`, and files named README).
    `skipped_documents` lists the others. Links to folders are not followed, so that a loop of links
    does no harm; hidden folders and those of tools (.git, node_modules) are not read. Headings that
    begin with "#" are Markdown's alone. Characters of HTML pages that were decoded wrongly are
    mended.

    Args:
        folder: Where the documents are.
        words: About the longest passage, in words; a longer paragraph stays whole.

    Raises:
        DataError: no such folder, no document or no text in it, or a file that can't be read.
        SettingError: `folder` is no path or blank, or `words` is below 1.
    """
    words = whole("words", words, 1)
    root = _root(folder)
    paths = [path for path in _files(root) if _is_document(path)]
    if not paths:
        raise DataError(f"{folder} holds no documents. They are read from {', '.join(KINDS)}.")
    passages: list[Passage] = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        passages += [
            Passage(text, heading, name, number)
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
        link = path.is_symlink()
        return (
            "a link to a folder, which is not followed"
            if link
            else ("a hidden folder or one of tools, which is not read")
        )
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
    try:
        root = Path(folder).expanduser()
        is_folder, is_there = root.is_dir(), root.exists()
    except (OSError, RuntimeError, ValueError) as error:
        told = first_line(error).rstrip(".")
        raise DataError(f"{str(folder)!r:.200} can't be read: {told}.") from error
    if not is_folder:
        what = "is a file; name the folder it is in" if is_there else "there is no such folder"
        raise DataError(f"{folder}: {what}.")
    return root


def _files(root: Path) -> list[Path]:
    """All files below `root`, and the folders that are not entered, in a fixed order."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} can't be read: {error.strerror or error}.") from error

    found: list[Path] = []
    for place, folders, names in os.walk(root, onerror=refuse):
        closed = [name for name in folders if _is_closed(Path(place, name))]
        folders[:] = [name for name in folders if name not in closed]
        found += [Path(place, name) for name in (*names, *closed)]
    return sorted(found)


def _is_closed(folder: Path) -> bool:
    """True for a folder that is not entered: a link, a hidden one, one of tools."""
    return folder.name.startswith(".") or folder.name in _UNREAD or folder.is_symlink()


def _is_document(path: Path) -> bool:
    named = path.suffix.lower() in KINDS or (path.stem.upper() == "README" and not path.suffix)
    return named and (path.is_file() or path.is_symlink()) and not path.is_dir()


def _passages(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """(heading, piece) for each passage of a document."""
    kind, text = path.suffix.lower(), _text(path)
    sections = _of_page(_from_html(text)) if kind in _PAGES else _sections(text, kind)
    for heading, blocks in sections:
        for piece in _pieces(blocks, words):
            yield heading, piece


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


# --- headings -------------------------------------------------------------------------------------

Section = tuple[str, list[str]]  # a heading, and the paragraphs under it
_UNDERLINE = re.compile(r"([=\-~^\"'#*+])\1{2,}\s*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*$")
_HASHES = re.compile(r"#{1,6}(?=\s)")
_NO_TITLE = re.compile(r"\s|[-*+>|]\s|[^\w]*$")  # indented, an item, a quote, no word


def _sections(text: str, kind: str) -> Iterator[Section]:
    """The parts of a document that is no page. Code between fences is one paragraph."""
    lines = text.splitlines()
    closers = [] if kind == ".rst" else [n for n, one in enumerate(lines) if _FENCE.match(one)]
    place = _front_matter(lines)
    heading, blocks = "", ["\n".join(lines[:place])]
    open_lines: list[str] = []  # of the paragraph that is not finished
    endless: set[str] = set()  # signs that begin a fence which nothing ends from here on
    while place < len(lines):
        line = lines[place]
        begun = bool(open_lines) and not _UNDERLINE.match(open_lines[-1])
        found, used = _title(lines, place, kind, begun)
        end = 0 if found else _fence_end(lines, place, closers, endless)
        if found or end or not line.strip():
            blocks.append("\n".join(open_lines))
            open_lines = []
        if found:
            yield heading, blocks
            heading, blocks = found, []
        elif end:
            blocks.append("\n".join(lines[place:end]))
            used = end - place
        elif line.strip():
            open_lines.append(line)
        place += used
    yield heading, [*blocks, "\n".join(open_lines)]


def _front_matter(lines: list[str]) -> int:
    """How many lines at the beginning are settings between `---`, as site builders have them."""
    if len(lines) < 3 or lines[0].rstrip() != "---" or not re.match(r"#|[\w-]+\s*:", lines[1]):
        return 0
    ends = (n for n, line in enumerate(lines[1:], 2) if line.rstrip() in ("---", "..."))
    return next(ends, 0)


def _title(lines: list[str], place: int, kind: str, begun: bool) -> tuple[str, int]:
    """The heading that begins at a line and how many lines it takes; ("", 1) where none does.

    Where a paragraph has `begun`, a line under its last line makes no title of that.
    """
    if kind in _MARKDOWN and (title := _hash_title(lines[place])):
        return title, 1
    if begun:
        return "", 1
    signs = "=-" if kind in _MARKDOWN else "=-~^\"'#*+"
    if _is_title(lines, place, signs):
        return lines[place].strip(), 2
    over = lines[place].rstrip()
    if _UNDERLINE.match(over) and _is_title(lines, place + 1, signs, over):
        return lines[place + 1].strip(), 3
    return "", 1


def _hash_title(line: str) -> str:
    """What a line says that begins with "# "; "" where it is no such heading."""
    match = _HASHES.match(line)
    title = line[match.end() :].strip() if match else ""
    bare = title.rstrip("#")
    return bare.rstrip() if bare[-1:].isspace() else title


def _is_title(lines: list[str], place: int, signs: str, over: str = "") -> bool:
    """Whether a line is underlined as a title is; one with a line above it may be indented."""
    if place >= len(lines) - 1:
        return False
    title, under = lines[place].rstrip(), lines[place + 1].rstrip()
    fits = bool(_UNDERLINE.match(under)) and under[0] in signs and len(under) >= len(title)
    if not fits or "|" in title or (over and over != under):
        return False
    return not _NO_TITLE.match(title.strip() if over else title)


def _fence_end(lines: list[str], place: int, closers: list[int], endless: set[str]) -> int:
    """The line after the code that is fenced from a line on; 0 where no fence begins or ends.

    Signs that nothing ends are added to `endless`, so that they are looked for once.
    """
    match = re.match(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})", lines[place])
    if not match or match[1] in endless:
        return 0
    later = (closers[n] for n in range(bisect.bisect_right(closers, place), len(closers)))
    end = next((n + 1 for n in later if lines[n].strip().startswith(match[1])), 0)
    if not end:
        endless.add(match[1])
    return end


# --- pages ----------------------------------------------------------------------------------------


def _of_page(text: str) -> Iterator[Section]:
    """The parts of a page's text, in which `_from_html` has marked the headings."""
    first, *parts = text.split(f"\n{_HEADING}")
    for heading, _, below in [("", "", first), *(part.partition("\n") for part in parts)]:
        yield ungarbled(heading), re.split(r"\n\s*\n", ungarbled(below))


def _from_html(text: str) -> str:
    """The readable text of a page, headings marked; scripts and styles are left out."""
    from bs4 import BeautifulSoup

    for begin, end in (("<!--", "-->"), ("<", ">")):  # the parser takes long over what never ends
        done, found, rest = text.rpartition(end)
        text = done + found + rest.replace(begin, html.escape(begin))
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup("nav"):
        tag.decompose()
    for tag in soup(re.compile(r"^h[1-6]$")):
        if not tag.decomposed:  # as one within another is by now
            tag.insert_before(f"\n{_HEADING}{' '.join(tag.get_text(' ').split())}\n\n")
            tag.decompose()
    return readable(soup, "\n\n")


def _pieces(paragraphs: list[str], words: int) -> Iterator[str]:
    """Paragraphs, joined while they stay within `words`."""
    piece: list[str] = []
    size = 0
    for paragraph in filter(str.strip, paragraphs):
        length = len(paragraph.split())
        if piece and size + length > words:
            yield "\n\n".join(piece)
            piece, size = [], 0
        piece.append(paragraph.strip())
        size += length
    if piece:
        yield "\n\n".join(piece)
