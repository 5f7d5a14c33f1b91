"""EnvoyFilter: which listeners, chains, filters, routes and clusters a patch means, field by field of its match."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

MESH = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.1
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: auto, port: 85, targetPort: 8085}
  - {name: tls, port: 443, targetPort: 8443}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.9, phase: Running}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  gateways: [mesh, istio-system/edge, istio-system/side]
  http:
  - {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /new}}
  - {name: gone, match: [{uri: {prefix: /gone}}], directResponse: {status: 410}}
  - {name: rest, route: [{destination: {host: web, port: {number: 80}}}]}
  tls:
  - match: [{port: 443, sniHosts: [web.shop.svc.cluster.local]}]
    route: [{destination: {host: web, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
"""
WEB = "web.shop.svc.cluster.local"


@pytest.fixture
def proxy(mesh: Any) -> Any:
    mesh.apply(MESH)
    return mesh.sidecar("web-1", namespace="shop", app="web")


def patch_all(mesh: Any, apply_to: str, match: str, value: str, operation: str = "MERGE", where: str = "shop") -> None:
    """One EnvoyFilter, in the place of the one before."""
    mesh.apply(f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: f, namespace: {where}, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  configPatches:
  - applyTo: {apply_to}
    match: {match}
    patch: {{operation: {operation}, value: {value}}}
""")


def marked_chains(proxy: Any) -> set[str]:
    """The chains that `transport_socket_connect_timeout` was merged into: "listener/what tells the chain"."""
    return {
        f"{listener['name']}/{_told_by(chain.get('filter_chain_match', {}))}"
        for listener in listeners(proxy)
        for chain in (*listener.get("filter_chains", ()), listener.get("default_filter_chain", {}))
        if "transport_socket_connect_timeout" in chain
    }


def _told_by(match: dict[str, Any]) -> str:
    port = [str(match["destination_port"])] if "destination_port" in match else []
    return " ".join([*port, *match.get("server_names", ()), *match.get("application_protocols", ())]) or "any"


def listeners(proxy: Any) -> Iterator[dict[str, Any]]:
    return (proxy.get("listeners", name) for name in sorted(proxy.names("listeners")))


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        (f"filterChain: {{sni: {WEB}}}", {f"10.1.0.1_443/{WEB}"}),
        ("filterChain: {sni: web}", set()),
        (
            "name: virtualInbound, filterChain: {transportProtocol: raw_buffer, destinationPort: 8085}",
            {"virtualInbound/8085", "virtualInbound/8085 http/1.1 h2c"},
        ),
        (
            "name: virtualInbound, filterChain: {transportProtocol: tls, destinationPort: 8080}",
            {"virtualInbound/8080 istio istio-peer-exchange istio-http/1.0 istio-http/1.1 istio-h2"},
        ),
        (
            "name: virtualInbound, filterChain: {applicationProtocols: 'http/1.1'}",
            {"virtualInbound/http/1.1 h2c", "virtualInbound/8085 http/1.1 h2c"},
        ),
        (
            "portNumber: 8085, filterChain: {applicationProtocols: 'h2c,http/1.1'}",
            {"virtualInbound/8085 http/1.1 h2c"},
        ),
        ("filterChain: {applicationProtocols: 'h2c,h2'}", set()),
        ("portNumber: 443", {f"10.1.0.1_443/{WEB}", "10.1.0.1_443/any"}),
        ("name: 10.1.0.1_443, filterChain: {name: PassthroughFilterChain}", {"10.1.0.1_443/any"}),
    ],
)
def test_chains(mesh: Any, proxy: Any, match: str, meant: set[str]) -> None:
    patch_all(mesh, "FILTER_CHAIN", f"{{listener: {{{match}}}}}", "{transport_socket_connect_timeout: 3s}")
    assert marked_chains(proxy) == meant


LIMIT = (
    "{name: limit, typed_config: {'@type': type.googleapis.com/"
    "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit,"
    " stat_prefix: limit, token_bucket: {max_tokens: 9, fill_interval: 1s}}}"
)
INSPECTOR = "envoy.filters.listener.http_inspector"
BEFORE_IT = ["envoy.filters.listener.original_dst", "envoy.filters.listener.tls_inspector"]


def listener_filters(proxy: Any, name: str) -> list[str]:
    return [found["name"] for found in proxy.get("listeners", name).get("listener_filters", ())]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("INSERT_BEFORE", ["limit", INSPECTOR]),
        ("INSERT_AFTER", [INSPECTOR, "limit"]),
        ("REPLACE", ["limit"]),
        ("REMOVE", []),
    ],
)
def test_a_listener_filter_by_its_name(mesh: Any, proxy: Any, operation: str, expected: list[str]) -> None:
    others = {name: listener_filters(proxy, name) for name in proxy.names("listeners") - {"virtualInbound"}}
    match = f"{{context: SIDECAR_INBOUND, listener: {{listenerFilter: {INSPECTOR}}}}}"
    patch_all(mesh, "LISTENER_FILTER", match, LIMIT, operation)
    assert listener_filters(proxy, "virtualInbound") == [*BEFORE_IT, *expected]
    assert {name: listener_filters(proxy, name) for name in others} == others


def test_a_listener_filter_that_is_nowhere_has_nothing_around_it(mesh: Any, proxy: Any) -> None:
    before = listener_filters(proxy, "virtualInbound")
    for operation in ("INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE"):
        patch_all(mesh, "LISTENER_FILTER", "{listener: {listenerFilter: nobody}}", LIMIT, operation)
        assert listener_filters(proxy, "virtualInbound") == before


def test_a_merge_into_a_listener_filter(mesh: Any, proxy: Any) -> None:
    merged = (
        f"{{name: {INSPECTOR}, typed_config: {{'@type': type.googleapis.com/"
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector, enable_ja3_fingerprinting: true}}"
    )
    inspector = "envoy.filters.listener.tls_inspector"
    patch_all(mesh, "LISTENER_FILTER", f"{{listener: {{listenerFilter: {inspector}}}}}", merged)
    (found,) = proxy.get("listeners", "10.1.0.1_443")["listener_filters"]
    assert found["typed_config"]["enable_ja3_fingerprinting"] is True


def test_the_operations_on_http_filters(mesh: Any, proxy: Any) -> None:
    def names() -> list[str]:
        chains = proxy.get("listeners", "virtualInbound")["filter_chains"]
        chain = next(chain for chain in chains if chain["name"] == "0.0.0.0_8080")
        return [found["name"] for found in chain["filters"][0]["typed_config"]["http_filters"]]

    buffer = (
        "{name: buffer, typed_config: {'@type': type.googleapis.com/"
        "envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 9}}"
    )
    manager = "envoy.filters.network.http_connection_manager"
    before = names()
    first, rest = before[0], before[1:]
    match = (
        "{context: SIDECAR_INBOUND, listener: {portNumber: 8080, filterChain:"
        f" {{filter: {{name: {manager}, subFilter: {{name: {first}}}}}}}}}}}"
    )
    for operation, expected in {
        "INSERT_FIRST": ["buffer", *before],
        "INSERT_AFTER": [first, "buffer", *rest],
        "REPLACE": ["buffer", *rest],
        "REMOVE": rest,
    }.items():
        patch_all(mesh, "HTTP_FILTER", match, buffer, operation)
        assert names() == expected, operation
    mesh.delete("EnvoyFilter", "f", "shop")
    assert names() == before


def marked_routes(proxy: Any) -> set[str]:
    """The routes that a response header was merged into: "configuration/route"."""
    return {
        f"{name}/{route.get('name')}"
        for name in proxy.names("routes")
        for host in proxy.get("routes", name)["virtual_hosts"]
        for route in host.get("routes", ())
        if "x-marked" in str(route)
    }


MARK = "{response_headers_to_add: [{header: {key: x-marked, value: 'yes'}}]}"


@pytest.mark.parametrize(
    ("vhost", "meant"),
    [
        ("domainName: web.shop", {"80/old", "80/gone", "80/rest"}),
        ("domainName: '*', name: allow_any", {"80/allow_any"}),
        ("domainName: web.shop, name: allow_any", set()),
        ("domainName: web, route: {name: gone}", {"80/gone"}),
        ("domainName: web, route: {action: ROUTE}", {"80/rest"}),
        ("domainName: web, route: {action: REDIRECT}", {"80/old"}),
        ("domainName: web, route: {action: DIRECT_RESPONSE}", {"80/gone"}),
        ("domainName: web, route: {action: ANY}", {"80/old", "80/gone", "80/rest"}),
        ("domainName: web, route: {name: old, action: ROUTE}", set()),
    ],
)
def test_routes_by_their_domain_name_and_action(mesh: Any, proxy: Any, vhost: str, meant: set[str]) -> None:
    match = f"{{context: SIDECAR_OUTBOUND, routeConfiguration: {{portNumber: 80, vhost: {{{vhost}}}}}}}"
    patch_all(mesh, "HTTP_ROUTE", match, MARK)
    assert marked_routes(proxy) == meant


ROUTE = "{name: mine, match: {prefix: /mine}, direct_response: {status: 204}}"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("INSERT_FIRST", ["mine", "old", "gone", "rest"]),
        ("INSERT_BEFORE", ["old", "mine", "gone", "rest"]),
        ("INSERT_AFTER", ["old", "gone", "mine", "rest"]),
        ("ADD", ["old", "gone", "rest", "mine"]),
        ("REMOVE", ["old", "rest"]),
    ],
)
def test_routes_have_an_order(mesh: Any, proxy: Any, operation: str, expected: list[str]) -> None:
    where = f"{{name: '80', vhost: {{name: '{WEB}:80', route: {{name: gone}}}}}}"
    patch_all(mesh, "HTTP_ROUTE", f"{{routeConfiguration: {where}}}", ROUTE, operation)
    hosts = {host["name"]: host["routes"] for host in proxy.get("routes", "80")["virtual_hosts"]}
    assert [route["name"] for route in hosts[f"{WEB}:80"]] == expected
    assert [route["name"] for route in hosts["allow_any"]] == ["allow_any"]


def test_a_virtual_host_is_replaced(mesh: Any, proxy: Any) -> None:
    value = f"{{name: mine, domains: [{WEB}], routes: [{ROUTE}]}}"
    patch_all(mesh, "VIRTUAL_HOST", f"{{routeConfiguration: {{vhost: {{domainName: {WEB}}}}}}}", value, "REPLACE")
    hosts = {host["name"]: host for host in proxy.get("routes", "80")["virtual_hosts"]}
    assert set(hosts) == {"mine", "allow_any"}
    assert [route["name"] for route in hosts["mine"]["routes"]] == ["mine"]


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ("subset: v1", {f"outbound|{port}|v1|{WEB}" for port in (80, 85, 443)}),
        ("subset: v1, portNumber: 85", {f"outbound|85|v1|{WEB}"}),
        ("subset: v2", set()),
        (f"service: {WEB}, portNumber: 443", {f"outbound|443||{WEB}", f"outbound|443|v1|{WEB}"}),
    ],
)
def test_clusters(mesh: Any, proxy: Any, match: str, meant: set[str]) -> None:
    patch_all(mesh, "CLUSTER", f"{{context: SIDECAR_OUTBOUND, cluster: {{{match}}}}}", "{connect_timeout: 3s}")
    clusters = {name: proxy.get("clusters", name) for name in proxy.names("clusters")}
    assert {name for name, cluster in clusters.items() if cluster.get("connect_timeout") == "3s"} == meant


def test_lists_grow_or_are_replaced(mesh: Any, proxy: Any) -> None:
    match = f"{{routeConfiguration: {{vhost: {{name: '{WEB}:80'}}}}}}"

    def domains() -> list[str]:
        hosts = {host["name"]: host for host in proxy.get("routes", "80")["virtual_hosts"]}
        return list(hosts[f"{WEB}:80"]["domains"])

    before = domains()
    patch_all(mesh, "VIRTUAL_HOST", match, "{domains: [extra.test]}")
    assert domains() == [*before, "extra.test"]
    patch_all(mesh, "VIRTUAL_HOST", match, "{domains: [extra.test]}", "MERGE_AND_REPLACE_LIST")
    assert domains() == ["extra.test"]


def test_names_of_resources_stay(mesh: Any, proxy: Any) -> None:
    names = {what: proxy.names(what) for what in ("clusters", "routes", "listeners")}
    for apply_to, what in {"CLUSTER": "clusters", "ROUTE_CONFIGURATION": "routes", "LISTENER": "listeners"}.items():
        patch_all(mesh, apply_to, "{context: SIDECAR_OUTBOUND}", "{name: mine}")
        assert {proxy.get(what, name)["name"] for name in proxy.names(what)} == names[what]


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        ("gateway: istio-system/edge", {"https.443.https-a.edge.istio-system", "https.443.https-b.edge.istio-system"}),
        ("gateway: istio-system/side", {"https.443.https-a.side.istio-system"}),
        ("portName: https-b", {"https.443.https-b.edge.istio-system"}),
        ("portName: https-a, gateway: istio-system/side", {"https.443.https-a.side.istio-system"}),
        ("portName: https-b, gateway: istio-system/side", set()),
        ("portNumber: 80, portName: http", set()),  # plain servers of a port share a configuration that names none
    ],
)
def test_routes_of_gateways(mesh: Any, make_certificate: Any, match: str, meant: set[str]) -> None:
    certificate, key = (base64.b64encode(text).decode() for text in make_certificate("web.test"))
    mesh.apply(f"""{MESH}
---
apiVersion: v1
kind: Secret
metadata: {{name: pair, namespace: istio-system}}
type: kubernetes.io/tls
data: {{tls.crt: {certificate}, tls.key: {key}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}
  - port: {{number: 443, name: https-a, protocol: HTTPS}}
    hosts: ["a.test"]
    tls: {{mode: SIMPLE, credentialName: pair}}
  - port: {{number: 443, name: https-b, protocol: HTTPS}}
    hosts: ["b.test"]
    tls: {{mode: SIMPLE, credentialName: pair}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: side, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: 443, name: https-a, protocol: HTTPS}}
    hosts: ["side.test"]
    tls: {{mode: SIMPLE, credentialName: pair}}
""")
    gateway = mesh.gateway()
    assert len(gateway.names("routes")) == 4
    patch_all(mesh, "ROUTE_CONFIGURATION", f"{{routeConfiguration: {{{match}}}}}", MARK, where="istio-system")
    assert {name for name in gateway.names("routes") if "x-marked" in str(gateway.get("routes", name))} == meant
