"""Sphinx's settings for the site that `python tools/build_site.py` builds."""

from __future__ import annotations

from typing import Any

project = "Finetuning large language models"
author = "the course's authors"
html_title = "The companion that runs"
language = "en"

extensions = ["myst_nb"]
nb_execution_mode = "off"  # the saved outputs are shown as they are
nb_merge_streams = True
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_copy_source = False
html_use_index = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": False}  # the arrows are the reader's own


def mend(app: Any, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Give the keyboard what scrolls, and screen readers the level of the lists' headings."""
    for part in ("body", "furo_navigation_tree"):
        text = context.get(part) or ""
        text = text.replace("<pre>", '<pre tabindex="0">')
        context[part] = text.replace('role="heading">', 'role="heading" aria-level="2">')


def setup(app: Any) -> None:
    app.connect("html-page-context", mend, priority=900)  # after the theme
