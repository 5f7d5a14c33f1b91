"""Durations as Istio's configuration writes them: "10s", "250ms", "1h30m" (Go: time.ParseDuration)."""

from __future__ import annotations

import re
from decimal import Decimal

_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")


def nanoseconds(text: str) -> int:
    """The length of a duration that has the form of `istio_types.Duration`, in whole nanoseconds."""
    length = sum(int(Decimal(number) * _NANOSECONDS[unit]) for number, unit in _PART.findall(text))
    return -length if text.startswith("-") else length
