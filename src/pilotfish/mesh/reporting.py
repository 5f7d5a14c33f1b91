"""What a proxy reports of its traffic: logs, metrics and traces, as records that configuration is built from.

They hold nothing of one workload alone, so that all workloads that report alike share their configuration.
"""

from __future__ import annotations

from pilotfish.mesh.records import Record

Pairs = tuple[tuple[str, str], ...]

LOG_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
"""Istio's default text format (pilot/pkg/model EnvoyTextLogFormat)."""

JSON_FORMAT: Pairs = (
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
)
"""Istio's default labels of a log in JSON."""


class Collector(Record):
    """A host of the mesh that takes reports in. `namespace` is that of its service where the provider names one.

    Where the mesh has no such host, or the port is 0, a `cluster` of the proxy's own bootstrap may lead to it.
    """

    host: str = ""
    port: int = 0
    namespace: str = ""
    cluster: str = ""


# Logs


class FileLog(Record):
    """A line for each request; `json`, a JSON object of (key, format or object), replaces `text`."""

    path: str
    text: str = LOG_FORMAT
    json: str = ""
    omit_empty: bool = False


class HttpLogService(Record):
    """Envoy's access log service, for requests (envoyHttpAls)."""

    collector: Collector
    name: str
    filter_state: tuple[str, ...] = ()
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()
    response_trailers: tuple[str, ...] = ()


class TcpLogService(Record):
    """Envoy's access log service, for connections (envoyTcpAls)."""

    collector: Collector
    name: str
    filter_state: tuple[str, ...] = ()


class OtelLog(Record):
    """OpenTelemetry log records over gRPC; `text` is their body, `labels` their attributes."""

    collector: Collector
    name: str
    text: str = LOG_FORMAT
    labels: Pairs = ()


LogSink = FileLog | HttpLogService | TcpLogService | OtelLog


class AccessLog(Record):
    """Where a line goes for each request, and the CEL expression that tells which (empty: all)."""

    sink: LogSink
    expression: str = ""


# Metrics


class MetricRule(Record):
    """What is otherwise about a metric, by Istio's name without "istio_": it is dropped, or has other labels.

    `tags` hold a CEL expression for each label, or None where the label is taken away.
    """

    metric: str
    dropped: bool = False
    tags: tuple[tuple[str, str | None], ...] = ()


class Metrics(Record):
    """Istio's standard metrics, with what is otherwise about them; a rule for each metric at most."""

    rules: tuple[MetricRule, ...] = ()

    def rule(self, metric: str) -> MetricRule:
        return next((rule for rule in self.rules if rule.metric == metric), MetricRule(metric))


# Traces


class ZipkinTracer(Record):
    """Spans as Zipkin's JSON over HTTP. `timeout` in seconds."""

    collector: Collector
    path: str = "/api/v2/spans"
    long_ids: bool = True
    w3c: bool = False
    timeout: float = 5.0
    headers: Pairs = ()


class DynatraceSampler(Record):
    """Which traces are kept, asked over HTTP of a server of Dynatrace; without a collector, of the tracer's own."""

    tenant: str
    cluster: int
    root_spans_per_minute: int = 0
    collector: Collector | None = None
    path: str = "/api/v2/samplingConfiguration"
    timeout: float = 0.0
    headers: Pairs = ()


class OtelTracer(Record):
    """Spans over OTLP: gRPC, or HTTP where `path` is not None. `timeout` in seconds, 0 for Envoy's own."""

    collector: Collector
    path: str | None = None
    timeout: float = 0.0
    headers: Pairs = ()
    detectors: tuple[str, ...] = ()
    """Of resource attributes besides those of the workload: "environment", "dynatrace"."""
    sampler: DynatraceSampler | None = None
    """Decides in the place of the percentage."""

    @property
    def sampled_by(self) -> Collector | None:
        """A server of the sampler's own."""
        return self.sampler.collector if self.sampler is not None else None


class DatadogTracer(Record):
    """Spans to a Datadog agent."""

    collector: Collector


class SkyWalkingTracer(Record):
    """Segments to a SkyWalking backend, over gRPC."""

    collector: Collector
    token: str = ""


Tracer = ZipkinTracer | OtelTracer | DatadogTracer | SkyWalkingTracer


class Tag(Record):
    """A tag of a span. `kind` is "literal", "environment", "header" or "formatter", and says what `value` is."""

    name: str
    kind: str
    value: str
    default: str = ""


class Tracing(Record):
    """Spans for a part of the requests, `sampling` percent of those that nobody has decided about.

    `id_decides`: the request id carries the decision. `istio_tags` say which workload the proxy is. `propagates`: the
    workload gets the trace's headers. `max_path` is how many characters of a path a tag shows, 0 Envoy's own limit.
    """

    tracer: Tracer
    sampling: float = 1.0
    tags: tuple[Tag, ...] = ()
    istio_tags: bool = True
    id_decides: bool = True
    propagates: bool = True
    max_path: int = 0


class Reporting(Record):
    """All that a proxy reports of the traffic in one direction.

    `peers`: a client tells the server in a header who it is, and a server takes that in, for the metrics of both.
    """

    logs: tuple[AccessLog, ...] = ()
    metrics: Metrics | None = None
    tracing: Tracing | None = None
    peers: bool = False

    def collectors(self) -> frozenset[Collector]:
        """What takes this in."""
        found = {log.sink.collector for log in self.logs if not isinstance(log.sink, FileLog)}
        if self.tracing is not None:
            found.add(self.tracing.tracer.collector)
            if isinstance(self.tracing.tracer, OtelTracer) and self.tracing.tracer.sampled_by is not None:
                found.add(self.tracing.tracer.sampled_by)
        return frozenset(found)


NOTHING = Reporting()
