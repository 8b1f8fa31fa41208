"""Problems that a text shows by itself: personal data, left-over HTML, wrong encoding.

Patterns find what has a form: addresses, numbers, tags. Names of people have none, so they are
not found here. Each pattern runs in time proportional to the text: a text from the web may be
large and strange.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Collection
from functools import cache
from html.parser import HTMLParser
from typing import Any

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
# Searched for in this order, so that an IBAN's digits are not taken for a card's, nor a card's for
# a telephone number.
_FORMS: dict[str, re.Pattern[str]] = {
    "e-mail": re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "IBAN": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    "card": re.compile(
        r"(?<![\w.-])(?:(?:\d{4}[ -]){3}\d{1,4}|\d{4}[ -]\d{6}[ -]\d{5}|\d{13,16})(?![\w-])"
    ),
    "phone": re.compile(
        r"(?<![\w.,+-])(?:(?:\+|00(?=[1-9]))\d[\d ().-]{6,20}\d"
        r"|\(?0\d{2,5}\)?[ /-]\d{3,8}(?:[ /-]\d{2,8}){0,3}|0[1-9]\d{8,9}"
        r"|0\d(?:[ .]\d\d){4}|(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}"
        r"|(?<=phone )\d[\d /-]{4,14}\d|(?<=phone: )\d[\d /-]{4,14}\d"
        r"|(?<=tel )\d[\d /-]{4,14}\d|(?<=tel\. )\d[\d /-]{4,14}\d|(?<=tel: )\d[\d /-]{4,14}\d"
        r"|(?<=tel\.: )\d[\d /-]{4,14}\d|(?<=telefon: )\d[\d /-]{4,14}\d)"
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
PERSONAL = ("e-mail", "card", "IBAN", "phone", "IP", "date of birth", "address")  # as shown
# What comes before a number that is no telephone number ("order 0123 456 789"), or no address of
# a machine ("version 10.12.14.16").
_NOT_BEHIND = {
    "phone": re.compile(
        r"(?:order|case|part|serial|invoice|ref(?:erence)?|article|item|ticket|parcel|tracking|"
        r"model|isbn)s?(?: number| no)?[.:#]? ?#?\(?$",
        re.IGNORECASE,
    ),
    "IP": re.compile(r"(?:version|release|firmware|latch|update|\bv)\.? ?$", re.IGNORECASE),
}


def personal(text: str, keep: Collection[str] = ()) -> tuple[str, list[str]]:
    """`text` with its personal data masked, and the kind of each piece (of `PERSONAL`).

    Args:
        text: Where to look.
        keep: Pieces that may stay, such as the company's own "@ferrowick.example": what contains
            one of them is no personal data.
    """
    kinds: list[str] = []
    if not ("@" in text or re.search(r"\d", text)):  # no form can match, as in most texts
        return text, kinds
    kept = [piece.lower() for piece in keep]
    for kind, form in _FORMS.items():

        def mask(match: re.Match[str], kind: str = kind) -> str:
            before = match.string[max(0, match.start() - 30) : match.start()]
            found = match[0]
            # what follows an IBAN ("… 3201 BIC") may look like its last group
            while kind == "IBAN" and " " in found and not _is_valid(kind, found, before):
                found = found.rpartition(" ")[0]
            own = any(piece in found.lower() for piece in kept)
            if own or not _is_valid(kind, found, before):
                return match[0]
            kinds.append(kind)
            return f"[{kind}]{match[0][len(found) :]}"

        text = form.sub(mask, text)
    return text, kinds


def masked(text: str, keep: Collection[str] = ()) -> str:
    """`text` with each piece of personal data replaced by its kind, such as "[e-mail]"."""
    return personal(text, keep)[0]


def _is_valid(kind: str, piece: str, before: str) -> bool:
    """Whether what has the form is some: check digits, ranges, the words before."""
    if kind in _NOT_BEHIND and _NOT_BEHIND[kind].search(before):
        return False
    digits = re.sub(r"\D", "", piece)
    if kind == "card":
        # Luhn's check digit (US patent 2,950,048, 1960). One number in ten passes it by chance,
        # and a mistyped card fails it, so four groups of four as on a card count without it.
        doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
        passes = sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0
        grouped = re.fullmatch(r"(?:\d{4}[ -]){3}\d{1,4}", piece)
        known = digits[0] in "3456" or "2221" <= digits[:4] <= "2720"  # the latter is Mastercard's
        return known and (passes or grouped is not None)
    if kind == "IBAN":  # the check of ISO 13616: letters count from 10 on, the country comes last
        letters = re.sub(r"\s", "", piece)
        return int("".join(str(int(one, 36)) for one in letters[4:] + letters[:4])) % 97 == 1
    if kind == "phone":
        return 7 <= len(digits) <= 15
    if kind == "IP":
        parts = [int(part) for part in piece.split(".")]
        return parts[0] not in (0, 127, 255) and max(parts) <= 255 and len(piece) >= 8
    return True


# --- HTML -----------------------------------------------------------------------------------------

# Tags whose text has lines of its own, and those whose text nobody reads.
BLOCKS = frozenset(
    """
    p div br li ul ol tr table h1 h2 h3 h4 h5 h6 section article aside header footer main
    blockquote pre hr dl dd dt form button label
    """.split()  # noqa: SIM905 (a list would be far longer)
)
UNREAD = ("script", "style", "head", "noscript", "template", "nav")
_TAGS = "|".join(sorted(BLOCKS)) + (
    "|a|abbr|b|body|code|em|font|head|html|i|iframe|img|input|link|meta|nav|noscript|option|script"
    "|select|small|span|strong|style|sub|sup|svg|tbody|td|textarea|th|thead|title|u|video"
)
_VALUE = r"""(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""
# Code in backticks comes first, as a tag in it is no markup. A comment ends before the next one
# begins: looking for the end of each of many open ones would take time with the square of the text.
_MARKUP = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|<!--(?:(?!<!--).)*?-->|<!doctype[^<>]*>"
    rf"|<(?P<close>/?)(?P<name>{_TAGS})(?P<attributes>(?:\s+[a-z_:@][\w:.@-]*\s*=\s*{_VALUE})*)"
    r"\s*/?>"
    r"|&(?P<entity>#\d{2,7}|#x[\da-f]{2,6}|[a-z][a-z\d]{1,7});",
    re.IGNORECASE | re.DOTALL,
)
_VOID = ("br", "hr", "img", "input", "link", "meta")  # tags without an end


