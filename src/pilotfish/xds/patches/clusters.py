"""Patches of clusters (Istio: pilot/pkg/networking/core/envoyfilter/cluster_patch.go)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pilotfish.api.networking.envoy_filter import ClusterMatch
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.xds.patches.values import merge, merge_packed, value_of


def means_cluster(match: ClusterMatch | None, name: str, service: str) -> bool:
    """Whether a match means the cluster of this name, which is of a service."""
    if match is None:
        return True
    if match.name:
        return match.name == name
    _, port, subset, _ = f"{name}|||".split("|", 3)
    return (
        match.subset in ("", subset)
        and match.service.lower() in ("", service.lower())
        and match.port_number in (0, int(port) if port.isdecimal() else 0)
    )


def patch_cluster(cluster: Any, patches: Iterable[Patch]) -> None:
    """Merge into a cluster all that means it."""
    for patch in patches:
        if patch.merges and not _merge_socket(cluster, patch):
            merge(cluster, patch)


def _merge_socket(cluster: Any, patch: Patch) -> bool:
    """Merge a transport socket into the cluster's of the same name, else put it in its place; such a patch does nothing
    more than that. Gives False for one without a transport socket.
    """
    value = value_of(patch)
    if value is None or not value.HasField("transport_socket"):
        return False
    wanted = value.transport_socket
    sockets = [match.transport_socket for match in cluster.transport_socket_matches]
    if not sockets and cluster.HasField("transport_socket"):
        sockets = [cluster.transport_socket]
    same = next((socket for socket in sockets if socket.name == wanted.name), None)
    if same is not None:
        if same.HasField("typed_config") and wanted.HasField("typed_config"):
            merge_packed(same.typed_config, wanted.typed_config, patch)
    elif not cluster.transport_socket_matches:
        cluster.transport_socket.CopyFrom(wanted)
    return True
