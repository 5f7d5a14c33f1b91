"""Audiences: what proxies have in common that get the same outbound configuration."""

from __future__ import annotations

from functools import lru_cache

from pilotfish.mesh.policies import Viewer
from pilotfish.mesh.records import Labels, Record
from pilotfish.xds.settings import ProxySettings


class Audience(Record):
    """Who a scope is for: the proxies of a namespace, of one IP family, under the same settings, that have the same
    values of the labels by which policies tell proxies apart.
    """

    namespace: str
    ipv6: bool
    settings: ProxySettings
    labels: Labels = ()

    @property
    def anywhere(self) -> Audience:
        """The audience that stands for all namespaces and labels where they make no difference."""
        return _anywhere(self)

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.namespace, self.labels)

    @property
    def wildcard(self) -> str:
        """The address that stands for any."""
        return "::" if self.ipv6 else "0.0.0.0"

    def reaches(self, address: str) -> bool:
        """Whether an address or range is of the audience's IP family."""
        return (":" in address) is self.ipv6


@lru_cache(maxsize=4096)
def _anywhere(audience: Audience) -> Audience:
    return Audience("", audience.ipv6, audience.settings)
