"""Inbound listeners: what a sidecar does with the connections that come for its workload."""

from __future__ import annotations

from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.mesh.servers import Termination
from pilotfish.xds import source
from pilotfish.xds.build import common, filters, names
from pilotfish.xds.build.access_log import listener_access_logs
from pilotfish.xds.build.metrics import Reporter
from pilotfish.xds.build.routes import inbound_routes
from pilotfish.xds.build.tls import HTTP_ALPN, server_socket
from pilotfish.xds.entries import serialise
from pilotfish.xds.settings import ProxySettings


class InboundPort(Record):
    """A port of the workload, the service port through which it is known, and how it speaks.

    `bind` is the address in the names of its chains, "" for the usual. `tls` ends here; nothing else is taken then.
    """

    number: int
    service_port: int
    protocol: Protocol
    bind: str = ""
    tls: Termination | None = None


class VirtualInboundSpec(Record):
    """The listener to which all captured inbound connections come. Pods of one deployment have equal specs."""

    type_url: ClassVar[str] = source.LISTENER

    wildcard: str
    ports: tuple[InboundPort, ...]
    settings: ProxySettings

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


def virtual_inbound(spec: VirtualInboundSpec) -> listener_pb2.Listener:
    """One or two chains for each known port, two for all others, and none for the listener's own port (a loop)."""
    own_port = listener_components_pb2.FilterChain(
        name="virtualInbound-blackhole", filters=[filters.tcp_proxy(names.BLACK_HOLE)]
    )
    own_port.filter_chain_match.destination_port.value = spec.settings.inbound_port
    listener = _listener(spec.name, spec.wildcard, spec.settings.inbound_port, spec.settings)
    listener.filter_chains.extend((own_port, *_passthrough(spec)))
    for port in spec.ports:
        listener.filter_chains.extend(_chains(spec.wildcard, port, spec.settings))
    listener.listener_filters.append(filters.original_destination())
    if encrypted := tuple(sorted(p.number for p in spec.ports if p.tls)):
        listener.listener_filters.append(filters.tls_inspector(encrypted))
    declared = (p.number for p in spec.ports if p.protocol is not Protocol.AUTO)
    listener.listener_filters.append(filters.http_inspector(tuple(sorted({spec.settings.inbound_port, *declared}))))
    return listener


def bound_inbound(spec: BoundInboundSpec) -> listener_pb2.Listener:
    """A listener with the chains of one port."""
    listener = _listener(spec.name, spec.address, spec.port.number, spec.settings)
    listener.filter_chains.extend(_chains(spec.address, spec.port, spec.settings))
    if spec.port.tls is not None:
        listener.listener_filters.append(filters.tls_inspector())
    if spec.port.protocol is Protocol.AUTO:
        listener.listener_filters.append(filters.http_inspector())
    return listener


def _listener(name: str, address: str, port: int, settings: ProxySettings) -> listener_pb2.Listener:
    listener = listener_pb2.Listener(
        name=name,
        address=common.socket_address(address, port),
        traffic_direction=base_pb2.INBOUND,
        listener_filters_timeout=common.duration(settings.detection_timeout),
        continue_on_listener_filters_timeout=True,
        access_log=listener_access_logs(settings.server.logs) if settings.listener_log else (),
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    return listener


def _chains(address: str, port: InboundPort, settings: ProxySettings) -> list[listener_components_pb2.FilterChain]:
    name = names.listener(port.bind or address, port.number)
    cluster = names.inbound(port.number)
    reporting = settings.server
    found = []
    if port.protocol.is_http or port.protocol is Protocol.AUTO:
        routes = inbound_routes(port.service_port, cluster, grpc=port.protocol.is_grpc)
        http = filters.inbound_http(f"inbound_{name}", routes, port.protocol, reporting, settings.http)
        found.append(_chain(name, http, port.number, sniffed=port.protocol is Protocol.AUTO))
    if not port.protocol.is_http:
        chain = _chain(name, filters.tcp_proxy(cluster, reporting, Reporter.SERVER), port.number)
        if port.protocol is Protocol.MONGO:
            chain.filters.insert(0, filters.mongo(cluster))
        found.append(chain)
    if port.tls is not None:
        for chain in found:
            chain.filter_chain_match.transport_protocol = "tls"
            chain.transport_socket.CopyFrom(server_socket(settings.tls_defaults.applied(port.tls), HTTP_ALPN))
    return found


def _passthrough(spec: VirtualInboundSpec) -> list[listener_components_pb2.FilterChain]:
    """For ports that no service names: HTTP where it looks like HTTP, bytes otherwise."""
    cluster = names.INBOUND_PASSTHROUGH
    reporting = spec.settings.server
    routes = inbound_routes(0, cluster, grpc=False)
    http = filters.inbound_http(cluster, routes, Protocol.AUTO, reporting, spec.settings.http)
    return [
        _chain("virtualInbound-catchall-http", http, 0, sniffed=True),
        _chain(names.VIRTUAL_INBOUND, filters.tcp_proxy(cluster, reporting, Reporter.SERVER), 0),
    ]


def _chain(
    name: str, network_filter: listener_components_pb2.Filter, port: int, *, sniffed: bool = False
) -> listener_components_pb2.FilterChain:
    """A chain for plaintext. Mutual TLS adds its own chains beside it, which match the transport protocol "tls"."""
    chain = listener_components_pb2.FilterChain(name=name, filters=[network_filter])
    chain.filter_chain_match.transport_protocol = "raw_buffer"
    if port:
        chain.filter_chain_match.destination_port.value = port
    if sniffed:
        chain.filter_chain_match.application_protocols.extend(filters.PLAINTEXT_HTTP)
    return chain
