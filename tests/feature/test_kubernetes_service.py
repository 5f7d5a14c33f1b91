"""Kubernetes Services: what each kind of port and address becomes, and how little a change of endpoints touches."""

from __future__ import annotations

from typing import Any

WEB = "web.default.svc.cluster.local"

HTTP_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.1.0.5
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.20], conditions: {ready: true}}
- {addresses: [10.0.0.21], conditions: {ready: false}}
"""


def service(ports: str, cluster_ip: str = "10.1.0.5", more: str = "") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: {cluster_ip}, selector: {{app: web}}, ports: [{ports}]{more}}}
"""


def addresses(proxy: Any, cluster: str) -> list[str]:
    groups = proxy.get("endpoints", cluster).get("endpoints", [])
    return [e["endpoint"]["address"]["socket_address"]["address"] for g in groups for e in g["lb_endpoints"]]


def domains(proxy: Any, route: str, host: str) -> list[str]:
    return next(h["domains"] for h in proxy.get("routes", route)["virtual_hosts"] if h["name"] == host)


def chains(listener: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Each chain's match, and the route or cluster that it goes to; the default chain last, with match "default"."""
    found = []
    for chain in listener["filter_chains"]:
        found.append((chain.get("filter_chain_match", {}), _goes_to(chain)))
    if "default_filter_chain" in listener:
        found.append(({"default": True}, _goes_to(listener["default_filter_chain"])))
    return found


def _goes_to(chain: dict[str, Any]) -> str:
    config = chain["filters"][-1]["typed_config"]
    if "rds" in config:
        return f"route {config['rds']['route_config_name']}"
    return str(config.get("cluster") or config["route_config"]["name"])


HTTP = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}


def test_http_port(mesh: Any, load: Any) -> None:
    proxy = mesh.sidecar()
    other = mesh.sidecar(name="else", namespace="other", ip="10.0.0.10")
    mesh.apply(HTTP_SERVICE)
    assert proxy.told() == {
        "listeners": {"0.0.0.0_80"},
        "routes": {"80"},
        "clusters": {f"outbound|80||{WEB}"},
        "endpoints": {f"outbound|80||{WEB}"},
    }
    assert chains(proxy.get("listeners", "0.0.0.0_80")) == [
        (HTTP, "route 80"),
        ({"default": True}, "PassthroughCluster"),
    ]
    assert domains(proxy, "80", f"{WEB}:80") == [WEB, f"{WEB}.", "web", "web.default.svc", "web.default", "10.1.0.5"]
    assert domains(other, "80", f"{WEB}:80") == [WEB, f"{WEB}.", "web.default.svc", "web.default", "10.1.0.5"]
    cluster = proxy.get("clusters", f"outbound|80||{WEB}")
    assert cluster["type"] == "EDS"
    assert "typed_extension_protocol_options" not in cluster, "HTTP/1.1 is Envoy's default"

    mesh.delete("Service", "web")
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}
    assert proxy.names("routes") == proxy.names("endpoints") == set()


def test_endpoint_changes_touch_endpoints_only(mesh: Any) -> None:
    proxy = mesh.sidecar()
    cluster = f"outbound|80||{WEB}"
    mesh.apply(HTTP_SERVICE)
    proxy.told()
    assert addresses(proxy, cluster) == []

    mesh.apply(SLICE)
    assert proxy.told() == {"endpoints": {cluster}}
    assert addresses(proxy, cluster) == ["10.0.0.20"], "the other is not ready"

    mesh.apply(SLICE.replace("ready: false", "ready: true"))
    assert proxy.told() == {"endpoints": {cluster}}
    assert addresses(proxy, cluster) == ["10.0.0.20", "10.0.0.21"]

    mesh.apply(SLICE.replace("ready: false", "ready: true").replace("web-1", "web-1b"))
    assert proxy.told() == {}, "a second slice with the same endpoints changes nothing"
    mesh.delete("EndpointSlice", "web-1b")
    mesh.delete("EndpointSlice", "web-1")
    assert addresses(proxy, cluster) == []


