"""What of MeshConfig reaches proxies."""

from __future__ import annotations

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.meshconfig import MeshConfig, read_mesh_config
from pilotfish.xds.settings import ACCESS_LOG_FORMAT, ProxySettings, settings_of


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
    found = settings_of(mesh, "mesh.test")
    assert found.access_log is not None
    assert (found.access_log.path, found.access_log.text) == ("/dev/stdout", ACCESS_LOG_FORMAT)
    assert (found.allow_any, found.connect_timeout, found.detection_timeout) == (False, 2.0, 0.1)
    assert (found.dns_refresh, found.cluster_domain) == (5.0, "mesh.test")
    assert [port for port in (15001, 15006, 16001, 16006, 15090) if found.reserved(port)] == [16001, 16006, 15090]


def test_json_logs() -> None:
    found = settings_of(MeshConfig(access_log_file="/x", access_log_encoding="JSON")).access_log
    assert found is not None and ("route_name", "%ROUTE_NAME%") in found.json
    with pytest.raises(Invalid, match="accessLogFormat"):
        settings_of(MeshConfig(access_log_file="/x", access_log_encoding="JSON", access_log_format="%PROTOCOL%"))
