"""Generated meshes: the same seed, the same objects, and all of them good."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from benchmarks.meshes import SERVICE_NETWORK, Mesh
from benchmarks.plane import send

from pilotfish.api.kinds import ENDPOINT_SLICE, SCHEME, SERVICE, SERVICE_ENTRY
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.store.sqlite import SQLiteStore


def test_a_seed_gives_the_same_mesh() -> None:
    assert list(Mesh(50).objects()) == list(Mesh(50).objects())
    assert list(Mesh(50).rollouts(5)) == list(Mesh(50).rollouts(5))
    assert list(Mesh(50, seed=2).flaps(5)) != list(Mesh(50).flaps(5))


def test_services_have_endpoints_of_their_own() -> None:
    slices = [event.document for event in Mesh(200).objects() if event.kind is ENDPOINT_SLICE]
    addresses = Counter(address for each in slices[1:] for e in each["endpoints"] for address in e["addresses"])
    assert len(addresses) == 200 * 5
    assert set(addresses.values()) == {1}


def test_the_api_server_takes_a_mesh_and_what_happens_in_it(tmp_path: Path) -> None:
    mesh = Mesh(20, namespaces=4)

    async def main() -> tuple[int, int]:
        store = SQLiteStore(tmp_path / "state.db")
        resources = Resources(store, SCHEME, admissions=(service_allocation(str(SERVICE_NETWORK), store),))
        await ensure_default_objects(resources)
        client = LocalClient(resources)
        for events in (
            mesh.objects(),
            mesh.flaps(5),
            mesh.rollouts(3),
            mesh.route_changes(5),
            mesh.arrivals(3),
            mesh.burst(5),
        ):
            for event in events:
                await send(client, event)
        found = await client.list(SERVICE), await client.list(SERVICE_ENTRY)
        await store.close()
        return len(found[0].items), len(found[1].items)

    services, entries = asyncio.run(main())
    assert (services, entries) == (20 + 1, 0)  # and the one that all see
