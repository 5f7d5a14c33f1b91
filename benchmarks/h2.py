"""One gRPC stream over HTTP/2 and TLS with as little work as it takes, for load generators.

A thousand streams of the client of gRPC take as much of the machine as the server that they measure. This one knows
what a conversation with a gRPC server needs: one stream a connection, frames both ways, windows, pings. Of headers it
reads nothing, so a call that is refused looks like a connection that ends.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import cast

_DATA, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 4, 6, 7, 8
_HEADERS, _RST_STREAM = 1, 3
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM = 1
_LARGEST_FRAME = 16384
_DEFAULT_WINDOW = 65535
_WIDE_OPEN = 2**31 - 1


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers(authority: str, path: str) -> bytes:
    """A request's header block, each field a literal that is not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


class Stream(asyncio.Protocol):
    """A bidirectional call. `on_message` is called with each message, within the event loop's callback."""

    def __init__(self, authority: str, path: str, on_message: Callable[[bytes], None]) -> None:
        self._request = _headers(authority, path)
        self._on_message = on_message
        self._received = b""
        self._message = bytearray()
        self._unsent = bytearray()
        self._window = self._stream_window = self._initial_window = _DEFAULT_WINDOW
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls, target: str, tls: ssl.SSLContext, name: str, path: str, on_message: Callable[[bytes], None]
    ) -> Stream:
        """A call of a method (`path`) of the server at `target` (host:port), whose certificate is for `name`.

        Raises OSError when there is none.
        """
        host, _, port = target.rpartition(":")
        connect = asyncio.get_running_loop().create_connection(
            lambda: cls(name, path, on_message), host, int(port), ssl=tls, server_hostname=name
        )
        return (await connect)[1]

    def write(self, message: bytes) -> None:
        """Send a message, now or when the server has room for it."""
        self._unsent += b"\0" + struct.pack(">I", len(message)) + message
        self._flush()

    async def ended(self) -> None:
        """Return when the stream has ended. Raises what `on_message` raised."""
        await asyncio.shield(self._ended)

    def close(self) -> None:
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WIDE_OPEN))
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDE_OPEN - _DEFAULT_WINDOW))
            + _frame(_HEADERS, _END_HEADERS, _STREAM, self._request)
        )

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        at = 0
        try:
            while len(received) - at >= 9:
                size = int.from_bytes(received[at : at + 3])
                if len(received) - at - 9 < size:
                    break
                kind, flags, stream = received[at + 3], received[at + 4], int.from_bytes(received[at + 5 : at + 9])
                self._take(kind, flags, stream, received[at + 9 : at + 9 + size])
                at += 9 + size
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the stream
            self._end(error)
        self._received = received[at:]

    def connection_lost(self, error: Exception | None) -> None:
        self._end(None)

    # Frames

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._message += payload
            self._messages()
        elif kind == _WINDOW_UPDATE:
            if stream:
                self._stream_window += int.from_bytes(payload)
            else:
                self._window += int.from_bytes(payload)
            self._flush()
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            for setting, value in struct.iter_unpack(">HI", payload):
                if setting == _INITIAL_WINDOW_SIZE:
                    self._stream_window += value - self._initial_window
                    self._initial_window = value
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
            self._flush()
        if kind in (_RST_STREAM, _GOAWAY) or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
            self._end(None)

    def _messages(self) -> None:
        """Hand on what is complete: five bytes of prefix, the last four of them the size, then the message."""
        message = self._message
        while len(message) >= 5:
            end = 5 + int.from_bytes(message[1:5])
            if len(message) < end:
                return
            complete = bytes(message[5:end])
            del message[:end]
            self._on_message(complete)

    def _flush(self) -> None:
        frames = []
        while size := min(len(self._unsent), _LARGEST_FRAME, self._window, self._stream_window):
            frames.append(_frame(_DATA, 0, _STREAM, bytes(self._unsent[:size])))
            del self._unsent[:size]
            self._window -= size
            self._stream_window -= size
        if frames:
            self._transport.write(b"".join(frames))

    def _end(self, error: Exception | None) -> None:
        if not self._ended.done():
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)
        self._transport.abort()