@cache
def _entities() -> frozenset[str]:
    """The names of entities that stand for letters and print characters, not for mathematics."""
    codes = html.entities.name2codepoint.items()
    prints = {name for name, code in codes if code < 0x100 or 0x2000 <= code < 0x2070}
    return frozenset(prints - {"not"} | {"euro", "trade", "bull", "apos", "rarr", "larr"})


def markup(text: str) -> list[tuple[int, int]]:
    """Where `text` holds tags and entities of HTML that are meant as markup: (start, end) of each.

    "a < b", "if x<y and y>z" and `List<int>` are none. Neither is what is in backticks, as
    code does in Markdown. A tag alone counts where it can't be anything else: it is closed, has
    attributes, needs no end (<br>), or begins a line.
    """
    if not ("<" in text or "&" in text):
        return []
    found = [match for match in _MARKUP.finditer(text) if not match["code"]]
    closed = {match["name"].lower() for match in found if match["close"]}
    opened = {match["name"].lower() for match in found if match["name"] and not match["close"]}
    last = len(text.rstrip())  # where the text ends, but for blanks and closing tags
    for match in reversed(found):
        if not match["close"] or text[match.end() : last].strip():
            break
        last = match.start()

    def is_markup(match: re.Match[str]) -> bool:
        if entity := match["entity"]:
            return entity[0] == "#" or entity in _entities()
        name = (match["name"] or "").lower()
        if not name or name in _VOID or match["attributes"]:
            return True
        if match["close"]:
            return name in opened or match.start() >= last
        return name in closed or match.start() == 0 or text[match.start() - 1] == "\n"

    return [match.span() for match in found if is_markup(match)]


def without_markup(text: str) -> str:
    """The readable text of `text`, which holds HTML; scripts and styles are left out."""
    if not (spans := markup(text)):
        return text
    pieces, last = [], 0
    for start, end in [*spans, (len(text), len(text))]:
        # what is no markup is escaped, so that the parser leaves it alone
        pieces += [html.escape(text[last:start], quote=False), text[start:end]]
        last = end
    plain = re.sub(r"\n[ \t\xa0]+", "\n", without_line_ends(readable("".join(pieces))))
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def without_line_ends(text: str) -> str:
    """`text` without the blanks before the ends of its lines."""
    return re.sub(r"(?<![ \t\xa0])[ \t\xa0]++(?=\n)", "", text)


def readable(page: str, gap: str = "\n", heading: str = "") -> str:
    """The text of a page, without what nobody reads.

    Args:
        page: HTML, well formed or not.
        gap: Put between two blocks, such as paragraphs.
        heading: Begins the line of each heading, and a table that names its columns (`th`) is
            written as in Markdown; "" makes headings and rows blocks like others.
    """
    for begin, end in (("<!--", "-->"), ("<", ">")):  # the parser takes long over what never ends
        done, found, rest = page.rpartition(end)
        page = done + found + rest.replace(begin, html.escape(begin))
    parser = _PageText(gap, heading)
    parser.feed(page.replace("<![", "<!"))  # the parser raises at some sections, such as Word's
    parser.close()
    parser.end_row()
    parser.end_heading()
    return "".join(parser.pieces)


