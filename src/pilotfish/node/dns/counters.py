"""What the DNS process has done since it started."""

from __future__ import annotations

import msgspec


class Counters(msgspec.Struct, rename="camel"):
    """Counts since the start. `hits` were answered by a query's bytes alone, `built` by reading it. `held` waited for a
    pod's proxy, `held_in_vain` for as long as they may.
    """

    queries: int = 0
    tcp_queries: int = 0
    hits: int = 0
    built: int = 0
    held: int = 0
    held_in_vain: int = 0
    truncated: int = 0
    unknown_in_mesh_domain: int = 0
    forwarded: int = 0
    upstream_cached: int = 0
    merged: int = 0
    no_upstream: int = 0
    upstream_failed: int = 0
    overloaded: int = 0
    dropped: int = 0
    refused: int = 0
    internal_errors: int = 0
    send_failures: int = 0
    receive_failures: int = 0
    tcp_connections: int = 0
