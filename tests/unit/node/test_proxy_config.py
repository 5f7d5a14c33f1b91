"""MeshConfig's defaultConfig on its way: from the injected pod to the bootstrap and command line of its proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Container, Pod
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.mesh.injection import inject
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.values import values_of
from pilotfish.node import bootstrap, environment, proxy
from pilotfish.node.bootstrap import ProxyBootstrap
from pilotfish.node.capture import CaptureSpec
from pilotfish.node.captureannotations import AnnotationError
from pilotfish.node.podsandbox import capture_of

VALUES = values_of({"global": {"hub": "istio", "tag": "1.30.0"}})


@dataclass(frozen=True)
class Started:
    """What a node would start for a pod's proxy."""

    pod: Pod
    container: Container
    env: Mapping[str, str]
    record: ProxyBootstrap

    @property
    def line(self) -> tuple[str, ...]:
        """Envoy's command line."""
        arguments = proxy.parse_arguments(self.container.args)
        return proxy.envoy_arguments(arguments, proxy.proxy_config(self.env), 2)

    def option(self, name: str) -> str | None:
        return self.line[self.line.index(name) + 1] if name in self.line else None

    @property
    def bootstrap(self) -> dict[str, Any]:
        return bootstrap.render(self.record)


def start(default_config: str = "{}", mesh: str = "{}", **metadata: Any) -> Started:
    """A pod of a mesh with this `defaultConfig`, injected and taken up by a node."""
    config = read_mesh_config(yaml.safe_dump({**yaml.safe_load(mesh), "defaultConfig": yaml.safe_load(default_config)}))
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "ns", "labels": {"app": "web"}, **metadata},
        "spec": {"nodeName": "n", "containers": [{"name": "web", "image": "web"}]},
    }
    pod = decode(POD, inject(document, {"istio-injection": "enabled"}, config, VALUES))
    container = proxy.proxy_container(pod)
    assert container is not None
    env = environment.resolve(pod, container, environment.Sources("10.1.0.2", "10.1.0.1", {}, {}))
    arguments = proxy.parse_arguments([environment.expand(text, env) for text in container.args])
    return Started(pod, container, env, proxy.describe(pod, container, env, arguments, "10.1.0.2"))


@pytest.mark.covers("MeshConfig.defaultConfig.serviceCluster", "MeshConfig.defaultConfig.tracingServiceName")
def test_what_the_workload_is_called() -> None:
    labels = {"app": "web", "service.istio.io/canonical-name": "shop"}
    assert start().bootstrap["node"]["cluster"] == "web.ns"
    assert start("{serviceCluster: mine}").bootstrap["node"]["cluster"] == "mine"
    assert start("{tracingServiceName: CANONICAL_NAME_ONLY}", labels=labels).bootstrap["node"]["cluster"] == "shop"
    canonical = start("{tracingServiceName: CANONICAL_NAME_AND_NAMESPACE}", labels=labels)
    assert canonical.bootstrap["node"]["cluster"] == "shop.ns"


@pytest.mark.covers("MeshConfig.defaultConfig.concurrency")
def test_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for config, workers in (("{}", 2), ("{concurrency: 5}", 5), ("{concurrency: 0}", 0)):
        started = start(config)
        assert proxy.concurrency(started.container, started.env) == workers


@pytest.mark.covers("MeshConfig.defaultConfig.holdApplicationUntilProxyStarts")
def test_the_application_waits() -> None:
    assert [c.name for c in start().pod.spec.containers] == ["web", "istio-proxy"]
    held = start("{holdApplicationUntilProxyStarts: true}")
    assert [c.name for c in held.pod.spec.containers] == ["istio-proxy", "web"]
    assert held.container.lifecycle is not None and held.container.lifecycle.post_start is not None


@pytest.mark.covers("MeshConfig.defaultConfig.proxyMetadata")
def test_metadata_is_environment_and_what_the_control_plane_is_told() -> None:
    started = start('{proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true", LEVEL: high}}')
    assert (started.env["ISTIO_META_DNS_CAPTURE"], started.env["LEVEL"]) == ("true", "high")
    assert started.bootstrap["node"]["metadata"]["DNS_CAPTURE"] == "true"


