"""What gateways cannot serve, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, creationTimestamp: "{year}-01-01T00:00:00Z"}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: 80, name: http, protocol: HTTP}}
    hosts: ["*"]
  - port: {{number: 443, name: https, protocol: HTTPS}}
    hosts: [web.example.com]
    tls: {{mode: SIMPLE, credentialName: web}}
"""


@pytest.fixture
def told(mesh: Any) -> dict[str, str | None]:
    """What was said last of each Gateway."""
    found: dict[str, str | None] = {}
    mesh.generator.gateways.on_unserved = lambda key, message: found.__setitem__(key.name, message)
    return found


def test_a_secret_that_is_not_there(mesh: Any, told: dict[str, str | None]) -> None:
    mesh.apply(GATEWAY.format(name="web", year=2024))
    assert told == {}, "nobody serves it yet"
    gateway = mesh.gateway()
    assert told == {"web": "servers[1]: there is no Secret web (namespace istio-system)"}
    secret = """
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: istio-system}
data: {tls.crt: YQ==%s}
"""
    mesh.apply(secret % "")
    lacking = "Secret web has neither tls.crt and tls.key nor cert and key; it has tls.crt"
    assert told == {"web": f"servers[1]: {lacking} (namespace istio-system)"}
    mesh.delete("Secret", "web", "istio-system")
    gateway.config.close()
    assert told == {"web": None}, "a gateway that is gone lacks nothing"


def test_a_server_whose_place_is_taken(mesh: Any, told: dict[str, str | None]) -> None:
    mesh.gateway()
    mesh.apply(GATEWAY.format(name="old", year=2020).replace("HTTP}", "TCP}"))
    mesh.apply(GATEWAY.format(name="young", year=2024).replace("credentialName: web", "credentialName: other"))
    assert told["young"] == (
        "servers[0]: port 80 serves TCP for Gateway default/old; "
        "servers[1]: port 443 serves web.example.com for Gateway default/old"
    )
    mesh.delete("Gateway", "old")
    assert told["old"] is None
    assert told["young"] == "servers[1]: there is no Secret other (namespace istio-system)"
