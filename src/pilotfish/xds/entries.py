"""The cache of built resources: the record that a resource is built from is its key.

A `Spec` is a frozen record that holds all that its builder may read: equal specs have equal resources, and nothing
can be forgotten in a key. An `Entry` is where a spec's resource is kept. Equal specs share one entry as long as
anybody holds it, across proxies and scopes; it is built and serialised when it is first asked for, once.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Protocol

from google.protobuf.message import Message

from pilotfish.xds import faults
from pilotfish.xds.source import Resource


class Spec(Protocol):
    """What a resource is built from. Equal specs must have equal bodies."""

    @property
    def type_url(self) -> str: ...

    @property
    def name(self) -> str: ...

    def body(self) -> bytes:
        """The serialised message."""
        ...

    def __hash__(self) -> int: ...


class Entry:
    """One resource, built when it is first asked for."""

    __slots__ = ("__weakref__", "_resource", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._resource: Resource | None = None

    @property
    def resource(self) -> Resource:
        if self._resource is None:
            with faults.held_by(self):
                body = self.spec.body()
            self._resource = Resource(self.spec.name, hashlib.blake2b(body, digest_size=8).hexdigest(), body)
        return self._resource


_entries: weakref.WeakValueDictionary[Spec, Entry] = weakref.WeakValueDictionary()


def entry(spec: Spec) -> Entry:
    """The one entry of all equal specs."""
    found = _entries.get(spec)
    if found is None:
        found = _entries[spec] = Entry(spec)
    return found


def serialise(message: Message) -> bytes:
    """The same bytes for equal messages, which maps inside of them would not have by themselves."""
    return message.SerializeToString(deterministic=True)


class Resources(Mapping[str, Resource]):
    """Resources by name, over one or more maps of entries; where two have one name, the first has its way."""

    def __init__(self, *maps: Mapping[str, Entry]) -> None:
        self._maps = maps

    def __getitem__(self, name: str) -> Resource:
        for entries in self._maps:
            if (found := entries.get(name)) is not None:
                return found.resource
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(name in entries for entries in self._maps)

    def __iter__(self) -> Iterator[str]:
        for position, entries in enumerate(self._maps):
            before = self._maps[:position]
            yield from (name for name in entries if not any(name in other for other in before))

    def __len__(self) -> int:
        return sum(1 for _ in self)
