"""Records that a model wrote, and why the others were rejected."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Synthesis:
    """Records that a model wrote, and why the others were rejected.

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

        groups = {("", "passed"): self.records}
        for row in self.rejected:
            groups.setdefault((row["stage"], row["reason"]), []).append(row)
        rows = []
        for (stage, reason), group in groups.items():
            example = " ".join(group[0][name] for name in ("question", "answer")) if group else ""
            rows.append([stage, reason, len(group), example.strip()[:120]])
        return pandas.DataFrame(rows, columns=["stage", "reason", "count", "example"])

    def reasons(self) -> list[dict[str, Any]]:
        """Why pairs were rejected: stage, reason, count and one example, most frequent first."""
        # The first row is what passed.
        rows = self.report().iloc[1:].sort_values("count", ascending=False, kind="stable")
        return rows.to_dict("records")

    def __repr__(self) -> str:
        """One line, not all that was written."""
        return f"Synthesis: {self}"

    def __str__(self) -> str:
        return (
            f"{len(self.records)} of {self.tried} passed, in {self.seconds:.0f} s "
            f"({60 * len(self.records) / max(self.seconds, 1e-9):.0f} per minute)"
        )


class Sieve:
    """Collects what passes and what does not.

    What is rejected is kept with its reason: which filter takes most says what to change, the
    prompt, the model or the filter.
    """

    def __init__(self) -> None:
        self.kept: list[dict[str, str]] = []
        self.rejected: list[dict[str, str]] = []
        self.start = time.perf_counter()

    def passes(self, stage: str, reason: str, question: str, answer: str = "") -> bool:
        """True where there is no reason to reject; otherwise it is noted."""
        if reason:
            row = {"stage": stage, "reason": reason, "question": question, "answer": answer}
            self.rejected.append(row)
        return not reason

    def done(self) -> Synthesis:
        return Synthesis(self.kept, self.rejected, time.perf_counter() - self.start)
