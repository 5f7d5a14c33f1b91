import asyncio

from pilotfish.api.kinds import CONFIG_MAP, NAMESPACE, POD, SERVICE_ACCOUNT


def a_namespace(name="shop"):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def test_a_namespace_begins_with_an_account_and_the_root_certificates(cluster_of, eventually):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_namespace())

            async def content():
                accounts = [a.name for a in await cluster.items(SERVICE_ACCOUNT, "shop")]
                return accounts, {m.name: m.data for m in await cluster.items(CONFIG_MAP, "shop")}

            expected = {"istio-ca-root-cert": {"root-cert.pem": "PEM"}, "kube-root-ca.crt": {"ca.crt": "PEM"}}
            await eventually(content, (["default"], expected))
            await cluster.client.delete(SERVICE_ACCOUNT, "default", "shop")
            await cluster.client.patch(CONFIG_MAP, "kube-root-ca.crt", "shop", {"data": {"ca.crt": "other", "x": "y"}})
            await eventually(content, (["default"], expected))

    asyncio.run(scenario())


def test_a_deleted_namespace_is_emptied_first(cluster_of, eventually, a_deployment):
    async def scenario():
        async with cluster_of() as cluster:
            await cluster.create(a_namespace())
            await cluster.create(a_deployment(), "shop")

            async def pods():
                return [p.ready for p in await cluster.items(POD, "shop")]

            await eventually(pods, [True, True])
            cluster.kubelet.hold_deletion = True
            await cluster.client.delete(NAMESPACE, "shop")

            async def state():
                found = await cluster.client.get(NAMESPACE, "shop")
                return found.status.phase, [c.type for c in found.status.conditions]

            await eventually(state, ("Terminating", ["NamespaceContentRemaining"]))
            cluster.kubelet.hold_deletion = False
            cluster.kubelet.look_again()

            async def names():
                return [n.name for n in await cluster.items(NAMESPACE, None)]

            await eventually(names, ["default"])

    asyncio.run(scenario())