# Elements that always have an end, and the attributes by which nobody sees them: hidden ones, and
# what asks for consent to cookies.
_CLOSED = ("p", "div", "section", "aside", "span", "form", "dialog", "footer", "ul", "button")
_HIDDEN = re.compile(
    r"(?:^|\n)hidden=(?!until)|aria-hidden=true|display: ?none|visibility: ?hidden"
    r"|(?:id|class)=[^\n]{0,200}?(?:cookie[-_]?(?:banner|consent|notice|bar|popup|dialog)|gdpr[-_]?(?:banner|consent|notice|bar|popup|dialog)|onetrust)",
    re.IGNORECASE,
)


class _PageText(HTMLParser):
    """Collects the text of a page. However deep its tags nest, nothing recurs."""

    def __init__(self, gap: str, heading: str) -> None:
        super().__init__()
        self.gap, self.heading = gap, heading
        self.pieces: list[str] = []
        self.last = gap  # the piece before, without the blanks at its end
        self.hidden = 0  # tags that are open and whose text nobody reads
        # rows so far of a table that names its columns, if one is open
        self.rows: int | None = None
        self.row = 0  # the place of the open row's first piece, if one is open
        # a tag that is hidden by its attributes, and how many of it are open
        self.cover, self.covers = "", 0
        self.title: int | None = None  # the place of the open heading's first piece

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if self.cover == "p" and tag in BLOCKS:  # a paragraph ends where a block begins
            self.cover = ""
        if tag == self.cover:
            self.covers += 1
        elif not self.cover and tag in _CLOSED:
            said = "\n".join(f"{name}={value or ''}" for name, value in attrs)
            self.cover, self.covers = (tag, 1) if _HIDDEN.search(said) else ("", 0)
        if tag in UNREAD:
            self.hidden += 1
        elif tag == "body":
            self.hidden = 0  # a page may leave the end of its head out
        elif tag in BLOCKS:
            if self._is_heading(tag):
                self.end_heading()
                self.title = len(self.pieces)
            elif self.rows is not None:
                self._add(" ")  # a row is one line, whatever its cells hold
            elif not self.last.endswith(self.gap) or tag in _VOID:
                self._add(self.gap)
            if tag == "tr":
                self.end_row()
                self.row = len(self.pieces)  # cells may come before the first `th`
        elif tag in ("td", "th"):
            if tag == "th" and self.heading and self.rows is None:
                self.rows, self.row = 0, self.row or len(self.pieces)
            self._add("" if self.rows is None else " | ")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.cover:
            self.covers -= 1
            self.cover = tag if self.covers else ""
        if tag in UNREAD:
            self.hidden = max(0, self.hidden - 1)
        elif self._is_heading(tag):
            self.end_heading()
        elif self.rows is not None and tag in ("tr", "table"):
            self.end_row()
            if tag == "table":
                self.rows, self.row = None, 0
                self._add(self.gap)
        elif tag in BLOCKS and tag not in _VOID:
            self._add(self.gap if self.rows is None else " ")
            self.row = 0 if tag in ("tr", "table") else self.row
        elif tag in ("td", "th"):
            self._add(" ")

    def handle_data(self, data: str) -> None:
        self._add(data)

    def _add(self, piece: str) -> None:
        if not (self.hidden or self.cover):
            self.pieces.append(piece)
            self.last = piece.rstrip(" \t\xa0") or self.last

    def _is_heading(self, tag: str) -> bool:
        level = self.heading and self.rows is None and re.fullmatch("h[1-6]", tag)
        return bool(level)

    def end_row(self) -> None:
        """Put the open row, of a table that names its columns, into one line."""
        if self.rows is None:
            return
        row = " ".join("".join(self.pieces[self.row :]).split())
        del self.pieces[self.row :]
        if row:
            self.rows += 1
            self._add(row + ("\n|---|\n" if self.rows == 1 else "\n"))
        self.row = len(self.pieces)

    def end_heading(self) -> None:
        """Put the text of the open heading, if one is open, into a line of its own."""
        if self.title is not None:
            title = " ".join("".join(self.pieces[self.title :]).split())
            self.pieces[self.title :] = [f"\n{self.heading}{title}\n\n"]
            self.title, self.last = None, "\n\n"


# --- encoding -------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")


def is_garbled(text: str) -> bool:
    """Whether `text` was decoded wrongly, lost characters (U+FFFD), or has control characters.

    `ftfy` knows wrongly decoded text by sequences that occur in no language.
    """
    if _CONTROL.search(text) or text.isascii():
        return _CONTROL.search(text) is not None
    from ftfy.badness import is_bad

    return "\ufffd" in text or bool(is_bad(text))


def ungarbled(text: str) -> str:
    """`text` decoded rightly and without control characters; lost characters stay lost."""
    if not is_garbled(text):
        return text
    from ftfy import fix_text

    # What is fixed is wrong decoding. Quotes, ligatures and entities are the author's.
    fixed = fix_text(
        text,
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
        explain=False,
    )
    return _CONTROL.sub("", fixed)
