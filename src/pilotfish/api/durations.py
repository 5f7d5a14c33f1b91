"""Durations as Istio's configuration writes them: "10s", "250ms", "1h30m" (Go: time.ParseDuration)."""

from __future__ import annotations

import re
from decimal import Decimal

_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)"
FORM = rf"^-?(0|({_PART})+)$"
"""What a duration looks like, as a regular expression."""


def nanoseconds(text: str) -> int:
    """The length of a duration in whole nanoseconds. Raises ValueError for a text that has not its form."""
    if not re.search(FORM, text):
        raise ValueError(f'"{text}" is no duration: write a number with a unit, such as "10s", "250ms" or "1h30m"')
    length = sum(int(Decimal(number) * _NANOSECONDS[unit]) for number, unit in re.findall(_PART, text))
    return -length if text.startswith("-") else length
