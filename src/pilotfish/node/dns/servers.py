"""The host's resolvers and their health, from resolv.conf, from probes and from what real queries met.

A probe asks for the root's name servers: at the start, after a failure, and now and then while a server is not well.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from pilotfish.node.dns import wire
from pilotfish.node.dns.exchange import exchange
from pilotfish.node.dns.resolvconf import ResolvConf, parse_resolv_conf

log = logging.getLogger(__name__)

PROBE_SECONDS = 1.0
TICK_SECONDS = 1.0
FIRST_INTERVAL_SECONDS, _MAX_INTERVAL_SECONDS = 2.0, 30.0
_PROBE = b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\0" + b"\0\2\0\1"  # recursion desired, one question: NS of the root


class Health(enum.Enum):
    UNKNOWN = "not probed yet"
    UP = "resolves"
    REFUSING = "answers, but resolves nothing"
    DOWN = "does not answer"


@dataclass(slots=True, eq=False)
class Server:
    """A resolver of the host. `probe_at` is when to look at it next, on the monotonic clock; None: no need."""

    address: str
    health: Health = Health.UNKNOWN
    probe_at: float | None = 0.0
    failures: int = 0


def resolves(response: bytes) -> bool:
    """Whether a response says something about its question, be it that there is no such name."""
    return wire.rcode_of(response[2:]) in (wire.Rcode.NOERROR, wire.Rcode.NXDOMAIN)


class Servers:
    """The servers of resolv.conf, which is read again when it changes. `never` are our own addresses."""

    def __init__(self, resolv_conf: Path, port: int, never: Collection[str] = ()) -> None:
        self._path = resolv_conf
        self._port = port
        self._never = frozenset(never)
        self._conf = ResolvConf()
        self._version: tuple[int, int] | None = None
        self._servers: tuple[Server, ...] = ()
        self._look = asyncio.Event()
        self._probed = asyncio.Event()
        self.reload()

    @property
    def search(self) -> tuple[str, ...]:
        """The host's search domains."""
        return self._conf.search

    @property
    def report(self) -> dict[str, str]:
        """Each server's health in words."""
        return {s.address: s.health.value for s in self._servers}

    @property
    def usable(self) -> list[Server]:
        """Those worth asking, in resolv.conf's order. Empty: there is no upstream at all."""
        return [s for s in self._servers if s.health is not Health.DOWN]

    def reload(self) -> bool:
        """Read resolv.conf if it changed; gives whether it says something else now. A missing file names no server."""
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_ino)
            if version == self._version:
                return False
            conf = parse_resolv_conf(self._path.read_text(errors="replace"))
        except OSError as error:
            version, conf = None, ResolvConf()
            if self._conf != conf:
                log.warning("cannot read %s any more, so there is no upstream: %s", self._path, error.strerror)
        self._version = version
        if conf == self._conf:
            return False
        self._conf = conf
        known = {s.address: s for s in self._servers}
        self._servers = tuple(known.get(a, Server(a)) for a in conf.servers if a not in self._never)
        self._probed.clear()
        self._look.set()
        log.info("upstream servers: %s", ", ".join(s.address for s in self._servers) or "none")
        return True

    async def first_look(self) -> None:
        """Return when no usable server is one of which nothing is known; bounded by the time that a probe may take."""
        if any(s.health is Health.UNKNOWN for s in self._servers):
            await self._probed.wait()

    def note_answer(self, server: Server, response: bytes) -> None:
        """A server has answered a query."""
        if resolves(response):
            self._set(server, Health.UP)

    def note_failure(self, server: Server) -> None:
        """A server has not answered in time, or could not be asked: look at it soon."""
        if server.health is not Health.DOWN:
            server.probe_at = 0.0
            self._look.set()

    def _set(self, server: Server, health: Health) -> None:
        if health is not server.health:
            log.log(
                logging.INFO if health is Health.UP else logging.WARNING,
                "upstream server %s %s",
                server.address,
                health.value,
            )
        server.health = health
        server.failures = 0 if health is Health.UP else server.failures + 1
        wait = min(FIRST_INTERVAL_SECONDS * 2.0 ** (server.failures - 1), _MAX_INTERVAL_SECONDS)
        server.probe_at = None if health is Health.UP else time.monotonic() + wait

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Keep servers and health up to date, for ever; `on_change` is called when resolv.conf says something else."""
        while True:
            self._look.clear()
            if self.reload():
                on_change()
            now = time.monotonic()
            due = [s for s in self._servers if s.probe_at is not None and s.probe_at <= now]
            async with asyncio.TaskGroup() as probes:
                for server in due:
                    probes.create_task(self._probe(server))
            if not any(s.health is Health.UNKNOWN for s in self._servers):
                self._probed.set()
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def _probe(self, server: Server) -> None:
        server.probe_at = None
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                response = await exchange(server.address, _PROBE, tcp=False, port=self._port)
        except OSError:  # TimeoutError is one
            self._set(server, Health.DOWN)
            return
        if resolves(response):
            self._set(server, Health.UP)
        elif server.health is not Health.UP:
            self._set(server, Health.REFUSING)
