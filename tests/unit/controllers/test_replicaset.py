import asyncio
import datetime as dt

from pilotfish.api.apps import ReplicaSet, ReplicaSetSpec
from pilotfish.api.kinds import EVENT, POD, REPLICA_SET
from pilotfish.api.meta import Condition, ObjectMeta
from pilotfish.api.pods import Pod, PodSpec, PodStatus
from pilotfish.controllers.replicaset import deletion_order, plan

NOW = dt.datetime(2024, 1, 1, 1, tzinfo=dt.UTC)


def a_set(replicas, **spec):
    return ReplicaSet(metadata=ObjectMeta(name="web", generation=3), spec=ReplicaSetSpec(replicas=replicas, **spec))


def a_pod(name="p", since="2024-01-01T00:00:00Z", ready=True, node="n", phase="Running", cost=None, **about):
    annotations = {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {}
    condition = Condition(type="Ready", status="True" if ready else "False", last_transition_time=since)
    return Pod(
        metadata=ObjectMeta(name=name, annotations=annotations, **about),
        spec=PodSpec(node_name=node),
        status=PodStatus(phase=phase, conditions=(condition,)),
    )


def names(pods):
    return [pod.name for pod in pods]


def test_missing_pods_are_made_and_ended_or_leaving_ones_do_not_count():
    pods = [a_pod(), a_pod(phase="Failed"), a_pod(deletion_timestamp="2024-01-01T00:00:00Z")]
    wanted = plan(a_set(3), pods, NOW)
    assert (wanted.create, wanted.delete) == (2, ())
    assert (wanted.status.replicas, wanted.status.ready_replicas, wanted.status.observed_generation) == (1, 1, 3)


def test_a_set_that_is_being_deleted_makes_nothing():
    leaving = ReplicaSet(
        metadata=ObjectMeta(deletion_timestamp="2024-01-01T00:00:00Z"), spec=ReplicaSetSpec(replicas=2)
    )
    assert plan(leaving, [], NOW).create == 0


def test_pods_are_available_after_their_time():
    pods = [a_pod(since="2024-01-01T00:59:50Z"), a_pod(since="2024-01-01T00:59:00Z"), a_pod(ready=False)]
    wanted = plan(a_set(3, min_ready_seconds=30), pods, NOW)
    assert (wanted.status.ready_replicas, wanted.status.available_replicas) == (2, 1)
    assert wanted.again == 20


def test_those_go_first_that_are_missed_least():
    pods = [
        a_pod("old"),
        a_pod("new", since="2024-01-01T00:30:00Z"),
        a_pod("unready", ready=False),
        a_pod("pending", phase="Pending", ready=False),
        a_pod("unbound", node="", phase="Pending", ready=False),
        a_pod("cheap", cost="-5"),
    ]
    assert names(deletion_order(pods)) == ["unbound", "pending", "unready", "cheap", "new", "old"]
    assert names(plan(a_set(4), pods, NOW).delete) == ["unbound", "pending"]


def test_of_pods_that_share_a_node_one_goes():
    pods = [a_pod("alone", node="a"), a_pod("one", node="b"), a_pod("two", node="b")]
    assert names(deletion_order(pods))[-1] == "alone"


def test_pods_are_adopted_and_released_by_their_labels(cluster_of, eventually):
    async def scenario():
        async with cluster_of() as cluster:
            template = {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            }
            loose = {"apiVersion": "v1", "kind": "Pod", **template}
            await cluster.create({**loose, "metadata": {**template["metadata"], "name": "loose"}})
            spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
            metadata = {"name": "web"}
            created = await cluster.create(
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}
            )

            async def owned():
                pods = await cluster.items(POD)
                ours = [p.name for p in pods if p.metadata.controller]
                return "loose" in ours, len(ours), len(pods)

            await eventually(owned, (True, 2, 2))
            await cluster.client.patch(POD, "loose", "default", {"metadata": {"labels": {"app": "debug"}}})
            await eventually(owned, (False, 2, 3))

            async def counted():
                status = (await cluster.client.get(REPLICA_SET, "web", "default")).status
                return status.replicas, status.ready_replicas, status.available_replicas

            await eventually(counted, (2, 2, 2))
            await cluster.client.patch(REPLICA_SET, "web", "default", {"spec": {"replicas": 0}})
            await eventually(counted, (0, 0, 0))

            async def told():
                events = await cluster.items(EVENT)
                return {e.reason for e in events if e.involved_object.uid == created.metadata.uid}

            await eventually(told, {"SuccessfulCreate", "SuccessfulDelete"})

    asyncio.run(scenario())


def test_pods_that_cannot_be_made_are_told(cluster_of, eventually):
    async def scenario():
        async with cluster_of() as cluster:
            template = {
                "metadata": {"labels": {"app": "web"}, "annotations": {"big": "x" * 300_000}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            }
            spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
            await cluster.create(
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"}, "spec": spec}
            )

            async def failure():
                status = (await cluster.client.get(REPLICA_SET, "web", "default")).status
                return [(c.type, c.reason) for c in status.conditions]

            await eventually(failure, [("ReplicaFailure", "FailedCreate")])
            smaller = {"spec": {"template": {"metadata": {"annotations": None}}}}
            await cluster.client.patch(REPLICA_SET, "web", "default", smaller)
            await eventually(failure, [])

    asyncio.run(scenario())
