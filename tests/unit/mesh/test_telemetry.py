"""What workloads report: which Telemetries apply, and how they merge."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from pilotfish.api.decode import decode
from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import TELEMETRY
from pilotfish.api.telemetry import Telemetry
from pilotfish.mesh.meshconfig import mesh_config, read_mesh_config
from pilotfish.mesh.reporting import (
    LOG_FORMAT,
    AccessLog,
    Collector,
    FileLog,
    HttpLogService,
    MetricRule,
    Metrics,
    OtelLog,
    OtelTracer,
    Reporting,
    Tag,
    TcpLogService,
    ZipkinTracer,
)
from pilotfish.mesh.telemetry import Directions, Reports, Telemetries

ROOT = "istio-system"
STDOUT = AccessLog(FileLog("/dev/stdout"))
PROVIDERS = """
extensionProviders:
- {name: json, envoyFileAccessLog: {path: /dev/stderr, logFormat: {labels: {p: "%PROTOCOL%", n: {deep: "%DURATION%"}}}}}
- {name: als, envoyHttpAls: {service: als.obs.svc.cluster.local, port: 9001, additionalRequestHeadersToLog: [x-a]}}
- {name: tcp, envoyTcpAls: {service: als.obs.svc.cluster.local, port: 9001, logName: mine}}
- {name: otel-log, envoyOtelAls: {service: obs/otel.test, port: 4317, logFormat: {labels: {code: "%RESPONSE_CODE%"}}}}
- {name: zipkin, zipkin: {service: zipkin.test, port: 9411, maxTagLength: 64}}
- {name: otel, opentelemetry: {service: otel.test, port: 4317}}
- name: otel-http
  opentelemetry:
    {service: otel.test, port: 4318, http: {path: v1/traces, timeout: 2s, headers: [{name: k, envName: TOKEN}]}}
