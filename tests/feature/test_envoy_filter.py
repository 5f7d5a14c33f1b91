"""EnvoyFilter: changes to what Envoys are told, once it is built; the real Envoy takes every result."""

from __future__ import annotations

from typing import Any

import pytest

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: shop, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  clusterIP: 10.1.0.2
  ports: [{name: tcp, port: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, image: web}]}
status: {podIP: 10.0.0.9, phase: Running}
"""
WEB = "outbound|80||web.shop.svc.cluster.local"
LEDGER = "outbound|7000||ledger.shop.svc.cluster.local"
LEDGER_AT = "outbound|7000||10.1.0.2"
HTTP = "envoy.filters.network.http_connection_manager"
LUA = """
name: lua
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
  default_source_code:
    inline_string: "function envoy_on_response(r) r:headers():add('x-lua', 'yes') end"
"""


def envoy_filter(
    apply_to: str,
    operation: str,
    value: str = "",
    match: str = "{}",
    *,
    name: str = "f",
    namespace: str = "shop",
    more: str = "",
) -> str:
    def block(text: str) -> str:
        return "\n".join(f"        {line}" for line in text.strip().splitlines())

    given = f"      value:\n{block(value)}" if value else ""
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2024-01-01T00:00:00Z"}}
spec:
  {more}
  configPatches:
  - applyTo: {apply_to}
    match: {match}
    patch:
      operation: {operation}
{given}
"""


@pytest.fixture
def proxy(mesh: Any) -> Any:
    mesh.apply(SERVICES)
    return mesh.sidecar("web-1", namespace="shop", app="web")


def manager(chain: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in chain["filters"] if f["name"] == HTTP)["typed_config"]
    return found


def on_port(listener: dict[str, Any], port: int) -> Any:
    chains = listener["filter_chains"]
    return next(c for c in chains if c["filter_chain_match"].get("destination_port") == port)


def http_filters(proxy: Any) -> list[str]:
    """Those of the web server's port."""
    return [f["name"] for f in manager(on_port(proxy.get("listeners", "virtualInbound"), 8080))["http_filters"]]


BEFORE_ROUTER = (
    "{context: SIDECAR_INBOUND, listener: {portNumber: 8080, filterChain: {filter: {name: " + HTTP + ","
    " subFilter: {name: envoy.filters.http.router}}}}}"
)


def test_an_http_filter_before_the_router(mesh: Any, proxy: Any) -> None:
    before = proxy.get("listeners", "virtualInbound")
    unpatched = http_filters(proxy)
    proxy.told()
    mesh.apply(envoy_filter("HTTP_FILTER", "INSERT_BEFORE", LUA, BEFORE_ROUTER))
    assert proxy.told() == {"listeners": {"virtualInbound"}}
    assert http_filters(proxy) == [*unpatched[:-1], "lua", unpatched[-1]]
    listener = proxy.get("listeners", "virtualInbound")
    others = [c for c in listener["filter_chains"] if c["filter_chain_match"].get("destination_port") != 8080]
    assert all("lua" not in str(chain) for chain in others)
    mesh.delete("EnvoyFilter", "f", "shop")
    assert proxy.get("listeners", "virtualInbound") == before


def test_a_merge_into_a_cluster(mesh: Any, proxy: Any) -> None:
    unpatched = {name: proxy.get("clusters", name) for name in (WEB, LEDGER)}
    proxy.told()
    match = "{context: SIDECAR_OUTBOUND, cluster: {service: web.shop.svc.cluster.local, portNumber: 80}}"
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: 1.5s\ncleanup_interval: 9s", match))
    assert proxy.told() == {"clusters": {WEB}}
    assert proxy.get("clusters", WEB) == {**unpatched[WEB], "connect_timeout": "1.500s", "cleanup_interval": "9s"}
    assert proxy.get("clusters", LEDGER) == unpatched[LEDGER]


def test_an_inbound_cluster_by_its_service(mesh: Any, proxy: Any) -> None:
    match = "{context: SIDECAR_INBOUND, cluster: {service: web.shop.svc.cluster.local}}"
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: 2s", match))
    assert proxy.get("clusters", "inbound|8080||")["connect_timeout"] == "2s"
    assert proxy.get("clusters", WEB)["connect_timeout"] == "10s"


