"""From the API to the generator: informers tell of changes, which go on in batches of what is there anyway.

There is no waiting for more: whatever has come when the event loop gets round to it is one batch.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, NamedTuple, Never

from pilotfish.api import core, kinds
from pilotfish.api.errors import Invalid
from pilotfish.api.meta import Object
from pilotfish.api.scheme import AnyKind
from pilotfish.client.informer import Change as Told
from pilotfish.client.informer import Informer
from pilotfish.client.informers import Informers
from pilotfish.mesh.meshconfig import CONFIG_MAP, CONFIG_MAP_KEY, ROOT_NAMESPACE, read_mesh_config
from pilotfish.mesh.model import Change
from pilotfish.mesh.policies import exports_of
from pilotfish.mesh.records import SecretKey
from pilotfish.mesh.telemetry import Reports
from pilotfish.xds.discovery import Discovery
from pilotfish.xds.generator import Generator
from pilotfish.xds.settings import settings_of

log = logging.getLogger(__name__)

KINDS: tuple[AnyKind, ...] = (
    kinds.SERVICE,
    kinds.ENDPOINT_SLICE,
    kinds.SERVICE_ENTRY,
    kinds.WORKLOAD_ENTRY,
    kinds.POD,
    kinds.VIRTUAL_SERVICE,
    kinds.DESTINATION_RULE,
    kinds.SIDECAR,
    kinds.ENVOY_FILTER,
    kinds.GATEWAY,
    kinds.TELEMETRY,
)
"""What the model is made of."""


class Known(NamedTuple):
    """What the generator knows of an object: None where there is none, and not `settled` while a change of it waits."""

    object: Object | None
    settled: bool


class Feed:
    """Keeps a generator up with the API, while `run` and the informers run on one event loop."""

    def __init__(self, informers: Informers, generator: Generator) -> None:
        self._generator = generator
        self._pending: list[Change] = []
        self._wanted = asyncio.Event()
        settings = informers.informer(kinds.CONFIG_MAP, ROOT_NAMESPACE, fields=f"metadata.name={CONFIG_MAP}")
        settings.subscribe(self._configure)
        self._informers = [settings, *map(informers.informer, KINDS)]
        for informer in self._informers[1:]:
            informer.subscribe(self._queue)
        namespaces = informers.informer(kinds.NAMESPACE)
        namespaces.subscribe(lambda _: self._wanted.set())
        self._discovery = Discovery(namespaces, self._informers[1:])
        self._informers.append(namespaces)
        self._sources = informers
        self._secrets: dict[SecretKey, Informer[Any]] = {}
        generator.gateways.on_secrets = self._follow

    def known(self, kind: AnyKind, namespace: str, name: str) -> Known:
        """What has come of an object. Raises KeyError for a kind that no configuration is made of."""
        informer = self._informers[1 + KINDS.index(kind)] if kind in KINDS else None
        if informer is None:
            raise KeyError(kind.kind)
        waiting = any(
            isinstance(obj, kind.type) and obj.key == (namespace, name) for change in self._pending for obj in change
        )
        return Known(informer.objects.get((namespace, name)), settled=not waiting)

    async def synced(self) -> None:
        """Returns once the generator knows all that the API has: serve no proxy before, lest it lose what it holds."""
        for informer in self._informers:
            await informer.synced()
        self._flush()

    async def run(self) -> Never:
        """Hand changes on until cancelled. What the generator raises ends it: it would serve something wrong."""
        while True:
            await self._wanted.wait()
            self._flush()

    def _follow(self, secrets: frozenset[SecretKey]) -> None:
        """Follow these Secrets, one by one as a kubelet does, and no others: those of a cluster are many and large."""
        for key in self._secrets.keys() - secrets:
            informer = self._secrets.pop(key)
            for secret in informer.objects.values():
                self._queue(Told(secret, None))
            self._sources.release(informer)
        for key in secrets - self._secrets.keys():
            kind: AnyKind = kinds.SECRET if key.kind == "Secret" else kinds.CONFIG_MAP
            followed = self._sources.informer(kind, key.namespace, fields=f"metadata.name={key.name}")
            self._secrets[key] = followed
            followed.subscribe(self._queue)

    def _flush(self) -> None:
        self._wanted.clear()
        changes, self._pending = self._pending, []
        if narrowed := self._discovery.narrowed(changes):
            self._generator.apply(narrowed)

    def _queue(self, told: Told[Any]) -> None:
        self._pending.append((told.old, told.new))
        self._wanted.set()

    def _configure(self, told: Told[core.ConfigMap]) -> None:
        """Settings that cannot be read change nothing: the last good ones stay in force."""
        text = told.new.data.get(CONFIG_MAP_KEY, "") if told.new else ""
        try:
            mesh = read_mesh_config(text)
            settings = settings_of(mesh, self._generator.settings)
        except Invalid as error:
            log.error("ConfigMap %s/%s keeps its last good settings: %s", ROOT_NAMESPACE, CONFIG_MAP, error)
            return
        self._discovery.select(mesh.discovery_selectors)
        self._wanted.set()
        reports = Reports(mesh, os.environ)
        self._generator.reconfigure(settings, exports_of(mesh), reports, mesh.root_namespace)
