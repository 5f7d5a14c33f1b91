"""Names that are not ours: what the host's resolvers say to them, asked once for the same question, and kept.

A server that fails while it is thought well costs its query up to `TOTAL_SECONDS`, and SERVFAIL. Where no server
answers its probes there is no upstream at all, and unknown names get NXDOMAIN at once, so that nobody on a machine
without a resolver waits for time-outs. The same is said when the servers do answer, yet have only ever refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from pilotfish.node.dns import wire
from pilotfish.node.dns.cache import AnswerCache
from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.exchange import DNS_PORT, exchange
from pilotfish.node.dns.servers import Health, Server, Servers, resolves
from pilotfish.node.dns.wire import Query, Rcode

log = logging.getLogger(__name__)

TOTAL_SECONDS = 2.0
PATIENCE_SECONDS = 0.5
"""How long a server has before the next one is asked too."""
MAX_IN_FLIGHT = 1024

_Exchange = asyncio.Task[bytes | None]


class Upstream:
    """Asks the servers. Its tasks belong to `group`."""

    def __init__(self, group: asyncio.TaskGroup, servers: Servers, counters: Counters, *, port: int = DNS_PORT) -> None:
        self._group = group
        self._servers = servers
        self._counters = counters
        self._port = port
        self._cache = AnswerCache(time.monotonic)
        self._tasks: set[asyncio.Task[bytes | Rcode]] = set()
        self._shared: dict[tuple[bytes, bool], asyncio.Task[bytes | Rcode]] = {}

    @property
    def search(self) -> tuple[str, ...]:
        """The host's search domains."""
        return self._servers.search

    def servers_changed(self) -> None:
        """Other servers may say other things."""
        self._cache.clear()

    def known(self, query: Query) -> bytes | Rcode | None:
        """What is known without asking: an answer without its id, NXDOMAIN when there is nobody to ask, else None."""
        if query.plain and (response := self._cache.get(_key(query))):
            self._counters.upstream_cached += 1
            return _restored(query, response)
        if not self._servers.usable:
            self._counters.no_upstream += 1
            return Rcode.NXDOMAIN
        return None

    async def ask(self, query: Query, *, tcp: bool) -> bytes | Rcode:
        """The answer without its id, as it came; NXDOMAIN when there is nobody to ask, SERVFAIL when asking failed."""
        key = (_key(query), tcp)
        task = self._shared.get(key) if query.plain else None
        if task:
            self._counters.merged += 1
        elif len(self._tasks) >= MAX_IN_FLIGHT:
            self._counters.overloaded += 1
            return Rcode.SERVFAIL
        else:
            task = self._start(query, key, tcp=tcp)
        # A client that goes away must not take the answer from others who wait for it.
        outcome = await asyncio.shield(task)
        return outcome if isinstance(outcome, Rcode) else _restored(query, outcome)

    def _start(self, query: Query, key: tuple[bytes, bool], *, tcp: bool) -> asyncio.Task[bytes | Rcode]:
        def ended(task: asyncio.Task[bytes | Rcode]) -> None:
            self._tasks.discard(task)
            if self._shared.get(key) is task:
                del self._shared[key]

        task = self._group.create_task(self._resolve(query, tcp=tcp))
        self._tasks.add(task)
        if query.plain:
            self._shared[key] = task
        task.add_done_callback(ended)
        return task

    async def _resolve(self, query: Query, *, tcp: bool) -> bytes | Rcode:
        self._counters.forwarded += 1
        deadline = time.monotonic() + TOTAL_SECONDS
        await self._servers.first_look()
        servers = self._servers.usable
        if not servers:
            self._counters.no_upstream += 1
            return Rcode.NXDOMAIN
        response = await self._race(servers, query.packet, deadline, tcp=tcp)
        if response is None:
            self._counters.upstream_failed += 1
            return Rcode.SERVFAIL
        if resolves(response):
            self._keep(query, response)
        elif all(s.health is Health.REFUSING for s in servers):
            self._counters.no_upstream += 1
            return Rcode.NXDOMAIN
        return response

    async def _race(self, servers: list[Server], packet: bytes, deadline: float, *, tcp: bool) -> bytes | None:
        """The first response that says something; failing that, a response with an error; or None.

        The next server is asked when one fails or takes long, and who was asked before may still answer.
        """
        turns = deque(servers)
        asked: dict[_Exchange, tuple[Server, float]] = {}
        waiting: set[_Exchange] = set()
        refusal: bytes | None = None
        try:
            while (left := deadline - time.monotonic()) > 0 and (turns or waiting):
                if turns:
                    server = turns.popleft()
                    task = asyncio.create_task(self._exchange(server, packet, tcp=tcp))
                    asked[task] = (server, time.monotonic())
                    waiting.add(task)
                patience = min(PATIENCE_SECONDS, left) if turns else left
                done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for response in filter(None, (task.result() for task in done)):
                    if resolves(response):
                        return response
                    refusal = response
            return refusal
        finally:
            late = time.monotonic() - PATIENCE_SECONDS / 2
            for task in waiting:
                server, since = asked[task]
                if since < late:
                    self._servers.note_failure(server)
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _exchange(self, server: Server, packet: bytes, *, tcp: bool) -> bytes | None:
        try:
            response = await exchange(server.address, packet, tcp=tcp, port=self._port)
        except OSError as error:
            log.debug("upstream server %s: %s", server.address, error)
            self._servers.note_failure(server)
            return None
        self._servers.note_answer(server, response)
        return response

    def _keep(self, query: Query, response: bytes) -> None:
        if not query.plain:
            return
        try:
            self._cache.put(_key(query), response)
        except wire.Malformed as error:
            log.debug("an upstream answer is passed on but not kept: %s", error)


def _key(query: Query) -> bytes:
    """What makes two queries the same question: all but the id and the case of letters."""
    end = wire.HEADER_SIZE + len(query.question)
    return query.packet[2 : wire.HEADER_SIZE] + query.name + query.packet[end - 4 :]


def _restored(query: Query, response: bytes) -> bytes:
    """A response without its id, its question in the letters of this query; owners' names point there."""
    end = wire.HEADER_SIZE + len(query.question)
    if response[wire.HEADER_SIZE : end].lower() != query.question.lower():
        return response[2:]
    return response[2 : wire.HEADER_SIZE] + query.question + response[end:]
