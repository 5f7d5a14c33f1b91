"""How requests are tried again where no VirtualService says it: MeshConfig's defaultHttpRetryPolicy."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api.errors import Invalid
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.meshconfig_unused import NOT_HONOURED

HOSTS = """
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: routed}
spec: {clusterIP: 10.1.0.6, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: own}
spec: {clusterIP: 10.1.0.7, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routed}
spec: {hosts: [routed], gateways: [mesh, edge], http: [{route: [{destination: {host: routed}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own}
spec: {hosts: [own], http: [{retries: {attempts: 7, retryOn: 5xx}, route: [{destination: {host: own}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
"""


def retries(proxy: Any, routes: str = "80") -> dict[str, Any]:
    """The number and conditions of retries by host; None for no retries."""
    found = {}
    for host in proxy.get("routes", routes)["virtual_hosts"]:
        policy = host["routes"][0].get("route", {}).get("retry_policy")
        found[host["name"].partition(".")[0]] = policy and (policy["num_retries"], policy["retry_on"])
    found.pop("allow_any", None)
    return found


def test_the_mesh_says_how_requests_are_tried_again(mesh: Any) -> None:
    client, gateway = mesh.sidecar(), mesh.gateway()
    mesh.apply(HOSTS)
    istio = (2, "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes")
    assert retries(client) == {"plain": istio, "routed": istio, "own": (7, "5xx")}
    mesh.configure("defaultHttpRetryPolicy: {attempts: 4, retryOn: 'gateway-error,503'}")
    mine = (4, "gateway-error,retriable-status-codes")
    assert retries(client) == {"plain": mine, "routed": mine, "own": (7, "5xx")}
    assert retries(gateway, "http.80") == {"routed": mine}
    mesh.configure("defaultHttpRetryPolicy: {attempts: 0}")
    assert retries(client) == {"plain": None, "routed": None, "own": (7, "5xx")}


def test_the_mesh_says_where_and_how_long(mesh: Any) -> None:
    client = mesh.sidecar()
    mesh.apply(HOSTS)
    mesh.configure("""
defaultHttpRetryPolicy:
  attempts: 3
  retryOn: 5xx
  perTryTimeout: 2s
  backoff: 100ms
  retryRemoteLocalities: true
  retryIgnorePreviousHosts: false
""")
    (plain,) = (host for host in client.get("routes", "80")["virtual_hosts"] if host["name"].startswith("plain"))
    each_time = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    assert plain["routes"][0]["route"]["retry_policy"] == {
        "retry_on": "5xx",
        "num_retries": 3,
        "host_selection_retry_max_attempts": "5",
        "per_try_timeout": "2s",
        "retry_back_off": {"base_interval": "0.100s"},
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": each_time, "update_frequency": 2},
        },
    }


def test_a_policy_that_cannot_be_is_refused() -> None:
    with pytest.raises(Invalid, match=r"defaultHttpRetryPolicy\.retryOn"):
        read_mesh_config("defaultHttpRetryPolicy: {attempts: 1, retryOn: sometimes}")
    assert "defaultHttpRetryPolicy" not in NOT_HONOURED


def test_requests_that_are_hashed_are_tried_where_they_were(mesh: Any) -> None:
    """Unless a VirtualService asks for another host: the hash means no other."""
    client, gateway = mesh.sidecar(), mesh.gateway()

    def elsewhere(proxy: Any, routes: str = "80", name: str = "routed.default.svc.cluster.local:80") -> bool:
        (host,) = (h for h in proxy.get("routes", routes)["virtual_hosts"] if h["name"] == name)
        return "retry_host_predicate" in host["routes"][0]["route"]["retry_policy"]

    def both() -> tuple[bool, bool]:
        return elsewhere(client), elsewhere(gateway, "http.80", "routed.default.svc.cluster.local:80")

    mesh.apply(HOSTS)
    assert both() == (True, True)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: routed}
spec: {host: routed, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}
""")
    assert both() == (False, False)
    asked = "retries: {attempts: 1, retryIgnorePreviousHosts: true}, route: [{destination: {host: routed}}]"
    mesh.apply(f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: routed}}
spec: {{hosts: [routed], gateways: [mesh, edge], http: [{{{asked}}}]}}
""")
    assert both() == (True, True)
