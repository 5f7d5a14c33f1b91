from __future__ import annotations

import os
import secrets
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pilotfish.node.supervisor.relay import Relay


class Loop:
    """The supervisor's loop, in a thread, around one relay."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.name = f"pilotfish-test-{secrets.token_hex(4)}"
        self.lines: list[tuple[str, str]] = []
        self._selector = selectors.DefaultSelector()
        # Without a mark: setting one takes privileges that this test has no need of.
        self._relay = Relay(self._selector, self.name, address, lambda *line: self.lines.append(line), mark=0)
        self._stop, self._stopped = os.pipe()
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select():
                handle: Any = key.data
                if handle is None:
                    return
                handle(events)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(10)
        connection.connect("\0" + self.name)
        return connection

    def close(self) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        self._relay.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.settimeout(10)
        yield listening


def test_bytes_go_both_ways_and_the_log_tells_of_the_connection(server: socket.socket) -> None:
    with closing(Loop(server.getsockname())) as loop, loop.connect() as proxy:
        upstream, _ = server.accept()
        with upstream:
            upstream.settimeout(10)
            proxy.sendall(b"question")
            assert upstream.recv(100) == b"question"
            upstream.sendall(b"answer")
            assert proxy.recv(100) == b"answer"
            assert loop.lines == [("info", "connected to upstream XDS server: istiod.istio-system.svc:15012")]


def test_one_side_may_be_slow_and_one_may_end_first(server: socket.socket) -> None:
    size = 8 * 1024 * 1024
    with closing(Loop(server.getsockname())) as loop, loop.connect() as proxy:
        upstream, _ = server.accept()
        with upstream:
            upstream.settimeout(10)
            sender = threading.Thread(target=lambda: (proxy.sendall(b"x" * size), proxy.shutdown(socket.SHUT_WR)))
            sender.start()
            received = 0
            while data := upstream.recv(1 << 16):
                received += len(data)
            sender.join()
            assert received == size
            upstream.sendall(b"still here")
            assert proxy.recv(100) == b"still here"
        assert proxy.recv(100) == b""


def test_a_control_plane_that_is_away_is_told_of_and_the_proxy_may_try_again(server: socket.socket) -> None:
    address = server.getsockname()
    server.close()
    with closing(Loop(address)) as loop:
        with loop.connect() as proxy:
            assert proxy.recv(100) == b""
        level, text = loop.lines[0]
        assert level == "warning"
        assert text.endswith("istiod.istio-system.svc:15012: Connection refused")
        with closing(socket.create_server(address)) as back, loop.connect() as proxy:
            back.settimeout(10)
            upstream, _ = back.accept()
            upstream.close()
            assert proxy.recv(100) == b""
