"""What a gateway listens on: the servers of all the objects that mean it, by address and port (Istio: MergeGateways).

The oldest object has its way. On one address and port there may be any number of plain HTTP servers, which share their
routes, or of servers with TLS, which connections find by server name; or one server of bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pilotfish.mesh.records import Record
from pilotfish.mesh.servers import Server, Tls


class Speech(enum.StrEnum):
    """What the first bytes of a listener's connections are."""

    HTTP = "HTTP"
    TLS = "TLS"
    BYTES = "bytes"


class Listening(Record):
    """An address ("" for any) and port that a gateway listens on, and the servers behind it, the oldest first."""

    bind: str
    port: int
    speech: Speech
    servers: tuple[Server, ...]


class Refusal(Record):
    """A server that is not served, and why."""

    server: Server
    reason: str


class Merged(NamedTuple):
    listening: tuple[Listening, ...]
    refused: tuple[Refusal, ...]


def merge(servers: Iterable[Server], target: Callable[[int], int], reserved: Callable[[int], bool]) -> Merged:
    """Put servers, the oldest first, behind listeners. `target` tells which port the gateway's pod listens on for a
    port that its clients know, `reserved` on which it cannot.
    """
    found: dict[tuple[str, int], list[Server]] = {}
    refused = []
    for server in servers:
        port = target(server.port)
        behind = found.setdefault((server.bind, port), [])
        reason = f"port {port} is the proxy's own" if reserved(port) else _conflict(server, behind)
        if reason:
            refused.append(Refusal(server, reason))
        else:
            behind.append(server)
    listening = (
        Listening(bind, port, speech(behind[0]), tuple(behind)) for (bind, port), behind in found.items() if behind
    )
    return Merged(tuple(listening), tuple(refused))


def speech(server: Server) -> Speech:
    """What connections to a server begin with."""
    if server.tls is not Tls.NONE:
        return Speech.TLS
    return Speech.HTTP if server.protocol.is_http else Speech.BYTES


def _conflict(server: Server, others: list[Server]) -> str:
    """Why a server cannot be where others are; "" where it can."""
    if not others:
        return ""
    oldest = others[0]
    where = f"port {server.port}{f' of {server.bind}' if server.bind else ''}"
    if speech(server) is not speech(oldest) or speech(server) is Speech.BYTES:
        return f"{where} serves {oldest.protocol} for Gateway {oldest.gateway}"
    if speech(server) is Speech.HTTP:
        return ""
    for other in others:
        if shared := sorted(set(server.hostnames) & set(other.hostnames)):
            return f"{where} serves {', '.join(shared)} for Gateway {other.gateway}"
    return ""
