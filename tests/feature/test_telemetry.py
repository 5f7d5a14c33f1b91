"""Telemetry: which workloads log, count and trace what, and where it goes."""

from __future__ import annotations

from typing import Any

import pytest

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
"""
COLLECTOR = """
---
apiVersion: v1
kind: Service
metadata: {name: otel, namespace: observability}
spec:
  clusterIP: 10.1.0.9
  ports: [{name: grpc, port: 4317}, {name: http, port: 4318}, {name: http-zipkin, port: 9411}]
"""
HOST = "otel.observability.svc.cluster.local"
PROVIDERS = f"""
extensionProviders:
- {{name: otel, opentelemetry: {{service: {HOST}, port: 4317}}}}
- name: otel-http
  opentelemetry:
    service: otel.observability
    port: 4318
    maxTagLength: 99
    http: {{path: /v1/traces, timeout: 2s, headers: [{{name: x-key, envName: TOKEN}}, {{name: x-team, value: a}}]}}
- name: otel-grpc
  opentelemetry:
    service: observability/{HOST}
    port: 4317
    grpc: {{timeout: 3s, initialMetadata: [{{name: x-key, value: secret}}]}}
    resourceDetectors: {{environment: {{}}}}
- name: zipkin
  zipkin:
    service: {HOST}
    port: 9411
    maxTagLength: 64
    enable64bitTraceId: true
    path: /spans
    traceContextOption: USE_B3_WITH_W3C_PROPAGATION
    timeout: 7s
    headers: [{{name: x-key, value: secret}}]
- {{name: datadog, datadog: {{service: {HOST}, port: 4318}}}}
- {{name: skywalking, skywalking: {{service: {HOST}, port: 4317, accessToken: token}}}}
- name: json
  envoyFileAccessLog:
    path: /dev/stderr
    omitEmptyValues: true
    logFormat: {{labels: {{status: "%RESPONSE_CODE%", query: "%REQ_WITHOUT_QUERY(:PATH)%"}}}}
- {{name: text, envoyFileAccessLog: {{logFormat: {{text: "%PROTOCOL%"}}}}}}
- name: als
  envoyHttpAls:
    service: {HOST}
    port: 4317
    logName: mine
    filterStateObjectsToLog: [a]
    additionalRequestHeadersToLog: [b]
    additionalResponseHeadersToLog: [c]
    additionalResponseTrailersToLog: [d]
- {{name: tcp-als, envoyTcpAls: {{service: {HOST}, port: 4317, logName: mine, filterStateObjectsToLog: [a]}}}}
- name: otel-log
  envoyOtelAls:
    service: {HOST}
    port: 4317
    logName: mine
    logFormat: {{text: "%PROTOCOL%", labels: {{a: "%DURATION%"}}}}
"""


def telemetry(spec: str, name: str = "t", namespace: str = "default") -> str:
    return f"""
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {spec}
"""


def manager(proxy: Any, listener: str = "0.0.0.0_80") -> dict[str, Any]:
    """The connection manager of a listener's first HTTP chain."""
    for chain in proxy.get("listeners", listener)["filter_chains"]:
        last = chain["filters"][-1]
        if last["name"].endswith("http_connection_manager"):
            found: dict[str, Any] = last["typed_config"]
            return found
    raise AssertionError(f"{listener} speaks no HTTP")


def logs(proxy: Any, listener: str = "0.0.0.0_80") -> list[tuple[str, dict[str, Any]]]:
    """The access logs of a connection manager, by kind, without those that count."""
    found = [log for log in manager(proxy, listener).get("access_log", []) if not log["name"].endswith("stats")]
    return [(log["name"].rpartition(".")[2], log["typed_config"]) for log in found]


def started(mesh: Any, spec: str = "") -> Any:
    """A sidecar of the mesh with every provider."""
    mesh.configure(PROVIDERS)
    mesh.apply(WEB + COLLECTOR + (telemetry(spec) if spec else ""))
    return mesh.sidecar(app="client")


# Who


