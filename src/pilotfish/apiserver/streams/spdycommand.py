"""Exec and attach over SPDY: each channel of a remote command is a stream, typed by its header `streamType`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pilotfish.apiserver.streams.remotecommand import Wanted
from pilotfish.apiserver.streams.spdy.frames import Data, ProtocolError, RstStream, SynStream
from pilotfish.apiserver.streams.spdy.session import Event, Session
from pilotfish.client.stream import Channel, Frame

PROTOCOL = "v4.channel.k8s.io"
OPENING_SECONDS = 30.0
"""How long the client may take to open all its streams (Kubernetes: the default of remotecommand's server)."""

_TYPES = {
    "stdin": Channel.STDIN,
    "stdout": Channel.STDOUT,
    "stderr": Channel.STDERR,
    "error": Channel.ERROR,
    "resize": Channel.RESIZE,
}


def expected_channels(wanted: Wanted) -> set[Channel]:
    """The streams that a client opens in version 4 of the protocol."""
    channels = {Channel.ERROR}
    flags = ((Channel.STDIN, wanted.stdin), (Channel.STDOUT, wanted.stdout), (Channel.STDERR, wanted.stderr))
    channels |= {channel for channel, on in flags if on}
    return channels | {Channel.RESIZE} if wanted.tty else channels


class SpdyStreams:
    """`remotecommand.Streams` towards a client that speaks SPDY. Call `open` first."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events = aiter(session)
        self._early: list[Data] = []
        self._channels: dict[int, Channel] = {}
        self._streams: dict[Channel, int] = {}

    async def open(self, channels: set[Channel]) -> None:
        """Wait until the client has opened its streams. Raises ProtocolError when it does not, TimeoutError when it
        takes too long."""
        async with asyncio.timeout(OPENING_SECONDS):
            while not channels <= self._streams.keys():
                event = await anext(self._events, None)
                match event:
                    case None:
                        raise ProtocolError("the client went away before it had opened its streams")
                    case SynStream():
                        await self._open(event)
                    case Data():
                        self._early.append(event)

    async def _open(self, opened: SynStream) -> None:
        channel = _TYPES.get(dict(opened.headers).get("streamtype", ""))
        if channel is None or channel in self._streams:
            raise ProtocolError(f"a stream of an unknown type, or a second of one: {dict(opened.headers)}")
        self._channels[opened.stream] = channel
        self._streams[channel] = opened.stream
        await self._session.accept(opened.stream)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        for early in self._early:
            for frame in self._frames(early):
                yield frame
        async for event in self._events:
            for frame in self._frames(event):
                yield frame

    def _frames(self, event: Event) -> list[Frame]:
        channel = self._channels.get(event.stream)
        if channel is None:
            return []
        ended = [Frame(Channel.CLOSE, bytes([channel]))] if channel == Channel.STDIN else []
        match event:
            case Data(_, data, fin):
                return [*([Frame(channel, data)] if data else ()), *(ended if fin else ())]
            case RstStream():
                return ended
        return []

    async def send(self, channel: int, data: bytes) -> None:
        """What the client has opened no stream for is let go."""
        if (stream := self._streams.get(Channel(channel))) is not None and data:
            await self._session.send(stream, data)

    async def close_channel(self, channel: int) -> None:
        if (stream := self._streams.pop(Channel(channel), None)) is not None:
            await self._session.finish(stream)

    async def gone(self) -> None:
        await self._session.gone()

    async def finish(self) -> None:
        """End all streams towards the client, the one with the outcome last."""
        for channel in (Channel.STDIN, Channel.RESIZE, Channel.STDOUT, Channel.STDERR, Channel.ERROR):
            await self.close_channel(channel)
