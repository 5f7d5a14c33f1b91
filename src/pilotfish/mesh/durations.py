"""Durations as Istio's configuration writes them: "10s", "250ms", "1h30m" (Go: time.ParseDuration)."""

from __future__ import annotations

import re
from typing import Any

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")


class Duration(float):
    """A length of time in seconds. Configuration that holds one is read with `duration_hook`."""

    def __str__(self) -> str:
        """As protobuf's JSON writes it: seconds, at most nanoseconds after the point."""
        return f"{self:.9f}".rstrip("0").rstrip(".") + "s"


def parse_duration(text: str) -> Duration:
    """The duration that a text names. Raises ValueError that says what was expected."""
    unsigned = text.removeprefix("-")
    if unsigned == "0":
        return Duration(0)
    parts = list(_PART.finditer(unsigned))
    if not parts or "".join(part[0] for part in parts) != unsigned:
        raise ValueError(f'"{text}" is no duration: write a number with a unit, such as "10s", "250ms" or "1h30m"')
    seconds = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    return Duration(-seconds if text.startswith("-") else seconds)


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
