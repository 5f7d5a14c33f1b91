"""How often something of a known probability happens: the counts that are not chance."""

from __future__ import annotations

from functools import cache
from math import exp, lgamma, log

FALSE_ALARM = 1e-7
"""The probability that a correct mesh fails a check."""


@cache
def plausible(count: int, probability: float) -> tuple[int, int]:
    """The least and the most successes among `count` independent trials that are not too improbable.

    Outside on either side lies half of FALSE_ALARM at most (the binomial distribution's tails, summed exactly).
    """
    if probability in (0.0, 1.0):
        return (0, 0) if probability == 0.0 else (count, count)
    chances = [_chance(count, k, probability) for k in range(count + 1)]
    return _cut(chances), count - _cut(chances[::-1])


def enough(probability: float, other: float) -> int:
    """The least number of requests after which a mesh that does `other` is told from one that does `probability`."""
    count = 10
    while not _apart(plausible(count, probability), plausible(count, other)):
        count += 10
    return count


def _apart(one: tuple[int, int], two: tuple[int, int]) -> bool:
    return one[1] < two[0] or two[1] < one[0]


def _chance(count: int, successes: int, probability: float) -> float:
    ways = lgamma(count + 1) - lgamma(successes + 1) - lgamma(count - successes + 1)
    return exp(ways + successes * log(probability) + (count - successes) * log(1 - probability))


def _cut(chances: list[float]) -> int:
    """How many values of a tail are together too improbable."""
    total = 0.0
    for number, chance in enumerate(chances):
        total += chance
        if total > FALSE_ALARM / 2:
            return number
    return len(chances)
