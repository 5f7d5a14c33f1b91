"""Messages about the providers of Telemetries."""

from __future__ import annotations

from typing import Any

import pytest

MESH = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultProviders: {accessLogging: [envoy]}"}
"""
LOGGING = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: logs, namespace: shop}
spec: {accessLogging: [LOGGING]}
"""


def test_telemetry_without_a_provider(analyse: Any, shop: str) -> None:
    logs = LOGGING.replace("LOGGING", "{filter: {expression: 'true'}}")
    [found] = analyse(shop, logs, code="IST0157")
    assert found.arguments == ("logs", "shop")
    assert analyse(shop, MESH, logs, code="IST0157") == []
    for given in ("{providers: [{name: envoy}]}", "{disabled: true}"):
        assert analyse(shop, LOGGING.replace("LOGGING", given), code="IST0157") == []
    assert analyse(shop, MESH.replace("defaultProviders: {accessLogging: [envoy]}", "accessLogFile: /log"), logs) == []


@pytest.mark.parametrize("field", ["accessLogging", "metrics", "tracing"])
def test_a_provider_that_nobody_has_defined(analyse: Any, shop: str, field: str) -> None:
    def telemetry(name: str) -> str:
        return LOGGING.replace("accessLogging: [LOGGING]", f"{field}: [{{providers: [{{name: {name}}}]}}]")

    [found] = analyse(shop, telemetry("nobody"), code="IST0101")
    assert found.arguments == ("extension provider (of MeshConfig)", "nobody")
    assert found.path == ("spec", field, 0, "providers", 0, "name")
    defined = "extensionProviders: [{name: Mine, envoyFileAccessLog: {path: /log}}]"
    mesh = MESH.replace("defaultProviders: {accessLogging: [envoy]}", defined)
    for name in ("mine", "envoy", "prometheus"):
        assert analyse(shop, mesh, telemetry(name), code="IST0101") == []
