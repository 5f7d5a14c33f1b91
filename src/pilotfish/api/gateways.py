"""By what a pod is known to be a gateway: a proxy that takes connections for others, with no application of its own."""

from __future__ import annotations

from pilotfish.api.pods import Pod

INJECT_TEMPLATES = "inject.istio.io/templates"
"""The annotation that says what injection makes of a pod (Istio)."""

SIDECAR_TEMPLATE, GATEWAY_TEMPLATE = "sidecar", "gateway"


def is_gateway(pod: Pod) -> bool:
    """Whether injection has made, or will make, the pod a gateway."""
    return pod.metadata.annotations.get(INJECT_TEMPLATES) == GATEWAY_TEMPLATE