def test_a_telemetry_is_for_those_whom_it_selects(mesh: Any) -> None:
    client = started(mesh)
    other = mesh.sidecar(name="other", ip="10.0.0.10", app="other")
    elsewhere = mesh.sidecar(name="else", namespace="elsewhere", ip="10.0.0.11")
    other.told(), elsewhere.told()
    mesh.apply(telemetry("{selector: {matchLabels: {app: client}}, accessLogging: [{providers: [{name: envoy}]}]}"))
    assert [kind for kind, _ in logs(client)] == ["file"]
    assert {"0.0.0.0_80", "10.1.0.5_5432", "virtualInbound", "virtualOutbound"} <= client.told()["listeners"]
    assert logs(other) == logs(elsewhere) == []
    assert other.told() == elsewhere.told() == {}, "nothing of theirs was made anew"

    mesh.apply(telemetry("{accessLogging: [{providers: [{name: text}]}]}", "all", "istio-system"))
    assert logs(other)[0][1]["log_format"] == {"text_format_source": {"inline_string": "%PROTOCOL%\n"}}
    assert logs(client)[0][1]["log_format"] != logs(other)[0][1]["log_format"]
    assert len(logs(elsewhere)) == 1

    mesh.delete("Telemetry", "t")
    assert logs(client) == logs(other)
    mesh.delete("Telemetry", "all", "istio-system")
    assert logs(client) == []


@pytest.mark.parametrize("target", ["targetRef: {TARGET}", "targetRefs: [{TARGET}]"])
def test_a_telemetry_for_the_pods_of_a_kubernetes_gateway(mesh: Any, target: str) -> None:
    """They are known by their label; everything else in the namespace is left alone."""
    labels = "istio: ingressgateway, gateway.networking.k8s.io/gateway-name: edge"
    gateway = mesh.gateway(namespace="default", labels=labels)
    client = started(mesh)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
""")
    meant = target.replace("TARGET", "group: gateway.networking.k8s.io, kind: Gateway, name: edge")
    mesh.apply(telemetry(f"{{{meant}, accessLogging: [{{providers: [{{name: envoy}}]}}]}}"))
    assert [kind for kind, _ in logs(gateway)] == ["file"]
    assert logs(client) == []
    mesh.apply(telemetry(f"{{{meant.replace('edge', 'other')}, accessLogging: [{{providers: [{{name: envoy}}]}}]}}"))
    assert logs(gateway) == []


def test_a_workload_whose_labels_change_is_looked_at_again(mesh: Any) -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: APP}}
spec: {containers: [{name: a}]}
status: {podIP: 10.0.0.9}
"""
    proxy = started(mesh, "{selector: {matchLabels: {app: a}}, accessLogging: [{providers: [{name: envoy}]}]}")
    mesh.apply(pod.replace("APP", "a"))
    assert len(logs(proxy)) == 1
    mesh.apply(pod.replace("APP", "b"))
    assert logs(proxy) == []


# Access logs


def test_directions_and_filters(mesh: Any) -> None:
    spec = """
  accessLogging:
  - providers: [{name: envoy}]
    match: {mode: SERVER}
    filter: {expression: response.code >= 400}
"""
    proxy = started(mesh, spec)
    assert logs(proxy) == []
    [log] = manager(proxy, "virtualInbound")["access_log"]
    assert log["filter"]["extension_filter"]["typed_config"]["expression"] == "response.code >= 400"
    [unrouted] = proxy.get("listeners", "virtualInbound")["access_log"]
    assert [next(iter(each)) for each in unrouted["filter"]["and_filter"]["filters"]] == [
        "response_flag_filter",
        "extension_filter",
    ]


def test_logs_of_every_kind(mesh: Any) -> None:
    proxy = started(
        mesh, "accessLogging: [{providers: [{name: json}, {name: als}, {name: tcp-als}, {name: otel-log}]}]"
    )
    (_, als), (_, json), (_, otel), (_, tcp) = found = logs(proxy)
    assert [kind for kind, _ in found] == ["http_grpc", "file", "open_telemetry", "tcp_grpc"]
    common = {
        "log_name": "mine",
        "grpc_service": {"envoy_grpc": {"cluster_name": f"outbound|4317||{HOST}", "authority": HOST}},
        "transport_api_version": "V3",
        "filter_state_objects_to_log": ["a"],
    }
    assert als["common_config"] == tcp["common_config"] == common
    assert als["additional_request_headers_to_log"] == ["b"]
    assert als["additional_response_headers_to_log"] == ["c"]
    assert als["additional_response_trailers_to_log"] == ["d"]
    assert json["path"] == "/dev/stderr"
    assert json["log_format"]["json_format"] == {"status": "%RESPONSE_CODE%", "query": "%REQ_WITHOUT_QUERY(:PATH)%"}
    assert json["log_format"]["omit_empty_values"] is True
    assert [each["name"] for each in json["log_format"]["formatters"]] == ["envoy.formatter.req_without_query"]
    assert otel["body"] == {"string_value": "%PROTOCOL%"}
    assert otel["attributes"]["values"] == [{"key": "a", "value": {"string_value": "%DURATION%"}}]