@pytest.mark.covers(
    "MeshConfig.defaultConfig.gatewayTopology.numTrustedProxies",
    "MeshConfig.defaultConfig.gatewayTopology.forwardClientCertDetails",
    "MeshConfig.defaultConfig.gatewayTopology.proxyProtocol",
)
def test_a_gateway_tells_the_control_plane_what_stands_in_front_of_it() -> None:
    """What that does to its listeners: tests/feature/test_gateway_http.py."""
    topology = "{numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD, proxyProtocol: {}}"
    config = start(f"{{gatewayTopology: {topology}}}", annotations={"inject.istio.io/templates": "gateway"})
    told = config.bootstrap["node"]["metadata"]["PROXY_CONFIG"]["gatewayTopology"]
    assert told == yaml.safe_load(topology)


@pytest.mark.covers(
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes",
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionSuffixes",
    "MeshConfig.defaultConfig.proxyStatsMatcher.inclusionRegexps",
)
def test_statistics_that_are_kept() -> None:
    def patterns(started: Started) -> list[Any]:
        found: list[Any] = started.bootstrap["stats_config"]["stats_matcher"]["inclusion_list"]["patterns"]
        return found

    matcher = "{inclusionPrefixes: [cluster.outbound], inclusionSuffixes: [rq_total], inclusionRegexps: [a.b]}"
    usual = patterns(start())
    more = [each for each in patterns(start(f"{{proxyStatsMatcher: {matcher}}}")) if each not in usual]
    assert more == [{"prefix": "cluster.outbound"}, {"suffix": "rq_total"}, {"safe_regex": {"regex": "a.b"}}]


@pytest.mark.covers("MeshConfig.defaultConfig.image.imageType")
def test_the_kind_of_image() -> None:
    assert start("{image: {imageType: distroless}}").container.image == "istio/proxyv2:1.30.0-distroless"


@pytest.mark.covers(
    "MeshConfig.defaultConfig.drainDuration",
    "MeshConfig.defaultConfig.fileFlushInterval",
    "MeshConfig.defaultConfig.fileFlushMinSizeKb",
    "MeshConfig.defaultConfig.binaryPath",
    "MeshConfig.defaultConfig.customConfigFile",
)
def test_the_command_line() -> None:
    usual = start()
    assert (usual.option("--drain-time-s"), usual.option("--file-flush-interval-msec")) == ("45", "100")
    assert usual.option("--file-flush-min-size-kb") is None
    assert (usual.line[0], usual.option("-c")) == (proxy.ENVOY, "/run/pilotfish/proxy/envoy.json")
    own = start("""
        drainDuration: 1m
        fileFlushInterval: 2.5s
        fileFlushMinSizeKb: 16
        binaryPath: /opt/envoy
        customConfigFile: /etc/envoy.yaml
    """)
    assert (own.option("--drain-time-s"), own.option("--file-flush-interval-msec")) == ("60", "2500")
    assert own.option("--file-flush-min-size-kb") == "16"
    assert (own.line[0], own.option("-c")) == ("/opt/envoy", "/etc/envoy.yaml")


def test_a_config_that_cannot_be_read_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    for text in ("{", "[]"):
        assert proxy.proxy_config({"PROXY_CONFIG": text}) == ProxyConfig()
    assert proxy.proxy_config({"PROXY_CONFIG": '{"drainDuration": 5}'}) == ProxyConfig()
    assert "PROXY_CONFIG is passed over" in caplog.text


