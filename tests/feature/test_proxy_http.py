"""How proxies take requests: MeshConfig's pathNormalization, ProxyConfig's proxyHeaders and connectionSettings."""

from __future__ import annotations

from typing import Any

import pytest

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web.test], gateways: [istio-system/edge], http: [{route: [{destination: {host: web}}]}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: web}]}
status: {podIP: 10.0.0.8}
"""
WEB = "outbound|80||web.default.svc.cluster.local"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class Proxies:
    """A client, a server and a gateway."""

    def __init__(self, mesh: Any) -> None:
        mesh.apply(SERVICES + "---" + POD)
        self.client, self.gateway = mesh.sidecar(), mesh.gateway()
        self.server = mesh.sidecar("web", ip="10.0.0.8", app="web")

    @property
    def outbound(self) -> dict[str, Any]:
        return manager(self.client, "0.0.0.0_80")

    @property
    def inbound(self) -> dict[str, Any]:
        return manager(self.server, "virtualInbound")

    @property
    def edge(self) -> dict[str, Any]:
        return manager(self.gateway, "0.0.0.0_80")

    @property
    def managers(self) -> tuple[dict[str, Any], ...]:
        return self.outbound, self.inbound, self.edge


def manager(proxy: Any, listener: str) -> dict[str, Any]:
    for chain in proxy.get("listeners", listener)["filter_chains"]:
        if chain["filters"][-1]["name"].endswith("http_connection_manager"):
            found: dict[str, Any] = chain["filters"][-1]["typed_config"]
            return found
    raise AssertionError(f"{listener} speaks no HTTP")


def router(of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = of["http_filters"][-1]["typed_config"]
    return {name: value for name, value in found.items() if name != "@type"}


@pytest.fixture
def proxies(mesh: Any) -> Proxies:
    return Proxies(mesh)


@pytest.mark.parametrize(
    ("word", "normalized", "merged", "escaped"),
    [
        ("DEFAULT", True, False, "KEEP_UNCHANGED"),
        ("NONE", False, False, "KEEP_UNCHANGED"),
        ("BASE", True, False, "KEEP_UNCHANGED"),
        ("MERGE_SLASHES", True, True, "KEEP_UNCHANGED"),
        ("DECODE_AND_MERGE_SLASHES", True, True, "UNESCAPE_AND_FORWARD"),
    ],
)
def test_what_becomes_of_paths(
    mesh: Any, proxies: Proxies, word: str, normalized: bool, merged: bool, escaped: str
) -> None:
    mesh.configure(f"pathNormalization: {{normalization: {word}}}")
    for each in proxies.managers:
        assert each["normalize_path"] is normalized
        assert each.get("merge_slashes", False) is merged
        assert each["path_with_escaped_slashes_action"] == escaped


def test_headers_that_are_left_out(mesh: Any, proxies: Proxies) -> None:
    assert [each.get("server_name") for each in proxies.managers] == [None, "istio-envoy", "istio-envoy"]
    mesh.configure("""
defaultConfig:
  proxyHeaders:
    requestId: {disabled: true}
    server: {disabled: true}
    attemptCount: {disabled: true}
    envoyDebugHeaders: {disabled: true}
""")
    for each in proxies.managers:
        assert each["generate_request_id"] is False
        assert each["server_header_transformation"] == "PASS_THROUGH"
        assert "server_name" not in each
        assert router(each) == {"suppress_envoy_headers": True}
    for routes in (proxies.client.get("routes", "80"), proxies.gateway.get("routes", "http.80")):
        assert all("include_request_attempt_count" not in host for host in routes["virtual_hosts"])
    mesh.configure("")
    for routes in (proxies.client.get("routes", "80"), proxies.gateway.get("routes", "http.80")):
        assert all(host["include_request_attempt_count"] for host in routes["virtual_hosts"])
    assert router(proxies.outbound) == {}


def test_headers_that_are_added(mesh: Any, proxies: Proxies) -> None:
    mesh.configure("""
