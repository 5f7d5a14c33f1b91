"""Sidecar (networking/v1alpha3/sidecar.proto)."""

from __future__ import annotations

from typing import Literal

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings
from pilotfish.api.networking.destination import Destination
from pilotfish.api.networking.tls import ServerTLSSettings
from pilotfish.api.networking.workload_selector import WorkloadSelector

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
OutboundMode = Literal["REGISTRY_ONLY", "ALLOW_ANY"]


class SidecarPort(Struct):
    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IstioIngressListener(Struct):
    """What the workload serves; `default_endpoint` is where its program listens."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Struct):
    """What the workload calls; `hosts` are "<namespace>/<host>", where either may be a wildcard."""

    hosts: tuple[str, ...]
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"


class OutboundTrafficPolicy(Struct):
    mode: OutboundMode = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class SidecarSpec(Struct):
    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(Object):
    spec: SidecarSpec = SidecarSpec()
    status: IstioStatus = IstioStatus()
