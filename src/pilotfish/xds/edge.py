"""How a gateway takes its clients' word, as its own ProxyConfig says (MeshConfig: gatewayTopology)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotfish.xds.settings import Edge
from pilotfish.xds.source import ProxyNode


def edge_of(node: ProxyNode) -> Edge:
    """What the gateway's metadata says; what it does not say, or not so that it can be read, is as by default."""
    topology = _mapping(_mapping(node.metadata, "PROXY_CONFIG"), "gatewayTopology")
    usual = Edge()
    trusted = topology.get("numTrustedProxies")
    details = topology.get("forwardClientCertDetails")
    return Edge(
        trusted_proxies=int(trusted) if isinstance(trusted, int | float) else usual.trusted_proxies,
        client_certificates=details if details in FORWARDING else usual.client_certificates,
        proxy_protocol=topology.get("proxyProtocol") is not None,
        http_1_0=node.metadata.get("HTTP10") == "1",
    )


FORWARDING = frozenset({"SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"})
"""What can become of a client's certificate in the header x-forwarded-client-cert (Envoy's words, and Istio's)."""


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, Mapping) else {}
