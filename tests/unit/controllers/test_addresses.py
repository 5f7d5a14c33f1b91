import asyncio
import ipaddress

import pytest

from pilotfish.api.decode import decode
from pilotfish.api.kinds import EVENT, SERVICE_ENTRY
from pilotfish.api.networking import ServiceEntryAddress
from pilotfish.controllers.addresses import (
    IPV4_RANGE,
    IPV6_RANGE,
    AddressBook,
    Exhausted,
    allocatable_hosts,
    allocate,
    wants_addresses,
)
from pilotfish.store.memory import MemoryStore


def document(name="meshb", hosts=("AppMeshClient.mesh",), labels=None, **spec):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "hosts": list(hosts),
            "ports": [{"name": "grpc", "number": 50000, "protocol": "GRPC"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "10.1.0.1"}],
            **spec,
        },
    }


def an_entry(created="2024-01-01T00:00:00Z", status=(), **about):
    made = document(**about)
    made["metadata"] |= {"namespace": "default", "uid": made["metadata"]["name"], "creationTimestamp": created}
    made["status"] = {"addresses": [{"value": v, "host": h} for v, h in status]}
    return decode(SERVICE_ENTRY, made)


def nobody(address):
    return False


def test_each_host_gets_an_address_of_each_family():
    first = allocate(an_entry(hosts=("a.mesh", "b.mesh", "*.c.mesh", "a.mesh")), nobody)
    assert [a.host for a in first] == ["a.mesh", "a.mesh", "b.mesh", "b.mesh"]
    four, six = (ipaddress.ip_address(a.value) for a in first[:2])
    assert four in IPV4_RANGE
    assert six in IPV6_RANGE
    assert len({a.value for a in first}) == 4
    assert allocate(an_entry(hosts=("b.mesh", "a.mesh")), nobody)[:2] == first[2:]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, True),
        ({"resolution": "NONE", "endpoints": []}, False),
        ({"addresses": ["10.0.0.1"]}, False),
        ({"labels": {"networking.istio.io/enable-autoallocate-ip": "False"}}, False),
        ({"labels": {"networking.istio.io/enable-autoallocate-ip": "true"}}, True),
    ],
)
def test_who_gets_addresses(about, expected):
    assert wants_addresses(an_entry(**about)) is expected
    assert bool(allocate(an_entry(**about), nobody)) is expected


def test_wildcards_get_addresses_only_where_names_are_found_on_demand():
    assert allocatable_hosts(an_entry(hosts=("*.a.com", "a.com"))) == ["a.com"]
    assert allocatable_hosts(an_entry(hosts=("*.a.com",), resolution="DYNAMIC_DNS", endpoints=[])) == ["*.a.com"]


def test_what_is_held_stays_whatever_else_changes():
    held = (("240.240.0.63", "a.mesh"), ("2001:2::3f", "a.mesh"))
    kept = allocate(an_entry(hosts=("b.mesh", "a.mesh"), status=held), nobody)
    assert kept[2:] == tuple(ServiceEntryAddress(value=v, host=h) for v, h in held)
    without = allocate(an_entry(hosts=("b.mesh",), status=held), nobody)
    assert [a.host for a in without] == ["b.mesh", "b.mesh"]


def test_a_taken_address_is_passed_over():
    free = allocate(an_entry(), nobody)
    taken = {free[0].value}
    moved = allocate(an_entry(), taken.__contains__)
    assert moved[0].value == str(ipaddress.ip_address(free[0].value) + 1)
    assert moved[1] == free[1]
    with pytest.raises(Exhausted):
        allocate(an_entry(), lambda address: True)


def test_of_two_holders_the_older_has_the_right_and_hand_written_goes_before_both():
    book = AddressBook()
    old = an_entry(name="z-old", status=(("240.240.0.1", "a.mesh"),), hosts=("a.mesh",))
    new = an_entry("2024-02-01T00:00:00Z", name="a-new", status=(("240.240.0.1", "b.mesh"),), hosts=("b.mesh",))
    assert book.put(new) == frozenset()
    assert book.put(old) == {new.key}
    assert book.taken_from(new.key)("240.240.0.1")
    assert not book.taken_from(old.key)("240.240.0.1")
    by_hand = an_entry("2024-03-01T00:00:00Z", name="hand", addresses=["240.240.0.1"])
    assert book.put(by_hand) == {old.key, new.key}
    assert book.taken_from(old.key)("240.240.0.1")
    assert book.remove(by_hand.key) == {old.key, new.key}
    assert book.remove(old.key) == {new.key}
    assert not book.taken_from(new.key)("240.240.0.1")


async def addresses_of(cluster, name="meshb"):
    entry = await cluster.client.get(SERVICE_ENTRY, name, "default")
    return tuple(a.value for a in entry.status.addresses)


def test_addresses_outlive_a_restart_and_others_coming_and_going(cluster_of, eventually):
    async def scenario():
        store = MemoryStore()

        async def allocated():
            return len(await addresses_of(cluster))

        async with cluster_of(store) as cluster:
            await cluster.create(document())
            await eventually(allocated, 2)
            before = await addresses_of(cluster)
        async with cluster_of(store) as cluster:
            for number in range(20):
                await cluster.create(document(f"other-{number}", [f"host-{number}.mesh"]))
            patch = {"spec": {"hosts": ["new.mesh", "AppMeshClient.mesh"], "ports": document()["spec"]["ports"]}}
            await cluster.client.patch(SERVICE_ENTRY, "meshb", "default", patch)
            await eventually(allocated, 4)
            assert (await addresses_of(cluster))[2:] == before
            listed = [a.value for e in await cluster.items(SERVICE_ENTRY) for a in e.status.addresses]
            assert len(set(listed)) == len(listed)
            await cluster.client.patch(SERVICE_ENTRY, "meshb", "default", {"spec": {"addresses": ["10.9.9.9"]}})
            await eventually(allocated, 0)

    asyncio.run(scenario())


def test_entries_restored_with_one_address_are_told_apart(cluster_of, eventually):
    async def scenario():
        store = MemoryStore()
        async with cluster_of(store) as cluster:
            await cluster.create(document("old", ["old.mesh"]))

            async def old():
                return len(await addresses_of(cluster, "old"))

            await eventually(old, 2)
            held = await addresses_of(cluster, "old")
            await cluster.create(document("restored", ["restored.mesh"]))
            status = {"addresses": [{"value": value, "host": "restored.mesh"} for value in held]}
            await cluster.client.patch(SERVICE_ENTRY, "restored", "default", {"status": status}, subresource="status")

            # Both may have been made in one second: then the older is the one whose uid comes first.
            async def resolved():
                mine, others = await addresses_of(cluster, "old"), await addresses_of(cluster, "restored")
                return len(mine) == len(others) == 2 and set(mine).isdisjoint(others)

            await eventually(resolved)

            async def told():
                return {e.reason for e in await cluster.items(EVENT)} >= {"AddressConflict"}

            await eventually(told)

    asyncio.run(scenario())
