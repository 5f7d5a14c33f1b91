"""One query to one server and its answer, over UDP or TCP, from a random port under a random id (RFC 5452)."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct

from pilotfish.node.dns import wire

DNS_PORT = 53
RESEND_SECONDS = 0.3
"""A datagram may get lost: the query is sent again after this time, then after twice the time, and so on."""
_MAX_DATAGRAM = 65535
_length = struct.Struct(">H")


async def exchange(server: str, packet: bytes, *, tcp: bool, port: int = DNS_PORT) -> bytes:
    """The server's response to a query, with the query's id put back. Waits for ever; raises OSError.

    What does not answer this very query (another id or question) is passed over, as a forgery or a late answer.
    """
    asked = secrets.token_bytes(2) + packet[2:]
    family, _, _, _, address = socket.getaddrinfo(server, port, flags=socket.AI_NUMERICHOST)[0]
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        response = await (_over_tcp(sock, asked) if tcp else _over_udp(sock, asked))
    return packet[:2] + response[2:]


async def _over_udp(sock: socket.socket, asked: bytes) -> bytes:
    patience = RESEND_SECONDS
    while True:
        await asyncio.get_running_loop().sock_sendall(sock, asked)
        try:
            async with asyncio.timeout(patience):
                return await _matching(sock, asked)
        except TimeoutError:
            patience *= 2


async def _matching(sock: socket.socket, asked: bytes) -> bytes:
    while True:
        response = await asyncio.get_running_loop().sock_recv(sock, _MAX_DATAGRAM)
        if _answers(asked, response):
            return response


async def _over_tcp(sock: socket.socket, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _length.pack(len(asked)) + asked)
    while True:
        (size,) = _length.unpack(await _receive(sock, _length.size))
        response = await _receive(sock, size)
        if _answers(asked, response):
            return response


async def _receive(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = await asyncio.get_running_loop().sock_recv(sock, size - len(received))
        if not piece:
            raise ConnectionResetError("the server closed the connection before it had answered")
        received += piece
    return bytes(received)


def _answers(asked: bytes, response: bytes) -> bool:
    """Whether a response belongs to a query: its id and its question, which a server may leave out of an error."""
    if len(response) < wire.HEADER_SIZE or response[:2] != asked[:2] or not response[2] & 0x80:
        return False
    try:
        end = wire.question_end(asked)
    except wire.Malformed:
        return False
    question = slice(wire.HEADER_SIZE, end)
    without_question = response[4:6] == b"\0\0" and wire.rcode_of(response[2:]) != wire.Rcode.NOERROR
    return without_question or response[question].lower() == asked[question].lower()
