"""What Istio refuses of its own kinds, told by field, and what it warns of (pkg/config/validation).

For each kind there is a function from the typed object to its faults, and for most one to its warnings.
"""

from __future__ import annotations

from pilotfish.api.istio_validation.destination_rule import (
    DESTINATION_RULE_ISTIO_NEITHER,
    destination_rule,
    destination_rule_warnings,
)
from pilotfish.api.istio_validation.envoy_filter import (
    ENVOY_FILTER_ISTIO_NEITHER,
    ENVOY_FILTER_NOT_HONOURED,
    envoy_filter,
    envoy_filter_warnings,
)
from pilotfish.api.istio_validation.gateway import GATEWAY_ISTIO_NEITHER, gateway, gateway_warnings
from pilotfish.api.istio_validation.operator import GATEWAY_COMPONENTS, istio_operator
from pilotfish.api.istio_validation.proxy_config import proxy_config, proxy_config_warnings
from pilotfish.api.istio_validation.service_entry import (
    service_entry,
    service_entry_warnings,
)
from pilotfish.api.istio_validation.sidecar import SIDECAR_ISTIO_NEITHER, sidecar, sidecar_warnings
from pilotfish.api.istio_validation.telemetry import TELEMETRY_NOT_HONOURED, telemetry, telemetry_warnings
from pilotfish.api.istio_validation.virtual_service import (
    VIRTUAL_SERVICE_ISTIO_NEITHER,
    virtual_service,
    virtual_service_warnings,
)
from pilotfish.api.istio_validation.workloads import (
    workload_entry,
    workload_entry_warnings,
    workload_group,
)

__all__ = [
    "DESTINATION_RULE_ISTIO_NEITHER",
    "ENVOY_FILTER_ISTIO_NEITHER",
    "ENVOY_FILTER_NOT_HONOURED",
    "GATEWAY_COMPONENTS",
    "GATEWAY_ISTIO_NEITHER",
    "SIDECAR_ISTIO_NEITHER",
    "TELEMETRY_NOT_HONOURED",
    "VIRTUAL_SERVICE_ISTIO_NEITHER",
    "destination_rule",
    "destination_rule_warnings",
    "envoy_filter",
    "envoy_filter_warnings",
    "gateway",
    "gateway_warnings",
    "istio_operator",
    "proxy_config",
    "proxy_config_warnings",
    "service_entry",
    "service_entry_warnings",
    "sidecar",
    "sidecar_warnings",
    "telemetry",
    "telemetry_warnings",
    "virtual_service",
    "virtual_service_warnings",
    "workload_entry",
    "workload_entry_warnings",
    "workload_group",
]
