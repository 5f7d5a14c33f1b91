"""Whether objects are in force, as the control plane's page tells it and `x wait` reads it."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from pilotfish.api.decode import decode
from pilotfish.api.kinds import NAMESPACE, SCHEME, VIRTUAL_SERVICE
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informers import Informers
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import ObjectKey
from pilotfish.store.memory import MemoryStore
from pilotfish.xds.distribution import distribution
from pilotfish.xds.feed import Feed, Known
from pilotfish.xds.generator import Generator
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.status import Progress

NODE = ProxyNode("sidecar~10.0.0.1~web-1.shop~x", "sidecar", "10.0.0.1", "web-1", "shop")
BORN = dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC)


def shown(known: Known, refusals: dict[str, str] | None = None) -> dict[str, Any]:
    named = (VIRTUAL_SERVICE, "shop", "web")

    def of(key: ObjectKey) -> dict[str, str]:
        assert key == ObjectKey("VirtualService", "shop", "web")
        return refusals or {}

    return distribution([(named, known)], [Progress(NODE, BORN, 7, 6)], of)


def test_versions_and_how_far_proxies_have_come() -> None:
    web = decode(VIRTUAL_SERVICE, {"metadata": {"name": "web", "resourceVersion": "12", "generation": 3}})
    page = shown(Known(web, settled=True))
    assert page["resources"] == [
        {"kind": "VirtualService", "namespace": "shop", "name": "web", "resourceVersion": "12", "generation": 3}
    ]
    proxy = {"proxy": "web-1.shop", "since": "2026-01-02T03:04:05.000006Z", "told": 7, "answered": 6}
    assert page["proxies"] == [proxy]
    assert shown(Known(web, settled=False))["resources"][0]["pending"] is True
    assert "resourceVersion" not in shown(Known(None, settled=True))["resources"][0]
    assert shown(Known(web, settled=True), {NODE.id: "no"})["proxies"] == [{**proxy, "refused": "no"}]
    assert shown(Known(web, settled=True), {"another": "no"})["proxies"] == [proxy]


def test_an_object_waits_until_the_generator_has_it() -> None:
    async def scenario() -> None:
        client = LocalClient(Resources(MemoryStore(), SCHEME))
        await client.create(NAMESPACE, {"metadata": {"name": "default"}})
        spec = {"hosts": ["web.test"], "http": [{"directResponse": {"status": 200}}]}
        informers = Informers(client)
        feed = Feed(informers, Generator(Model()))
        running = asyncio.gather(informers.run())
        try:
            await feed.synced()
            assert feed.known(VIRTUAL_SERVICE, "default", "web") == (None, True)
            made = await client.create(VIRTUAL_SERVICE, {"metadata": {"name": "web"}, "spec": spec}, "default")
            while (known := feed.known(VIRTUAL_SERVICE, "default", "web")).object is None:
                await asyncio.sleep(0.002)
            assert not known.settled, "nobody has handed it on yet"
            assert feed.known(VIRTUAL_SERVICE, "default", "other").settled
            await feed.synced()
            assert feed.known(VIRTUAL_SERVICE, "default", "web") == (made, True)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 10))
