"""Durations of configuration as numbers of seconds."""

from __future__ import annotations

from typing import Any

from pilotfish.api.durations import nanoseconds


class Duration(float):
    """A length of time in seconds. Configuration that holds one is read with `duration_hook`."""

    def __str__(self) -> str:
        """As protobuf's JSON writes it: seconds, at most nanoseconds after the point."""
        return f"{self:.9f}".rstrip("0").rstrip(".") + "s"


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
