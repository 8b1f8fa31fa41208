"""All HTML comes from one template, in which texts stay texts."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmcourse import pages
from llmcourse.errors import DataError
from llmcourse.plots.base import escape_markdown
from llmcourse.plots.tokens import token_box

EVIL = '"><img src=x onerror=1><script>alert("x")</script>\x07 $x$ \\(y\\) </div> {} {{ 7 * 7 }}'
texts = st.text(
    st.characters() | st.sampled_from("<>&\"'$\\*_`[]{}\x00\x07\u200b\ud800 \n"), min_size=1
)


class Page(HTMLParser):
    """A page's tags, checked to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def full_page(text: str) -> Page:
    """A page with `text` in every place where one can be."""
    parts = [
        pages.paragraph(text),
        pages.bullets([text], lettered=True),
        pages.details(text, text),
        pages.section(text, text),
        pages.status(text, text),
        pages.picture(b"\x89PNG", text, text),
        pages.table([text, "b"], [[text, text], [text, "c"]], text, shared=1),
        pages.output_table([text], [[text]], text)["text/html"],
        pages.fill("<b>{}</b> {name}", text, name=text),
        token_box(text, "color:red", text, below=[text]),
    ]
    return Page(pages.page(text, text, {text: pages.Markup("").join(map(pages.Markup, parts))}))


@settings(deadline=None)
@given(texts)
@example(EVIL)
def test_every_text_stays_text_wherever_it_is(text: str) -> None:
    page, usual = full_page(text), full_page("plain")
    # Line ends and signs of formulas add elements of our own; nothing else may.
    added = {"br", "wbr", "div", "small"}
    known = [tag for tag, _ in usual.tags if tag not in added]
    assert [tag for tag, _ in page.tags if tag not in added] == known
    assert {name for _, attributes in page.tags for name in attributes} <= {
        *(name for _, attributes in usual.tags for name in attributes),
        "class",
    }
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]", "".join(page.words))
    shown = str(pages.escape(text))
    assert html.unescape(shown) in "".join(page.words) or "\r" in text


@settings(deadline=None)
@given(texts)
@example("a *b* _c_ `d` [e](f) <script> ~~g~~ | & $h$ \\(i\\)\n\nnew")
def test_markdown_has_no_marks_of_a_text(text: str) -> None:
    escaped = escape_markdown(text)
    assert not set("*_`[]~|$\\\n") & set(escaped)
    assert set(re.findall("<[^>]*>?", escaped)) <= {"<span>", "</span>"}


def test_a_page_and_its_tables_can_be_used_by_keyboard_and_reader() -> None:
    page = full_page("plain")
    assert page.all("html") == [{"lang": "en"}]
    named = {attributes.get("id") for _, attributes in page.tags}
    assert {str(link["href"])[1:] for link in page.all("a")} <= named
    rows = [("a", 1), ("a", 2), ("b", 2)]
    page = Page(pages.table(("name", "n"), rows, "What there is", shared=1))
    assert page.all("div")[0]["tabindex"] == "0" and page.words[0] == "What there is"
    assert page.words[1:] == ["name", "n", "a", "1", "2", "b", "2"]
    assert [head["scope"] for head in page.all("th")] == ["col", "col", "row", "row"]
    assert page.all("th")[2]["rowspan"] == "2"
    plain = Page(pages.table(("name", "n"), rows, widths=(1, 3), style="color:red"))
    assert plain.words == ["name", "n", "a", "1", "a", "2", "b", "2"] and not plain.all("div")
    assert plain.all("th")[1]["style"] == "color:red;width:75%"


def test_a_page_is_an_html_file(tmp_path: Path) -> None:
    assert pages.save(tmp_path / "new" / "page.html", "<p>").read_text("utf-8") == "<p>"
    for bad in (tmp_path / "page.pdf", tmp_path / "new" / "page.html" / "page.html"):
        with pytest.raises(DataError):
            pages.save(bad, "<p>")
