"""`pilotfish node`: the node agent put together, with the DNS process that it keeps running."""

from __future__ import annotations

import asyncio

import grpc

from pilotfish.cli.process import DNS, terminated
from pilotfish.cli.supervise import keep
from pilotfish.client.http import HTTPClient
from pilotfish.client.informers import Informers
from pilotfish.client.kubeconfig import read_kubeconfig
from pilotfish.home import Home
from pilotfish.node.agent import Agent
from pilotfish.node.controlplane import ControlPlane
from pilotfish.node.dns.control import DnsControl
from pilotfish.node.inotify import raise_limit
from pilotfish.node.kubelet.app import build_app
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.kubelet.server import serve
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network
from pilotfish.node.networks import HostNetworks
from pilotfish.node.servicekeeper import keep_services
from pilotfish.pki.files import Files
from pilotfish.serving import Listener, listen

KUBELET_PORT = 10250


async def node(home: Home) -> None:
    """Run the node agent of a home until SIGTERM; pods, Envoys and the DNS process run on."""
    settings, files, mesh = home.settings(), Files(home.pki), MeshNetwork.of(home)
    await asyncio.to_thread(ensure_host_network, mesh)
    await asyncio.to_thread(raise_limit, home.run / "inotify")
    client = HTTPClient(read_kubeconfig(home.node_kubeconfig), user_agent="pilotfish-node")
    informers = Informers(client)
    names = DnsControl(home.dns_socket)
    networks = await HostNetworks.of(mesh, names)
    pair = files.node.load()
    credentials = grpc.ssl_channel_credentials(files.ca.read_bytes(), pair.key, pair.certificate)

    control_plane = ControlPlane(f"127.0.0.1:{settings.xds_port}", credentials)
    agent = Agent(home, settings, client, informers, networks, control_plane, networks.sweep)
    kubelet = Listener(
        listen(settings.gateway_ip, KUBELET_PORT), files.node_server.certificate, files.node_server.key, files.ca
    )
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep(home, DNS), name="dns process"),
            group.create_task(names.run(), name="dns control"),
            group.create_task(keep_services(mesh, informers), name="services"),
            group.create_task(agent.run(KUBELET_PORT), name="agent"),
            group.create_task(serve(build_app(_Pods(agent)), kubelet), name="kubelet"),
            group.create_task(informers.run(), name="informers"),
        ]
        await terminated()
        for task in tasks:
            task.cancel()
    await control_plane.close()
    await client.close()


class _Pods:
    """The agent's pods, as the kubelet's API asks for them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def find(self, namespace: str, name: str) -> RunningPod | None:
        worker = self._agent.find(namespace, name)
        if worker is None:
            return None
        return RunningPod(worker.folder, worker.attachment)