defaultConfig:
  proxyHeaders:
    server: {value: shop}
    xForwardedHost: {enabled: true}
    xForwardedPort: {enabled: true}
    forwardedClientCert: SANITIZE_SET
    setCurrentClientCertDetails: {subject: false, cert: true, chain: true, dns: false, uri: false}
""")
    for each in proxies.managers:
        assert each["server_name"] == "shop"
        assert each["append_x_forwarded_port"] is True
    for routes in (proxies.client.get("routes", "80"), proxies.gateway.get("routes", "http.80")):
        for host in routes["virtual_hosts"]:
            assert all(route["route"]["append_x_forwarded_host"] is True for route in host["routes"])
    assert proxies.inbound["forward_client_cert_details"] == "SANITIZE_SET"
    assert proxies.inbound["set_current_client_cert_details"] == {"subject": False, "cert": True, "chain": True}
    # A gateway has its own word for it: gatewayTopology.
    assert proxies.edge["set_current_client_cert_details"] == {"subject": True, "cert": True, "dns": True, "uri": True}


def test_who_the_workload_is_strangers_are_not_told(mesh: Any, proxies: Proxies) -> None:
    """The header goes to whoever is called; on the way out of the mesh a cluster takes it off."""
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec:
  hosts: [out.test]
  resolution: NONE
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 99, name: tcp, protocol: TCP}]
""")

    def filters(cluster: str) -> list[str]:
        options = proxies.client.get("clusters", cluster).get("typed_extension_protocol_options", {}).get(OPTIONS, {})
        return [each["name"].removeprefix("envoy.filters.http.") for each in options.get("http_filters", [])]

    clusters = (
        "outbound|80||out.test",
        "PassthroughCluster",
        "outbound|99||out.test",
        "InboundPassthroughCluster",
        WEB,
    )
    assert [filters(cluster) for cluster in clusters] == [[], [], [], [], []]
    mesh.configure("defaultConfig: {proxyHeaders: {metadataExchangeHeaders: {mode: IN_MESH}}}")
    hiding = ["header_mutation", "upstream_codec"]
    assert [filters(cluster) for cluster in clusters] == [hiding, hiding, [], [], []]
    options = proxies.client.get("clusters", "outbound|80||out.test")["typed_extension_protocol_options"][OPTIONS]
    assert options["http_filters"][0]["typed_config"]["mutations"] == {
        "request_mutations": [{"remove": "x-pilotfish-peer"}]
    }


def test_the_letters_of_headers_stay(mesh: Any, proxies: Proxies) -> None:
    database = WEB.replace("|80|", "|5432|")
    before = proxies.client.get("clusters", database)
    mesh.configure("defaultConfig: {proxyHeaders: {preserveHttp1HeaderCase: true}}")
    formatter = {
        "name": "preserve_case",
        "typed_config": {
            "@type": "type.googleapis.com/"
            "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
        },
    }
    kept = {"header_key_format": {"stateful_formatter": formatter}}
    for each in proxies.managers:
        assert each["http_protocol_options"] == kept
    web = proxies.client.get("clusters", WEB)["typed_extension_protocol_options"][OPTIONS]
    assert web["explicit_http_config"] == {"http_protocol_options": kept}
    assert proxies.client.get("clusters", database) == before
    passing = proxies.client.get("clusters", "PassthroughCluster")["typed_extension_protocol_options"][OPTIONS]
    assert passing["use_downstream_protocol_config"] == {"http_protocol_options": kept, "http2_protocol_options": {}}
    own = proxies.server.get("clusters", "inbound|80||")["typed_extension_protocol_options"][OPTIONS]
    assert own["explicit_http_config"] == {"http_protocol_options": kept}


