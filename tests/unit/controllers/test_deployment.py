import asyncio
import re

from pilotfish.api.kinds import DEPLOYMENT, EVENT, POD, REPLICA_SET
from pilotfish.controllers.names import template_hash


def revision(obj):
    return obj.metadata.annotations.get("deployment.kubernetes.io/revision")


async def conditions_of(cluster, name="web"):
    found = await cluster.client.get(DEPLOYMENT, name, "default")
    return {c.type: (c.status, c.reason) for c in found.status.conditions}


async def images_of(cluster):
    return sorted(pod.spec.containers[0].image for pod in await cluster.items(POD))


async def settled(cluster, replicas, name="web"):
    found = await cluster.client.get(DEPLOYMENT, name, "default")
    status = found.status
    return (
        status.observed_generation == found.metadata.generation
        and (status.replicas, status.updated_replicas, status.available_replicas) == (replicas,) * 3
    )


def test_a_deployment_becomes_pods_with_kubernetes_names_and_owners(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment())
            await eventually(lambda: settled(cluster, 2))
            (rs,) = await cluster.items(REPLICA_SET)
            pods = await cluster.items(POD)
            digest = rs.metadata.labels["pod-template-hash"]
            assert re.fullmatch("[bcdfghjklmnpqrstvwxz2456789]{1,10}", digest)
            assert rs.name == f"web-{digest}"
            assert rs.spec.selector.match_labels == {"app": "web", "pod-template-hash": digest}
            assert rs.metadata.controller.kind == "Deployment"
            for pod in pods:
                assert re.fullmatch(f"web-{digest}-[bcdfghjklmnpqrstvwxz2456789]{{5}}", pod.name)
                assert pod.metadata.labels == {"app": "web", "pod-template-hash": digest}
                owner = pod.metadata.controller
                assert (owner.kind, owner.uid, owner.block_owner_deletion) == ("ReplicaSet", rs.metadata.uid, True)
                assert pod.spec.node_name == "node-1"
            await eventually(
                lambda: conditions_of(cluster),
                {"Available": ("True", "MinimumReplicasAvailable"), "Progressing": ("True", "NewReplicaSetAvailable")},
            )
            assert revision(await cluster.client.get(DEPLOYMENT, "web", "default")) == "1"

            async def messages():
                events = await cluster.items(EVENT)
                return {e.message for e in events if e.involved_object.kind == "Deployment"}

            await eventually(messages, {f"Scaled up replica set web-{digest} from 0 to 2"})

    asyncio.run(scenario())


def test_a_new_template_rolls_out_and_back(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment(replicas=3))
            await eventually(lambda: settled(cluster, 3))
            fewest = []
            cluster.informers.informer(POD).subscribe(
                lambda change: fewest.append(
                    sum(
                        p.ready and p.metadata.deletion_timestamp is None
                        for p in cluster.informers.informer(POD).objects.values()
                    )
                )
            )
            fewest.clear()
            template = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"template": template}})
            await eventually(lambda: images_of(cluster), ["web:2"] * 3)
            await eventually(lambda: settled(cluster, 3))
            assert min(fewest) >= 2
            sets = {rs.spec.template.spec.containers[0].image: rs for rs in await cluster.items(REPLICA_SET)}
            assert (sets["web:1"].spec.replicas, sets["web:2"].spec.replicas) == (0, 3)
            assert (revision(sets["web:1"]), revision(sets["web:2"])) == ("1", "2")

            template["spec"]["containers"][0] = {
                "name": "web",
                "image": "web:1",
                "ports": [{"containerPort": 80}],
            }
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"template": template}})
            await eventually(lambda: images_of(cluster), ["web:1"] * 3)
            await eventually(lambda: settled(cluster, 3))
            back = await cluster.client.get(REPLICA_SET, sets["web:1"].name, "default")
            assert revision(back) == "3"
            assert back.metadata.annotations["deployment.kubernetes.io/revision-history"] == "1"
            assert len(await cluster.items(REPLICA_SET)) == 2

    asyncio.run(scenario())


