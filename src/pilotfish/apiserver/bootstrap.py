"""The objects that every cluster has from its start."""

from __future__ import annotations

from collections.abc import Mapping

from pilotfish.api.errors import AlreadyExists
from pilotfish.api.kinds import NAMESPACE
from pilotfish.apiserver.resources import Resources

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def ensure_default_objects(resources: Resources, labels: Mapping[str, Mapping[str, str]] = {}) -> None:
    """Create what is missing of Kubernetes' own namespaces, with these labels (by namespace) when they are new."""
    for name in NAMESPACES:
        if resources.read(NAMESPACE, "", name) is None:
            await _create_namespace(resources, name, labels.get(name, {}))


async def _create_namespace(resources: Resources, name: str, labels: Mapping[str, str]) -> None:
    try:
        await resources.create(NAMESPACE, "", {"metadata": {"name": name, "labels": dict(labels)}})
    except AlreadyExists:
        return
