"""Cluster IPs and node ports of Services, given out while a Service is admitted, as in Kubernetes.

What is in use, `pilotfish.apiserver.allocated` knows.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.api import core
from pilotfish.api.errors import ApiError, FieldError, Invalid
from pilotfish.api.faults import invalid
from pilotfish.api.kinds import SERVICE
from pilotfish.api.meta import Document
from pilotfish.api.service_network import Network, cluster_addresses
from pilotfish.apiserver.admission import Admission, AdmissionRequest
from pilotfish.apiserver.allocated import InUse, held_by
from pilotfish.store.store import Store

NODE_PORTS = range(30000, 32768)
_RANDOM_TRIES = 32


def service_allocation(cidr: str, store: Store) -> Admission:
    """An admission that gives Services their cluster IPs, of the network `cidr`, and node ports.

    It refuses, with Invalid, values that are out of range or taken.
    """
    allocator = _Allocator(ipaddress.ip_network(cidr), InUse(store))

    def allocate(request: AdmissionRequest) -> Document:
        return allocator.admit(request) if request.kind is SERVICE else request.document

    return allocate


@dataclass(frozen=True, eq=False)
class _Allocator:
    network: Network
    in_use: InUse

    def admit(self, request: AdmissionRequest) -> Document:
        """The Service with what it needs allocated, and freed of what its type does not have."""
        document: Document = msgspec.json.decode(msgspec.json.encode(request.document))
        spec: dict[str, Any] = document.setdefault("spec", {})
        old: dict[str, Any] = (request.old or {}).get("spec") or {}
        uid = str(document["metadata"].get("uid", ""))
        taken = self.in_use.by_others(uid)
        _carry_over(spec, old)
        errors: list[FieldError] = []
        if spec["type"] == "ExternalName":
            _release_address(spec, old)
        else:
            errors += self._address(spec, taken)
        if _wants_node_ports(spec):
            errors += _allocate_ports(spec, taken)
        else:
            _release_ports(spec, old)
        errors += _health_check_port(spec, old, taken)
        if errors:
            raise Invalid.of(SERVICE.kind, SERVICE.group, request.name, errors)
        typed = msgspec.convert(spec, core.ServiceSpec)
        request.on_settled(self.in_use.reserve(held_by(uid, typed)))
        return document

    def _address(self, spec: dict[str, Any], taken: Container[str]) -> Iterator[FieldError]:
        """Set clusterIP, clusterIPs and the IP family, or say why the address that is asked for cannot be had."""
        listed = spec.get("clusterIPs") or []
        wanted = spec.get("clusterIP") or (listed[0] if listed else "")
        if not wanted:
            wanted = self._free_address(taken)
        elif wanted != "None":
            yield from self._address_errors(str(wanted), taken)
        spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted, *listed[1:]]
        spec.setdefault("ipFamilies", [f"IPv{self.network.version}"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _address_errors(self, wanted: str, taken: Container[str]) -> Iterator[FieldError]:
        path = "spec.clusterIPs"
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            yield invalid(f"{path}[0]", wanted, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            return
        if address not in self.network:
            yield invalid(
                path,
                [wanted],
                f"failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. "
                f"The range of valid IPs is {self.network}",
            )
        elif wanted in taken:
            yield invalid(path, [wanted], f"failed to allocate IP {wanted}: provided IP is already allocated")

    def _free_address(self, taken: Container[str]) -> str:
        """A random free address, so that a new Service seldom gets what a deleted one had a moment ago."""
        places = cluster_addresses(self.network)
        for _ in range(_RANDOM_TRIES):
            address = str(self.network[random.choice(places)])
            if address not in taken:
                return address
        free = (str(self.network[n]) for n in [*places, *range(1, places.start)])
        found = next((address for address in free if address not in taken), None)
        if found is None:
            raise ApiError(f"Internal error occurred: failed to allocate a serviceIP: range is full: {self.network}")
        return found


def _carry_over(spec: dict[str, Any], old: dict[str, Any]) -> None:
    """Keep what the Service has where an update is silent (Kubernetes: patchAllocatedValues)."""
    if not old:
        return
    if spec["type"] != "ExternalName" and old.get("type") != "ExternalName":
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
            spec.setdefault("clusterIPs", old.get("clusterIPs", [old["clusterIP"]]))
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if name in old:
                spec.setdefault(name, old[name])
    if _has_node_ports(spec["type"]) and _has_node_ports(old.get("type", "")):
        before = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in old.get("ports") or ()}
        chosen = {p.get("nodePort") for p in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            kept = before.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and kept and kept not in chosen:
                port["nodePort"] = kept
    if _wants_health_check(spec) and _wants_health_check(old) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = old.get("healthCheckNodePort", 0)


def _has_node_ports(service_type: str) -> bool:
    return service_type in ("NodePort", "LoadBalancer")


def _wants_node_ports(spec: dict[str, Any]) -> bool:
    if spec["type"] == "LoadBalancer":
        explicit = any(port.get("nodePort") for port in spec.get("ports") or ())
        return explicit or spec.get("allocateLoadBalancerNodePorts", True)
    return _has_node_ports(spec["type"])


def _wants_health_check(spec: dict[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _release_address(spec: dict[str, Any], old: dict[str, Any]) -> None:
    """A Service that becomes an ExternalName gives its address back, unless the client clings to another one."""
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
        if spec.get(name) == old.get(name) or not spec.get(name):
            spec.pop(name, None)


def _release_ports(spec: dict[str, Any], old: dict[str, Any]) -> None:
    """A Service that loses its node ports with its type gives back those that it had (dropTypeDependentFields)."""
    had = {port.get("nodePort") for port in old.get("ports") or ()}
    for port in spec.get("ports") or ():
        if not port.get("nodePort") or port["nodePort"] in had:
            port.pop("nodePort", None)
    if old and not _has_node_ports(spec["type"]) and _has_node_ports(old.get("type", "")):
        for name in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(name) == old.get(name):
                spec.pop(name, None)


def _allocate_ports(spec: dict[str, Any], taken: Container[int]) -> Iterator[FieldError]:
    """Give each port its node port; ports of different protocols with one number may share it."""
    ports = spec.get("ports") or []
    mine: dict[int, set[str]] = {}
    for position, port in enumerate(ports):
        wanted = port.get("nodePort")
        if not wanted:
            continue
        path = f"spec.ports[{position}].nodePort"
        if wanted not in NODE_PORTS:
            yield invalid(
                path,
                wanted,
                "provided port is not in the valid range. "
                f"The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}",
            )
        elif wanted in taken or port.get("protocol") in mine.get(wanted, ()):
            yield invalid(path, wanted, "provided port is already allocated")
        mine.setdefault(wanted, set()).add(port.get("protocol"))
    numbers = {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}
    for port in ports:
        if port.get("nodePort"):
            continue
        shared = numbers.get(port.get("port"))
        if shared is None or port.get("protocol") in mine[shared]:
            shared = _free_port(taken, mine)
        port["nodePort"] = numbers[port.get("port")] = shared
        mine.setdefault(shared, set()).add(port.get("protocol"))


def _health_check_port(spec: dict[str, Any], old: dict[str, Any], taken: Container[int]) -> Iterator[FieldError]:
    """The port on which load balancers with `externalTrafficPolicy: Local` ask for health."""
    if not _wants_health_check(spec):
        if spec.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
            spec.pop("healthCheckNodePort", None)
        return
    wanted = spec.get("healthCheckNodePort")
    own = {port.get("nodePort") for port in spec.get("ports") or ()}
    if not wanted:
        spec["healthCheckNodePort"] = _free_port(taken, own)
    elif wanted in taken or wanted in own:
        yield invalid("spec.healthCheckNodePort", wanted, "provided port is already allocated")


def _free_port(taken: Container[int], own: Container[int]) -> int:
    free = [port for port in NODE_PORTS if port not in taken and port not in own]
    if not free:
        raise ApiError("Internal error occurred: failed to allocate a nodePort: range is full")
    return random.choice(free)
