import asyncio

from pilotfish.api.core import Node, NodeSpec, NodeStatus
from pilotfish.api.kinds import EVENT, NODE, POD
from pilotfish.api.meta import Condition, ObjectMeta
from pilotfish.api.pods import Pod, PodSpec
from pilotfish.controllers.scheduler import Unschedulable, place


def a_node(name="n", ready="True", labels=None, **spec):
    return Node(
        metadata=ObjectMeta(name=name, labels=labels or {}),
        spec=NodeSpec(**spec),
        status=NodeStatus(conditions=(Condition(type="Ready", status=ready),)),
    )


def a_pod(**spec):
    return Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=PodSpec(**spec))


def test_the_ready_node_with_the_fewest_pods_is_taken():
    nodes = [a_node("a"), a_node("b"), a_node("c", ready="False")]
    assert place(a_pod(), nodes, {"a": 2, "b": 1}) == "b"
    assert place(a_pod(), nodes, {}) == "a"


def test_a_node_must_suit_the_pod():
    nodes = [a_node("a"), a_node("b", labels={"disk": "ssd"})]
    assert place(a_pod(node_selector={"disk": "ssd"}), nodes, {"b": 9}) == "b"
    tainted = [a_node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])]
    assert isinstance(place(a_pod(), tainted, {}), Unschedulable)
    for toleration in ({"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoSchedule"}):
        assert place(a_pod(tolerations=[toleration]), tainted, {}) == "a"


def test_why_no_node_suits_is_told():
    nodes = [a_node("a", ready="Unknown"), a_node("b", unschedulable=True), a_node("c", ready="False")]
    assert place(a_pod(), [], {}) == Unschedulable("no nodes available to schedule pods")
    assert place(a_pod(), nodes, {}) == Unschedulable(
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) were not ready."
    )


def test_a_pod_waits_for_a_node_and_is_bound_when_it_comes(cluster_of, eventually):
    async def scenario():
        async with cluster_of(node=False) as cluster:
            document = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            }
            await cluster.create(document)

            async def scheduled():
                pod = await cluster.client.get(POD, "p", "default")
                return pod.spec.node_name or [(c.type, c.reason) for c in pod.status.conditions]

            async def reasons():
                return [e.reason for e in await cluster.items(EVENT)]

            await eventually(scheduled, [("PodScheduled", "Unschedulable")])
            await eventually(reasons, ["FailedScheduling"])
            await cluster.add_node("late", ready=False)
            ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            await cluster.client.patch(NODE, "late", "", ready, subresource="status")
            await eventually(scheduled, "late")

    asyncio.run(scenario())


def test_pods_are_spread_over_the_nodes(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.add_node("node-2")
            await cluster.create(a_deployment(replicas=6))

            async def nodes():
                return sorted(pod.spec.node_name for pod in await cluster.items(POD))

            await eventually(nodes, ["node-1"] * 3 + ["node-2"] * 3)

    asyncio.run(scenario())
