"""The bounds that counted traffic is held to."""

from __future__ import annotations

import random

from traffic.bounds import enough, plausible


def test_a_fair_coin_is_within_bounds_and_a_bent_one_is_not() -> None:
    low, high = plausible(1000, 0.5)
    assert low == 1000 - high
    assert 410 < low < 420  # 5.3 standard deviations
    chance = random.Random(1)
    for _ in range(200):
        assert low <= sum(chance.random() < 0.5 for _ in range(1000)) <= high
    assert sum(chance.random() < 0.65 for _ in range(1000)) > high


def test_what_is_certain_has_no_margin() -> None:
    assert plausible(50, 0.0) == (0, 0)
    assert plausible(50, 1.0) == (50, 50)


def test_few_requests_allow_anything_and_enough_tell_apart() -> None:
    assert plausible(5, 0.5) == (0, 5)
    count = enough(0.9, 0.75)
    assert plausible(count, 0.75)[1] < plausible(count, 0.9)[0]
    assert not plausible(count - 10, 0.75)[1] < plausible(count - 10, 0.9)[0]