"""


def telemetry(name: str, spec: str, namespace: str = "default", created: str = "2024-01-01T00:00:00Z") -> Telemetry:
    document: dict[str, Any] = {
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": yaml.safe_load(spec),
    }
    return decode(TELEMETRY, document)


def directions(*specs: str, mesh: str = "") -> Directions:
    """What a workload reports under Telemetries from the most general to the most special."""
    reports = Reports(read_mesh_config(PROVIDERS + mesh), {"TOKEN": "secret"})
    return reports.directions([telemetry("t", spec).spec for spec in specs])


# Which apply


def applying(*found: Telemetry, namespace: str = "default", **labels: str) -> list[str]:
    known = Telemetries()
    for each in found:
        known.put(each)
    by_spec = {id(each.spec): each.name for each in found}
    return [by_spec[id(spec)] for spec in known.applying(namespace, tuple(sorted(labels.items())), ROOT)]


def test_the_more_special_comes_later() -> None:
    everywhere = telemetry("everywhere", "{}", ROOT)
    here = telemetry("here", "{}")
    web = telemetry("web", "{selector: {matchLabels: {app: web}}}")
    other = telemetry("other", "{}", "other")
    assert applying(web, here, everywhere, other, app="web", version="v1") == ["everywhere", "here", "web"]
    assert applying(web, here, everywhere, other, app="db") == ["everywhere", "here"]
    assert applying(web, here, everywhere, namespace=ROOT, app="web") == ["everywhere"]


def test_of_two_for_a_namespace_the_oldest_applies() -> None:
    young = telemetry("a", "{}", created="2024-02-01T00:00:00Z")
    old = telemetry("b", "{selector: {}}")
    assert applying(young, old) == ["b"]


def test_all_that_select_apply_from_the_oldest() -> None:
    young = telemetry("a", "{selector: {matchLabels: {app: web}}}", created="2024-02-01T00:00:00Z")
    old = telemetry("b", "{selector: {matchLabels: {version: v1}}}")
    assert applying(young, old, app="web", version="v1") == ["b", "a"]


def test_targets_are_gateways() -> None:
    found = telemetry("a", "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]}")
    assert applying(found, app="web") == []
    assert applying(found, **{"gateway.networking.k8s.io/gateway-name": "edge"}) == ["a"]
    assert applying(found, **{"gateway.networking.k8s.io/gateway-name": "other"}) == []


def test_one_that_is_gone_applies_no_more() -> None:
    known, found = Telemetries(), telemetry("a", "{}")
    known.put(found)
    known.drop(found)
    assert known.applying("default", (), ROOT) == ()


# Access logs


def test_without_telemetry_the_mesh_says_it() -> None:
    assert directions() == Directions(Reporting(), Reporting())
    both = Reporting(logs=(STDOUT,))
    assert directions(mesh="accessLogFile: /dev/stdout") == Directions(both, both)
    stderr = Reporting(logs=(AccessLog(FileLog("/dev/stdout", "%PROTOCOL%\n")),))
    ours = "{defaultProviders: {accessLogging: [envoy]}, accessLogFile: /x, accessLogFormat: '%PROTOCOL%'}"
    assert Reports(read_mesh_config(ours)).directions(()).client == stderr


def test_every_kind_of_log() -> None:
    found = directions("accessLogging: [{providers: [{name: json}, {name: als}, {name: tcp}, {name: otel-log}]}]")
    als, as_json, otel, tcp = (log.sink for log in found.client.logs)
    collector = Collector("als.obs.svc.cluster.local", 9001)
    assert als == HttpLogService(collector, "http_envoy_accesslog", request_headers=("x-a",))
    assert tcp == TcpLogService(collector, "mine")
    labels = (("code", "%RESPONSE_CODE%"),)
    assert otel == OtelLog(Collector("otel.test", 4317, "obs"), "otel_envoy_accesslog", LOG_FORMAT, labels)
    assert isinstance(as_json, FileLog)
    assert (as_json.path, json.loads(as_json.json)) == (
        "/dev/stderr",
        {"p": "%PROTOCOL%", "n": {"deep": "%DURATION%"}},
    )
    assert found.client.collectors() == {collector, Collector("otel.test", 4317, "obs")}


def test_a_provider_of_no_log_or_that_nobody_knows_logs_nothing() -> None:
    assert directions("accessLogging: [{providers: [{name: zipkin}, {name: nobody}]}]").client.logs == ()


def test_directions() -> None:
    found = directions("accessLogging: [{providers: [{name: envoy}], match: {mode: SERVER}}]")
    assert (found.client.logs, found.server.logs) == ((), (STDOUT,))


def test_a_direction_that_no_telemetry_speaks_of_stays_as_it_was() -> None:
    spec = "accessLogging: [{providers: [{name: als}], match: {mode: CLIENT}}]"
    found = directions(spec, mesh="accessLogFile: /dev/stdout")
    assert found.server.logs == (STDOUT,)
    assert [type(log.sink) for log in found.client.logs] == [HttpLogService]


def test_a_more_special_level_names_all_providers_anew() -> None:
    found = directions("accessLogging: [{providers: [{name: envoy}]}]", "accessLogging: [{providers: [{name: als}]}]")
    assert [type(log.sink) for log in found.client.logs] == [HttpLogService]


@pytest.mark.parametrize("mesh", ["accessLogFile: /dev/stdout", "defaultProviders: {accessLogging: [envoy]}"])
def test_logs_are_switched_off_and_filtered_without_naming_the_provider(mesh: str) -> None:
    assert directions("accessLogging: [{disabled: true}]", mesh=mesh).server.logs == ()
    found = directions("accessLogging: [{filter: {expression: 'response.code >= 400'}}]", mesh=mesh)
    assert found.client.logs == (AccessLog(FileLog("/dev/stdout"), "response.code >= 400"),)
    found = directions("accessLogging: [{match: {mode: CLIENT}, disabled: true}]", mesh=mesh)
    assert (found.client.logs, found.server.logs) == ((), (STDOUT,))


def test_a_namespace_switches_on_again() -> None:
    off, on = "accessLogging: [{disabled: true}]", "accessLogging: [{disabled: false}]"
    assert directions(off, on, mesh="accessLogFile: /dev/stdout").client.logs == (STDOUT,)


def test_an_entry_without_providers_is_about_those_of_the_one_before() -> None:
    spec = """
    accessLogging:
    - providers: [{name: envoy}, {name: als}]
    - {providers: [{name: als}], match: {mode: CLIENT}, disabled: true}
    """
    found = directions(spec)
    assert [type(log.sink) for log in found.client.logs] == [FileLog]
    assert [type(log.sink) for log in found.server.logs] == [HttpLogService, FileLog]


def test_a_json_format_that_is_none() -> None:
    config = {"accessLogFile": "/x", "accessLogEncoding": "JSON", "accessLogFormat": "%PROTOCOL%"}
    with pytest.raises(Invalid, match="accessLogFormat"):
        Reports(mesh_config(config))


# Metrics

DEFAULT = "defaultProviders: {metrics: [prometheus]}"


def test_metrics_are_counted_where_a_provider_takes_them() -> None:
    assert directions(mesh=DEFAULT).client == Reporting(metrics=Metrics(), peers=True)
    assert directions().client.metrics is None
    assert directions("metrics: [{providers: [{name: Prometheus}]}]").server.metrics == Metrics()
    assert directions("metrics: [{providers: [{name: zipkin}]}]", mesh=DEFAULT).server.metrics is None


def test_a_metric_is_dropped_in_one_direction() -> None:
    spec = "metrics: [{overrides: [{match: {metric: REQUEST_SIZE, mode: SERVER}, disabled: true}]}]"
    found = directions(spec, mesh=DEFAULT)
    assert found.server.metrics == Metrics((MetricRule("request_bytes", dropped=True),))
    assert found.client.metrics == Metrics()


def test_all_metrics_are_switched_off_and_on() -> None:
    off = "metrics: [{overrides: [{disabled: true}]}]"
    assert directions(off, mesh=DEFAULT).client == Reporting(peers=True)
    on = "metrics: [{overrides: [{match: {metric: REQUEST_COUNT, mode: CLIENT}, disabled: false}]}]"
    found = directions(off, on, mesh=DEFAULT)
    assert found.client.metrics is not None and found.server.metrics is None


def test_tags_of_several_levels_are_merged() -> None:
    one = "metrics: [{overrides: [{tagOverrides: {a: {value: request.host}, response_code: {operation: REMOVE}}}]}]"
    two = "metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {a: {value: \"'x'\"}}}]}]"
    metrics = directions(one, two, mesh=DEFAULT).client.metrics
    assert metrics is not None
    assert metrics.rule("requests_total").tags == (("a", "'x'"), ("response_code", None))
    assert metrics.rule("tcp_sent_bytes_total").tags == (("a", "request.host"), ("response_code", None))


def test_a_tag_whose_expression_envoy_would_refuse_stays_as_it_is() -> None:
    spec = "metrics: [{overrides: [{tagOverrides: {a: {value: 'string(1)'}, b: {value: request.host}}}]}]"
    metrics = directions(spec, mesh=DEFAULT).client.metrics
    assert metrics is not None
    assert metrics.rule("requests_total").tags == (("b", "request.host"),)


# Tracing


def test_no_provider_no_spans() -> None:
    assert directions().client.tracing is None
    assert directions("tracing: [{randomSamplingPercentage: 100}]").client.tracing is None
    assert directions("tracing: [{providers: [{name: envoy}]}]").client.tracing is None


def test_tracing_by_default_and_what_a_telemetry_changes() -> None:
    mesh = "defaultProviders: {tracing: [zipkin]}\ndefaultConfig: {tracing: {sampling: 20}}"
    found = directions(mesh=mesh).client.tracing
    assert found is not None
    assert found.tracer == ZipkinTracer(Collector("zipkin.test", 9411))
    assert (found.sampling, found.max_path, found.istio_tags, found.id_decides) == (20.0, 64, True, True)
    spec = """
    tracing:
    - randomSamplingPercentage: 0
      enableIstioTags: false
      useRequestIdForTraceSampling: false
      disableContextPropagation: true
      customTags:
        b: {literal: {value: x}}
        a: {header: {name: h, defaultValue: d}}
        c: {formatter: {value: "%PROTOCOL%"}}
        d: {environment: {name: E}}
    """
    found = directions(spec, mesh=mesh).client.tracing
    assert found is not None
    assert (found.sampling, found.istio_tags, found.id_decides, found.propagates) == (0.0, False, False, False)
    assert found.tags == (
        Tag("a", "header", "h", "d"),
        Tag("b", "literal", "x"),
        Tag("c", "formatter", "%PROTOCOL%"),
        Tag("d", "environment", "E"),
    )


def test_spans_are_switched_off_in_one_direction_and_elsewhere_sent_elsewhere() -> None:
    spec = """
    tracing:
    - {match: {mode: SERVER}, disableSpanReporting: true}
    - {match: {mode: CLIENT}, providers: [{name: otel-http}]}
    """
    found = directions(spec, mesh="defaultProviders: {tracing: [zipkin]}")
    assert found.server.tracing is None
    assert found.client.tracing is not None
    assert found.client.tracing.tracer == OtelTracer(
        Collector("otel.test", 4318), "/v1/traces", timeout=2.0, headers=(("k", "secret"),)
    )
    assert found.client.tracing.sampling == 1.0


def test_the_agent_of_the_default_config() -> None:
    mesh = "defaultConfig: {tracing: {zipkin: {address: 'zipkin.obs:9411'}, customTags: {a: {literal: {value: b}}}}}"
    found = directions(mesh=mesh).client.tracing
    assert found is not None
    assert found.tracer == ZipkinTracer(Collector("zipkin.obs", 9411, cluster="zipkin"))
    assert found.tags == (Tag("a", "literal", "b"),)
    assert directions(mesh=mesh + "\nenableTracing: false").client.tracing is None
