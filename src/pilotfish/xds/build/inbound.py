"""Inbound listeners: what a sidecar does with the connections that come for its workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from pilotfish.mesh.mutual_tls import MtlsMode
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.mesh.servers import Termination
from pilotfish.xds import source
from pilotfish.xds.build import common, filters, listener_filters, names
from pilotfish.xds.build.access_log import listener_access_logs
from pilotfish.xds.build.metrics import Reporter
from pilotfish.xds.build.mutual_tls import Way, server_of_mesh, ways
from pilotfish.xds.build.routes import inbound_routes
from pilotfish.xds.build.tls import HTTP_ALPN, server_socket
from pilotfish.xds.entries import serialise
from pilotfish.xds.settings import ProxySettings


class InboundPort(Record):
    """A port of the workload, the service port through which it is known, how it speaks, and to whom.

    `bind` is the address in the names of its chains, "" for the usual. `tls` of its own ends here; nothing else is
    taken then. `stat_name` is what it is called in statistics, if not by its cluster; `host` the host of its service,
    or what stands for one.
    """

    number: int
    service_port: int
    protocol: Protocol
    bind: str = ""
    tls: Termination | None = None
    mtls: MtlsMode = MtlsMode.PERMISSIVE
    stat_name: str = ""
    host: str = ""


class VirtualInboundSpec(Record):
    """The listener to which all captured inbound connections come. Pods of one deployment have equal specs.

    `mtls` is for ports that no service names.
    """

    type_url: ClassVar[str] = source.LISTENER

    wildcard: str
    ports: tuple[InboundPort, ...]
    settings: ProxySettings
    mtls: MtlsMode = MtlsMode.PERMISSIVE

    @property
    def name(self) -> str:
        return names.VIRTUAL_INBOUND

    def body(self) -> bytes:
        return serialise(virtual_inbound(self))


class BoundInboundSpec(Record):
    """The listener of one port that clients call at an address of the proxy itself, since nothing captures."""

    type_url: ClassVar[str] = source.LISTENER

    address: str
    port: InboundPort
    settings: ProxySettings

    @property
    def name(self) -> str:
        return names.listener(self.address, self.port.number)

    def body(self) -> bytes:
        return serialise(bound_inbound(self))


class _Door(NamedTuple):
    """What the chains of one port have in common: those of port 0 are for every port that no service names."""

    port: InboundPort
    http_name: str
    bytes_name: str
    stat_prefix: str
    cluster: str

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways in: those without TLS, with it, where TLS of the port's own ends."""
        if self.port.tls is None:
            return ways(self.port.mtls, self.port.protocol)
        return tuple(way._replace(tls=True) for way in ways(MtlsMode.DISABLE, self.port.protocol))


def virtual_inbound(spec: VirtualInboundSpec) -> listener_pb2.Listener:
    """A chain for each way into each port and into all others, and none for the listener's own port (a loop)."""
    own_port = listener_components_pb2.FilterChain(
        name="virtualInbound-blackhole", filters=[filters.tcp_proxy(names.BLACK_HOLE)]
    )
    own_port.filter_chain_match.destination_port.value = spec.settings.inbound_port
    others = _Door(
        InboundPort(0, 0, Protocol.AUTO, mtls=spec.mtls),
        "virtualInbound-catchall-http",
        names.VIRTUAL_INBOUND,
        names.INBOUND_PASSTHROUGH,
        names.INBOUND_PASSTHROUGH,
    )
    doors = [others, *(_door(spec.wildcard, port) for port in spec.ports)]
    listener = _listener(spec.name, spec.wildcard, spec.settings.inbound_port, doors, spec.settings)
    listener.filter_chains.insert(0, own_port)
    listener.listener_filters.insert(0, listener_filters.original_destination())
    return listener


def bound_inbound(spec: BoundInboundSpec) -> listener_pb2.Listener:
    """A listener with the chains of one port."""
    door = _door(spec.address, spec.port)
    return _listener(spec.name, spec.address, spec.port.number, [door], spec.settings)