def test_a_mesh_wide_log_is_switched_off(mesh: Any) -> None:
    proxy = started(mesh)
    mesh.configure(PROVIDERS + "accessLogFile: /dev/stdout")
    assert len(logs(proxy)) == 1
    mesh.apply(telemetry("accessLogging: [{disabled: true}]"))
    assert logs(proxy) == []
    mesh.delete("Telemetry", "t")
    mesh.configure(PROVIDERS + "accessLogFile: /dev/stdout\ndisableEnvoyListenerLog: true")
    assert "access_log" not in proxy.get("listeners", "virtualOutbound")
    mesh.configure(PROVIDERS + "defaultProviders: {accessLogging: [als]}")
    assert [kind for kind, _ in logs(proxy)] == ["http_grpc"]


# Metrics


def counted(proxy: Any, listener: str = "0.0.0.0_80") -> dict[str, dict[str, str]]:
    """The labels of each metric that a connection manager counts for HTTP."""
    log = next((log for log in manager(proxy, listener).get("access_log", []) if log["name"].endswith("stats")), None)
    config = log["typed_config"] if log else {}
    return {
        each["stat"]["name"]: {tag["name"]: tag["value_format"] for tag in each["stat"]["tags"]}
        for each in (*config.get("counters", ()), *config.get("histograms", ()))
    }


def test_metrics_are_dropped_and_relabelled(mesh: Any) -> None:
    spec = """
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - {match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true}
    - match: {metric: REQUEST_COUNT}
      tagOverrides:
        response_flags: {operation: REMOVE}
        team: {operation: UPSERT, value: "'checkout'"}
        path: {value: "size(request.url_path) > 100 ? 'long' : request.url_path"}
"""
    proxy = started(mesh, spec)
    found = counted(proxy)
    assert "istio_request_bytes" not in found and "istio_response_bytes" in found
    assert "istio_request_bytes" in counted(proxy, "virtualInbound")
    labels = found["istio_requests_total"]
    assert "response_flags" not in labels and "response_flags" in found["istio_response_bytes"]
    assert labels["team"] == "checkout"
    assert labels["path"].startswith("%COALESCE(") and "size(request.url_path\\u0029" in labels["path"]
    mesh.apply(telemetry("metrics: [{providers: [{name: prometheus}], overrides: [{disabled: true}]}]"))
    assert counted(proxy) == {}


def test_a_metric_by_the_name_that_it_is_counted_under(mesh: Any) -> None:
    spec = """
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - {match: {customMetric: request_bytes}, disabled: true}
    - {match: {customMetric: istio_requests_total}, tagOverrides: {team: {value: "'checkout'"}}}
    - {match: {customMetric: of_somebody_else}, disabled: true}
"""
    found = counted(started(mesh, spec))
    assert "istio_request_bytes" not in found and "istio_response_bytes" in found
    assert found["istio_requests_total"]["team"] == "checkout"
    assert "team" not in found["istio_response_bytes"]


# Tracing


