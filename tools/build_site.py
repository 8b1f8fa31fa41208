"""Build the site: the lessons with their outputs, the ledger and the documents, with search.

    python tools/build_site.py [--out build/site]

It needs `requirements-site.txt` and no network. A warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import base64
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from publish import BADGE, LEDGER, ROOT, address

from llmcourse import claims, pages

PAGES = (
    "docs/*.md",
    "llmcourse/company/README.md",
    "llmcourse/club/README.md",
    "benchmarks/README.md",
)
LEDGER_HEAD = """# What came out

The ledger of the `cpu` tier, to which the lessons' outputs belong. Shares come with their counts
and a 95 % interval.

"""
IMAGE = '<img class="picture" src="{}" alt="{}" width="{}" height="{}" loading="lazy">'
BESIDE = ("docs/*.yaml",)  # what pages link to as files


def lay_out(folder: Path) -> None:
    """Put the sources of all pages into `folder`, each where it is in the repository.

    So the links between lessons and documents hold as they are.
    """
    shutil.copytree(ROOT / "docs" / "site", folder, dirs_exist_ok=True)
    index = folder / "index.md"
    index.write_text(index.read_text("utf-8").replace("REPOSITORY", address()), encoding="utf-8")
    ledger = LEDGER_HEAD + claims.as_markdown(LEDGER) + published_run()
    (folder / "ledger.md").write_text(ledger, encoding="utf-8")
    for source in (found for pattern in (*PAGES, *BESIDE) for found in ROOT.glob(pattern)):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    lessons = ROOT / "notebooks"
    for source in sorted(lessons.rglob("[0-9]*.ipynb")):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(lesson(source, folder / "_static" / "pictures"), encoding="utf-8")


def published_run() -> str:
    """All numbers and paired tests of the published run, claim by claim."""
    text = "\n\n# The published run\n\nMore questions than a lesson asks, and several seeds.\n"
    for name, claim in claims.CLAIMS.items():
        found = claims.result(name)
        if not found.get("arms"):
            continue
        text += (
            f"\n## {claim.text}\n\nMeasured: {found['measured']}. Setting: {found['setting']}. "
            f"{found['notes']} Holds: {claims.HOLDS[found['holds']]}. Seeds: {found['seeds']}. "
            f"Command: `{found['command']}`.\n\n| arm | questions | mean | 95 % interval |\n"
            "|---|---|---|---|\n"
        )
        for arm, score in found["arms"].items():
            text += (
                f"| {arm} | {score['n']} | {score['mean']} | {score['low']} to {score['high']} |\n"
            )
        text += "\n| paired test | difference | 95 % interval | p |\n|---|---|---|---|\n"
        for test in found["tests"]:
            text += (
                f"| {test['first']} − {test['second']} | {test['difference']} | "
                f"{test['low']} to {test['high']} | {test['p']} |\n"
            )
    return text


def lesson(path: Path, pictures: Path) -> str:
    """A notebook for the site: its pictures as files in `pictures`, nothing from elsewhere.

    The site has words instead of the badge.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    up = "../" * len(path.relative_to(ROOT).parent.parts)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace(f"![Open in Colab](../{BADGE})", "Open in Colab")
        for place, output in enumerate(cell.get("outputs", [])):
            kinds = [mime for mime in output.get("data", {}) if mime.startswith("image/")]
            for mime in sorted(kinds, reverse=True)[:1]:  # an SVG before the PNG beside it
                alt = output.metadata.get(mime, {}).get("alt", "")
                name = f"{path.stem}-{number}-{place}"
                file, width, height = save_picture(mime, output.data[mime], pictures, name)
                image = pages.fill(IMAGE, f"{up}_static/pictures/{file}", alt, width, height)
                output.data = {"text/html": str(image)}
                output.metadata = {}
    return nbformat.writes(notebook)


def save_picture(mime: str, data: str, folder: Path, name: str) -> tuple[str, int, int]:
    """Write an output's picture; returns its file name, its width and its height in pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    if mime == "image/svg+xml":
        content, ending = data.encode(), "svg"
        width, height = (
            round(float(re.search(rf'<svg [^>]*?\b{side}="([\d.]+)pt"', data)[1]) * 96 / 72)
            for side in ("width", "height")
        )
    else:
        content, ending = base64.b64decode(data), "png"
        # A PNG has its size at these bytes of its first chunk.
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    (folder / f"{name}.{ending}").write_bytes(content)
    return f"{name}.{ending}", width, height


def build(out: Path) -> int:
    """Build the site into `out`, which is replaced; returns Sphinx's exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        sources, made = Path(scratch) / "sources", Path(scratch) / "made"
        lay_out(sources)
        sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        done = subprocess.run([*sphinx, "-d", f"{scratch}/doctrees", str(sources), str(made)])
        if done.returncode == 0:
            (made / ".buildinfo").unlink(missing_ok=True)
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(made, out)
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="its folder")
    out = parser.parse_args().out
    status = build(out)
    if status == 0:
        count = len(list(out.rglob("*.html")))
        print(f"{count} pages: open {out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
