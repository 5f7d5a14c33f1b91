"""The assertion mode over a long random run: whatever changes, what proxies have is what a fresh start would give them.

The parts of the control plane between the API and the ADS streams run in this process, with `PILOTFISH_AUDIT`'s check
after every batch of changes: the model and every part of every proxy's configuration made from nothing, and compared.
Proxies of all kinds come and go, look hosts up, use some of them, and keep a copy of what they are told, which is
compared too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks import chaos
from benchmarks.report import Figure, Section
from benchmarks.topic import Options, log
from pilotfish.api.demand import Demand, demand_name
from pilotfish.api.errors import ApiError, NotFound
from pilotfish.api.kinds import CONFIG_MAP, NAMESPACE, POD, SCHEME
from pilotfish.api.meta import Document
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informers import Informers
from pilotfish.mesh.meshconfig import CONFIG_MAP as MESH_CONFIG
from pilotfish.mesh.meshconfig import CONFIG_MAP_KEY, ROOT_NAMESPACE
from pilotfish.mesh.model import Model
from pilotfish.store.memory import MemoryStore
from pilotfish.xds import source
from pilotfish.xds.feed import Feed
from pilotfish.xds.generator import Generator
from pilotfish.xds.groups import GATEWAY_LABEL
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import Changes, ProxyNode

TYPES = (source.LISTENER, source.ROUTE, source.CLUSTER, source.ENDPOINT, source.SECRET, NAME_TABLE_TYPE)
SERVICE_NETWORK = "10.1.0.0/24"
PROXIES = 8
"""How many there are at a time."""
_MESH_CONFIGS = (
    "",
    "accessLogFile: /dev/stdout",
    "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
    "defaultServiceExportTo: ['.']",
    "defaultDestinationRuleExportTo: ['.']\ndefaultVirtualServiceExportTo: ['.']",
    "enableAutoMtls: false",
    "trustDomainAliases: [old.test]\npathNormalization: {normalization: MERGE_SLASHES}",
)


def run(options: Options) -> Iterator[Section]:
    seconds = options.seconds or options.pick(20, 600)
    seed = options.seed if options.seed is not None else random.randrange(2**32)
    log.info("audit: seed %d, %d s", seed, seconds)
    tally = asyncio.run(Run(seed).last(seconds))
    yield Section(
        topic="audit",
        title="Assertion mode over a random run",
        method="Objects of every kind that shapes proxies are written, changed and deleted at random through the API "
        "server, few enough to collide all the time; proxies of every kind come, go and look hosts up. After every "
        "batch of changes the model and all parts of all configurations are made from nothing and compared, and so is "
        f"what each proxy was told. Seed {seed}.",
        figures=(
            Figure(name="writes that were taken", unit="", values=(tally.written,)),
            Figure(name="writes that were refused", unit="", values=(tally.refused,)),
            Figure(name="proxies that came and went, lookups", unit="", values=(tally.proxies,)),
            Figure(name="differences", unit="", values=(0,), goal=0),
        ),
        notes=("By kind: " + ", ".join(f"{kind} {count:,}" for kind, count in tally.kinds.most_common()) + ".",),
    )


@dataclass
class Tally:
    written: int = 0
    refused: int = 0
    proxies: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


class Watcher:
    """A proxy that keeps a copy of what it is told."""

    def __init__(self, generator: Generator, node: ProxyNode) -> None:
        self.node = node
        self.config = generator.connect(node, self._hear)
        self.held = self._all()

    def _all(self) -> dict[tuple[str, str], str]:
        return {(url, r.name): r.version for url in TYPES for r in self.config.resources(url).values()}

    def _hear(self, changes: Changes) -> None:
        for url, names in changes.items():
            current = self.config.resources(url)
            for name in names:
                if name in current:
                    self.held[url, name] = current[name].version
                else:
                    del self.held[url, name]

    def check(self) -> None:
        """Raises AssertionError when the proxy was not told of something."""
        there = self._all()
        wrong = [key for key in there.keys() | self.held.keys() if there.get(key) != self.held.get(key)]
        assert not wrong, f"{self.node.id} was not told of {wrong}"


class Run:
    """One mesh and its proxies, from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._tally = Tally()
        self._proxies: list[Watcher] = []
        self._now = 0.0
        """Seconds by which hosts are idle."""

    async def last(self, seconds: float) -> Tally:
        """Go on for so long. Raises RuntimeError, which says what was done last, when something differs."""
        store = MemoryStore()
        resources = Resources(store, SCHEME, admissions=(service_allocation(SERVICE_NETWORK, store),))
        await ensure_default_objects(resources)
        self._client = LocalClient(resources)
        for namespace in (*chaos.NAMESPACES, ROOT_NAMESPACE):
            await self._client.create(NAMESPACE, {"metadata": {"name": namespace}})
        await self._client.create(CONFIG_MAP, _mesh_config(""))
        informers = Informers(self._client)
        settings = ProxySettings(mesh_ranges=(SERVICE_NETWORK,))
        self._generator = Generator(Model(), settings, audit=True, clock=lambda: self._now)
        feed = Feed(informers, self._generator)
        did = "nothing yet"
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(informers.run()), group.create_task(feed.run())]
                await feed.synced()
                end, tell = time.monotonic() + seconds, time.monotonic() + 60
                while time.monotonic() < end:
                    did = await self._step()
                    await _taken()
                    for watcher in self._proxies:
                        watcher.check()
                    if time.monotonic() > tell:
                        log.info("audit: %d writes", self._tally.written)
                        tell += 60
                for task in tasks:
                    task.cancel()
        except* Exception as group_:
            raise RuntimeError(f"after {self._tally.written} writes, the last of them: {did}") from group_
        finally:
            await store.close()
        return self._tally

    async def _step(self) -> str:
        """Do something; gives what it was."""
        chance = self._rng.random()
        if chance < 0.08 or len(self._proxies) < PROXIES // 2:
            return self._proxy()
        if chance < 0.16:
            return self._look_up()
        if chance < 0.17:
            text = self._rng.choice(_MESH_CONFIGS)
            await self._client.update(CONFIG_MAP, _mesh_config(text))
            return f"mesh configuration {text!r}"
        return ", ".join([await self._write() for _ in range(self._rng.choice((1, 1, 1, 2, 5)))])

    async def _write(self) -> str:
        kind, document = chaos.document(self._rng)
        status = document.pop("status", None)
        metadata = document["metadata"]
        where = f"{kind.kind} {metadata['namespace']}/{metadata['name']}"
        try:
            if self._rng.random() < 0.3:
                await self._client.delete(kind, metadata["name"], metadata["namespace"], grace_period_seconds=0)
                return f"delete {where}"
            await self._put(kind, document)
            if status:
                await self._client.patch(
                    kind, metadata["name"], metadata["namespace"], {"status": status}, subresource="status"
                )
        except ApiError as error:
            self._tally.refused += 1
            return f"refused {where}: {error}"
        self._tally.written += 1
        self._tally.kinds[kind.kind] += 1
        return f"write {where} {document} {status or ''}"

    async def _put(self, kind: AnyKind, document: Document) -> None:
        """Have the object be this. Pods are made anew, as their specs do not change."""
        name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
        try:
            if kind is not POD:
                await self._client.update(kind, document)
                return
            await self._client.delete(kind, name, namespace, grace_period_seconds=0)
        except NotFound:
            pass
        await self._client.create(kind, document)

    def _proxy(self) -> str:
        """A proxy connects, or one goes."""
        self._tally.proxies += 1
        if len(self._proxies) >= PROXIES:
            gone = self._proxies.pop(self._rng.randrange(len(self._proxies)))
            gone.config.close()
            return f"{gone.node.id} goes"
        node = self._node()
        self._proxies.append(Watcher(self._generator, node))
        return f"{node.id} comes"

    def _node(self) -> ProxyNode:
        rng = self._rng
        namespace, address = rng.choice(chaos.NAMESPACES), rng.choice(chaos.ADDRESSES)
        kind = rng.choice(("sidecar", "sidecar", "on demand", "on demand", "router", "node gateway", "dns", "grpc"))
        labels = {"app": rng.choice("xy"), "version": rng.choice(chaos.SUBSETS)}
        metadata: dict[str, Any] = {"LABELS": labels}
        if kind == "on demand":
            metadata |= {"DNS_CAPTURE": "true", "PILOTFISH_IDLE_TIMEOUT": rng.choice(("30s", "2h"))}
        if kind == "node gateway":
            metadata["LABELS"] = {GATEWAY_LABEL: "node"}
        type_ = {"on demand": "sidecar", "node gateway": "router"}.get(kind, kind)
        name = f"p{rng.randrange(6)}"
        return ProxyNode(f"{type_}~{address}~{name}.{namespace}~x", type_, address, name, namespace, metadata)

    def _look_up(self) -> str:
        """A workload looks a host up, or connects to an address without having done so."""
        self._tally.proxies += 1
        rng = self._rng
        asking = [watcher for watcher in self._proxies if watcher.node.type == "dns"]
        if asking and rng.random() < 0.7:
            demand = demand_name(Demand(rng.choice(chaos.ADDRESSES), rng.choice(chaos.HOSTS)))
            again = rng.random() < 0.2
            rng.choice(asking).config.asked(NAME_TABLE_TYPE, [] if again else [demand], [demand] if again else [], ())
            return f"lookup {demand}"
        users = [watcher for watcher in self._proxies if "DNS_CAPTURE" in watcher.node.metadata]
        if not users:
            return "no lookup"
        if rng.random() < 0.5:
            user = rng.choice(users)
            self._now += rng.choice((0.0, 10.0, 3600.0))
            used = {name for name in user.config.resources(source.CLUSTER) if rng.random() < 0.5}
            self._generator.used(user.node, used)
            return f"{user.node.id} uses {sorted(used)}"
        cluster = f"outbound|{rng.choice((80, 90, 443))}||10.1.0.{rng.randint(1, 5)}"
        rng.choice(users).config.asked(source.CLUSTER, [cluster], (), ())
        return f"connection for {cluster}"


def _mesh_config(text: str) -> Document:
    metadata = {"name": MESH_CONFIG, "namespace": ROOT_NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {CONFIG_MAP_KEY: text}}


async def _taken() -> None:
    """Let the informers and the feed take what was written: each is woken within a turn of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)
