"""One way through the package: a module imports only from floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = (
    ("errors", "prompts", "turns"),
    ("files", "progress", "stats", "words", "templates", "company", "club"),
    ("tiers", "pages", "data", "colab"),
    ("encoding", "claims", "models", "sizing", "notebooks", "lab", "ui", "hosted"),
    ("generation", "retrieval", "loss", "doctor", "exercises"),
    ("finetuning", "synthesis", "evaluation", "workshop"),
    ("plots", "llama"),
    ("own", "widgets"),
    ("cli",),  # with __main__
)
LEVEL = {module: level for level, floor in enumerate(FLOORS) for module in floor}
MODULES = sorted((ROOT / "llmcourse").rglob("*.py"))
NEXT = "llmcourse_legacy"
NEXT_DOOR = sorted((ROOT / NEXT).rglob("*.py"))


def module(path: Path) -> str:
    """The module a file belongs to: a folder of files is on its floor as one."""
    name = path.relative_to(ROOT / "llmcourse").parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "llmcourse":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmcourse."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("llmcourse.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(path.parts[-2:]))
def test_imports_go_down(path: Path) -> None:
    here = module(path)
    if here == "__init__":
        assert imported(path) == set()
        return
    assert here in LEVEL, f"{path.name} is on no floor: add it to FLOORS and CONTRIBUTING.md"
    for name in imported(path) - {here}:
        assert LEVEL[name] < LEVEL[here], f"{here} imports {name}, which is not below it"


def test_only_the_runner_and_the_command_import_from_next_door() -> None:
    """And they do so late: what is next door is loaded when one of its names is used."""
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = [
            node
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(NEXT):
                types_only = path.name == "runner.py" and node.col_offset == 4
                assert module(path) in ("llama", "cli") and (node in late or types_only), path


def test_contributing_names_every_module() -> None:
    inside = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Layers")[1]
    missing = [module for module in LEVEL if f"`{module}`" not in inside]
    assert not missing


def test_nothing_heavy_loads_with_the_package() -> None:
    heavy = ("torch", "transformers", "pandas", "matplotlib")
    heavy = (*heavy, NEXT)
    code = f"import sys, llmcourse.cli; print(*(name in sys.modules for name in {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 5


def test_no_module_moves_to_cuda_by_itself_or_loads_pickles() -> None:
    for path in [*MODULES, *NEXT_DOOR]:
        source = path.read_text(encoding="utf-8")
        for word in (".cuda()", "torch.load(", "import pickle", "trust_remote_code=True"):
            assert word not in source, f"{path.name} has {word}"


def test_modules_stay_readable() -> None:
    long = {
        p.name: n
        for p in [*MODULES, *NEXT_DOOR]
        if (n := len(p.read_text("utf-8").splitlines())) > 500
    }
    assert not long, f"split into a folder: {long}"
