"""Listener filters: what looks at connections before a filter chain is chosen for them."""

from __future__ import annotations

from typing import NamedTuple

from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from google.protobuf.message import Message

from pilotfish.xds.build import common

SERVER_FIRST_PATIENCE = 1.0
"""Seconds after which a silent client is taken for one that waits for the server, where some may."""


class Ports(NamedTuple):
    """Where a listener filter looks: at these ports, or at all ports but these."""

    numbers: tuple[int, ...]
    but: bool = False


EVERYWHERE = Ports((), but=True)


def _listener_filter(name: str, config: Message) -> listener_components_pb2.ListenerFilter:
    return listener_components_pb2.ListenerFilter(
        name=f"envoy.filters.listener.{name}", typed_config=common.any_of(config)
    )


def original_destination() -> listener_components_pb2.ListenerFilter:
    """Restores the address that the client connected to before capture."""
    return _listener_filter("original_dst", original_dst_pb2.OriginalDst())


def tls_inspector(ports: Ports = EVERYWHERE) -> listener_components_pb2.ListenerFilter:
    """Reads the server name and the protocols of a TLS connection.

    Its first read is small because it is kept for each connection.
    """
    config = tls_inspector_pb2.TlsInspector()
    config.initial_read_buffer_size.value = 512
    return _on(ports, _listener_filter("tls_inspector", config))


def proxy_protocol() -> listener_components_pb2.ListenerFilter:
    """Takes the client's address from the PROXY header with which each connection begins."""
    return _listener_filter("proxy_protocol", proxy_protocol_pb2.ProxyProtocol())


def http_inspector(ports: Ports = EVERYWHERE) -> listener_components_pb2.ListenerFilter:
    """Tells HTTP from other bytes."""
    return _on(ports, _listener_filter("http_inspector", http_inspector_pb2.HttpInspector()))


def _on(ports: Ports, found: listener_components_pb2.ListenerFilter) -> listener_components_pb2.ListenerFilter:
    if ports.numbers:
        named = _for_ports(ports.numbers)
        found.filter_disabled.CopyFrom(named if ports.but else type(named)(not_match=named))
    return found


def _for_ports(ports: tuple[int, ...]) -> listener_components_pb2.ListenerFilterChainMatchPredicate:
    """Whether a connection is for one of these ports."""
    rules = [listener_components_pb2.ListenerFilterChainMatchPredicate() for _ in ports]
    for rule, port in zip(rules, ports, strict=True):
        rule.destination_port_range.start = port
        rule.destination_port_range.end = port + 1
    if len(rules) == 1:
        return rules[0]
    matched = listener_components_pb2.ListenerFilterChainMatchPredicate()
    matched.or_match.rules.extend(rules)
    return matched
