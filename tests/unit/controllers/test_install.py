import asyncio

from pilotfish.api.kinds import CONFIG_MAP, DEPLOYMENT, ISTIO_OPERATOR, SCHEME, SERVICE, SERVICE_ACCOUNT
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.controllers.install import install, uninstall
from pilotfish.mesh.installation import installation
from pilotfish.store.memory import MemoryStore

OWNED = (CONFIG_MAP, SERVICE, DEPLOYMENT, SERVICE_ACCOUNT)


def objects_of(**spec):
    document = {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec}
    return installation(document).objects


def with_client(scenario):
    store = MemoryStore()
    resources = Resources(store, SCHEME, admissions=(service_allocation("10.96.0.0/20", store),))
    asyncio.run(scenario(LocalClient(resources)))


def test_installing_again_writes_only_what_changed():
    async def scenario(client):
        first = await install(client, objects_of(), ["Istiod"])
        assert {str(a) for a in first} == {
            "namespace/istio-system created",
            "configmap/istio created",
            "configmap/istio-sidecar-injector created",
            "service/istiod created",
            "serviceaccount/istio-ingressgateway-service-account created",
            "service/istio-ingressgateway created",
            "deployment.apps/istio-ingressgateway created",
            "istiooperator.install.istio.io/installed-state created",
        }
        again = await install(client, objects_of(), ["Istiod"])
        assert {a.action for a in again} == {"unchanged"}
        changed = await install(client, objects_of(meshConfig={"accessLogFile": "/x"}), ["Istiod"])
        assert {a.name for a in changed if a.action == "configured"} == {"istio", "installed-state"}
        state = await client.get(ISTIO_OPERATOR, "installed-state", "istio-system")
        assert state.status.status == "HEALTHY"
        assert state.spec.mesh_config["accessLogFile"] == "/x"
        await install(client, objects_of(), ["Istiod"])
        state = await client.get(ISTIO_OPERATOR, "installed-state", "istio-system")
        assert "accessLogFile" not in state.spec.mesh_config

    with_client(scenario)


def test_what_others_added_stays_and_what_is_no_longer_asked_for_goes():
    async def scenario(client):
        await install(client, objects_of())
        await client.patch(CONFIG_MAP, "istio", "istio-system", {"data": {"own": "kept"}})
        ports = [{"name": "http2", "port": 80, "targetPort": 8080, "nodePort": 30080}]
        await client.patch(SERVICE, "istio-ingressgateway", "istio-system", {"spec": {"ports": ports}})
        await install(client, objects_of(meshConfig={"accessLogFile": "/x"}))
        assert (await client.get(CONFIG_MAP, "istio", "istio-system")).data["own"] == "kept"
        gateway = await client.get(SERVICE, "istio-ingressgateway", "istio-system")
        assert {p.port for p in gateway.spec.ports} == {15021, 80, 443}
        assert next(p.node_port for p in gateway.spec.ports if p.port == 80) == 30080
        applied = await install(client, objects_of(profile="minimal"))
        assert {str(a) for a in applied if a.action == "deleted"} == {
            "deployment.apps/istio-ingressgateway deleted",
            "service/istio-ingressgateway deleted",
            "serviceaccount/istio-ingressgateway-service-account deleted",
        }

    with_client(scenario)


def test_uninstalling_takes_away_what_was_installed_and_nothing_else():
    async def scenario(client):
        await install(client, objects_of())
        await client.create(CONFIG_MAP, {"metadata": {"name": "mine"}}, "istio-system")
        await uninstall(client)
        left = {obj.name for kind in OWNED for obj in (await client.list(kind, "istio-system")).items}
        assert left == {"mine"}
        assert not (await client.list(ISTIO_OPERATOR, "istio-system")).items
        assert await uninstall(client) == []

    with_client(scenario)
