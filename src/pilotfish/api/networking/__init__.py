"""Istio's networking.istio.io kinds (istio/api networking/v1alpha3; v1, v1beta1 and v1alpha3 share one schema)."""

from __future__ import annotations

from pilotfish.api.networking.destination_rule import DestinationRule
from pilotfish.api.networking.envoy_filter import EnvoyFilter
from pilotfish.api.networking.gateway import Gateway
from pilotfish.api.networking.proxy_config import ProxyConfig
from pilotfish.api.networking.service_entry import (
    ServiceEntry,
    ServiceEntryAddress,
    ServiceEntryPort,
    ServiceEntrySpec,
    ServiceEntryStatus,
)
from pilotfish.api.networking.sidecar import Sidecar
from pilotfish.api.networking.virtual_service import VirtualService
from pilotfish.api.networking.workload_entry import WorkloadEntry, WorkloadEntrySpec
from pilotfish.api.networking.workload_group import WorkloadGroup
from pilotfish.api.networking.workload_selector import WorkloadSelector

__all__ = [
    "DestinationRule",
    "EnvoyFilter",
    "Gateway",
    "ProxyConfig",
    "ServiceEntry",
    "ServiceEntryAddress",
    "ServiceEntryPort",
    "ServiceEntrySpec",
    "ServiceEntryStatus",
    "Sidecar",
    "VirtualService",
    "WorkloadEntry",
    "WorkloadEntrySpec",
    "WorkloadGroup",
    "WorkloadSelector",
]
