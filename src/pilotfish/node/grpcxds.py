"""For pods whose processes are xDS clients themselves: gRPC's bootstrap and the pod's certificate, as files.

Asked for by an annotation. Istio's template `grpc-agent` does the same by way of an agent beside the application, which
speaks TLS for it; here gRPC speaks TLS to the control plane itself (gRPC proposal A65).
"""

from __future__ import annotations

from typing import Any

import msgspec

from pilotfish.api.pods import Pod
from pilotfish.home import Settings
from pilotfish.node.bootstrap import CERTIFICATE_CHAIN, PRIVATE_KEY, ROOT_CERTIFICATE
from pilotfish.node.proxy import Certificate
from pilotfish.node.sandbox import Bind, PodFolder, write_private

ANNOTATION = "pilotfish.dev/grpc-xds"
DIRECTORY = "/run/pilotfish/grpc"
"""Where the pod's containers find the files."""

BOOTSTRAP_FILE = "bootstrap.json"
ENVIRONMENT = {"GRPC_XDS_BOOTSTRAP": f"{DIRECTORY}/{BOOTSTRAP_FILE}"}
"""What tells gRPC of them; a container's own variables go first."""

REFRESH = "60s"
"""How often gRPC looks for a renewed certificate (its own default: ten minutes)."""


def wanted(pod: Pod) -> bool:
    return pod.metadata.annotations.get(ANNOTATION) == "true"


def bootstrap(pod: Pod, ip: str, settings: Settings) -> dict[str, Any]:
    """https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md, with what node adds to it.

    `ip` is the pod's address.
    """
    files = {
        "certificate_file": f"{DIRECTORY}/{CERTIFICATE_CHAIN}",
        "private_key_file": f"{DIRECTORY}/{PRIVATE_KEY}",
        "ca_certificate_file": f"{DIRECTORY}/{ROOT_CERTIFICATE}",
        "refresh_interval": REFRESH,
    }
    return {
        "xds_servers": [
            {
                # By its address, which the server's certificate names too: a pod need not resolve anything first.
                "server_uri": f"{settings.gateway_ip}:{settings.xds_port}",
                "channel_creds": [{"type": "tls", "config": files}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {
            "id": f"sidecar~{ip}~{pod.name}.{pod.namespace}~{pod.namespace}.svc.{settings.cluster_domain}",
            "locality": {},  # gRPC for node wants it there
            "metadata": {"GENERATOR": "grpc", "NAMESPACE": pod.namespace, "LABELS": dict(pod.metadata.labels)},
        },
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": files}},
    }


def binds() -> tuple[Bind, ...]:
    """What such a pod must be shown."""
    return (Bind("grpc", DIRECTORY, read_only=True),)


def prepare_directory(folder: PodFolder) -> None:
    """The folder of the files. Every container of the pod may read them: all of them act in the pod's name."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.grpc.mkdir(mode=0o755, exist_ok=True)


def write_certificate(folder: PodFolder, certificate: Certificate) -> None:
    # The key first: gRPC reads all when it looks, and waits for the next look where key and certificate differ.
    write_private(folder.grpc / PRIVATE_KEY, certificate.key, 0o644)
    write_private(folder.grpc / CERTIFICATE_CHAIN, certificate.chain, 0o644)
    write_private(folder.grpc / ROOT_CERTIFICATE, certificate.root, 0o644)


def write_bootstrap(folder: PodFolder, pod: Pod, ip: str, settings: Settings) -> None:
    content = msgspec.json.format(msgspec.json.encode(bootstrap(pod, ip, settings)), indent=2)
    write_private(folder.grpc / BOOTSTRAP_FILE, content, 0o644)
