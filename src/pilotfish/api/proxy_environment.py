"""The environment of a proxy's process: what tells it from others that share its configuration.

The node sets the variables, from the pod; listeners refer to them by name, so that one listener serves workloads of
every name.
"""

from __future__ import annotations

import enum


class Variable(enum.StrEnum):
    """What a proxy's workload is, in Istio's words. Each has a value: "unknown" where nothing is known."""

    WORKLOAD = "PILOTFISH_WORKLOAD"
    NAMESPACE = "PILOTFISH_NAMESPACE"
    APP = "PILOTFISH_APP"
    VERSION = "PILOTFISH_VERSION"
    SERVICE = "PILOTFISH_CANONICAL_SERVICE"
    REVISION = "PILOTFISH_CANONICAL_REVISION"
    CLUSTER = "PILOTFISH_CLUSTER"
    MESH = "PILOTFISH_MESH"
    PEER = "PILOTFISH_PEER"
    """All of the above for a peer: a google.protobuf.Value that is a struct, serialised, in base64."""
    UNKNOWN = "PILOTFISH_UNKNOWN"
    """"unknown": what a format falls back to."""


PEER_FIELDS = {
    "workload": Variable.WORKLOAD,
    "namespace": Variable.NAMESPACE,
    "app": Variable.APP,
    "version": Variable.VERSION,
    "service": Variable.SERVICE,
    "revision": Variable.REVISION,
    "cluster": Variable.CLUSTER,
}
"""What peers are told of a workload, by the name that it has in metadata."""
UNKNOWN = "unknown"
