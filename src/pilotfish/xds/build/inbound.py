"""The inbound listener: what a sidecar does with the connections that come for its workload."""

from __future__ import annotations

from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.build import common, filters, names
from pilotfish.xds.build.access_log import listener_access_logs
from pilotfish.xds.build.metrics import Reporter
from pilotfish.xds.build.routes import inbound_routes
from pilotfish.xds.entries import serialise
from pilotfish.xds.settings import ProxySettings


class InboundPort(Record):
    """A port of the workload, the service port through which it is known, and how it speaks."""

    number: int
    service_port: int
    protocol: Protocol


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


def virtual_inbound(spec: VirtualInboundSpec) -> listener_pb2.Listener:
    """One or two chains for each known port, two for all others, and none for the listener's own port (a loop)."""
    own_port = listener_components_pb2.FilterChain(
        name="virtualInbound-blackhole", filters=[filters.tcp_proxy(names.BLACK_HOLE)]
    )
    own_port.filter_chain_match.destination_port.value = spec.settings.inbound_port
    listener = listener_pb2.Listener(
        name=spec.name,
        address=common.socket_address(spec.wildcard, spec.settings.inbound_port),
        filter_chains=[own_port, *_passthrough(spec)],
        traffic_direction=base_pb2.INBOUND,
        listener_filters=[filters.original_destination()],
        listener_filters_timeout=common.duration(spec.settings.detection_timeout),
        continue_on_listener_filters_timeout=True,
        access_log=listener_access_logs(spec.settings.server.logs) if spec.settings.listener_log else (),
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    for port in spec.ports:
        listener.filter_chains.extend(_chains(spec, port))
    declared = (p.number for p in spec.ports if p.protocol is not Protocol.AUTO)
    listener.listener_filters.append(filters.http_inspector(tuple(sorted({spec.settings.inbound_port, *declared}))))
    return listener


def _chains(spec: VirtualInboundSpec, port: InboundPort) -> list[listener_components_pb2.FilterChain]:
    name = names.listener(spec.wildcard, port.number)
    cluster = names.inbound(port.number)
    reporting = spec.settings.server
    found = []
    if port.protocol.is_http or port.protocol is Protocol.AUTO:
        routes = inbound_routes(port.service_port, cluster, grpc=port.protocol.is_grpc)
        http = filters.inbound_http(f"inbound_{name}", routes, port.protocol, reporting)
        found.append(_chain(name, http, port.number, sniffed=port.protocol is Protocol.AUTO))
    if not port.protocol.is_http:
        chain = _chain(name, filters.tcp_proxy(cluster, reporting, Reporter.SERVER), port.number)
        if port.protocol is Protocol.MONGO:
            chain.filters.insert(0, filters.mongo(cluster))
        found.append(chain)
    return found


def _passthrough(spec: VirtualInboundSpec) -> list[listener_components_pb2.FilterChain]:
    """For ports that no service names: HTTP where it looks like HTTP, bytes otherwise."""
    cluster = names.INBOUND_PASSTHROUGH
    reporting = spec.settings.server
    http = filters.inbound_http(cluster, inbound_routes(0, cluster, grpc=False), Protocol.AUTO, reporting)
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
