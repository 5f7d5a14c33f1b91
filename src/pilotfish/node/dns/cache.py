"""Answers of upstream servers, kept for as long as they say (RFC 1035, negative answers RFC 2308)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from pilotfish.node.dns import wire
from pilotfish.node.dns.wire import Rcode, Type

MAX_TTL = 86400
_MAX_SIZE = 4096
_ttl = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class _Kept:
    response: bytes
    ttls: tuple[tuple[int, int], ...]
    stored: float
    expires: float


def freshness(response: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    """How many seconds a response may be kept (0: not at all), and its TTLs with their offsets. Raises Malformed."""
    _, flags, questions, answers, authorities, additional = struct.unpack_from(">HHHHHH", response)
    rcode = flags & 0xF
    if flags & wire.TC or questions != 1 or rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return 0, ()
    count = answers + authorities + additional
    found = [r for r in wire.records(response, wire.question_end(response), count) if r.type != Type.OPT]
    ttls = tuple((r.ttl_at, r.ttl) for r in found)
    if rcode == Rcode.NOERROR and answers:
        lifetime = min(ttl for _, ttl in ttls) if ttls else 0
    else:
        soa = next((r for r in found if r.type == Type.SOA and r.data.stop - r.data.start >= 22), None)
        lifetime = min(soa.ttl, *_ttl.unpack_from(response, soa.data.stop - _ttl.size)) if soa else 0
    return min(lifetime, MAX_TTL), ttls


class AnswerCache:
    """A bounded map from a question to the response that it got; the oldest goes first when it is full."""

    def __init__(self, clock: Callable[[], float], capacity: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._kept: dict[bytes, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: bytes, response: bytes) -> None:
        """Keep a response if it may be kept. Raises Malformed when it cannot be read."""
        lifetime, ttls = freshness(response)
        if not lifetime or len(response) > _MAX_SIZE:
            return
        self._kept.pop(key, None)
        if len(self._kept) >= self._capacity:
            del self._kept[next(iter(self._kept))]
        now = self._clock()
        self._kept[key] = _Kept(response, ttls, now, now + lifetime)

    def get(self, key: bytes) -> bytes | None:
        """The response with its TTLs counted down; None when there is none, or none that is fresh."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._clock()
        if now >= kept.expires:
            del self._kept[key]
            return None
        response, age = bytearray(kept.response), int(now - kept.stored)
        for at, ttl in kept.ttls:
            _ttl.pack_into(response, at, max(ttl - age, 0))
        return bytes(response)

    def clear(self) -> None:
        self._kept.clear()
