"""How sure a measured number is: shares, means, paired tests, and what a test can see at all.

All intervals are 95 % intervals; all random draws are the same at every run.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcourse.errors import DataError

if TYPE_CHECKING:
    import numpy

LEVEL = 0.05  # of all tests; the intervals are 1 - LEVEL wide
POWER = 0.8  # of `detectable`
DRAWS = 2000  # of the bootstrap and of the permutation test
_AT_ONCE = 2**22  # numbers drawn in one go: 2,000 draws of a million records fill no memory


def percent(value: float) -> int:
    """A part of 1 as a whole percentage, halves rounded up: 3 of 24 is 13 %.

    Python's own formatting rounds halves to even, which makes 12 % of it.
    """
    return math.floor(round(100 * value, 9) + 0.5)


def rounded(value: float) -> str:
    """A measured number as text: two digits below 1, three above."""
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


@dataclass(frozen=True)
class Share:
    """A count out of a total, with what it says about the underlying rate.

    Attributes:
        count: How often it happened.
        total: Out of how many.
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        # numpy's numbers become Python's, which JSON takes
        object.__setattr__(self, "count", operator.index(self.count))
        object.__setattr__(self, "total", operator.index(self.total))
        if not 0 <= self.count <= self.total or not self.total:
            raise DataError(f"{self.count} of {self.total} is not a share.")

    @property
    def value(self) -> float:
        """The share, from 0 to 1."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval for the underlying rate, from 0 to 1.

        Wilson's score interval (Wilson, 1927): unlike the textbook's normal one it stays
        right for few questions and for shares near 0 and 1.
        """
        from scipy.stats import binomtest

        found = binomtest(self.count, self.total).proportion_ci(1 - LEVEL, method="wilson")
        return float(found.low), float(found.high)

    @property
    def text(self) -> str:
        """Without the interval, as in "42 % (10 of 24)"."""
        return f"{percent(self.value)} % ({self.count} of {self.total})"

    def __str__(self) -> str:
        low, high = map(percent, self.interval)
        return f"{self.text[:-1]}; 95 %: {low}–{high} %)"


def share(outcomes: Iterable[Any]) -> Share:
    """The share of true values in an iterable of true and false.

    Raises:
        DataError: there are none, or one is NaN.
    """
    outcomes = list(outcomes)
    if any(outcome != outcome for outcome in outcomes):
        raise DataError("NaN is neither true nor false; leave it out or count it as False.")
    return Share(sum(map(bool, outcomes)), len(outcomes))


def more_often(first: Share, second: Share) -> bool | None:
    """Whether the underlying rate of `first` is larger than that of `second`.

    For two different sets of questions. On the same questions `paired` has more power.

    Returns:
        True or False where the 95 % interval of the difference of the rates leaves out zero,
        None where so few questions can't tell. The interval is Newcombe's, made from the two
        Wilson intervals (Newcombe, 1998, method 10).
    """
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    difference = first.value - second.value
    # The distance to each interval's end that points towards the other rate.
    if difference > math.hypot(first.value - low_1, high_2 - second.value):
        return True
    return False if -difference > math.hypot(high_1 - first.value, second.value - low_2) else None


def larger(first: Iterable[float], second: Iterable[float]) -> bool | None:
    """Whether the underlying mean of `first` is larger than that of `second`.

    For numbers of different records. On the same records `paired` has more power.

    Returns:
        True or False where a permutation test of the means has p below 5 % (all ways to deal the
        numbers out to two sides, or 10,000 random ones; Good, 2005), None where it has not, or
        where there are fewer than two numbers on a side.

    Raises:
        DataError: a side is empty, or has a number that is not finite.
    """
    import numpy
    from scipy.stats import permutation_test

    one, two = (numpy.asarray(list(values), dtype=float) for values in (first, second))
    if not len(one) or not len(two) or not numpy.isfinite(numpy.concatenate([one, two])).all():
        raise DataError("Only finite numbers can be compared, and both sides need some.")
    if min(len(one), len(two)) < 2:  # one number says nothing about its spread
        return None
    drawn = _draws(len(one) + len(two)) | {"permutation_type": "independent"}
    test = permutation_test((one, two), lambda a, b, axis: a.mean(axis) - b.mean(axis), **drawn)
    return None if test.pvalue >= LEVEL else bool(test.statistic > 0)


@dataclass(frozen=True)
class Score:
    """A number measured over records, with its 95 % interval.

    Attributes:
        mean: The number, in the metric's unit.
        low: Lower end of the interval; NaN where one record says nothing about others.
        high: Upper end; likewise.
        total: Records it was measured on.
    """

    mean: float
    low: float
    high: float
    total: int

    def __str__(self) -> str:
        if math.isnan(self.low) and self.total == 1:
            return f"{rounded(self.mean)} (1 record, too few for an interval)"
        ends = f"{rounded(self.low)}–{rounded(self.high)}"
        return f"{rounded(self.mean)} ({ends}; {self.total} records)"

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Score:
        """The mean of one number per record; a record with NaN is left out.

        Where all numbers are 0 or 1 the interval is Wilson's, which is right for few records
        too; else the percentile bootstrap's (Efron and Tibshirani, 1993) over records, which is
        too narrow for few: it holds about 83 % of means of 5 records, 91 % of 10.

        Raises:
            DataError: no record has a number.
        """
        known = [float(value) for value in values if not math.isnan(value)]
        if not known:
            raise DataError("No record has a number for this metric, so there is no mean.")
        if set(known) <= {0.0, 1.0}:
            rate = share(known)
            return cls(rate.value, *rate.interval, rate.total)
        return cls.of_ratio(known, [1.0] * len(known))

    @classmethod
    def of_ratio(
        cls, sums: Sequence[float], counts: Sequence[float], transform: Callable = float
    ) -> Score:
        """All `sums` over all `counts`, such as the loss per token; the bootstrap draws records.

        Args:
            sums: One number per record.
            counts: What it was summed over, more than 0 in all.
            transform: Applied to the ratio last, such as `numpy.exp` for a perplexity. Must rise.
        """
        import numpy

        top, bottom = (numpy.asarray(numbers, dtype=float) for numbers in (sums, counts))
        ratios = [math.nan, top.sum() / bottom.sum(), math.nan]
        if len(top) > 1:
            ratios[::2] = _bootstrap(
                (top, bottom), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True
            )
        with numpy.errstate(over="ignore"):  # a perplexity beyond what a float holds is infinite
            low, mean, high = (float(transform(ratio)) for ratio in ratios)
        return cls(mean, low, high, len(top))


