"""What Istio refuses of a WorkloadEntry and a WorkloadGroup (ValidateWorkloadEntry, ValidateWorkloadGroup)."""

from __future__ import annotations

import re

from pilotfish.api.faults import forbidden, invalid, required, unsupported
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.workload_entry import WorkloadEntry, WorkloadEntrySpec
from pilotfish.api.networking.workload_group import HTTPHealthCheck, ReadinessProbe, WorkloadGroup
from pilotfish.api.one_of import one_of_faults

_HEADER = re.compile(r"[-_A-Za-z0-9]+")


def workload_entry(obj: WorkloadEntry) -> Faults:
    """The faults of a WorkloadEntry."""
    if not obj.spec.address and not obj.spec.network:
        why = "a workload has an address, or a network through whose gateway it is reached"
        yield required("spec.address", why)
    yield from _workload("spec", obj.spec)


def workload_entry_warnings(obj: WorkloadEntry) -> Faults:
    if obj.spec.network and not obj.spec.address:
        why = f'without it the workload is reached only through the gateway of network "{obj.spec.network}"'
        yield values.warning("spec.address", why)


def workload_group(obj: WorkloadGroup) -> Faults:
    """The faults of a WorkloadGroup. Addresses of its template are filled in when a workload joins."""
    yield from one_of_faults(obj.spec, "spec")
    yield from _workload("spec.template", obj.spec.template)
    if obj.spec.metadata:
        yield from values.labels("spec.metadata.labels", obj.spec.metadata.labels)
    if obj.spec.probe:
        yield from _probe("spec.probe", obj.spec.probe)


def _workload(path: str, spec: WorkloadEntrySpec) -> Faults:
    if spec.address.startswith(values.UNIX):
        yield from values.unix_socket(f"{path}.address", spec.address)
        if spec.ports:
            yield forbidden(f"{path}.ports", "a Unix socket has no ports")
    elif spec.address:
        yield from values.host_or_ip(f"{path}.address", spec.address)
    for name, number in spec.ports.items():
        yield from values.port_name(f"{path}.ports[{name}]", name)
        yield from values.port_number(f"{path}.ports[{name}]", number)
    yield from values.labels(f"{path}.labels", spec.labels)


def _probe(path: str, probe: ReadinessProbe) -> Faults:
    for name, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        yield from values.not_negative(f"{path}.{name}", value)
    if probe.http_get:
        yield from _http_get(f"{path}.httpGet", probe.http_get)
    elif probe.tcp_socket:
        yield from values.port_number(f"{path}.tcpSocket.port", probe.tcp_socket.port)
    elif probe.grpc:
        # Istio's API has this method and its validation does not know it.
        yield from values.port_number(f"{path}.grpc.port", probe.grpc.port)
    elif probe.exec:
        if not probe.exec.command or not all(probe.exec.command):
            yield required(f"{path}.exec.command", "say the program, and no empty argument")
    else:
        yield required(path, "a probe checks by httpGet, tcpSocket, exec or grpc")


def _http_get(path: str, check: HTTPHealthCheck) -> Faults:
    yield from values.port_number(f"{path}.port", check.port)
    if check.scheme not in ("", "HTTP", "HTTPS"):
        yield unsupported(f"{path}.scheme", check.scheme, ("HTTP", "HTTPS"))
    for position, header in enumerate(check.http_headers):
        if not _HEADER.fullmatch(header.name):
            yield invalid(f"{path}.httpHeaders[{position}].name", header.name, 'expected letters, digits, "-" and "_"')
