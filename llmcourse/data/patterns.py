"""Trouble that can be seen in the text itself: personal data, left-over HTML, wrong encoding.

Patterns find what has a form: addresses, numbers, tags. Names of people have none, so they are
not found here.
"""

from __future__ import annotations

import bisect
import html.entities
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, PageElement, Tag

Span = tuple[int, int]  # where something begins and ends in a text

PERSONAL = ("e-mail", "card", "IBAN", "phone", "IP", "date of birth", "address")

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_YEAR = r"(?:19|20)\d\d"
_DATE = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH},? {_YEAR}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? {_YEAR}"
    rf"|\d{{1,2}}[./-]\d{{1,2}}[./-]{_YEAR}|{_YEAR}-\d\d-\d\d)"
)
_STREET = (
    "Street|St|Road|Rd|Lane|Ln|Avenue|Ave|Drive|Close|Court|Way|Place|Square|Terrace|Crescent|"
    "Boulevard|Blvd|Gardens|Row|Hill|Mews|Quay"
)
_FORMS: dict[str, re.Pattern[str]] = {
    "e-mail": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "card": re.compile(
        r"(?<![\w.-])(?:(?:\d{4}[ -]){3}\d{1,4}|\d{4}[ -]\d{6}[ -]\d{5}|\d{13,16})(?![\w-])"
    ),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "phone": re.compile(
        r"(?<![\w.,+-])(?:\+\d[\d ().-]{6,20}\d|\(?0\d{2,5}\)?(?:[ /-]\d{3,8}){1,3}"
        r"|0\d(?:[ .]\d\d){4}|(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}"
        r"|(?<=phone )\d[\d /-]{4,14}\d|(?<=phone: )\d[\d /-]{4,14}\d"
        r"|(?<=tel )\d[\d /-]{4,14}\d|(?<=tel\. )\d[\d /-]{4,14}\d|(?<=tel: )\d[\d /-]{4,14}\d)"
        r"(?![\w-])",
        re.IGNORECASE,
    ),
    "IP": re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"),
    "date of birth": re.compile(
        rf"\b(?:born|date of birth|d\.?o\.?b\.?|birthday)(?: on| is|:)? ?{_DATE}", re.IGNORECASE
    ),
    "address": re.compile(
        rf"(?<![\w.,-])\d{{1,5}}[a-zA-Z]?,? (?:[A-Z][\w'’-]{{1,30}} ){{1,3}}(?:{_STREET})\b"
        r"|\b[A-ZÄÖÜ]\w{2,30}(?:straße|strasse|str\.|gasse|allee) \d{1,4}[a-z]?\b"
        r"|(?<![\w.,-])\d{1,4},? (?:rue|avenue|boulevard|chemin|impasse) [\w'’-]{1,30}"
        r"(?: [A-ZÀ-Ý][\w'’-]{1,30})*"
    ),
}
# What stands before a number that is no telephone's: "order 0123 456 789".
_NUMBERED = re.compile(
    r"(?:order|case|part|serial|invoice|ref(?:erence)?|article|item|ticket|parcel|tracking|model)"
    r"s?(?: number| no)?[.:#]? ?#?\(?$",
    re.IGNORECASE,
)
_VERSION = re.compile(r"(?:version|release|firmware|latch|update|\bv)\.? ?$", re.IGNORECASE)


def personal(text: str, keep: Collection[str] = ()) -> list[tuple[int, int, str]]:
    """Where `text` holds personal data, as (start, end, kind of `PERSONAL`), from left to right.

    Args:
        text: Where to look.
        keep: Pieces that may stay, such as the company's own "@ferrowick.example": what contains
            one of them is passed over.
    """
    if not ("@" in text or re.search(r"\d", text)):
        return []
    found: list[tuple[int, int, str]] = []
    kept = [piece.lower() for piece in keep]
    for kind, form in _FORMS.items():
        if kind == "e-mail" and "@" not in text:
            continue
        taken, more = _Spans([(start, end) for start, end, _ in found]), []
        for match in form.finditer(text):
            start, end = match.span()
            if taken.meet(start, end) or any(piece in match[0].lower() for piece in kept):
                continue
            if _is_one(kind, match[0], text[max(0, start - 30) : start]):
                more.append((start, end, kind))
        found = sorted(found + more)
    return found


