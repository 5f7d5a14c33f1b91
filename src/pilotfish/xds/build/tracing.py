"""Tracing of an HTTP connection manager: which requests, with which tags, and where the spans go."""

from __future__ import annotations

import functools

from envoy.config.core.v3 import base_pb2, extension_pb2, http_service_pb2
from envoy.config.trace.v3 import datadog_pb2, http_tracer_pb2, opentelemetry_pb2, skywalking_pb2, zipkin_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    dynatrace_resource_detector_pb2,
    environment_resource_detector_pb2,
)
from envoy.extensions.tracers.opentelemetry.samplers.v3 import dynatrace_sampler_pb2
from envoy.type.tracing.v3 import custom_tag_pb2
from google.protobuf.message import Message

from pilotfish.api.peer import UNKNOWN, Variable
from pilotfish.mesh.reporting import (
    Collector,
    DatadogTracer,
    DynatraceSampler,
    OtelTracer,
    Pairs,
    SkyWalkingTracer,
    Tag,
    Tracer,
    Tracing,
    ZipkinTracer,
)
from pilotfish.xds.build import common, later, names
from pilotfish.xds.build.access_log import grpc_service

_ISTIO_TAGS = {
    "istio.canonical_revision": (Variable.REVISION, "latest"),
    "istio.canonical_service": (Variable.SERVICE, UNKNOWN),
    "istio.cluster_id": (Variable.CLUSTER, UNKNOWN),
    "istio.mesh_id": (Variable.MESH, UNKNOWN),
    "istio.namespace": (Variable.NAMESPACE, "default"),
}
_DETECTORS = {
    "environment": environment_resource_detector_pb2.EnvironmentResourceDetectorConfig,
    "dynatrace": dynatrace_resource_detector_pb2.DynatraceResourceDetectorConfig,
}
_DEFAULT_TIMEOUT = 5.0


def trace(manager: hcm_pb2.HttpConnectionManager, tracing: Tracing | None) -> None:
    """Have a connection manager report spans; None: none, and no word of it to anybody."""
    if tracing is None:
        return
    manager.tracing.CopyFrom(_tracing(tracing))
    request_ids = uuid_pb2.UuidRequestIdConfig()
    request_ids.use_request_id_for_trace_sampling.value = tracing.id_decides
    manager.request_id_extension.typed_config.CopyFrom(common.any_of(request_ids))


@functools.lru_cache(maxsize=64)
def _tracing(tracing: Tracing) -> hcm_pb2.HttpConnectionManager.Tracing:
    name, config = _tracer(tracing.tracer)
    found = hcm_pb2.HttpConnectionManager.Tracing(
        custom_tags=sorted(_tags(tracing), key=lambda tag: tag.tag),
        provider=http_tracer_pb2.Tracing.Http(name=f"envoy.tracers.{name}", typed_config=common.any_of(config)),
    )
    found.client_sampling.value = found.overall_sampling.value = 100.0
    found.random_sampling.value = tracing.sampling
    if tracing.max_path:
        found.max_path_tag_length.value = tracing.max_path
    if isinstance(tracing.tracer, SkyWalkingTracer):
        found.spawn_upstream_span.value = True
    return found if tracing.propagates else later.with_true(found, later.NO_CONTEXT_PROPAGATION)


def _tags(tracing: Tracing) -> list[custom_tag_pb2.CustomTag]:
    tags = {tag.name: _tag(tag) for tag in tracing.tags}
    if tracing.istio_tags:
        for name, (variable, default) in _ISTIO_TAGS.items():
            tags.setdefault(name, _tag(Tag(name, "environment", variable.value, default)))
    return list(tags.values())


def _tag(tag: Tag) -> custom_tag_pb2.CustomTag:
    found = custom_tag_pb2.CustomTag(tag=tag.name)
    match tag.kind:
        case "environment":
            found.environment.name, found.environment.default_value = tag.value, tag.default
        case "header":
            found.request_header.name, found.request_header.default_value = tag.value, tag.default
        case "formatter":
            found.value = tag.value
        case _:
            found.literal.value = tag.value
    return found


