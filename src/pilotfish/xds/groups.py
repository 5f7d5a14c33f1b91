"""Which proxies know the mesh alike: what of a proxy shapes what it is told of hosts."""

from __future__ import annotations

import msgspec

from pilotfish.api.demand import on_demand
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import labels_of
from pilotfish.xds.audience import Audience, scoped
from pilotfish.xds.edge import edge_of
from pilotfish.xds.gateway import GatewayGroup
from pilotfish.xds.idle import idle_time, terms
from pilotfish.xds.reporting import WorkloadReports, own_collectors
from pilotfish.xds.settings import ProxySettings, of_proxy
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.workload import workload_of

NO_PATCHES: tuple[Patch, ...] = ()
GATEWAY_LABEL = "pilotfish.dev/gateway"
SYSTEM_NAMESPACE = "kube-system"

Shared = Audience | GatewayGroup
"""What a proxy that calls hosts of the mesh has in common with others."""


class Groups:
    """Puts proxies into groups, by the mesh as it is."""

    def __init__(self, model: Model, reports: WorkloadReports) -> None:
        self._model = model
        self._reports = reports
        self._distinctions: tuple[frozenset[str], bool] = (frozenset(), False)

    def shared(self, node: ProxyNode, settings: ProxySettings) -> Shared | None:
        """The group of a proxy in a mesh with these settings; None for one that calls nobody by itself."""
        if node.type not in ("sidecar", "grpc", "router") or serves_node_ports(node):
            return None
        workload = self._model.workload(workload_of(node))
        labels = workload.labels if workload else labels_of(node.labels)
        label_keys, by_place = self._distinguished(settings)
        told_by = tuple((name, value) for name, value in labels if name in label_keys)
        locality = workload.locality if workload and by_place else ""
        patches = NO_PATCHES
        if node.type != "grpc":
            settings = self._reports.shaping(settings, node.namespace, labels, own_collectors(settings, node))
            settings = of_proxy(settings, node)
            patches = self._model.envoy_filters.of(node.namespace, labels, node.metadata)
        # Labels are what the workload has, and not what the proxy says, where they decide which Secrets it gets.
        ours = workload is not None and node.service_account in ("", workload.service_account)
        audience = Audience(
            node.namespace,
            ":" in node.ip,
            settings,
            told_by,
            locality=locality,
            patches=patches,
            gateway=node.type == "router",
            vouched=ours,
        )
        if node.type == "router":
            pod = workload if workload is not None and ours else None
            return GatewayGroup(audience, pod.labels if pod else (), pod.ports if pod else (), edge_of(node))
        if (sidecar := self._model.sidecars.of(node.namespace, labels)) is not None:
            settings = scoped(settings, sidecar)
            audience = msgspec.structs.replace(audience, settings=settings, egress=sidecar.egress)
        # Where an unknown destination is refused, so would be a host of the mesh that is reached without a lookup.
        if not (is_on_demand(node) and settings.on_demand):
            return audience
        ranges = tuple(filter(audience.reaches, settings.mesh_ranges))
        return msgspec.structs.replace(audience, on_demand=terms(idle_time(node), ranges, settings.http))

    def may_change(self, touched: Touched, settings: ProxySettings) -> bool:
        """Whether a change may put any proxy into another group, and not just those of workloads that it touched."""
        before, self._distinctions = self._distinctions, self._distinguished(settings)
        return before != self._distinctions or touched.sidecars or touched.envoy_filters

    def _distinguished(self, settings: ProxySettings) -> tuple[frozenset[str], bool]:
        """By what proxies are told apart: the labels, and whether where they are matters."""
        label_keys = settings.locality.label_keys if settings.locality else frozenset()
        ejects = settings.default_policy.outlier_detection is not None
        by_place = self._model.by_place or ejects or (settings.locality is not None and settings.locality.always)
        return self._model.policies.label_keys | label_keys, by_place


def is_on_demand(node: ProxyNode) -> bool:
    """Whether it is a sidecar that is to have what its workload asks for, and not everything."""
    return node.type == "sidecar" and on_demand(node.metadata)


def serves_node_ports(node: ProxyNode) -> bool:
    """Whether it is a node's own gateway: where certificates are asked for, a pod of the system's namespace."""
    ours = not node.service_account or node.namespace == SYSTEM_NAMESPACE
    return node.type == "router" and node.labels.get(GATEWAY_LABEL) == "node" and ours