def test_limits(mesh: Any, proxies: Proxies) -> None:
    mesh.configure("""
pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}
defaultConfig:
  connectionSettings:
    listenerPerConnectionBufferLimitBytes: 1000
    clusterPerConnectionBufferLimitBytes: 2000
    httpIdleTimeout: 1s
    httpMaxConnectionDuration: 2s
    httpDrainTimeout: 3s
    httpRequestTimeout: 4s
    httpRequestHeadersTimeout: 5s
    httpStreamIdleTimeout: 6s
    httpMaxStreamDuration: 7s
    httpMaxConcurrentStreams: 8
    http2InitialStreamWindowSize: 70000
    http2InitialConnectionWindowSize: 80000
    httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_DROP_HEADER
    httpMergeSlashes: false
    httpPathWithEscapedSlashesAction: REJECT_REQUEST
""")
    for each in proxies.managers:
        assert each["common_http_protocol_options"] == {
            "idle_timeout": "1s",
            "max_connection_duration": "2s",
            "max_stream_duration": "7s",
            "headers_with_underscores_action": "DROP_HEADER",
        }
        assert (each["drain_timeout"], each["request_timeout"]) == ("3s", "4s")
        assert (each["request_headers_timeout"], each["stream_idle_timeout"]) == ("5s", "6s")
        assert each["http2_protocol_options"] == {
            "max_concurrent_streams": 8,
            "initial_stream_window_size": 70000,
            "initial_connection_window_size": 80000,
        }
        assert "merge_slashes" not in each
        assert each["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert proxies.gateway.get("listeners", "0.0.0.0_80")["per_connection_buffer_limit_bytes"] == 1000
    assert "per_connection_buffer_limit_bytes" not in proxies.client.get("listeners", "0.0.0.0_80")
    for proxy in (proxies.client, proxies.gateway):
        assert proxy.get("clusters", WEB)["per_connection_buffer_limit_bytes"] == 2000


def test_gateways_at_the_edge(mesh: Any, proxies: Proxies) -> None:
    sidecar = proxies.outbound
    mesh.configure("defaultConfig: {connectionSettings: {profile: EDGE, httpMaxConcurrentStreams: 7}}")
    assert proxies.outbound == {**sidecar, "http2_protocol_options": {"max_concurrent_streams": 7}}
    edge = proxies.edge
    assert edge["common_http_protocol_options"] == {
        "idle_timeout": "3600s",
        "headers_with_underscores_action": "REJECT_REQUEST",
    }
    assert edge["http2_protocol_options"] == {
        "max_concurrent_streams": 7,
        "initial_stream_window_size": 65536,
        "initial_connection_window_size": 1048576,
    }
    assert (edge["stream_idle_timeout"], edge["request_timeout"]) == ("300s", "300s")
    assert (edge["request_headers_timeout"], edge["merge_slashes"]) == ("60s", True)
    assert edge["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"
    assert proxies.gateway.get("listeners", "0.0.0.0_80")["per_connection_buffer_limit_bytes"] == 32768
    assert proxies.gateway.get("clusters", WEB)["per_connection_buffer_limit_bytes"] == 32768


def test_a_proxy_has_its_own_word(mesh: Any) -> None:
    """Numbers are decimal fractions in what a proxy tells of itself."""
    mesh.apply(SERVICES)
    own = {
        "proxyHeaders": {"server": {"value": "mine"}},
        "connectionSettings": {"httpMaxConcurrentStreams": 9.0, "httpIdleTimeout": "1.5s"},
    }
    mesh.configure("defaultConfig: {proxyHeaders: {requestId: {disabled: true}}}")
    said = manager(mesh.sidecar(metadata={"PROXY_CONFIG": own}), "0.0.0.0_80")
    assert said["server_name"] == "mine" and "generate_request_id" not in said
    assert said["common_http_protocol_options"]["idle_timeout"] == "1.500s"
    assert said["http2_protocol_options"] == {"max_concurrent_streams": 9}
    silent = mesh.sidecar("silent", ip="10.0.0.10", metadata={"PROXY_CONFIG": {}})
    assert "generate_request_id" not in manager(silent, "0.0.0.0_80")
    odd = mesh.sidecar("odd", ip="10.0.0.11", metadata={"PROXY_CONFIG": {"proxyHeaders": {"server": 5.0}}})
    assert "server_name" not in manager(odd, "0.0.0.0_80")
