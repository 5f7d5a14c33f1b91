"""What of MeshConfig reaches proxies."""

from __future__ import annotations

import json

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.meshconfig import MeshConfig, read_mesh_config
from pilotfish.mesh.reporting import LOG_FORMAT, AccessLog, FileLog
from pilotfish.xds.settings import ProxySettings, settings_of


def test_defaults() -> None:
    assert settings_of(MeshConfig()) == ProxySettings()


def test_every_field() -> None:
    mesh = read_mesh_config("""
        accessLogFile: /dev/stdout
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        connectTimeout: 2s
        protocolDetectionTimeout: 100ms
        dnsRefreshRate: 5s
        proxyListenPort: 16001
        proxyInboundListenPort: 16006
        """)
    found = settings_of(mesh, ProxySettings(cluster_domain="mesh.test"))
    assert found.client.logs == found.server.logs == (AccessLog(FileLog("/dev/stdout", LOG_FORMAT)),)
    assert (found.allow_any, found.connect_timeout, found.detection_timeout) == (False, 2.0, 0.1)
    assert (found.dns_refresh, found.cluster_domain) == (5.0, "mesh.test")
    assert [port for port in (15001, 15006, 16001, 16006, 15090) if found.reserved(port)] == [16001, 16006, 15090]


def test_json_logs() -> None:
    [log] = settings_of(MeshConfig(access_log_file="/x", access_log_encoding="JSON")).client.logs
    assert isinstance(log.sink, FileLog) and json.loads(log.sink.json)["route_name"] == "%ROUTE_NAME%"
    with pytest.raises(Invalid, match="accessLogFormat"):
        settings_of(MeshConfig(access_log_file="/x", access_log_encoding="JSON", access_log_format="%PROTOCOL%"))
