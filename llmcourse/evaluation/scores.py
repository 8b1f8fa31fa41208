"""Numbers with their uncertainty: means over records, and what a difference is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy

from llmcourse.claims import Share
from llmcourse.errors import DataError

DRAWS = 2000  # of the bootstrap
_AT_ONCE = 2**22  # numbers drawn in one go


@dataclass(frozen=True)
class Score:
    """A number measured over records, with its 95 % interval.

    Attributes:
        mean: The number, in the metric's unit.
        low: Lower end of the interval; NaN where one record says nothing about others.
        high: Upper end; likewise.
        of: Records it was measured on.
    """

    mean: float
    low: float
    high: float
    of: int

    def __str__(self) -> str:
        if math.isnan(self.low) and self.of == 1:
            return f"{rounded(self.mean)} (1 record, too few for an interval)"
        ends = f"{rounded(self.low)}–{rounded(self.high)}"
        return f"{rounded(self.mean)} ({ends}; {self.of} records)"

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Score:
        """The mean of one number a record; NaN is a record that has none and is left out.

        Where all numbers are 0 or 1 the interval is Wilson's (see `claims.Share`), which is
        right for few records too; else the percentile bootstrap's (Efron and Tibshirani, 1993)
        with 2,000 draws of records, the same at every call.

        Raises:
            DataError: no record has a number.
        """
        known = numpy.asarray([value for value in values if not math.isnan(value)], dtype=float)
        if not len(known):
            raise DataError("No record has a number for this metric, so there is no mean.")
        if set(known.tolist()) <= {0.0, 1.0}:
            rate = Share(int(known.sum()), len(known))
            return cls(rate.value, *rate.interval, len(known))
        return cls.of_ratio(known, numpy.ones(len(known)))

    @classmethod
    def of_ratio(cls, sums: Sequence[float], counts: Sequence[float],
                 bent: Callable[[float], float] = float) -> Score:  # fmt: skip
        """All `sums` over all `counts`, as the loss a token is; the bootstrap draws records.

        Args:
            sums: One number a record.
            counts: What it was summed over, more than 0 in all.
            bent: Applied to the ratio at last, e.g. `math.exp` for a perplexity. Must rise.
        """
        top, bottom = (numpy.asarray(numbers, dtype=float) for numbers in (sums, counts))
        if len(top) == 1:
            return cls(_bent(bent, top[0] / bottom[0]), math.nan, math.nan, 1)
        drawn = [top[rows].sum(-1) / bottom[rows].sum(-1) for rows in _draws(len(top))]
        low, high = numpy.percentile(numpy.concatenate(drawn), [2.5, 97.5])
        ends = (_bent(bent, value) for value in (top.sum() / bottom.sum(), low, high))
        return cls(*ends, len(top))


def _bent(bent: Callable[[float], float], value: float) -> float:
    """`bent(value)`, infinite where that is beyond what a float holds."""
    try:
        return float(bent(value))
    except OverflowError:
        return math.inf


def rounded(value: float) -> str:
    """A measured number for people: two digits below 1, three above."""
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


@dataclass(frozen=True)
class Paired:
    """How two ways differ on the same records.

    Attributes:
        difference: Mean of the first less the second, in the metric's unit.
        low: Lower end of its 95 % interval (bootstrap over records).
        high: Upper end.
        p: How often chance alone gives a difference of that size: two-sided, by McNemar's exact
            test (1947) where all numbers are 0 or 1, else by drawing signs at random.
        wins: Records on which the first has the larger number.
        losses: On which it has the smaller one.
        ties: On which they are the same.
    """

    difference: float
    low: float
    high: float
    p: float
    wins: int
    losses: int
    ties: int

    @property
    def larger(self) -> bool | None:
        """Whether the first has the larger numbers; None where p is 0.05 or more."""
        return None if self.p >= 0.05 else self.difference > 0

    def __str__(self) -> str:
        return (
            f"{self.difference:+.3g} ({self.low:+.3g} to {self.high:+.3g}), p {self.p:.3g}; "
            f"{self.wins} wins, {self.losses} losses, {self.ties} ties"
        )


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two numbers a record, of the same records in the same order.

    Records for which one has no number (NaN) are left out.

    Raises:
        DataError: the lists are not equally long, or no record has both numbers.
    """
    if len(first) != len(second):
        raise DataError(
            f"Only the same records can be compared: {len(first)} numbers against {len(second)}."
        )
    both = numpy.asarray([first, second], dtype=float)
    both = both[:, ~numpy.isnan(both).any(0)]
    if not both.size:
        raise DataError("No record has a number on both sides, so there is nothing to compare.")
    apart = both[0] - both[1]
    drawn = numpy.concatenate([apart[rows].mean(-1) for rows in _draws(len(apart))])
    low, high = numpy.percentile(drawn, [2.5, 97.5])
    wins, losses = int((apart > 0).sum()), int((apart < 0).sum())
    binary = set(both.ravel().tolist()) <= {0.0, 1.0}
    return Paired(
        float(apart.mean()), float(low), float(high),
        _mcnemar(wins, losses) if binary else _signs(apart),
        wins, losses, len(apart) - wins - losses,
    )  # fmt: skip


def _draws(count: int) -> Iterator[numpy.ndarray]:
    """Rows of record numbers drawn with replacement, `DRAWS` in all, a block at a time."""
    dice = numpy.random.default_rng(0)
    block = max(1, min(DRAWS, _AT_ONCE // count))
    for start in range(0, DRAWS, block):
        yield dice.integers(0, count, (min(block, DRAWS - start), count))


def _mcnemar(wins: int, losses: int) -> float:
    """Two-sided probability of so uneven a split of the records that differ."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _signs(apart: numpy.ndarray) -> float:
    """Two-sided probability of such a mean when each difference might as well be its opposite."""
    dice = numpy.random.default_rng(0)
    least, extreme = abs(apart.mean()) - 1e-12, 0
    for _ in range(DRAWS):
        extreme += abs((apart * dice.choice((-1, 1), len(apart))).mean()) >= least
    return (extreme + 1) / (DRAWS + 1)  # the numbers as they came are one of the drawings
