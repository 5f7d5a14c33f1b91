"""Answers found by the very bytes of a query: what the UDP loop needs to answer without reading a query.

The key is the whole packet but its id, so flags, the case of letters and EDNS are part of it. The value is an iovec
that points to the answer's bytes, ready to be sent.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

CAPACITY = 65536
"""Queries kept between two batches; clients that vary the case of letters at random could otherwise fill the memory."""

_iovec = struct.Struct("@PN")
IOVEC_SIZE = _iovec.size

Buffer = ctypes.Array[ctypes.c_char]


def pinned(body: bytes) -> tuple[Buffer, bytes]:
    """Bytes at an address that does not move while the buffer lives, and the iovec that points to them."""
    buffer = ctypes.create_string_buffer(body, len(body))
    return buffer, _iovec.pack(ctypes.addressof(buffer), len(body))


def iovec(address: int, length: int) -> bytes:
    """A `struct iovec` as the kernel reads it."""
    return _iovec.pack(address, length)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an answer needs to live (its bytes in memory), and the names that it depends on."""

    buffers: tuple[Buffer, ...]
    names: tuple[bytes, ...]


class HotAnswers:
    """The answers that one kind of client (the pods of a namespace) was given before."""

    def __init__(self) -> None:
        self.iovecs: dict[bytes, bytes] = {}
        """Query less its id → iovec of the answer."""
        self.rotating: dict[bytes, Iterator[bytes]] = {}
        """The same for answers of several addresses, each time in another order."""
        self._kept: dict[bytes, _Kept] = {}
        self._keys_of_name: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: bytes, bodies: Sequence[bytes], names: Iterable[bytes]) -> None:
        """Keep the answers to a query, to be given in turn, until one of `names` changes."""
        pins = [pinned(body) for body in bodies]
        self._kept[key] = kept = _Kept(tuple(buffer for buffer, _ in pins), tuple(names))
        vectors = [vector for _, vector in pins]
        if len(vectors) == 1:
            self.iovecs[key] = vectors[0]
        else:
            self.rotating[key] = cycle(vectors)
        for name in kept.names:
            self._keys_of_name.setdefault(name, set()).add(key)

    def forget(self, names: frozenset[bytes] | None) -> None:
        """Drop the answers that depend on these names; None drops all."""
        if names is None:
            self.clear()
            return
        for key in {key for name in names for key in self._keys_of_name.get(name, ())}:
            self.iovecs.pop(key, None)
            self.rotating.pop(key, None)
            for name in self._kept.pop(key).names:
                keys = self._keys_of_name[name]
                keys.discard(key)
                if not keys:
                    del self._keys_of_name[name]

    def trim(self) -> None:
        """Start anew when there are too many. Not while vectors from here are yet to be sent: it frees their bytes."""
        if len(self._kept) > CAPACITY:
            self.clear()

    def clear(self) -> None:
        self.iovecs.clear()
        self.rotating.clear()
        self._kept.clear()
        self._keys_of_name.clear()
