"""Indexes that find what a label selector selects, or a host name means, without looking at what it does not."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from pilotfish.mesh.hostnames import patterns
from pilotfish.mesh.records import Labels

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class MultiMap(Generic[K, V]):
    """A map from a key to a set of values, without empty sets; values keep the order in which they came."""

    def __init__(self) -> None:
        self._sets: dict[K, dict[V, None]] = {}

    def add(self, key: K, value: V) -> None:
        self._sets.setdefault(key, {})[value] = None

    def remove(self, key: K, value: V) -> None:
        values = self._sets.get(key)
        if values is not None:
            values.pop(value, None)
            if not values:
                del self._sets[key]

    def __getitem__(self, key: K) -> tuple[V, ...]:
        return tuple(self._sets.get(key, ()))

    def count(self, key: K) -> int:
        return len(self._sets.get(key, ()))

    def __iter__(self) -> Iterator[K]:
        return iter(self._sets)


class HostnameMap(Generic[V]):
    """Values by the host names and wildcards that they are about."""

    def __init__(self) -> None:
        self._values: MultiMap[str, V] = MultiMap()
        self._wildcards: set[str] = set()

    def add(self, name: str, value: V) -> None:
        self._values.add(name, value)
        if name.startswith("*"):
            self._wildcards.add(name)

    def remove(self, name: str, value: V) -> None:
        self._values.remove(name, value)
        if not self._values.count(name):
            self._wildcards.discard(name)

    def __getitem__(self, name: str) -> tuple[V, ...]:
        """The values of a name or wildcard, word for word."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def about(self, hostname: str) -> Iterator[tuple[V, ...]]:
        """The values of each that means a host: of its name, then of wildcards from the most specific on."""
        for name in patterns(hostname) if self._wildcards else (hostname,):
            if self._values.count(name):
                yield self._values[name]


class LabelIndex(Generic[V]):
    """Labelled things by namespace and label: `select` costs as much as the rarest label of the selector is common."""

    def __init__(self) -> None:
        self._by_pair: MultiMap[tuple[str, str, str], V] = MultiMap()
        self._labels: dict[V, tuple[str, Labels]] = {}

    def put(self, value: V, namespace: str, labels: Labels) -> None:
        """Enter a thing, or give it other labels."""
        self.discard(value)
        self._labels[value] = (namespace, labels)
        for key, text in labels:
            self._by_pair.add((namespace, key, text), value)

    def discard(self, value: V) -> None:
        namespace, labels = self._labels.pop(value, ("", ()))
        for key, text in labels:
            self._by_pair.remove((namespace, key, text), value)

    def select(self, namespace: str, selector: Labels) -> list[V]:
        """All things of a namespace that have every label of the selector; none for an empty selector."""
        if not selector:
            return []
        rarest = min(selector, key=lambda pair: self._by_pair.count((namespace, *pair)))
        wanted = set(selector)
        return [v for v in self._by_pair[(namespace, *rarest)] if wanted.issubset(self._labels[v][1])]


class SelectorIndex(Generic[V]):
    """Things that select by label: `matching` finds those whose selector a set of labels satisfies."""

    def __init__(self) -> None:
        self._by_pair: MultiMap[tuple[str, str, str], V] = MultiMap()
        self._selectors: dict[V, tuple[str, Labels]] = {}

    def put(self, value: V, namespace: str, selector: Labels) -> None:
        """Enter a thing under the first pair of its selector; an empty selector selects nothing."""
        self.discard(value)
        if selector:
            self._selectors[value] = (namespace, selector)
            self._by_pair.add((namespace, *selector[0]), value)

    def discard(self, value: V) -> None:
        namespace, selector = self._selectors.pop(value, ("", ()))
        if selector:
            self._by_pair.remove((namespace, *selector[0]), value)

    def matching(self, namespace: str, labels: Labels) -> list[V]:
        had = set(labels)
        found = (value for pair in labels for value in self._by_pair[(namespace, *pair)])
        return [value for value in found if had.issuperset(self._selectors[value][1])]
