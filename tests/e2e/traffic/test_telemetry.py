"""What a sidecar reports of the traffic through it: metrics, access logs and spans, as a Telemetry says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from traffic.cases import http, substituted
from traffic.site import wait_until

pytestmark = pytest.mark.root

TELEMETRY = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: $name}
spec:
  selector: {matchLabels: {app: eager}}
"""
METRIC = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def eventually(probe: Callable[[], Any], what: str) -> Any:
    """What the probe gives once it gives something."""
    found: list[Any] = []
    wait_until(lambda: found.append(probe()) or found[-1], what)
    return found[-1]


def metrics(site: Any, name: str, client: str = "eager") -> list[dict[str, str]]:
    """A metric of a client's sidecar: the labels of each series, and its value under ""."""
    answers = site.job(client, {"protocol": "HTTP/1.1", "url": "http://127.0.0.1:15090/stats/prometheus"})
    series = [found for found in METRIC.finditer(answers[0]["body"]) if found["name"] == name]
    return [{**dict(LABEL.findall(found["labels"])), "": found["value"]} for found in series]


def requests_to(site: Any, names: dict[str, str], client: str = "eager") -> list[dict[str, str]]:
    series = metrics(site, "istio_requests_total", client)
    return [found for found in series if found.get("destination_service_name") == names["name"]]


def call(site: Any, names: dict[str, str], path: str = "/", **rest: Any) -> None:
    site.hold(substituted(http(f"http://$name{path}", client="eager", **rest), names))


@pytest.fixture
def reached(site: Any) -> Iterator[dict[str, str]]:
    """A Service that answers, before any Telemetry is there."""
    with site.applied("") as names:
        site.settle(substituted(http("http://$name/", client="eager"), names), "the Service")
        yield names


def test_requests_are_counted_under_istios_names(site: Any, reached: dict[str, str]) -> None:
    call(site, reached, instruct={"status": 418}, status=418)
    found = eventually(
        lambda: [s for s in requests_to(site, reached) if s["response_code"] == "418"], "the request is counted"
    )
    assert len(found) == 1
    expected = {
        "reporter": "source",
        "source_workload": "eager",
        "source_workload_namespace": "traffic",
        "source_app": "eager",
        "destination_app": "b",
        "destination_service": f"{reached['name']}.traffic.svc.cluster.local",
        "destination_service_namespace": "traffic",
        "request_protocol": "http",
        "response_code": "418",
        "": "1",
    }
    assert {key: found[0].get(key) for key in expected} == expected


def test_both_sides_know_whose_certificate_the_other_has(site: Any, reached: dict[str, str]) -> None:
    """The server also whether there was one, and by what name it was asked for."""
    account = "spiffe://cluster.local/ns/traffic/sa/default"
    call(site, reached, "/whose")
    both = {"source_app": "eager", "source_principal": account, "destination_principal": account}

    def counted(reporter: str, client: str) -> list[dict[str, str]]:
        found = metrics(site, "istio_requests_total", client)
        return [s for s in found if s["reporter"] == reporter and both.items() <= s.items()]

    for series in eventually(lambda: counted("source", "eager"), "the client counts it"):
        assert series["connection_security_policy"] == "unknown"
    servers = [f"b-{version}" for version in ("v1", "v2", "v3")]
    for series in eventually(lambda: [s for name in servers for s in counted("destination", name)], "a server does"):
        assert series["connection_security_policy"] == "mutual_tls"
    logs = (site.mesh.kubectl("logs", "-n", "traffic", name, "-c", "istio-proxy", "--tail=50") for name in servers)
    (line,) = [line for log in logs for line in log.splitlines() if "/whose" in line]
    assert f" outbound_.80_._.{reached['host']} default" in line


def test_labels_of_metrics_are_added_changed_and_removed(site: Any, reached: dict[str, str]) -> None:
    manifest = (
        TELEMETRY
        + """
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT, mode: CLIENT}
      tagOverrides:
        request_method: {operation: UPSERT, value: request.method}
        request_protocol: {operation: REMOVE}
"""
    )
    with site.applied(manifest, ""):

        def changed() -> list[dict[str, str]]:
            call(site, reached, method="PUT")
            return [found for found in requests_to(site, reached) if found.get("request_method") == "PUT"]

        found = eventually(changed, "requests are counted by their method")
        assert "request_protocol" not in found[0]