def test_recreate_waits_for_the_old_pods_to_be_gone(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment(strategy={"type": "Recreate"}))
            await eventually(lambda: settled(cluster, 2))
            cluster.kubelet.hold_deletion = True
            template = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"template": template}})

            async def leaving():
                return [p.metadata.deletion_timestamp is not None for p in await cluster.items(POD)]

            await eventually(leaving, [True, True])
            assert await images_of(cluster) == ["web:1", "web:1"]
            cluster.kubelet.hold_deletion = False
            cluster.kubelet.look_again()
            await eventually(lambda: images_of(cluster), ["web:2", "web:2"])

    asyncio.run(scenario())


def test_a_deployment_is_scaled_paused_and_resumed(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment())
            await eventually(lambda: settled(cluster, 2))
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"replicas": 5}})
            await eventually(lambda: settled(cluster, 5))
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"replicas": 1, "paused": True}})
            await eventually(lambda: settled(cluster, 1))
            assert (await conditions_of(cluster))["Progressing"] == ("Unknown", "DeploymentPaused")
            template = {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}
            changed = await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"template": template}})

            async def observed():
                found = await cluster.client.get(DEPLOYMENT, "web", "default")
                return found.status.observed_generation == changed.metadata.generation

            await eventually(observed)
            assert await images_of(cluster) == ["web:1"]
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"paused": False}})
            await eventually(lambda: images_of(cluster), ["web:2"])

    asyncio.run(scenario())


def test_a_rollout_that_does_not_move_is_told_after_its_deadline(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            cluster.kubelet.hold_ready = True
            await cluster.create(a_deployment(progressDeadlineSeconds=1))

            async def progressing():
                return (await conditions_of(cluster)).get("Progressing")

            await eventually(progressing, ("False", "ProgressDeadlineExceeded"))
            cluster.kubelet.hold_ready = False
            cluster.kubelet.look_again()
            await eventually(progressing, ("True", "NewReplicaSetAvailable"))

    asyncio.run(scenario())


def test_old_revisions_beyond_the_limit_go(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment(replicas=1, revisionHistoryLimit=1))
            for version in range(2, 5):
                await eventually(lambda: settled(cluster, 1))
                template = {"spec": {"containers": [{"name": "web", "image": f"web:{version}"}]}}
                await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"template": template}})
                image = f"web:{version}"
                await eventually(lambda image=image: images_of(cluster), [image])

            async def revisions():
                return sorted(revision(rs) for rs in await cluster.items(REPLICA_SET))

            await eventually(revisions, ["3", "4"])

    asyncio.run(scenario())


def test_deleting_a_deployment_takes_its_pods_along(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment())
            await eventually(lambda: settled(cluster, 2))
            await cluster.client.delete(DEPLOYMENT, "web", "default")

            async def left():
                return [*await cluster.items(REPLICA_SET), *await cluster.items(POD)]

            await eventually(left, [])

    asyncio.run(scenario())


def test_a_name_that_another_replica_set_has_is_passed_over(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            created = await cluster.create(a_deployment(replicas=1, paused=True))
            name = f"web-{template_hash(created.spec.template, None)}"
            other = {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "other"}},
                "template": {
                    "metadata": {"labels": {"app": "other"}},
                    "spec": {"containers": [{"name": "c", "image": "x"}]},
                },
            }
            document = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": other}
            await cluster.create(document)
            await cluster.client.patch(DEPLOYMENT, "web", "default", {"spec": {"paused": False}})
            await eventually(lambda: settled(cluster, 1))
            found = await cluster.client.get(DEPLOYMENT, "web", "default")
            assert found.status.collision_count == 1
            assert (await cluster.client.get(REPLICA_SET, name, "default")).spec.replicas == 0

    asyncio.run(scenario())