def test_spans_over_grpc(mesh: Any) -> None:
    spec = """
  tracing:
  - providers: [{name: otel-grpc}]
    randomSamplingPercentage: 12.5
    useRequestIdForTraceSampling: false
    customTags:
      fixed: {literal: {value: a}}
      host: {environment: {name: HOSTNAME, defaultValue: none}}
      tenant: {header: {name: x-tenant, defaultValue: nobody}}
      method: {formatter: {value: "%REQ(:METHOD)%"}}
"""
    proxy = started(mesh, spec)
    tracing = manager(proxy)["tracing"]
    assert (tracing["random_sampling"], tracing["client_sampling"]) == ({"value": 12.5}, {"value": 100.0})
    provider = tracing["provider"]["typed_config"]
    assert tracing["provider"]["name"] == "envoy.tracers.opentelemetry"
    assert provider["grpc_service"] == {
        "envoy_grpc": {"cluster_name": f"outbound|4317||{HOST}", "authority": HOST},
        "timeout": "3s",
        "initial_metadata": [{"key": "x-key", "value": "secret"}],
    }
    assert len(provider["resource_detectors"]) == 1
    tags = {tag.pop("tag"): tag for tag in tracing["custom_tags"]}
    assert tags["fixed"] == {"literal": {"value": "a"}}
    assert tags["host"] == {"environment": {"name": "HOSTNAME", "default_value": "none"}}
    assert tags["tenant"] == {"request_header": {"name": "x-tenant", "default_value": "nobody"}}
    assert tags["method"] == {"value": "%REQ(:METHOD)%"}
    istio = {"name": "PILOTFISH_CANONICAL_SERVICE", "default_value": "unknown"}
    assert tags["istio.canonical_service"] == {"environment": istio}
    assert manager(proxy)["request_id_extension"]["typed_config"]["use_request_id_for_trace_sampling"] is False
    assert (
        manager(proxy, "virtualInbound")["tracing"]["provider"] == tracing["provider"]
        if "provider" in tracing
        else True
    )


def test_spans_over_http(mesh: Any) -> None:
    proxy = started(mesh, "tracing: [{providers: [{name: otel-http}], enableIstioTags: false}]")
    tracing = manager(proxy)["tracing"]
    assert "custom_tags" not in tracing
    assert tracing["max_path_tag_length"] == 99
    service = tracing["provider"]["typed_config"]["http_service"]
    assert service["http_uri"] == {
        "uri": f"http://{HOST}/v1/traces",
        "cluster": f"outbound|4318||{HOST}",
        "timeout": "2s",
    }
    headers = [each["header"] for each in service["request_headers_to_add"]]
    assert headers == [{"key": "x-key", "value": "secret"}, {"key": "x-team", "value": "a"}]


def test_spans_for_zipkin(mesh: Any) -> None:
    proxy = started(mesh, "tracing: [{providers: [{name: zipkin}], disableContextPropagation: true}]")
    provider = manager(proxy)["tracing"]["provider"]
    assert provider["name"] == "envoy.tracers.zipkin"
    config = provider["typed_config"]
    assert config["collector_service"]["http_uri"]["uri"] == f"http://{HOST}/spans"
    assert config["collector_service"]["http_uri"]["timeout"] == "7s"
    assert config["trace_context_option"] == "USE_B3_WITH_W3C_PROPAGATION"
    assert (config["shared_span_context"], config["collector_endpoint_version"]) == (False, "HTTP_JSON")
    assert "trace_id_128bit" not in config


@pytest.mark.parametrize("provider", ["datadog", "skywalking"])
def test_other_tracers_are_taken(mesh: Any, provider: str) -> None:
    proxy = started(mesh, f"tracing: [{{providers: [{{name: {provider}}}]}}]")
    assert manager(proxy)["tracing"]["provider"]["name"] == f"envoy.tracers.{provider}"


def test_tracing_of_one_direction(mesh: Any) -> None:
    proxy = started(mesh, "tracing: [{providers: [{name: otel}], match: {mode: SERVER}}]")
    assert "tracing" not in manager(proxy) and "tracing" in manager(proxy, "virtualInbound")
    mesh.apply(telemetry("tracing: [{providers: [{name: otel}], disableSpanReporting: true}]"))
    assert "tracing" not in manager(proxy, "virtualInbound")


def test_tracing_by_the_meshs_own_word(mesh: Any) -> None:
    proxy = started(mesh)
    settings = (
        "{zipkin: {address: 'otel.observability:9411'}, sampling: 50, maxPathTagLength: 32, enableIstioTags: false, "
    )
    settings += "customTags: {a: {literal: {value: b}}}}"
    mesh.configure(f"defaultConfig: {{tracing: {settings}}}")
    tracing = manager(proxy)["tracing"]
    assert tracing["custom_tags"] == [{"tag": "a", "literal": {"value": "b"}}]
    assert (tracing["random_sampling"], tracing["max_path_tag_length"]) == ({"value": 50.0}, 32)
    mesh.configure(f"{{enableTracing: false, defaultConfig: {{tracing: {settings}}}}}")
    assert "tracing" not in manager(proxy)
    mesh.configure(PROVIDERS + "defaultProviders: {tracing: [zipkin]}")
    assert manager(proxy)["tracing"]["provider"]["name"] == "envoy.tracers.zipkin"


