"""The proxies of a workload's own kind: Envoy shares requests out between zones by how many there are in each.

Istio: the self-discovery cluster (ISTIO_META_ENABLE_SELF_DISCOVERY), without which zoneAwareLbSetting keeps nobody in a
zone. The bootstrap has the cluster; here are its endpoints.
"""

from __future__ import annotations

from pilotfish.api.proxy_files import LOCAL_CLUSTER, SELF_DISCOVERY
from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import Endpoint, Labels, Workload, WorkloadKey
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.parts import Part
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.upstreams import reduced

_TEMPLATES = ("pod-template-hash", "rollouts-pod-template-hash")
"""The labels that tell a Deployment's pods of one template from those of another."""


def discovers_itself(node: ProxyNode) -> bool:
    """Whether a proxy asks for them."""
    return str(node.metadata.get(SELF_DISCOVERY, "")).lower() == "true"


class Siblings(Part):
    """The endpoints of one workload's oldest service that are of its own Deployment, template and region."""

    def __init__(self, key: WorkloadKey, address: str, node_labels: Labels, model: Model) -> None:
        super().__init__()
        self._key = key
        self._address = address
        self._node_labels = node_labels
        self._model = model
        self._look()
        self.take_changes()

    def anew(self, model: Model) -> Siblings:
        return Siblings(self._key, self._address, self._node_labels, model)

    def update(self, touched: Touched) -> None:
        """Look again, if anything of it may have changed."""
        if self._key in touched.workloads or touched.hosts:
            self._look()

    def _look(self) -> None:
        workload = self._model.workload(self._key)
        labels = workload.labels if workload else self._node_labels
        targets = self._model.targets(self._key.namespace, labels, self._address, workload)
        oldest = min(targets, key=lambda target: target.service.age, default=None)
        host = self._model.host(oldest.service.key) if oldest else None
        found: tuple[Endpoint, ...] = ()
        if oldest is not None and host is not None and workload is not None:
            found = tuple(reduced(each) for each in host.serving(oldest.port) if _alike(workload, each))
        # Also where there are none: Envoy begins only once it knows.
        self.put(AssignmentSpec(LOCAL_CLUSTER, found))


def _alike(workload: Workload, endpoint: Endpoint) -> bool:
    ours, theirs = dict(workload.labels), dict(endpoint.labels)
    same_region = workload.locality.partition("/")[0] == endpoint.locality.partition("/")[0]
    same_template = all(ours.get(name) == theirs.get(name) for name in _TEMPLATES)
    return same_region and same_template and dict(workload.peer).get("workload") == dict(endpoint.peer).get("workload")