@dataclass(frozen=True)
class Paired:
    """How two methods differ on the same records.

    Attributes:
        difference: Mean of the first less the second, in the metric's unit.
        low: Lower end of its 95 % interval (bootstrap over records).
        high: Upper end.
        p: Probability of a difference of that size by chance: two-sided, by McNemar's exact test
            (1947) where all numbers are 0 or 1, else by a permutation test that flips the signs of
            the differences.
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
        return None if self.p >= LEVEL else self.difference > 0

    def __str__(self) -> str:
        return (
            f"{self.difference:+.3g} ({self.low:+.3g} to {self.high:+.3g}), p {self.p:.3g}; "
            f"{self.wins} wins, {self.losses} losses, {self.ties} ties"
        )


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Compare two numbers per record, of the same records in the same order.

    Records for which one has no number (NaN) are left out.

    Raises:
        DataError: the lists are not equally long, or no record has both numbers.
    """
    import numpy
    from scipy.stats import binomtest, permutation_test

    if len(first) != len(second):
        raise DataError(
            f"Only the same records can be compared: {len(first)} numbers against {len(second)}."
        )
    both = numpy.asarray([first, second], dtype=float)
    both = both[:, ~numpy.isnan(both).any(0)]
    if not both.size:
        raise DataError("No record has a number on both sides, so there is nothing to compare.")
    apart = both[0] - both[1]
    wins, losses = int((apart > 0).sum()), int((apart < 0).sum())
    if not wins + losses or len(apart) == 1:  # which scipy's test refuses
        p = 1.0
    elif set(both.ravel().tolist()) <= {0.0, 1.0}:
        p = binomtest(wins, wins + losses).pvalue
    else:
        drawn = _draws(len(apart)) | {"permutation_type": "samples"}
        p = permutation_test((apart,), numpy.mean, **drawn).pvalue
    low = high = apart.mean()  # of one record
    if len(apart) > 1:
        low, high = _bootstrap((apart,), numpy.mean)
    ties = len(apart) - wins - losses
    return Paired(float(apart.mean()), float(low), float(high), float(p), wins, losses, ties)


def verdict(tests: Iterable[Paired]) -> bool | None:
    """Whether every test finds its first method larger.

    Returns:
        False where one finds the opposite, None where none does but one can't tell.
    """
    found = [test.larger for test in tests]
    return False if False in found else None if None in found else True


def _bootstrap(
    data: tuple[numpy.ndarray, ...], statistic: Callable, paired: bool = False
) -> tuple[float, float]:
    """The percentile bootstrap's interval of a statistic."""
    from scipy.stats import bootstrap

    drawn = _draws(len(data[0])) | {"method": "percentile", "confidence_level": 1 - LEVEL}
    return bootstrap(data, statistic, paired=paired, **drawn).confidence_interval


def _draws(count: int) -> dict[str, Any]:
    """How scipy resamples `count` numbers: a batch at a time, the same at every run."""
    batch = max(1, _AT_ONCE // count)
    return {"n_resamples": DRAWS, "vectorized": True, "batch": batch, "rng": 0}


def detectable(n: int, rate: float = 0.5, *, differ: float | None = None) -> float:
    """The smallest gain in accuracy that a paired test on `n` questions sees four times in five.

    For McNemar's exact test, on which both methods answer the same questions. The power of 80 % is
    exact, by the binomial distribution, not by simulation.

    Args:
        n: Questions.
        rate: Accuracy that the gain is added to, from 0 to 1.
        differ: Share of the questions on which exactly one of the two is right, where that is
            known. If not given, the methods are taken to be right independently of each other,
            which is cautious: on the same questions they usually agree more.

    Returns:
        The gain as a part of 1; NaN where no gain is large enough to be seen.
    """
    from scipy.optimize import brentq

    power = _power(n, rate, differ)
    most = 1 - rate if differ is None else min(1 - rate, differ)
    if most <= 0 or power(most) < POWER:
        return math.nan
    # The power grows with the gain, so there is one root.
    return float(brentq(lambda gain: power(gain) - POWER, 1e-9, most, xtol=1e-6))


def _power(n: int, rate: float, differ: float | None) -> Callable[[float], float]:
    """The power of McNemar's exact test at 5 %, as a function of the gain."""
    import numpy
    from scipy.stats import binom

    pairs = numpy.arange(n + 1)  # on which the two methods differ
    # The most losses with which p is below LEVEL; binom.ppf is the fewest with p above it.
    losses = binom.ppf(LEVEL / 2, pairs, 0.5) - 1

    def power(gain: float) -> float:
        apart = differ
        if apart is None:
            # Independent methods: one right and the other wrong, both ways round.
            apart = rate * (1 - rate - gain) + (rate + gain) * (1 - rate)
        return binom.pmf(pairs, n, apart) @ binom.cdf(losses, pairs, (apart - gain) / (2 * apart))

    return power
