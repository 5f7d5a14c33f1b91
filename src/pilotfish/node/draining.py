"""The end of a proxy: it is told that it will end, so that its clients go elsewhere, and some time later it does.

Istio's agent does so when it is ended (pkg/envoy: Agent.terminate). A sidecar here ends after the containers that it
serves (`PodWorker._farewell`) and then has nobody to wait for; a gateway waits for its clients.
"""

from __future__ import annotations

import asyncio
import logging

from pilotfish.api.pods import Container
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.node import proxy
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.kubelet.portforward import connect

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
_HEADERS = "Host: admin\r\nContent-Length: 0\r\nConnection: close\r\n"


async def drain(pod: RunningPod, container: Container) -> None:
    """Have a pod's proxy send its clients away: a sidecar those of its workload alone. Never raises for what the proxy
    does: one that cannot be told ends all the same.
    """
    path = "/drain_listeners?graceful" if _is_gateway(container) else "/drain_listeners?inboundonly&graceful"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await connect(pod, _config(container).proxy_admin_port)
            try:
                writer.write(f"POST {path} HTTP/1.1\r\n{_HEADERS}\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except OSError as error:  # TimeoutError is one
        log.info("a proxy that ends is not drained: %s", error or "it does not answer")
        return
    if b" 200 " not in status:
        log.info("a proxy that ends is not drained: it answers %r", status.decode(errors="replace").strip())


def patience(container: Container, left: float) -> float:
    """For how many seconds a proxy goes on after it was told (ProxyConfig's terminationDrainDuration), when its pod has
    so many left: some are for the end itself.
    """
    if not _is_gateway(container):
        return 0.0
    return max(0.0, min(_config(container).termination_drain_duration, left - 1.0))


def _config(container: Container) -> ProxyConfig:
    return proxy.proxy_config({variable.name: variable.value for variable in container.env})


def _is_gateway(container: Container) -> bool:
    return proxy.parse_arguments(container.args).type == "router"
