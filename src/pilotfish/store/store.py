"""What a store is: versioned documents by key, with watch.

One revision counter runs over all kinds, as in etcd; an object's `metadata.resourceVersion` is the revision of its last
write. The store gives and takes serialised JSON and looks into it for nothing: whoever writes puts `resourceVersion` in
through the `stamp` that it is handed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class Key(NamedTuple):
    """Where an object lives. `resource` is the kind's full name ("pods", "deployments.apps"); `namespace` may be ""."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object: `body` is its JSON, with `resourceVersion` set to `revision`."""

    key: Key
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One change. For DELETED, `stored.body` is the last state, stamped with the deletion's revision.

    `previous` is the body before the change (None for ADDED), so that a watcher with a selector can tell an object that
    left its selection.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    stored: Stored
    previous: bytes | None = None


Stamp = Callable[[int], bytes]
"""Makes the body to store from the revision that the write gets."""


class Watch(Protocol):
    """An open watch: iterate for events in order of revision; close when done.

    A watcher that falls too far behind is ended with `pilotfish.api.errors.Expired`, so that memory stays bounded.
    """

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def close(self) -> None: ...


class Store(Protocol):
    """All methods see every write that was acknowledged before they were called.

    A write is acknowledged (its coroutine returns) when it is on disk, and not visible to readers or watchers before.
    """

    @property
    def revision(self) -> int:
        """The revision of the newest acknowledged write."""
        ...

    def get(self, key: Key) -> Stored | None: ...

    def list(self, resource: str, namespace: str | None = None) -> list[Stored]:
        """All objects of a resource, in one namespace or (None) in all, ordered by namespace and name."""
        ...

    async def create(self, key: Key, stamp: Stamp) -> Stored:
        """Raises AlreadyExists."""
        ...

    async def update(self, key: Key, stamp: Stamp, expected: int | None = None) -> Stored:
        """Raises NotFound, or Conflict when `expected` is given and is not the object's revision."""
        ...

    async def delete(self, key: Key, stamp: Stamp, expected: int | None = None) -> Stored:
        """`stamp` makes the last state that watchers are shown. Raises NotFound or Conflict."""
        ...

    def watch(self, resource: str, namespace: str | None = None, since: int | None = None) -> Watch:
        """Changes after revision `since` (None: from now on). Raises Expired when that history is gone."""
        ...

    def changes(self, resource: str, since: int) -> Sequence[Event]:
        """What a watch since then would have to tell by now, in order of revision. Raises Expired as a watch does."""
        ...

    async def close(self) -> None: ...
