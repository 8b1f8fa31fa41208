"""All HTML comes from one template, in which texts stay texts."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmcourse import pages
from llmcourse.errors import DataError

EVIL = '"><img src=x onerror=1><script>alert("x")</script>\x07'


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
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_text_is_escaped_wherever_it_stands() -> None:
    parts = [
        pages.paragraph(EVIL),
        pages.bullets([EVIL], lettered=True),
        pages.details(EVIL, EVIL),
        pages.section(EVIL, EVIL),
        pages.status(EVIL, EVIL),
        pages.picture(b"\x89PNG", EVIL, EVIL),
        pages.table([EVIL, "b"], [[EVIL, EVIL], [EVIL, "c"]], EVIL, shared=1),
        pages.fill("<b>{}</b> {name}", EVIL, name=EVIL),
    ]
    page = Page(text := pages.page(EVIL, EVIL, {EVIL: pages.Markup("").join(parts)}))
    assert not page.all("script") and "\x07" not in text
    assert [image["src"] for image in page.all("img")] == ["data:image/png;base64,iVBORw=="]
    assert page.all("html") == [{"lang": "en"}]
    named = {attributes.get("id") for _, attributes in page.tags}
    assert {link["href"][1:] for link in page.all("a")} <= named  # type: ignore[index]


def test_a_table_has_headings_shares_cells_and_scrolls_by_keyboard() -> None:
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
    with pytest.raises(DataError, match="ends in .html"):
        pages.save(tmp_path / "page.pdf", "<p>")
    with pytest.raises(DataError, match="can't be written"):
        pages.save(tmp_path / "new" / "page.html" / "page.html", "<p>")
