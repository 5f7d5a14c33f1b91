from __future__ import annotations

import pytest

from pilotfish.cli.proxyconfig.loglevels import LevelError, loggers, parse_levels

LISTING = "active loggers:\n  admin: warning\n  http: info\n  http2: info\n"


def test_loggers_are_those_that_envoy_lists() -> None:
    assert loggers(LISTING) == ["admin", "http", "http2"]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("debug", {"level": "debug"}),
        ("warn", {"level": "warning"}),
        ("http:debug,admin=off", {"http": "debug", "admin": "off"}),
        ("default::http:debug", {"http": "debug"}),
        ("http:debug,level:info", {"level": "info", "http": "debug"}),
        ("http:debug,info", {"level": "info"}),
    ],
)
def test_levels(text: str, levels: dict[str, str]) -> None:
    parsed = parse_levels(text, LISTING)
    assert list(parsed.items()) == list(levels.items())


@pytest.mark.parametrize(("text", "reason"), [("loud", "level: loud"), ("h:debug", "name: h"), ("http:", "level: ")])
def test_what_there_is_not_is_named(text: str, reason: str) -> None:
    with pytest.raises(LevelError, match=reason):
        parse_levels(text, LISTING)
