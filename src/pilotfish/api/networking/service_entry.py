"""ServiceEntry (networking/v1alpha3/service_entry.proto)."""

from __future__ import annotations

from typing import Literal

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct
from pilotfish.api.networking.workload_entry import WorkloadEntrySpec
from pilotfish.api.networking.workload_selector import WorkloadSelector

Location = Literal["MESH_EXTERNAL", "MESH_INTERNAL"]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


class ServiceEntryPort(Struct):
    number: UInt32
    name: str = ""
    protocol: str = ""
    target_port: UInt32 = 0


class ServiceEntrySpec(Struct):
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    location: Location = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntryAddress(Struct):
    """An allocated address. `host` names which of the entry's hosts it belongs to."""

    value: str
    host: str = ""


class ServiceEntryStatus(IstioStatus):
    addresses: tuple[ServiceEntryAddress, ...] = ()


class ServiceEntry(Object):
    spec: ServiceEntrySpec = ServiceEntrySpec()
    status: ServiceEntryStatus = ServiceEntryStatus()
