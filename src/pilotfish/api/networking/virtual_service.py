"""VirtualService (networking/v1alpha3/virtual_service.proto); its HTTP routes are in `http_route`."""

from __future__ import annotations

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.destination import RouteDestination
from pilotfish.api.networking.http_route import HTTPRoute


class L4MatchAttributes(Struct):
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TCPRoute(Struct):
    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class TLSMatchAttributes(Struct):
    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSRoute(Struct):
    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Struct):
    """`gateways` are "<namespace>/<name>", "<name>" or "mesh", which is what none at all means; without hosts it is a
    delegate, whose HTTP routes another VirtualService refers to."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Object):
    spec: VirtualServiceSpec = VirtualServiceSpec()
    status: IstioStatus = IstioStatus()
