"""How the node agent tells the DNS process which pods there are: JSON lines over a Unix socket, and the agent's end.

    {"op": "sync", "pods": [{"uid": …, "netns": "/run/netns/…", "namespace": …, "ip": …, "capture": true}]}
    {"op": "add", "pods": […]}
    {"op": "remove", "uids": […]}
    {"op": "stats"}

Each line is answered by one, in order, when sockets listen: `{"failed": {"<uid>": "why"}}`, with `"stats": {…}` where
they were asked for; `{"error": "why"}` for a line that cannot be understood.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger(__name__)

_MAX_LINE = 1 << 24
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 1.0


class PodDns(msgspec.Struct, frozen=True):
    """What the DNS process must know of a pod. `netns` is a path; without `capture` the pod asks the node's gateway."""

    uid: str
    netns: str
    namespace: str
    ip: str = ""
    capture: bool = True


class Sync(msgspec.Struct, frozen=True, tag_field="op", tag="sync"):
    """These pods and no others."""

    pods: tuple[PodDns, ...]


class Add(msgspec.Struct, frozen=True, tag_field="op", tag="add"):
    pods: tuple[PodDns, ...]


class Remove(msgspec.Struct, frozen=True, tag_field="op", tag="remove"):
    uids: tuple[str, ...]


class Stats(msgspec.Struct, frozen=True, tag_field="op", tag="stats"):
    pass


Request = Sync | Add | Remove | Stats


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """`failed` says by uid why a pod is not served."""

    failed: dict[str, str] = {}
    stats: dict[str, Any] = {}
    error: str = ""


class DnsError(Exception):
    """The DNS process could not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    reply: asyncio.Future[Reply]


class DnsControl:
    """The node agent's connection to the DNS process.

    `run` keeps it: whenever the process is there anew, it is told of the pods first. Requests wait while it is away.
    An agent that has just started knows of no pods yet, and they must not be let go for that: only after `sync` are the
    pods told of all that there are.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._pods: dict[str, PodDns] = {}
        self._complete = False
        self._to_send: deque[_Asked] = deque()
        self._sent: deque[_Asked] = deque()
        self._more = asyncio.Event()

    async def sync(self, pods: Iterable[PodDns]) -> dict[str, str]:
        """Have exactly these pods served; gives by uid why one is not."""
        self._pods = {pod.uid: pod for pod in pods}
        self._complete = True
        return (await self._ask(Sync(tuple(self._pods.values())))).failed

    async def add(self, pod: PodDns) -> None:
        """Have a pod served; its sockets listen when this returns. Raises DnsError with the reason when they cannot."""
        self._pods[pod.uid] = pod
        if reason := (await self._ask(Add((pod,)))).failed.get(pod.uid):
            raise DnsError(f"no DNS for pod {pod.uid}: {reason}")

    async def remove(self, uid: str) -> None:
        """Have a pod served no longer."""
        self._pods.pop(uid, None)
        await self._ask(Remove((uid,)))

    async def stats(self) -> dict[str, Any]:
        """The counters of the DNS process, its pods and its upstream servers."""
        return (await self._ask(Stats())).stats

    async def _ask(self, request: Request) -> Reply:
        asked = _Asked(request, asyncio.get_running_loop().create_future())
        self._to_send.append(asked)
        self._more.set()
        reply = await asked.reply
        if reply.error:
            raise DnsError(reply.error)
        return reply

    async def run(self) -> None:
        """Keep the connection, for ever."""
        delay = _FIRST_DELAY
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_MAX_LINE)
            except OSError as error:
                log.debug("the DNS process is not there: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY)
                continue
            delay = _FIRST_DELAY
            try:
                await self._converse(reader, writer)
            except* (OSError, msgspec.DecodeError) as errors:
                log.warning("the connection to the DNS process broke off: %s", errors.exceptions[0])
            finally:
                writer.close()
            if (task := asyncio.current_task()) and task.cancelling():
                # A cancellation that meets a broken connection gets lost in TaskGroup (Python before 3.13).
                raise asyncio.CancelledError

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell of the pods, ask again what was not answered, and go on until the connection ends. Always raises."""
        pods = tuple(self._pods.values())
        known = _Asked(Sync(pods) if self._complete else Add(pods), asyncio.get_running_loop().create_future())
        unanswered = [a for a in self._sent if not a.reply.done()]
        self._to_send = deque((known, *unanswered, *self._to_send))
        self._sent.clear()
        self._more.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(writer))
            await self._read(reader)

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._to_send:
                asked = self._to_send.popleft()
                self._sent.append(asked)
                writer.write(msgspec.json.encode(asked.request) + b"\n")
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            asked, reply = self._sent.popleft(), msgspec.json.decode(line, type=Reply)
            for uid, reason in reply.failed.items():
                log.error("no DNS for pod %s: %s", uid, reason)
            if not asked.reply.done():  # who asked may have given up
                asked.reply.set_result(reply)
        raise ConnectionResetError("the DNS process has ended")
