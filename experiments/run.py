"""What is measured once and kept: arms, the questions they answered, and the claims they decide.

An arm is one way to get an answer: a model, how it was trained and how it is asked. Each trained
arm is trained with several seeds. What an arm answered is kept in a file of its own, so that a run
that was stopped goes on where it was, and several claims can use one arm.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from llmcourse import claims, models, tiers
from llmcourse.evaluation import Method
from llmcourse.files import write_text
from llmcourse.finetuning import Config, finetune
from llmcourse.generation import Answer, generate
from llmcourse.models import LoadedModel
from llmcourse.stats import LEVEL, Score, detectable, paired

Record = dict[str, Any]
Values = dict[str, list[Any]]  # metric -> one number per question; and the answers


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        name: Of the run's folder.
        seeds: Trainings of each trained arm.
        facts: Facts that are taught, and as many that are not.
        questions: The most questions, prompts or texts of every other kind.
        updates: Of each training on facts; all such arms have the same number.
        everything: Questions asked with all documents in the prompt, which is slow.
    """

    name: str
    seeds: int
    facts: int
    questions: int
    updates: int
    everything: int


# 300 records of 100 facts, six at a time, are seen six times in 300 updates.
SIZES = {
    "published": Size("published", 3, 100, 278, 300, 20),
    "quick": Size("quick", 1, 6, 6, 4, 1),
}


@dataclass(frozen=True)
class Arm:
    """One way to get an answer.

    Attributes:
        name: In tables, and of its files.
        make: Seed -> how it is asked. Called only where its answers are not kept yet.
        trained: False where the seed changes nothing.
    """

    name: str
    make: Callable[[int], Any]
    trained: bool = True


@dataclass
class Run:
    """A run and what it has kept.

    Attributes:
        folder: Where adapters are kept.
        size: How much is measured.
        pair: Names of the models: `base` and `chat` for `models.load`.
        answers: Where the answers of each arm are kept; in `folder` if not given.
        measured_on: Versions and processor behind all that was asked for, each once.
    """

    folder: Path
    size: Size
    pair: Mapping[str, str] = field(
        default_factory=lambda: {"base": tiers.pair().base, "chat": tiers.pair().learner}
    )
    answers: Path | None = None
    measured_on: list[dict[str, Any]] = field(default_factory=list)
    _made: dict[tuple[str, int], Any] = field(default_factory=dict)

    @cached_property
    def chat(self) -> LoadedModel:
        """The chat model, untrained."""
        return models.load(self.pair["chat"])

    @cached_property
    def base(self) -> LoadedModel:
        """The base model, untrained."""
        return models.load(self.pair["base"])

    def seeds(self, arm: Arm) -> Sequence[int]:
        """The seeds of an arm."""
        return range(self.size.seeds if arm.trained else 1)

    def tuned(
        self, name: str, records: Sequence[Record], config: Config, model: LoadedModel | None = None
    ) -> LoadedModel:
        """A model trained on `records`; a stopped training goes on, a finished one is loaded."""
        folder = self.folder / "models" / f"{_file_name(name)}-{config.seed}"
        return finetune(model or self.chat, records, config, out=folder, save_steps=100)

    def method(self, arm: Arm, seed: int) -> Any:
        """How the arm is asked; the last one is kept, since it is usually asked several times."""
        if (arm.name, seed) not in self._made:
            self._made.clear()
            self._made[arm.name, seed] = arm.make(seed)
        return self._made[arm.name, seed]

    def kept(self, what: str, measure: Callable[[], Any]) -> Any:
        """The kept result called `what`, or that of `measure`, which is kept."""
        path = self.kept_in / f"{_file_name(what)}.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._note({name: kept[name] for name in environment()})
            return kept["result"]
        start = time.perf_counter()
        print(f"{what} …", flush=True)
        result = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = round(time.perf_counter() - start, 1)
        kept = {"what": what, "seconds": seconds, **environment(), "result": result}
        write_text(path, json.dumps(kept, ensure_ascii=False) + "\n")
        self._note(environment())
        return result

    def _note(self, place: dict[str, Any]) -> None:
        if place not in self.measured_on:
            self.measured_on.append(place)

    def values(
        self,
        arm: Arm,
        questions: str,
        records: Sequence[Record],
        measure: Callable[[Any, Sequence[Record]], Values],
    ) -> Values:
        """What an arm got for each question: the mean over its seeds, metric by metric.

        Averaging first keeps the tests honest: three answers to one question are not three
        questions.

        Args:
            arm: Who answers.
            questions: What the set is called.
            records: The questions.
            measure: Method and records -> metric -> one number per record.
        """
        runs = [
            self.kept(
                f"{arm.name}, seed {seed}, {questions}",
                lambda seed=seed: measure(self.method(arm, seed), records),  # type: ignore[misc]
            )
            for seed in self.seeds(arm)
        ]
        return {
            metric: [
                sum(found) / len(found) for found in zip(*(r[metric] for r in runs), strict=True)
            ]
            for metric in runs[0]
            if metric != "answers"
        }

    @property
    def seconds(self) -> float:
        """What everything that is kept took, in seconds."""
        return sum(
            json.loads(path.read_text(encoding="utf-8"))["seconds"]
            for path in self.kept_in.glob("*.json")
            if path.name != "run.json"
        )

    @property
    def kept_in(self) -> Path:
        """The folder of answers."""
        return self.answers or self.folder / "answers"


