"""Whose certificates count: the trust domains of the mesh, as its configuration has them at the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pilotfish.mesh.mutual_tls import MutualTlsSettings


class TrustDomains(Protocol):
    """Names of trust domains; a frozenset of them is one."""

    def __contains__(self, domain: object, /) -> bool: ...


class MeshTrustDomains:
    """The domain of the authority's own processes, nodes among them, and those that MeshConfig names."""

    def __init__(self, own: str, settings: Callable[[], MutualTlsSettings]) -> None:
        self._own = own
        self._settings = settings

    def __contains__(self, domain: object) -> bool:
        return domain == self._own or domain in self._settings().trust_domains
