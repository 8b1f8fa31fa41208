"""Arms that a notebook compares differ in one thing, as far as its code can tell."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted(ROOT.glob("notebooks/**/*.ipynb"))
TRAINING = {"finetune", "TrainingMonitor"}
COMPARING = {"paired", "compare", "larger", "more_often", "record"}
TOGETHER = {"method", "learning_rate"}  # a rate that suits each method, chosen for both


class Reader(ast.NodeVisitor):
    """Follows each training from its call to where its numbers are compared.

    Attributes:
        trainings: For each call of `finetune`, what may differ: setting -> its source.
        made_by: Name -> the trainings that its value depends on.
        compared: The trainings in each comparison.
    """

    def __init__(self) -> None:
        self.trainings: list[dict[str, str]] = []
        self.made_by: dict[str, set[int]] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.compared: list[set[int]] = []
        self.varied: list[set[str]] = []  # settings that change within one call, in a loop
        self._loops: list[str] = []

    def uses(self, node: ast.AST) -> set[int]:
        """The trainings that an expression depends on; new ones are noted."""
        if isinstance(node, ast.Name):
            return self.made_by.get(node.id, set())
        if isinstance(node, ast.Subscript) and _source(node) in self.made_by:
            return self.made_by[_source(node)]  # one entry of a dictionary
        if isinstance(node, ast.Call) and _name(node) in TRAINING:
            return {self._note(node)}
        inner = [
            name.id
            for part in getattr(node, "generators", [])
            for name in ast.walk(part.target)
            if isinstance(name, ast.Name)
        ]
        self._loops += inner
        found = set().union(*map(self.uses, ast.iter_child_nodes(node)))
        del self._loops[len(self._loops) - len(inner) :]
        return found

    def _note(self, call: ast.Call) -> int:
        model, records, *rest = [*call.args, None, None][:3]
        row = {"model": _source(model), "records": _source(records)}
        row |= self.config(rest[0] if rest else None)
        changing = {
            key
            for key, text in row.items()
            if set(self._loops)
            & {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
        }
        self.varied.append(changing)
        if row not in self.trainings:
            self.trainings.append(row)
        return self.trainings.index(row)

    def config(self, node: ast.AST | None) -> dict[str, str]:
        """The settings that an expression gives."""
        if node is None:
            return {}
        if isinstance(node, ast.Name):
            return self.settings.get(node.id, {"config": node.id})
        if isinstance(node, ast.Dict):
            return {
                _source(k).strip("'"): _source(v)
                for k, v in zip(node.keys, node.values, strict=True)
                if k is not None
            }
        if isinstance(node, ast.Call) and _name(node) in ("Config", "replace", "dict"):
            given = self.config(node.args[0]) if node.args else {}
            for keyword in node.keywords:
                one = {keyword.arg: _source(keyword.value)} if keyword.arg else {}
                given = {**given, **(one or self.config(keyword.value))}
            return given
        return {"config": _source(node)}

    def visit_Assign(self, node: ast.Assign) -> None:
        """Names take over what their value depends on, dictionaries entry by entry."""
        self.generic_visit(node)
        used = self.uses(node.value)
        for target in node.targets:
            for name in [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]:
                kept = self.made_by.get(name, set()) if isinstance(target, ast.Subscript) else set()
                self.made_by[name] = kept | used
                if isinstance(node.value, ast.Dict | ast.Call):
                    self.settings[name] = self.config(node.value)
                for key, found in self._entries(node.value).items():
                    self.made_by[f"{name}[{key}]"] = found
            if isinstance(target, ast.Subscript):
                self.made_by[_source(target)] = used

    def _entries(self, node: ast.AST) -> dict[str, set[int]]:
        """What the entries of a dictionary depend on, where its keys can be read."""
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return {_source(key): self.uses(value) for key, value in pairs if key is not None}
        if isinstance(node, ast.DictComp) and len(node.generators) == 1:
            part = node.generators[0]
            whole = re.fullmatch(r"(\w+)\.items\(\)", _source(part.iter))
            if whole and isinstance(part.target, ast.Tuple):
                key, value = map(_source, part.target.elts)
                if _source(node.key) == key:
                    found = {}
                    for name, arms in list(self.made_by.items()):
                        if name.startswith(f"{whole[1]}["):
                            kept = self.made_by.get(value)
                            self.made_by[value] = arms
                            found[name[len(whole[1]) + 1 : -1]] = self.uses(node.value)
                            self.made_by[value] = kept or set()
                    return found
        return {}

    def visit_For(self, node: ast.For) -> None:
        """The names of a loop change from arm to arm."""
        names = [n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)]
        self._loops += names
        self.generic_visit(node)
        self._loops = [name for name in self._loops if name not in names]

    def visit_Call(self, node: ast.Call) -> None:
        """A test or a claim compares all that its arguments depend on."""
        self.generic_visit(node)
        if _name(node) in COMPARING:
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            self.compared.append(set().union(*(self.uses(part) for part in parts)))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _source(node: ast.AST | None) -> str:
    return ast.unparse(node) if node is not None else "None"


def confounded(source: str) -> Iterator[str]:
    """What compared arms differ in, where that is more than one thing."""
    reader = Reader()
    reader.visit(ast.parse(source))
    for changing in reader.varied:
        if len(changing) > 1 and changing != TOGETHER:
            yield f"one loop changes {sorted(changing)}"
    for arms in reader.compared:
        for first, second in itertools.combinations(sorted(arms), 2):
            a, b = reader.trainings[first], reader.trainings[second]
            different = {key for key in {*a, *b} if a.get(key) != b.get(key)}
            if len(different) > 1 and different != TOGETHER:
                yield f"compared arms differ in {sorted(different)}"


def code(path: Path) -> str:
    """All code of a notebook, without magics."""
    cells = nbformat.read(path, as_version=4).cells
    lines = "\n".join(c.source for c in cells if c.cell_type == "code").splitlines()
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_compared_arms_differ_in_one_thing(path: Path) -> None:
    assert list(confounded(code(path))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a = finetune(m, r, Config(steps=3))\nb = finetune(m, r, Config(steps=9))", 0),
        ("a = finetune(m, r, Config(steps=3))\nb = finetune(m, s, Config(steps=9))", 1),
        ("c = Config(steps=9)\na = finetune(m, r, c)\nb = finetune(m, s, replace(c, rank=2))", 1),
        ("c = {'steps': 9}\na = finetune(m, r, Config(**c))\nb = finetune(m, s, Config(**c))", 0),
        (
            "a = finetune(m, r, Config(method='full', learning_rate=1e-4))\n"
            "b = finetune(m, r, Config(method='lora', learning_rate=1e-3))",
            0,
        ),
        ("a = {n: finetune(m, r[n], Config(steps=n)) for n in (1, 2)}\nb = a", 1),
        ("a = finetune(m, r, Config(steps=3))\nb = m", 0),
    ],
)
def test_it_sees_what_differs(source: str, found: int) -> None:
    asked = "\nx = ask(a)\ny = {}\ny['b'] = ask(b)\nstats.paired(x, y['b'])"
    assert len(list(confounded(source + asked))) == found