def test_the_agent_and_tags_of_the_mesh(mesh: Any) -> None:
    proxy = started(mesh)
    mesh.configure("""
defaultConfig:
  tracing:
    datadog: {address: "otel.observability:4318"}
    customTags:
      host: {environment: {name: HOSTNAME, defaultValue: none}}
      tenant: {header: {name: x-tenant, defaultValue: nobody}}
""")
    tracing = manager(proxy)["tracing"]
    tags = {tag.pop("tag"): tag for tag in tracing["custom_tags"]}
    assert tags["host"] == {"environment": {"name": "HOSTNAME", "default_value": "none"}}
    assert tags["tenant"] == {"request_header": {"name": "x-tenant", "default_value": "nobody"}}
    assert tracing["provider"]["name"] == "envoy.tracers.datadog"
    agent = tracing["provider"]["typed_config"]
    assert (agent["collector_cluster"], agent["collector_hostname"]) == (f"outbound|4318||{HOST}", HOST)


def test_an_agent_that_the_proxy_finds_itself(mesh: Any) -> None:
    """By a cluster of its bootstrap, where the mesh has no such host, or says how to speak TLS with it."""

    def config(address: str, agent: str = "zipkin", more: str = "") -> str:
        return f"defaultConfig: {{tracing: {{{agent}: {{address: '{address}'}}{more}}}}}"

    def leads_to(proxy: Any) -> tuple[str, str] | None:
        provider = manager(proxy).get("tracing", {}).get("provider")
        uri = provider["typed_config"]["collector_service"]["http_uri"] if provider else None
        return (uri["cluster"], uri["uri"]) if uri else None

    own = {"tracing": {"zipkin": {"address": "out.test:9411"}, "sampling": 12.5}}
    mesh.apply(WEB + COLLECTOR)
    told = mesh.sidecar("told", ip="10.0.0.7", metadata={"PROXY_CONFIG": own})
    without = mesh.sidecar("without", ip="10.0.0.6", metadata={"PROXY_CONFIG": {}})
    proxy = mesh.sidecar()
    mesh.configure(config("out.test:9411"))
    assert leads_to(told) == leads_to(proxy) == ("zipkin", "http://out.test/api/v2/spans")
    assert leads_to(without) is None, "it was started before"
    mesh.configure(config("otel.observability:9411"))
    in_mesh = (f"outbound|9411||{HOST}", f"http://{HOST}/api/v2/spans")
    assert leads_to(told) == leads_to(proxy) == leads_to(without) == in_mesh
    mesh.configure(config("otel.observability:9411", more=", tlsSettings: {mode: SIMPLE}"))
    assert leads_to(proxy) == ("zipkin", "http://otel.observability/api/v2/spans")
    mesh.configure(config("out.test:8126", "datadog"))
    agent = manager(proxy)["tracing"]["provider"]["typed_config"]
    assert (agent["collector_cluster"], agent["collector_hostname"]) == ("datadog_agent", "out.test")


