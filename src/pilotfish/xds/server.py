"""The ADS server: streams over gRPC, from the sessions of proxies to the configuration source and back.

Everything runs on one asyncio loop, each stream in a reader and a writer of its own; a proxy that does not read blocks
its writer and nobody else, and what waits for it is names of resources. Bytes go in and out of gRPC as they are.

uvloop is the loop to use. grpc.aio shares either loop with uvicorn without trouble: with 50 streams and an HTTP client
busy at once, pushes and HTTP answers take the same time on both, within the noise. But asyncio sets TCP_NODELAY only on
sockets made with IPPROTO_TCP, and on others uvicorn's answers wait 40 ms for a delayed acknowledgement; uvloop sets it
on all. A process that serves many streams should call `gc.freeze()` once its configuration is loaded and raise the
thresholds of `gc`: full collections are a seventh of the CPU time that a change for a thousand proxies takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from pilotfish.pki.files import KeyPair
from pilotfish.xds.delta import DELTA
from pilotfish.xds.node import Peer, Refused, authorised, parse_node, peer_of, require_operator
from pilotfish.xds.session import Dialect, Session
from pilotfish.xds.sotw import STATE_OF_THE_WORLD
from pilotfish.xds.source import Changes, ConfigSource, ProxyConfig, ProxyNode
from pilotfish.xds.status import Log, Observer, Progress, ProxyState
from pilotfish.xds.trust import TrustDomains

log = logging.getLogger("pilotfish.xds")

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS = (
    # Without it a second server on the same port would start, and each would get half of the proxies.
    ("grpc.so_reuseport", 0),
    # A proxy that comes back tells the version of everything that it holds.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
    # Ask after peers that vanished without a word (a machine that was switched off).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Connection:
    """One connected proxy: what it has, and what there is for it."""

    state: ProxyState
    config: ProxyConfig


DEBUG = "istio.io/debug/"
"""How types begin that ask about proxies, and not for configuration."""
Answer = Callable[[Any, str, Iterable[Connection]], bytes]
"""The response to a request of such a type, with this nonce. Raises Refused."""


class AdsServer:
    """All connected proxies. `trusted` are those whose certificates count; None lets anyone in (for tests).

    `answer` is for those who ask about proxies, which are administrators and nodes.
    """

    def __init__(
        self,
        source: ConfigSource,
        trusted: TrustDomains | None,
        observer: Observer | None = None,
        answer: Answer | None = None,
    ) -> None:
        self._answer = answer
        self._source = source
        self._trusted = trusted
        self._observer = observer or Log()
        self._streams: dict[_Stream, None] = {}

    def service(self) -> grpc.GenericRpcHandler:
        """`AggregatedDiscoveryService` in both variants, to be added to a gRPC server."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._handler(DELTA)),
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._handler(STATE_OF_THE_WORLD)),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def proxies(self) -> tuple[ProxyState, ...]:
        """Every connected proxy and what it has, in order of connection (what Envoy's CSDS tells)."""
        return tuple(stream.state() for stream in self._streams)

    def connections(self) -> tuple[Connection, ...]:
        """The same, with the configuration that each is served from as it stands now."""
        return tuple(Connection(stream.state(), stream.config) for stream in self._streams)

    def progress(self) -> tuple[Progress, ...]:
        """How far every connected proxy has come with what it was told."""
        return tuple(stream.progress() for stream in self._streams)

    def _handler(self, dialect: Dialect) -> Any:
        async def handle(_: AsyncIterator[bytes], context: Context) -> None:
            try:
                await self._serve(dialect, context)
            except Refused as refused:
                log.warning("refused %s: %s", context.peer(), refused)
                await context.abort(refused.code, str(refused))

        return handle

    async def _serve(self, dialect: Dialect, context: Context) -> None:
        message = await _next(context)
        if message is None:
            return
        request = _parse(dialect, message)
        if self._answer is not None and request.type_url.startswith(DEBUG):
            await self._answer_questions(self._answer, dialect, request, context)
            return
        node = self._admit(request.node, peer_of(context))
        stream = _Stream(dialect, node, context, self._source, self._observer)
        self._streams[stream] = None
        log.info("%s connected from %s", node.id, context.peer())
        self._observer.connected(node)
        try:
            await stream.run(request)
        finally:
            stream.close()
            del self._streams[stream]
            log.info("%s disconnected", node.id)
            self._observer.disconnected(node)

    async def _answer_questions(self, answer: Answer, dialect: Dialect, request: Any, context: Context) -> None:
        if self._trusted is not None:
            require_operator(context)
        for nonce in itertools.count(1):
            if not request.response_nonce:  # an acknowledgement asks for nothing
                await context.write(answer(request, str(nonce), self.connections()))
            if (message := await _next(context)) is None:
                return
            request = _parse(dialect, message)

    def _admit(self, claimed: Any, peer: Peer | None) -> ProxyNode:
        node = parse_node(claimed)
        return node if self._trusted is None else authorised(node, peer, self._trusted)


