"""Binds pods to nodes: to the Ready one that suits the pod and has the fewest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotfish.api.core import Node
from pilotfish.api.kinds import NODE, POD
from pilotfish.api.meta import Condition, Document, timestamp
from pilotfish.api.pods import Pod
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers import conditions
from pilotfish.controllers.pods import active
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Patch, apply

NAME = "default-scheduler"
_UNBOUND = ""


@dataclass(frozen=True)
class Unschedulable:
    """Why no node suits, in the words of Kubernetes' scheduler."""

    message: str


def place(pod: Pod, nodes: Sequence[Node], load: Mapping[str, int]) -> str | Unschedulable:
    """The name of the node for a pod; `load` is how many pods each node has.

    Of a pod's wishes its `nodeSelector` counts; of a node that it is Ready, not cordoned, and bears no taint that the
    pod does not tolerate.
    """
    refusals = Counter[str]()
    fit: list[Node] = []
    for node in nodes:
        refusal = _refusal(pod, node)
        if refusal:
            refusals[refusal] += 1
        else:
            fit.append(node)
    if fit:
        return min(fit, key=lambda node: (load.get(node.name, 0), node.name)).name
    if not nodes:
        return Unschedulable("no nodes available to schedule pods")
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in refusals.items()))
    return Unschedulable(f"0/{len(nodes)} nodes are available: {reasons}.")


def _refusal(pod: Pod, node: Node) -> str:
    if node.spec.unschedulable:
        return "node(s) were unschedulable"
    ready = conditions.find(node.status.conditions, "Ready")
    if ready is None or ready.status != "True" or node.metadata.deletion_timestamp:
        return "node(s) were not ready"
    if not pod.spec.node_selector.items() <= node.metadata.labels.items():
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in node.spec.taints or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(taint, pod.spec.tolerations or ()):
            return f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}"
    return ""


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if toleration.get("operator") == "Exists":
            if toleration.get("key") in (None, "", taint.get("key")):
                return True
        elif (toleration.get("key"), toleration.get("value", "")) == (taint.get("key"), taint.get("value", "")):
            return True
    return False


def is_waiting(pod: Pod) -> bool:
    """Whether a pod is for this scheduler to bind."""
    return (
        not pod.spec.node_name
        and active(pod)
        and not pod.spec.scheduling_gates
        and pod.spec.scheduler_name in ("", NAME)
    )


def unschedulable_patch(pod: Pod, message: str) -> Document:
    """The merge patch of a status that says why a pod waits; empty where it does already."""
    current = conditions.find(pod.status.conditions, "PodScheduled")
    if current is not None and (current.status, current.message) == ("False", message):
        return {}
    now = timestamp()
    fresh = Condition(
        type="PodScheduled", status="False", reason="Unschedulable", message=message, last_transition_time=now
    )
    others = conditions.without(pod.status.conditions, "PodScheduled")
    return {"status": {"conditions": conditions.document((*others, fresh))}}


class Scheduler:
    """One worker: each placement sees those before it."""

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self.queue: WorkQueue[ObjectKey] = WorkQueue("scheduler")
        pods, self._nodes = informers.informer(POD), informers.informer(NODE)
        self._pods = View(pods, lambda pod: (pod.spec.node_name if active(pod) else "ended",))
        pods.subscribe(self._pod_changed)
        self._nodes.subscribe(self._node_changed)

    def _pod_changed(self, change: Change[Pod]) -> None:
        if change.new is not None and is_waiting(change.new):
            self.queue.add(change.key)

    def _node_changed(self, change: Change[Node]) -> None:
        if change.old is not None and change.new is not None and _suits_alike(change.old, change.new):
            return
        for pod in self._pods.group(_UNBOUND):
            self.queue.add(pod.key)

    async def reconcile(self, key: ObjectKey) -> float | None:
        pod = self._pods.get(key)
        if pod is None or not is_waiting(pod):
            return None
        nodes = list(self._nodes.objects.values())
        load = {node.name: len(self._pods.group(node.name)) for node in nodes}
        placed = place(pod, nodes, load)
        if isinstance(placed, Unschedulable):
            patch = unschedulable_patch(pod, placed.message)
            if patch:
                await apply(self._client, POD, pod.namespace, Patch(pod, patch, "status"), self._pods)
                self._recorder.event(pod, "Warning", "FailedScheduling", placed.message)
            return None
        binding: Document = {"metadata": {"uid": pod.metadata.uid}, "spec": {"nodeName": placed}}
        await apply(self._client, POD, pod.namespace, Patch(pod, binding), self._pods)
        message = f"Successfully assigned {pod.namespace}/{pod.name} to {placed}"
        self._recorder.event(pod, "Normal", "Scheduled", message)
        return None


def _suits_alike(old: Node, new: Node) -> bool:
    """Whether nothing changed that a pod waits for; a node's heartbeats are most of its changes."""

    def traits(node: Node) -> tuple[object, ...]:
        ready = conditions.find(node.status.conditions, "Ready")
        return node.metadata.labels, node.spec, ready.status if ready else ""

    return traits(old) == traits(new)