def test_headers_of_which_the_control_planes_environment_has_the_values(mesh: Any) -> None:
    providers = f"""
extensionProviders:
- {{name: zipkin, zipkin: {{service: {HOST}, port: 9411, headers: [{{name: x-key, envName: TOKEN}}]}}}}
- name: otel
  opentelemetry:
    service: {HOST}
    port: 4317
    grpc: {{initialMetadata: [{{name: x-key, envName: TOKEN}}, {{name: x-none, envName: NOT_SET}}]}}
    resourceDetectors: {{dynatrace: {{}}}}
- {{name: datadog, datadog: {{service: {HOST}, port: 4318, maxTagLength: 12}}}}
"""
    proxy = started(mesh, "tracing: [{providers: [{name: zipkin}]}]")
    mesh.configure(providers)
    config = manager(proxy)["tracing"]["provider"]["typed_config"]
    [header] = config["collector_service"]["request_headers_to_add"]
    assert header["header"] == {"key": "x-key", "value": "secret"}
    mesh.apply(telemetry("tracing: [{providers: [{name: otel}]}]"))
    config = manager(proxy)["tracing"]["provider"]["typed_config"]
    assert config["grpc_service"]["initial_metadata"] == [{"key": "x-key", "value": "secret"}, {"key": "x-none"}]
    detectors = [each["name"].rpartition(".")[2] for each in config["resource_detectors"]]
    assert detectors == ["environment", "dynatrace"]
    mesh.apply(telemetry("tracing: [{providers: [{name: datadog}]}]"))
    assert manager(proxy)["tracing"]["max_path_tag_length"] == 12


def test_dynatrace_says_which_traces_are_kept(mesh: Any) -> None:
    def provider(exporter: str, more: str = "") -> str:
        sampler = f"{{tenant: abc, clusterId: 5, rootSpansPerMinute: 60{more}}}"
        return f"""
extensionProviders:
- name: otel
  opentelemetry:
    service: {HOST}
    port: 4318
    {exporter}
    dynatraceSampler: {sampler}
"""

    http = "http: {path: /v1/traces, timeout: 2s, headers: [{name: x-key, envName: TOKEN}]}"
    proxy = started(mesh, "tracing: [{providers: [{name: otel}], randomSamplingPercentage: 10}]")
    mesh.configure(provider(http))
    assert manager(proxy)["tracing"]["random_sampling"] == {"value": 100.0}
    sampler = manager(proxy)["tracing"]["provider"]["typed_config"]["sampler"]
    assert sampler["name"] == "envoy.tracers.opentelemetry.samplers.dynatrace"
    config = sampler["typed_config"]
    assert (config["tenant"], config["cluster_id"], config["root_spans_per_minute"]) == ("abc", 5, 60)
    assert config["http_service"]["http_uri"] == {
        "uri": f"http://{HOST}/api/v2/samplingConfiguration",
        "cluster": f"outbound|4318||{HOST}",
        "timeout": "2s",
    }
    assert config["http_service"]["request_headers_to_add"][0]["header"] == {"key": "x-key", "value": "secret"}

    own = f", httpService: {{service: {HOST}, port: 9411, http: {{path: /sampling, timeout: 4s}}}}"
    mesh.configure(provider("grpc: {}", own))
    asked = manager(proxy)["tracing"]["provider"]["typed_config"]["sampler"]["typed_config"]["http_service"]["http_uri"]
    assert asked == {"uri": f"http://{HOST}/sampling", "cluster": f"outbound|9411||{HOST}", "timeout": "4s"}
    mesh.configure(provider("grpc: {}"))
    assert "sampler" not in manager(proxy)["tracing"]["provider"]["typed_config"], "nobody to ask"
    mesh.configure(provider("grpc: {}", own.replace(HOST, "missing.test")))
    assert "tracing" not in manager(proxy), "a sampler that cannot ask would keep no trace"


def test_a_metrics_provider_of_ones_own_name(mesh: Any) -> None:
    proxy = started(mesh)
    mesh.configure("{extensionProviders: [{name: mine, prometheus: {}}], defaultProviders: {metrics: [mine]}}")
    assert "istio_requests_total" in counted(proxy)
    mesh.configure("{extensionProviders: [{name: mine, prometheus: {}}], defaultProviders: {metrics: [other]}}")
    assert counted(proxy) == {}


# Collectors


def test_no_report_to_a_collector_that_the_proxy_does_not_see(mesh: Any) -> None:
    mesh.configure(PROVIDERS)
    mesh.apply(WEB + telemetry("{tracing: [{providers: [{name: otel}]}], accessLogging: [{providers: [{name: als}]}]}"))
    proxy = mesh.sidecar()
    assert "tracing" not in manager(proxy) and logs(proxy) == []
    mesh.apply(COLLECTOR)
    assert "tracing" in manager(proxy) and len(logs(proxy)) == 1
    mesh.apply(
        COLLECTOR.replace(
            "namespace: observability", 'namespace: observability, annotations: {networking.istio.io/exportTo: "."}'
        )
    )
    assert "tracing" not in manager(proxy) and logs(proxy) == []
    mesh.delete("Service", "otel", "observability")
    assert "tracing" not in manager(proxy)


