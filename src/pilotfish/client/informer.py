"""A local copy of one collection that follows the API server and tells what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Never, TypeVar

from pilotfish.api.errors import ApiError, Expired, ServiceUnavailable
from pilotfish.api.meta import Object
from pilotfish.api.scheme import Kind
from pilotfish.client.backoff import backoff
from pilotfish.client.client import Client, WatchEvent

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

HEALTHY_SECONDS = 5.0
"""How long a watch has to last for its end to be nothing unusual."""

ObjectKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What became of one object: `old` is None when it is new, `new` is None when it is gone; never both.

    Where both are given they are the same object, by uid: one that was replaced by another of its name is told as two.
    """

    old: T | None
    new: T | None

    @property
    def object(self) -> T:
        """The newest that is known of the object."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found

    @property
    def key(self) -> ObjectKey:
        return self.object.key


Subscriber = Callable[[Change[T]], None]


class Informer(Generic[T]):
    """The objects of a kind, in one namespace or (None) in all, that selectors leave (client-go's SharedInformer).

    While the server is away the last known objects stay; when it is back, subscribers hear the differences.
    """

    def __init__(
        self, client: Client, kind: Kind[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> None:
        self.kind = kind
        self._client = client
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._objects: dict[ObjectKey, T] = {}
        self._subscribers: list[Subscriber[T]] = []
        self._synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[ObjectKey, T]:
        """What is known now, by (namespace, name): a view, not a copy."""
        return MappingProxyType(self._objects)

    async def synced(self) -> None:
        """Returns once `objects` has held everything that the server has."""
        await self._synced.wait()

    def subscribe(self, subscriber: Subscriber[T]) -> Callable[[], None]:
        """Have `subscriber` called with each change, after `objects` shows it; returns what ends that.

        It is first told of all objects that are known already, as new ones. It is called on the event loop and must
        not block; what it raises ends `run`.
        """
        for obj in tuple(self._objects.values()):
            subscriber(Change(None, obj))
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    async def run(self) -> Never:
        """Follow the server until cancelled. Errors of the server are logged and tried again, with back-off."""
        version = ""
        delays = backoff()
        away = False
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                if not version:
                    version = await self._list()
                watch = self._client.watch(
                    self.kind,
                    self._namespace,
                    resource_version=version,
                    labels=self._labels,
                    fields=self._fields,
                )
                async for event in watch:
                    delays = backoff()
                    away = False
                    version = event.resource_version
                    self._apply(event)
            except ServiceUnavailable as error:
                # The server is away, which is said once; it may well know our version when it is back.
                log.log(logging.DEBUG if away else logging.WARNING, "%s: %s", self.kind.plural, error)
                away = True
            except Expired as error:
                log.info("%s: listing again: %s", self.kind.plural, error)
                version = ""
            except ApiError as error:
                log.warning("%s: listing again: %s", self.kind.plural, error)
                version = ""
            if clock() - begun > HEALTHY_SECONDS:
                delays = backoff()
                away = False
            # Also after a watch that the server ended, lest a server that ends each at once be flooded.
            await asyncio.sleep(next(delays))

    async def _list(self) -> str:
        listing = await self._client.list(self.kind, self._namespace, labels=self._labels, fields=self._fields)
        listed = {obj.key for obj in listing.items}
        for key in self._objects.keys() - listed:
            self._remove(key)
        for obj in listing.items:
            self._put(obj)
        self._synced.set()
        return listing.resource_version

    def _apply(self, event: WatchEvent[T]) -> None:
        if event.object is None:
            return
        if event.type == "DELETED":
            self._remove(event.object.key)
        else:
            self._put(event.object)

    def _put(self, obj: T) -> None:
        old = self._objects.get(obj.key)
        if old is not None and old.metadata.uid != obj.metadata.uid:
            self._remove(obj.key)
            old = None
        if old is None or old.metadata.resource_version != obj.metadata.resource_version:
            self._objects[obj.key] = obj
            self._tell(Change(old, obj))

    def _remove(self, key: ObjectKey) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._tell(Change(old, None))

    def _tell(self, change: Change[T]) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber(change)
