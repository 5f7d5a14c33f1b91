"""The server's side of one SPDY connection: what the client opens and sends, in order, and what is sent to it.

There is no flow control, as the peer has none: moby/spdystream, which Kubernetes' clients are built on, neither sends
nor obeys WINDOW_UPDATE. What slows a sender down is that its connection is read no further: frames are taken from it
only as fast as this session is iterated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.apiserver.streams.spdy.frames import (
    CANCEL,
    MAX_DATA_BYTES,
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Headers,
    HeadersFrame,
    Ping,
    RstStream,
    SynReply,
    SynStream,
)

Event = SynStream | Data | RstStream


class Wire(Protocol):
    """An ordered stream of bytes in both directions."""

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more. Raises ConnectionError when the peer is gone."""
        ...

    async def gone(self) -> None:
        """Returns when the peer is known to be gone, also while nobody reads."""
        ...


class Session:
    """Iterate for streams that the client opens, their data, and their resets, until the client goes away.

    The end of a stream's data is a `Data` with `fin`. Pings are answered while iterating. Raises ProtocolError.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._encoder, self._decoder = Encoder(), Decoder()
        self._sending = asyncio.Lock()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while received := await self._wire.read():
            for frame in self._decoder.feed(received):
                match frame:
                    case SynStream(stream, _, fin):
                        yield frame
                        if fin:
                            yield Data(stream, b"", True)
                    case HeadersFrame(stream, _, True):
                        yield Data(stream, b"", True)
                    case Data() | RstStream():
                        yield frame
                    case Ping(id) if id % 2:  # the client's own; an even one would answer ours
                        await self._send(frame)
                    case GoAway():
                        return

    async def accept(self, stream: int, headers: Headers = ()) -> None:
        """Answer the opening of a stream."""
        await self._send(SynReply(stream, headers))

    async def send(self, stream: int, data: bytes) -> None:
        """Returns when there is room for more. Raises ServiceUnavailable when the client is gone."""
        for start in range(0, len(data), MAX_DATA_BYTES):
            await self._send(Data(stream, data[start : start + MAX_DATA_BYTES]))

    async def finish(self, stream: int) -> None:
        """Tell the client that nothing more comes on a stream."""
        await self._send(Data(stream, b"", True))

    async def reset(self, stream: int, status: int = CANCEL) -> None:
        await self._send(RstStream(stream, status))

    async def gone(self) -> None:
        """Returns when the client is known to be gone, also while this is not being iterated."""
        await self._wire.gone()

    async def _send(self, frame: Frame) -> None:
        try:
            # One after another, because the compressor's order must be that of the bytes.
            async with self._sending:
                await self._wire.write(self._encoder.encode(frame))
        except ConnectionError as error:
            raise ServiceUnavailable(f"the stream is closed: {error or 'the client is gone'}") from error
