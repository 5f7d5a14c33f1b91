from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from pilotfish.api.decode import decode
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod, PodStatus
from pilotfish.node.runtime import ContainerRecord
from pilotfish.node.status import ContainerFacts, PodFacts, pod_status, terminated

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(minutes=1)
SECOND = 1_000_000_000


def a_pod(restart_policy: str = "Always", init: tuple[str, ...] = (), sidecars: tuple[str, ...] = ()) -> Pod:
    spec = {
        "restartPolicy": restart_policy,
        "initContainers": [
            *({"name": name} for name in init),
            *({"name": name, "restartPolicy": "Always"} for name in sidecars),
        ],
        "containers": [{"name": "a", "image": "img"}, {"name": "b"}],
    }
    return decode(POD, {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})


def running(ready: bool = True) -> ContainerFacts:
    return ContainerFacts(waiting=None, record=record(), ready=ready, started=True)


def ended(code: int) -> ContainerFacts:
    return ContainerFacts(waiting=None, record=record(code))


def record(code: int | None = None) -> ContainerRecord:
    finished = None if code is None else 20 * SECOND
    return ContainerRecord("a", "abc", 0, 2, 10 * SECOND, finished, code)


def status_of(pod: Pod, now: dt.datetime = NOW, **facts: ContainerFacts) -> PodStatus:
    return pod_status(pod, PodFacts("10.1.0.2", "10.1.0.1", "2026-01-02T03:04:00Z", facts), now)


@pytest.mark.parametrize(
    ("policy", "a", "b", "phase"),
    [
        ("Always", ContainerFacts(), ContainerFacts(), "Pending"),
        ("Always", running(), ContainerFacts(), "Pending"),
        ("Always", running(), running(), "Running"),
        ("Always", ended(1), ended(1), "Running"),
        ("Never", ended(0), running(), "Running"),
        ("Never", ended(0), ended(0), "Succeeded"),
        ("Never", ended(0), ended(2), "Failed"),
        ("OnFailure", ended(0), ended(2), "Running"),
        ("OnFailure", ended(0), ended(0), "Succeeded"),
        (
            "Always",
            ContainerFacts(waiting=("CrashLoopBackOff", ""), record=record(1), last=terminated(record(1))),
            running(),
            "Running",
        ),
    ],
)
def test_the_phase_follows_from_the_containers(policy: str, a: ContainerFacts, b: ContainerFacts, phase: str) -> None:
    assert status_of(a_pod(policy), a=a, b=b).phase == phase


def conditions(status: PodStatus) -> dict[str, str]:
    return {c.type: c.status for c in status.conditions}


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    assert conditions(status_of(a_pod(), a=running(), b=running()))["Ready"] == "True"
    status = status_of(a_pod(), a=running(), b=running(ready=False))
    assert conditions(status)["Ready"] == conditions(status)["ContainersReady"] == "False"
    ready = next(c for c in status.conditions if c.type == "Ready")
    assert ready.message == "containers with unready status: [b]"


def test_conditions_keep_the_time_of_their_last_change() -> None:
    first = status_of(a_pod(), a=running(), b=running(ready=False))
    before = msgspec.structs.replace(a_pod(), status=first)
    second = status_of(before, LATER, a=running(), b=running())
    times = {c.type: c.last_transition_time for c in second.conditions}
    assert times["Ready"] == "2026-01-02T03:05:05Z"
    assert times["PodScheduled"] == "2026-01-02T03:04:05Z"


def test_readiness_gates_have_their_say() -> None:
    pod = decode(POD, {"spec": {"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]}})
    assert conditions(status_of(pod, a=running()))["Ready"] == "False"
    with_gate = decode(
        POD,
        {
            "spec": {"containers": [{"name": "a"}], "readinessGates": [{"conditionType": "x/y"}]},
            "status": {"conditions": [{"type": "x/y", "status": "True"}]},
        },
    )
    status = status_of(with_gate, a=running())
    assert conditions(status) | {"Ready": "True", "x/y": "True"} == conditions(status)


def test_init_containers_hold_the_pod_back() -> None:
    pod = a_pod(init=("i",))
    status = status_of(pod, i=running(), a=ContainerFacts(), b=ContainerFacts())
    assert (status.phase, conditions(status)["Initialized"]) == ("Pending", "False")
    failed = status_of(a_pod("Never", init=("i",)), i=ended(1))
    assert failed.phase == "Failed"


def test_who_waits_for_its_turn_waits_for_the_init_containers_where_there_are_any() -> None:
    def reasons(pod: Pod) -> set[str]:
        status = status_of(pod)
        waiting = [s.state.waiting for s in (*status.init_container_statuses, *status.container_statuses)]
        return {state.reason for state in waiting if state}

    assert reasons(a_pod()) == {"ContainerCreating"}
    assert reasons(a_pod(init=("i",))) == {"PodInitializing"}


def test_a_native_sidecar_is_passed_when_it_is_up_and_counts_for_readiness() -> None:
    pod = a_pod(sidecars=("s",))
    up = status_of(pod, s=running(), a=running(), b=running())
    assert (up.phase, conditions(up)["Initialized"], conditions(up)["Ready"]) == ("Running", "True", "True")
    coming = status_of(pod, s=ContainerFacts(), a=ContainerFacts(), b=ContainerFacts())
    assert (coming.phase, conditions(coming)["Initialized"]) == ("Pending", "False")
    unready = status_of(pod, s=running(ready=False), a=running(), b=running())
    assert (unready.phase, conditions(unready)["Ready"]) == ("Running", "False")
    crashed = ContainerFacts(waiting=("CrashLoopBackOff", ""), record=record(1), last=terminated(record(1)), restarts=4)
    assert status_of(pod, s=crashed, a=running(), b=running()).phase == "Running"
    done = status_of(a_pod("Never", sidecars=("s",)), s=ended(137), a=ended(0), b=ended(0))
    assert done.phase == "Succeeded"


def test_how_a_container_ended_is_told() -> None:
    state = terminated(ContainerRecord("a", "abc", 0, 2, 10 * SECOND, 20 * SECOND, 137, 9))
    assert (state.exit_code, state.signal, state.reason) == (137, 9, "Error")
    assert (state.started_at, state.finished_at) == ("1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z")
    assert state.container_id == "pilotfish://abc"
