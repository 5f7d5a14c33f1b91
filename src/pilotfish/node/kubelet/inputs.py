"""What a client sends to a running process, taken apart: standard input and the terminal's sizes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator

from pilotfish.client.stream import Channel, Frame

_QUEUED = 8
"""Frames that may wait for the process; then the connection is read no further and the sender has to wait."""

_LONGEST_SIZE = 4096
_MOST = 0xFFFF


class Inputs:
    """Feed it with `read`; the process takes from `stdin` and `sizes`."""

    def __init__(self) -> None:
        self._stdin: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED)
        self._sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue(_QUEUED)

    async def read(self, frames: AsyncIterable[Frame]) -> None:
        """Returns when the client is gone. The end of standard input alone is no end of the stream."""
        pending = b""
        async for frame in frames:
            if frame.channel == Channel.STDIN and frame.data:
                await self._stdin.put(frame.data)
            elif frame.channel == Channel.CLOSE and frame.data == bytes([Channel.STDIN]):
                await self._stdin.put(b"")
            elif frame.channel == Channel.RESIZE:
                sizes, pending = parse_sizes(pending + frame.data)
                for size in sizes:
                    await self._sizes.put(size)

    async def stdin(self) -> AsyncIterator[bytes]:
        while data := await self._stdin.get():
            yield data

    async def sizes(self) -> AsyncIterator[tuple[int, int]]:
        """(columns, rows), as often as they change."""
        while True:
            yield await self._sizes.get()


def parse_sizes(text: bytes) -> tuple[list[tuple[int, int]], bytes]:
    """The terminal sizes {"Width": …, "Height": …} in a text, and its unfinished rest.

    They come one after another, with or without white space between them. What is no size is left out.
    """
    found: list[tuple[int, int]] = []
    decoder = json.JSONDecoder()
    rest = text.decode("utf-8", "replace").lstrip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except json.JSONDecodeError:
            break
        rest = rest[end:].lstrip()
        match value:
            case {"Width": int(columns), "Height": int(rows)} if 0 < columns <= _MOST and 0 < rows <= _MOST:
                found.append((columns, rows))
    return found, rest.encode() if len(rest) < _LONGEST_SIZE else b""
