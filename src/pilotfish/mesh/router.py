"""A gateway's container as Istio's template makes it (files/gateway-injection-template.yaml of its chart)."""

from __future__ import annotations

from pilotfish.api.meta import Document
from pilotfish.mesh.sidecar import (
    CONTAINER,
    METRICS_PORT,
    PROXY_UID,
    Injected,
    arguments,
    environment,
    image,
    probes,
)


def router_container(pod: Injected) -> Document:
    """The container that makes a pod a gateway. `pod.own` is what the user wrote of it, whose ports it is told of.

    Raises Invalid, naming an annotation that cannot be read.
    """
    annotations, values = pod.annotations, pod.values
    container: Document = {
        "name": CONTAINER,
        "image": image(annotations, pod.proxy, values),
        "ports": [{"containerPort": METRICS_PORT, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": list(arguments("router", annotations, values)),
        "env": list(environment(pod, [*pod.apps, *pod.own])),
        "securityContext": {"runAsUser": PROXY_UID, "runAsGroup": PROXY_UID},
        **probes(annotations, values.globals.proxy),
    }
    if values.globals.proxy.lifecycle:
        container["lifecycle"] = values.globals.proxy.lifecycle
    if values.globals.image_pull_policy:
        container["imagePullPolicy"] = values.globals.image_pull_policy
    return container
