"""What DestinationRules say of connections that a proxy passes on byte by byte: it stands in the listener.

Istio: buildOutboundNetworkFiltersWithSingleDestination, tunnelingconfig.Apply.
"""

from __future__ import annotations

from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2

from pilotfish.api.durations import parse_duration
from pilotfish.api.networking.destination_rule import TrafficPolicy, TunnelSettings
from pilotfish.mesh.records import Record
from pilotfish.xds.build import common


class TcpPolicy(Record):
    """Durations as the API writes them. `by_source`: one client's connections go to one endpoint."""

    idle_timeout: str | None = None
    max_duration: str | None = None
    by_source: bool = False
    tunnel: TunnelSettings | None = None


NOTHING_SAID = TcpPolicy()


def tcp_policy(said: TrafficPolicy) -> TcpPolicy:
    """What a policy says of connections."""
    tcp = said.connection_pool.tcp if said.connection_pool else None
    hashing = said.load_balancer.consistent_hash if said.load_balancer else None
    return TcpPolicy(
        idle_timeout=tcp.idle_timeout if tcp else None,
        max_duration=tcp.max_connection_duration if tcp else None,
        by_source=bool(hashing and hashing.use_source_ip),
        tunnel=said.tunnel,
    )


def hold_to(config: tcp_proxy_pb2.TcpProxy, policy: TcpPolicy) -> None:
    """Have a TCP proxy do as a policy says."""
    if policy.idle_timeout is not None:
        config.idle_timeout.CopyFrom(common.duration(parse_duration(policy.idle_timeout)))
    if policy.max_duration is not None:
        config.max_downstream_connection_duration.CopyFrom(common.duration(parse_duration(policy.max_duration)))
    if policy.by_source:
        config.hash_policy.add(source_ip=hash_policy_pb2.HashPolicy.SourceIp())
    if policy.tunnel is not None:
        host = policy.tunnel.target_host
        address = f"[{host}]" if ":" in host else host
        config.tunneling_config.hostname = f"{address}:{policy.tunnel.target_port}"
        config.tunneling_config.use_post = policy.tunnel.protocol == "POST"
