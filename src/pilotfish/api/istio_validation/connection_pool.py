"""What Istio refuses of a connection pool (pkg/config/validation: validateConnectionPool)."""

from __future__ import annotations

from pilotfish.api.faults import forbidden, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, HTTPSettings, TCPSettings


def connection_pool(path: str, pool: ConnectionPoolSettings | None) -> Faults:
    if pool is None:
        return
    if pool.http is None and pool.tcp is None:
        yield required(path, "a connection pool has tcp or http settings")
    if pool.http:
        yield from _http(f"{path}.http", pool.http)
    if pool.tcp:
        yield from _tcp(f"{path}.tcp", pool.tcp)


def _http(path: str, http: HTTPSettings) -> Faults:
    for name, value in (
        ("http1MaxPendingRequests", http.http1_max_pending_requests),
        ("http2MaxRequests", http.http2_max_requests),
        ("maxRequestsPerConnection", http.max_requests_per_connection),
        ("maxRetries", http.max_retries),
        ("maxConcurrentStreams", http.max_concurrent_streams),
    ):
        yield from values.not_negative(f"{path}.{name}", value)
    yield from values.duration(f"{path}.idleTimeout", http.idle_timeout)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        why = "h2UpgradePolicy UPGRADE says the protocol; give one of them"
        yield forbidden(f"{path}.useClientProtocol", why)
    if keepalive := http.http2_keep_alive:
        for name, text in (("interval", keepalive.interval), ("timeout", keepalive.timeout)):
            if text is None:
                yield required(f"{path}.http2KeepAlive.{name}")
            yield from values.duration(f"{path}.http2KeepAlive.{name}", text)


def _tcp(path: str, tcp: TCPSettings) -> Faults:
    yield from values.not_negative(f"{path}.maxConnections", tcp.max_connections)
    yield from values.duration(f"{path}.connectTimeout", tcp.connect_timeout)
    yield from values.duration(f"{path}.maxConnectionDuration", tcp.max_connection_duration)
    # 0s lets a connection be idle for ever.
    yield from values.duration(f"{path}.idleTimeout", tcp.idle_timeout, zero=True)
    if keepalive := tcp.tcp_keepalive:
        yield from values.duration(f"{path}.tcpKeepalive.time", keepalive.time)
        yield from values.duration(f"{path}.tcpKeepalive.interval", keepalive.interval)
