"""A Deployment's ReplicaSets as its revisions: which is the newest, what they are annotated with, which may go.

Kubernetes: pkg/controller/deployment/util/deployment_util.go. `kubectl rollout history` and `undo` read what is here.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pilotfish.api.apps import Deployment, ReplicaSet
from pilotfish.api.kinds import DEPLOYMENT, REPLICA_SET
from pilotfish.api.meta import Document
from pilotfish.api.pods import PodTemplateSpec
from pilotfish.controllers.names import replica_set_name, template_hash
from pilotfish.controllers.ownership import controller_reference

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_OWN_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
    }
)


def revision_of(replica_set: ReplicaSet) -> int:
    """The revision that a ReplicaSet is annotated with; 0 where it has none."""
    text = replica_set.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _age(replica_set: ReplicaSet) -> tuple[str, str]:
    return replica_set.metadata.creation_timestamp or "", replica_set.name


def oldest_first(replica_sets: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    return sorted(replica_sets, key=_age)


def _without_hash(template: PodTemplateSpec) -> PodTemplateSpec:
    labels = {name: value for name, value in template.metadata.labels.items() if name != HASH_LABEL}
    return msgspec.structs.replace(template, metadata=msgspec.structs.replace(template.metadata, labels=labels))


def same_template(replica_set: ReplicaSet, deployment: Deployment) -> bool:
    """Whether a ReplicaSet makes the pods that the Deployment asks for."""
    return _without_hash(replica_set.spec.template) == _without_hash(deployment.spec.template)


def split(
    deployment: Deployment, replica_sets: Sequence[ReplicaSet]
) -> tuple[ReplicaSet | None, tuple[ReplicaSet, ...]]:
    """The ReplicaSet of the current template, if there is one, and the others; of several the oldest is taken."""
    newest = next((rs for rs in oldest_first(replica_sets) if same_template(rs, deployment)), None)
    return newest, tuple(rs for rs in replica_sets if rs is not newest)


def next_revision(old: Sequence[ReplicaSet]) -> int:
    return max((revision_of(rs) for rs in old), default=0) + 1


def new_replica_set(deployment: Deployment, old: Sequence[ReplicaSet], replicas: int, surge: int) -> Document:
    """The ReplicaSet to create for the Deployment's template."""
    digest = template_hash(deployment.spec.template, deployment.status.collision_count)
    template: Document = msgspec.to_builtins(deployment.spec.template)
    labels = {**deployment.spec.template.metadata.labels, HASH_LABEL: digest}
    template["metadata"] = {**template.get("metadata", {}), "labels": labels}
    selector: Document = msgspec.to_builtins(deployment.spec.selector)
    selector["matchLabels"] = {**deployment.spec.selector.match_labels, HASH_LABEL: digest}
    return {
        "apiVersion": REPLICA_SET.api_version,
        "kind": REPLICA_SET.kind,
        "metadata": {
            "name": replica_set_name(deployment, digest),
            "namespace": deployment.namespace,
            "labels": labels,
            "annotations": {
                **_copied(deployment),
                **size_annotations(deployment, surge),
                REVISION: str(next_revision(old)),
            },
            "ownerReferences": [msgspec.to_builtins(controller_reference(DEPLOYMENT, deployment))],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    }


def _copied(deployment: Deployment) -> dict[str, str]:
    annotations = deployment.metadata.annotations
    return {name: value for name, value in annotations.items() if name not in _OWN_ANNOTATIONS}


def size_annotations(deployment: Deployment, surge: int) -> dict[str, str]:
    """How large the Deployment was when the ReplicaSet was last scaled: what proportional scaling starts from."""
    wanted = deployment.spec.replicas
    return {DESIRED_REPLICAS: str(wanted), MAX_REPLICAS: str(wanted + surge if wanted else 0)}


def refreshed(deployment: Deployment, newest: ReplicaSet, old: Sequence[ReplicaSet]) -> Document:
    """The merge patch that brings the newest ReplicaSet's revision and annotations up to date; empty where they are.

    A ReplicaSet that becomes the newest again, after a rollback, takes a new revision and notes its former one.
    """
    annotations = newest.metadata.annotations
    wanted = _copied(deployment)
    revision, current = next_revision(old), revision_of(newest)
    if current < revision:
        wanted[REVISION] = str(revision)
        if current:
            history = annotations.get(REVISION_HISTORY, "")
            wanted[REVISION_HISTORY] = f"{history},{current}" if history else str(current)
    changes = {name: value for name, value in wanted.items() if annotations.get(name) != value}
    patch: Document = {"metadata": {"annotations": changes}} if changes else {}
    if newest.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
        patch["spec"] = {"minReadySeconds": deployment.spec.min_ready_seconds}
    return patch


def expendable(deployment: Deployment, old: Sequence[ReplicaSet]) -> list[ReplicaSet]:
    """Old revisions beyond `revisionHistoryLimit`, the oldest first, of those that have no pods."""
    limit = deployment.spec.revision_history_limit
    alive = [rs for rs in old if rs.metadata.deletion_timestamp is None]
    if limit is None or len(alive) <= limit:
        return []
    candidates = sorted(alive, key=revision_of)[: len(alive) - limit]
    return [
        rs
        for rs in candidates
        if not rs.spec.replicas and not rs.status.replicas and rs.metadata.generation <= rs.status.observed_generation
    ]
