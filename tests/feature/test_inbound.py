"""Inbound: which ports of its own a sidecar knows, and how they speak."""

from __future__ import annotations

from typing import Any


def service(name: str, ports: str, created: str = "2024-01-01T00:00:00Z", selector: str = "app: web") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, creationTimestamp: "{created}"}}
spec: {{clusterIP: 10.1.0.5, selector: {{{selector}}}, ports: [{ports}]}}
"""


POD = """
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: main, containerPort: 8080}]}]}
status: {podIP: 10.0.0.20}
"""


def inbound(proxy: Any) -> list[tuple[int, str, str]]:
    """Each chain for plaintext with a port of its own: port, "http" or "tcp", and whether it was looked at first."""
    found = []
    for chain in proxy.get("listeners", "virtualInbound")["filter_chains"]:
        match = chain.get("filter_chain_match", {})
        if match.get("transport_protocol") == "tls":
            continue
        kind = "http" if "http_connection_manager" in chain["filters"][-1]["name"] else "tcp"
        if match.get("destination_port", 15006) != 15006:
            sniffed = "sniffed" if "application_protocols" in match else "declared"
            found.append((match["destination_port"], kind, sniffed))
    return found


def uninspected(proxy: Any) -> set[int]:
    listener = proxy.message("listeners", "virtualInbound")
    disabled = next(f for f in listener.listener_filters if "http_inspector" in f.name).filter_disabled
    rules = disabled.or_match.rules or [disabled]
    return {rule.destination_port_range.start for rule in rules}


def test_selected_by_a_service(mesh: Any) -> None:
    proxy = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    assert uninspected(proxy) == {15006}
    mesh.apply(service("web", "{name: http, port: 80, targetPort: 8080}"))
    assert inbound(proxy) == [(8080, "http", "declared")]
    assert uninspected(proxy) == {15006, 8080}
    listener = proxy.get("listeners", "virtualInbound")
    chain = next(c for c in listener["filter_chains"] if c["name"] == "0.0.0.0_8080")
    manager = chain["filters"][-1]["typed_config"]
    assert manager["stat_prefix"] == "inbound_0.0.0.0_8080;"
    assert manager["route_config"]["name"] == "inbound|8080||"
    assert manager["route_config"]["virtual_hosts"][0]["name"] == "inbound|http|80"
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]
    assert route["name"] == "default"
    assert route["route"]["retry_policy"] == {"retry_on": "reset-before-request", "num_retries": 2}

    mesh.delete("Service", "web")
    assert inbound(proxy) == []
    assert "inbound|8080||" not in proxy.names("clusters")


def test_protocols(mesh: Any) -> None:
    proxy = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    ports = (
        "{name: grpc, port: 1}",
        "{name: tcp, port: 2}",
        "{name: what, port: 3}",
        "{name: x, port: 4, protocol: UDP}",
    )
    mesh.apply(service("web", ", ".join(ports)))
    assert inbound(proxy) == [
        (1, "http", "declared"),
        (2, "tcp", "declared"),
        (3, "http", "sniffed"),
        (3, "tcp", "declared"),
    ]
    assert uninspected(proxy) == {15006, 1, 2}
    assert proxy.get("listeners", "virtualInbound")["listener_filters_timeout"] == "1s", (
        "a client that waits for the server's first bytes must not be waited for, for long"
    )
    mesh.apply(service("web", "{name: grpc, port: 1}, {name: what, port: 3}, {name: tls, port: 4}"))
    assert proxy.get("listeners", "virtualInbound")["listener_filters_timeout"] == "0s", "it speaks first everywhere"


def test_named_target_port(mesh: Any) -> None:
    proxy = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    mesh.apply(service("web", "{name: http, port: 80, targetPort: main}"))
    assert inbound(proxy) == [], "its number is the pod's to say"
    mesh.apply(POD)
    assert inbound(proxy) == [(8080, "http", "declared")]
    mesh.apply(POD.replace("8080", "9090"))
    assert inbound(proxy) == [(9090, "http", "declared")]
    mesh.delete("Pod", "web-1")
    assert inbound(proxy) == []


def test_labels_that_change(mesh: Any) -> None:
    proxy = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    mesh.apply(POD + "---" + service("web", "{name: http, port: 80, targetPort: 8080}"))
    mesh.apply(POD.replace("app: web", "app: other"))
    assert inbound(proxy) == []
    mesh.apply(service("other", "{name: tcp, port: 9}", selector="app: other"))
    assert inbound(proxy) == [(9, "tcp", "declared")]


def test_the_oldest_service_says_how_a_port_speaks(mesh: Any) -> None:
    proxy = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    mesh.apply(service("young", "{name: tcp, port: 80, targetPort: 8080}", created="2024-02-01T00:00:00Z"))
    assert inbound(proxy) == [(8080, "tcp", "declared")]
    mesh.apply(service("old", "{name: http, port: 81, targetPort: 8080}"))
    assert inbound(proxy) == [(8080, "http", "declared")]


def test_others_are_not_touched(mesh: Any) -> None:
    same = mesh.sidecar(name="web-1", ip="10.0.0.20", app="web")
    label = mesh.sidecar(name="db-1", ip="10.0.0.21", app="db")
    namespace = mesh.sidecar(name="web-1", namespace="other", ip="10.0.0.22", app="web")
    mesh.apply(service("web", "{name: http, port: 80, targetPort: 8080}"))
    assert "virtualInbound" in same.told()["listeners"]
    assert "virtualInbound" not in label.told()["listeners"]
    assert "virtualInbound" not in namespace.told()["listeners"]
    assert same.config.resources is not None
    one = mesh.sidecar(name="web-2", ip="10.0.0.23", app="web")
    assert _resource(one) is _resource(same), "pods of one deployment share one serialised listener"


def _resource(proxy: Any) -> Any:
    return proxy.config.resources("type.googleapis.com/envoy.config.listener.v3.Listener")["virtualInbound"]