def test_endpoints_that_came_before_their_service(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(SLICE)
    assert proxy.told() == {}
    mesh.apply(HTTP_SERVICE)
    assert addresses(proxy, f"outbound|80||{WEB}") == ["10.0.0.20"]


def test_unready_endpoints_may_be_published(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(HTTP_SERVICE + "  publishNotReadyAddresses: true\n---" + SLICE)
    assert addresses(proxy, f"outbound|80||{WEB}") == ["10.0.0.20", "10.0.0.21"]


def test_tcp_port(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: tcp-db, port: 5432}"))
    assert chains(proxy.get("listeners", "10.1.0.5_5432")) == [({}, f"outbound|5432||{WEB}")]
    assert "listener_filters" not in proxy.get("listeners", "10.1.0.5_5432")
    assert proxy.names("routes") == set()


def test_port_that_says_nothing(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: web, port: 7171}"))
    assert chains(proxy.get("listeners", "10.1.0.5_7171")) == [
        (HTTP, f"route {WEB}:7171"),
        ({"default": True}, f"outbound|7171||{WEB}"),
    ]
    assert proxy.names("routes") == {f"{WEB}:7171"}
    hosts = proxy.get("routes", f"{WEB}:7171")["virtual_hosts"]
    assert [(host["name"], host["domains"]) for host in hosts] == [(f"{WEB}:7171", ["*"])]
    options = proxy.get("clusters", f"outbound|7171||{WEB}")["typed_extension_protocol_options"]
    assert "use_downstream_protocol_config" in next(iter(options.values()))


def test_port_that_says_nothing_beside_http_on_the_same_port(mesh: Any) -> None:
    """It also answers by name where the destination address is another's."""
    proxy = mesh.sidecar()
    mesh.apply(service("{name: web, port: 80}") + "---" + HTTP_SERVICE.replace("web", "site").replace("0.5", "0.6"))
    names = [host["name"] for host in proxy.get("routes", "80")["virtual_hosts"]]
    assert names == ["site.default.svc.cluster.local:80", f"{WEB}:80", "allow_any"]


def test_tls_port(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: https, port: 443}"))
    assert chains(proxy.get("listeners", "10.1.0.5_443")) == [({}, f"outbound|443||{WEB}")]


def test_udp_port_is_not_proxied(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: dns, port: 53, protocol: UDP}"))
    assert proxy.told() == {}


def test_service_whose_address_is_yet_to_come(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: http, port: 80}", cluster_ip='""'))
    assert proxy.told() == {}
    mesh.apply(HTTP_SERVICE)
    assert "0.0.0.0_80" in proxy.names("listeners")


def test_headless_http_port(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: http, port: 80}", cluster_ip="None"))
    assert proxy.get("clusters", f"outbound|80||{WEB}")["type"] == "ORIGINAL_DST"
    assert proxy.names("endpoints") == set()
    found = domains(proxy, "80", f"{WEB}:80")
    assert found[:4] == [WEB, f"{WEB}.", f"*.{WEB}", f"*.{WEB}."]
    assert {"web", "*.web", "web.default", "*.web.default"} <= set(found)


def test_headless_tcp_port_listens_at_its_pods(mesh: Any) -> None:
    proxy = mesh.sidecar()
    mesh.apply(service("{name: tcp, port: 9000}", cluster_ip="None"))
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}
    mesh.apply(SLICE.replace("name: http", "name: tcp").replace("8080", "9000"))
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound", "10.0.0.20_9000"}
    mesh.delete("EndpointSlice", "web-1")
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}


def test_ports_of_the_proxy_itself_are_left_alone(mesh: Any) -> None:
    """A listener on every address's port 15001 would stand in virtualOutbound's place."""
    proxy = mesh.sidecar()
    mesh.apply(service("{name: http, port: 15001}"))
    assert proxy.names("listeners") == {"virtualOutbound", "virtualInbound"}


def test_two_listeners_become_one_where_protocols_meet(mesh: Any) -> None:
    """HTTP of one host and bytes of another, both on any address's port 80."""
    proxy = mesh.sidecar()
    mesh.apply(
        HTTP_SERVICE
        + """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere}
spec: {hosts: [anywhere.test], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: NONE}
"""
    )
    assert chains(proxy.get("listeners", "0.0.0.0_80")) == [
        (HTTP, "route 80"),
        ({"default": True}, "outbound|80||anywhere.test"),
    ]
    mesh.delete("Service", "web")
    assert chains(proxy.get("listeners", "0.0.0.0_80")) == [({}, "outbound|80||anywhere.test")]
    assert proxy.names("routes") == set()
