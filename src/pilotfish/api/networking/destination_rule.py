"""DestinationRule (networking/v1alpha3/destination_rule.proto)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from pilotfish.api.istio_types import Duration, IstioStatus, Percentage, UInt32, WorkloadSelector
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings
from pilotfish.api.networking.destination import PortSelector
from pilotfish.api.networking.load_balancer import LoadBalancerSettings
from pilotfish.api.networking.tls import ClientTLSSettings

ErrorCode = Annotated[int, Meta(ge=100, le=599, description="an HTTP status from 100 to 599")]


class OutlierDetection(Struct):
    """When an endpoint is left out, and for how long."""

    consecutive_errors: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = field(name="consecutive5xxErrors", default=None)
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: int = 0
    min_health_percent: int = 0
    outlier_detection_http_error_codes: tuple[ErrorCode, ...] = ()


class TunnelSettings(Struct):
    """TCP inside of HTTP CONNECT or POST; `protocol` is CONNECT when it is empty."""

    target_host: str
    target_port: UInt32
    protocol: str = ""


class ProxyProtocol(Struct):
    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Struct):
    percent: Percentage | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class PortTrafficPolicy(Struct):
    """The policy of one port; what it leaves out is Envoy's default and not the host's policy."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicy(Struct):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Struct):
    """The endpoints whose labels hold all of these."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Struct):
    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(Object, kw_only=True):
    spec: DestinationRuleSpec
    status: IstioStatus = IstioStatus()
