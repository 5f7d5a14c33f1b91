"""WorkloadEntry (networking/v1alpha3/workload_entry.proto)."""

from __future__ import annotations

from pilotfish.api.istio_types import IstioStatus, UInt32
from pilotfish.api.meta import Object, Struct


class WorkloadEntrySpec(Struct):
    """A workload's address; also one endpoint of a ServiceEntry. `weight` is relative; 0 counts as 1."""

    address: str = ""
    ports: dict[str, UInt32] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


class WorkloadEntry(Object):
    spec: WorkloadEntrySpec = WorkloadEntrySpec()
    status: IstioStatus = IstioStatus()
