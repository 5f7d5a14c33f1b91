"""What this API must know of the node's pods; the agent tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pilotfish.api.errors import NotFound
from pilotfish.node import runtime, sandbox
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.runtime import ContainerRecord
from pilotfish.node.sandbox import PodFolder


@dataclass(frozen=True)
class RunningPod:
    """A pod that has a folder on this node. `attachment` is its network, None while it has none."""

    folder: PodFolder
    attachment: Attachment | None


class Pods(Protocol):
    """The pods of this node by name; the agent's part."""

    def find(self, namespace: str, name: str) -> RunningPod | None: ...


def require(pods: Pods, namespace: str, name: str) -> RunningPod:
    """Raises NotFound when the pod is not on this node."""
    pod = pods.find(namespace, name)
    if pod is None:
        raise NotFound(f'pod "{name}" of namespace "{namespace}" does not run on this node')
    return pod


def record_of(pod: RunningPod, container: str) -> ContainerRecord | None:
    """The last run of a container; None when it has not run yet."""
    return next((record for record in runtime.last_records(pod.folder) if record.name == container), None)


def require_running(pod: RunningPod, container: str) -> ContainerRecord:
    """Raises NotFound when the container does not run now, in the words of Kubernetes."""
    record = record_of(pod, container)
    if record is None or has_ended(pod, record):
        raise NotFound(f'container not found ("{container}")')
    return record


def has_ended(pod: RunningPod, run: ContainerRecord) -> bool:
    """Whether this run of a container is over: it ended, another one followed it, or the whole pod was killed."""
    now = record_of(pod, run.name)
    same = now is not None and now.attempt == run.attempt and now.running
    return not same or sandbox.supervisor_pid(pod.folder) is None
