"""Istio's telemetry.istio.io: Telemetry (telemetry/v1alpha1/telemetry.proto; v1 and v1alpha1 share one schema)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from pilotfish.api.istio_types import Duration, IstioStatus, Percentage, PolicyTargetReference, WorkloadSelector
from pilotfish.api.meta import Object, Struct

WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
IstioMetric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Struct):
    """The name of one of MeshConfig's extension providers."""

    name: str


class ModeSelector(Struct):
    mode: WorkloadMode = "CLIENT_AND_SERVER"


class Literally(Struct):
    value: str


class Environment(Struct):
    name: str
    default_value: str = ""


class RequestHeader(Struct):
    name: str
    default_value: str = ""


class Formatter(Struct):
    """An access log format of Envoy's, e.g. "%REQ(:PATH)%"."""

    value: str


class CustomTag(Struct):
    ONE_OF: ClassVar = (("literal", "environment", "header", "formatter"),)

    literal: Literally | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None
    formatter: Formatter | None = None


class Tracing(Struct):
    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Percentage | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class MetricSelector(Struct):
    ONE_OF: ClassVar = (("metric", "custom_metric"),)

    metric: IstioMetric | None = None
    custom_metric: str | None = None
    mode: WorkloadMode = "CLIENT_AND_SERVER"


class TagOverride(Struct):
    """`value` is a CEL expression."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverrides(Struct):
    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Struct):
    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverrides, ...] = ()
    reporting_interval: Duration | None = None


class LogFilter(Struct):
    """A CEL expression over Envoy's attributes; what it is false for is not logged."""

    expression: str = ""


class AccessLogging(Struct):
    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: LogFilter | None = None


class TelemetrySpec(Struct):
    ONE_OF: ClassVar = (("selector", "target_ref", "target_refs"),)

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: (
        Annotated[tuple[PolicyTargetReference, ...], Meta(max_length=16, description="at most 16 references")] | None
    ) = None
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()


class Telemetry(Object):
    spec: TelemetrySpec = TelemetrySpec()
    status: IstioStatus = IstioStatus()
