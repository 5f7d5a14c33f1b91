"""A pod's sandbox put together: network, files, proxy, supervisor; or found again as an earlier agent left it."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import shutil
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509

from pilotfish.api.errors import ApiError
from pilotfish.api.joined import HOST_PROCESS
from pilotfish.api.pods import Pod
from pilotfish.client.backoff import backoff
from pilotfish.node import bootstrap, grpcxds, podfiles, proxy, sandbox, volumes
from pilotfish.node.capture import CaptureSpec
from pilotfish.node.captureannotations import capture_spec
from pilotfish.node.environment import Sources
from pilotfish.node.nodecontext import Attachment, NodeContext
from pilotfish.node.podrecord import PodRecord
from pilotfish.node.runtime import PodGone
from pilotfish.node.sandbox import Bind, PodFolder, RelayConfig, Sandbox

log = logging.getLogger(__name__)

RENEW_AT = 0.5
"""The part of its life after which a certificate is renewed (Istio's agent: half)."""

RENEW_SOONEST = 10.0

NETWORK_CHECK_SECONDS = 2.0
"""How often a pod's network is looked after: a look costs a microsecond."""


async def make(node: NodeContext, pod: Pod, folder: PodFolder, sources: Sources) -> Attachment:
    """A new sandbox for the pod, in place of whatever was left of an earlier one; `sources` are for its volumes.

    Raises SandboxError, AnnotationError, OSError, and ConfigError for volumes that cannot be made.
    """
    await asyncio.to_thread(sandbox.stop_supervisors, [folder])
    folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    capture = capture_of(pod)
    if pod.spec.host_network:
        attachment = Attachment(node.host_ip, None)
    else:
        attachment = await node.networks.attach(pod.metadata.uid, pod.namespace, capture)
        if pod.metadata.annotations.get(HOST_PROCESS) == "true":
            await node.networks.open_host_loopback(pod.metadata.uid)
    relay: RelayConfig | None = None
    if (container := proxy.proxy_container(pod)) is not None:
        settings = node.settings
        relay = RelayConfig(proxy.relay_name(pod), settings.gateway_ip, settings.xds_port, container.name)
    mounts = volumes.make(pod, folder, replace(sources, pod_ip=attachment.ip))
    # What an earlier supervisor wrote of its containers is no longer true.
    folder.states.unlink(missing_ok=True)
    spec = Sandbox(
        hostname=podfiles.hostname(pod, node.settings.node_name),
        netns=str(attachment.netns or ""),
        binds=(
            *_files(node, pod, folder, attachment.ip),
            *(proxy.binds() if container else ()),
            *(grpcxds.binds() if grpcxds.wanted(pod) else ()),
            *mounts,
        ),
        relay=relay,
    )
    await sandbox.launch(folder, spec)
    return attachment


async def find(node: NodeContext, pod: Pod, folder: PodFolder, record: PodRecord) -> Attachment | None:
    """The sandbox that the pod has, when its supervisor and its network are still there."""
    if not record.ip or sandbox.supervisor_pid(folder) is None:
        return None
    if pod.spec.host_network:
        return Attachment(record.ip, None)
    return await node.networks.adopt(pod.metadata.uid, pod.namespace, IPv4Address(record.ip), capture_of(pod))


async def watch_network(attachment: Attachment) -> None:
    """Raises PodGone once the name of the pod's network namespace is gone, or another's (`ip netns del`).

    Its processes would run on in it, without names and beyond anyone's reach. On the host's network, returns.
    """
    if attachment.netns is None:
        return
    made = _inode(attachment.netns)
    while True:
        if made is None or _inode(attachment.netns) != made:
            raise PodGone(f"the pod's network namespace {attachment.netns} is gone")
        await asyncio.sleep(NETWORK_CHECK_SECONDS)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


async def remove(node: NodeContext, folder: PodFolder, *, keep_folder: bool = False) -> None:
    """End whatever runs in the sandbox and remove its network and, unless told otherwise, its folder."""
    await asyncio.to_thread(sandbox.stop_supervisors, [folder])
    await node.networks.detach(folder.uid)
    if not keep_folder:
        await asyncio.to_thread(shutil.rmtree, folder.path, ignore_errors=True)


def capture_of(pod: Pod) -> CaptureSpec | None:
    """Which of the pod's traffic its proxy takes; None for a pod without one, and for a gateway, whose clients connect
    to its own ports. Raises AnnotationError.
    """
    container = proxy.proxy_container(pod)
    if container is None or pod.spec.host_network or proxy.parse_arguments(container.args).type == "router":
        return None
    return capture_spec(pod.metadata.annotations, {variable.name: variable.value for variable in container.env})


def _files(node: NodeContext, pod: Pod, folder: PodFolder, ip: str) -> list[Bind]:
    domain = node.settings.cluster_domain
    sandbox.write_private(folder.path / "hostname", podfiles.hostname(pod, node.settings.node_name) + "\n", 0o644)
    sandbox.write_private(folder.path / "hosts", podfiles.hosts(pod, ip, domain), 0o644)
    binds = [Bind("hostname", "/etc/hostname")]
    if not pod.spec.host_network:
        binds.append(Bind("hosts", "/etc/hosts"))
    if not podfiles.uses_node_dns(pod):
        text = podfiles.resolv_conf(pod, node.settings.gateway_ip, domain)
        sandbox.write_private(folder.path / "resolv.conf", text, 0o644)
        binds.append(Bind("resolv.conf", "/etc/resolv.conf"))
    return binds


def identity(node: NodeContext, pod: Pod) -> str:
    """The pod's SPIFFE identity, as Istio forms it: in the trust domain that the mesh had when it was injected."""
    account = pod.spec.service_account_name or "default"
    container = proxy.proxy_container(pod)
    told = next((v.value for v in container.env if v.name == "TRUST_DOMAIN"), "") if container else ""
    return f"spiffe://{told or node.settings.trust_domain}/ns/{pod.namespace}/sa/{account}"


def certified(pod: Pod) -> bool:
    """Whether anything in the pod speaks to the control plane."""
    return proxy.proxy_container(pod) is not None or grpcxds.wanted(pod)


def prepare_directories(pod: Pod, folder: PodFolder) -> None:
    """Make room for certificates. Raises OSError."""
    proxy.prepare_directory(folder)
    if grpcxds.wanted(pod):
        grpcxds.prepare_directory(folder)


async def certify(node: NodeContext, pod: Pod, folder: PodFolder, issued: asyncio.Event) -> None:
    """Keep the pod's certificate valid until cancelled; `issued` is set as soon as there is one."""
    path = folder.proxy / bootstrap.CERTIFICATE_CHAIN
    if path.exists() and (folder.proxy / bootstrap.PRIVATE_KEY).exists() and _seconds_left(path.read_bytes()) > 0:
        issued.set()
        await asyncio.sleep(_seconds_left(path.read_bytes()))
    delays = backoff()
    while True:
        try:
            certificate = await node.control_plane.certificate(identity(node, pod))
        except ApiError as error:
            log.warning("pod %s/%s: %s", pod.namespace, pod.name, error)
            await asyncio.sleep(next(delays))
            continue
        if grpcxds.wanted(pod):
            grpcxds.write_certificate(folder, certificate)
        proxy.write_certificate(folder, certificate)
        issued.set()
        delays = backoff()
        await asyncio.sleep(max(RENEW_SOONEST, _seconds_left(certificate.chain.encode())))


def _seconds_left(chain: bytes) -> float:
    """Seconds until the leaf certificate of a chain is to be renewed; negative when that is past."""
    leaf = x509.load_pem_x509_certificates(chain)[0]
    born, dies = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return (born + (dies - born) * RENEW_AT - dt.datetime.now(dt.UTC)).total_seconds()
