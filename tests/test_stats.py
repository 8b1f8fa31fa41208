"""Intervals and tests are those of the textbooks, and say what they cannot tell."""

from __future__ import annotations

import math

import numpy
import pytest

from llmcourse.errors import DataError
from llmcourse.stats import Score, Share, detectable, larger, more_often, paired, percent, share

# --- shares --------------------------------------------------------------------------------------


def test_halves_are_rounded_up() -> None:
    assert [percent(value) for value in (3 / 24, 57 / 200, 0.005, 1.0)] == [13, 29, 1, 100]
    assert str(Share(3, 24)) == "13 % (3 of 24; 95 %: 4–31 %)"
    assert Share(1, 40).text == "3 % (1 of 40)"


def test_shares_carry_wilsons_interval() -> None:
    low, high = Share(0, 24).interval
    assert (round(low, 3), round(high, 3)) == (0.0, 0.138)
    low, high = Share(12, 24).interval  # symmetric about one half
    assert low == pytest.approx(1 - high) and low == pytest.approx(0.3143, abs=1e-3)


def test_a_share_of_outcomes() -> None:
    assert share(numpy.array([True, False, True])) == Share(2, 3)
    assert share(value > 1 for value in (1, 2)) == Share(1, 2)
    for wrong in ((5, 4), (-1, 3), (0, 0)):
        with pytest.raises(DataError, match="is not a share"):
            Share(*wrong)
    with pytest.raises(DataError, match="NaN is neither"):
        share([1.0, math.nan])


def test_close_calls_are_said_to_be_close() -> None:
    assert more_often(Share(20, 24), Share(0, 24)) is True
    assert more_often(Share(0, 24), Share(20, 24)) is False
    assert more_often(Share(5, 9), Share(5, 9)) is None
    # Newcombe's own example: 56/70 against 48/80 gives 0.0524 to 0.3339, which leaves out zero.
    assert more_often(Share(56, 70), Share(48, 80)) is True


# --- means ---------------------------------------------------------------------------------------


def test_means_are_compared_with_their_uncertainty() -> None:
    high, low = [0.6, 0.7, 0.8, 0.7] * 5, [0.3, 0.2, 0.4, 0.3] * 5
    assert larger(high, low) is True
    assert larger(low, high) is False
    assert larger(high, high) is None
    assert larger([9], [5, 6, 7]) is None, "one number has no interval"
    for wrong in ([], [math.nan, 1, 2]):
        with pytest.raises(DataError, match="Only finite numbers"):
            larger([1, 2], wrong)


def test_right_and_wrong_have_wilsons_interval_and_nan_is_left_out() -> None:
    score = Score.of_values([0.0] * 24 + [math.nan])
    assert score.total == 24
    assert (score.low, score.high) == Share(0, 24).interval, "the bootstrap would say exactly 0"
    with pytest.raises(DataError, match="No record has a number"):
        Score.of_values([math.nan])


def test_one_record_has_no_interval_and_huge_losses_are_infinite() -> None:
    one = Score.of_values([0.4])
    assert math.isnan(one.low) and math.isnan(one.high)
    assert str(one) == "0.4 (1 record, too few for an interval)"
    huge = Score.of_ratio([1e6, 2e6], [1, 1], numpy.exp)
    assert huge.mean == huge.high == math.inf


# --- paired --------------------------------------------------------------------------------------


def test_paired_answers_are_compared_by_mcnemars_exact_test() -> None:
    right, wrong = [1.0] * 9 + [0.0], [0.0] * 9 + [1.0]
    test = paired(right, wrong)
    assert (test.wins, test.losses, test.ties) == (9, 1, 0)
    assert test.p == pytest.approx(2 * (1 + 10) / 2**10)  # by hand
    assert test.larger is True and paired(wrong, right).larger is False
    assert paired([1.0, 0.0], [1.0, 0.0]).p == 1.0
    assert paired([1.0] * 5, [0.0] * 5).larger is None, "five records can't reach 0.05"
    assert paired([1.0] * 6, [0.0] * 6).larger is True
    assert paired([1.0], [0.0]).difference == 1.0
    with pytest.raises(DataError, match="same records"):
        paired([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="nothing to compare"):
        paired([math.nan], [1.0])


def test_paired_numbers_are_compared_by_a_permutation_test() -> None:
    rng = numpy.random.default_rng(0)
    first = rng.normal(0, 1, 80)
    assert paired(first + 0.5, first + rng.normal(0, 0.1, 80)).p < 0.01
    assert paired(first, rng.permutation(first)).p > 0.05
    assert paired([0.5, 0.6, 0.7], [0.1, 0.2, 0.4]).p == 2 / 2**3, "exact where all fit"


# --- power ---------------------------------------------------------------------------------------


def test_the_detectable_gain_is_seen_four_times_in_five() -> None:
    rng = numpy.random.default_rng(4)
    gain, seen = detectable(60, 0.3), 0
    for _ in range(400):
        base, better = rng.random((2, 60)) < [[0.3], [0.3 + gain]]
        seen += paired(better, base).larger is True
    assert seen / 400 == pytest.approx(0.8, abs=0.06)


def test_more_questions_and_fewer_differences_show_smaller_gains() -> None:
    gains = [detectable(n, 0.2) for n in (20, 60, 100, 278)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(0.48, abs=0.02) and gains[-1] == pytest.approx(0.1, abs=0.01)
    assert detectable(100, 0.5, differ=0.2) < detectable(100, 0.5)
    assert math.isnan(detectable(5, 0.0)), "five questions show nothing"
    assert math.isnan(detectable(100, 1.0))


def test_two_numbers_a_side_show_nothing() -> None:
    assert larger([1.0, 1.1], [1.2, 1.3]) is None
    assert larger([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3]) is False
