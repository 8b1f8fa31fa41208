"""Slides from the course's own pictures, with speaker notes: `make slides`.

    python -m classroom.slides build/slides/slides.md

writes the deck `docs/teaching/slides.md` with its pictures in it: the links to lessons in it become
the pictures of their saved outputs, alternative texts kept. Marp (https://marp.app) then makes one
HTML file of it, which works offline.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import nbformat

from llmcourse.errors import CourseError, NotebookError
from llmcourse.files import write_text
from llmcourse.pages import fill

DECK = Path(__file__).parent.parent / "docs" / "teaching" / "slides.md"
LINK = re.compile(r'^\[picture\]\((\S+) "(.+)"\)$', re.MULTILINE)


def with_pictures(deck: Path) -> str:
    """The deck, with a picture for each line that is a link to a lesson.

    Raises:
        NotebookError: a lesson has no picture whose alternative text begins with a link's title.
    """

    def drawn(link: re.Match[str]) -> str:
        return picture(deck.parent / link[1], link[2].replace('\\"', '"'))

    return LINK.sub(drawn, deck.read_text(encoding="utf-8"))


def picture(notebook: Path, begin: str) -> str:
    """The picture of a notebook's saved outputs whose alternative text begins so, as HTML."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            for kind in ("image/svg+xml", "image/png"):  # a drawing is sharp at any size
                alt = output.get("metadata", {}).get(kind, {}).get("alt", "")
                if kind in output.get("data", {}) and alt.startswith(begin):
                    data = output["data"][kind]
                    if kind == "image/svg+xml":
                        data = base64.b64encode(data.encode()).decode("ascii")
                    return str(fill('<img src="data:{};base64,{}" alt="{}">', kind, data, alt))
    raise NotebookError(
        f"{notebook.name} has no picture whose alternative text begins with {begin!r}. Run the "
        f"lesson with --save, or correct docs/teaching/slides.md."
    )


if __name__ == "__main__":
    try:
        write_text(Path(sys.argv[1]), with_pictures(DECK))
    except (CourseError, OSError, IndexError) as error:
        sys.exit(f"error: {error}" if sys.argv[1:] else __doc__)