class _Spans:
    """Pieces of a text, in order and apart, among which one is found by halving."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def meet(self, start: int, end: int) -> bool:
        """True where one of them has something of the text from `start` up to `end`."""
        place = bisect.bisect_right(self._ends, start)
        return place < len(self._ends) and self._starts[place] < end


def _is_one(kind: str, piece: str, before: str) -> bool:
    """Whether what has the form of personal data is some: check sums, ranges, the words before."""
    digits = re.sub(r"\D", "", piece)
    if kind == "card":
        return _is_card(piece, digits)
    if kind == "IBAN":
        letters = re.sub(r"\s", "", piece)
        turned = letters[4:] + letters[:4]
        return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1
    if kind == "phone":
        return 7 <= len(digits) <= 15 and not _NUMBERED.search(before)
    if kind == "IP":
        parts = [int(part) for part in piece.split(".")]
        usual = parts[0] not in (0, 127, 255) and max(parts) <= 255 and len(piece) >= 8
        return usual and not _VERSION.search(before)
    return True


def _is_card(piece: str, digits: str) -> bool:
    """Digits in groups of four as on a card, or a number whose check digit is right.

    The check is Luhn's (US patent 2,950,048, 1960). One number in ten passes by chance, and a
    mistyped card fails, so four groups of four that begin like a card's count without it.
    """
    if digits[0] not in "3456":
        return False
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    right = sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0
    return right or bool(re.fullmatch(r"(?:\d{4}[ -]){3}\d{1,4}", piece))


def masked(text: str, keep: Collection[str] = ()) -> str:
    """`text` with each piece of personal data replaced by its kind, such as "[e-mail]"."""
    pieces, last = [], 0
    for start, end, kind in personal(text, keep):
        pieces += [text[last:start], f"[{kind}]"]
        last = end
    return "".join([*pieces, text[last:]])


# --- HTML -----------------------------------------------------------------------------------------

# Tags whose text stands in lines of its own, and those whose text nobody reads.
BLOCKS = (
    "p",
    "div",
    "br",
    "li",
    "ul",
    "ol",
    "tr",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "section",
    "article",
    "aside",
    "header",
    "footer",
    "main",
    "blockquote",
    "pre",
    "hr",
    "dl",
    "dd",
    "dt",
    "form",
    "button",
    "label",
)
UNREAD = ("script", "style", "head", "noscript", "template")
_TAGS = "|".join(BLOCKS) + (
    "|a|abbr|b|body|code|em|font|head|html|i|iframe|img|input|link|meta|nav|noscript|option|script"
    "|select|small|span|strong|style|sub|sup|svg|tbody|td|textarea|th|thead|title|u|video"
)
_VALUE = r"""(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""
_FORM = (
    rf"<(?P<close>/?)(?P<name>{_TAGS})(?P<attributes>(?:\s+[a-z_:@][\w:.@-]*\s*=\s*{_VALUE})*)"
    r"\s*/?>|<!doctype[^<>]*>"
)
_TAG = re.compile(_FORM, re.IGNORECASE)
_TAG_OR_COMMENT = re.compile(rf"{_FORM}|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{2,7}|#x[\da-f]{2,6}|[a-z][a-z\d]{1,7});", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_VOID = ("br", "hr", "img", "input", "link", "meta")


@cache
def _entities() -> frozenset[str]:
    """The names of entities that stand for letters and signs of print, not for mathematics."""
    codes = html.entities.name2codepoint.items()
    prints = {name for name, code in codes if code < 0x100 or 0x2000 <= code < 0x2070}
    return frozenset(prints - {"not"} | {"euro", "trade", "bull", "apos", "rarr", "larr"})


def markup(text: str) -> list[tuple[int, int]]:
    """Where `text` holds tags and entities of HTML that are meant as markup.

    "a < b", "if x<y and y>z" and `List<int>` are none. Neither is what stands in backticks, as
    code does in Markdown. A tag alone counts where it can't be anything else: it is closed, has
    attributes, needs no end (<br>), or begins a line.
    """
    if not ("<" in text or "&" in text):
        return []
    code = _Spans([match.span() for match in _CODE.finditer(text)] if "`" in text else [])
    tags = [one for one in _tags(text) if not code.meet(one.start(), one.start() + 1)]
    closed = {match["name"].lower() for match in tags if match["close"]}
    opened = {match["name"].lower() for match in tags if match["name"] and not match["close"]}
    last = len(text.rstrip())
    found = [match.span() for match in tags if _is_tag(match, text, last, opened, closed)]
    for match in _ENTITY.finditer(text):
        name, start = match[0][1:-1], match.start()
        if (name[0] == "#" or name in _entities()) and not code.meet(start, start + 1):
            found.append(match.span())
    return sorted(found)


def _tags(text: str) -> Iterator[re.Match[str]]:
    """What looks like a tag or a comment; comments are sought only up to the last end of one."""
    comments = text.rfind("-->") + 3 if "-->" in text else 0
    yield from _TAG_OR_COMMENT.finditer(text, 0, comments)
    yield from _TAG.finditer(text, comments)


def _is_tag(match: re.Match[str], text: str, last: int, opened: set[str], closed: set[str]) -> bool:
    """True where what looks like a tag is one.

    Args:
        match: What looks like a tag.
        text: Where it is.
        last: Where the blanks at the end of `text` begin.
        opened: The names of all that is opened in it.
        closed: The names of all that is closed in it.
    """
    name = (match["name"] or "").lower()
    if not name or name in _VOID or match["attributes"]:
        return True
    if match["close"]:
        return name in opened or match.end() >= last
    begins = match.start() == 0 or text[match.start() - 1] == "\n"
    return name in closed or begins


def without_markup(text: str) -> str:
    """The readable text of `text`, which holds HTML; scripts and styles are left out.

    What `markup` does not take for HTML is escaped first, so that the parser leaves it alone.
    """
    from bs4 import BeautifulSoup

    if not (spans := markup(text)):
        return text
    plain = readable(BeautifulSoup("".join(_escaped(text, spans)), "html.parser"))
    plain = re.sub(r"\n[ \t\xa0]+", "\n", without_line_ends(plain))
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def without_line_ends(text: str) -> str:
    """`text` without the blanks before the ends of its lines."""
    return re.sub(r"(?<![ \t\xa0])[ \t\xa0]++(?=\n)", "", text)


def readable(soup: BeautifulSoup, gap: str = "\n") -> str:
    """The text of a page, without what nobody reads.

    Args:
        soup: The page.
        gap: What stands between two blocks, such as paragraphs.
    """
    from bs4 import CData, NavigableString

    pieces: list[str] = []
    last = gap  # the piece before, without the blanks at its end
    for node, opens in _walk(soup):
        piece = ""
        if type(node) in (NavigableString, CData):  # no comment, no reading of signs
            piece = str(node)
        elif node.name in BLOCKS:
            begins = node.name == "br" or last.endswith(gap)
            piece = "" if opens and begins else gap
        elif node.name in ("td", "th") and not opens:
            piece = " "
        pieces.append(piece)
        last = piece.rstrip(" \t\xa0") or last
    return "".join(pieces)


def _walk(soup: Tag) -> Iterator[tuple[PageElement, bool]]:
    """Each text of a page (True), and each tag where it opens (True) and where it closes (False).

    Tags whose text nobody reads are passed over. However deep the tags stand, nothing recurs.
    """
    open_tags, left = [soup], [iter(soup.contents)]
    while left:
        node = next(left[-1], None)
        if node is None:
            left.pop()
            yield open_tags.pop(), False
        elif not hasattr(node, "contents"):
            yield node, True
        elif node.name not in UNREAD:
            yield node, True
            open_tags.append(node)
            left.append(iter(node.contents))


def _escaped(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    """The pieces of `text`, all escaped but the `spans`."""
    last = 0
    for start, end in [*spans, (len(text), len(text))]:
        if start < last:  # an entity within a tag's attribute
            continue
        yield html.escape(text[last:start], quote=False)
        yield text[start:end]
        last = end


# --- encoding -------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")


def garbled(text: str) -> str:
    """What is wrong with the encoding of `text`, in a word or two; "" where nothing is.

    Text decoded with the wrong encoding is told by `ftfy` from sequences that no language has.
    """
    if text.isascii():
        return "control characters" if _CONTROL.search(text) else ""
    if "\ufffd" in text:
        return "lost characters"
    from ftfy.badness import is_bad

    if is_bad(text):
        return "wrongly decoded"
    return "control characters" if _CONTROL.search(text) else ""


@cache
def _mending() -> Any:
    """Mends wrong decoding and control characters and leaves all else, quotes above all."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
        explain=False,
    )


def ungarbled(text: str) -> str:
    """`text` decoded rightly and without control characters, where `garbled` finds fault.

    Lost characters (U+FFFD) can't be brought back and stay.
    """
    if not garbled(text):
        return text
    from ftfy import fix_text

    return _CONTROL.sub("", fix_text(text, _mending()))
