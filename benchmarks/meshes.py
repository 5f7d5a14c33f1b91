"""Meshes of any size and what happens in them, made from a seed: the same seed gives the same objects.

Services are Kubernetes Services without a selector whose EndpointSlices are written here, so that no pods are needed.
Seven of ten speak HTTP, two gRPC and one TCP; one of ten has a VirtualService and a DestinationRule with a subset.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pilotfish.api.discovery import SERVICE_NAME_LABEL
from pilotfish.api.kinds import (
    DESTINATION_RULE,
    ENDPOINT_SLICE,
    NAMESPACE,
    SERVICE,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
)
from pilotfish.api.meta import Document
from pilotfish.api.scheme import AnyKind

SERVICE_NETWORK = ipaddress.ip_network("100.64.0.0/12")
"""Where services have their addresses: room for a million."""

EXPORT_TO = "networking.istio.io/exportTo"
SHARED = "everyone"
"""The name and namespace of the one service that all namespaces see, whatever the others export to."""

RULED = 10
"""Every how many-th service has a VirtualService and a DestinationRule."""
PORTS = {"http": 8080, "grpc": 9090, "tcp": 5432}


_RANDOM = {"simple": "RANDOM"}


@dataclass(frozen=True)
class Event:
    """One write to the API."""

    verb: Literal["create", "update", "delete"]
    kind: AnyKind
    document: Document


@dataclass(frozen=True)
class Mesh:
    """`services` of them, spread evenly over `namespaces`, each with `endpoints`; `private` ones are seen in their own
    namespace alone."""

    services: int
    namespaces: int = 10
    endpoints: int = 5
    private: bool = False
    seed: int = 1

    def namespace(self, number: int) -> str:
        return f"team-{number % self.namespaces}"

    def protocol(self, number: int) -> str:
        return random.Random(self.seed << 32 | number).choices(("http", "grpc", "tcp"), (7, 2, 1))[0]

    def hostname(self, number: int) -> str:
        return f"service-{number}.{self.namespace(number)}.svc.cluster.local"

    def objects(self) -> Iterator[Event]:
        """Everything, in an order in which it can be created."""
        yield from (self._namespace(name) for name in (SHARED, *(self.namespace(n) for n in range(self.namespaces))))
        yield from self.shared()
        for number in range(self.services):
            yield from self.service(number)
        for number in range(0, self.services, RULED):
            yield from self.rules(number)

    def shared(self, version: int = 0) -> tuple[Event, Event]:
        """The service that everybody sees, and its endpoints at a version."""
        return (
            Event("create", SERVICE, _service(SHARED, SHARED, "http", "*", 0)),
            Event("create", ENDPOINT_SLICE, _slice(SHARED, SHARED, "http", _addresses(0, version, self.endpoints))),
        )

    def service(self, number: int, version: int = 0) -> tuple[Event, Event]:
        """A Service and its endpoints at a version; another version means other addresses."""
        name, namespace, protocol = f"service-{number}", self.namespace(number), self.protocol(number)
        service = _service(name, namespace, protocol, "." if self.private else "", number + 1)
        slice_ = _slice(name, namespace, protocol, _addresses(number, version, self.endpoints))
        return Event("create", SERVICE, service), Event("create", ENDPOINT_SLICE, slice_)

    def rules(self, number: int, version: int = 0) -> tuple[Event, Event]:
        """A VirtualService and a DestinationRule for a service, at a version: another one has other limits."""
        host, protocol = self.hostname(number), self.protocol(number)
        export = {"exportTo": ["."]} if self.private else {}
        to, subset = {"destination": {"host": host}}, {"destination": {"host": host, "subset": "all"}}
        if protocol == "tcp":
            routes: dict[str, Any] = {"tcp": [{"route": [subset]}]}
        else:
            limits = {"timeout": f"{version % 100 + 1}s", "retries": {"attempts": 2, "perTryTimeout": "1s"}}
            routes = {
                "http": [
                    {"match": [{"uri": {"prefix": "/all"}}], "route": [subset], **limits},
                    {"route": [to | {"weight": 90}, subset | {"weight": 10}], **limits},
                ]
            }
        pool = {"connectionPool": {"tcp": {"maxConnections": version % 100 + 100}}}
        policy = {"trafficPolicy": pool, "subsets": [{"name": "all", "trafficPolicy": {"loadBalancer": _RANDOM}}]}
        return (
            Event(
                "create", VIRTUAL_SERVICE, self._rule("VirtualService", number, {"hosts": [host], **routes, **export})
            ),
            Event(
                "create", DESTINATION_RULE, self._rule("DestinationRule", number, {"host": host, **policy, **export})
            ),
        )

    def _rule(self, kind: str, number: int, spec: Document) -> Document:
        metadata = {"name": f"service-{number}", "namespace": self.namespace(number)}
        return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}

    # Churn

    def flaps(self, count: int) -> Iterator[Event]:
        """Endpoints that lose readiness and get it back, one service after another."""
        chance = random.Random(self.seed)
        for _ in range(count):
            number = chance.randrange(self.services)
            document = self.service(number)[1].document
            away = chance.randrange(self.endpoints)
            for ready in (False, True):
                endpoints = [
                    {**endpoint, "conditions": {"ready": ready or place != away}}
                    for place, endpoint in enumerate(document["endpoints"])
                ]
                yield Event("update", ENDPOINT_SLICE, {**document, "endpoints": endpoints})

    def rollouts(self, count: int) -> Iterator[Event]:
        """Services whose endpoints are replaced one by one, as a Deployment does it."""
        chance = random.Random(self.seed + 1)
        for version in range(1, count + 1):
            number = chance.randrange(self.services)
            before, after = (self.service(number, v)[1].document for v in (0, version))
            for replaced in range(1, self.endpoints + 1):
                endpoints = [*after["endpoints"][:replaced], *before["endpoints"][replaced:]]
                yield Event("update", ENDPOINT_SLICE, {**before, "endpoints": endpoints})

    def route_changes(self, count: int) -> Iterator[Event]:
        """Services that get a second port, and lose it again."""
        chance = random.Random(self.seed + 2)
        for _ in range(count):
            number = chance.randrange(self.services)
            document = self.service(number)[0].document
            ports = [*document["spec"]["ports"], {"name": "http-admin", "port": 8081}]
            yield Event("update", SERVICE, {**document, "spec": {**document["spec"], "ports": ports}})
            yield Event("update", SERVICE, document)

    def rule_changes(self, count: int) -> Iterator[Event]:
        """VirtualServices and DestinationRules that change what they say, and back."""
        chance = random.Random(self.seed + 3)
        for version in range(1, count + 1):
            number = chance.randrange(0, self.services, RULED)
            for event in (*self.rules(number, version), *self.rules(number)):
                yield Event("update", event.kind, event.document)

    def arrivals(self, count: int) -> Iterator[Event]:
        """Services that are new, each with its endpoints, and then go away again."""
        for number in range(self.services, self.services + count):
            yield from self.service(number)
        for number in range(self.services, self.services + count):
            for event in self.service(number):
                yield Event("delete", event.kind, event.document)

    def burst(self, count: int) -> Iterator[Event]:
        """A registry that is connected: many ServiceEntries at once; then it goes away."""
        entries = [service_entry(f"registry-{n}", f"host-{n}.registry.example", n) for n in range(count)]
        for verb in ("create", "delete"):
            yield from (Event(verb, SERVICE_ENTRY, entry) for entry in entries)

    @staticmethod
    def _namespace(name: str) -> Event:
        return Event("create", NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def service_entry(name: str, host: str, number: int = 0, namespace: str = "default") -> Document:
    """A static ServiceEntry with one endpoint that depends on the number."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": [host],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "grpc", "number": 50000, "protocol": "GRPC"}],
            "endpoints": [{"address": _addresses(number, 0, 1)[0]}],
        },
    }


def _addresses(number: int, version: int, count: int) -> list[str]:
    """Addresses below 11.0.0.0/8, which no machine of ours has a route to."""
    first = (number * 64 + version * 7919 * 64) % (2**24 - 64)
    return [f"11.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(first, first + count)]


def _service(name: str, namespace: str, protocol: str, export_to: str, number: int) -> Document:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if export_to:
        metadata["annotations"] = {EXPORT_TO: export_to}
    address = str(SERVICE_NETWORK[256 + number])
    ports = [{"name": protocol, "port": PORTS[protocol]}]
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _slice(name: str, namespace: str, protocol: str, addresses: list[str]) -> Document:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": {SERVICE_NAME_LABEL: name}},
        "addressType": "IPv4",
        "ports": [{"name": protocol, "port": PORTS[protocol], "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }
