"""A client inside a pod that looks names up and calls them, for the first time: `python -m benchmarks.ask PORT NAME …`.

Queries go to the pod's resolver over UDP, as libc's do; then comes an HTTP request to the address in the answer. Prints
a JSON list of `Asked`, one for each name, in seconds.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

PAUSE = 0.02
"""Between two names, so that what one leaves to do is not in the time of the next."""


class Asked(msgspec.Struct):
    """What the first use of a name took: the lookup, and the first request up to its answer; then both once more."""

    lookup: float
    request: float
    lookup_again: float
    request_again: float


def resolver() -> str:
    """The first name server of the pod."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("nameserver"))


def query(number: int, name: str) -> bytes:
    """A query for the name's IPv4 addresses."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def look_up(sock: socket.socket, number: int, name: str) -> tuple[str, float]:
    """An address, and how long it took. Raises LookupError where there is none."""
    packet = query(number, name)
    sent = time.perf_counter()
    sock.send(packet)
    answer = sock.recv(4096)
    took = time.perf_counter() - sent
    if not struct.unpack_from(">H", answer, 6)[0]:
        raise LookupError(f"{name} has no address")
    return socket.inet_ntoa(answer[len(packet) + 12 : len(packet) + 16]), took


def request(name: str, address: str, port: int) -> float:
    """How long it takes to connect, ask and be answered. Raises ConnectionError unless the answer is 200."""
    sent = time.perf_counter()
    with socket.create_connection((address, port), timeout=10) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nhost: {name}:{port}\r\n\r\n".encode())
        answer = sock.recv(4096)
    took = time.perf_counter() - sent
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"{name} answered {answer[:60]!r}")
    return took


def main() -> None:
    port, names = int(sys.argv[1]), sys.argv[2:]
    found: list[Asked] = []
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((resolver(), 53))
        for number, name in enumerate(names):
            address, first = look_up(sock, 2 * number, name)
            called = request(name, address, port)
            _, again = look_up(sock, 2 * number + 1, name)
            found.append(Asked(first, called, again, request(name, address, port)))
            time.sleep(PAUSE)
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
