"""Which namespaces the mesh looks at: all, or those that MeshConfig's discoverySelectors mean by their labels.

What is in others is for nobody: no host, no endpoint, no policy (Istio: pkg/kube/namespace filter).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pilotfish.api.core import Namespace, Secret
from pilotfish.api.meta import LabelSelector, Object
from pilotfish.api.selectors import matches
from pilotfish.client.informer import Informer
from pilotfish.mesh.model import Change


@dataclass(frozen=True)
class _Found:
    """What is looked at, by namespace; `everywhere` in namespaces, too, that nobody knows yet."""

    everywhere: bool
    namespaces: frozenset[str] = frozenset()

    def __contains__(self, namespace: str) -> bool:
        return self.everywhere or namespace in self.namespaces


class Discovery:
    """Keeps what the generator hears of to the namespaces that are looked at, while these change."""

    def __init__(self, namespaces: Informer[Namespace], informers: Iterable[Informer[Any]]) -> None:
        """`informers` are of what the generator hears of."""
        self._namespaces = namespaces
        self._informers = tuple(informers)
        self._selectors: tuple[LabelSelector, ...] = ()
        self._told = _Found(everywhere=True)

    def select(self, selectors: tuple[LabelSelector, ...]) -> None:
        """Look at the namespaces that any of these means; at all where there are none."""
        self._selectors = selectors

    def narrowed(self, changes: Iterable[Change]) -> list[Change]:
        """Of changed objects those that the generator should hear of, and all objects of namespaces that have come to
        be looked at, or are not any more, since the last call. `changes` are all since then.
        """
        before, now = self._told, self._found()
        found = [change for change in changes if _concerns(change, before)]
        if before == now:
            return found
        self._told = now
        held = [obj for informer in self._informers for obj in informer.objects.values()]
        found += [(obj, None) for obj in held if obj.namespace in before and obj.namespace not in now]
        found += [(None, obj) for obj in held if obj.namespace in now and obj.namespace not in before]
        return found

    def _found(self) -> _Found:
        if not self._selectors:
            return _Found(everywhere=True)
        known = self._namespaces.objects.values()
        meant = (n.name for n in known if any(matches(s, n.metadata.labels) for s in self._selectors))
        return _Found(everywhere=False, namespaces=frozenset(meant))


def _concerns(change: Change, looked_at: _Found) -> bool:
    """Secrets are followed one by one, for gateways that are looked at."""
    told: Object | None = change[1] or change[0]
    assert told is not None, "a change of nothing"
    return isinstance(told, Secret) or told.namespace in looked_at
