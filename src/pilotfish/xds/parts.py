"""Parts: the pieces that proxies' configurations are put together from, each shared by all that need it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping

from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Age
from pilotfish.xds.entries import Entry, Spec, entry
from pilotfish.xds.patching import UNPATCHED, Patching
from pilotfish.xds.source import Changes

Specs = Mapping[tuple[str, str], Spec]
"""Specs by type URL and name."""


class Part(ABC):
    """Entries by type and name, and what changed of them since that was last asked."""

    def __init__(self, patching: Patching = UNPATCHED) -> None:
        """`patching` is done to every spec that is put."""
        self.patching = patching
        self._entries: dict[str, dict[str, Entry]] = {}
        self._changed: dict[str, set[str]] = {}

    def entries(self, type_url: str) -> Mapping[str, Entry]:
        return self._entries.setdefault(type_url, {})

    def put(self, spec: Spec) -> None:
        """Have the resource of this spec under its name, unless a patch removes it."""
        patched = self.patching.patched(spec)
        if patched is None:
            self.drop(spec.type_url, spec.name)
            return
        before = self.entries(spec.type_url).get(spec.name)
        if before is None or before.spec != patched:
            self.keep(spec.type_url, spec.name, entry(patched))

    def drop(self, type_url: str, name: str) -> None:
        """Have no resource of this name."""
        self.keep(type_url, name, None)

    def keep(self, type_url: str, name: str, kept: Entry | None) -> None:
        """Have this entry under its name; None: have none."""
        entries = self._entries.setdefault(type_url, {})
        if entries.get(name) is kept:
            return
        if kept is None:
            del entries[name]
        else:
            entries[name] = kept
        self._changed.setdefault(type_url, set()).add(name)

    def replace(self, before: Iterable[Spec], after: Collection[Spec]) -> None:
        """Put all specs of `after`, and drop those of `before` that none of `after` takes the place of."""
        kept = {(spec.type_url, spec.name) for spec in after}
        for spec in before:
            if (spec.type_url, spec.name) not in kept:
                self.drop(spec.type_url, spec.name)
        for spec in after:
            self.put(spec)

    def take_changes(self) -> Changes:
        """What changed since the last call."""
        changed, self._changed = self._changed, {}
        return {type_url: frozenset(names) for type_url, names in changed.items()}

    def specs(self) -> Specs:
        """Everything there is."""
        return {(url, name): e.spec for url, entries in self._entries.items() for name, e in entries.items()}

    @abstractmethod
    def anew(self, model: Model) -> Part:
        """The same part, made from nothing: what this one must equal after any number of updates."""


NO_AGE: Age = ("", "", "", "")
"""For a claimant that is gone, and claims nothing."""

Claimed = dict[Hashable, tuple[tuple[int, Age], Spec]]


class ContestedPart(Part):
    """A part in which several hosts may claim one name: of those with the lowest rank the oldest has it, and the next
    gets it when that one goes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._claimed_by: dict[Hashable, tuple[tuple[str, str], ...]] = {}
        self._claims: dict[tuple[str, str], Claimed] = {}

    def claim(self, claimant: Hashable, age: Age, specs: Iterable[Spec], *, rank: int = 0) -> None:
        """Have the claimant claim these specs' names, and none that it claimed before."""
        wanted = {(spec.type_url, spec.name): spec for spec in specs}
        before = self._claimed_by.pop(claimant, ())
        if wanted:
            self._claimed_by[claimant] = tuple(wanted)
        for where in before:
            del self._claims[where][claimant]
        for where, spec in wanted.items():
            self._claims.setdefault(where, {})[claimant] = (rank, age), spec
        for where in {*before, *wanted}:
            claims = self._claims[where]
            if claims:
                self.put(min(claims.values(), key=lambda claim: claim[0])[1])
            else:
                del self._claims[where]
                self.drop(*where)


def specs_of(parts: Iterable[Part]) -> Specs:
    """Everything in several parts; where two have one name, the first goes before the others."""
    return {where: spec for part in reversed(tuple(parts)) for where, spec in part.specs().items()}


def differences(before: Specs, after: Specs) -> Changes:
    """The names that stand for different specs, by type."""
    changed: dict[str, set[str]] = {}
    for type_url, name in before.keys() | after.keys():
        if before.get((type_url, name)) != after.get((type_url, name)):
            changed.setdefault(type_url, set()).add(name)
    return {type_url: frozenset(names) for type_url, names in changed.items()}


def merged(one: Changes, other: Changes) -> Changes:
    none: frozenset[str] = frozenset()
    return {url: one.get(url, none) | other.get(url, none) for url in one.keys() | other.keys()}
