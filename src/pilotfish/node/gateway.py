"""The node gateway: the Envoy on the host's network that serves NodePorts and load balancers, as a pod of its own.

It is made by the node, as the kubelet makes a static pod, and shown in the API like any pod.
"""

from __future__ import annotations

from typing import Any

from pilotfish.api.meta import Document
from pilotfish.home import Settings
from pilotfish.node.bootstrap import METRICS_PORT, STATUS_PORT

NAMESPACE = "kube-system"
LABEL = "pilotfish.dev/gateway"
IMAGE = "docker.io/istio/proxyv2:1.10.4"


def gateway_name(node_name: str) -> str:
    return f"node-gateway-{node_name}"


def gateway_pod(settings: Settings, log_level: str = "warning") -> Document:
    """The pod's document."""
    name = gateway_name(settings.node_name)

    def of_field(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    env: list[dict[str, Any]] = [
        {"name": "POD_NAME", "valueFrom": of_field("metadata.name")},
        {"name": "POD_NAMESPACE", "valueFrom": of_field("metadata.namespace")},
        {"name": "ISTIO_META_CLUSTER_ID", "value": "Kubernetes"},
        {"name": "ISTIO_META_MESH_ID", "value": settings.trust_domain},
        {"name": "ISTIO_META_WORKLOAD_NAME", "value": "node-gateway"},
        {"name": "ISTIO_META_INTERCEPTION_MODE", "value": "NONE"},
        {"name": "ISTIO_META_NODE_NAME", "value": settings.node_name},
    ]
    probe = {"httpGet": {"path": "/healthz/ready", "port": STATUS_PORT, "host": settings.gateway_ip}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {LABEL: "node", "app": "node-gateway", "sidecar.istio.io/inject": "false"},
            "annotations": {"kubernetes.io/config.source": "file"},
        },
        "spec": {
            "nodeName": settings.node_name,
            "hostNetwork": True,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 2,
            "containers": [
                {
                    "name": "istio-proxy",
                    "image": IMAGE,
                    "args": [
                        *("proxy", "router"),
                        *("--domain", f"{NAMESPACE}.svc.{settings.cluster_domain}"),
                        f"--proxyLogLevel={log_level}",
                        "--proxyComponentLogLevel=misc:error",
                    ],
                    "ports": [{"containerPort": METRICS_PORT, "protocol": "TCP", "name": "http-envoy-prom"}],
                    "env": env,
                    "readinessProbe": {**probe, "periodSeconds": 2, "failureThreshold": 30},
                }
            ],
        },
    }
