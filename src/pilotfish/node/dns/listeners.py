"""Sockets where the pods are: opened inside their network namespaces, served from here, closed when a pod is gone.

A socket keeps its namespace alive. A pod whose namespace's name has vanished, or belongs to another namespace by now,
is therefore let go without waiting for the node agent to say so.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pilotfish.node import netns
from pilotfish.node.dns.control import PodDns
from pilotfish.node.dns.responder import Responder, View
from pilotfish.node.dns.tcp import TcpServer
from pilotfish.node.dns.udp import UdpServer

log = logging.getLogger(__name__)

CAPTURE_ADDRESS, CAPTURE_PORT = "127.0.0.1", 15053
"""Where the capture rules of a pod send its queries (Istio's agent listens there too)."""
GATEWAY_PORT = 53
_SWEEP_SECONDS = 2.0
_RETRY_SECONDS = 5.0
_RECEIVE_BUFFER = 1 << 20
_BACKLOG = 128
_SO_RCVBUFFORCE = 33
_IP_FREEBIND = 15


@dataclass(frozen=True, slots=True)
class Sockets:
    """One place's pair of sockets."""

    udp: socket.socket
    tcp: socket.socket


@dataclass(frozen=True, slots=True)
class _OpenPod:
    pod: PodDns
    inode: tuple[int, int]
    sockets: Sockets


def open_sockets(address: str, port: int) -> Sockets:
    """A UDP and a listening TCP socket. The address need not be on a link yet. Raises OSError."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (udp, tcp):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            sock.bind((address, port))
        tcp.listen(_BACKLOG)
    except BaseException:
        udp.close()
        tcp.close()
        raise
    return Sockets(udp, tcp)


class Listeners:
    """The pods that are served, by uid."""

    def __init__(self, responder: Responder, udp: UdpServer, tcp: TcpServer) -> None:
        self._responder = responder
        self._udp = udp
        self._tcp = tcp
        self._pods: dict[str, _OpenPod] = {}

    @property
    def pods(self) -> tuple[str, ...]:
        """The uids of the pods that are served."""
        return tuple(self._pods)

    def sync(self, pods: Iterable[PodDns]) -> dict[str, str]:
        """Serve exactly these pods; gives what went wrong, by uid."""
        wanted = {pod.uid: pod for pod in pods}
        self.remove([uid for uid in self._pods if uid not in wanted])
        return self.add(wanted.values())

    def add(self, pods: Iterable[PodDns]) -> dict[str, str]:
        """Serve these pods too; sockets listen when this returns. Gives what went wrong, by uid."""
        failed = {}
        for pod in pods:
            try:
                self._open(pod)
            except OSError as error:
                failed[pod.uid] = _explain(pod, error)
                log.error("no DNS for pod %s: %s", pod.uid, failed[pod.uid])
        return failed

    def _open(self, pod: PodDns) -> None:
        served = self._pods.get(pod.uid)
        inode = _inode(Path(pod.netns)) if pod.capture else None
        if served and (served.pod, served.inode) == (pod, inode):
            return
        if served:
            self.remove([pod.uid])
        if inode is None:
            return
        sockets = netns.run_in(Path(pod.netns), lambda: open_sockets(CAPTURE_ADDRESS, CAPTURE_PORT))
        view = self._responder.pod_view(pod.namespace, pod.ip) if pod.ip else self._responder.view(pod.namespace)
        self._serve(sockets, view)
        self._pods[pod.uid] = _OpenPod(pod, inode, sockets)

    def _serve(self, sockets: Sockets, view: View) -> None:
        self._udp.add(sockets.udp, view)
        self._tcp.add(sockets.tcp, view)

    def remove(self, uids: Iterable[str]) -> None:
        """Serve these pods no longer; one that is not served is no error."""
        for uid in uids:
            if served := self._pods.pop(uid, None):
                self._udp.remove(served.sockets.udp)
                self._tcp.remove(served.sockets.tcp)
                self._responder.forget_pod(served.pod.ip)

    async def sweep(self) -> None:
        """Let pods go whose namespaces are gone, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            gone = [uid for uid, served in self._pods.items() if not _is_there(served)]
            for uid in gone:
                log.info("the network namespace of pod %s is gone; its sockets are closed", uid)
            self.remove(gone)

    async def open_gateway(self, address: str, port: int = GATEWAY_PORT) -> None:
        """Serve clients without a sidecar at the node's own address; tries again while somebody else is there."""
        complained = False
        while True:
            try:
                sockets = open_sockets(address, port)
            except OSError as error:
                if not complained:
                    log.error("pods without a sidecar have no DNS: %s:%d: %s", address, port, error.strerror)
                    complained = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._serve(sockets, self._responder.gateway_view())
            log.info("pods without a sidecar are answered at %s:%d", address, port)
            return


def _inode(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _is_there(served: _OpenPod) -> bool:
    try:
        return _inode(Path(served.pod.netns)) == served.inode
    except OSError:
        return False


def _explain(pod: PodDns, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"its network namespace {pod.netns} does not exist"
        case errno.EADDRINUSE:
            return f"something in the pod listens on {CAPTURE_ADDRESS}:{CAPTURE_PORT} already"
        case errno.EMFILE | errno.ENFILE:
            return f"too many open files ({error.strerror}); raise the limit of the DNS process (ulimit -n)"
        case errno.EPERM:
            return f"entering {pod.netns} needs root"
        case _:
            return f"{pod.netns}: {error.strerror or error}"
