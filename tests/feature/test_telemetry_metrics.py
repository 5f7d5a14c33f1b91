"""Metrics: Istio's standard metrics, counted by Envoy's stats logger, and what Telemetry changes of them."""

from __future__ import annotations

import re
from typing import Any

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.1.0.5, selector: {app: web}, ports: [{name: http, port: 80}, {name: tcp, port: 5432}]}
"""
METRICS = "defaultProviders: {metrics: [prometheus]}"
HTTP, TCP = "http_connection_manager", "tcp_proxy"

OF_A_WORKLOAD = (
    "workload",
    "workload_namespace",
    "app",
    "version",
    "canonical_service",
    "canonical_revision",
    "cluster",
)
LABELS = {
    "reporter",
    *(f"source_{label}" for label in (*OF_A_WORKLOAD, "principal")),
    *(f"destination_{label}" for label in (*OF_A_WORKLOAD, "principal")),
    *("destination_service", "destination_service_name", "destination_service_namespace"),
    *("request_protocol", "response_flags", "connection_security_policy"),
}
"""Istio's labels of every metric."""


def filters(listener: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The configurations of all of a listener's filters of a kind."""
    chains = [*listener["filter_chains"], *filter(None, [listener.get("default_filter_chain")])]
    found = (each for chain in chains for each in chain["filters"] if each["name"].endswith(kind))
    return [each["typed_config"] for each in found]


def counting(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The loggers of a filter that count."""
    return [log for log in config.get("access_log", []) if log["name"] == "envoy.access_loggers.stats"]


def metrics(log: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The labels of each metric of a logger."""
    config = log["typed_config"]
    return {
        each["stat"]["name"]: {tag["name"]: tag["value_format"] for tag in each["stat"].get("tags", [])}
        for each in (*config.get("counters", ()), *config.get("histograms", ()))
    }


def asked_for(value: str) -> list[str]:
    """The parameters of the commands that a label tries."""
    return re.findall(r'"param":"([^"]*)"', value)


def test_requests_are_counted_by_the_client(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar()
    mesh.configure(METRICS)
    [manager] = filters(proxy.get("listeners", "0.0.0.0_80"), HTTP)
    plain, grpc = counting(manager)
    is_grpc = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "treat_missing_header_as_empty": True,
    }
    assert grpc["filter"] == {"header_filter": {"header": is_grpc}}
    assert plain["filter"] == {"header_filter": {"header": {**is_grpc, "invert_match": True}}}
    names = {
        "istio_requests_total",
        "istio_request_duration_milliseconds",
        "istio_request_bytes",
        "istio_response_bytes",
    }
    assert metrics(plain).keys() == metrics(grpc).keys() == names
    labels = metrics(plain)["istio_requests_total"]
    assert labels.keys() == LABELS | {"response_code", "grpc_response_status"}
    assert labels["reporter"] == "source"
    assert labels["source_app"] == "%ENVIRONMENT(PILOTFISH_APP)%"
    assert asked_for(labels["destination_app"]) == ["UPSTREAM_HOST:pilotfish.workload:app", "PILOTFISH_UNKNOWN"]
    services = ["CLUSTER:pilotfish.service:host", ":authority", "PILOTFISH_UNKNOWN"]
    assert asked_for(labels["destination_service"]) == services
    assert (labels["request_protocol"], labels["connection_security_policy"]) == ("http", "unknown")
    assert metrics(grpc)["istio_request_bytes"]["request_protocol"] == "grpc"


def test_requests_are_counted_by_the_server(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar(app="web")
    mesh.configure(METRICS)
    secured = {"mutual_tls": 0, "none": 0}
    for manager in filters(proxy.get("listeners", "virtualInbound"), HTTP):
        labels = metrics(counting(manager)[0])["istio_requests_total"]
        assert labels["reporter"] == "destination"
        assert asked_for(labels["source_app"]) == ["pilotfish.peer:source:app", "PILOTFISH_UNKNOWN"]
        assert labels["destination_app"] == "%ENVIRONMENT(PILOTFISH_APP)%"
        assert asked_for(labels["destination_service"]) == ["CLUSTER:pilotfish.service:host", "PILOTFISH_UNKNOWN"]
        secured[labels["connection_security_policy"]] += 1
    assert secured == {"mutual_tls": 2, "none": 2}, "unnamed ports, and the Service's"


def test_the_client_tells_the_server_who_it_is(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar(app="web")
    mesh.configure(METRICS)
    [outbound] = filters(proxy.get("listeners", "0.0.0.0_80"), HTTP)
    inbound, *_ = filters(proxy.get("listeners", "virtualInbound"), HTTP)
    told = {each["name"]: each["typed_config"] for each in outbound["http_filters"]}[
        "envoy.filters.http.header_mutation"
    ]
    [mutation] = told["mutations"]["request_mutations"]
    assert mutation["append"]["header"] == {"key": "x-pilotfish-peer", "value": "%ENVIRONMENT(PILOTFISH_PEER)%"}
    heard = {each["name"]: each["typed_config"] for each in inbound["http_filters"]}[
        "envoy.filters.http.header_to_metadata"
    ]
    [rule] = heard["request_rules"]
    assert (rule["header"], rule["remove"]) == ("x-pilotfish-peer", True)
    mesh.configure("")
    [outbound] = filters(proxy.get("listeners", "0.0.0.0_80"), HTTP)
    assert "envoy.filters.http.header_mutation" not in {each["name"] for each in outbound["http_filters"]}


def test_connections_are_counted_and_logged_once(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar(app="web")
    mesh.configure(METRICS + "\naccessLogFile: /dev/stdout")
    [config] = filters(proxy.get("listeners", "10.1.0.5_5432"), TCP)
    assert config["access_log_options"] == {"flush_access_log_on_connected": True}
    log, *_ = config["access_log"]
    assert log["name"] == "envoy.access_loggers.file"
    assert log["filter"] == {"log_type_filter": {"types": ["TcpConnectionEnd"]}}
    opened, closed = counting(config)
    assert metrics(opened).keys() == {"istio_tcp_connections_opened_total"}
    assert metrics(closed).keys() == {
        *("istio_tcp_connections_closed_total", "istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total")
    }
    labels = metrics(opened)["istio_tcp_connections_opened_total"]
    assert labels.keys() == LABELS
    assert labels["request_protocol"] == "tcp"
    tcp = [each for each in filters(proxy.get("listeners", "virtualInbound"), TCP) if counting(each)]
    labels = metrics(counting(tcp[0])[1])["istio_tcp_sent_bytes_total"]
    assert (labels["reporter"], labels["source_workload"]) == ("destination", "unknown")


def test_without_metrics_a_connection_is_logged_as_ever(mesh: Any) -> None:
    mesh.apply(SERVICES)
    proxy = mesh.sidecar()
    mesh.configure("accessLogFile: /dev/stdout")
    [config] = filters(proxy.get("listeners", "10.1.0.5_5432"), TCP)
    assert "access_log_options" not in config and "filter" not in config["access_log"][0]
