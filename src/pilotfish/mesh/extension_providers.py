"""MeshConfig's extensionProviders (istio/api mesh/v1alpha1): the backends that Telemetry names.

Fields have protobuf's JSON forms. What becomes of them is in `providers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from msgspec import field

from pilotfish.api.durations import Duration
from pilotfish.api.errors import FieldError
from pilotfish.api.faults import invalid, required
from pilotfish.api.meta import Struct
from pilotfish.api.one_of import one_of_faults

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


class DynatraceApi(Struct):
    service: str = ""
    port: int = 0
    http: HttpService | None = None


class DynatraceSampler(Struct):
    """`http_service` is where sampling is configured, if not at the provider's own server."""

    tenant: str = ""
    cluster_id: int = 0
    root_spans_per_minute: int = 0
    http_service: DynatraceApi | None = None


class Opentelemetry(Struct):
    service: str = ""
    port: int = 0
    max_tag_length: int = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    service_attribute_enrichment: Literal["ISTIO_CANONICAL", "OTEL_SEMANTIC_CONVENTIONS"] = "ISTIO_CANONICAL"
    dynatrace_sampler: DynatraceSampler | None = None


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
