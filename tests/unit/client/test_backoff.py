from __future__ import annotations

from itertools import islice

from pilotfish.client.backoff import backoff


def test_delays_double_up_to_the_most_and_are_spread() -> None:
    for _ in range(50):
        delays = list(islice(backoff(first=1, most=5), 6))
        for delay, full in zip(delays, [1, 2, 4, 5, 5, 5], strict=True):
            assert full / 2 <= delay <= full
    assert len({next(backoff()) for _ in range(50)}) > 1