def _tracer(tracer: Tracer) -> tuple[str, Message]:
    """The extension's name and its configuration."""
    host, cluster = tracer.collector.host, names.leading_to(tracer.collector)
    match tracer:
        case ZipkinTracer():
            return "zipkin", _zipkin(tracer)
        case OtelTracer():
            return "opentelemetry", _otel(tracer)
        case DatadogTracer():
            # The name of the service is in the proxy's environment (DD_SERVICE), which goes first.
            config = datadog_pb2.DatadogConfig(
                collector_cluster=cluster, collector_hostname=host, service_name="istio-proxy"
            )
            return "datadog", config
        case SkyWalkingTracer():
            client = skywalking_pb2.ClientConfig(backend_token=tracer.token) if tracer.token else None
            return "skywalking", skywalking_pb2.SkyWalkingConfig(
                grpc_service=grpc_service(tracer.collector), client_config=client
            )


def _zipkin(tracer: ZipkinTracer) -> zipkin_pb2.ZipkinConfig:
    config = zipkin_pb2.ZipkinConfig(
        collector_endpoint_version=zipkin_pb2.ZipkinConfig.HTTP_JSON,
        trace_id_128bit=tracer.long_ids,
        collector_service=_http(tracer.collector, tracer.path, tracer.headers, tracer.timeout),
    )
    config.shared_span_context.value = False
    if tracer.w3c:
        config.trace_context_option = zipkin_pb2.ZipkinConfig.USE_B3_WITH_W3C_PROPAGATION
    return config


def _otel(tracer: OtelTracer) -> opentelemetry_pb2.OpenTelemetryConfig:
    """Who the service is stands in the proxy's environment, where the detector finds it."""
    config = opentelemetry_pb2.OpenTelemetryConfig()
    for detector in dict.fromkeys(("environment", *tracer.detectors)):
        name = f"envoy.tracers.opentelemetry.resource_detectors.{detector}"
        config.resource_detectors.append(
            extension_pb2.TypedExtensionConfig(name=name, typed_config=common.any_of(_DETECTORS[detector]()))
        )
    if tracer.sampler is not None:
        config.sampler.name = "envoy.tracers.opentelemetry.samplers.dynatrace"
        config.sampler.typed_config.CopyFrom(common.any_of(_sampler(tracer, tracer.sampler)))
    if tracer.path is not None:
        config.http_service.CopyFrom(
            _http(tracer.collector, tracer.path, tracer.headers, tracer.timeout or _DEFAULT_TIMEOUT)
        )
        return config
    config.grpc_service.CopyFrom(grpc_service(tracer.collector))
    config.grpc_service.initial_metadata.extend(_header_values(tracer.headers))
    if tracer.timeout:
        config.grpc_service.timeout.CopyFrom(common.duration(tracer.timeout))
    return config


def _sampler(tracer: OtelTracer, sampler: DynatraceSampler) -> dynatrace_sampler_pb2.DynatraceSamplerConfig:
    collector = sampler.collector or tracer.collector
    return dynatrace_sampler_pb2.DynatraceSamplerConfig(
        tenant=sampler.tenant,
        cluster_id=sampler.cluster,
        root_spans_per_minute=sampler.root_spans_per_minute,
        http_service=_http(collector, sampler.path, sampler.headers, sampler.timeout or _DEFAULT_TIMEOUT),
    )


def _http(collector: Collector, path: str, headers: Pairs, timeout: float) -> http_service_pb2.HttpService:
    service = http_service_pb2.HttpService(
        request_headers_to_add=[
            base_pb2.HeaderValueOption(
                header=value, append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
            )
            for value in _header_values(headers)
        ]
    )
    service.http_uri.uri = f"http://{collector.host}{path}"
    service.http_uri.cluster = names.leading_to(collector)
    service.http_uri.timeout.CopyFrom(common.duration(timeout))
    return service


def _header_values(headers: Pairs) -> list[base_pb2.HeaderValue]:
    return [base_pb2.HeaderValue(key=name, value=value) for name, value in headers]
