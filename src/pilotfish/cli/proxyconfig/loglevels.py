"""`proxy-config log`: what Envoy's loggers write, and changes of it (istioctl/pkg/proxyconfig: logCmd)."""

from __future__ import annotations

import re

LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")
ALL = "level"
"""The query parameter, and the word for it on the command line, that means all loggers."""

_ALIASES = {"warn": "warning"}
_LOGGER = re.compile(r"^\s+([\w-]+): ", re.MULTILINE)


class LevelError(Exception):
    """The text names a level or a logger that there is not."""


def parse_levels(text: str, listing: str) -> dict[str, str]:
    """Logger → level from e.g. "http:debug,redis:info" or "debug"; all loggers are ALL, and come first.

    `listing` is Envoy's answer to `/logging`, which names its loggers. Raises LevelError.
    """
    known = set(loggers(listing))
    levels: dict[str, str] = {}
    for word in text.split(","):
        name, _, level = word.rpartition("::")[2].replace("=", ":").rpartition(":")
        level = _ALIASES.get(level, level)
        if level not in LEVELS:
            raise LevelError(f"unrecognized logging level: {level} (the levels are {', '.join(LEVELS)})")
        if name and name != ALL and name not in known:
            raise LevelError(f"unrecognized logger name: {name} (the proxy's are {', '.join(sorted(known))})")
        if not name:
            levels = {}  # what was said of single loggers before is overruled
        levels[name or ALL] = level
    return dict(sorted(levels.items(), key=lambda one: one[0] != ALL))


def loggers(listing: str) -> list[str]:
    """The names in Envoy's answer to `/logging`."""
    return _LOGGER.findall(listing)
