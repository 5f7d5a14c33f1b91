import asyncio
import ipaddress

import pytest

from pilotfish.api.core import Service, ServiceSpec
from pilotfish.api.kinds import POD, SERVICE
from pilotfish.api.service_network import cluster_addresses, load_balancer_addresses
from pilotfish.controllers.loadbalancer import Unavailable, choose

NETWORK = ipaddress.ip_network("10.96.0.0/24")


def a_service(name="edge", type="LoadBalancer", app="edge", **spec):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": type, "selector": {"app": app}, "ports": [{"port": 80}], **spec},
    }


def a_pod(name="edge-1", app="edge", template="gateway"):
    about = {"name": name, "labels": {"app": app}, "annotations": {"inject.istio.io/templates": template}}
    containers = [{"name": "istio-proxy", "image": "istio/proxyv2:1"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": containers}}


def test_the_two_parts_of_the_network_do_not_meet():
    for prefix in (16, 20, 24, 28):
        network = ipaddress.ip_network(f"10.96.0.0/{prefix}")
        clusters, balancers = cluster_addresses(network), load_balancer_addresses(network)
        assert clusters.stop == balancers.start
        assert clusters and balancers
        assert network[balancers[-1]] != network.broadcast_address


def test_an_address_is_the_one_asked_for_or_the_next_free_one():
    assert choose(Service(), NETWORK, ()) == "10.96.0.239"
    assert choose(Service(), NETWORK, {"10.96.0.239"}) == "10.96.0.240"
    asking = Service(spec=ServiceSpec(load_balancer_ip="10.96.0.250"))
    assert choose(asking, NETWORK, ()) == "10.96.0.250"
    for taken, address in (({"10.96.0.250"}, "10.96.0.250"), ((), "10.96.0.9"), ((), "fd00::1"), ((), "no")):
        with pytest.raises(Unavailable):
            choose(Service(spec=ServiceSpec(load_balancer_ip=address)), NETWORK, taken)
    with pytest.raises(Unavailable):
        choose(Service(), NETWORK, {str(NETWORK[n]) for n in load_balancer_addresses(NETWORK)})


def test_the_services_of_gateways_have_an_address_and_keep_it(cluster_of, eventually):
    async def scenario():
        async with cluster_of(service_network=NETWORK) as cluster:
            await cluster.create(a_service())
            await cluster.create(a_service("web", app="web"))
            await cluster.create(a_pod("web-1", "web", template="sidecar"))
            await cluster.create(a_pod())

            async def address(name="edge"):
                ingress = (await cluster.client.get(SERVICE, name, "default")).status.load_balancer.ingress
                return ingress[0].ip if ingress else ""

            await eventually(address, "10.96.0.239")
            await cluster.create(a_service("second"))
            await eventually(lambda: address("second"), "10.96.0.240")
            assert await address("web") == "", "an application's Service has no load balancer"
            await cluster.client.delete(POD, "edge-1", "default", grace_period_seconds=0)
            await cluster.client.patch(SERVICE, "second", "default", {"spec": {"type": "ClusterIP"}})
            await eventually(lambda: address("second"), "")
            assert await address() == "10.96.0.239"

    asyncio.run(scenario())
