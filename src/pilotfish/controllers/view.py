"""What one controller knows of a kind: the informer's objects, with the controller's own writes already in them.

The watch brings a write back a moment after it was acknowledged. A controller that looked at the informer alone would
in between do its work twice: create a second pod, allocate a second address (client-go: expectations, MutationCache).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pilotfish.api.meta import Object
from pilotfish.client.informer import Change, Informer, ObjectKey

T = TypeVar("T", bound=Object)

FORGET_SECONDS = 300.0
"""After how long a write is forgotten that the watch never brought back, as client-go forgets its expectations."""


@dataclass(frozen=True, slots=True)
class _Written(Generic[T]):
    """One write: `object` is what it made, None where it deleted; `uid` is whose."""

    object: T | None
    uid: str
    until: float


class View(Generic[T]):
    """Objects by (namespace, name), and by groups that `groups` puts them in, such as their controller's uid."""

    def __init__(
        self,
        informer: Informer[T],
        groups: Callable[[T], Iterable[str]] = lambda obj: (obj.namespace,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._informer = informer
        self._groups = groups
        self._clock = clock
        self._written: dict[ObjectKey, _Written[T]] = {}
        self._grouped: dict[str, set[ObjectKey]] = {}
        informer.subscribe(self._observe)

    def get(self, key: ObjectKey) -> T | None:
        """The object as it stands, or None."""
        written = self._pending(key)
        return written.object if written else self._informer.objects.get(key)

    def group(self, name: str) -> list[T]:
        """The objects of a group, in no particular order."""
        found = (self.get(key) for key in self._grouped.get(name, ()))
        return [obj for obj in found if obj is not None and name in self._groups(obj)]

    def __iter__(self) -> Iterator[T]:
        for key in {**self._informer.objects, **self._written}:
            obj = self.get(key)
            if obj is not None:
                yield obj

    def wrote(self, obj: T) -> None:
        """Note what a create, update or patch answered."""
        self._written[obj.key] = _Written(obj, obj.metadata.uid, self._clock() + FORGET_SECONDS)
        self._enter(obj)

    def deleted(self, obj: T) -> None:
        """Note that an object's deletion was accepted: it is as good as gone."""
        self._written[obj.key] = _Written(None, obj.metadata.uid, self._clock() + FORGET_SECONDS)

    def _pending(self, key: ObjectKey) -> _Written[T] | None:
        written = self._written.get(key)
        if written is not None and self._clock() > written.until:
            del self._written[key]
            return None
        return written

    def _observe(self, change: Change[T]) -> None:
        written = self._written.get(change.key)
        if written is not None and _overtaken(written, change):
            del self._written[change.key]
        if change.old is not None:
            for name in self._groups(change.old):
                keys = self._grouped.get(name, set())
                keys.discard(change.key)
                if not keys:
                    self._grouped.pop(name, None)
        if change.new is not None:
            self._enter(change.new)
        if (pending := self._pending(change.key)) is not None and pending.object is not None:
            self._enter(pending.object)

    def _enter(self, obj: T) -> None:
        for name in self._groups(obj):
            self._grouped.setdefault(name, set()).add(obj.key)


def _overtaken(written: _Written[T], change: Change[T]) -> bool:
    """Whether the watch has brought as much as we know."""
    if change.new is None:
        return change.object.metadata.uid == written.uid
    if change.new.metadata.uid != written.uid:
        # Another object of the same name: ours is gone, unless ours is the newer one and still on its way.
        return written.object is None or _version(change.new) >= _version(written.object)
    if written.object is None:
        return change.new.metadata.deletion_timestamp is not None
    return _version(change.new) >= _version(written.object)


def _version(obj: Object) -> int:
    """Resource versions of one collection are numbers that grow (Kubernetes KEP-5504)."""
    text = obj.metadata.resource_version
    return int(text) if text.isdecimal() else 0
