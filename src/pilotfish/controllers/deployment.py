"""Deployment → ReplicaSets (kubernetes pkg/controller/deployment)."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pilotfish.api.apps import Deployment, DeploymentStatus, ReplicaSet
from pilotfish.api.errors import AlreadyExists, ApiError
from pilotfish.api.kinds import DEPLOYMENT, POD, REPLICA_SET
from pilotfish.api.meta import Condition, Document, metadata_of, timestamp
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers import revisions, rolloutstatus, scaling
from pilotfish.controllers.ownership import claim
from pilotfish.controllers.pods import ENDED
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.replicaset import pod_groups
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Create, Delete, Patch, Write, apply, changed_fields


@dataclass(frozen=True)
class Told:
    """An event to record of the Deployment."""

    reason: str
    message: str


@dataclass(frozen=True)
class Step:
    """One step of a rollout: what to write and tell, the Deployment's revision, and its conditions."""

    writes: tuple[Write[ReplicaSet], ...] = ()
    events: tuple[Told, ...] = ()
    revision: int = 0
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A step, the status to report with it, and in how many seconds to look again."""

    step: Step
    status: DeploymentStatus
    again: float | None


def plan(deployment: Deployment, sets: Sequence[ReplicaSet], pods: Sequence[Pod], now: dt.datetime) -> Plan:
    """`sets` are the ReplicaSets that the Deployment controls, `pods` the pods that these control.

    Each write changes what the next plan sees, so a rollout is a row of such steps.
    """
    newest, old = revisions.split(deployment, sets)
    step = _step(deployment, newest, old, pods, timestamp(now))
    status = rolloutstatus.counted(deployment, step.conditions, newest, sets, timestamp(now))
    if not deployment.spec.paused:
        status = rolloutstatus.progressed(deployment, status, newest, sets, now)
        if not step.writes and rolloutstatus.complete(deployment, status):
            step = dataclasses.replace(step, writes=tuple(map(Delete, revisions.expendable(deployment, old))))
    left = rolloutstatus.deadline(deployment, status.conditions, now)
    # A second more than is left, for timestamps have whole seconds.
    return Plan(step, status, again=left + 1 if left else None)


def _step(
    deployment: Deployment, newest: ReplicaSet | None, old: Sequence[ReplicaSet], pods: Sequence[Pod], now: str
) -> Step:
    conditions = rolloutstatus.paused_or_resumed(deployment, deployment.status.conditions, now)
    if deployment.metadata.deletion_timestamp is not None:
        return Step(conditions=conditions)
    if newest is None:
        return _without_newest(deployment, old, pods, conditions, now)
    sizes = _sizes(deployment, newest, old, pods)
    refresh = revisions.refreshed(deployment, newest, old)
    writes, events = _scaled(deployment, [newest, *old], sizes, {newest.name: refresh})
    return Step(
        writes,
        events,
        max(revisions.revision_of(newest), revisions.next_revision(old)),
        rolloutstatus.found(deployment, newest.name, conditions, now),
    )


def _without_newest(
    deployment: Deployment,
    old: Sequence[ReplicaSet],
    pods: Sequence[Pod],
    conditions: tuple[Condition, ...],
    now: str,
) -> Step:
    """The template is new: its ReplicaSet is made, once nothing has to be done before."""
    rolling = scaling.is_rolling(deployment)
    sizes: scaling.Sizes = {}
    if deployment.spec.paused or scaling.is_scaling(deployment, old):
        sizes = scaling.rescale(deployment, None, old)
    elif not rolling:
        sizes = {rs.name: 0 for rs in old if rs.spec.replicas}
    if sizes or deployment.spec.paused or (not rolling and _run_still(old, pods)):
        return Step(*_scaled(deployment, old, sizes, {}), conditions=conditions)
    size = scaling.new_size(deployment, 0, old)
    document = revisions.new_replica_set(deployment, old, size, scaling.fences(deployment)[0])
    name = metadata_of(document)["name"]
    told = (_scaling_event(name, 0, size),) if size else ()
    return Step(
        (Create(document),),
        told,
        revisions.next_revision(old),
        rolloutstatus.created(deployment, name, conditions, now),
    )


def _sizes(deployment: Deployment, newest: ReplicaSet, old: Sequence[ReplicaSet], pods: Sequence[Pod]) -> scaling.Sizes:
    if deployment.spec.paused or scaling.is_scaling(deployment, [newest, *old]):
        return scaling.rescale(deployment, newest, old)
    if scaling.is_rolling(deployment):
        return scaling.roll(deployment, newest, old)
    if scaling.total(old):
        return {rs.name: 0 for rs in old if rs.spec.replicas}
    if _run_still(old, pods):
        return {}
    return {newest.name: deployment.spec.replicas}


def _run_still(old: Sequence[ReplicaSet], pods: Sequence[Pod]) -> bool:
    """Whether pods of old templates are there yet, also those on their way out (oldPodsRunning)."""
    uids = {rs.metadata.uid for rs in old}
    return any(
        pod.metadata.controller is not None and pod.metadata.controller.uid in uids and pod.status.phase not in ENDED
        for pod in pods
    )


def _scaled(
    deployment: Deployment, sets: Sequence[ReplicaSet], sizes: scaling.Sizes, patches: Mapping[str, Document]
) -> tuple[tuple[Write[ReplicaSet], ...], tuple[Told, ...]]:
    """The patches that bring sets to their sizes, on top of those that are due anyway, and the events of it."""
    writes: list[Write[ReplicaSet]] = []
    events: list[Told] = []
    annotations = revisions.size_annotations(deployment, scaling.fences(deployment)[0])
    for rs in sets:
        patch = patches.get(rs.name, {})
        if rs.name in sizes:
            size = sizes[rs.name]
            noted = {k: v for k, v in annotations.items() if rs.metadata.annotations.get(k) != v}
            if noted:
                metadata = patch.get("metadata", {})
                merged = {**metadata.get("annotations", {}), **noted}
                patch = {**patch, "metadata": {**metadata, "annotations": merged}}
            if size != rs.spec.replicas:
                patch = {**patch, "spec": {**patch.get("spec", {}), "replicas": size}}
                events.append(_scaling_event(rs.name, rs.spec.replicas, size))
        if patch:
            writes.append(Patch(rs, patch))
    return tuple(writes), tuple(events)


def _scaling_event(name: str, before: int, after: int) -> Told:
    way = "up" if after > before else "down"
    return Told("ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {after}")


class DeploymentController:
    """Rolls Deployments out, step by step."""

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self.queue: WorkQueue[ObjectKey] = WorkQueue("deployment")
        deployments, sets = informers.informer(DEPLOYMENT), informers.informer(REPLICA_SET)
        self._deployments = View(deployments)
        self._sets = View(sets)
        self._pods = View(informers.informer(POD), pod_groups)
        deployments.subscribe(lambda change: self.queue.add(change.key))
        sets.subscribe(self._set_changed)
        informers.informer(POD).subscribe(self._pod_changed)

    def _set_changed(self, change: Change[ReplicaSet]) -> None:
        for rs in filter(None, (change.old, change.new)):
            controller = rs.metadata.controller
            if controller is not None and controller.kind == DEPLOYMENT.kind:
                self.queue.add((rs.namespace, controller.name))
            elif controller is None:
                for candidate in self._deployments.group(rs.namespace):
                    self.queue.add(candidate.key)

    def _pod_changed(self, change: Change[Pod]) -> None:
        # Only Recreate waits for pods; everything else it learns from the ReplicaSets' status.
        controller = change.object.metadata.controller
        if change.new is not None or controller is None or controller.kind != REPLICA_SET.kind:
            return
        rs = self._sets.get((change.object.namespace, controller.name))
        if rs is not None and rs.metadata.controller is not None:
            self.queue.add((rs.namespace, rs.metadata.controller.name))

    async def reconcile(self, key: ObjectKey) -> float | None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        selector = deployment.spec.selector
        if not selector.match_labels and not selector.match_expressions:
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, "Warning", "SelectingAll", message)
            return None
        claimed = claim(DEPLOYMENT, deployment, selector, self._sets.group(key[0]))
        for patch in claimed.patches:
            await apply(self._client, REPLICA_SET, key[0], patch, self._sets)
        pods = [pod for rs in claimed.objects for pod in self._pods.group(rs.metadata.uid)]
        wanted = plan(deployment, claimed.objects, pods, dt.datetime.now(dt.UTC))
        await self._carry_out(deployment, wanted.step)
        await self._report(deployment, wanted.status)
        return wanted.again

    async def _carry_out(self, deployment: Deployment, step: Step) -> None:
        for write in step.writes:
            try:
                await apply(self._client, REPLICA_SET, deployment.namespace, write, self._sets)
            except AlreadyExists:
                assert isinstance(write, Create)
                await self._resolve_collision(deployment, metadata_of(write.document)["name"])
            except ApiError as error:
                if isinstance(write, Create):
                    status = rolloutstatus.failed(deployment, metadata_of(write.document)["name"], error.message)
                    await self._report(deployment, status)
                raise
        for told in step.events:
            self._recorder.event(deployment, "Normal", told.reason, told.message)
        revision = str(step.revision)
        if step.revision and deployment.metadata.annotations.get(revisions.REVISION) != revision:
            patch: Document = {"metadata": {"annotations": {revisions.REVISION: revision}}}
            await apply(self._client, DEPLOYMENT, deployment.namespace, Patch(deployment, patch), self._deployments)

    async def _resolve_collision(self, deployment: Deployment, name: str) -> None:
        """A ReplicaSet of the new one's name is there. Raises AlreadyExists, unless it turns out to be ours."""
        existing = await self._client.get(REPLICA_SET, name, deployment.namespace)
        controller = existing.metadata.controller
        ours = controller is not None and controller.uid == deployment.metadata.uid
        if ours and revisions.same_template(existing, deployment):
            self._sets.wrote(existing)
            return
        count = (deployment.status.collision_count or 0) + 1
        await self._report(deployment, msgspec.structs.replace(deployment.status, collision_count=count))
        raise AlreadyExists(f"{name} is another ReplicaSet: the next try takes another name")

    async def _report(self, deployment: Deployment, status: DeploymentStatus) -> None:
        changes = changed_fields(status, deployment.status)
        if changes:
            patch = Patch(deployment, {"status": changes}, "status")
            await apply(self._client, DEPLOYMENT, deployment.namespace, patch, self._deployments)
