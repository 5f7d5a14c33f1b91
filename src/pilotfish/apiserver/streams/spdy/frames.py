"""SPDY/3.1 frames and their bytes. Pure: bytes in, frames out, and the other way round.

https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from pilotfish.apiserver.streams.spdy.dictionary import DICTIONARY

VERSION = 3
MAX_CONTROL_BYTES = 64 * 1024
"""The longest control frame that is taken, and the longest header block that may come out of one."""
MAX_DATA_BYTES = (1 << 24) - 1

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
"""Why a stream is reset."""

Headers = tuple[tuple[str, str], ...]
"""Names in lower case; several values of one name stand in one, with a NUL between."""

_FIN = 0x01
_UNIDIRECTIONAL = 0x02
_CONTROL = 0x80000000
_STREAM_ID = 0x7FFFFFFF


class ProtocolError(Exception):
    """The peer does not speak SPDY/3.1; nothing that follows can be understood."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Opens a stream. `priority` 0 is the highest, 7 the lowest."""

    stream: int
    headers: Headers
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream: int
    headers: Headers
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Settings:
    """(flags, id, value) of each."""

    values: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Ping:
    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_good_stream: int
    status: int


@dataclass(frozen=True, slots=True)
class HeadersFrame:
    """Further headers of an open stream."""

    stream: int
    headers: Headers
    fin: bool = False


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    stream: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | RstStream | Settings | Ping | GoAway | HeadersFrame | WindowUpdate | Data


class _Type(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Encoder:
    """Writes the frames of one direction of a connection; its compressor has a memory, so order matters."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return struct.pack("!II", stream, (fin * _FIN) << 24 | len(data)) + data
            case SynStream(stream, headers, fin, unidirectional, associated, priority):
                flags = fin * _FIN | unidirectional * _UNIDIRECTIONAL
                body = struct.pack("!IIBB", stream, associated, priority << 5, 0) + self._compress(headers)
                return _control(_Type.SYN_STREAM, flags, body)
            case SynReply(stream, headers, fin):
                return _control(_Type.SYN_REPLY, fin * _FIN, struct.pack("!I", stream) + self._compress(headers))
            case HeadersFrame(stream, headers, fin):
                return _control(_Type.HEADERS, fin * _FIN, struct.pack("!I", stream) + self._compress(headers))
            case RstStream(stream, status):
                return _control(_Type.RST_STREAM, 0, struct.pack("!II", stream, status))
            case GoAway(stream, status):
                return _control(_Type.GOAWAY, 0, struct.pack("!II", stream, status))
            case WindowUpdate(stream, delta):
                return _control(_Type.WINDOW_UPDATE, 0, struct.pack("!II", stream, delta))
            case Ping(id):
                return _control(_Type.PING, 0, struct.pack("!I", id))
            case Settings(values):
                entries = (struct.pack("!II", flags << 24 | id, value) for flags, id, value in values)
                return _control(_Type.SETTINGS, 0, struct.pack("!I", len(values)) + b"".join(entries))

    def _compress(self, headers: Headers) -> bytes:
        block = [struct.pack("!I", len(headers))]
        for pair in headers:
            for text in pair:
                encoded = text.encode("latin-1")
                block += (struct.pack("!I", len(encoded)), encoded)
        return self._compressor.compress(b"".join(block)) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


def _control(type: int, flags: int, body: bytes) -> bytes:
    return struct.pack("!HHI", 0x8000 | VERSION, type, flags << 24 | len(body)) + body


class Decoder:
    """Reads the frames of one direction of a connection."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)
        self._buffer = bytearray()
        self._data: tuple[int, bool, int] | None = None  # of the data frame begun: stream, fin, bytes to come

    def feed(self, received: bytes) -> Iterator[Frame]:
        """The frames that are complete now. Raises ProtocolError.

        A data frame comes in parts as its bytes arrive, the last of which bears its `fin`: a frame may have 16 MB.
        """
        self._buffer += received
        while True:
            if self._data is not None:
                if not self._buffer and self._data[2]:
                    return
                yield self._take_data(*self._data)
                continue
            if len(self._buffer) < 8:
                return
            first, second = struct.unpack_from("!II", self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if not first & _CONTROL:
                del self._buffer[:8]
                self._data = (first, bool(flags & _FIN), length)
                continue
            if length > MAX_CONTROL_BYTES:
                raise ProtocolError(f"a control frame of {length} bytes is too long")
            if len(self._buffer) < 8 + length:
                return
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            version, type = first >> 16 & 0x7FFF, first & 0xFFFF
            if version != VERSION:
                raise ProtocolError(f"a frame of version {version} instead of {VERSION}")
            try:
                frame = self._parse(type, flags, body)
            except (struct.error, zlib.error, IndexError) as error:
                raise ProtocolError(f"a malformed control frame of type {type}: {error}") from error
            if frame is not None:
                yield frame

    def _take_data(self, stream: int, fin: bool, length: int) -> Data:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        left = length - len(data)
        self._data = (stream, fin, left) if left else None
        return Data(stream, data, fin and not left)

    def _parse(self, type: int, flags: int, body: bytes) -> Frame | None:
        """None for types that we do not know, which the specification wants ignored."""
        fin = bool(flags & _FIN)
        match type:
            case _Type.SYN_STREAM:
                stream, associated, priority, _slot = struct.unpack_from("!IIBB", body)
                headers = self._decompress(body[10:])
                unidirectional = bool(flags & _UNIDIRECTIONAL)
                return SynStream(
                    stream & _STREAM_ID, headers, fin, unidirectional, associated & _STREAM_ID, priority >> 5
                )
            case _Type.SYN_REPLY:
                return SynReply(_number(body), self._decompress(body[4:]), fin)
            case _Type.HEADERS:
                return HeadersFrame(_number(body), self._decompress(body[4:]), fin)
            case _Type.RST_STREAM:
                return RstStream(*struct.unpack("!II", body))
            case _Type.GOAWAY:
                return GoAway(*struct.unpack("!II", body))
            case _Type.WINDOW_UPDATE:
                return WindowUpdate(*struct.unpack("!II", body))
            case _Type.PING:
                return Ping(*struct.unpack("!I", body))
            case _Type.SETTINGS:
                entries = struct.iter_unpack("!II", body[4:])
                return Settings(tuple((first >> 24, first & 0xFFFFFF, value) for first, value in entries))
        return None

    def _decompress(self, compressed: bytes) -> Headers:
        block = self._decompressor.decompress(compressed, MAX_CONTROL_BYTES)
        if self._decompressor.unconsumed_tail:
            raise ProtocolError(f"a header block of more than {MAX_CONTROL_BYTES} bytes is too long")
        (count,) = struct.unpack_from("!I", block)
        texts: list[str] = []
        position = 4
        for _ in range(2 * count):
            (length,) = struct.unpack_from("!I", block, position)
            position += 4 + length
            if position > len(block):
                raise ProtocolError("a header block ends in the middle of a header")
            texts.append(block[position - length : position].decode("latin-1"))
        return tuple(zip(texts[::2], texts[1::2], strict=True))


def _number(body: bytes) -> int:
    stream: int = struct.unpack_from("!I", body)[0]
    return stream & _STREAM_ID
