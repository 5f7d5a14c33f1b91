"""Istio's networking.istio.io kinds (istio/api networking/v1alpha3; v1, v1beta1 and v1alpha3 share one schema)."""

from __future__ import annotations

from typing import Any

from pilotfish.api.meta import Condition, Object, Struct


class ServiceEntryPort(Struct):
    number: int
    name: str = ""
    protocol: str = ""
    target_port: int = 0


class WorkloadEntrySpec(Struct):
    """A workload's address; also one endpoint of a ServiceEntry. `weight` is relative; 0 counts as 1."""

    address: str = ""
    ports: dict[str, int] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""


class WorkloadSelector(Struct):
    labels: dict[str, str] = {}


class ServiceEntrySpec(Struct):
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    location: str = "MESH_EXTERNAL"
    resolution: str = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntryAddress(Struct):
    """An allocated address. `host` names which of the entry's hosts it belongs to."""

    value: str
    host: str = ""


class ServiceEntryStatus(Struct):
    conditions: tuple[Condition, ...] = ()
    validation_messages: Any = None
    observed_generation: int | None = None
    addresses: tuple[ServiceEntryAddress, ...] = ()


class ServiceEntry(Object):
    spec: ServiceEntrySpec = ServiceEntrySpec()
    status: ServiceEntryStatus = ServiceEntryStatus()