@pytest.mark.covers("MeshConfig.defaultConfig.proxyAdminPort", "MeshConfig.defaultConfig.statusPort")
def test_ports() -> None:
    rendered = start("{proxyAdminPort: 16000, statusPort: 16020}").bootstrap
    assert rendered["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 16000}
    listeners = [each["address"]["socket_address"]["port_value"] for each in rendered["static_resources"]["listeners"]]
    assert listeners == [16020, 15021, 15090]
    (agent,) = (each for each in rendered["static_resources"]["clusters"] if each["name"] == "agent")
    (endpoint,) = agent["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["port_value"] == 16000


@pytest.mark.covers("MeshConfig.defaultConfig.extraStatTags")
def test_labels_in_names_of_statistics() -> None:
    annotations = {"sidecar.istio.io/extraStatTags": "zone,team"}
    tags = start("{extraStatTags: [team]}", annotations=annotations).bootstrap["stats_config"]["stats_tags"]
    assert [tag for tag in tags if tag["tag_name"] in ("team", "zone")] == [
        {"tag_name": "team", "regex": r"(team=\.=(.*?);\.;)"},
        {"tag_name": "zone", "regex": r"(zone=\.=(.*?);\.;)"},
    ]


@pytest.mark.covers("MeshConfig.defaultConfig.runtimeValues")
def test_runtime_values() -> None:
    assert start().bootstrap["layered_runtime"] == {"layers": [{"name": "admin", "admin_layer": {}}]}
    layers = start('{runtimeValues: {a: "true", b: "false", c: "5", d: ""}}').bootstrap["layered_runtime"]["layers"]
    assert layers[0] == {"name": "global config", "static_layer": {"a": True, "b": False, "c": "5"}}
    assert layers[1]["name"] == "admin"


@pytest.mark.covers("MeshConfig.defaultConfig.connectionSettings.globalDownstreamConnectionLimit")
def test_connections_in_all() -> None:
    def limit(config: str) -> int:
        (monitor,) = start(config).bootstrap["overload_manager"]["resource_monitors"]
        found: int = monitor["typed_config"]["max_active_downstream_connections"]
        return found

    runtime = 'runtimeValues: {overload.global_downstream_max_connections: "7"}'
    metadata = 'proxyMetadata: {ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS: "8"}'
    assert limit("{}") == 2**31 - 1
    assert limit(f"{{{runtime}}}") == 7
    assert limit(f"{{{runtime}, {metadata}}}") == 8
    assert limit(f"{{{runtime}, {metadata}, connectionSettings: {{globalDownstreamConnectionLimit: 9}}}}") == 9


@pytest.mark.covers("MeshConfig.defaultConfig.statsCompression")
def test_metrics_are_compressed() -> None:
    def filters(config: str, port: int) -> list[str]:
        listeners = start(config).bootstrap["static_resources"]["listeners"]
        (found,) = (each for each in listeners if each["address"]["socket_address"]["port_value"] == port)
        chain = found["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        return [each["name"].removeprefix("envoy.filters.http.") for each in chain]

    assert filters("{}", 15090) == ["compressor.brotli", "compressor.zstd", "compressor.gzip", "lua", "router"]
    assert filters("{statsCompression: false}", 15090) == ["lua", "router"]
    assert filters("{}", 15020) == ["lua", "router"]


@pytest.mark.covers("MeshConfig.defaultConfig.statsdUdpAddress")
def test_statistics_for_statsd() -> None:
    assert start().bootstrap["stats_sinks"] == []
    for given, address in (("127.0.0.7:8125", "127.0.0.7"), ("localhost:8125", "127.0.0.1"), ('"[::7]:8125"', "::7")):
        record = proxy.with_statsd(start(f"{{statsdUdpAddress: {given}}}").record)
        (sink,) = bootstrap.render(record)["stats_sinks"]
        assert sink["name"] == "envoy.stat_sinks.statsd"
        found = sink["typed_config"]["address"]["socket_address"]
        assert found["port_value"] == 8125
        assert found["address"] == address or found["address"] == "::1"
    unknown = start("{statsdUdpAddress: 'no-such-host.invalid:8125'}").record
    assert bootstrap.render(proxy.with_statsd(unknown))["stats_sinks"] == []


@pytest.mark.covers(
    "MeshConfig.defaultConfig.envoyMetricsService",
    *(
        f"MeshConfig.defaultConfig.envoyAccessLogService.{name}"
        for name in (
            "address",
            "tlsSettings",
            *(f"tcpKeepalive.{name}" for name in ("probes", "time", "interval")),
        )
    ),
)
@pytest.mark.parametrize(
    ("field", "name"),
    [("envoyMetricsService", "envoy_metrics_service"), ("envoyAccessLogService", "envoy_accesslog_service")],
)
def test_servers_of_ones_own(field: str, name: str) -> None:
    def cluster(more: str = "") -> dict[str, Any]:
        service = f"address: 'reports.test:50000', tcpKeepalive: {{probes: 3, time: 10s, interval: 5s}}{more}"
        found = start(f"{{{field}: {{{service}}}}}").bootstrap
        sinks = [sink["typed_config"]["grpc_service"] for sink in found["stats_sinks"]]
        assert sinks == ([{"envoy_grpc": {"cluster_name": name}}] if field == "envoyMetricsService" else [])
        (only,) = (each for each in found["static_resources"]["clusters"] if each["name"] == name)
        return dict(only)

    assert {each["name"] for each in start().bootstrap["static_resources"]["clusters"]} == {"agent", "xds-grpc"}
    plain = cluster()
    (endpoint,) = plain["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "reports.test", "port_value": 50000}
    assert plain["cluster_type"]["name"] == "envoy.clusters.dns" and "transport_socket" not in plain
    assert plain["upstream_connection_options"] == {
        "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}
    }

    def tls(settings: str) -> dict[str, Any]:
        found: dict[str, Any] = cluster(f", tlsSettings: {settings}")["transport_socket"]["typed_config"]
        return found

    files = "clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, subjectAltNames: [m], sni: s"
    mutual = tls(f"{{mode: MUTUAL, {files}}}")
    common = mutual["common_tls_context"]
    assert mutual["sni"] == "s"
    assert common["tls_certificates"] == [
        {"certificate_chain": {"filename": "/c.pem"}, "private_key": {"filename": "/k.pem"}}
    ]
    assert common["validation_context"]["trusted_ca"] == {"filename": "/ca.pem"}
    assert common["validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "m"}},
        {"san_type": "URI", "matcher": {"exact": "m"}},
    ]
    simple = tls("{mode: SIMPLE}")["common_tls_context"]
    assert simple == {"alpn_protocols": ["h2"], "validation_context": {"system_root_certs": {}}}
    own = tls("{mode: ISTIO_MUTUAL}")
    assert own["sni"] == name
    assert [each["name"] for each in own["common_tls_context"]["tls_certificate_sds_secret_configs"]] == ["default"]


@pytest.mark.covers("MeshConfig.proxyListenPort", "MeshConfig.proxyInboundListenPort")
@pytest.mark.covers("MeshConfig.defaultConfig.interceptionMode")
def test_what_is_captured() -> None:
    def captured(started: Started) -> CaptureSpec | None:
        return capture_of(started.pod)

    usual = captured(start())
    assert usual is not None and (usual.outbound_port, usual.inbound_port) == (15001, 15006)
    chosen = start("{statusPort: 16020}", mesh="{proxyListenPort: 16001, proxyInboundListenPort: 16006}")
    spec = captured(chosen)
    assert spec is not None and (spec.outbound_port, spec.inbound_port) == (16001, 16006)
    assert spec.exclude_inbound_ports == (15090, 15021, 16020)
    told = chosen.bootstrap["node"]["metadata"]
    assert (told["ENVOY_PORT"], told["INBOUND_CAPTURE_PORT"]) == ("16001", "16006")
    assert captured(start("{interceptionMode: NONE}")) is None
    with pytest.raises(AnnotationError, match="does not offer TPROXY"):
        captured(start("{interceptionMode: TPROXY}"))
    own = start("{interceptionMode: NONE}", annotations={"sidecar.istio.io/interceptionMode": "REDIRECT"})
    assert captured(own) is not None


@pytest.mark.covers("MeshConfig.defaultConfig.tracing.tlsSettings")
def test_agents_of_traces() -> None:
    def clusters(config: str) -> dict[str, Any]:
        found = start(config).bootstrap["static_resources"]["clusters"]
        return {each["name"]: each for each in found if each["name"] not in ("agent", "xds-grpc")}

    ((name, zipkin),) = clusters("{tracing: {zipkin: {address: 'out.test:9411'}}}").items()
    assert name == "zipkin" and "transport_socket" not in zipkin
    assert "typed_extension_protocol_options" not in zipkin, "HTTP/1.1"
    secured = clusters("{tracing: {zipkin: {address: 'out.test:9411'}, tlsSettings: {mode: SIMPLE, sni: out.test}}}")
    tls = secured["zipkin"]["transport_socket"]["typed_config"]
    assert tls["sni"] == "out.test" and tls["common_tls_context"]["alpn_protocols"] == []
    datadog = clusters("{tracing: {datadog: {address: '$(HOST_IP):8126'}}}")["datadog_agent"]
    (endpoint,) = datadog["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "10.1.0.1", "port_value": 8126}
    assert clusters("{tracing: {zipkin: {address: 'no-port'}}}") == {}