def test_a_merge_into_a_route(mesh: Any, proxy: Any) -> None:
    match = (
        "{context: SIDECAR_OUTBOUND, routeConfiguration: {name: '80', vhost: {name: 'web.shop.svc.cluster.local:80'}}}"
    )
    mesh.apply(envoy_filter("HTTP_ROUTE", "MERGE", "route: {timeout: 7s, append_x_forwarded_host: true}", match))
    hosts = {host["name"]: host for host in proxy.get("routes", "80")["virtual_hosts"]}
    route = hosts["web.shop.svc.cluster.local:80"]["routes"][0]["route"]
    assert (route["timeout"], route["append_x_forwarded_host"]) == ("7s", True)
    assert "append_x_forwarded_host" not in str(hosts["allow_any"])


def test_routes_inside_of_a_listener(mesh: Any, proxy: Any) -> None:
    match = "{context: SIDECAR_INBOUND, routeConfiguration: {portNumber: 8080}}"
    value = "response_headers_to_add: [{header: {key: x-in, value: 'yes'}}]"
    mesh.apply(envoy_filter("ROUTE_CONFIGURATION", "MERGE", value, match))
    listener = proxy.get("listeners", "virtualInbound")
    added = manager(on_port(listener, 8080))["route_config"]["response_headers_to_add"]
    assert added == [{"header": {"key": "x-in", "value": "yes"}}]
    assert str(listener).count("x-in") == 2, "for mutual TLS, and for plaintext"


def test_a_virtual_host_comes_and_goes(mesh: Any, proxy: Any) -> None:
    value = "name: extra\ndomains: [extra.test]\nroutes: [{match: {prefix: /}, direct_response: {status: 204}}]"
    mesh.apply(envoy_filter("VIRTUAL_HOST", "ADD", value, "{routeConfiguration: {name: '80'}}"))
    assert "extra" in {host["name"] for host in proxy.get("routes", "80")["virtual_hosts"]}
    mesh.apply(envoy_filter("VIRTUAL_HOST", "REMOVE", match="{routeConfiguration: {vhost: {name: allow_any}}}"))
    assert {host["name"] for host in proxy.get("routes", "80")["virtual_hosts"]} == {"web.shop.svc.cluster.local:80"}


def test_a_listener_filter(mesh: Any, proxy: Any) -> None:
    value = """
name: envoy.filters.listener.proxy_protocol
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
"""
    before = [f["name"] for f in proxy.get("listeners", "virtualInbound")["listener_filters"]]
    mesh.apply(envoy_filter("LISTENER_FILTER", "INSERT_FIRST", value, "{context: SIDECAR_INBOUND}"))
    after = [f["name"] for f in proxy.get("listeners", "virtualInbound")["listener_filters"]]
    assert after == ["envoy.filters.listener.proxy_protocol", *before]


def test_a_network_filter_on_one_listener(mesh: Any, proxy: Any) -> None:
    value = """
name: limit
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit
  stat_prefix: limit
  max_connections: 5
"""
    where = "filterChain: {filter: {name: envoy.filters.network.tcp_proxy}}"
    match = f"{{context: SIDECAR_OUTBOUND, listener: {{name: 10.1.0.2_7000, {where}}}}}"
    mesh.apply(envoy_filter("NETWORK_FILTER", "INSERT_BEFORE", value, match))
    (chain,) = proxy.get("listeners", "10.1.0.2_7000")["filter_chains"]
    assert [f["name"] for f in chain["filters"]] == ["limit", "envoy.filters.network.tcp_proxy"]
    assert "limit" not in str(proxy.get("listeners", "virtualOutbound"))


def test_a_merge_into_a_network_filter(mesh: Any, proxy: Any) -> None:
    value = f"""
name: {HTTP}
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
  server_name: mine
  common_http_protocol_options: {{idle_timeout: 3s}}
"""
    match = f"{{context: SIDECAR_INBOUND, listener: {{filterChain: {{filter: {{name: {HTTP}}}}}}}}}"
    mesh.apply(envoy_filter("NETWORK_FILTER", "MERGE", value, match))
    found = manager(on_port(proxy.get("listeners", "virtualInbound"), 8080))
    assert (found["server_name"], found["common_http_protocol_options"]["idle_timeout"]) == ("mine", "3s")
    assert found["http_filters"]


