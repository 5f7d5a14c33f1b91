import datetime as dt

import msgspec
import pytest

from pilotfish.api.apps import (
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    ReplicaSetStatus,
    RollingUpdateDeployment,
)
from pilotfish.api.meta import Condition, ObjectMeta
from pilotfish.api.pods import Container, PodSpec, PodTemplateSpec
from pilotfish.controllers import rolloutstatus
from pilotfish.controllers.names import template_hash
from pilotfish.controllers.scaling import fences, is_scaling, new_size, rescale, roll

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def a_deployment(replicas=4, surge="25%", unavailable="25%", **spec):
    rolling = RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable)
    strategy = DeploymentStrategy(type="RollingUpdate", rolling_update=rolling)
    about = ObjectMeta(name="web", namespace="default", generation=1)
    return Deployment(metadata=about, spec=DeploymentSpec(replicas=replicas, strategy=strategy, **spec))


def a_set(name, replicas, available=None, created="2024-01-01T00:00:00Z", **annotations):
    noted = {f"deployment.kubernetes.io/{key.replace('_', '-')}": str(value) for key, value in annotations.items()}
    return ReplicaSet(
        metadata=ObjectMeta(name=name, creation_timestamp=created, annotations=noted),
        spec=ReplicaSetSpec(replicas=replicas),
        status=ReplicaSetStatus(available_replicas=replicas if available is None else available, replicas=replicas),
    )


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (3, 0, 0, (0, 1)),
        (3, 2, "100%", (2, 3)),
        (2, 0, 5, (0, 2)),
        (3, "0%", "30%", (0, 1)),
    ],
)
def test_surge_is_rounded_up_and_unavailability_down(replicas, surge, unavailable, expected):
    assert fences(a_deployment(replicas, surge, unavailable)) == expected


def test_a_new_set_takes_what_room_the_surge_leaves():
    assert new_size(a_deployment(4), 0, []) == 4
    assert new_size(a_deployment(4), 0, [a_set("old", 4)]) == 1
    assert new_size(a_deployment(4), 1, [a_set("old", 4)]) == 1


def test_a_rolling_update_goes_step_by_step():
    deployment = a_deployment(4)
    assert roll(deployment, a_set("new", 0), [a_set("old", 4)]) == {"new": 1}
    # Nothing of the new one serves yet: one old pod may go, for one may be missing.
    assert roll(deployment, a_set("new", 1, 0), [a_set("old", 4)]) == {"old": 3}
    assert roll(deployment, a_set("new", 2, 0), [a_set("old", 3)]) == {}
    assert roll(deployment, a_set("new", 2, 2), [a_set("old", 3)]) == {"old": 1}
    assert roll(deployment, a_set("new", 4, 4), [a_set("old", 1)]) == {"old": 0}
    assert roll(deployment, a_set("new", 4, 4), [a_set("old", 0)]) == {}
    assert roll(deployment, a_set("new", 6, 6), []) == {"new": 4}


def test_old_pods_that_serve_nothing_go_first():
    deployment = a_deployment(4, surge=0, unavailable=2)
    sick, well = a_set("sick", 2, 0, "2024-01-02T00:00:00Z"), a_set("well", 2, 2)
    assert roll(deployment, a_set("new", 0), [well, sick]) == {"sick": 0}


def test_a_change_of_size_is_told_from_a_change_of_template():
    assert is_scaling(a_deployment(4), [a_set("new", 2, desired_replicas=2)])
    assert not is_scaling(a_deployment(4), [a_set("new", 2, desired_replicas=4)])
    assert not is_scaling(a_deployment(4), [a_set("old", 0, desired_replicas=2)])


def test_a_change_of_size_is_shared_in_proportion():
    only = a_set("new", 2, desired_replicas=2)
    assert rescale(a_deployment(5), only, []) == {"new": 5}
    assert rescale(a_deployment(5), None, [a_set("old", 0)]) == {"old": 5}
    new = a_set("new", 5, 3, desired_replicas=10, max_replicas=13)
    old = a_set("old", 8, 8, "2023-01-01T00:00:00Z", desired_replicas=10, max_replicas=13)
    sizes = rescale(a_deployment(15, surge=3), new, [old])
    assert sizes == {"new": 7, "old": 11}
    assert sum(rescale(a_deployment(5, surge=3), new, [old]).values()) == 8
    assert rescale(a_deployment(0), new, [old]) == {"new": 0, "old": 0}
    done = a_set("new", 4, 4, desired_replicas=4)
    assert rescale(a_deployment(4), done, [a_set("old", 1, desired_replicas=9)]) == {"old": 0}


def status_of(deployment, newest, sets, now=NOW):
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    counted = rolloutstatus.counted(deployment, deployment.status.conditions, newest, sets, moment)
    return rolloutstatus.progressed(deployment, counted, newest, sets, now)


def reason_of(status):
    return {c.type: c.reason for c in status.conditions}.get("Progressing")


def with_status(deployment, status):
    return msgspec.structs.replace(deployment, status=status)


def test_the_condition_progressing_goes_with_the_rollout():
    created = Condition(
        type="Progressing", status="True", reason="NewReplicaSetCreated", last_update_time="2024-01-01T00:00:00Z"
    )
    deployment = with_status(a_deployment(progress_deadline_seconds=60), DeploymentStatus(conditions=(created,)))
    waiting = a_set("web-1", 4, 0)
    moved = status_of(deployment, waiting, [waiting])
    assert reason_of(moved) == "ReplicaSetUpdated"
    stuck = with_status(deployment, moved)
    assert reason_of(status_of(stuck, waiting, [waiting], NOW + dt.timedelta(seconds=59))) == "ReplicaSetUpdated"
    late = status_of(stuck, waiting, [waiting], NOW + dt.timedelta(seconds=60))
    assert reason_of(late) == "ProgressDeadlineExceeded"
    ready = a_set("web-1", 4, 4)
    done = status_of(with_status(deployment, late), ready, [ready])
    assert reason_of(done) == "NewReplicaSetAvailable"
    assert done.conditions[0].message == 'ReplicaSet "web-1" has successfully progressed.'
    assert rolloutstatus.deadline(deployment, done.conditions, NOW) is None


def test_the_template_hash_follows_the_template_and_the_collisions():
    def template(image):
        return PodTemplateSpec(spec=PodSpec(containers=(Container(name="c", image=image),)))

    assert template_hash(template("a"), None) == template_hash(template("a"), None)
    hashes = {template_hash(template("a"), None), template_hash(template("b"), None), template_hash(template("a"), 1)}
    assert len(hashes) == 3
    assert all(1 <= len(h) <= 10 for h in hashes)
