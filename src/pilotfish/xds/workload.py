"""The inbound configuration of one workload."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.api.joined import WORKLOAD_ADDRESS, WORKLOAD_ENTRY
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, HTTPSettings
from pilotfish.mesh.durations import parse_duration
from pilotfish.mesh.index import LabelIndex, MultiMap
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import Labels, WorkloadKey, WorkloadKind
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.cluster_policy import ClusterPolicy
from pilotfish.xds.build.clusters import InboundClusterSpec, ServiceName
from pilotfish.xds.build.http_options import upgraded
from pilotfish.xds.build.inbound import InboundPort, VirtualInboundSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import Part
from pilotfish.xds.patching import Patching
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.upstreams import called


class Inbound(Part):
    """What a sidecar does with connections that come for its workload.

    `node_labels` are the proxy's own word for the workload's labels; what the mesh knows of the workload goes first.
    `behind` is where the workload listens, if not at the proxy's own address.
    """

    def __init__(
        self, key: WorkloadKey, address: str, node_labels: Labels, audience: Audience, model: Model, behind: str = ""
    ) -> None:
        super().__init__(Patching(audience.patches))
        self.key = key
        self.address = address
        self._behind = behind
        self._node_labels = node_labels
        self._audience = audience
        self._model = model
        self.update()
        self.take_changes()

    @property
    def labels(self) -> Labels:
        workload = self._model.workload(self.key)
        return workload.labels if workload else self._node_labels

    def anew(self, model: Model) -> Inbound:
        return Inbound(self.key, self.address, self._node_labels, self._audience, model, self._behind)

    def update(self) -> None:
        """Look again at what selects or names the workload."""
        self.replace(tuple(self.specs().values()), tuple(self._wanted()))

    def _wanted(self) -> Iterator[Spec]:
        settings = self._audience.settings
        served = [(port, cluster) for port, cluster in self._served() if not settings.reserved(port.number)]
        yield from (cluster for _, cluster in served)
        yield VirtualInboundSpec(self._audience.wildcard, tuple(port for port, _ in served), settings)

    def _served(self) -> Iterator[tuple[InboundPort, InboundClusterSpec]]:
        """The workload's ports: those that its Sidecar lists, else those of the services that select it."""
        scope = self._model.sidecars.of(self.key.namespace, self.labels)
        if scope is not None and scope.ingress:
            for listener in scope.ingress:
                port = InboundPort(listener.port, listener.port, listener.protocol)
                address = listener.address or self._behind
                yield port, self._cluster(port, listener.pool, address=address, target=listener.target)
            return
        pool = scope.inbound_pool if scope is not None else None
        workload = self._model.workload(self.key)
        for target in self._model.targets(self.key.namespace, self.labels, self.address, workload):
            port = InboundPort(target.number, target.port.number, target.port.protocol)
            yield port, self._cluster(port, pool, address=self._behind, service=called(target.service))

    def _cluster(
        self,
        port: InboundPort,
        pool: ConnectionPoolSettings | None,
        *,
        address: str,
        target: int = 0,
        service: ServiceName | None = None,
    ) -> InboundClusterSpec:
        limits = pool or ConnectionPoolSettings()
        timeout = limits.tcp.connect_timeout if limits.tcp else None
        return InboundClusterSpec(
            port.number,
            upgraded(port.protocol, limits.http or HTTPSettings(), by_default=False),
            parse_duration(timeout) if timeout is not None else self._audience.settings.connect_timeout,
            self._audience.ipv6,
            address,
            service,
            target,
            ClusterPolicy(connection_pool=limits),
        )


def workload_of(node: ProxyNode) -> WorkloadKey:
    """The workload that a sidecar stands beside."""
    entry = node.metadata.get(WORKLOAD_ENTRY)
    if entry:
        return WorkloadKey(node.namespace, str(entry), WorkloadKind.ENTRY)
    return WorkloadKey(node.namespace, node.name)


def behind(node: ProxyNode) -> str:
    """Where a sidecar's workload listens, if not at the sidecar's own address."""
    return str(node.metadata.get(WORKLOAD_ADDRESS, ""))


class InboundIndex:
    """Finds the inbound parts that a change of the mesh touches, without asking the others."""

    def __init__(self) -> None:
        self._of: MultiMap[WorkloadKey, Inbound] = MultiMap()
        self._at: MultiMap[str, Inbound] = MultiMap()
        self._labelled: LabelIndex[Inbound] = LabelIndex()

    def put(self, inbound: Inbound) -> None:
        self._of.add(inbound.key, inbound)
        self._at.add(inbound.address, inbound)
        self._labelled.put(inbound, inbound.key.namespace, inbound.labels)

    def discard(self, inbound: Inbound) -> None:
        self._of.remove(inbound.key, inbound)
        self._at.remove(inbound.address, inbound)
        self._labelled.discard(inbound)

    def touched(self, touched: Touched) -> set[Inbound]:
        """Those whose workload changed, or is or was selected or listed by a host that changed; all of them when a
        Sidecar did.
        """
        found: set[Inbound] = set()
        if touched.sidecars:
            found.update(inbound for key in self._of for inbound in self._of[key])
        for key in touched.workloads:
            for inbound in self._of[key]:
                self._labelled.put(inbound, inbound.key.namespace, inbound.labels)
                found.add(inbound)
        for before, after in touched.hosts.values():
            if before and after and before.service == after.service and after.service.selector:
                continue  # its endpoints changed, which its workloads do not look at
            for host in filter(None, (before, after)):
                found.update(self._labelled.select(host.service.namespace, host.service.selector))
                if not host.service.selector:
                    addresses = {e.address for _, endpoints in host.endpoints for e in endpoints}
                    found.update(inbound for address in addresses for inbound in self._at[address])
        return found
