"""The containers of one pod: started, written down, reaped."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

from pilotfish.node.supervisor.crilog import LineWriter, LogFile
from pilotfish.node.supervisor.process import StartError, kill_session, start

READ = 64 * 1024


class Container:
    """One run of one container. `state` is what is told and kept: see `Containers`."""

    def __init__(self, state: dict[str, Any], log: LogFile) -> None:
        self.state = state
        self.log = log
        self.outputs: dict[int, LineWriter] = {}
        self.stdin: int | None = None  # our end of the container's input (the terminal's, where it has one)

    @property
    def pid(self) -> int:
        pid: int = self.state["pid"]
        return pid

    @property
    def running(self) -> bool:
        return self.state["finishedAt"] is None


class Containers:
    """Starts containers and keeps their state, in memory and in the pod's `containers.json`.

    The state of one is name, id, attempt, pid (inside the pod), startedAt and finishedAt (nanoseconds since the epoch),
    exitCode and signal; finishedAt is null while it runs. Only the last run of each name is kept.
    """

    def __init__(
        self, selector: selectors.BaseSelector, folder: str, changed: Callable[[dict[str, Any]], None]
    ) -> None:
        self._selector = selector
        self._folder = folder
        self._changed = changed
        self._all: dict[str, Container] = {}

    def states(self) -> list[dict[str, Any]]:
        return [container.state for container in self._all.values()]

    def get(self, name: str) -> Container | None:
        return self._all.get(name)

    def start(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Start `spec["name"]` (see `process.start`; also id, attempt, log, stdin, tty). Raises StartError."""
        name: str = spec["name"]
        previous = self._all.get(name)
        if previous is not None and previous.running:
            raise StartError(f"container {name!r} is already running")
        container = Container({}, LogFile(os.path.join(self._folder, spec["log"])))
        try:
            pid = self._spawn(spec, container)
        except (StartError, OSError) as error:
            self._release(container)
            raise StartError(str(error)) from None
        container.state = {
            "name": name,
            "id": spec["id"],
            "attempt": spec["attempt"],
            "pid": pid,
            "startedAt": time.time_ns(),
            "finishedAt": None,
            "exitCode": None,
            "signal": 0,
        }
        if previous is not None:
            self._release(previous)
        self._all[name] = container
        self._tell(container)
        return container.state

    def _spawn(self, spec: dict[str, Any], container: Container) -> int:
        if spec.get("tty"):
            import pty  # rare, and not free

            master, slave = pty.openpty()
            theirs = (slave, slave, slave)
            outputs = {master: "stdout"}
            container.stdin = os.dup(master)
        else:
            out, their_out = os.pipe2(os.O_CLOEXEC)
            err, their_err = os.pipe2(os.O_CLOEXEC)
            if spec.get("stdin"):
                their_in, container.stdin = os.pipe2(os.O_CLOEXEC)
            else:
                their_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            theirs = (their_in, their_out, their_err)
            outputs = {out: "stdout", err: "stderr"}
        for descriptor, stream in outputs.items():
            os.set_blocking(descriptor, False)
            container.outputs[descriptor] = LineWriter(container.log, stream)
            self._selector.register(
                descriptor, selectors.EVENT_READ, lambda _, fd=descriptor: self._read(container, fd, READ)
            )
        try:
            return start(spec, theirs, bool(spec.get("tty")))
        finally:
            for descriptor in set(theirs):
                os.close(descriptor)

    def _read(self, container: Container, descriptor: int, limit: int) -> bool:
        """Take what is there. Returns whether there may be more."""
        if descriptor not in container.outputs:
            return False
        try:
            data = os.read(descriptor, limit)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process on a terminal has closed it
            data = b""
        if data:
            container.outputs[descriptor].feed(data)
            return True
        self._end_output(container, descriptor)
        return False

    def _end_output(self, container: Container, descriptor: int) -> None:
        container.outputs.pop(descriptor).finish()
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def note(self, name: str, line: str) -> None:
        """Write a line of our own into a container's log, as if it had written it."""
        container = self._all.get(name)
        if container is not None:
            LineWriter(container.log, "stdout").feed(line.encode() + b"\n")

    def signal(self, name: str, number: int) -> None:
        """Signal a container's first process, or with SIGKILL everything in its session. One that has ended is left."""
        container = self._all.get(name)
        if container is None or not container.running:
            return
        if number == signal.SIGKILL:
            kill_session(container.pid)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.pid, number)

    def reaped(self, pid: int, status: int) -> bool:
        """Note the end of a container, when `pid` is one's first process."""
        container = next((c for c in self._all.values() if c.running and c.pid == pid), None)
        if container is None:
            return False
        # What it left behind in its session ends with it, as a container's processes do.
        kill_session(pid)
        # All that it has written comes before the word that it ended.
        for descriptor in list(container.outputs):
            while self._read(container, descriptor, READ):
                pass
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        container.state["finishedAt"] = time.time_ns()
        container.state["signal"] = number
        container.state["exitCode"] = 128 + number if number else os.WEXITSTATUS(status)
        self._tell(container)
        return True

    def _release(self, container: Container) -> None:
        for descriptor in list(container.outputs):
            self._end_output(container, descriptor)
        if container.stdin is not None:
            os.close(container.stdin)
        container.log.close()

    def _tell(self, container: Container) -> None:
        path = os.path.join(self._folder, "containers.json")
        with open(f"{path}.new", "w") as file:
            json.dump(self.states(), file)
        os.rename(f"{path}.new", path)
        self._changed(container.state)
