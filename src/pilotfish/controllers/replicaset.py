"""ReplicaSet → Pods (kubernetes pkg/controller/replicaset)."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.api.apps import ReplicaSet, ReplicaSetStatus
from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import POD, REPLICA_SET
from pilotfish.api.meta import Document, timestamp
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers import conditions
from pilotfish.controllers.ownership import claim, controller_reference
from pilotfish.controllers.pods import active, available_in, ready_since
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Delete, Patch, apply, changed_fields

BURST = 500
"""Pods that one reconciliation makes or deletes at most."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True)
class Plan:
    """What to do about a ReplicaSet's pods, its status as observed, and in how many seconds to look again."""

    create: int
    delete: tuple[Pod, ...]
    status: ReplicaSetStatus
    again: float | None


def plan(replica_set: ReplicaSet, pods: Sequence[Pod], now: dt.datetime) -> Plan:
    """`pods` are those that the ReplicaSet controls."""
    alive = [pod for pod in pods if active(pod)]
    missing = replica_set.spec.replicas - len(alive)
    if replica_set.metadata.deletion_timestamp is not None:
        missing = 0
    surplus = deletion_order(alive)[: min(-missing, BURST)] if missing < 0 else []
    waits = [available_in(pod, replica_set.spec.min_ready_seconds, now) for pod in alive]
    pending = [wait for wait in waits if wait]
    return Plan(
        create=min(max(missing, 0), BURST),
        delete=tuple(surplus),
        status=ReplicaSetStatus(
            observed_generation=replica_set.metadata.generation,
            replicas=len(alive),
            fully_labeled_replicas=sum(_fully_labelled(pod, replica_set) for pod in alive),
            ready_replicas=sum(pod.ready for pod in alive),
            available_replicas=sum(wait == 0 for wait in waits),
            conditions=replica_set.status.conditions,
        ),
        again=min(pending, default=None),
    )


def _fully_labelled(pod: Pod, replica_set: ReplicaSet) -> bool:
    return replica_set.spec.template.metadata.labels.items() <= pod.metadata.labels.items()


def deletion_order(pods: Sequence[Pod]) -> list[Pod]:
    """The pods, those that are missed least first (kubernetes: ActivePodsWithRanks).

    Unscheduled, pending and unready ones go before others; then by their annotated cost, by how many share a node, and
    the newest first.
    """
    crowd = Counter(pod.spec.node_name for pod in pods)
    phases = {"Pending": 0, "Unknown": 1, "": 1}

    def rank(pod: Pod) -> tuple[Any, ...]:
        since = ready_since(pod)
        return (
            bool(pod.spec.node_name),
            phases.get(pod.status.phase, 2),
            pod.ready,
            _deletion_cost(pod),
            -crowd[pod.spec.node_name],
            -since.timestamp() if since else 0.0,
            -max((c.restart_count for c in pod.status.container_statuses), default=0),
        )

    newest_first = sorted(pods, key=lambda pod: pod.metadata.creation_timestamp or "", reverse=True)
    return sorted(newest_first, key=rank)


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def pod_document(replica_set: ReplicaSet) -> Document:
    """The pod to create; the server completes its name with five random characters."""
    template: Document = msgspec.to_builtins(replica_set.spec.template)
    about = template.get("metadata", {})
    owner = controller_reference(REPLICA_SET, replica_set)
    metadata = {name: about[name] for name in ("labels", "annotations", "finalizers") if name in about}
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {
            **metadata,
            "generateName": f"{replica_set.name}-",
            "namespace": replica_set.namespace,
            "ownerReferences": [msgspec.to_builtins(owner)],
        },
        "spec": template.get("spec", {}),
    }


def pod_groups(pod: Pod) -> tuple[str, ...]:
    """By whom a pod is controlled; those that nobody controls are found by their namespace, for adoption."""
    controller = pod.metadata.controller
    return (controller.uid if controller else f"free/{pod.namespace}",)


class ReplicaSetController:
    """Keeps as many pods as each ReplicaSet asks for."""

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self.queue: WorkQueue[ObjectKey] = WorkQueue("replicaset")
        sets, pods = informers.informer(REPLICA_SET), informers.informer(POD)
        self._sets = View(sets)
        self._pods = View(pods, pod_groups)
        sets.subscribe(lambda change: self.queue.add(change.key))
        pods.subscribe(self._pod_changed)

    def _pod_changed(self, change: Change[Pod]) -> None:
        for pod in filter(None, (change.old, change.new)):
            controller = pod.metadata.controller
            if controller is not None and controller.kind == REPLICA_SET.kind:
                self.queue.add((pod.namespace, controller.name))
            elif controller is None and pod.metadata.labels:
                for candidate in self._sets.group(pod.namespace):
                    self.queue.add(candidate.key)

    async def reconcile(self, key: ObjectKey) -> float | None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            return None
        candidates = (
            *self._pods.group(replica_set.metadata.uid),
            *(pod for pod in self._pods.group(f"free/{key[0]}") if active(pod)),
        )
        claimed = claim(REPLICA_SET, replica_set, replica_set.spec.selector, candidates)
        for patch in claimed.patches:
            await apply(self._client, POD, key[0], patch, self._pods)
        wanted = plan(replica_set, claimed.objects, dt.datetime.now(dt.UTC))
        try:
            await self._create(replica_set, wanted.create)
            await self._delete(replica_set, wanted.delete)
        except ApiError as error:
            await self._report(replica_set, _with_failure(wanted.status, wanted, error))
            raise
        await self._report(replica_set, _without_failure(wanted.status))
        return wanted.again

    async def _create(self, replica_set: ReplicaSet, count: int) -> None:
        document = pod_document(replica_set)
        batch = 1
        # Batches that double: what fails for one pod mostly fails for all, and is then tried but once.
        while count:
            made = min(batch, count)
            tries = [self._create_one(replica_set, document) for _ in range(made)]
            for outcome in await asyncio.gather(*tries, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
            count -= made
            batch *= 2

    async def _create_one(self, replica_set: ReplicaSet, document: Document) -> None:
        try:
            pod = await self._client.create(POD, document, replica_set.namespace)
        except ApiError as error:
            self._recorder.event(replica_set, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._pods.wrote(pod)
        self._recorder.event(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod.name}")

    async def _delete(self, replica_set: ReplicaSet, pods: Sequence[Pod]) -> None:
        for pod in pods:
            await apply(self._client, POD, pod.namespace, Delete(pod), self._pods)
            self._recorder.event(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.name}")

    async def _report(self, replica_set: ReplicaSet, status: ReplicaSetStatus) -> None:
        changes = changed_fields(status, replica_set.status)
        if changes:
            patch = Patch(replica_set, {"status": changes}, "status")
            await apply(self._client, REPLICA_SET, replica_set.namespace, patch, self._sets)


def _with_failure(status: ReplicaSetStatus, wanted: Plan, error: ApiError) -> ReplicaSetStatus:
    reason = "FailedCreate" if wanted.create else "FailedDelete"
    told = conditions.with_condition(status.conditions, "ReplicaFailure", "True", reason, error.message, timestamp())
    return msgspec.structs.replace(status, conditions=told)


def _without_failure(status: ReplicaSetStatus) -> ReplicaSetStatus:
    return msgspec.structs.replace(status, conditions=conditions.without(status.conditions, "ReplicaFailure"))
