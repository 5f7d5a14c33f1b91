"""The Node object: who this node is, and that it is alive."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import platform
from pathlib import Path

import msgspec

from pilotfish import __version__
from pilotfish.api.core import (
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
)
from pilotfish.api.errors import AlreadyExists, ApiError, NotFound
from pilotfish.api.kinds import NODE
from pilotfish.api.meta import Condition, ObjectMeta, timestamp
from pilotfish.client.backoff import backoff
from pilotfish.client.client import Client
from pilotfish.home import Settings

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STATUS_EVERY = 300.0
"""Seconds after which the status is written although nothing has changed (the kubelet's nodeStatusReportFrequency)."""

MAX_PODS = 250
KUBELET_VERSION = "v1.33.0"
"""The Kubernetes version whose behaviour the node follows, the API server's; kubectl shows it."""


def describe(settings: Settings, kubelet_port: int, now: dt.datetime) -> Node:
    """The node as it is now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": str(MAX_PODS)}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    ready = Condition(
        type="Ready",
        status="True",
        reason="KubeletReady",
        message="the node agent runs pods",
        last_heartbeat_time=timestamp(now),
        last_transition_time=timestamp(now),
    )
    name = settings.node_name
    return Node(
        api_version=NODE.api_version,
        kind=NODE.kind,
        metadata=ObjectMeta(
            name=name,
            labels={
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": machine,
                "beta.kubernetes.io/os": "linux",
                "beta.kubernetes.io/arch": machine,
            },
        ),
        spec=NodeSpec(pod_cidr=settings.pod_cidr, pod_cidrs=(settings.pod_cidr,), provider_id=f"pilotfish://{name}"),
        status=NodeStatus(
            capacity=capacity,
            allocatable=capacity,
            conditions=(ready,),
            addresses=(
                NodeAddress(type="InternalIP", address=settings.gateway_ip),
                NodeAddress(type="Hostname", address=name),
            ),
            daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=kubelet_port)),
            node_info=NodeSystemInfo(
                machine_id=_line("/etc/machine-id"),
                system_uuid=_line("/sys/class/dmi/id/product_uuid"),
                boot_id=_line("/proc/sys/kernel/random/boot_id"),
                kernel_version=platform.release(),
                os_image=_os_name(),
                container_runtime_version=f"pilotfish://{__version__}",
                kubelet_version=KUBELET_VERSION,
                kube_proxy_version=KUBELET_VERSION,
                operating_system="linux",
                architecture=machine,
            ),
        ),
    )


async def keep(client: Client, settings: Settings, kubelet_port: int) -> None:
    """Have the API show this node, until cancelled. Its status is written when it changes, and now and then."""
    delays = backoff()
    written: Node | None = None
    written_at = 0.0
    clock = asyncio.get_running_loop().time
    while True:
        node = describe(settings, kubelet_port, dt.datetime.now(dt.UTC))
        try:
            if written is None or _essence(written) != _essence(node) or clock() - written_at > STATUS_EVERY:
                await _write(client, node, first=written is None)
                written, written_at = node, clock()
            else:
                await client.get(NODE, node.name)  # somebody may have deleted it
        except NotFound:
            written = None
            continue
        except ApiError as error:
            log.info("node %s: %s", node.name, error)
            await asyncio.sleep(next(delays))
            continue
        delays = backoff()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _write(client: Client, node: Node, *, first: bool) -> None:
    document = msgspec.to_builtins(node)
    if first:
        try:
            await client.create(NODE, document)
        except AlreadyExists:
            await client.patch(NODE, node.name, "", {"metadata": {"labels": node.metadata.labels}})
    await client.patch(NODE, node.name, "", {"status": document["status"]}, subresource="status")


def _essence(node: Node) -> NodeStatus:
    """The status without its times."""
    return msgspec.structs.replace(node.status, conditions=())


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
