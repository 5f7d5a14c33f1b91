"""The API server's connections to node agents, over mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pilotfish.api.errors import ApiError, ServiceUnavailable
from pilotfish.client.kubeconfig import Kubeconfig
from pilotfish.client.stream import ChannelStream, open_stream
from pilotfish.client.tls import ssl_context
from pilotfish.client.wire import read_error

CONNECT_SECONDS = 5.0

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Nodes:
    """How to reach the agents: the authority of their certificates, and our own certificate and key (PEM files).

    The files are read for each connection, so that renewed ones count at once.
    """

    ca: Path
    certificate: Path
    key: Path

    @asynccontextmanager
    async def download(self, node: str, path: str, query: Query) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of an answer as it comes. Raises what the node's Status says, ApiError (500) when it is away."""
        config = self._config(node)
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        async with AsyncExitStack() as stack:
            try:
                http = await stack.enter_async_context(
                    httpx.AsyncClient(
                        base_url=config.server, verify=ssl_context(config), timeout=timeout, trust_env=False
                    )
                )
                response = await stack.enter_async_context(http.stream("GET", path, params=list(query)))
            except httpx.TransportError as error:
                raise _unreachable(f"{node}: {error or type(error).__name__}") from error
            if response.is_error:
                raise read_error(await response.aread(), response.status_code)
            yield response.aiter_raw()

    @asynccontextmanager
    async def stream(self, node: str, path: str, query: Query) -> AsyncIterator[ChannelStream]:
        """An open channel stream. Raises what the node's Status says, ApiError (500) when it is away."""
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(open_stream(self._config(node), path, query))
            except ServiceUnavailable as error:
                raise _unreachable(error.message) from error
            yield opened

    def _config(self, node: str) -> Kubeconfig:
        try:
            ca, certificate, key = (path.read_bytes() for path in (self.ca, self.certificate, self.key))
        except OSError as error:
            raise _unreachable(f"the API server's own client certificate cannot be read: {error}") from error
        return Kubeconfig(f"https://{node}", ca, certificate, key, context="API server to node")


def _unreachable(reason: str) -> ApiError:
    """Kubernetes' words for a kubelet that does not answer."""
    return ApiError(f"error dialing backend: {reason}")