def test_whole_resources_are_removed(mesh: Any, proxy: Any) -> None:
    everything = proxy.names("listeners"), proxy.names("clusters")
    mesh.apply(envoy_filter("LISTENER", "REMOVE", match="{listener: {name: 10.1.0.2_7000}}"))
    mesh.apply(envoy_filter("CLUSTER", "REMOVE", match=f"{{cluster: {{name: '{LEDGER}'}}}}", name="g"))
    assert proxy.names("listeners") == everything[0] - {"10.1.0.2_7000"}
    assert proxy.names("clusters") == everything[1] - {LEDGER}
    mesh.delete("EnvoyFilter", "f", "shop")
    mesh.delete("EnvoyFilter", "g", "shop")
    assert (proxy.names("listeners"), proxy.names("clusters")) == everything


def test_whole_resources_are_added(mesh: Any, proxy: Any) -> None:
    cluster = "name: extra\ntype: STATIC\nconnect_timeout: 1s"
    mesh.apply(envoy_filter("CLUSTER", "ADD", cluster))
    listener = """
name: extra
address: {socket_address: {address: 127.0.0.1, port_value: 9999}}
filter_chains:
- filters:
  - name: envoy.filters.network.tcp_proxy
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: extra
      cluster: extra
"""
    mesh.apply(envoy_filter("LISTENER", "ADD", listener, "{context: SIDECAR_OUTBOUND}", name="g"))
    assert proxy.get("clusters", "extra")["connect_timeout"] == "1s"
    assert proxy.get("listeners", "extra")["address"]["socket_address"]["port_value"] == 9999
    mesh.apply(envoy_filter("LISTENER", "ADD", listener, "{context: GATEWAY}", name="g"))
    assert "extra" not in proxy.names("listeners")


def test_chains_are_merged_and_removed(mesh: Any, proxy: Any) -> None:
    catch_all = "{context: SIDECAR_INBOUND, listener: {filterChain: {name: virtualInbound-catchall-http}}}"
    mesh.apply(envoy_filter("FILTER_CHAIN", "REMOVE", match=catch_all))
    chains = {c["name"] for c in proxy.get("listeners", "virtualInbound")["filter_chains"]}
    assert "virtualInbound-catchall-http" not in chains and "virtualInbound" in chains
    timeout = "transport_socket_connect_timeout: 4s"
    mesh.apply(envoy_filter("FILTER_CHAIN", "MERGE", timeout, "{listener: {filterChain: {destinationPort: 8080}}}"))
    listener = proxy.get("listeners", "virtualInbound")
    timeouts = [c["name"] for c in listener["filter_chains"] if "transport_socket_connect_timeout" in c]
    assert timeouts == [on_port(listener, 8080)["name"]] * 2


def test_filters_apply_in_order(mesh: Any, proxy: Any) -> None:
    """By priority, then the root namespace's, then by age; each merges over what went before."""

    def apply(name: str, seconds: int, namespace: str = "shop", priority: int = 0) -> None:
        match = f"{{cluster: {{name: '{WEB}'}}}}"
        more = f"priority: {priority}"
        value = f"connect_timeout: {seconds}s"
        mesh.apply(envoy_filter("CLUSTER", "MERGE", value, match, name=name, namespace=namespace, more=more))

    def timeout() -> str:
        found: str = proxy.get("clusters", WEB)["connect_timeout"]
        return found

    apply("a", 1)
    apply("b", 2)
    assert timeout() == "2s"
    apply("z", 3, namespace="istio-system")
    assert timeout() == "2s"
    apply("a", 1, priority=5)
    assert timeout() == "1s"
    apply("z", 3, namespace="istio-system", priority=6)
    assert timeout() == "3s"
    apply("other", 9, namespace="elsewhere", priority=9)
    assert timeout() == "3s"


def test_only_workloads_that_are_selected(mesh: Any, proxy: Any) -> None:
    other = mesh.sidecar("other", namespace="shop", ip="10.0.0.8", app="other")
    selector = "workloadSelector: {labels: {app: web}}"
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: 1s", more=selector))
    assert proxy.get("clusters", WEB)["connect_timeout"] == "1s"
    assert other.get("clusters", WEB)["connect_timeout"] == "10s"


