"""recvmmsg(2) and sendmmsg(2): many datagrams in one system call, in memory laid out once.

Python has neither. Only IPv4 sockets are served, so every sender's address has the same size.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
from collections.abc import Sequence

from pilotfish.node.dns.hot import IOVEC_SIZE, iovec

BATCH = 64
SLOT_SIZE = 33 * 64
"""Bytes for one received datagram. An odd number of cache lines keeps the slots from competing for the same ones."""
_ID_SIZE = 2
_ADDRESS_SIZE = 16  # struct sockaddr_in

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint))


_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Batch:
    """Up to `BATCH` received datagrams and the answers to them.

    An answer is sent in two pieces, the id from where the query was received and the rest from where the answer lies.
    """

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, BATCH * SLOT_SIZE)
        """Slicing it gives bytes, unlike a bytearray, and so keys for a dictionary."""
        self.slots = tuple(range(0, BATCH * SLOT_SIZE, SLOT_SIZE))
        self.bodies = tuple(slot + _ID_SIZE for slot in self.slots)
        self._out_vectors = bytearray(2 * BATCH * IOVEC_SIZE)
        # While these live, what they look at can neither move nor be resized.
        self._fixed = (ctypes.c_char.from_buffer(self.memory), ctypes.c_char.from_buffer(self._out_vectors))
        memory, out = map(ctypes.addressof, self._fixed)
        self._addresses = ctypes.create_string_buffer(BATCH * _ADDRESS_SIZE)
        self._in_vectors = (_Iovec * BATCH)(*(_Iovec(memory + slot, SLOT_SIZE) for slot in self.slots))
        self._received = self._headers(ctypes.addressof(self._in_vectors), 1)
        self._to_send = self._headers(out, 2)
        # The ids' vectors stay; the places between them take the answers' vectors.
        self._vectors = [v for slot in self.slots for v in (iovec(memory + slot, _ID_SIZE), b"")]
        words = memoryview(self._received).cast("B").cast("I")
        self._lengths = words[_Mmsghdr.len.offset // words.itemsize :: ctypes.sizeof(_Mmsghdr) // words.itemsize]
        self._received_at = ctypes.addressof(self._received)
        self._to_send_at = ctypes.addressof(self._to_send)

    def _headers(self, vectors: int, each: int) -> ctypes.Array[_Mmsghdr]:
        addresses = ctypes.addressof(self._addresses)
        return (_Mmsghdr * BATCH)(
            *(
                _Mmsghdr(
                    _Msghdr(
                        name=addresses + n * _ADDRESS_SIZE,
                        namelen=_ADDRESS_SIZE,
                        iov=vectors + n * each * IOVEC_SIZE,
                        iovlen=each,
                    )
                )
                for n in range(BATCH)
            )
        )

    def receive(self, fd: int) -> list[int]:
        """The sizes of the datagrams that wait at a socket, the n-th of which is at `slots[n]`. Raises OSError."""
        count = _recvmmsg(fd, self._received_at, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, os.strerror(number))
        lengths: list[int] = self._lengths[:count].tolist()
        return lengths

    def sender(self, position: int) -> tuple[str, int]:
        """Who sent a datagram: address and port."""
        at = position * _ADDRESS_SIZE
        raw = self._addresses.raw[at : at + _ADDRESS_SIZE]
        return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4])

    def send(self, fd: int, vectors: Sequence[bytes | None]) -> int:
        """Send the answers (as iovecs, None for none) to those who sent the datagrams; gives how many could not be."""
        count = len(vectors)
        if None not in vectors:
            return self._send(fd, vectors, 0, count)
        failed = start = 0
        while start < count:
            if vectors[start] is None:
                start += 1
                continue
            end = next((n for n in range(start, count) if vectors[n] is None), count)
            failed += self._send(fd, vectors, start, end)
            start = end
        return failed

    def _send(self, fd: int, vectors: Sequence[bytes | None], start: int, end: int) -> int:
        pieces = self._vectors
        pieces[2 * start + 1 : 2 * end : 2] = vectors[start:end]  # type: ignore[assignment]
        at = 2 * start * IOVEC_SIZE
        self._out_vectors[at : 2 * end * IOVEC_SIZE] = b"".join(pieces[2 * start : 2 * end])
        failed = 0
        while start < end:
            header = self._to_send_at + start * ctypes.sizeof(_Mmsghdr)
            sent = _sendmmsg(fd, header, end - start, socket.MSG_DONTWAIT)
            if sent < 0:
                # The first of them cannot be sent, which says nothing of the next.
                failed += 1
                sent = 1
            start += sent
        return failed
