"""Audiences: what proxies have in common that get the same outbound configuration."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.imports import Egress, SidecarScope
from pilotfish.mesh.locality import Client
from pilotfish.mesh.policies import Viewer
from pilotfish.mesh.records import Labels, Record, Service
from pilotfish.xds.build import names
from pilotfish.xds.build.on_demand import OnDemand
from pilotfish.xds.settings import ProxySettings


class Audience(Record):
    """Who a scope is for: the proxies of a namespace, of one IP family, under the same settings, that have the same
    values of the labels by which policies tell proxies apart, and are in the same place where that matters to any.
    """

    namespace: str
    ipv6: bool
    settings: ProxySettings
    labels: Labels = ()
    egress: tuple[Egress, ...] = ()
    """What their Sidecar imports; everything where there is none."""
    locality: str = ""
    patches: tuple[Patch, ...] = ()
    """What EnvoyFilters change of their resources once they are built."""
    on_demand: OnDemand | None = None
    """How they ask for what they reach without a lookup; None: they have everything."""
    gateway: bool = False
    vouched: bool = False
    """Whether their labels are those of workloads that we know, and so decide about Secrets."""

    @property
    def anywhere(self) -> Audience:
        """The audience that stands for all namespaces where they make no difference."""
        return _anywhere(self)

    @property
    def at_home(self) -> Audience:
        """The audience that stands for all in its namespace, whatever they have of it."""
        return _at_home(self)

    @property
    def viewer(self) -> Viewer:
        proxy = names.host_of(self.settings.egress_proxy) if self.settings.egress_proxy else ""
        return Viewer(self.namespace, self.labels, self.egress, proxy)

    @property
    def client(self) -> Client:
        return Client(self.locality, self.labels)

    @property
    def wildcard(self) -> str:
        """The address that stands for any."""
        return "::" if self.ipv6 else "0.0.0.0"

    def addresses(self, service: Service) -> tuple[str, ...]:
        """The addresses and ranges by which workloads know a service, of either IP family. Those that were allocated
        to it the mesh's DNS alone tells: whose lookups go elsewhere connects to others (Istio: GetAddressForProxy).
        """
        return service.addresses if self.settings.dns_capture or not service.allocated else ()

    def reaches(self, address: str) -> bool:
        """Whether an address or range is of the audience's IP family."""
        return (":" in address) is self.ipv6


@lru_cache(maxsize=4096)
def _at_home(audience: Audience) -> Audience:
    return msgspec.structs.replace(audience, on_demand=None)


@lru_cache(maxsize=4096)
def _anywhere(audience: Audience) -> Audience:
    return Audience("", audience.ipv6, audience.settings, audience.labels, locality=audience.locality)


def scoped(settings: ProxySettings, scope: SidecarScope) -> ProxySettings:
    """What shapes the proxies of a Sidecar, which may have its own word on what becomes of unknown destinations."""
    refuses = scope.refuses_unknown
    to = scope.egress_proxy
    cluster = ""
    if to is not None:
        host = resolve(to.host, scope.source.namespace, settings.cluster_domain)
        cluster = names.outbound(to.port.number if to.port else 0, host, to.subset)
    allow_any = settings.allow_any if refuses is None else not refuses
    dynamic_dns = settings.dynamic_dns and refuses is None
    return msgspec.structs.replace(settings, allow_any=allow_any, egress_proxy=cluster, dynamic_dns=dynamic_dns)
