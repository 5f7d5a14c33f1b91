"""The files that a node puts into a pod for its proxy, and the control plane names in what it sends."""

from __future__ import annotations

PROXY_DIRECTORY = "/run/pilotfish/proxy"
"""Where a proxy finds its files inside the pod."""

WORKLOAD_SECRET, ROOT_SECRET = "default", "ROOTCA"
"""The names that Istio gives to a workload's certificate and to the mesh's roots."""

SELF_DISCOVERY, LOCAL_CLUSTER = "ENABLE_SELF_DISCOVERY", "local_cluster"
"""A proxy's metadata that asks for a cluster of its own kind, and what that is called (Istio)."""


def secret_file(name: str) -> str:
    """The file that tells Envoy which certificate files a secret is made of."""
    return f"sds-{name}.json"


def secret_source(name: str) -> tuple[str, str]:
    """The path of that file in the pod, and the directory that changes when the certificate does."""
    return f"{PROXY_DIRECTORY}/{secret_file(name)}", PROXY_DIRECTORY