class _Stream:
    """One proxy's connection: the I/O around its session."""

    def __init__(
        self, dialect: Dialect, node: ProxyNode, context: Context, source: ConfigSource, observer: Observer
    ) -> None:
        self._dialect = dialect
        self._node = node
        self._context = context
        self._wake = asyncio.Event()
        self._connected_at = dt.datetime.now(dt.UTC)
        self.config = source.connect(node, self._changed)
        self._session = Session(dialect, node, self.config, observer)

    async def run(self, first: Any) -> None:
        """Until the proxy ends the stream. Raises Refused when it breaks the protocol."""
        self._session.receive(first)
        # What is raised within `except*` comes out inside another group, so that it is raised after it.
        ended: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(), name=f"xds {self._node.id}")
                await self._read()
                writer.cancel()
        except* Refused as group:
            ended.append(group.exceptions[0])
        except* grpc.aio.InternalError:
            # A write to a proxy that is gone, seen before gRPC cancels the stream for the same reason.
            ended.append(asyncio.CancelledError())
        if ended:
            raise ended[0]

    def close(self) -> None:
        self.config.close()

    def state(self) -> ProxyState:
        return ProxyState(self._node, self._context.peer(), self._connected_at, self._session.state())

    def progress(self) -> Progress:
        return Progress(self._node, self._connected_at, self._session.told, self._session.answered)

    def _changed(self, changes: Changes) -> None:
        if self._session.changed(changes):
            self._wake.set()

    async def _read(self) -> None:
        while (message := await _next(self._context)) is not None:
            if self._session.receive(_parse(self._dialect, message)):
                self._wake.set()

    async def _write(self) -> None:
        while True:
            while (response := self._session.next_response(time.monotonic())) is not None:
                await self._context.write(response)
            await self._until_something_happens()

    async def _until_something_happens(self) -> None:
        """A request, a change, or the time at which something held back goes out all the same."""
        until = self._session.wake_at
        if until is None:
            await self._wake.wait()
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, until - time.monotonic()))
        self._wake.clear()


@contextlib.asynccontextmanager
async def serving(
    services: Iterable[grpc.GenericRpcHandler], address: str, credentials: grpc.ServerCredentials | None
) -> AsyncIterator[int]:
    """A gRPC server with these services, as long as the context lasts; gives the port that it listens on.

    `address` is "host:port" (port 0: any free one) or "unix:/path". Raises OSError when it cannot be had.
    """
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(tuple(services))
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot serve xDS on {address}: is the address there and the port free? ({error})") from error
    await server.start()
    try:
        yield port
    finally:
        # Proxies reconnect as soon as they see the end, so there is nothing to wait for.
        await server.stop(grace=None)


def mutual_tls(pair: KeyPair, ca: bytes) -> grpc.ServerCredentials:
    """Credentials of a server that wants a certificate of `ca` (PEM) from every client."""
    return grpc.ssl_server_credentials([(pair.key, pair.certificate)], root_certificates=ca, require_client_auth=True)


async def _next(context: Context) -> bytes | None:
    """The next message, or None when the proxy has ended the stream."""
    message: Any = await context.read()
    return None if message is grpc.aio.EOF else bytes(message)


def _parse(dialect: Dialect, message: bytes) -> Any:
    try:
        request = dialect.parse(message)
    except DecodeError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"not a discovery request: {error}") from error
    if not request.type_url:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the discovery request has no type_url")
    return request
