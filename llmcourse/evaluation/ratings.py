"""Elo ratings from comparisons of two, whoever made them: people or a judge model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcourse.errors import DataError, SettingError, whole

if TYPE_CHECKING:
    import numpy

TIE = "tie"  # in the place of a winner's name
_DRAWS = 500  # of the bootstrap
_AT_ONCE = 2**21  # results played in one go


@dataclass(frozen=True)
class Rating:
    """An Elo rating with its 95 % interval, in points.

    Attributes:
        value: The rating.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0f} (95 %: {self.low:.0f}–{self.high:.0f})"


def elo(
    results: Iterable[tuple[str, str, str]],
    *,
    start: float = 1000,
    k: float = 16,
    shuffles: int = 20,
    seed: int = 0,
) -> dict[str, Rating]:
    """Elo ratings from comparisons of two.

    Of two with the ratings a and b the first is expected to score 1 / (1 + 10^((b - a) / 400)):
    400 points more mean ten wins to a loss. After each result both ratings move by `k` times what
    the score (1, 0, or a half for a tie) was above or below that (Elo, The Rating of Chessplayers,
    1978). The ratings keep their sum. As they depend on the order of the results, they are averaged
    over orders drawn at random, and the order given does not matter. With few results they
    stay near `start`: what they say is the order and the distances, not a lasting strength.

    The interval is the percentile bootstrap's (Efron and Tibshirani, 1993): results are drawn again
    with replacement 500 times. It takes them for independent; where one of two always wins it
    knows no doubt, however few the results.

    Args:
        results: (name, other name, winner's name or "tie") each, as `BlindVote.results` gives them.
        start: Everyone's rating before the first result.
        k: The most points a result can move.
        shuffles: Orders to average over.
        seed: Of the orders and draws; the same seed gives the same ratings.

    Returns:
        Name to `Rating`, the best first.

    Raises:
        DataError: there are no results, or one is none.
        SettingError: an option means nothing.
    """
    import numpy

    shuffles, seed = whole("shuffles", shuffles, 1), whole("seed", seed, 0)
    for name, value in (("start", start), ("k", k)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise SettingError(f"{name}={value!r} must be a number.")
    if not 0 < k <= 400:
        raise SettingError(f"k={k!r} must be more than 0, and at most 400.")
    names, games = _games(results)
    dice = numpy.random.default_rng(seed)
    count, columns = len(games), numpy.asarray(games)
    values = _rated(columns, numpy.arange(count)[None], len(names), shuffles, start, k, dice)[0]
    block = max(1, _AT_ONCE // (count * shuffles))
    drawn = numpy.concatenate(
        [
            _rated(columns, dice.integers(0, count, (min(block, _DRAWS - done), count)),
                   len(names), shuffles, start, k, dice)
            for done in range(0, _DRAWS, block)
        ]
    )  # fmt: skip
    low, high = numpy.percentile(drawn, [2.5, 97.5], axis=0)
    ratings = {name: Rating(*map(float, (values[place], low[place], high[place])))
               for place, name in enumerate(names)}  # fmt: skip
    return dict(sorted(ratings.items(), key=lambda item: -item[1].value))


def _games(results: Iterable[tuple[str, str, str]]) -> tuple[list[str], list[list[float]]]:
    """The names in order, and a row (place of one, place of the other, score of the one) a result.

    Raises:
        DataError: there are no results, or one is none.
    """
    kept = []
    for number, result in enumerate(results):
        try:
            one, other, winner = result
            sound = one != other and winner in (one, other, TIE) and TIE not in (one, other)
            sound = sound and isinstance(one, str) and isinstance(other, str)
        except (TypeError, ValueError):
            sound = False
        if not sound or isinstance(result, str):
            raise DataError(
                f"Result {number} (counted from 0) must be two different names and the winner's, "
                f"or 'tie', not {result!r:.80}."
            )
        one, other = sorted((one, other))
        kept.append((one, other, 0.5 if winner == TIE else float(winner == one)))
    if not kept:
        raise DataError("There are no results to rate by.")
    kept.sort()  # so that the order they were given in can't matter
    names = sorted({name for one, other, _ in kept for name in (one, other)})
    place = {name: number for number, name in enumerate(names)}
    return names, [[place[one], place[other], score] for one, other, score in kept]


def _rated(
    games: numpy.ndarray, rows: numpy.ndarray, names: int, shuffles: int,
    start: float, k: float, dice: numpy.random.Generator,
) -> numpy.ndarray:  # fmt: skip
    """Mean ratings over orders drawn at random, (draws, names).

    Args:
        games: (results, 3), from `_games`.
        rows: The results that each draw has, (draws, results).
    """
    import numpy

    orders = dice.permuted(numpy.repeat(rows, shuffles, axis=0), axis=1)
    ratings = numpy.full((len(orders), names), float(start))
    each = numpy.arange(len(orders))
    for step in orders.T:
        one, other = games[step, 0].astype(int), games[step, 1].astype(int)
        ahead = ratings[each, other] - ratings[each, one]
        moved = k * (games[step, 2] - 1 / (1 + 10 ** (ahead / 400)))
        ratings[each, one] += moved
        ratings[each, other] -= moved
    return ratings.reshape(len(rows), shuffles, names).mean(axis=1)
