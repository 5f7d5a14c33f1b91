"""Namespaces: what each is given when it begins, and how one that is deleted is emptied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from pilotfish.api.core import ConfigMap, Namespace, ServiceAccount
from pilotfish.api.errors import ApiError, Conflict, NotFound
from pilotfish.api.kinds import CONFIG_MAP, NAMESPACE, SCHEME, SERVICE_ACCOUNT
from pilotfish.api.meta import Condition, Document, Object, timestamp
from pilotfish.api.scheme import AnyKind, Kind
from pilotfish.client.client import Client
from pilotfish.client.informer import Change
from pilotfish.client.informers import Informers
from pilotfish.controllers.conditions import with_condition
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Create, Patch, Write, apply

T = TypeVar("T", bound=Object)

FINALIZER = "kubernetes"
DEFAULT_ACCOUNT = "default"


def is_leaving(namespace: Namespace) -> bool:
    return namespace.metadata.deletion_timestamp is not None


def without_finalizer(namespace: Namespace) -> Document:
    """The document for the `finalize` subresource that lets an emptied namespace go."""
    rest = [name for name in namespace.spec.finalizers if name != FINALIZER]
    document: Document = msgspec.to_builtins(namespace)
    document["spec"] = {**document.get("spec", {}), "finalizers": rest}
    return document


def remaining_condition(left: Mapping[str, int], conditions: tuple[Condition, ...], now: str) -> tuple[Condition, ...]:
    """The conditions of a namespace that is not empty yet; `left` is how many objects there are of each resource."""
    counts = ", ".join(f"{resource} has {count} resource instances" for resource, count in sorted(left.items()))
    message = f"Some resources are remaining: {counts}"
    return with_condition(conditions, "NamespaceContentRemaining", "True", "SomeResourcesRemain", message, now)


class NamespaceLifecycle:
    """Deletes what is in a namespace that is being deleted, and then lets the namespace go."""

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self.queue: WorkQueue[str] = WorkQueue("namespace")
        self._namespaces = informers.informer(NAMESPACE)
        self._namespaces.subscribe(lambda change: self.queue.add(change.object.name))
        for kind in SCHEME:
            if kind.namespaced:
                informers.informer(kind).subscribe(self._content_changed)

    def _content_changed(self, change: Change[Object]) -> None:
        namespace = self._namespaces.objects.get(("", change.key[0]))
        if namespace is not None and is_leaving(namespace) and change.new is None:
            self.queue.add(namespace.name)

    async def reconcile(self, name: str) -> float | None:
        namespace = self._namespaces.objects.get(("", name))
        if namespace is None or not is_leaving(namespace) or FINALIZER not in namespace.spec.finalizers:
            return None
        left: dict[str, int] = {}
        for kind in SCHEME:
            if kind.namespaced:
                count = await self._empty(kind, name)
                if count:
                    left[kind.resource] = count
        if not left:
            await self._client.update(NAMESPACE, without_finalizer(namespace), subresource="finalize")
            return None
        told = remaining_condition(left, namespace.status.conditions, timestamp())
        if told != namespace.status.conditions:
            patch: Document = {"status": {"conditions": msgspec.to_builtins(told)}}
            await apply(self._client, NAMESPACE, "", Patch(namespace, patch, "status"))
        return None

    async def _empty(self, kind: AnyKind, namespace: str) -> int:
        """Delete all objects of a kind; returns how many are still there, waiting for their end."""
        # Not the informer: it may not have heard of the last objects that were made.
        listing = await self._client.list(kind, namespace)
        left = 0
        for obj in listing.items:
            try:
                if obj.metadata.deletion_timestamp is None:
                    await self._client.delete(kind, obj.name, namespace, uid=obj.metadata.uid)
                left += await self._is_there(kind, obj)
            except (NotFound, Conflict):
                continue
        return left

    async def _is_there(self, kind: AnyKind, obj: Object) -> bool:
        try:
            return bool((await self._client.get(kind, obj.name, obj.namespace)).metadata.uid == obj.metadata.uid)
        except NotFound:
            return False


class NamespaceDefaults:
    """Gives each namespace the ServiceAccount `default` and the ConfigMaps that every namespace has.

    `config_maps` are name → data, e.g. kube-root-ca.crt and istio-ca-root-cert; their content is kept as given.
    """

    def __init__(self, client: Client, informers: Informers, config_maps: Mapping[str, Mapping[str, str]]) -> None:
        self._client = client
        self._wanted = config_maps
        self.queue: WorkQueue[str] = WorkQueue("namespace-defaults")
        self._namespaces = informers.informer(NAMESPACE)
        accounts, maps = informers.informer(SERVICE_ACCOUNT), informers.informer(CONFIG_MAP)
        self._accounts, self._maps = View(accounts), View(maps)
        self._namespaces.subscribe(lambda change: self.queue.add(change.object.name))
        accounts.subscribe(self._account_changed)
        maps.subscribe(self._map_changed)

    def _account_changed(self, change: Change[ServiceAccount]) -> None:
        if change.new is None and change.key[1] == DEFAULT_ACCOUNT:
            self.queue.add(change.key[0])

    def _map_changed(self, change: Change[ConfigMap]) -> None:
        if change.key[1] in self._wanted:
            self.queue.add(change.key[0])

    async def reconcile(self, name: str) -> float | None:
        namespace = self._namespaces.objects.get(("", name))
        if namespace is None or is_leaving(namespace):
            return None
        if self._accounts.get((name, DEFAULT_ACCOUNT)) is None:
            metadata = {"name": DEFAULT_ACCOUNT, "namespace": name}
            account = Create[ServiceAccount]({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
            await self._write(SERVICE_ACCOUNT, name, account, self._accounts)
        for map_name, data in self._wanted.items():
            held = self._maps.get((name, map_name))
            if held is None:
                metadata = {"name": map_name, "namespace": name}
                document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}
                await self._write(CONFIG_MAP, name, Create(document), self._maps)
            elif held.data != data:
                gone = dict.fromkeys(held.data.keys() - data.keys())
                await self._write(CONFIG_MAP, name, Patch(held, {"data": {**gone, **data}}), self._maps)
        return None

    async def _write(self, kind: Kind[T], namespace: str, write: Write[T], view: View[T]) -> None:
        try:
            await apply(self._client, kind, namespace, write, view)
        except ApiError as error:
            if error.code == 403:
                # The namespace began to be deleted meanwhile.
                return
            raise
