"""Gateway (networking/v1alpha3/gateway.proto)."""

from __future__ import annotations

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.tls import ServerTLSSettings


class Port(Struct):
    number: UInt32
    protocol: str
    name: str
    target_port: UInt32 = 0


class Server(Struct):
    """`hosts` are "<namespace>/<host>" or "<host>", where the namespace says whose VirtualServices may bind."""

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class GatewaySpec(Struct):
    """`selector` are labels of the gateway's pods, in any namespace."""

    servers: tuple[Server, ...] = ()
    selector: dict[str, str] = {}


class Gateway(Object):
    spec: GatewaySpec = GatewaySpec()
    status: IstioStatus = IstioStatus()