def test_proxies_are_told_apart_by_version_and_metadata(mesh: Any) -> None:
    mesh.apply(SERVICES)
    old = mesh.sidecar("old", namespace="shop", ip="10.0.0.7", metadata={"ISTIO_VERSION": "1.20.1"})
    new = mesh.sidecar("new", namespace="shop", ip="10.0.0.8", metadata={"ISTIO_VERSION": "1.24.0", "TIER": "gold"})
    value = "connect_timeout: 1s"
    for match in ("{proxy: {proxyVersion: '^1\\.24.*'}}", "{proxy: {metadata: {TIER: gold}}}"):
        mesh.apply(envoy_filter("CLUSTER", "MERGE", value, match))
        assert new.get("clusters", WEB)["connect_timeout"] == "1s"
        assert old.get("clusters", WEB)["connect_timeout"] == "10s"


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        (r"^1\.24\.\d+\z", True),
        (r"\Q1.24\E", True),
        (r"^[[:digit:]]+\.\pN", True),
        (r"\Q1+24\E", False),
        ("(", False),
        ("1" * 1025, False),
    ],
)
def test_versions_are_matched_in_re2s_syntax(mesh: Any, pattern: str, means: bool) -> None:
    """Also where an API server that checks nothing let something through that is no expression."""
    mesh.apply(SERVICES)
    proxy = mesh.sidecar(namespace="shop", metadata={"ISTIO_VERSION": "1.24.0"})
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: 1s", f"{{proxy: {{proxyVersion: '{pattern}'}}}}"))
    assert proxy.get("clusters", WEB)["connect_timeout"] == ("1s" if means else "10s")


def test_a_cluster_on_demand_is_patched_as_that_of_its_host(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar(namespace="shop", metadata={"DNS_CAPTURE": "true"})
    reached = "outbound|80||10.1.0.1"
    assert WEB not in proxy.names("clusters")
    proxy.config.asked("type.googleapis.com/envoy.config.cluster.v3.Cluster", [reached, LEDGER_AT], [], [])
    match = "{cluster: {service: ledger.shop.svc.cluster.local}}"
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: 1s", match))
    assert {proxy.get("clusters", name)["connect_timeout"] for name in (LEDGER, LEDGER_AT)} == {"1s"}
    assert proxy.get("clusters", reached)["connect_timeout"] == "10s"


def test_a_value_that_cannot_be_read_changes_nothing(mesh: Any, proxy: Any, caplog: Any) -> None:
    before = proxy.get("clusters", WEB)
    mesh.apply(envoy_filter("CLUSTER", "MERGE", "connect_timeout: never", name="wrong"))
    assert proxy.get("clusters", WEB) == before
    assert "EnvoyFilter shop/wrong: a CLUSTER cannot be read" in caplog.text


def test_an_extension_is_configured_by_itself(mesh: Any, proxy: Any) -> None:
    mesh.apply(envoy_filter("EXTENSION_CONFIG", "ADD", LUA))
    url = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    assert set(proxy.config.resources(url)) == {"lua"}


def test_a_gateway_by_the_port_of_its_server(mesh: Any) -> None:
    mesh.apply("""
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: istio-system}
spec: {clusterIP: 10.1.0.9, selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
""")
    proxy = mesh.gateway()
    sidecar = mesh.sidecar(namespace="istio-system")
    before = str(proxy.get("routes", "http.8080"))
    value = "response_headers_to_add: [{header: {key: x-edge, value: 'yes'}}]"

    def patch(port: int) -> None:
        match = f"{{context: GATEWAY, routeConfiguration: {{portNumber: {port}}}}}"
        mesh.apply(envoy_filter("ROUTE_CONFIGURATION", "MERGE", value, match, namespace="istio-system"))

    patch(80)
    assert proxy.get("routes", "http.8080")["response_headers_to_add"][0]["header"]["key"] == "x-edge"
    assert "x-edge" not in str(sidecar.get("listeners", "virtualInbound"))
    patch(8080)
    assert str(proxy.get("routes", "http.8080")) == before
    mesh.apply(envoy_filter("HTTP_FILTER", "INSERT_FIRST", LUA, "{context: GATEWAY}", namespace="istio-system"))
    (chain,) = proxy.get("listeners", "0.0.0.0_8080")["filter_chains"]
    assert manager(chain)["http_filters"][0]["name"] == "lua"
    assert "lua" not in str(sidecar.get("listeners", "virtualInbound"))
