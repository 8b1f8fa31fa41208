"""pyproject.toml, requirements.txt, requirements-models.txt and environment.yml agree."""

from __future__ import annotations

import re
import shlex
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from llmcourse import __version__, cli, models
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
]


def pins(name: str) -> dict[str, list[Version]]:
    """Package -> its pinned versions (more than one where systems differ)."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            found.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
    return found


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins("requirements.txt")
    for extra in ("harness", "hosted", "site", "browser", "files", "qlora", "classroom"):
        for name, versions in pins(f"requirements-{extra}.txt").items():
            assert pinned.setdefault(name, versions) == versions, f"{name}: {extra} pins another"
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is in pyproject.toml but is not pinned"
        for version in pinned[name]:
            assert requirement.specifier.contains(version), f"{name} {version} is out of range"


def test_ranges_admit_what_colab_has() -> None:
    colab = pins("requirements-colab.txt")
    assert {"torch", "torchao", "transformers", "peft", "wandb"} <= colab.keys()
    for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["hosted"]):
        requirement = Requirement(line)
        for version in colab.get(canonicalize_name(requirement.name), ()):
            assert requirement.specifier.contains(version), f"Colab's {line} is shut out"


def test_model_packages_are_pinned_with_hashes() -> None:
    lines = [
        line
        for line in (ROOT / "requirements-models.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    names = {line.split("==")[0].replace("-", "_") for line in lines}
    wanted = {module for model in models.PACKAGED.values() for module, _ in model.parts}
    assert wanted <= names
    assert not names & {name.replace("-", "_") for name in pins("requirements.txt")}


def test_conda_uses_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(d for d in environment["dependencies"] if str(d).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python[7:])
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "-r requirements.txt" in pip
    assert not any("==" in line for line in pip), "pins belong into requirements.txt alone"


def test_texts_name_the_pinned_torch() -> None:
    pinned = str(pins("requirements.txt")["torch"][0])
    for name in ("docs/guide.md", "requirements.txt"):
        named = set(re.findall(r"torch==([\d.]+\d)", (ROOT / name).read_text("utf-8")))
        assert named == {pinned}, name


def test_the_public_workflow_runs_the_readmes_commands() -> None:
    """Its form only: it runs where the repository is published."""
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    matrix, steps = jobs["commands"]["strategy"]["matrix"], jobs["commands"]["steps"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    supported = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert all(supported.contains(version) for version in matrix["python"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    run = "\n".join(step.get("run", "") for step in steps)
    commands = re.findall(r"python -m llmcourse (.*)", run)
    assert len(commands) > 9
    for command in commands:
        name = command.split()[0]
        assert f"python -m llmcourse {name}" in readme or name == "--version"
        if name != "--version":
            cli._parser().parse_args(shlex.split(command))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    check = makefile.split("\ncheck: setup\n")[1].split("\n\n")[0]
    for line in check.splitlines():  # the same checks, where there may be no make
        assert line.split(".venv/bin/")[1].replace(" -q ", " ") in run
    assert "\ntest: setup\n" in makefile and "make test" in str(jobs["everything"])


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:llmcourse|tests|tools|notebooks)/[a-z_/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[\d.]*)\]", text, flags=re.M)[0] == PROJECT["version"]
    assert PROJECT["version"] == __version__
