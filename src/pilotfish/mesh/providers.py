"""MeshConfig's extensionProviders (istio/api mesh/v1alpha1): the backends that Telemetry names, and what they become.

Fields have protobuf's JSON forms. Lightstep, Stackdriver and OpenCensus, which Envoy no longer speaks, and external
authorization and SDS, which report nothing, are accepted and become nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from msgspec import field

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid, required
from pilotfish.api.meta import Struct
from pilotfish.api.one_of import one_of_faults
from pilotfish.mesh import reporting
from pilotfish.mesh.durations import Duration
from pilotfish.mesh.reporting import Collector, LogSink, Pairs, Tracer

Labels = dict[str, Any]


class FileLogFormat(Struct):
    ONE_OF: ClassVar = (("text", "labels"),)

    text: str | None = None
    labels: Labels | None = None


class EnvoyFileAccessLog(Struct):
    path: str = ""
    log_format: FileLogFormat | None = None
    omit_empty_values: bool = False


class EnvoyHttpAls(Struct):
    service: str = ""
    port: int = 0
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


class EnvoyTcpAls(Struct):
    service: str = ""
    port: int = 0
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()


class OtelLogFormat(Struct):
    text: str = ""
    labels: Labels = {}


class EnvoyOtelAls(Struct):
    service: str = ""
    port: int = 0
    log_name: str = ""
    log_format: OtelLogFormat | None = None


class HttpHeader(Struct):
    ONE_OF: ClassVar = (("value", "env_name"),)

    name: str = ""
    value: str | None = None
    env_name: str | None = None


class HttpService(Struct):
    path: str = ""
    timeout: Duration | None = None
    headers: tuple[HttpHeader, ...] = ()


class GrpcService(Struct):
    timeout: Duration | None = None
    initial_metadata: tuple[HttpHeader, ...] = ()


class ResourceDetectors(Struct):
    environment: dict[str, Any] | None = None
    dynatrace: dict[str, Any] | None = None


class Opentelemetry(Struct):
    service: str = ""
    port: int = 0
    max_tag_length: int = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    service_attribute_enrichment: Literal["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"] = "ISTIO_CANONICAL"
    dynatrace_sampler: Any = None


class Zipkin(Struct):
    service: str = ""
    port: int = 0
    max_tag_length: int = 0
    enable_64bit_trace_id: bool = field(name="enable64bitTraceId", default=False)
    path: str = ""
    trace_context_option: Literal["USE_B3", "USE_B3_WITH_W3C_PROPAGATION"] = "USE_B3"
    timeout: Duration | None = None
    headers: tuple[HttpHeader, ...] = ()


class Datadog(Struct):
    service: str = ""
    port: int = 0
    max_tag_length: int = 0


class Skywalking(Struct):
    service: str = ""
    port: int = 0
    access_token: str = ""


class ExtensionProvider(Struct):
    ONE_OF: ClassVar = (
        (
            "envoy_ext_authz_http",
            "envoy_ext_authz_grpc",
            "zipkin",
            "lightstep",
            "datadog",
            "stackdriver",
            "opencensus",
            "skywalking",
            "opentelemetry",
            "prometheus",
            "envoy_file_access_log",
            "envoy_http_als",
            "envoy_tcp_als",
            "envoy_otel_als",
            "sds",
        ),
    )

    name: str
    envoy_ext_authz_http: Any = None
    envoy_ext_authz_grpc: Any = None
    zipkin: Zipkin | None = None
    lightstep: Any = None
    datadog: Datadog | None = None
    stackdriver: Any = None
    opencensus: Any = None
    skywalking: Skywalking | None = None
    opentelemetry: Opentelemetry | None = None
    prometheus: dict[str, Any] | None = None
    envoy_file_access_log: EnvoyFileAccessLog | None = None
    envoy_http_als: EnvoyHttpAls | None = None
    envoy_tcp_als: EnvoyTcpAls | None = None
    envoy_otel_als: EnvoyOtelAls | None = None
    sds: Any = None


class DefaultProviders(Struct):
    """What proxies report to where no Telemetry says it."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


BUILT_IN_LOG = "envoy"
BUILT_IN = (
    ExtensionProvider(name="prometheus", prometheus={}),
    ExtensionProvider(name="stackdriver", stackdriver={}),
    ExtensionProvider(name=BUILT_IN_LOG, envoy_file_access_log=EnvoyFileAccessLog(path="/dev/stdout")),
)
"""The providers that every mesh has; one of the user's by the same name takes its place."""


def with_built_in(given: Sequence[ExtensionProvider]) -> dict[str, ExtensionProvider]:
    """All providers by their name in lower case: providers are named without regard to case (Istio)."""
    return {provider.name.lower(): provider for provider in (*BUILT_IN, *given)}


