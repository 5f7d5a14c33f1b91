"""Telemetry on the wire: Istio's metrics with the right labels, and spans and logs that reach a collector."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from pilotfish.home import Home

pytestmark = pytest.mark.root

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
ALS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>[\d.e+]+)$", re.MULTILINE)


class Collector:
    """Takes reports over gRPC and HTTP, on this machine, and keeps their bytes by what they were sent to."""

    def __init__(self) -> None:
        self.taken: dict[str, list[bytes]] = defaultdict(list)
        taken = self.taken

        class Methods(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
                def take(requests: Iterator[bytes], context: Any) -> bytes:
                    for request in requests:
                        taken[details.method].append(request)
                    return b""

                return grpc.stream_unary_rpc_method_handler(take)

        class Spans(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken[self.path].append(self._body())
                self.send_response(202)
                self.end_headers()

            def _body(self) -> bytes:
                if "content-length" in self.headers:
                    return self.rfile.read(int(self.headers["content-length"]))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                return body

            def log_message(self, *_: Any) -> None:
                pass

        self._grpc = grpc.server(futures.ThreadPoolExecutor(16), handlers=[Methods()])
        self.grpc_port = self._grpc.add_insecure_port("0.0.0.0:0")
        self._grpc.start()
        self._http = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Spans)
        self.http_port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._grpc.stop(None)
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def collector(hello: Any) -> Iterator[Collector]:
    """A collector that is the host collector.test of the mesh."""
    found = Collector()
    try:
        yield from _reported_to(found, hello)
    finally:
        found.close()


def _reported_to(found: Collector, hello: Any) -> Iterator[Collector]:
    entry = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: collector}}
spec:
  hosts: [collector.test]
  resolution: STATIC
  ports:
  - {{number: 4317, name: grpc, protocol: GRPC, targetPort: {found.grpc_port}}}
  - {{number: 9411, name: http, protocol: HTTP, targetPort: {found.http_port}}}
  endpoints: [{{address: {Home(hello.home).settings().gateway_ip}}}]
"""
    providers = """
- {name: otel, opentelemetry: {service: collector.test, port: 4317}}
- {name: otel-http, opentelemetry: {service: collector.test, port: 9411, http: {path: /v1/traces}}}
- {name: zipkin, zipkin: {service: collector.test, port: 9411}}
- {name: als, envoyHttpAls: {service: collector.test, port: 4317}}
- {name: otel-log, envoyOtelAls: {service: collector.test, port: 4317}}
"""
    config = hello.get("configmap", "istio", "-n", "istio-system")["data"]["mesh"]
    patched = config + "extensionProviders:" + providers
    try:
        hello.apply(entry)
        hello.run("kubectl", "patch", "configmap", "istio", "-n", "istio-system", "--patch", patch(patched))
        yield found
    finally:
        hello.kubectl("delete", "telemetry", "--all")
        hello.kubectl("delete", "serviceentry", "collector", "--ignore-not-found")
        hello.run("kubectl", "patch", "configmap", "istio", "-n", "istio-system", "--patch", patch(config))


def patch(mesh: str) -> str:
    return json.dumps({"data": {"mesh": mesh}})


def metrics(mesh: Any, app: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """The series of a metric on a pod's metrics page that have these labels."""
    page = mesh.curl(f"http://{mesh.pod_ip(app)}:15090/stats/prometheus")
    found = []
    for line in LINE.finditer(page):
        has = dict(re.findall(r'(\w+)="([^"]*)"', line["labels"]))
        if line["name"] == name and labels.items() <= has.items():
            found.append((has, float(line["value"])))
    return found


def call(mesh: Any) -> None:
    assert "HTTP/1.1 200" in mesh.curl("-i", mesh.demo_url())


def test_a_call_is_counted_at_both_ends_under_istios_names(hello: Any, tools: Any) -> None:
    call(hello)
    chosen = {"request_protocol": "grpc", "response_code": "200"}
    [(client, count)] = tools.eventually(
        lambda: metrics(hello, "mesha", "istio_requests_total", reporter="source", **chosen), "mesha counts its calls"
    )
    assert count >= 1
    both = {
        "source_workload": "mesha",
        "source_workload_namespace": "default",
        "source_app": "mesha",
        "source_canonical_service": "mesha",
        "source_cluster": "Kubernetes",
        "destination_workload": "meshb",
        "destination_workload_namespace": "default",
        "destination_app": "meshb",
        "destination_canonical_service": "meshb",
        "destination_service": "AppMeshClient.mesh",
        "destination_service_name": "AppMeshClient.mesh",
        "destination_service_namespace": "default",
        "grpc_response_status": "0",
        "response_flags": "-",
    }
    assert both.items() <= client.items()
    assert client["connection_security_policy"] == "unknown"
    [(server, _)] = tools.eventually(
        lambda: metrics(hello, "meshb", "istio_requests_total", reporter="destination", **chosen),
        "meshb counts them too",
    )
    assert both.items() <= server.items()
    assert server["connection_security_policy"] == "none"
    [(inbound, _)] = metrics(hello, "mesha", "istio_requests_total", reporter="destination", response_code="200")
    assert (inbound["source_workload"], inbound["request_protocol"]) == ("unknown", "http")
    for name in ("istio_request_duration_milliseconds_count", "istio_request_bytes_sum", "istio_response_bytes_bucket"):
        assert metrics(hello, "mesha", name, reporter="source"), name
    page = hello.curl(f"http://{hello.pod_ip('mesha')}:15020/stats/prometheus")
    assert "# TYPE istio_requests_total counter" in page and "envoy_istio_" not in page


@pytest.mark.parametrize(
    ("provider", "where"), [("otel", TRACES), ("otel-http", "/v1/traces"), ("zipkin", "/api/v2/spans")]
)
def test_spans_reach_the_collector(hello: Any, tools: Any, collector: Collector, provider: str, where: str) -> None:
    hello.apply(f"""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: traced}}
spec:
  tracing:
  - providers: [{{name: {provider}}}]
    randomSamplingPercentage: 100
    customTags: {{shop: {{literal: {{value: flowers}}}}}}
""")

    def sent() -> bytes:
        call(hello)
        return b"".join(collector.taken[where])

    for word in (b"flowers", b"mesha.default", b"meshb.default", b"istio.canonical_service", b"AppMeshClient.mesh"):
        tools.eventually(lambda word=word: word in sent(), f"a span with {word!r}")  # type: ignore[misc]


@pytest.mark.parametrize(("provider", "where"), [("als", ALS), ("otel-log", LOGS)])
def test_log_entries_reach_the_collector(
    hello: Any, tools: Any, collector: Collector, provider: str, where: str
) -> None:
    hello.apply(f"""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: logged}}
spec:
  selector: {{matchLabels: {{app: mesha}}}}
  accessLogging:
  - providers: [{{name: {provider}}}]
    filter: {{expression: "request.url_path.contains('SayHello')"}}
""")

    def sent() -> bytes:
        call(hello)
        return b"".join(collector.taken[where])

    tools.eventually(lambda: b"SayHello" in sent(), "an entry for the call")
    assert b"/demo" not in sent(), "the filter leaves the others out"
