"""The feed: from an API server's objects to what the generator serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pilotfish.api.kinds import CONFIG_MAP, GATEWAY, NAMESPACE, POD, SCHEME, SECRET, SERVICE_ENTRY
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informers import Informers
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import SecretKey
from pilotfish.store.memory import MemoryStore
from pilotfish.xds import source
from pilotfish.xds.feed import Feed
from pilotfish.xds.generator import Generator
from pilotfish.xds.source import Changes, ProxyNode

NODE = ProxyNode("n", "sidecar", "10.0.0.1", "p", "default")


def entry(host: str) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {"hosts": [host], "resolution": "STATIC", "ports": ports, "endpoints": [{"address": "10.0.0.2"}]}
    return {"metadata": {"name": host.replace(".", "-")}, "spec": spec}


def with_feed(scenario: Callable[[LocalClient, Generator], Awaitable[None]], *before: str) -> None:
    """Run a scenario on a mesh that had some hosts before the feed began."""

    async def run() -> None:
        client = LocalClient(Resources(MemoryStore(), SCHEME))
        for namespace in ("default", "istio-system"):
            await client.create(NAMESPACE, {"metadata": {"name": namespace}})
        for host in before:
            await client.create(SERVICE_ENTRY, entry(host), "default")
        informers = Informers(client)
        generator = Generator(Model(), audit=True)
        feed = Feed(informers, generator)
        running = asyncio.gather(informers.run(), feed.run())
        try:
            await feed.synced()
            await scenario(client, generator)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        await asyncio.sleep(0.002)


def test_everything_is_known_once_synced() -> None:
    async def scenario(client: LocalClient, generator: Generator) -> None:
        assert set(generator.model.host_names()) == {"a.test", "b.test"}

    with_feed(scenario, "a.test", "b.test")


def test_changes_arrive() -> None:
    async def scenario(client: LocalClient, generator: Generator) -> None:
        heard: list[Changes] = []
        generator.connect(NODE, heard.append)
        await client.create(SERVICE_ENTRY, entry("a.test"), "default")
        await until(lambda: bool(heard))
        assert heard[0][source.CLUSTER] == {"outbound|80||a.test"}
        await client.delete(SERVICE_ENTRY, "a-test", "default")
        await until(lambda: len(heard) > 1)
        assert list(generator.model.hosts()) == []

    with_feed(scenario)


def test_mesh_config_and_one_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(client: LocalClient, generator: Generator) -> None:
        document = {"metadata": {"name": "istio"}, "data": {"mesh": "accessLogFile: /dev/stdout"}}
        await client.create(CONFIG_MAP, document, "istio-system")
        await until(lambda: bool(generator.settings.client.logs))
        await client.patch(CONFIG_MAP, "istio", "istio-system", {"data": {"mesh": "accessLogFile: [no"}})
        await until(lambda: "keeps its last good settings" in caplog.text)
        assert bool(generator.settings.client.logs)
        await client.delete(CONFIG_MAP, "istio", "istio-system")
        await until(lambda: not generator.settings.client.logs)

    with_feed(scenario)


GATEWAY_POD = {
    "metadata": {"name": "edge", "labels": {"istio": "edge"}},
    "spec": {"containers": [{"name": "istio-proxy", "image": "istio/proxyv2:1"}]},
}


def gateway(credential: str) -> dict[str, Any]:
    tls = {"mode": "SIMPLE", "credentialName": credential}
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"], "tls": tls}
    return {"metadata": {"name": "web"}, "spec": {"selector": {"istio": "edge"}, "servers": [server]}}


def secret(name: str, certificate: str = "C") -> dict[str, Any]:
    return {"metadata": {"name": name}, "stringData": {"tls.crt": certificate, "tls.key": "K"}}


def test_secrets_are_followed_that_a_gateway_needs_and_no_others() -> None:
    async def scenario(client: LocalClient, generator: Generator) -> None:
        for name in ("one", "two", "other"):
            await client.create(SECRET, secret(name), "istio-system")
        await client.create(SECRET, secret("one", "another namespace's"), "default")
        await client.create(POD, GATEWAY_POD, "istio-system")
        await client.patch(POD, "edge", "istio-system", {"status": {"podIP": "10.0.0.2"}}, subresource="status")
        await client.create(GATEWAY, gateway("one"), "default")
        node = ProxyNode("g", "router", "10.0.0.2", "edge", "istio-system")
        proxy = generator.connect(node, lambda _: None)

        def held() -> dict[str, bytes]:
            return {name: resource.body for name, resource in proxy.resources(source.SECRET).items()}

        await until(lambda: list(held()) == ["kubernetes://one"])
        before = held()
        await client.patch(SECRET, "one", "istio-system", {"stringData": {"tls.crt": "D"}})
        await until(lambda: held() != before)
        await client.patch(GATEWAY, "web", "default", {"spec": gateway("two")["spec"]})
        await until(lambda: list(held()) == ["kubernetes://two"])
        await until(lambda: generator.model.secret(SecretKey("istio-system", "one")) is None)
        assert generator.model.secret(SecretKey("istio-system", "other")) is None
        await client.delete(SECRET, "two", "istio-system")
        await until(lambda: not held())
        proxy.close()
        assert generator.gateways.secrets == frozenset()

    with_feed(scenario)


@pytest.mark.covers(
    "MeshConfig.discoverySelectors[].matchLabels",
    *(f"MeshConfig.discoverySelectors[].matchExpressions[].{name}" for name in ("key", "operator", "values")),
)
def test_namespaces_that_are_looked_at() -> None:
    selectors = (
        "discoverySelectors:\n"
        "- matchLabels: {mesh: here}\n"
        "- matchExpressions: [{key: team, operator: In, values: [a, b]}]\n"
    )

    async def scenario(client: LocalClient, generator: Generator) -> None:
        for name, labels in (("one", {"mesh": "here"}), ("two", {"team": "b"}), ("three", {"team": "c"})):
            await client.create(NAMESPACE, {"metadata": {"name": name, "labels": labels}})
            await client.create(SERVICE_ENTRY, entry(f"{name}.test"), name)
        proxy = generator.connect(NODE, lambda _: None)

        def seen() -> set[str]:
            hosts = ("default.test", "one.test", "two.test", "three.test", "late.test")
            return {host for host in hosts if f"outbound|80||{host}" in proxy.resources(source.CLUSTER)}

        await until(lambda: seen() == {"default.test", "one.test", "two.test", "three.test"})
        settings = {"metadata": {"name": "istio"}, "data": {"mesh": selectors}}
        await client.create(CONFIG_MAP, settings, "istio-system")
        await until(lambda: seen() == {"one.test", "two.test"})
        await client.patch(NAMESPACE, "three", None, {"metadata": {"labels": {"team": "a"}}})
        await until(lambda: seen() == {"one.test", "two.test", "three.test"})
        await client.create(SERVICE_ENTRY, entry("late.test"), "one")
        await until(lambda: "late.test" in seen())
        await client.patch(NAMESPACE, "one", None, {"metadata": {"labels": {"mesh": None}}})
        await until(lambda: seen() == {"two.test", "three.test"})
        await client.delete(SERVICE_ENTRY, "late-test", "one")
        await client.patch(NAMESPACE, "one", None, {"metadata": {"labels": {"mesh": "here"}}})
        await until(lambda: seen() == {"one.test", "two.test", "three.test"})
        await client.patch(CONFIG_MAP, "istio", "istio-system", {"data": {"mesh": ""}})
        await until(lambda: "default.test" in seen())
        proxy.close()

    with_feed(scenario, "default.test")
