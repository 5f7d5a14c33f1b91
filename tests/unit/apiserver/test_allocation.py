from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import msgspec
import pytest

from pilotfish.api.errors import Invalid
from pilotfish.api.kinds import CONFIG_MAP, SCHEME, SERVICE
from pilotfish.api.meta import Document
from pilotfish.apiserver.allocation import NODE_PORTS, service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.patch import merge_patch
from pilotfish.apiserver.resources import Resources
from pilotfish.store.memory import MemoryStore
from pilotfish.store.store import Stored


class Services:
    """Services of one server, by their specs."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    async def create(self, name: str, **spec: Any) -> Document:
        document = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}
        return spec_of((await self.resources.create(SERVICE, "default", document)).body)

    async def patch(self, name: str, **spec: Any) -> Document:
        written = await self.resources.update(SERVICE, "default", name, lambda old: merge_patch(old, {"spec": spec}))
        return spec_of(written.body)

    async def delete(self, name: str) -> None:
        await self.resources.delete(SERVICE, "default", name)


def spec_of(body: bytes) -> Document:
    spec: Document = msgspec.json.decode(body)["spec"]
    return spec


def with_services(test: Any, cidr: str = "10.96.0.0/16", store: MemoryStore | None = None) -> None:
    store = store or MemoryStore()

    async def body() -> None:
        resources = Resources(store, SCHEME, [service_allocation(cidr, store)])
        await ensure_default_objects(resources)
        await test(Services(resources))

    asyncio.run(body())


def test_a_service_gets_an_address_at_once() -> None:
    async def test(services: Services) -> None:
        spec = await services.create("a")
        assert ipaddress.ip_address(spec["clusterIP"]) in ipaddress.ip_network("10.96.0.0/16")
        assert spec["clusterIPs"] == [spec["clusterIP"]]
        assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
        assert "nodePort" not in spec["ports"][0]

    with_services(test)


def test_concurrent_services_get_different_addresses() -> None:
    async def test(services: Services) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(services.create(f"s{n}", type="NodePort")) for n in range(12)]
        specs = [task.result() for task in tasks]
        assert len({spec["clusterIP"] for spec in specs}) == 12
        assert len({spec["ports"][0]["nodePort"] for spec in specs}) == 12

    with_services(test, "10.96.0.0/28")


def test_explicit_values_are_checked() -> None:
    async def test(services: Services) -> None:
        await services.create("a", clusterIP="10.96.0.10", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
        with pytest.raises(Invalid, match="provided IP is already allocated"):
            await services.create("b", clusterIP="10.96.0.10")
        with pytest.raises(Invalid, match="is not in the valid range"):
            await services.create("b", clusterIP="192.168.0.1")
        with pytest.raises(Invalid, match="must be a valid IP address"):
            await services.create("b", clusterIP="ten")
        with pytest.raises(Invalid, match=r"spec\.ports\[0\]\.nodePort.*provided port is already allocated"):
            await services.create("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
        with pytest.raises(Invalid, match="The range of valid ports is 30000-32767"):
            await services.create("b", type="NodePort", ports=[{"port": 80, "nodePort": 80}])
        await services.delete("a")
        await services.create("b", clusterIP="10.96.0.10", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])

    with_services(test)


def test_what_was_refused_is_free_again() -> None:
    async def test(services: Services) -> None:
        with pytest.raises(Invalid, match="Unsupported value"):
            await services.create("a", clusterIP="10.96.0.20", sessionAffinity="Sticky")
        assert (await services.create("b", clusterIP="10.96.0.20"))["clusterIP"] == "10.96.0.20"

    with_services(test)


class CountsListings(MemoryStore):
    """A store that counts how often its Services are listed."""

    listed = 0

    def list(self, resource: str, namespace: str | None = None) -> list[Stored]:
        if resource == SERVICE.resource:
            self.listed += 1
        return super().list(resource, namespace)


def test_a_write_looks_at_what_has_changed_alone() -> None:
    store = CountsListings()

    async def test(services: Services) -> None:
        for number in range(20):
            await services.create(f"s{number}", clusterIP=f"10.96.0.{number + 1}")
        await services.delete("s3")
        await services.create("again", clusterIP="10.96.0.4")
        with pytest.raises(Invalid, match="provided IP is already allocated"):
            await services.create("taken", clusterIP="10.96.0.5")
        assert store.listed == 1

    with_services(test, store=store)


def test_what_is_in_use_is_known_after_the_history_is_gone() -> None:
    store = CountsListings(history=4)

    async def test(services: Services) -> None:
        await services.create("a", clusterIP="10.96.0.1")
        await services.create("b", clusterIP="10.96.0.2")
        for number in range(6):
            metadata = {"metadata": {"name": f"map-{number}"}}
            await services.resources.create(CONFIG_MAP, "default", metadata)
        await services.delete("a")
        with pytest.raises(Invalid, match="provided IP is already allocated"):
            await services.create("c", clusterIP="10.96.0.2")
        await services.create("c", clusterIP="10.96.0.1")
        assert store.listed == 2

    with_services(test, store=store)


def test_headless_services_have_no_address() -> None:
    async def test(services: Services) -> None:
        assert (await services.create("a", clusterIP="None"))["clusterIPs"] == ["None"]
        assert (await services.create("b", clusterIP="None"))["clusterIPs"] == ["None"]

    with_services(test)


def test_updates_keep_what_was_allocated() -> None:
    async def test(services: Services) -> None:
        before = await services.create("a", type="NodePort")
        replaced = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "name": "http"}]}}
        written = await services.resources.update(SERVICE, "default", "a", lambda _: replaced)
        after = spec_of(written.body)
        assert after["clusterIP"] == before["clusterIP"]
        assert after["ports"][0]["nodePort"] == before["ports"][0]["nodePort"]
        with pytest.raises(Invalid, match="may not change once set"):
            await services.patch("a", clusterIP="10.96.0.99", clusterIPs=["10.96.0.99"])

    with_services(test)


def test_type_changes_allocate_and_release() -> None:
    async def test(services: Services) -> None:
        address = (await services.create("a"))["clusterIP"]
        as_node_port = await services.patch("a", type="NodePort")
        assert as_node_port["clusterIP"] == address
        assert as_node_port["ports"][0]["nodePort"] in NODE_PORTS
        back = await services.patch("a", type="ClusterIP")
        assert "nodePort" not in back["ports"][0]
        assert "externalTrafficPolicy" not in back
        external = await services.patch("a", type="ExternalName", externalName="example.com")
        assert "clusterIP" not in external
        await services.create("b", clusterIP=address)
        assert (await services.patch("a", type="ClusterIP", externalName=None))["clusterIP"] not in ("", address)

    with_services(test)


def test_ports_of_two_protocols_share_a_node_port() -> None:
    async def test(services: Services) -> None:
        ports = [{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "protocol": "TCP"}]
        spec = await services.create("dns", type="NodePort", ports=ports)
        assert len({port["nodePort"] for port in spec["ports"]}) == 1

    with_services(test)


def test_a_load_balancer_with_local_traffic_has_a_health_check_port() -> None:
    async def test(services: Services) -> None:
        spec = await services.create("a", type="LoadBalancer", externalTrafficPolicy="Local")
        assert spec["healthCheckNodePort"] in NODE_PORTS
        assert spec["healthCheckNodePort"] != spec["ports"][0]["nodePort"]
        without = await services.create("b", type="LoadBalancer", allocateLoadBalancerNodePorts=False)
        assert "nodePort" not in without["ports"][0]

    with_services(test)
