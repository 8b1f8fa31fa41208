"""All that a run found, and what follows from it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcourse.own.assessing import BOTH, PROMPT, SEARCH, TUNED, Assessment
from llmcourse.own.parts import HELD_OUT
from llmcourse.own.writing import BY_HAND, BY_MODEL

FEW, MANY_REJECTED = 200, 0.5  # pairs; share of what the model wrote


@dataclass(frozen=True)
class Result:
    """All that a run found; `report` makes a page of it.

    Attributes:
        source: kind, name, text (what was read) and problems (what was passed over).
        findings: Title -> what `data.inspect` found: records, unit, lengths and findings.
        writing: counts by whom, rejected (stage, reason, count, example), kept and reviewed.
        parts: train and test (how many), held_out, notes.
        training: See `learning.described`.
        assessment: What the ways are worth.
        seconds: Step -> how long it took when it was done.
        memory: Most memory that this process had, in bytes.
        versions: Package -> version.
        tier: Whose sizes were used.
        out: The folder with all files.
    """

    source: dict[str, Any]
    findings: dict[str, dict[str, Any]] = field(repr=False)
    writing: dict[str, Any] = field(repr=False)
    parts: dict[str, Any] = field(repr=False)
    training: dict[str, Any] = field(repr=False)
    assessment: Assessment
    seconds: dict[str, float]
    memory: float
    versions: dict[str, str] = field(repr=False)
    tier: str
    out: Path | None = None


def apart(test: Mapping[str, Any]) -> int:
    """1 where the first way is better, -1 where it is worse, 0 where so few questions can't tell.

    Args:
        test: One of `Assessment.tests`.
    """
    if test.get("p", 0.0) >= 0.05:  # few questions make the interval too narrow
        return 0
    return 1 if test["low"] > 0 else -1 if test["high"] < 0 else 0


def advice(result: Result) -> list[str]:
    """What to do next, by what was measured. Rules of thumb, the most important first."""
    found, told = result.assessment, []
    tests = {(t["first"], t["second"]): apart(t) for t in found.tests}
    training, parts = result.training, result.parts
    if any(one["count"] for one in result.findings.get("pairs", {}).get("findings", ())):
        told.append("Mend what was found in the pairs first; see “The data”.")
    if tests.get((TUNED, PROMPT)) == 1:
        told.append(
            "The tuned model beats the prompt. Read the worst answers below before you trust it."
        )
    elif tests.get((TUNED, PROMPT)) == -1:
        told.append(
            "The prompt beats the tuned model. Look at the loss: where it still falls, train for "
            "more epochs; where it does not, the pairs teach something else than the test asks."
        )
    else:
        told.append(
            "So few test questions can't tell the tuned model from the prompt. Write more of them "
            "before you decide."
        )
    if found.caution:
        told.append(found.caution)
    if parts["held_out"] == "facts":
        told.append(
            "The test asks for facts that no training pair has. If the model shall know them by "
            "itself, write pairs about every fact, several wordings each."
        )
    if tests.get((BOTH, SEARCH)) == 1:
        told.append("Tuned with retrieval beats retrieval alone: use both together.")
    elif tests.get((TUNED, SEARCH)) == -1:
        told.append(
            "Retrieval beats the tuned model alone. Where the facts change often, keep retrieval "
            "and tune for the manner of the answers only."
        )
    last = [row["loss"] for row in training["held_out"]]
    if len(last) > 1 and last[-1] <= min(last):
        told.append(
            "The loss on the pairs kept out was lowest at the end, so more epochs may still help: "
            f"--epochs {2 * training['settings']['epochs']:g}, say."
        )
    elif len(last) > 1:
        told.append(
            "The loss on the pairs kept out rose again towards the end: the model begins to learn "
            "the pairs by heart. More pairs help more than more epochs."
        )
    if parts["train"] < FEW:
        told.append(
            f"{parts['train']} pairs are few. A first useful model often takes several hundred to "
            f"a thousand good ones, in many wordings."
        )
    rejected = sum(row["count"] for row in result.writing["rejected"])
    written = result.writing["counts"].get(BY_MODEL, 0)
    if rejected > MANY_REJECTED * max(1, rejected + written):
        told.append(
            f"{rejected} pairs were rejected and {written} written by the model passed. A larger "
            f"chat model writes better ones; so do you."
        )
    if not result.writing["reviewed"] and set(result.writing["counts"]) != {BY_HAND}:
        told.append(
            "Nobody has read the pairs yet. Open pairs.csv, mend answers, write no under keep "
            "where a pair is bad, and run the same again."
        )
    return told


def held_out_text(parts: Mapping[str, Any]) -> str:
    """What the test is about, in a sentence."""
    text = HELD_OUT[parts["held_out"]]
    return text[0].upper() + text[1:] + "."


def peak_memory() -> float:
    """The most memory that this process had until now, in bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)
