"""The networks of this node's pods, kept: addresses, namespaces, capture rules, DNS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Protocol

from pyroute2.netlink.exceptions import NetlinkError

from pilotfish.node.capture import CaptureSpec, apply_capture
from pilotfish.node.dns.control import DnsError, PodDns
from pilotfish.node.ipam import AddressPool, OutOfAddresses
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.nft import NftError
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.podnetwork import (
    PodNetwork,
    create_pod_network,
    delete_pod_network,
    list_pod_networks,
    open_host_loopback,
)
from pilotfish.node.sandbox import SandboxError, to_the_end

log = logging.getLogger(__name__)

DNS_PATIENCE = 5.0
"""Seconds for which a pod's start waits for the DNS process; it is served as soon as that is there."""


class Dns(Protocol):
    """What is asked of the DNS process (`dns.control.DnsControl`)."""

    async def add(self, pod: PodDns) -> None: ...

    async def remove(self, uid: str) -> None: ...


class HostNetworks:
    """`nodecontext.Networks` on this host."""

    def __init__(self, mesh: MeshNetwork, dns: Dns, existing: Iterable[PodNetwork]) -> None:
        self._mesh = mesh
        self._dns = dns
        existing = tuple(existing)
        self._by_short_uid = {pod.short_uid: pod for pod in existing}
        self._pool = AddressPool(mesh.pod_cidr, [a for pod in existing for a in _v4(pod)])

    @classmethod
    async def of(cls, mesh: MeshNetwork, dns: Dns) -> HostNetworks:
        """Those that an earlier agent has left included."""
        return cls(mesh, dns, await asyncio.to_thread(list_pod_networks, mesh.home_id))

    async def attach(self, uid: str, namespace: str, capture: CaptureSpec | None) -> Attachment:
        try:
            pod = await to_the_end(self._replace(uid, capture))
            await self._serve_names(uid, namespace, pod, capture)
        except (OSError, NetlinkError, NftError, OutOfAddresses, DnsError) as error:
            raise SandboxError(f"no network for the pod: {error}") from error
        return Attachment(str(_v4(pod)[0]), pod.path)

    async def _replace(self, uid: str, capture: CaptureSpec | None) -> PodNetwork:
        await self._remove(uid)
        address = self._pool.take()
        try:
            pod = await asyncio.to_thread(self._create, uid, address, capture)
        except BaseException:
            self._pool.give_back(address)
            raise
        self._by_short_uid[pod.short_uid] = pod
        return pod

    async def adopt(
        self, uid: str, namespace: str, address: IPv4Address, capture: CaptureSpec | None
    ) -> Attachment | None:
        pod = self._by_short_uid.get(self._short(uid))
        if pod is None or address not in pod.addresses or not pod.path.exists():
            return None
        await self._serve_names(uid, namespace, pod, capture)
        return Attachment(str(address), pod.path)

    async def open_host_loopback(self, uid: str) -> None:
        try:
            await asyncio.to_thread(open_host_loopback, self._by_short_uid[self._short(uid)])
        except OSError as error:
            raise SandboxError(f"the pod cannot reach the host's processes: {error}") from error

    async def detach(self, uid: str) -> None:
        try:
            async with asyncio.timeout(DNS_PATIENCE):
                await self._dns.remove(uid)
        except (TimeoutError, DnsError) as error:
            log.warning("DNS of pod %s: %s", uid, error or "the DNS process does not answer")
        try:
            await to_the_end(self._remove(uid))
        except (OSError, NetlinkError) as error:
            raise SandboxError(f"the pod's network cannot be removed: {error}") from error

    async def sweep(self, wanted: set[str]) -> None:
        """Remove the networks of all pods but those of the given uids."""
        keep = {self._short(uid) for uid in wanted}
        for short in [short for short in self._by_short_uid if short not in keep]:
            await self._remove(short)

    async def _remove(self, uid: str) -> None:
        pod = self._by_short_uid.get(self._short(uid))
        if pod is not None:
            await asyncio.to_thread(delete_pod_network, self._mesh.home_id, uid)
            del self._by_short_uid[pod.short_uid]
            for address in _v4(pod):
                self._pool.give_back(address)

    def _create(self, uid: str, address: IPv4Address, capture: CaptureSpec | None) -> PodNetwork:
        pod = create_pod_network(self._mesh, uid, address)
        if capture is not None:
            try:
                apply_capture(capture, pod.path)
            except BaseException:
                delete_pod_network(self._mesh.home_id, uid)
                raise
        return pod

    async def _serve_names(self, uid: str, namespace: str, pod: PodNetwork, capture: CaptureSpec | None) -> None:
        entry = PodDns(uid, str(pod.path), namespace, str(_v4(pod)[0]), capture is not None and capture.dns)
        try:
            async with asyncio.timeout(DNS_PATIENCE):
                await self._dns.add(entry)
        except TimeoutError:
            log.warning("pod %s starts before its DNS: the DNS process does not answer", uid)

    def _short(self, uid: str) -> str:
        return self._mesh.pod_netns(uid).rpartition("-")[2]


def _v4(pod: PodNetwork) -> list[IPv4Address]:
    return [address for address in pod.addresses if isinstance(address, IPv4Address)]