def result(
    claim: str,
    run: Run,
    arms: Mapping[str, Sequence[float]],
    tests: Sequence[tuple[str, str]],
    *,
    holds: Callable[[Mapping[tuple[str, str], Mapping[str, Any]]], bool | None],
    measured: str,
    setting: str,
    notes: str = "",
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A claim's published result.

    Args:
        claim: A key of `claims.CLAIMS`.
        run: The run.
        arms: Name -> one number per question, the mean over seeds.
        tests: Pairs of arms that answered the same questions.
        holds: Takes the tests and says whether the claim came out true, false or (None) open.
        measured: What the numbers are, with their unit.
        setting: What the arms have in common, and the one thing in which they differ.
        notes: What the numbers do not show.
        extra: Further numbers that are shown and not tested.
    """
    compared = {pair: _compared(arms[pair[0]], arms[pair[1]]) for pair in tests}
    return {
        "claim": claim,
        "text": claims.CLAIMS[claim].text if claim in claims.CLAIMS else "",
        "measured": measured,
        "setting": setting,
        "arms": {name: _score(values) for name, values in arms.items()},
        "tests": [
            {"first": first, "second": second, **found}
            for (first, second), found in compared.items()
        ],
        "holds": holds(compared),
        "notes": notes,
        "extra": dict(extra or {}),
        "seeds": run.size.seeds,
        "models": dict(run.pair),
        "command": f"python -m experiments {claim}",
    }


def _score(values: Sequence[float]) -> dict[str, Any]:
    score = Score.of_values(values)
    ends = {"low": score.low, "high": score.high}
    return {
        "n": score.total,
        "mean": round(score.mean, 4),
        **{name: None if math.isnan(end) else round(end, 4) for name, end in ends.items()},
    }


def _compared(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """A paired test, and the smallest difference that it would have shown four times in five."""
    test = paired(first, second)
    shares = all(0 <= value <= 1 for value in [*first, *second])
    differ = (test.wins + test.losses) / len(first)
    rate = min(sum(first), sum(second)) / len(first)
    seen = detectable(len(first), rate, differ=differ or None) if shares else math.nan
    return {
        "difference": round(test.difference, 4),
        "low": round(test.low, 4),
        "high": round(test.high, 4),
        "p": float(f"{test.p:.2g}"),
        "wins": test.wins,
        "losses": test.losses,
        "ties": test.ties,
        "detectable": None if math.isnan(seen) else round(seen, 4),
    }


def larger(first: str, second: str) -> Callable[[Mapping], bool | None]:
    """A verdict: the first arm's numbers are larger than the second's."""

    def verdict(tests: Mapping[tuple[str, str], Mapping[str, Any]]) -> bool | None:
        test = tests[first, second]
        return None if test["p"] >= LEVEL else test["difference"] > 0

    return verdict


def every(*verdicts: Callable[[Mapping], bool | None]) -> Callable[[Mapping], bool | None]:
    """A verdict: all of these; false where one is false, open where none is false but one open."""

    def verdict(tests: Mapping) -> bool | None:
        found = [one(tests) for one in verdicts]
        return False if False in found else None if None in found else True

    return verdict


def not_lower(first: str, second: str, margin: float) -> Callable[[Mapping], bool | None]:
    """A verdict: the first arm is at most `margin` below the second (a non-inferiority test)."""

    def verdict(tests: Mapping[tuple[str, str], Mapping[str, Any]]) -> bool | None:
        test = tests[first, second]
        return True if test["low"] > -margin else False if test["high"] < -margin else None

    return verdict


def environment() -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    return {
        "versions": _versions(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "dtype": str(tiers.dtype()).removeprefix("torch."),
    }


def _versions() -> dict[str, str]:
    packages = ("llmcourse", "torch", "transformers", "peft", "sentence-transformers")
    found = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _file_name(name: str) -> str:
    """A name for a file: what can be read of it, and a hash that keeps names apart."""
    plain = "".join(c if c.isalnum() else "-" for c in name.lower())[:60].strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def describe(run: Run) -> dict[str, Any]:
    """The run's size, for the file that keeps two different runs out of one folder."""
    size = {name: value for name, value in asdict(run.size).items() if name != "seeds"}
    return {"size": size, "models": dict(run.pair)}


def measuring(
    *, template: str | None = None, longest: int = 40, **metrics: Callable[[Answer, Record], float]
) -> Callable[[Method, Sequence[Record]], Values]:
    """Asks every record and measures each answer, its cost among it; `_` in a name is a blank."""

    def measure(method: Method, records: Sequence[Record]) -> Values:
        answers = generate(
            method.model,
            [method.prompt(r) if method.prompt else _asked(r) for r in records],
            template or method.template,
            system=method.system,
            max_new_tokens=longest,
            progress=False,
        )
        pairs = list(zip(answers, records, strict=True))
        values = {
            name.replace("_", " "): [float(rule(a, r)) for a, r in pairs]
            for name, rule in metrics.items()
        }
        return {
            **values,
            "prompt tokens": [float(a.prompt_tokens) for a in answers],
            "seconds": [a.seconds for a in answers],
            "answers": [a.text for a in answers],
        }

    return measure


def _asked(record: Record) -> Record:
    """A record without its answer."""
    return {name: record[name] for name in ("question", "input") if record.get(name)}
