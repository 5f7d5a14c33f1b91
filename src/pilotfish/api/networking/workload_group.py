"""WorkloadGroup (networking/v1alpha3/workload_group.proto)."""

from __future__ import annotations

from typing import ClassVar

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.workload_entry import WorkloadEntrySpec


class WorkloadMetadata(Struct):
    """What each WorkloadEntry of the group gets."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class HTTPHeader(Struct):
    name: str = ""
    value: str = ""


class HTTPHealthCheck(Struct):
    port: UInt32
    path: str = ""
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPHealthCheck(Struct):
    port: UInt32
    host: str = ""


class ExecHealthCheck(Struct):
    """Healthy while the command ends with 0."""

    command: tuple[str, ...]


class GrpcHealthCheck(Struct):
    """grpc.health.v1; `service` is the name that is asked for."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Struct):
    ONE_OF: ClassVar = (("http_get", "tcp_socket", "exec", "grpc"),)

    initial_delay_seconds: int = 0
    timeout_seconds: int = 0
    period_seconds: int = 0
    success_threshold: int = 0
    failure_threshold: int = 0
    http_get: HTTPHealthCheck | None = None
    tcp_socket: TCPHealthCheck | None = None
    exec: ExecHealthCheck | None = None
    grpc: GrpcHealthCheck | None = None


class WorkloadGroupSpec(Struct):
    template: WorkloadEntrySpec
    metadata: WorkloadMetadata | None = None
    probe: ReadinessProbe | None = None


class WorkloadGroup(Object, kw_only=True):
    spec: WorkloadGroupSpec
    status: IstioStatus = IstioStatus()
