"""The listeners of gateways: plain HTTP, TLS by server name, and bytes (Istio: buildGatewayListeners)."""

from __future__ import annotations

from typing import ClassVar

from envoy.config.core.v3 import address_pb2, base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2

from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Record
from pilotfish.mesh.reporting import Reporting
from pilotfish.mesh.servers import Termination
from pilotfish.xds import source
from pilotfish.xds.build import common, filters, listener_filters, names
from pilotfish.xds.build.access_log import listener_access_logs
from pilotfish.xds.build.http_settings import AS_EVER, HttpSettings
from pilotfish.xds.build.tcp_policy import NOTHING_SAID, TcpPolicy
from pilotfish.xds.build.tls import HTTP_ALPN, server_socket
from pilotfish.xds.entries import serialise
from pilotfish.xds.settings import Edge

HANDSHAKE_TIMEOUT = 15.0
"""Seconds that a TLS handshake may take (Istio): clients that never finish one would fill the memory."""

_UNIX = "unix://"


class RoutedChain(Record):
    """Requests by a route configuration; for TLS that is ended here, of these server names (none: of any)."""

    route: str
    protocol: Protocol
    stat_prefix: str = ""
    server_names: tuple[str, ...] = ()
    termination: Termination | None = None


class BytesChain(Record):
    """Bytes to clusters by weight. With `alpn` only connections that offer one of these protocols."""

    clusters: tuple[tuple[str, int], ...]
    server_names: tuple[str, ...] = ()
    termination: Termination | None = None
    alpn: tuple[str, ...] = ()
    policy: TcpPolicy = NOTHING_SAID


GatewayChain = RoutedChain | BytesChain


class GatewayListenerSpec(Record):
    """A listener of a gateway. `address` may be a Unix socket, "unix:///path"."""

    type_url: ClassVar[str] = source.LISTENER

    address: str
    port: int
    chains: tuple[GatewayChain, ...]
    edge: Edge
    reporting: Reporting
    listener_log: bool
    """Whether connections that no chain matched are logged, too."""
    http: HttpSettings = AS_EVER

    @property
    def name(self) -> str:
        return names.listener(self.address, self.port)

    def body(self) -> bytes:
        return serialise(gateway_listener(self))


def gateway_listener(spec: GatewayListenerSpec) -> listener_pb2.Listener:
    """The listener; Envoy closes connections that match no chain."""
    listener = listener_pb2.Listener(
        name=spec.name,
        address=_address(spec),
        traffic_direction=base_pb2.OUTBOUND,
        filter_chains=[_chain(chain, spec) for chain in spec.chains],
        access_log=listener_access_logs(spec.reporting.logs) if spec.listener_log else (),
    )
    listener.max_connections_to_accept_per_socket_event.value = 1
    if (limit := spec.http.connections.listener_per_connection_buffer_limit_bytes) is not None:
        listener.per_connection_buffer_limit_bytes.value = limit
    if spec.edge.proxy_protocol:
        listener.listener_filters.append(listener_filters.proxy_protocol())
    if any(chain.server_names or chain.termination is not None for chain in spec.chains):
        listener.listener_filters.append(listener_filters.tls_inspector())
    return listener


def _address(spec: GatewayListenerSpec) -> address_pb2.Address:
    if spec.address.startswith(_UNIX):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=spec.address.removeprefix(_UNIX)))
    return common.socket_address(spec.address, spec.port)


def _chain(chain: GatewayChain, spec: GatewayListenerSpec) -> listener_components_pb2.FilterChain:
    if isinstance(chain, RoutedChain):
        prefix = chain.stat_prefix or f"outbound_{spec.name}"
        handler = filters.gateway_http(prefix, chain.route, chain.protocol, spec.edge, spec.reporting, spec.http)
    else:
        handler = filters.weighted_tcp_proxy(chain.clusters, spec.reporting, chain.policy)
    built = listener_components_pb2.FilterChain(filters=[handler])
    names_matched = () if "*" in chain.server_names else chain.server_names
    if names_matched:
        built.filter_chain_match.server_names.extend(names_matched)
    if isinstance(chain, BytesChain) and chain.alpn:
        built.filter_chain_match.application_protocols.extend(chain.alpn)
    if chain.termination is not None:
        built.transport_socket.CopyFrom(server_socket(chain.termination, HTTP_ALPN))
        built.transport_socket_connect_timeout.CopyFrom(common.duration(HANDSHAKE_TIMEOUT))
    return built
