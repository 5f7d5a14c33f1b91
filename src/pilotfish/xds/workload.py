"""The inbound configuration of one workload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from pilotfish.api.durations import parse_duration
from pilotfish.api.joined import WORKLOAD_ADDRESS, WORKLOAD_ENTRY
from pilotfish.api.networking.connection_pool import ConnectionPoolSettings, HTTPSettings
from pilotfish.mesh.hostnames import matches
from pilotfish.mesh.imports import Ingress
from pilotfish.mesh.index import LabelIndex, MultiMap
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.policies import Viewer
from pilotfish.mesh.records import Labels, Service, Target, WorkloadKey, WorkloadKind
from pilotfish.mesh.traffic_policy import traffic_policy
from pilotfish.xds.audience import Audience
from pilotfish.xds.build.clusters import InboundClusterSpec
from pilotfish.xds.build.http_options import upgraded
from pilotfish.xds.build.inbound import BoundInboundSpec, InboundPort, VirtualInboundSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import Part
from pilotfish.xds.patching import Patching
from pilotfish.xds.secrets import file_secrets
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.stat_names import stat_name
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
        self.hosts: frozenset[str] = frozenset()
        """The hosts, in lower case, of which it serves ports."""
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
        workload = self._model.workload(self.key)
        targets = self._model.targets(self.key.namespace, self.labels, self.address, workload)
        self.hosts = frozenset(target.service.hostname.lower() for target in targets)
        self.replace(tuple(self.specs().values()), tuple(self._wanted(targets)))

    def _wanted(self, targets: tuple[Target, ...]) -> Iterator[Spec]:
        settings = self._audience.settings
        served = [each for each in self._served(targets) if not settings.reserved(each.port.number)]
        yield from (each.cluster for each in served)
        captured = tuple(each.port for each in served if not each.bound)
        yield VirtualInboundSpec(self._audience.wildcard, captured, settings)
        for each in served:
            if each.bound:
                yield BoundInboundSpec(each.port.bind or self.address, each.port, settings)
            if each.port.tls is not None:
                yield from file_secrets(each.port.tls)

    def _served(self, targets: tuple[Target, ...]) -> Iterator[_Served]:
        """The workload's ports: those that its Sidecar lists, else those of the services that select it."""
        scope = self._model.sidecars.of(self.key.namespace, self.labels)
        if scope is None or not scope.ingress:
            pool = scope.inbound_pool if scope is not None else None
            for target in targets:
                settings = self._audience.settings
                name = stat_name(settings.inbound_stat_name, target.service, target.port, target=target.number)
                host = target.service.hostname
                port = InboundPort(target.number, target.port.number, target.port.protocol, stat_name=name, host=host)
                address = self._behind or (self._loopback if settings.inbound_localhost else "")
                yield _Served(port, self._cluster(port, pool, address, 0, target.service))
            return
        services = {target.number: target.service for target in targets}
        for listener in scope.ingress:
            host = f"{scope.source.name}.{scope.source.namespace}"  # as in Istio
            port = InboundPort(listener.port, listener.port, listener.protocol, listener.bind, listener.tls, host=host)
            address, number = self._program(listener)
            cluster = self._cluster(port, listener.pool, address, number, services.get(listener.port))
            yield _Served(port, cluster, listener.bound)

    def _program(self, listener: Ingress) -> tuple[str, int]:
        """Where the program listens for what comes to a listener. Nothing tells that of a connection that was not
        captured: then it is the same port of 127.0.0.1, which the proxy leaves free.
        """
        if listener.address or listener.target or self._behind or not listener.bound or listener.bind:
            return listener.address or self._behind, listener.target
        return self._loopback, listener.port

    @property
    def _loopback(self) -> str:
        return "::1" if self._audience.ipv6 else "127.0.0.1"

    def _cluster(
        self, port: InboundPort, pool: ConnectionPoolSettings | None, address: str, target: int, service: Service | None
    ) -> InboundClusterSpec:
        """The cluster of a port, with the pool of its Sidecar, else with that which the DestinationRule of its service
        gives to clients: so the workload takes what they may send (Istio).
        """
        settings = self._audience.settings
        rule = self._model.policies.rule(Viewer(self.key.namespace), service) if service is not None else None
        said = traffic_policy(rule, port.service_port, default=settings.default_policy)
        limits = pool or said.connection_pool or ConnectionPoolSettings()
        http = limits.http or HTTPSettings()
        if pool is None:
            http = replace(http, h2_upgrade_policy="DO_NOT_UPGRADE")  # it is between the proxies
        timeout = limits.tcp.connect_timeout if limits.tcp else None
        return InboundClusterSpec(
            port.number,
            upgraded(port.protocol, http, by_default=False),
            parse_duration(timeout) if timeout is not None else settings.connect_timeout,
            self._audience.ipv6,
            address,
            called(service) if service is not None else None,
            target,
            replace(
                settings.cluster_policy(port.protocol),
                connection_pool=limits,
                retry_budget=said.retry_budget,
                tcp_keepalive=settings.tcp_keepalive,
            ),
            rule.sources[0] if rule is not None and rule.traffic_policy is not None else None,
            port.stat_name,
        )


class _Served(NamedTuple):
    """A port of the workload, and the way to the program; `bound` where clients call the proxy's own address."""

    port: InboundPort
    cluster: InboundClusterSpec
    bound: bool = False


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
        self._serving: MultiMap[str, Inbound] = MultiMap()

    def put(self, inbound: Inbound) -> None:
        self._of.add(inbound.key, inbound)
        self._at.add(inbound.address, inbound)
        self._labelled.put(inbound, inbound.key.namespace, inbound.labels)
        for host in inbound.hosts:
            self._serving.add(host, inbound)

    def discard(self, inbound: Inbound) -> None:
        self._of.remove(inbound.key, inbound)
        self._at.remove(inbound.address, inbound)
        self._labelled.discard(inbound)
        for host in inbound.hosts:
            self._serving.remove(host, inbound)

    def update(self, touched: Touched) -> set[Inbound]:
        """Have those look again that a change may mean; gives them."""
        found = self._touched(touched)
        for inbound in found:
            before = inbound.hosts
            inbound.update()
            for host in before - inbound.hosts:
                self._serving.remove(host, inbound)
            for host in inbound.hosts - before:
                self._serving.add(host, inbound)
        return found

    def _touched(self, touched: Touched) -> set[Inbound]:
        """Those whose workload changed, or is or was selected or listed by a host that changed, or serves a host that a
        changed policy is about; all of them when a Sidecar did.
        """
        found: set[Inbound] = set()
        if touched.sidecars:
            found.update(inbound for key in self._of for inbound in self._of[key])
        for pattern in touched.policies:
            hosts = self._serving if pattern.startswith("*") else (pattern,)
            found.update(inbound for host in hosts if matches(host, pattern) for inbound in self._serving[host])
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
