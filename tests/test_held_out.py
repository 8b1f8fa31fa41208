"""No lesson trains on test records, or chooses anything in training by them."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from llmcourse import notebooks
from tests.conftest import ROOT

LEARNING = {"finetune", "encode", "self_instruct", "questions_from_documents", "plan", "train"}


def names(node: ast.AST) -> set[str]:
    """The names read in an expression, but for what they have under the name `train`."""
    if isinstance(node, ast.Attribute) and node.attr == "train":
        return set()
    here = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else set()
    return here.union(*map(names, ast.iter_child_nodes(node)))


def asks_for_test(node: ast.AST) -> bool:
    """True where something is called with "test": records(…, "test")."""
    return any(
        isinstance(a, ast.Constant) and a.value == "test"
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        for a in (*call.args, *(keyword.value for keyword in call.keywords))
    )


def pairs(node: ast.Assign | ast.AugAssign) -> list[tuple[ast.AST, ast.AST]]:
    """What is assigned to what; `a, b = c, d` are two."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if all(isinstance(side, ast.Tuple) for side in (*targets, node.value)):
        return [pair for t in targets for pair in zip(t.elts, node.value.elts, strict=True)]
    return [(target, node.value) for target in targets]


def misuse(source: str) -> list[str]:
    """The calls that learn from test records, directly or through variables."""
    tainted: set[str] = set()
    tree = ast.parse(source)
    assigned = [n for n in ast.walk(tree) if isinstance(n, ast.Assign | ast.AugAssign)]
    for node in sorted(assigned, key=lambda n: n.lineno):
        for target, value in pairs(node):
            if asks_for_test(value) or names(value) & tainted:
                tainted |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        called = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if called in LEARNING and any(names(a) & tainted or asks_for_test(a) for a in given):
            found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("path", notebooks.find(ROOT / "notebooks"), ids=lambda path: path.stem)
def test_no_lesson_learns_from_test_records(path: Path) -> None:
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    source = "\n".join(cell for cell in cells if "%pip" not in cell)
    assert not misuse(source)


@pytest.mark.parametrize(
    "source",
    [
        'finetune(model, company.records("questions", "test"))',
        'test = about("test")\nfinetune(model, train, held_out=test)',
        'train, test = about("train"), about("test")\nboth = train + test\nfinetune(m, both)',
        'rows = about("train")\nrows += about(split="test")\nfinetuning.finetune(m, rows[:5])',
        'parts = split(rows, test=about("test"))\nfinetune(m, parts.train, held_out=parts.test)',
        'test = about("test")\nasked = test[0]["question"]\nfinetune(m, a, sample_prompts=asked)',
    ],
)
def test_learning_from_the_test_is_seen(source: str) -> None:
    assert misuse(source)


def test_measuring_on_it_is_no_misuse() -> None:
    measured = (
        'train, development, test = about("train"), about("validation"), about("test")\n'
        "found, seen = evaluate(m, development), evaluate(m, test)\n"
        "more = [r for r in train if r in found.worst()]\n"
    )
    assert not misuse(measured + "finetune(m, train + more)")
    chosen = "more = [r for r in train if r in seen.worst()]\nfinetune(m, train + more)"
    assert misuse(measured + chosen), "choosing by the test's result is learning from it"
