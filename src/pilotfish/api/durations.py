"""Durations as Istio's configuration writes them: "10s", "250ms", "1h30m" (Go: time.ParseDuration)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_NANOSECONDS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "µs": 10**3, "ns": 1}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)"
FORM = rf"^-?(0|({_PART})+)$"
"""What a duration looks like, as a regular expression."""


class Duration(float):
    """A length of time in seconds. Configuration that holds one is read with `decode_hook`."""

    def __str__(self) -> str:
        """As protobuf's JSON writes it: seconds, at most nanoseconds after the point."""
        return f"{self:.9f}".rstrip("0").rstrip(".") + "s"


def nanoseconds(text: str) -> int:
    """The length of a duration in whole nanoseconds. Raises ValueError for a text that has not its form."""
    if not re.search(FORM, text):
        raise ValueError(f'"{text}" is no duration: write a number with a unit, such as "10s", "250ms" or "1h30m"')
    length = sum(int(Decimal(number) * _NANOSECONDS[unit]) for number, unit in re.findall(_PART, text))
    return -length if text.startswith("-") else length


def parse_duration(text: str) -> Duration:
    """The duration that a text names. Raises ValueError that says what was expected."""
    return Duration(nanoseconds(text) / 1e9)


def decode_hook(cls: type, value: Any) -> Any:
    """msgspec's `dec_hook` for types that hold a Duration."""
    if cls is Duration:
        if not isinstance(value, str):
            raise ValueError(f'{value!r} is no duration: write a text with a unit, such as "10s"')
        return parse_duration(value)
    raise NotImplementedError(f"{cls} is not a configuration type")


def encode_hook(value: Any) -> Any:
    """msgspec's `enc_hook` for types that hold a Duration."""
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(f"{type(value)} is not a configuration type")


def seconds(text: str | None) -> float:
    """A duration that may be left out: 0 then. Raises ValueError for what is no duration."""
    return float(parse_duration(text)) if text else 0.0
