"""What Istio refuses of a ServiceEntry (pkg/config/validation: ValidateServiceEntry)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from pilotfish.api.errors import FieldError
from pilotfish.api.faults import duplicate, forbidden, invalid, required, unsupported
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.hosts import host_fault, is_ip, is_label
from pilotfish.api.networking.service_entry import ServiceEntry, ServiceEntryPort, ServiceEntrySpec
from pilotfish.api.networking.workload_entry import WorkloadEntrySpec

_NAMED_BY_CLIENT = {"http", "http2", "http_proxy", "grpc", "grpc-web", "https", "tls"}
"""Protocols whose clients name the host that they want, so that several hosts can share an address."""
_DYNAMIC_PROTOCOLS = {"http", "http2", "grpc", "tls"}


def service_entry(entry: ServiceEntry) -> Iterator[FieldError]:
    """The faults of a ServiceEntry."""
    spec = entry.spec
    yield from _hosts(spec)
    yield from _addresses(spec)
    yield from _ports(spec)
    yield from values.export_to(entry.namespace, spec.export_to, to_no_one=True)
    if spec.workload_selector is not None:
        if spec.endpoints:
            yield forbidden("spec.workloadSelector", "give either endpoints or a workloadSelector, not both")
        yield from values.selector("spec.workloadSelector.labels", spec.workload_selector.labels)
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
    yield from _several_hosts(spec)


def service_entry_warnings(entry: ServiceEntry) -> Iterator[FieldError]:
    """What is valid and probably not what was meant."""
    spec = entry.spec
    if spec.workload_selector is not None:
        yield from values.selects_all("spec.workloadSelector", spec.workload_selector.labels)
        if spec.resolution == "NONE":
            why = "resolution NONE sends to the address that the client asked for, so that it is ignored"
            yield values.warning("spec.workloadSelector", why)
    for position, host in enumerate(spec.hosts):
        if spec.resolution != "DYNAMIC_DNS" and "*" in host and not host.startswith("*."):
            yield values.warning(f"spec.hosts[{position}]", 'a wildcard is a whole label, such as "*.example.com"')


def _hosts(spec: ServiceEntrySpec) -> Iterator[FieldError]:
    if not spec.hosts:
        yield required("spec.hosts", "a ServiceEntry must have at least one host")
    for position, host in enumerate(spec.hosts):
        path = f"spec.hosts[{position}]"
        if host == "*":
            yield invalid(
                path, host, 'a wildcard for every name is not allowed; name a domain, such as "*.example.com"'
            )
        elif fault := host_fault(host, wildcard=True):
            yield invalid(path, host, fault)


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
        elif not is_label(port.name):
            yield invalid(f"{path}.name", port.name, 'expected 1 to 63 letters, digits and "-"')
        elif port.name in names:
            yield duplicate(f"{path}.name", port.name)
        if port.number in numbers:
            yield duplicate(f"{path}.number", port.number)
        names.add(port.name)
        numbers.add(port.number)
        yield from values.port_number(f"{path}.number", port.number)
        if port.target_port:
            yield from values.port_number(f"{path}.targetPort", port.target_port)
        if port.protocol:
            yield from values.protocol(f"{path}.protocol", port.protocol)


def _endpoints(spec: ServiceEntrySpec, *, by_name: bool) -> Iterator[FieldError]:
    port_names = {port.name for port in spec.ports}
    for position, endpoint in enumerate(spec.endpoints):
        path = f"spec.endpoints[{position}]"
        yield from _endpoint_address(f"{path}.address", endpoint, len(spec.ports), by_name=by_name)
        yield from _endpoint_ports(f"{path}.ports", endpoint.ports, port_names)
        yield from values.labels(f"{path}.labels", endpoint.labels)


def _endpoint_address(path: str, endpoint: WorkloadEntrySpec, ports: int, *, by_name: bool) -> Iterator[FieldError]:
    address = endpoint.address
    if not address:
        if not endpoint.network:
            yield required(path, "an endpoint needs an address, or a network through whose gateway it is reached")
    elif address.startswith(values.UNIX) and not by_name:
        yield from values.unix_socket(path, address)
        if endpoint.ports:
            yield forbidden(path.removesuffix("address") + "ports", "a Unix socket has no ports")
        if ports != 1:
            yield invalid(path, address, f"a Unix socket serves exactly one port, and spec.ports has {ports}")
    elif not is_ip(address):
        if not by_name:
            why = "with resolution STATIC an endpoint is an IP address or unix://…; use resolution DNS for a host name"
            yield invalid(path, address, why)
        elif fault := host_fault(address, wildcard=False):
            yield invalid(path, address, f"expected an IP address or a host name: {fault}")


def _endpoint_ports(path: str, ports: dict[str, int], known: Collection[str]) -> Iterator[FieldError]:
    for name, number in ports.items():
        if name not in known:
            listed = ", ".join(f'"{word}"' for word in sorted(known)) or "none"
            yield invalid(f"{path}[{name}]", name, f"spec.ports has no port of this name; it has {listed}")
        yield from values.port_number(f"{path}[{name}]", number)


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