def faults(providers: Sequence[ExtensionProvider], path: str) -> Iterator[FieldError]:
    """What Istio refuses of extension providers (pkg/config/validation: validateExtensionProvider)."""
    seen: set[str] = set()
    for position, provider in enumerate(providers):
        where = f"{path}[{position}]"
        yield from one_of_faults(provider, where)
        if not provider.name:
            yield required(f"{where}.name")
        if provider.name in seen:
            yield invalid(f"{where}.name", provider.name, "another provider has the same name")
        seen.add(provider.name)
        for kind, name in (
            ("zipkin", "zipkin"),
            ("datadog", "datadog"),
            ("skywalking", "skywalking"),
            ("opentelemetry", "opentelemetry"),
            ("envoy_http_als", "envoyHttpAls"),
            ("envoy_tcp_als", "envoyTcpAls"),
            ("envoy_otel_als", "envoyOtelAls"),
        ):
            backend = getattr(provider, kind)
            if backend is None:
                continue
            if not backend.service or (backend.service.count("/") > 1):
                why = 'name a host, or "namespace/host"'
                yield invalid(f"{where}.{name}.service", backend.service, why)
            if not 1 <= backend.port <= 65535:
                yield invalid(f"{where}.{name}.port", backend.port, "expected a port from 1 to 65535")


def log_sink(provider: ExtensionProvider) -> LogSink | None:
    """Where a provider puts access logs; None for one that takes none."""
    if (file := provider.envoy_file_access_log) is not None:
        return _file_log(file)
    if (http := provider.envoy_http_als) is not None:
        return reporting.HttpLogService(
            collector=_collector(http),
            name=http.log_name or "http_envoy_accesslog",
            filter_state=http.filter_state_objects_to_log,
            request_headers=http.additional_request_headers_to_log,
            response_headers=http.additional_response_headers_to_log,
            response_trailers=http.additional_response_trailers_to_log,
        )
    if (tcp := provider.envoy_tcp_als) is not None:
        return reporting.TcpLogService(
            _collector(tcp), tcp.log_name or "tcp_envoy_accesslog", tcp.filter_state_objects_to_log
        )
    if (otel := provider.envoy_otel_als) is not None:
        how = otel.log_format or OtelLogFormat()
        return reporting.OtelLog(
            collector=_collector(otel),
            name=otel.log_name or "otel_envoy_accesslog",
            text=how.text or reporting.LOG_FORMAT,
            labels=tuple(sorted((name, str(value)) for name, value in how.labels.items())),
        )
    return None


def _file_log(file: EnvoyFileAccessLog) -> reporting.FileLog:
    how = file.log_format or FileLogFormat()
    path = file.path or "/dev/stdout"
    if how.labels is not None:
        labels = how.labels or dict(reporting.JSON_FORMAT)
        return reporting.FileLog(path, json=json.dumps(labels, sort_keys=True), omit_empty=file.omit_empty_values)
    return reporting.FileLog(path, as_line(how.text or ""), omit_empty=file.omit_empty_values)


def as_line(text: str) -> str:
    """A text format as Istio takes it: its own where there is none, ended by a newline."""
    text = text or reporting.LOG_FORMAT
    return text if text.endswith("\n") else text + "\n"


class TracerOf(NamedTuple):
    """A tracer, and how long a path may be in its tags (0: Envoy's limit)."""

    tracer: Tracer
    max_path: int = 0


def tracer(provider: ExtensionProvider, environment: Mapping[str, str]) -> TracerOf | None:
    """How a provider takes traces; None for one that takes none.

    Headers may take their values from the control plane's `environment` (Istio: envName).
    """
    if (zipkin := provider.zipkin) is not None:
        return TracerOf(
            tracer=reporting.ZipkinTracer(
                collector=_collector(zipkin),
                path=zipkin.path or "/api/v2/spans",
                long_ids=not zipkin.enable_64bit_trace_id,
                w3c=zipkin.trace_context_option == "USE_B3_WITH_W3C_PROPAGATION",
                timeout=zipkin.timeout or 5.0,
                headers=_headers(zipkin.headers, environment),
            ),
            max_path=zipkin.max_tag_length,
        )
    if (otel := provider.opentelemetry) is not None:
        return TracerOf(tracer=_otel(otel, environment), max_path=otel.max_tag_length)
    if (datadog := provider.datadog) is not None:
        return TracerOf(tracer=reporting.DatadogTracer(_collector(datadog)), max_path=datadog.max_tag_length)
    if (skywalking := provider.skywalking) is not None:
        return TracerOf(tracer=reporting.SkyWalkingTracer(_collector(skywalking), skywalking.access_token))
    return None


def _otel(provider: Opentelemetry, environment: Mapping[str, str]) -> reporting.OtelTracer:
    found = provider.resource_detectors or ResourceDetectors()
    detectors = [name for name in ("environment", "dynatrace") if getattr(found, name) is not None]
    if provider.service_attribute_enrichment == "OTEL_SEMANTIC_CONVENTIONS" and "environment" not in detectors:
        detectors.append("environment")
    if (http := provider.http) is not None:
        path, timeout, headers = "/" + http.path.lstrip("/"), http.timeout, http.headers
        return reporting.OtelTracer(
            _collector(provider), path, timeout or 0.0, _headers(headers, environment), detectors=tuple(detectors)
        )
    grpc = provider.grpc or GrpcService()
    return reporting.OtelTracer(
        _collector(provider),
        timeout=grpc.timeout or 0.0,
        headers=_headers(grpc.initial_metadata, environment),
        detectors=tuple(detectors),
    )


def _headers(given: Sequence[HttpHeader], environment: Mapping[str, str]) -> Pairs:
    return tuple((h.name, environment.get(h.env_name, "") if h.env_name else h.value or "") for h in given)


def _collector(backend: Any) -> Collector:
    namespace, _, host = backend.service.rpartition("/")
    return Collector(host, backend.port, namespace)
