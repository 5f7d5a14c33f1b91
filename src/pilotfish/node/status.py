"""From what the node knows of a pod's containers to the pod's status. Pure (Kubernetes: kubelet/status)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilotfish.api.meta import Condition, timestamp
from pilotfish.api.pods import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodIP,
    PodStatus,
)
from pilotfish.node.runtime import ContainerRecord

RUNTIME = "pilotfish"
"""The scheme of container ids."""

QOS_CLASS = "BestEffort"


@dataclass(frozen=True)
class ContainerFacts:
    """One container as it is. `waiting` is (reason, message) while there is no run of it to tell of.

    The reason is "" of a container whose turn has not come.
    """

    waiting: tuple[str, str] | None = ("", "")
    record: ContainerRecord | None = None
    last: ContainerStateTerminated | None = None
    restarts: int = 0
    image_id: str = ""
    started: bool = False
    ready: bool = False

    @property
    def running(self) -> bool:
        return self.waiting is None and self.record is not None and self.record.running


@dataclass(frozen=True)
class PodFacts:
    """A pod as it is on this node. `ip` is "" until it has a sandbox."""

    ip: str
    host_ip: str
    started_at: str
    containers: Mapping[str, ContainerFacts] = field(default_factory=dict)


def pod_status(pod: Pod, facts: PodFacts, now: dt.datetime) -> PodStatus:
    """The status that the API should show; a condition that stays as it was keeps its time."""
    turn = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    init = _statuses(pod.spec.init_containers, facts, turn)
    main = _statuses(pod.spec.containers, facts, turn)
    phase = _phase(pod, init, main)
    incomplete = [status.name for status, passed in zip(init, _passed(pod, init), strict=True) if not passed]
    sidecars = [s for c, s in zip(pod.spec.init_containers, init, strict=True) if c.restart_policy == "Always"]
    unready = [status.name for status in (*sidecars, *main) if not status.ready]
    finished = phase in ("Succeeded", "Failed")

    def readiness(type: str) -> Condition:
        if finished:
            return Condition(type=type, status="False", reason="PodCompleted" if phase == "Succeeded" else "PodFailed")
        if unready:
            message = f"containers with unready status: [{' '.join(unready)}]"
            return Condition(type=type, status="False", reason="ContainersNotReady", message=message)
        return Condition(type=type, status="True")

    conditions = [
        Condition(type="PodReadyToStartContainers", status="True" if facts.ip and not finished else "False"),
        Condition(type="Initialized", status="True")
        if not incomplete
        else Condition(
            type="Initialized",
            status="False",
            reason="ContainersNotInitialized",
            message=f"containers with incomplete status: [{' '.join(incomplete)}]",
        ),
        _gates(pod, readiness("Ready")),
        readiness("ContainersReady"),
        Condition(type="PodScheduled", status="True"),
    ]
    ips = (PodIP(ip=facts.ip),) if facts.ip else ()
    return PodStatus(
        phase=phase,
        conditions=_merge(pod.status.conditions, conditions, timestamp(now)),
        host_ip=facts.host_ip,
        host_ips=(PodIP(ip=facts.host_ip),),
        pod_ip=facts.ip,
        pod_ips=ips,
        start_time=facts.started_at,
        init_container_statuses=init,
        container_statuses=main,
        qos_class=pod.status.qos_class or QOS_CLASS,
    )


def terminated(record: ContainerRecord) -> ContainerStateTerminated:
    """How a run ended. Raises AssertionError for one that has not."""
    assert record.finished_at is not None
    code = record.exit_code or 0
    return ContainerStateTerminated(
        exit_code=code,
        signal=record.signal,
        reason="Completed" if code == 0 else "Error",
        started_at=moment(record.started_at),
        finished_at=moment(record.finished_at),
        container_id=container_id(record.id),
    )


def moment(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as Kubernetes writes a time."""
    return timestamp(dt.datetime.fromtimestamp(nanoseconds // 1_000_000_000, dt.UTC))


def container_id(id: str) -> str:
    return f"{RUNTIME}://{id}"


def _statuses(containers: Sequence[Container], facts: PodFacts, turn: str) -> tuple[ContainerStatus, ...]:
    return tuple(_container_status(c, facts.containers.get(c.name, ContainerFacts()), turn) for c in containers)


def _container_status(container: Container, facts: ContainerFacts, turn: str) -> ContainerStatus:
    """`turn` is why a container waits whose turn has not come."""
    record = facts.record
    if facts.waiting is not None or record is None:
        reason, message = facts.waiting or ("", "")
        state = ContainerState(waiting=ContainerStateWaiting(reason=reason or turn, message=message))
    elif record.running:
        state = ContainerState(running=ContainerStateRunning(started_at=moment(record.started_at)))
    else:
        state = ContainerState(terminated=terminated(record))
    return ContainerStatus(
        name=container.name,
        state=state,
        last_state=ContainerState(terminated=facts.last) if facts.last else ContainerState(),
        ready=facts.ready and (facts.running or (state.terminated is not None and state.terminated.exit_code == 0)),
        started=facts.started and facts.running,
        restart_count=facts.restarts,
        image=container.image,
        image_id=facts.image_id,
        container_id=container_id(record.id) if record else "",
    )


def _passed(pod: Pod, init: Sequence[ContainerStatus]) -> list[bool]:
    """Of each init container, whether what comes after it may run: it has done its work, or as a sidecar is up."""
    return [
        bool(status.started) if container.restart_policy == "Always" else _done(status)
        for container, status in zip(pod.spec.init_containers, init, strict=True)
    ]


def _done(status: ContainerStatus) -> bool:
    return status.state.terminated is not None and status.state.terminated.exit_code == 0


def _phase(pod: Pod, init: Sequence[ContainerStatus], main: Sequence[ContainerStatus]) -> str:
    """Kubernetes: kubelet_pods.go, getPhase."""
    policy = pod.spec.restart_policy or "Always"
    for container, status in zip(pod.spec.init_containers, init, strict=True):
        if container.restart_policy == "Always":
            # A sidecar that was up once holds nothing back, as it may end and start again at any time.
            if not status.started and status.state.terminated is None and status.last_state.terminated is None:
                return "Pending"
        elif not _done(status):
            return "Failed" if status.state.terminated is not None and policy == "Never" else "Pending"
    if any(s.state.waiting is not None and s.last_state.terminated is None for s in main):
        return "Pending"
    if any(s.state.running is not None for s in main) or policy == "Always":
        return "Running"
    ends = [s.state.terminated or s.last_state.terminated for s in main]
    if all(end is not None and end.exit_code == 0 for end in ends):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _gates(pod: Pod, ready: Condition) -> Condition:
    """Ready asks for the pod's readiness gates too, which others set."""
    if ready.status != "True":
        return ready
    true = {c.type for c in pod.status.conditions if c.status == "True"}
    missing = [gate.condition_type for gate in pod.spec.readiness_gates if gate.condition_type not in true]
    if not missing:
        return ready
    message = f"the status of pod readiness gate {missing[0]!r} is not True"
    return Condition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=message)


def _merge(old: Sequence[Condition], new: Sequence[Condition], now: str) -> tuple[Condition, ...]:
    """The new conditions with the times of those that did not change, and the old ones that are not ours."""
    before = {condition.type: condition for condition in old}
    ours = {condition.type for condition in new}
    merged = []
    for condition in new:
        previous = before.get(condition.type)
        since = previous.last_transition_time if previous and previous.status == condition.status else None
        merged.append(
            Condition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message,
                last_transition_time=since or now,
            )
        )
    return (*merged, *(condition for condition in old if condition.type not in ours))
