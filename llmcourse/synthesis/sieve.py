"""Records that a model wrote, and what became of the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Synthesis:
    """Records that a model wrote, and what became of the rest.

    Attributes:
        records: Those that passed: question, answer and where they come from.
        rejected: Those that did not: stage, reason, question, answer.
        seconds: How long it took.
    """

    records: list[dict[str, str]]
    rejected: list[dict[str, str]] = field(repr=False)
    seconds: float

    @property
    def tried(self) -> int:
        """How many were tried in all."""
        return len(self.records) + len(self.rejected)

    def report(self) -> pandas.DataFrame:
        """How many passed, and how many were rejected for which reason, with an example each."""
        import pandas

        rows = [{"stage": "", "reason": "passed", "count": len(self.records),
                 "example": _example(self.records)}]  # fmt: skip
        reasons = dict.fromkeys((r["stage"], r["reason"]) for r in self.rejected)
        for stage, reason in reasons:
            found = [r for r in self.rejected if (r["stage"], r["reason"]) == (stage, reason)]
            rows.append({"stage": stage, "reason": reason, "count": len(found),
                         "example": _example(found)})  # fmt: skip
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        """One line, not all that was written."""
        return f"Synthesis: {self}"

    def __str__(self) -> str:
        return (
            f"{len(self.records)} of {self.tried} passed, in {self.seconds:.0f} s "
            f"({60 * len(self.records) / max(self.seconds, 1e-9):.0f} a minute)"
        )


def _example(records: Sequence[Mapping[str, str]]) -> str:
    if not records:
        return ""
    first = records[0]
    return f"{first['question']} {first['answer']}".strip()[:120]


class Sieve:
    """Collects what passes and what does not."""

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []
        self.rejected: list[dict[str, str]] = []
        self.start = time.perf_counter()

    def reject(self, stage: str, reason: str, question: str, answer: str = "") -> None:
        self.rejected.append(
            {"stage": stage, "reason": reason, "question": question, "answer": answer}
        )

    def done(self) -> Synthesis:
        return Synthesis(self.kept, self.rejected, time.perf_counter() - self.start)
