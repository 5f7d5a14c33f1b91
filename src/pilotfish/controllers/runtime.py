"""All controllers together: one set of informers, one task group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Never, Protocol

from pilotfish.api.service_network import Network
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informers import Informers
from pilotfish.controllers.addresses import AddressAllocator
from pilotfish.controllers.deployment import DeploymentController
from pilotfish.controllers.expiry import EventExpiry
from pilotfish.controllers.garbage import GarbageCollector
from pilotfish.controllers.loadbalancer import LoadBalancers
from pilotfish.controllers.namespace import NamespaceDefaults, NamespaceLifecycle
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.replicaset import ReplicaSetController
from pilotfish.controllers.scheduler import Scheduler
from pilotfish.controllers.service import ServiceController


class Controller(Protocol):
    """Puts keys into its queue when something changes, and brings the world to what is wanted of a key."""

    @property
    def queue(self) -> WorkQueue[Any]: ...

    async def reconcile(self, key: Any) -> float | None:
        """Returns after how many seconds to look again, or None. ApiErrors are logged and tried again."""
        ...


SINGLE = (AddressAllocator, LoadBalancers, Scheduler)
"""Controllers whose decisions depend on the ones before."""
WORKERS = 4


async def run(
    client: Client,
    *,
    root_certificate: str = "",
    service_network: Network | None = None,
    informers: Informers | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> Never:
    """Run all controllers until cancelled.

    `root_certificate` (PEM) goes into every namespace's ConfigMaps kube-root-ca.crt and istio-ca-root-cert. Gateways'
    load balancers get their addresses from the `service_network`; without one there are no load balancers. `informers`
    that are given are run by whoever gave them. `on_ready` is called once everything was looked at and work begins.
    """
    shared = informers if informers is not None else Informers(client)
    async with asyncio.TaskGroup() as group:
        controllers = _controllers(client, shared, group, _config_maps(root_certificate), service_network)
        if informers is None:
            group.create_task(shared.run())
        # Who allocates or creates must have seen all that there is.
        await shared.synced()
        for controller in controllers:
            workers = 1 if isinstance(controller, SINGLE) else WORKERS
            group.create_task(controller.queue.run(controller.reconcile, workers))
        on_ready()
    raise AssertionError("controllers run until they are cancelled")


def _controllers(
    client: Client,
    informers: Informers,
    group: asyncio.TaskGroup,
    config_maps: Mapping[str, Mapping[str, str]],
    service_network: Network | None,
) -> tuple[Controller, ...]:
    def recorder(component: str) -> EventRecorder:
        made = EventRecorder(client, component)
        group.create_task(made.run())
        return made

    load_balancers: tuple[Controller, ...] = ()
    if service_network is not None:
        load_balancers = (LoadBalancers(client, informers, recorder("service-controller"), service_network),)
    return (
        *load_balancers,
        AddressAllocator(client, informers, recorder("address-allocator")),
        ServiceController(client, informers),
        DeploymentController(client, informers, recorder("deployment-controller")),
        ReplicaSetController(client, informers, recorder("replicaset-controller")),
        Scheduler(client, informers, recorder("default-scheduler")),
        NamespaceDefaults(client, informers, config_maps),
        NamespaceLifecycle(client, informers),
        GarbageCollector(client, informers),
        EventExpiry(client, informers),
    )


def _config_maps(root_certificate: str) -> dict[str, dict[str, str]]:
    if not root_certificate:
        return {}
    return {
        "kube-root-ca.crt": {"ca.crt": root_certificate},
        "istio-ca-root-cert": {"root-cert.pem": root_certificate},
    }
