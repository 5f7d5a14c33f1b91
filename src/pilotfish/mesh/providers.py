"""What MeshConfig's extensionProviders become: places for access logs, and tracers.

Lightstep, Stackdriver and OpenCensus, which Envoy no longer speaks, and external authorization and SDS, which report
nothing, become nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pilotfish.mesh import reporting
from pilotfish.mesh.extension_providers import (
    EnvoyFileAccessLog,
    ExtensionProvider,
    FileLogFormat,
    GrpcService,
    HttpHeader,
    HttpService,
    Opentelemetry,
    OtelLogFormat,
    ResourceDetectors,
)
from pilotfish.mesh.reporting import Collector, LogSink, Pairs, Tracer

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
        return reporting.OtelTracer(
            _collector(provider),
            _path(http),
            http.timeout or 0.0,
            _headers(http.headers, environment),
            tuple(detectors),
            _sampler(provider, environment),
        )
    grpc = provider.grpc or GrpcService()
    return reporting.OtelTracer(
        _collector(provider),
        timeout=grpc.timeout or 0.0,
        headers=_headers(grpc.initial_metadata, environment),
        detectors=tuple(detectors),
        sampler=_sampler(provider, environment),
    )


def _sampler(provider: Opentelemetry, environment: Mapping[str, str]) -> reporting.DynatraceSampler | None:
    """It asks its own server, else that to which spans go over HTTP."""
    wanted = provider.dynatrace_sampler
    if wanted is None:
        return None
    found = reporting.DynatraceSampler(wanted.tenant, wanted.cluster_id, wanted.root_spans_per_minute)
    api = wanted.http_service
    http = (api.http or HttpService()) if api is not None else provider.http
    if http is None:
        return None
    return msgspec.structs.replace(
        found,
        collector=_collector(api) if api is not None else None,
        path=_path(http) if api is not None else found.path,
        timeout=http.timeout or 0.0,
        headers=_headers(http.headers, environment),
    )


def _path(http: HttpService) -> str:
    return "/" + http.path.lstrip("/")


def _headers(given: Sequence[HttpHeader], environment: Mapping[str, str]) -> Pairs:
    return tuple((h.name, environment.get(h.env_name, "") if h.env_name else h.value or "") for h in given)


def _collector(backend: Any) -> Collector:
    namespace, _, host = backend.service.rpartition("/")
    return Collector(host, backend.port, namespace)
