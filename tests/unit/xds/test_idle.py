"""How long things may be idle, what proxies say of it, and the periods by which names change."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pilotfish.api.durations import Duration
from pilotfish.api.proxy_http import ConnectionSettings
from pilotfish.xds.build.http_settings import HttpSettings
from pilotfish.xds.build.names import Destination, destination, destination_format
from pilotfish.xds.idle import DEFAULT, idle_time, is_over, next_period, report_interval, terms
from pilotfish.xds.source import ProxyNode

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, DEFAULT),
        ({"PILOTFISH_IDLE_TIMEOUT": "2h"}, 7200.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "2h", "ANNOTATIONS": {"pilotfish.dev/idle-timeout": "90s"}}, 90.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "2h", "ANNOTATIONS": {"other": "90s"}}, 7200.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "0s"}, 0.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "-1s"}, 0.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "1ms"}, 1.0),
        ({"PILOTFISH_IDLE_TIMEOUT": "soon"}, DEFAULT),
    ],
)
def test_the_pod_says_and_else_the_mesh(metadata: dict[str, Any], expected: float) -> None:
    assert idle_time(ProxyNode("x", "sidecar", "10.0.0.2", "p", "default", metadata)) == expected


def test_reports_come_often_enough_and_not_too_often() -> None:
    assert report_interval(10.0) == 1.0
    assert report_interval(DEFAULT) == 600.0
    assert report_interval(0.0) == 0.0


@pytest.mark.parametrize(
    ("idle", "period", "http_idle"),
    [
        (0.0, "", 0.0),
        (1.0, "%Y%m%d%H%M%S", 1.0),
        (3599.0, "%Y%m%d%H%M", 3599.0),
        (3600.0, "%Y%m%d%H", 0.0),
        (DEFAULT, "%Y%m%d", 0.0),
    ],
)
def test_no_name_is_withdrawn_in_its_own_period_and_no_connection_idles_longer(
    idle: float, period: str, http_idle: float
) -> None:
    found = terms(idle, ("10.0.0.0/8",))
    assert (found.period, found.http_idle) == (period, http_idle)


@pytest.mark.parametrize(("said", "expected"), [(60.0, 0.0), (7200.0, 5400.0), (0.0, 5400.0), (None, 0.0)])
def test_the_mesh_may_say_how_long_connections_idle(said: float | None, expected: float) -> None:
    connections = ConnectionSettings(http_idle_timeout=None if said is None else Duration(said))
    assert terms(5400.0, (), HttpSettings(connections=connections)).http_idle == expected


@pytest.mark.parametrize(
    ("period", "over"),
    [
        ("20240131", False),
        ("20240130", False),  # clocks differ
        ("20240201", False),
        ("20240129", True),
        ("2024013110", True),
        ("2024013111", False),
        ("202401311158", True),
        ("20240131120001", False),
        ("", False),
        ("7", False),
    ],
)
def test_periods_end(period: str, over: bool) -> None:
    assert is_over(period, NOON) is over


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("20240131", "20240201"),
        ("20240130", None),
        ("20240201", None),
        ("2024013112", "2024013113"),
        ("20240131120000", "20240131120001"),
        ("", None),
        ("7", None),
    ],
)
def test_the_present_period_is_followed_by_another(period: str, expected: str | None) -> None:
    assert next_period(period, NOON) == expected


def test_destinations_are_read_as_envoy_names_them() -> None:
    assert destination_format("") == "outbound|%DOWNSTREAM_LOCAL_PORT%||%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"
    assert "|%START_TIME(%Y%m%d)%|" in destination_format("%Y%m%d")
    assert destination("outbound|80||2001:2::5") == Destination("2001:2::5", 80)
    assert destination("outbound|80|20240131|10.0.0.1") == Destination("10.0.0.1", 80, "20240131")
    assert Destination("2001:2::5", 80, "20240131").cluster == "outbound|80|20240131|2001:2::5"
    for name in ("outbound|80|v1|10.0.0.1", "outbound|80||a.test", "inbound|80||10.0.0.1", "outbound|x||10.0.0.1"):
        assert destination(name) is None
