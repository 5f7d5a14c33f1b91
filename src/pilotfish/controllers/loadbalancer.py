"""Load balancers of gateways: an address of its own for each Service of type LoadBalancer in front of a gateway.

The address is one of the service network, and every node translates it as it does cluster IPs, so that it serves the
whole machine on the Service's own ports. An application's Service of this type stays without, as in a cluster that has
no load balancers, and is reached at its node ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from pilotfish.api.core import Service
from pilotfish.api.gateways import is_gateway
from pilotfish.api.kinds import POD, SERVICE
from pilotfish.api.meta import Document
from pilotfish.api.pods import Pod
from pilotfish.api.selectors import matches_labels
from pilotfish.api.service_network import Network, load_balancer_addresses
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Patch, apply

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unavailable(Exception):
    """The address that is asked for cannot be had, or there is none left; the text says which."""


def choose(service: Service, network: Network, taken: Collection[str]) -> str:
    """The address of a Service that has none: the one that it asks for (`spec.loadBalancerIP`), or the next free one.

    Raises Unavailable.
    """
    if wanted := service.spec.load_balancer_ip:
        return _asked_for(wanted, network, taken)
    free = (str(network[place]) for place in load_balancer_addresses(network))
    found = next((address for address in free if address not in taken), None)
    if found is None:
        raise Unavailable(f"all addresses of load balancers in {network} are taken")
    return found


def _asked_for(wanted: str, network: Network, taken: Collection[str]) -> str:
    places = load_balancer_addresses(network)
    first, last = network[places[0]], network[places[-1]]
    try:
        address: Address | None = ipaddress.ip_address(wanted)
    except ValueError:
        address = None
    if address is None or address.version != network.version or not int(first) <= int(address) <= int(last):
        raise Unavailable(f"spec.loadBalancerIP {wanted} is not one of {first} to {last}")
    if wanted in taken:
        raise Unavailable(f"spec.loadBalancerIP {wanted} is taken")
    return wanted


class LoadBalancers:
    """Writes the addresses into the Services' status. One worker: each choice sees those before it."""

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder, network: Network) -> None:
        self._client = client
        self._recorder = recorder
        self._network = network
        self.queue: WorkQueue[ObjectKey] = WorkQueue("load-balancer")
        services, pods = informers.informer(SERVICE), informers.informer(POD)
        self._services, self._pods = View(services), View(pods)
        services.subscribe(lambda change: self.queue.add(change.key))
        pods.subscribe(self._pod_changed)

    def _pod_changed(self, change: Change[Pod]) -> None:
        """A gateway came: its Services may want an address. They keep it when it goes."""
        if change.new is not None and change.old is None and is_gateway(change.new):
            for service in self._services.group(change.key[0]):
                if matches_labels(service.spec.selector, change.new.metadata.labels):
                    self.queue.add(service.key)

    async def reconcile(self, key: ObjectKey) -> float | None:
        service = self._services.get(key)
        if service is None or service.metadata.deletion_timestamp is not None:
            return None
        held = service.status.load_balancer.ingress
        if service.spec.type != "LoadBalancer" or service.spec.load_balancer_class:
            if held and not service.spec.load_balancer_class:
                await self._write(service, None)
            return None
        if held or not self._serves_gateway(service):
            return None
        try:
            address = choose(service, self._network, self._taken())
        except Unavailable as error:
            self._recorder.event(service, "Warning", "LoadBalancerUnavailable", str(error))
            return None
        await self._write(service, {"ingress": [{"ip": address, "ipMode": "VIP"}]})
        self._recorder.event(service, "Normal", "EnsuredLoadBalancer", f"Ensured load balancer at {address}")
        return None

    def _serves_gateway(self, service: Service) -> bool:
        pods = self._pods.group(service.namespace)
        return any(is_gateway(pod) and matches_labels(service.spec.selector, pod.metadata.labels) for pod in pods)

    def _taken(self) -> set[str]:
        found: set[str] = set()
        for service in self._services:
            found.update((service.spec.cluster_ip, *service.spec.cluster_ips))
            found.update(ingress.ip for ingress in service.status.load_balancer.ingress)
        return found

    async def _write(self, service: Service, load_balancer: Document | None) -> None:
        patch = {"metadata": {"uid": service.metadata.uid}, "status": {"loadBalancer": load_balancer}}
        await apply(self._client, SERVICE, service.namespace, Patch(service, patch, "status"), self._services)
