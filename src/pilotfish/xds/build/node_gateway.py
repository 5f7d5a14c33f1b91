"""The listeners of a node's gateway: node ports, for TCP and UDP."""

from __future__ import annotations

from typing import ClassVar

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2, udp_listener_config_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2 as udp_route_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import udp_proxy_pb2
from xds.core.v3 import extension_pb2
from xds.type.matcher.v3 import matcher_pb2

from pilotfish.mesh.records import Record
from pilotfish.xds import source
from pilotfish.xds.build import common, filters, names
from pilotfish.xds.entries import serialise


class NodePortSpec(Record):
    """A node port and the cluster behind it."""

    type_url: ClassVar[str] = source.LISTENER

    port: int
    cluster: str
    udp: bool

    @property
    def name(self) -> str:
        return ("udp_" if self.udp else "") + names.listener("0.0.0.0", self.port)

    def body(self) -> bytes:
        return serialise(node_port(self))


def node_port(spec: NodePortSpec) -> listener_pb2.Listener:
    """Bytes or datagrams that come to a port of the node, to the service's endpoints."""
    listener = listener_pb2.Listener(
        name=spec.name,
        address=common.socket_address("0.0.0.0", spec.port, udp=spec.udp),
        traffic_direction=base_pb2.INBOUND,
    )
    if spec.udp:
        listener.udp_listener_config.CopyFrom(udp_listener_config_pb2.UdpListenerConfig())
        listener.listener_filters.append(_udp_proxy(spec.cluster))
    else:
        listener.filter_chains.append(listener_components_pb2.FilterChain(filters=[filters.tcp_proxy(spec.cluster)]))
    return listener


def _udp_proxy(cluster: str) -> listener_components_pb2.ListenerFilter:
    route = extension_pb2.TypedExtensionConfig(
        name="route", typed_config=common.any_of(udp_route_pb2.Route(cluster=cluster))
    )
    config = udp_proxy_pb2.UdpProxyConfig(
        stat_prefix=cluster,
        matcher=matcher_pb2.Matcher(on_no_match=matcher_pb2.Matcher.OnMatch(action=route)),
    )
    return listener_components_pb2.ListenerFilter(
        name="envoy.filters.udp_listener.udp_proxy", typed_config=common.any_of(config)
    )
