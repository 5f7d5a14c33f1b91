"""What each workload reports, as the model and all Telemetries stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from pilotfish.api.proxyconfig import ProxyConfig, own_servers
from pilotfish.api.telemetry import Telemetry
from pilotfish.mesh.model import Change, Model, Touched
from pilotfish.mesh.records import Labels
from pilotfish.mesh.reporting import Collector
from pilotfish.mesh.telemetry import Directions, Reports, Telemetries
from pilotfish.xds.collectors import reachable
from pilotfish.xds.proxy_metadata import read
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import ProxyNode


class WorkloadReports:
    """What workloads report under a MeshConfig and all Telemetries; worked out once while nothing of that changes."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._telemetries = Telemetries()
        self._reports: Reports | None = None
        self._known: dict[tuple[str, Labels, tuple[str, ...]], Directions] = {}
        self._looked_up: set[str] = set()

    def configure(self, reports: Reports | None) -> None:
        """Take a MeshConfig; None: nobody reports more than all do."""
        self._reports = reports
        self._forget()

    @property
    def selecting(self) -> bool:
        """Whether some Telemetry tells workloads apart by their labels."""
        return self._telemetries.selecting

    def apply(self, changes: Iterable[Change]) -> bool:
        """Take changed Telemetries in; gives whether there were any."""
        found = False
        for old, new in changes:
            if isinstance(old, Telemetry):
                self._telemetries.drop(old)
            if isinstance(new, Telemetry):
                self._telemetries.put(new)
            found = found or isinstance(new or old, Telemetry)
        if found:
            self._forget()
        return found

    def touched(self, touched: Touched) -> bool:
        """Whether a change may bring collectors, or take them away."""
        moved = any(
            key.hostname in self._looked_up and (was is None or now is None or was.service != now.service)
            for key, (was, now) in touched.hosts.items()
        )
        if moved:
            self._forget()
        return moved

    def shaping(
        self, settings: ProxySettings, namespace: str, labels: Labels, clusters: Collection[str]
    ) -> ProxySettings:
        """The settings of a workload's proxy: those of all, with what the workload reports. `clusters` are those of the
        proxy's bootstrap that take reports in.
        """
        if self._reports is None:
            return settings
        told_by, own = labels if self.selecting else (), tuple(sorted(clusters))
        found = self._known.get((namespace, told_by, own))
        if found is None:
            applying = self._telemetries.applying(namespace, told_by, self._model.root_namespace)

            def find(collector: Collector) -> Collector | None:
                found = self._find(namespace, collector) if collector.port else None
                return found or (collector if collector.cluster in own else None)

            found = Directions(*(reachable(each, find) for each in self._reports.directions(applying)))
            self._known[namespace, told_by, own] = found
        return msgspec.structs.replace(settings, client=found.client, server=found.server)

    def _forget(self) -> None:
        self._known.clear()
        self._looked_up.clear()

    def _find(self, namespace: str, collector: Collector) -> Collector | None:
        """The host that proxies of a namespace see by a collector's name, which may be that of a Service's DNS."""
        name = collector.host.lower().rstrip(".")
        for hostname in (name, f"{name}.svc.{self._model.cluster_domain}", f"{name}.{self._model.cluster_domain}"):
            self._looked_up.add(hostname)
            host = self._model.seen_from(namespace, hostname)
            if host is None or collector.namespace not in ("", host.service.namespace):
                continue
            if any(port.number == collector.port and not port.key.udp for port in host.service.ports):
                return Collector(host.service.hostname, collector.port)
        return None


def own_collectors(settings: ProxySettings, node: ProxyNode) -> frozenset[str]:
    """The clusters of a proxy's bootstrap that take reports in: by what the proxy says of itself, else by what the mesh
    says of all.
    """
    config = node.metadata.get("PROXY_CONFIG")
    if not isinstance(config, Mapping):
        return settings.own_servers
    return frozenset(own_servers(read(ProxyConfig, config) or ProxyConfig()))
