"""The node agent: every pod that the API gives to this node runs here, and nothing else that is ours does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pilotfish.api.core import Service
from pilotfish.api.errors import AlreadyExists, ApiError
from pilotfish.api.kinds import POD, SERVICE
from pilotfish.api.pods import Pod
from pilotfish.client.backoff import backoff
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, Informer
from pilotfish.client.informers import Informers
from pilotfish.home import Home, Settings
from pilotfish.node import gateway, leases, nodestatus, podsandbox
from pilotfish.node.nodecontext import ControlPlane, Networks, NodeContext
from pilotfish.node.pod import PodWorker
from pilotfish.node.sandbox import PodFolder

log = logging.getLogger(__name__)

Sweep = Callable[[set[str]], Awaitable[None]]


class Agent:
    """The pods of this node. `run` keeps them; the others look them up, for logs and exec."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        client: Client,
        informers: Informers,
        networks: Networks,
        control_plane: ControlPlane,
        sweep: Sweep,
    ) -> None:
        """`sweep` removes the networks of all pods but those of the given uids."""
        self._home = home
        self._settings = settings
        self._client = client
        self._sweep = sweep
        self._events = EventRecorder(client, "kubelet", settings.node_name)
        self._pods: Informer[Pod] = informers.informer(POD, fields=f"spec.nodeName={settings.node_name}")
        self._services: Informer[Service] = informers.informer(SERVICE)
        self._workers: dict[str, PodWorker] = {}
        self._node = NodeContext(
            home, settings, client, self._events, networks, control_plane, self._services_seen_from
        )  # fmt: skip

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod that runs here, or is ending; None for any other."""
        return next((w for w in self._workers.values() if w.pod.key == (namespace, name)), None)

    async def run(self, kubelet_port: int) -> None:
        """Keep the node's pods until cancelled; pods run on afterwards. The informers are run by who made them."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.run())
            group.create_task(nodestatus.keep(self._client, self._settings, kubelet_port))
            # Before the API has told what is wanted, nothing is touched.
            await self._pods.synced()
            await self._services.synced()
            await self._remove_unwanted()
            lost = asyncio.Event()
            lost.set()
            group.create_task(self._keep_gateway(lost))
            group.create_task(leases.keep(self._home, self._client, self._pods))

            def changed(change: Change[Pod]) -> None:
                self._changed(change, group)
                if change.new is None and change.key == self._gateway_key:
                    lost.set()

            self._pods.subscribe(changed)
            await asyncio.get_running_loop().create_future()

    @property
    def _gateway_key(self) -> tuple[str, str]:
        return gateway.NAMESPACE, gateway.gateway_name(self._settings.node_name)

    def _changed(self, change: Change[Pod], group: asyncio.TaskGroup) -> None:
        pod = change.object
        uid = pod.metadata.uid
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(change.new)
        elif change.new is not None:
            worker = PodWorker(self._node, pod)
            worker.update(pod)
            self._workers[uid] = worker
            group.create_task(self._work(worker, uid), name=f"pod {pod.namespace}/{pod.name}")

    async def _work(self, worker: PodWorker, uid: str) -> None:
        try:
            await worker.run()
        finally:
            del self._workers[uid]

    async def _remove_unwanted(self) -> None:
        """What an earlier agent left of pods that the API does not have any more."""
        wanted = {pod.metadata.uid for pod in self._pods.objects.values()}
        folders = self._home.pods.iterdir() if self._home.pods.is_dir() else ()
        for folder in [PodFolder(path) for path in folders if path.name not in wanted]:
            log.info("pod %s is not wanted any more", folder.uid)
            await podsandbox.remove(self._node, folder)
        await self._sweep(wanted)

    async def _keep_gateway(self, lost: asyncio.Event) -> None:
        """Make the node gateway's pod, and make it again when somebody has deleted it."""
        while True:
            await lost.wait()
            lost.clear()
            delays = backoff()
            while True:
                try:
                    await self._client.create(POD, gateway.gateway_pod(self._settings), gateway.NAMESPACE)
                except AlreadyExists:
                    break
                except ApiError as error:
                    log.warning("the node gateway: %s", error)
                    await asyncio.sleep(next(delays))
                else:
                    break

    def _services_seen_from(self, namespace: str) -> tuple[Service, ...]:
        return tuple(
            service
            for key, service in sorted(self._services.objects.items())
            if key == ("default", "kubernetes") or key[0] == namespace
        )
