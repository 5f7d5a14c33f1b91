"""Which names stand for which others (Istio: resolveServiceAliases; Kubernetes: Services of type ExternalName)."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.mesh.index import MultiMap


class Aliases:
    """Names in lower case. A change costs the chain of names that the alias is in."""

    def __init__(self) -> None:
        self._canonical: dict[str, str] = {}
        self._direct: MultiMap[str, str] = MultiMap()

    def put(self, alias: str, canonical: str) -> frozenset[str]:
        """Have a name stand for another, or ("") for none; gives the names whose aliases may be others now."""
        before = self._canonical.get(alias, "")
        if before == canonical:
            return frozenset()
        touched = set(self._ahead(alias))
        if before:
            del self._canonical[alias]
            self._direct.remove(before, alias)
        if canonical:
            self._canonical[alias] = canonical
            self._direct.add(canonical, alias)
        return frozenset(touched.union(self._ahead(alias)))

    def of(self, name: str) -> tuple[str, ...]:
        """All names that lead to this one, by way of others too."""
        found: dict[str, None] = {}
        ahead = [name]
        while ahead:
            for alias in self._direct[ahead.pop()]:
                if alias != name and alias not in found:
                    found[alias] = None
                    ahead.append(alias)
        return tuple(sorted(found))

    def end(self, name: str) -> str:
        """What a name stands for in the end: itself where it is no alias, nothing where it leads round."""
        last = [name, *self._ahead(name)][-1]
        return "" if last in self._canonical else last

    def _ahead(self, alias: str) -> Iterator[str]:
        """What an alias leads to, one after the other; one that leads round is followed once."""
        seen = {alias}
        while (alias := self._canonical.get(alias, "")) and alias not in seen:
            seen.add(alias)
            yield alias
