"""What every part of the control plane and the node agent knows of the API: list, watch and write, by kind.

`pilotfish.client.http` speaks to any Kubernetes API server; `pilotfish.apiserver` offers the same interface within its
own process. Nobody needs to know which one it was given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pilotfish.api.meta import Document, Object
from pilotfish.api.scheme import Kind

T = TypeVar("T", bound=Object)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A consistent list; a watch from `resource_version` continues it without a gap."""

    items: tuple[T, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One change as the API tells it; a BOOKMARK only moves `resource_version` on and carries no object."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: T | None
    resource_version: str


class Client(Protocol):
    """Errors are those of `pilotfish.api.errors`; a connection that fails raises ServiceUnavailable.

    `namespace` None means all namespaces (list and watch only); cluster-scoped kinds take "".
    Patches are JSON merge patches (RFC 7386), or JSON patches (RFC 6902) when given as a list.
    """

    async def get(self, kind: Kind[T], name: str, namespace: str = "") -> T: ...

    async def list(
        self, kind: Kind[T], namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Listing[T]: ...

    def watch(
        self,
        kind: Kind[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Ends when the server ends it; raises Expired when the version is too old: list again."""
        ...

    async def create(self, kind: Kind[T], obj: T | Document, namespace: str = "") -> T: ...

    async def update(self, kind: Kind[T], document: Document, *, subresource: str = "") -> T:
        """Replace the whole object; raises Conflict when `metadata.resourceVersion` is given and no longer current."""
        ...

    async def patch(
        self,
        kind: Kind[T],
        name: str,
        namespace: str,
        patch: Document | Sequence[Any],
        *,
        subresource: str = "",
    ) -> T: ...

    async def delete(
        self,
        kind: Kind[T],
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        grace_period_seconds: int | None = None,
    ) -> None:
        """Raises NotFound, or Conflict when `uid` is given and the object is another one by now."""
        ...

    async def close(self) -> None: ...
