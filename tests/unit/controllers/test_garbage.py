import asyncio

from pilotfish.api.errors import NotFound
from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET, SECRET
from pilotfish.apiserver.deletion import DeleteOptions


def a_map(name, *owners, block=False):
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner.name,
            "uid": owner.metadata.uid,
            "blockOwnerDeletion": block,
        }
        for owner in owners
    ]
    metadata = {"name": name, "ownerReferences": references}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def delete(cluster, kind, name, policy):
    # The client's interface has no propagation policy: the API server's own operation does.
    await cluster.client._resources.delete(kind, "default", name, DeleteOptions(propagation_policy=policy))


async def maps(cluster):
    return {m.name for m in await cluster.items(CONFIG_MAP)} - {"kube-root-ca.crt", "istio-ca-root-cert"}


def test_a_dependent_goes_with_the_last_of_its_owners(cluster_of, eventually):
    async def scenario():
        async with cluster_of() as cluster:
            one, two = await cluster.create(a_map("one")), await cluster.create(a_map("two"))
            await cluster.create(a_map("both", one, two))
            await cluster.create(a_map("only", one))
            await cluster.client.delete(CONFIG_MAP, "one", "default")
            await eventually(lambda: maps(cluster), {"two", "both"})

            async def owners():
                both = await cluster.client.get(CONFIG_MAP, "both", "default")
                return [r.name for r in both.metadata.owner_references]

            await eventually(owners, ["two"])
            await cluster.client.delete(CONFIG_MAP, "two", "default")
            await eventually(lambda: maps(cluster), set())

    asyncio.run(scenario())


def test_what_names_an_owner_that_never_was_goes_too(cluster_of, eventually):
    async def scenario():
        async with cluster_of() as cluster:
            one = await cluster.create(a_map("one"))
            await cluster.client.delete(CONFIG_MAP, "one", "default")
            await cluster.create(a_map("one"))
            await cluster.create(a_map("late", one))
            await eventually(lambda: maps(cluster), {"one"})

    asyncio.run(scenario())


def test_a_deletion_in_the_foreground_waits_for_all_below(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment())

            async def running():
                return [p.ready for p in await cluster.items(POD)]

            await eventually(running, [True, True])
            cluster.kubelet.hold_deletion = True
            await delete(cluster, DEPLOYMENT, "web", "Foreground")

            async def leaving():
                return [p.metadata.deletion_timestamp is not None for p in await cluster.items(POD)]

            await eventually(leaving, [True, True])
            assert len(await cluster.items(REPLICA_SET)) == 1
            assert len(await cluster.items(DEPLOYMENT)) == 1
            cluster.kubelet.hold_deletion = False
            cluster.kubelet.look_again()

            async def left():
                return [*await cluster.items(DEPLOYMENT), *await cluster.items(REPLICA_SET), *await cluster.items(POD)]

            await eventually(left, [])

    asyncio.run(scenario())


def test_orphans_stay_and_are_adopted_again(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_deployment())

            async def pods():
                return sorted((p.name, p.ready) for p in await cluster.items(POD))

            async def ready():
                return [word for _, word in await pods()]

            await eventually(ready, [True, True])
            before = await pods()
            await delete(cluster, DEPLOYMENT, "web", "Orphan")

            async def is_gone():
                try:
                    await cluster.client.get(DEPLOYMENT, "web", "default")
                except NotFound:
                    return True
                return False

            await eventually(is_gone)
            (rs,) = await cluster.items(REPLICA_SET)
            assert rs.metadata.owner_references == ()
            again = await cluster.create(a_deployment())

            async def owner():
                (rs,) = await cluster.items(REPLICA_SET)
                return rs.metadata.controller and rs.metadata.controller.uid

            await eventually(owner, again.metadata.uid)
            assert await pods() == before
            assert not await cluster.items(SECRET)

    asyncio.run(scenario())
