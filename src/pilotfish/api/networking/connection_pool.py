"""The limits of connections to one host (networking/v1alpha3/destination_rule.proto: ConnectionPoolSettings)."""

from __future__ import annotations

from typing import Literal

from pilotfish.api.istio_types import Duration, UInt32
from pilotfish.api.meta import Struct

H2UpgradePolicy = Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]


class TcpKeepalive(Struct):
    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Struct):
    max_connections: int = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class ConnectionKeepalive(Struct):
    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Struct):
    """0 leaves a limit to Envoy's default."""

    http1_max_pending_requests: int = 0
    http2_max_requests: int = 0
    max_requests_per_connection: int = 0
    max_retries: int = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: H2UpgradePolicy = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: int = 0
    http2_keep_alive: ConnectionKeepalive | None = None


class ConnectionPoolSettings(Struct):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None
