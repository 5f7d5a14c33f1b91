"""Who a workload is to its peers, for the labels of metrics and the tags of spans, in Istio's words.

The node puts it into the environment of the workload's proxy, where listeners refer to it by name, so that one listener
serves workloads of every name. The control plane puts it beside the workload's endpoints.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

CANONICAL_NAME, CANONICAL_REVISION = "service.istio.io/canonical-name", "service.istio.io/canonical-revision"
UNKNOWN = "unknown"


class Variable(enum.StrEnum):
    """The variables of a proxy's environment. All are set: to "unknown" where nothing is known."""

    WORKLOAD = "PILOTFISH_WORKLOAD"
    NAMESPACE = "PILOTFISH_NAMESPACE"
    APP = "PILOTFISH_APP"
    VERSION = "PILOTFISH_VERSION"
    SERVICE = "PILOTFISH_CANONICAL_SERVICE"
    REVISION = "PILOTFISH_CANONICAL_REVISION"
    CLUSTER = "PILOTFISH_CLUSTER"
    MESH = "PILOTFISH_MESH"
    PEER = "PILOTFISH_PEER"
    """All fields at once, for a peer: a google.protobuf.Value that is a struct, serialised, in base64."""
    UNKNOWN = "PILOTFISH_UNKNOWN"
    """Holds "unknown": what a format falls back to."""


PEER_FIELDS = {
    "workload": Variable.WORKLOAD,
    "namespace": Variable.NAMESPACE,
    "app": Variable.APP,
    "version": Variable.VERSION,
    "service": Variable.SERVICE,
    "revision": Variable.REVISION,
    "cluster": Variable.CLUSTER,
}
"""What a peer is told of a workload."""


def peer_fields(workload: str, namespace: str, labels: Mapping[str, str], cluster: str) -> dict[str, str]:
    """What peers are told of a workload. `service` and `revision` are its canonical ones."""
    name = labels.get(CANONICAL_NAME) or labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    revision = labels.get(CANONICAL_REVISION) or labels.get("app.kubernetes.io/version") or labels.get("version")
    return {
        "workload": workload or UNKNOWN,
        "namespace": namespace or UNKNOWN,
        "app": labels.get("app") or UNKNOWN,
        "version": labels.get("version") or UNKNOWN,
        "service": name or UNKNOWN,
        "revision": revision or "latest",
        "cluster": cluster or UNKNOWN,
    }
