"""What the control plane puts together: admission that reads the API."""

from __future__ import annotations

import asyncio

from pilotfish.api.kinds import POD, PROXY_CONFIG, SCHEME
from pilotfish.api.meta import Document
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.cli.serve import INJECTED_NAMESPACES, inject_sidecars
from pilotfish.store.memory import MemoryStore


def test_a_pod_is_injected_as_the_proxy_configs_of_its_namespace_say() -> None:
    async def run() -> None:
        resources = Resources(MemoryStore(), SCHEME, admissions=(inject_sidecars,))
        await ensure_default_objects(resources, labels=INJECTED_NAMESPACES)
        client = LocalClient(resources)
        config: Document = {"metadata": {"name": "few"}, "spec": {"concurrency": 7}}
        await client.create(PROXY_CONFIG, config, "default")
        pod: Document = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
        await client.create(POD, pod, "default")
        stored = await client.get(POD, "web", "default")
        [proxy] = [container for container in stored.spec.containers if container.name == "istio-proxy"]
        assert '"concurrency":7' in next(v.value for v in proxy.env if v.name == "PROXY_CONFIG")

    asyncio.run(run())
