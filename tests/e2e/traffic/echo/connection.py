"""A server's connection: what can be said of it, and how it is broken off."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

MAX_READ = 65536


def describe(writer: asyncio.StreamWriter) -> dict[str, Any]:
    """The peer, the port, and of TLS the name asked for, the protocol chosen and the client's certificate."""
    peer = writer.get_extra_info("peername")
    own = writer.get_extra_info("sockname")
    found: dict[str, Any] = {"peer": peer[0] if isinstance(peer, tuple) else "", "connection": f"{peer}"}
    if isinstance(own, tuple):
        found["port"] = own[1]
    session = writer.get_extra_info("ssl_object")
    if session is not None:
        found |= {
            "tls": session.version(),
            "sni": getattr(session, "sni", None),
            "alpn": session.selected_alpn_protocol(),
            "certificate": certificate(session.getpeercert()),
        }
    return found


def certificate(found: Any) -> dict[str, list[str]]:
    """The names in a peer's certificate by sort (URI, DNS, CN); empty without one."""
    names: dict[str, list[str]] = {}
    for sort, value in (found or {}).get("subjectAltName", ()):
        names.setdefault(sort, []).append(value)
    for part in (found or {}).get("subject", ()):
        names.setdefault("CN", []).extend(value for key, value in part if key == "commonName")
    return names


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST and without another byte."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def server_tls(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """TLS that takes any SNI, remembers it, speaks HTTP/2 and 1.1, and reports a client's certificate of `ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["h2", "http/1.1"])

    def remember(session: Any, name: str | None, _: ssl.SSLContext) -> None:
        session.sni = name

    context.sni_callback = remember
    return context
