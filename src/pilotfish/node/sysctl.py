"""Kernel parameters of the network namespace that the calling thread is in."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys")


def read_sysctl(name: str) -> int:
    """The parameter's value; the name is its path below /proc/sys. Raises FileNotFoundError where there is none."""
    return int((_ROOT / name).read_text())


def write_sysctl(name: str, value: int, *, optional: bool = False) -> None:
    """Sets a parameter. One that the kernel lacks raises FileNotFoundError, unless it is optional."""
    try:
        with (_ROOT / name).open("r+") as parameter:  # never O_CREAT, which these files answer in their own ways
            parameter.write(f"{value}\n")
    except FileNotFoundError:
        if not optional:
            raise