def test_everybody_on_demand_has_the_collectors(mesh: Any) -> None:
    mesh.configure(PROVIDERS)
    mesh.apply(WEB + COLLECTOR)
    proxy = mesh.sidecar(metadata={"DNS_CAPTURE": "true"})
    assert f"outbound|4317||{HOST}" not in proxy.names("clusters")
    mesh.apply(telemetry("tracing: [{providers: [{name: otel}]}]"))
    assert f"outbound|4317||{HOST}" in proxy.names("clusters")
    mesh.delete("Telemetry", "t")
    assert f"outbound|4317||{HOST}" not in proxy.names("clusters")


# Who is who


def test_endpoints_and_clusters_say_what_they_are_called_in_metrics(mesh: Any) -> None:
    pod = """
apiVersion: v1
kind: Pod
metadata:
  name: web-7d4-x
  labels: {app: web, version: v2, pod-template-hash: 7d4}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-7d4, uid: u, controller: true}]
spec: {containers: [{name: a}]}
status: {podIP: 10.0.0.20}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.20}, {address: 10.0.0.21}]
"""
    proxy = mesh.sidecar()
    mesh.apply(pod)
    [locality] = proxy.get("endpoints", "outbound|80||web.test")["endpoints"]
    known, unknown = locality["lb_endpoints"]
    assert known["metadata"]["filter_metadata"] == {
        "istio": {"workload": "web;default;web;v2;Kubernetes"},
        "pilotfish.workload": {
            "workload": "web",
            "namespace": "default",
            "app": "web",
            "version": "v2",
            "service": "web",
            "revision": "v2",
            "cluster": "Kubernetes",
        },
    }
    assert "metadata" not in unknown
    service = {"host": "web.test", "name": "web.test", "namespace": "default"}
    metadata = proxy.get("clusters", "outbound|80||web.test")["metadata"]["filter_metadata"]
    assert metadata == {"istio": {"services": [service]}, "pilotfish.service": service}
    mesh.delete("Pod", "web-7d4-x")
    [locality] = proxy.get("endpoints", "outbound|80||web.test")["endpoints"]
    assert all("metadata" not in endpoint for endpoint in locality["lb_endpoints"])


def test_what_spans_are_called(mesh: Any) -> None:
    """The host and port where requests go, else the VirtualService; and the path. Nothing where there are no spans."""
    web = """
apiVersion: v1
kind: Service
metadata: {name: named}
spec: {clusterIP: 10.1.0.77, ports: [{name: http, port: 8077}]}
"""
    named = "named.default.svc.cluster.local"
    proxy = started(mesh, "tracing: [{providers: [{name: otel}]}]")
    mesh.apply(web)

    def operations() -> list[str]:
        (host,) = (h for h in proxy.get("routes", "8077")["virtual_hosts"] if h["name"] == f"{named}:8077")
        return [route.get("decorator", {}).get("operation", "") for route in host["routes"]]

    assert operations() == [f"{named}:8077/*"]
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: words}
spec:
  hosts: [named]
  http:
  - {match: [{uri: {exact: /one}}], route: [{destination: {host: named}}]}
  - {match: [{uri: {prefix: /two/}}], directResponse: {status: 204}}
  - match: [{uri: {regex: /th.*}}]
    route: [{destination: {host: named}, weight: 1}, {destination: {host: o}, weight: 1}]
  - route: [{destination: {host: named}}]
""")
    assert operations() == [f"{named}:8077/one", "words:8077/two/*", "words:8077/th.*", f"{named}:8077/*"]
    unknown = next(
        chain
        for chain in proxy.get("listeners", "virtualInbound")["filter_chains"]
        if chain["name"] == "virtualInbound-catchall-http"
    )
    (inbound,) = unknown["filters"][-1]["typed_config"]["route_config"]["virtual_hosts"]
    assert inbound["routes"][0]["decorator"] == {"operation": ":0/*"}
    mesh.apply(telemetry("tracing: [{providers: [{name: otel}], disableSpanReporting: true}]"))
    assert operations() == ["", "", "", ""]
