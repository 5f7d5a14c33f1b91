"""What Istio refuses of its own kinds (pkg/config/validation: ValidateServiceEntry), told by field."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from typing import Any

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import duplicate, forbidden, invalid, required, unsupported
from pilotfish.api.install import IstioOperator
from pilotfish.api.networking import ServiceEntry, ServiceEntryPort, ServiceEntrySpec, WorkloadEntrySpec

PROFILES = ("default", "demo", "empty", "minimal")
SERVICE_ENTRY_NOT_HONOURED = frozenset(
    {
        "spec.endpoints[].network",
        "spec.endpoints[].serviceAccount",
        "spec.resolution=DYNAMIC_DNS",
        "spec.subjectAltNames",
    }
)
"""Fields of a ServiceEntry that are accepted and change nothing yet."""
PROTOCOLS = (
    *("HTTP", "HTTP2", "HTTPS", "HTTP_PROXY", "GRPC", "GRPC-Web"),
    *("TCP", "TLS", "UDP", "Mongo", "MySQL", "Redis"),
)
RESOLUTIONS = ("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS")
LOCATIONS = ("MESH_EXTERNAL", "MESH_INTERNAL")
_NAMED_BY_CLIENT = {"http", "http2", "http_proxy", "grpc", "grpc-web", "https", "tls"}
"""Protocols whose clients name the host that they want, so that several hosts can share an address."""
_DYNAMIC_PROTOCOLS = {"http", "http2", "grpc", "tls"}
_LONGEST_HOST = 255

_LABEL = "[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
_IS_LABEL = re.compile(_LABEL)
_IS_FIRST_LABEL = re.compile(rf"\*|(?:\*-?)?{_LABEL}")
_LABEL_KEY = re.compile(r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_UNIX = "unix://"


def service_entry(entry: ServiceEntry) -> Iterator[FieldError]:
    """The faults of a ServiceEntry."""
    spec = entry.spec
    yield from _hosts(spec)
    yield from _addresses(spec)
    yield from _ports(spec)
    if spec.location not in LOCATIONS:
        yield unsupported("spec.location", spec.location, LOCATIONS)
    yield from _export_to(entry.namespace, spec.export_to)
    if spec.workload_selector is not None:
        if spec.endpoints:
            yield forbidden("spec.workloadSelector", "give either endpoints or a workloadSelector, not both")
        for key, value in spec.workload_selector.labels.items():
            if not key or "*" in key + value:
                why = "a label to select by is a key and a value, without wildcards"
                yield invalid("spec.workloadSelector.labels", f"{key}={value}", why)
    match spec.resolution:
        case "NONE":
            if spec.endpoints:
                why = "resolution NONE sends to the address that the client asked for; use STATIC or DNS with endpoints"
                yield forbidden("spec.endpoints", why)
        case "STATIC":
            yield from _endpoints(spec, by_name=False)
        case "DNS" | "DNS_ROUND_ROBIN":
            yield from _resolved_by_dns(spec)
        case "DYNAMIC_DNS":
            yield from _resolved_on_demand(spec)
        case _:
            yield unsupported("spec.resolution", spec.resolution, RESOLUTIONS)
    yield from _several_hosts(spec)


def _hosts(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    if not spec.hosts:
        yield required("spec.hosts", "a ServiceEntry must have at least one host")
    for position, host in enumerate(spec.hosts):
        path = f"spec.hosts[{position}]"
        if host == "*":
            yield invalid(
                path, host, 'a wildcard for every name is not allowed; name a domain, such as "*.example.com"'
            )
        elif fault := _host_fault(host, wildcard=True):
            yield invalid(path, host, fault)


def _host_fault(host: str, *, wildcard: bool) -> str:
    """Why a text is no host name, or "" if it is one; with `wildcard` its first label may be, or begin with, a star."""
    if not host:
        return "a host name must not be empty"
    if len(host) > _LONGEST_HOST:
        return f"a host name has at most {_LONGEST_HOST} characters"
    labels = host.split(".")
    first = 0
    if wildcard:
        if not _IS_FIRST_LABEL.fullmatch(labels[0]):
            return f'the label "{labels[0]}" is not 1 to 63 letters, digits and "-", nor a wildcard such as "*"'
        first = 1
    if labels[-1].isdecimal() and len(labels) > first:
        return "the last label of a host name must not be a number"
    # The last label may be empty: "example.com." is the name without a search domain.
    for position, label in enumerate(labels[first:], first):
        if not _IS_LABEL.fullmatch(label) and (label or position != len(labels) - 1):
            return f'the label "{label}" is not 1 to 63 letters, digits and "-"'
    return ""


def _addresses(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    for position, address in enumerate(spec.addresses):
        path = f"spec.addresses[{position}]"
        is_range = address.count("/") == 1
        try:
            ipaddress.ip_interface(address) if is_range else ipaddress.ip_address(address)
        except ValueError:
            yield invalid(path, address, 'expected an IP address or a range such as "10.0.0.0/24"')
            continue
        if is_range and spec.resolution not in ("NONE", "STATIC"):
            yield invalid(path, address, "ranges are allowed only with resolution NONE or STATIC")


def _ports(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    names: set[str] = set()
    numbers: set[int] = set()
    for position, port in enumerate(spec.ports):
        path = f"spec.ports[{position}]"
        if not port.name:
            yield required(f"{path}.name", "every port needs a name")
        elif not _IS_LABEL.fullmatch(port.name):
            yield invalid(f"{path}.name", port.name, 'expected 1 to 63 letters, digits and "-"')
        elif port.name in names:
            yield duplicate(f"{path}.name", port.name)
        if port.number in numbers:
            yield duplicate(f"{path}.number", port.number)
        names.add(port.name)
        numbers.add(port.number)
        if not _is_port(port.number):
            yield invalid(f"{path}.number", port.number, "a port is from 1 to 65535")
        if port.target_port and not _is_port(port.target_port):
            yield invalid(f"{path}.targetPort", port.target_port, "a port is from 1 to 65535")
        if port.protocol and port.protocol.lower() not in {word.lower() for word in PROTOCOLS}:
            yield unsupported(f"{path}.protocol", port.protocol, PROTOCOLS)


def _is_port(number: int) -> bool:
    return 1 <= number <= 65535


def _export_to(namespace: str, targets: tuple[str, ...]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for position, target in enumerate(targets):
        path = f"spec.exportTo[{position}]"
        meant = namespace if target == "." and namespace else target
        if meant in seen:
            yield duplicate(path, target)
        seen.add(meant)
        if target not in (".", "*", "~") and not _IS_LABEL.fullmatch(target):
            yield invalid(path, target, 'expected ".", "*", "~" or the name of a namespace')
        elif target in ("*", "~") and len(targets) > 1:
            yield invalid(path, target, "it stands for everyone or no one, so it must be the only entry")


def _endpoints(spec: ServiceEntrySpec, *, by_name: bool) -> Iterator[FieldError]:
    port_names = {port.name for port in spec.ports}
    for position, endpoint in enumerate(spec.endpoints):
        path = f"spec.endpoints[{position}]"
        yield from _endpoint_address(f"{path}.address", endpoint, len(spec.ports), by_name=by_name)
        yield from _endpoint_ports(f"{path}.ports", endpoint.ports, port_names)
        for key, value in endpoint.labels.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                yield invalid(f"{path}.labels", f"{key}={value}", "this is no Kubernetes label")
        if endpoint.weight < 0:
            yield invalid(f"{path}.weight", endpoint.weight, "a weight is at least 0")


def _endpoint_address(path: str, endpoint: WorkloadEntrySpec, ports: int, *, by_name: bool) -> Iterator[FieldError]:
    address = endpoint.address
    if not address:
        if not endpoint.network:
            yield required(path, "an endpoint needs an address, or a network through whose gateway it is reached")
    elif address.startswith(_UNIX) and not by_name:
        socket = address.removeprefix(_UNIX)
        if not socket.startswith(("/", "@")) or socket.endswith("/"):
            yield invalid(path, address, "expected the absolute path of a socket, or @ and an abstract name")
        if endpoint.ports:
            yield forbidden(path.removesuffix("address") + "ports", "a Unix socket has no ports")
        if ports != 1:
            yield invalid(path, address, f"a Unix socket serves exactly one port, and spec.ports has {ports}")
    elif not _is_ip(address):
        if not by_name:
            why = "with resolution STATIC an endpoint is an IP address or unix://…; use resolution DNS for a host name"
            yield invalid(path, address, why)
        elif fault := _host_fault(address, wildcard=False):
            yield invalid(path, address, f"expected an IP address or a host name: {fault}")


def _endpoint_ports(path: str, ports: dict[str, int], known: Collection[str]) -> Iterator[FieldError]:
    for name, number in ports.items():
        if name not in known:
            listed = ", ".join(f'"{word}"' for word in sorted(known)) or "none"
            yield invalid(f"{path}[{name}]", name, f"spec.ports has no port of this name; it has {listed}")
        if not _is_port(number):
            yield invalid(f"{path}[{name}]", number, "a port is from 1 to 65535")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _resolved_by_dns(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    if not spec.endpoints and spec.workload_selector is None:
        for position, host in enumerate(spec.hosts):
            if "*" in host:
                why = f"resolution {spec.resolution} cannot look a wildcard up; add endpoints or use resolution NONE"
                yield invalid(f"spec.hosts[{position}]", host, why)
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        yield forbidden("spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most; use DNS for several")
    yield from _endpoints(spec, by_name=True)


def _resolved_on_demand(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    for position, host in enumerate(spec.hosts):
        if "*" not in host:
            why = "resolution DYNAMIC_DNS is for wildcards; use resolution DNS for this name"
            yield invalid(f"spec.hosts[{position}]", host, why)
    if spec.addresses:
        yield forbidden("spec.addresses", "resolution DYNAMIC_DNS finds hosts by the name that the client asks for")
    if spec.endpoints:
        yield forbidden("spec.endpoints", "resolution DYNAMIC_DNS finds addresses by the name that the client asks for")
    for position, port in enumerate(spec.ports):
        if port.protocol.lower() not in _DYNAMIC_PROTOCOLS:
            yield unsupported(f"spec.ports[{position}].protocol", port.protocol, ("GRPC", "HTTP", "HTTP2", "TLS"))


def _several_hosts(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    """Bytes of plain TCP do not say which of several hosts they are for."""
    if spec.resolution == "NONE" or len(spec.hosts) < 2:
        return
    for position, port in enumerate(spec.ports):
        if not _names_host(port):
            why = "several hosts can share only ports of HTTP or TLS; make one ServiceEntry for each host"
            yield invalid(f"spec.ports[{position}].protocol", port.protocol, why)


def _names_host(port: ServiceEntryPort) -> bool:
    return port.protocol.lower() in _NAMED_BY_CLIENT


COMPONENTS = ("base", "pilot", "cni", "ztunnel", "istiodRemote", "ingressGateways", "egressGateways")
GATEWAY_COMPONENTS = ("ingressGateways", "egressGateways")
_COMPONENT_FIELDS = ("enabled", "namespace", "hub", "tag", "k8s")
_GATEWAY_FIELDS = (*_COMPONENT_FIELDS, "name", "label")


def istio_operator(operator: IstioOperator) -> Iterator[FieldError]:
    """The faults of an IstioOperator's outline; what its meshConfig and values say is checked where it is read."""
    spec = operator.spec
    if spec.profile and spec.profile not in PROFILES:
        yield unsupported("spec.profile", spec.profile, PROFILES)
    if spec.tag is not None and (isinstance(spec.tag, bool) or not isinstance(spec.tag, str | int | float)):
        yield invalid("spec.tag", spec.tag, "a tag is a text or a number")
    for name, component in spec.components.items():
        path = f"spec.components.{name}"
        if name not in COMPONENTS:
            yield unsupported(path, name, COMPONENTS)
        elif name in GATEWAY_COMPONENTS:
            if not isinstance(component, list):
                yield invalid(path, component, "expected a list of gateways")
                continue
            for position, gateway in enumerate(component):
                yield from _component(f"{path}[{position}]", gateway, _GATEWAY_FIELDS)
                if isinstance(gateway, dict) and not gateway.get("name"):
                    yield required(f"{path}[{position}].name", "a gateway is known by its name")
        else:
            yield from _component(path, component, _COMPONENT_FIELDS)


def _component(path: str, component: Any, known: tuple[str, ...]) -> Iterator[FieldError]:
    if not isinstance(component, dict):
        yield invalid(path, component, "expected an object")
        return
    for name in component:
        if name not in known:
            yield unsupported(f"{path}.{name}", name, known)
    if not isinstance(component.get("enabled", True), bool):
        yield invalid(f"{path}.enabled", component["enabled"], "expected true or false")
