"""Simulated proxies: thousands of delta ADS clients in one process, which subscribe like sidecars and check what comes.

A proxy asks for all clusters and listeners, for the endpoints of every cluster that it is sent and the routes of every
listener, and acknowledges each response. What it holds is known by name and version, with the time of the last change.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2
from envoy.service.discovery.v3 import discovery_pb2

from benchmarks.h2 import Stream
from pilotfish.xds.server import SERVICE
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE

METHOD = f"/{SERVICE}/DeltaAggregatedResources"
SERVER_NAME = "istiod.istio-system.svc"
PAUSE = 0.1
"""Seconds between two attempts to connect."""
_DEPENDENTS = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


class Inconsistent(Exception):
    """A proxy was sent what the protocol does not allow."""


@dataclass(eq=False)
class SimulatedProxy:
    """One proxy; its state outlives connections, as a real one's does. `changed_at` is monotonic, in seconds."""

    node_id: str
    held: dict[str, dict[str, str]] = field(
        default_factory=lambda: {t: {} for t in (CLUSTER, ENDPOINT, LISTENER, ROUTE)}
    )
    wanted: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINT: set(), ROUTE: set()})
    missing: set[tuple[str, str]] = field(default_factory=set)
    changed_at: float = 0.0
    received: int = 0
    """Resources and removals sent to it in its life."""
    streams: int = 0

    def state_hash(self) -> str:
        """Equal for proxies that hold the same resources at the same versions."""
        digest = hashlib.blake2b(digest_size=8)
        for type_url, versions in sorted(self.held.items()):
            for name, version in sorted(versions.items()):
                digest.update(f"{type_url}\0{name}\0{version}\0".encode())
        return digest.hexdigest()

    @property
    def configured(self) -> bool:
        """Whether it has had an answer to everything that it asked for."""
        return bool(self.held[CLUSTER]) and all(
            name in self.held[type_url] or (type_url, name) in self.missing
            for type_url, names in self.wanted.items()
            for name in names
        )

    @property
    def clusters(self) -> int:
        """How many clusters with endpoints it has."""
        return len(self.wanted[ENDPOINT])

    async def run(self, target: str, tls: ssl.SSLContext) -> None:
        """Stay connected until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                stream = await Stream.open(target, tls, SERVER_NAME, METHOD, self._received)
                try:
                    self._begin(stream)
                    await stream.ended()
                finally:
                    stream.close()
            await asyncio.sleep(PAUSE)

    def _begin(self, stream: Stream) -> None:
        """Ask for everything, and tell what is held of an earlier stream."""
        self._stream = stream
        first = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, initial_resource_versions=self.held[CLUSTER])
        first.node.id = self.node_id
        stream.write(first.SerializeToString())
        for type_url in (ENDPOINT, LISTENER, ROUTE):
            names = self.wanted.get(type_url)
            if names or type_url == LISTENER:
                self._ask(type_url, names or (), initial=True)
        self.streams += 1

    def _received(self, message: bytes) -> None:
        self._take(discovery_pb2.DeltaDiscoveryResponse.FromString(message))

    def _take(self, response: Any) -> None:
        versions = self.held[response.type_url]
        wanted = self.wanted.get(response.type_url)
        for resource in response.resources:
            if wanted is not None and resource.name not in wanted:
                raise Inconsistent(f"{self.node_id} was sent {resource.name}, which it had not asked for")
            versions[resource.name] = resource.version
        for name in response.removed_resources:
            versions.pop(name, None)
            if wanted is not None and name in wanted:
                self.missing.add((response.type_url, name))
        self.received += len(response.resources) + len(response.removed_resources)
        self.changed_at = time.monotonic()
        if dependent := _DEPENDENTS.get(response.type_url):
            added = {name for resource in response.resources for name in _names(response.type_url, resource)}
            removed = set(response.removed_resources) & self.wanted[dependent]
            if new := added - self.wanted[dependent]:
                self.wanted[dependent] |= new
                self._ask(dependent, new)
            if removed:
                self.wanted[dependent] -= removed
                self._ask(dependent, (), removed)
        answer = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        self._stream.write(answer.SerializeToString())

    def _ask(self, type_url: str, names: Iterable[str], removed: Iterable[str] = (), *, initial: bool = False) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=sorted(names),
            resource_names_unsubscribe=sorted(removed),
            initial_resource_versions=self.held[type_url] if initial else {},
        )
        self._stream.write(request.SerializeToString())


def _names(type_url: str, resource: Any) -> set[str]:
    """The endpoints of a cluster, or the route configurations of a listener, by name."""
    body = resource.resource.value
    return {_endpoints(body)} - {""} if type_url == CLUSTER else set(_routes(body))


# Most proxies are sent the same bytes.
@functools.lru_cache(maxsize=65536)
def _endpoints(body: bytes) -> str:
    cluster = cluster_pb2.Cluster.FromString(body)
    uses_endpoints = cluster.type == cluster_pb2.Cluster.EDS
    return str(cluster.eds_cluster_config.service_name or cluster.name) if uses_endpoints else ""


@functools.lru_cache(maxsize=65536)
def _routes(body: bytes) -> tuple[str, ...]:
    listener = listener_pb2.Listener.FromString(body)
    managers = (
        manager_pb2.HttpConnectionManager.FromString(filter_.typed_config.value)
        for chain in (*listener.filter_chains, listener.default_filter_chain)
        for filter_ in chain.filters
        if filter_.typed_config.type_url.endswith("HttpConnectionManager")
    )
    return tuple({manager.rds.route_config_name for manager in managers if manager.HasField("rds")})


async def run_all(proxies: Mapping[SimulatedProxy, ssl.SSLContext], target: str, until: asyncio.Event) -> None:
    """Keep all of them connected until the event is set. Raises what any of them raises."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(proxy.run(target, tls)) for proxy, tls in proxies.items()]
        await until.wait()
        for task in running:
            task.cancel()
