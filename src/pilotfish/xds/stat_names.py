"""What clusters and TCP proxies are called in statistics, by the mesh's patterns (Istio: telemetry.BuildStatPrefix)."""

from __future__ import annotations

import functools

from pilotfish.mesh.records import Registry, Service, ServicePort


@functools.lru_cache(maxsize=4096)
def stat_name(pattern: str, service: Service, port: ServicePort, subset: str = "", target: int = 0) -> str:
    """The name of a port of a service, or of a subset of it, by a pattern; "" where there is none.

    `target` is the workload's port, which only names of servers can tell.
    """
    if not pattern:
        return ""
    kubernetes = service.registry is Registry.KUBERNETES
    name = service.name if kubernetes else service.hostname
    values = {
        "%SERVICE%": f"{service.name}.{service.namespace}" if kubernetes else service.hostname,
        "%SERVICE_NAME%": name,
        "%SERVICE_FQDN%": service.hostname,
        "%SUBSET_NAME%": subset,
        "%TARGET_PORT%": str(target),
        "%SERVICE_PORT%": str(port.number),
        "%SERVICE_PORT_NAME%": port.name,
    }
    for variable, value in values.items():
        pattern = pattern.replace(variable, value)
    return pattern
