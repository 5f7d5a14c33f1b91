"""The supervisor's loop and its protocol: JSON lines over the Unix socket in the pod's folder.

    {"op": "start", "name": …, "id": …, "attempt": …, "argv": […], "env": {…}, "cwd": …, "log": …}  → {"state": {…}}
    {"op": "signal", "name": …, "signal": 15}                            → {}
    {"op": "stdin", "name": …}       → {} with the container's input (or terminal) as a passed descriptor
    {"op": "exec", "argv": […], …} with three passed descriptors         → {"pid": …}, then {"exitCode": …, "signal": …}
    {"op": "watch"}                  → {"states": [{…}, …]}, then {"state": {…}} for each change
    {"op": "stop"}                   → ends the pod

A request that fails is answered with {"error": …}. A connection that closes takes its exec's processes with it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from pilotfish.node.supervisor.containers import Containers
from pilotfish.node.supervisor.process import StartError, kill_session, start
from pilotfish.node.supervisor.relay import Relay

MAX_UNREAD = 1024 * 1024
"""Bytes that a client may leave unread before its connection is closed."""

LAST_WORDS = 2.0
"""Seconds between SIGTERM and SIGKILL when the supervisor itself is told to end."""


class Client:
    """One connection from the agent."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._buffer = b""
        self._unsent = b""
        self._descriptors: list[int] = []
        self.watching = False
        self.exec_pid: int | None = None
        connection.setblocking(False)
        server.selector.register(connection, selectors.EVENT_READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ or self._socket.fileno() < 0:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 64 * 1024, 3)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self.close()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._serve(line)

    def _serve(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            operation = getattr(self, f"_op_{request['op']}", None)
            if operation is None:
                raise StartError(f"unknown operation {request['op']!r}")
            operation(request)
        except (StartError, ValueError, KeyError, OSError) as error:
            self.send({"error": f"missing {error}" if isinstance(error, KeyError) else str(error)})

    def _op_start(self, request: dict[str, Any]) -> None:
        self.send({"state": self._server.containers.start(request)})

    def _op_signal(self, request: dict[str, Any]) -> None:
        self._server.containers.signal(request["name"], request["signal"])
        self.send({})

    def _op_watch(self, _: dict[str, Any]) -> None:
        self.watching = True
        self.send({"states": self._server.containers.states()})

    def _op_stdin(self, request: dict[str, Any]) -> None:
        container = self._server.containers.get(request["name"])
        if container is None or not container.running or container.stdin is None:
            raise StartError(f"container {request['name']!r} has no input to attach to")
        passed = array.array("i", [container.stdin])
        self._socket.sendmsg([b"{}\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])

    def _op_exec(self, request: dict[str, Any]) -> None:
        streams, self._descriptors = self._descriptors[:3], self._descriptors[3:]
        try:
            if len(streams) != 3:
                raise StartError("exec needs three passed descriptors")
            self.exec_pid = start(request, (streams[0], streams[1], streams[2]), bool(request.get("tty")))
        finally:
            for descriptor in streams:
                os.close(descriptor)
        self.send({"pid": self.exec_pid})

    def _op_stop(self, _: dict[str, Any]) -> None:
        self.send({})
        self._server.stop()

    def send(self, message: dict[str, Any]) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
            self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > MAX_UNREAD:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._server.selector.modify(self._socket, events, self._ready)

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._server.selector.unregister(self._socket)
        self._server.clients.discard(self)
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        if self.exec_pid is not None:
            kill_session(self.exec_pid)


class Server:
    """One pod's supervisor."""

    def __init__(self, folder: str, listener: socket.socket) -> None:
        self.selector = selectors.DefaultSelector()
        self.containers = Containers(self.selector, folder, self._changed)
        self.clients: set[Client] = set()
        self._listener = listener
        self._stopping_at: float | None = None
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        self.selector.register(self._wake, selectors.EVENT_READ, self._reap)

    def relay(self, name: str, address: tuple[str, int], container: str) -> None:
        """Relay xDS for the pod's proxy, and tell of it in the log of `container` as Istio's agent would."""

        def log(level: str, text: str) -> None:
            now = time.time_ns()
            seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
            self.containers.note(container, f"{seconds}.{now % 1_000_000_000 // 1000:06d}Z\t{level}\txdsproxy\t{text}")

        Relay(self.selector, name, address, log)

    def run(self) -> None:
        """Serve until told to stop; every process of the pod is gone when this returns."""
        while not self._stopped():
            timeout = None if self._stopping_at is None else max(0.0, self._stopping_at - time.monotonic())
            for key, events in self.selector.select(timeout):
                callback: Callable[[int], None] = key.data
                callback(events)

    def stop(self) -> None:
        """Ask every container to end; after a moment the pod ends whatever they did."""
        if self._stopping_at is None:
            self._stopping_at = time.monotonic() + LAST_WORDS
            for state in self.containers.states():
                self.containers.signal(state["name"], signal.SIGTERM)

    def _stopped(self) -> bool:
        if self._stopping_at is None:
            return False
        running = any(state["finishedAt"] is None for state in self.containers.states())
        return not running or time.monotonic() >= self._stopping_at

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _peer = self._listener.accept()
            self.clients.add(Client(self, connection))

    def _changed(self, state: dict[str, Any]) -> None:
        for client in list(self.clients):
            if client.watching:
                client.send({"state": state})

    def _reap(self, _: int) -> None:
        """Wait for every child that has ended: containers, execs, and orphans of either (PID 1 is their parent)."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if not self.containers.reaped(pid, status):
                self._exec_ended(pid, status)

    def _exec_ended(self, pid: int, status: int) -> None:
        for client in list(self.clients):
            if client.exec_pid == pid:
                client.exec_pid = None
                number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                client.send({"exitCode": 128 + number if number else os.WEXITSTATUS(status), "signal": number})