def test_a_metric_is_switched_off(site: Any, reached: dict[str, str]) -> None:
    manifest = (
        TELEMETRY
        + """
  metrics:
  - providers: [{name: prometheus}]
    overrides:
    - match: {metric: REQUEST_COUNT}
      disabled: true
"""
    )
    with site.applied(manifest, ""):

        def counted() -> float:
            return sum(float(found[""]) for found in requests_to(site, reached))

        def silent() -> bool:
            before = counted()
            call(site, reached)
            return counted() == before

        eventually(silent, "requests are no longer counted")
        durations = [
            found
            for found in metrics(site, "istio_request_duration_milliseconds_count")
            if found.get("destination_service_name") == reached["name"]
        ]
        assert durations, "other metrics go on"


def log_of(site: Any, access_lines: Any, names: dict[str, str]) -> list[str]:
    """The paths that the client's access log has of requests to a case's Service."""
    text = site.mesh.kubectl("logs", "-n", "traffic", "eager", "-c", "istio-proxy", "--tail=200")
    return [line["path"] for line in access_lines(text) if line["authority"] == names["name"]]


@pytest.mark.parametrize(
    ("logging", "logged", "not_logged"),
    [
        (
            "[{providers: [{name: envoy}], filter: {expression: \"request.url_path.startsWith('/yes')\"}}]",
            "/yes",
            "/no",
        ),
        ("[{providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}]", "/failing", "/fine"),
    ],
    ids=["by path", "by status"],
)
def test_access_logs_are_filtered(
    logging: str, logged: str, not_logged: str, site: Any, reached: dict[str, str], access_lines: Any
) -> None:
    with site.applied(TELEMETRY + f"  accessLogging: {logging}\n", ""):
        number = 0

        def filtered() -> bool:
            """Whether of the last two requests the second alone is in the log, which has both in their order."""
            nonlocal number
            number += 1
            call(site, reached, f"{not_logged}/{number}")
            call(site, reached, f"{logged}/{number}", instruct={"status": 500}, status=500)
            eventually(lambda: f"{logged}/{number}" in log_of(site, access_lines, reached), "the request is in the log")
            return f"{not_logged}/{number}" not in log_of(site, access_lines, reached)

        eventually(filtered, "the filter is in force")


def test_access_logs_are_switched_off(site: Any, reached: dict[str, str], access_lines: Any) -> None:
    call(site, reached, "/before")
    eventually(lambda: "/before" in log_of(site, access_lines, reached), "requests are logged")
    with site.applied(TELEMETRY + "  accessLogging: [{providers: [{name: envoy}], disabled: true}]\n", ""):
        number = 0

        def silent() -> bool:
            """A later request's metric shows that an earlier one's log would be there."""
            nonlocal number
            number += 1
            call(site, reached, f"/silent/{number}")
            return f"/silent/{number}" not in log_of(site, access_lines, reached)

        eventually(lambda: all(silent() for _ in range(5)), "nothing is logged")


ZIPKIN = """
extensionProviders:
- name: test-zipkin
  zipkin: {service: spans.test, port: 80, path: /spans}
"""
COLLECTOR = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: $name}
spec:
  hosts: [spans.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: $outside_http}]
  endpoints: [{address: $outside}]
"""


@pytest.mark.covers(
    "MeshConfig.extensionProviders[].name",
    "MeshConfig.extensionProviders[].zipkin.service",
    "MeshConfig.extensionProviders[].zipkin.port",
    "MeshConfig.extensionProviders[].zipkin.path",
)
def test_spans_reach_the_collector_with_the_tags_of_ones_own(site: Any, reached: dict[str, str]) -> None:
    manifest = (
        TELEMETRY
        + """
  tracing:
  - providers: [{name: test-zipkin}]
    randomSamplingPercentage: 100
    customTags:
      mood: {literal: {value: good}}
      user: {header: {name: x-user, defaultValue: nobody}}
"""
    )
    with site.configured(ZIPKIN), site.applied(manifest, COLLECTOR):

        def spans() -> list[Any]:
            call(site, reached, "/traced", headers={"x-user": "jo"})
            recall = http("http://$outside:$outside_http/spans", instruct={"recall": True})
            reports = json.loads(site.send(substituted(recall, site.names))[0]["body"])
            found = [span for report in reports for span in json.loads(report["body"])]
            return [span for span in found if span.get("tags", {}).get("user") == "jo"]

        found = eventually(spans, "a span with our tags")
        assert found[0]["tags"]["mood"] == "good"
        assert found[0]["tags"]["http.method"] == "GET"
        assert found[0]["kind"] == "CLIENT"
