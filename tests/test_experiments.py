"""The published run: every claim is measured, kept, and compares arms that differ in one thing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from experiments import facts
from experiments.__main__ import ANSWERS, EXPERIMENTS, RESULTS
from experiments.run import SIZES, Arm, Run, Size, larger, not_lower, result
from llmcourse import claims

TINY = Size("tiny", seeds=1, facts=3, questions=4, updates=2, everything=1)


class Untrained(Run):
    """A run that notes what would be trained, and takes the model as it is."""

    def tuned(self, name: str, records: Any, config: Any, model: Any = None) -> Any:
        self.__dict__.setdefault("trained", {})[name] = (
            list(records),
            dataclasses.asdict(dataclasses.replace(config, seed=0)),
        )
        return model or self.chat


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Run:
    """A run of everything with a small random model in both roles."""
    config = json.loads((tiny_folder / "config.json").read_text(encoding="utf-8"))
    long = tmp_path_factory.mktemp("long")
    for file in tiny_folder.iterdir():
        (long / file.name).write_bytes(file.read_bytes())
    config["max_position_embeddings"] = 40_000  # all documents fit into a prompt
    (long / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = Untrained(tmp_path_factory.mktemp("run"), TINY, {"base": str(long), "chat": str(long)})
    # A random model writes nothing that passes the filters.
    records = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(6)]
    made = {"records": records, "tried": 9, "seconds": 1.0}
    found.kept("records that the chat model invents", lambda: made)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_claim_has_what_a_sceptic_asks_for(run: Run, name: str) -> None:
    found = EXPERIMENTS[name](run)
    assert found["claim"] == name and found["setting"] and found["measured"]
    assert found["holds"] in (True, False, None)
    json.dumps(found)
    for arm in found["arms"].values():
        assert (arm["n"] >= 1 and arm["low"] is None) or arm["low"] <= arm["mean"] <= arm["high"]
    for test in found["tests"]:
        assert {test["first"], test["second"]} <= set(found["arms"])
        assert 0 <= test["p"] <= 1
    # What is kept is not measured again.
    kept = Run(run.folder, run.size, {"base": "no such model", "chat": "no such model"})
    again = EXPERIMENTS[name](kept)
    assert again["arms"] == found["arms"] and again["tests"] == found["tests"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_published_result_is_what_its_answers_give(path: Path, tmp_path: Path) -> None:
    """No number is typed: each follows from the answers that are kept in the repository."""
    published = json.loads(path.read_text(encoding="utf-8"))
    if path.stem == "private":
        assert published["extra"]["connections"] == 0
        return
    size = dataclasses.replace(SIZES["published"], seeds=published["seeds"])
    nothing = {"base": "no such model", "chat": "no such model"}
    found = EXPERIMENTS[path.stem](Run(tmp_path, size, nothing, answers=ANSWERS))
    for part in ("arms", "tests", "holds"):
        assert json.loads(json.dumps(found[part])) == published[part]


def test_all_claims_of_the_course_are_measured() -> None:
    assert set(claims.CLAIMS) - {"private"} <= set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("paraphrases", "records"),
        ("data-quality", "records"),
        ("iteration", "records"),
        ("small-steps", "steps"),
        ("data-amount", "records"),
    ],
)
def test_trained_arms_differ_in_the_named_factor_alone(
    run: Run, name: str, factor: str, tmp_path: Path
) -> None:
    again = Untrained(tmp_path, dataclasses.replace(TINY, seeds=1), run.pair)
    EXPERIMENTS[name](again)
    trained = again.__dict__["trained"]
    (first, config), *others = trained.values()
    for records, other in others:
        different = {key for key in config if config[key] != other[key]}
        different |= {"records"} if records != first else set()
        assert different == {factor}, f"{name}: {different}"
        if name != "data-amount":  # the same facts, however many records there are of each
            assert {r["fact"] for r in records} == {r["fact"] for r in first}


def test_a_finished_training_is_loaded(run: Run, tmp_path: Path) -> None:
    real = Run(tmp_path, TINY, run.pair)
    for _ in range(2):
        method = facts.tuned(real).make(1)
    assert method.model.folder.name.endswith("-1") and len(method.model.history) == TINY.updates


def test_nothing_that_is_asked_is_trained_on(run: Run) -> None:
    trained = {r["question"] for n in (1, 3, 5) for r in facts.training(run, n)}
    for kind in ("natural", "untrained", "reverse"):
        assert not trained & {r["question"] for r in facts.natural(run, kind)}
    assert not trained & {r["question"] for r in facts.hard(run) + facts.validation(run)}
    assert not {r["fact"] for r in facts.untaught(run)} & {r["fact"] for r in facts.training(run)}


def test_seeds_are_averaged_before_questions_are_compared(tmp_path: Path) -> None:
    run = Run(tmp_path, dataclasses.replace(TINY, seeds=2), {})
    arm = Arm("arm", lambda seed: seed)
    found = run.values(arm, "set", [{}, {}], lambda seed, rows: {"right": [float(seed), 1.0]})
    assert found == {"right": [0.5, 1.0]}
    once = Arm("once", lambda seed: seed, trained=False)
    assert list(run.seeds(once)) == [0]


def test_verdicts() -> None:
    def verdict(p: float, difference: float, low: float, high: float) -> tuple:
        test = {"p": p, "difference": difference, "low": low, "high": high}
        tests = {("a", "b"): test}
        return larger("a", "b")(tests), not_lower("a", "b", 0.1)(tests)

    assert verdict(0.01, 0.3, 0.1, 0.5) == (True, True)
    assert verdict(0.01, -0.3, -0.5, -0.15) == (False, False)
    assert verdict(0.5, -0.05, -0.3, 0.2) == (None, None)
    assert verdict(0.5, -0.01, -0.05, 0.03) == (None, True)


def test_a_result_says_what_it_could_have_seen(tmp_path: Path) -> None:
    run = Run(tmp_path, TINY, {})
    ones, zeros = [1.0] * 40, [0.0] * 40
    found = result(
        "lora",
        run,
        {"a": ones, "b": zeros},
        [("a", "b")],
        holds=larger("a", "b"),
        measured="x",
        setting="y",
    )
    [test] = found["tests"]
    assert found["holds"] and 0 < test["detectable"] < 0.5