def _door(address: str, port: InboundPort) -> _Door:
    name = names.listener(port.bind or address, port.number)
    return _Door(port, name, name, f"inbound_{name}", names.inbound(port.number))


def _listener(
    name: str, address: str, port: int, doors: Sequence[_Door], settings: ProxySettings
) -> listener_pb2.Listener:
    listener = listener_pb2.Listener(
        name=name,
        address=common.socket_address(address, port),
        filter_chains=[_chain(door, way, settings) for door in doors for way in door.ways],
        traffic_direction=base_pb2.INBOUND,
        # What is TLS the HTTP inspector leaves alone, so it comes second.
        listener_filters=[
            *_inspector(listener_filters.tls_inspector, lambda way: way.tls, doors, settings),
            *_inspector(listener_filters.http_inspector, lambda way: way.sniffed, doors, settings),
        ],
        listener_filters_timeout=common.duration(_patience(doors, settings)),
        continue_on_listener_filters_timeout=True,
        access_log=listener_access_logs(settings.server.logs) if settings.listener_log else (),
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    return listener


def _inspector(
    inspector: Callable[[listener_filters.Ports], listener_components_pb2.ListenerFilter],
    asks: Callable[[Way], bool],
    doors: Sequence[_Door],
    settings: ProxySettings,
) -> Iterator[listener_components_pb2.ListenerFilter]:
    """A filter that looks at first bytes, on the ports where some way asks what it finds; none where none does."""
    asked = {door.port.number: any(map(asks, door.ways)) for door in doors}
    if 0 not in asked:
        yield from (inspector(listener_filters.EVERYWHERE) for yes in asked.values() if yes)
        return
    others = asked.pop(0)
    differing = {port for port, yes in asked.items() if yes is not others}
    if others:
        yield inspector(listener_filters.Ports(tuple(sorted({*differing, settings.inbound_port})), but=True))
    elif differing:
        yield inspector(listener_filters.Ports(tuple(sorted(differing))))


def _patience(doors: Sequence[_Door], settings: ProxySettings) -> float:
    """For how many seconds the first bytes are waited for; 0 is for ever, as Istio does it.

    A client that speaks after the server would wait as long, if it comes without TLS to a port that takes either.
    """
    if settings.detection_timeout is not None:
        return settings.detection_timeout
    silent = any(door.port.protocol.is_opaque and any(way.tls for way in door.ways) for door in doors)
    return listener_filters.SERVER_FIRST_PATIENCE if silent else 0


def _chain(door: _Door, way: Way, settings: ProxySettings) -> listener_components_pb2.FilterChain:
    port, reporting = door.port, settings.server
    chain = listener_components_pb2.FilterChain(name=door.http_name if way.http else door.bytes_name)
    chain.filter_chain_match.transport_protocol = "tls" if way.tls else "raw_buffer"
    chain.filter_chain_match.application_protocols.extend(way.protocols)
    if port.number:
        chain.filter_chain_match.destination_port.value = port.number
    if way.http:
        operation = f"{port.host}:{port.service_port}/*" if reporting.tracing is not None else ""
        routes = inbound_routes(port.service_port, door.cluster, grpc=port.protocol.is_grpc, operation=operation)
        secure = way.mutual
        handler = filters.inbound_http(door.stat_prefix, routes, port.protocol, reporting, settings.http, secure=secure)
    else:
        handler = filters.tcp_proxy(
            door.cluster, reporting, Reporter.SERVER, stat_prefix=port.stat_name, secure=way.mutual
        )
        if port.protocol is Protocol.MONGO:
            chain.filters.append(filters.mongo(door.cluster))
    chain.filters.append(handler)
    if way.mutual:
        chain.transport_socket.CopyFrom(server_of_mesh(settings.mutual_tls))
    elif port.tls is not None:
        chain.transport_socket.CopyFrom(server_socket(settings.tls_defaults.applied(port.tls), HTTP_ALPN))
    return chain
