"""Which workload a pod belongs to: the Deployment or other object that someone wrote, seen through its owners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Workload:
    """`api_version` and `kind` as in an object, e.g. "apps/v1" and "Deployment"."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def url(self) -> str:
        """As Istio writes it into ISTIO_META_OWNER."""
        plural = self.kind.lower() + "s"
        return f"kubernetes://apis/{self.api_version}/namespaces/{self.namespace}/{plural}/{self.name}"


def workload_of(metadata: Mapping[str, Any]) -> Workload:
    """The workload of a pod, from its metadata (Istio: GetDeployMetaFromPod).

    A ReplicaSet whose name ends in the pod's template hash stands for its Deployment; a pod that nobody controls is its
    own workload, named as it is or, while it has no name yet, by its `generateName`.
    """
    namespace = metadata.get("namespace") or "default"
    owners = metadata.get("ownerReferences") or []
    owner = next((ref for ref in owners if ref.get("controller")), None)
    if owner is None:
        name = metadata.get("name") or (metadata.get("generateName") or "").rstrip("-")
        return Workload("v1", "Pod", namespace, name)
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    suffix = f"-{template_hash}"
    if owner["kind"] == "ReplicaSet" and template_hash and owner["name"].endswith(suffix):
        return Workload(owner["apiVersion"], "Deployment", namespace, owner["name"].removesuffix(suffix))
    return Workload(owner["apiVersion"], owner["kind"], namespace, owner["name"])
