"""One pod on its node, from the moment that the API shows it until it is gone: one task owns it all."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pilotfish.api.core import ConfigMap, Secret
from pilotfish.api.errors import ApiError, Conflict, NotFound
from pilotfish.api.kinds import CONFIG_MAP, POD, SECRET
from pilotfish.api.meta import timestamp
from pilotfish.api.pods import Container, Pod, PodStatus
from pilotfish.api.scheme import Kind
from pilotfish.client.backoff import backoff
from pilotfish.client.events import EventType
from pilotfish.node import (
    draining,
    environment,
    grpcxds,
    peer,
    podfiles,
    podrecord,
    podsandbox,
    proxy,
    runtime,
    usage,
    volumes,
)
from pilotfish.node.captureannotations import AnnotationError
from pilotfish.node.containerspec import container_spec
from pilotfish.node.environment import ConfigError, Sources
from pilotfish.node.images import Image
from pilotfish.node.keeper import DEFAULT_GRACE, Keeper, Surroundings
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.nodecontext import Attachment, NodeContext
from pilotfish.node.podrecord import ContainerMemory, PodRecord
from pilotfish.node.runtime import ContainerRecord, ContainerSpec, PodGone
from pilotfish.node.sandbox import PodFolder, SandboxError
from pilotfish.node.status import ContainerFacts, PodFacts, container_id, pod_status

log = logging.getLogger(__name__)

KILLED = 137
"""The exit code of a container whose pod supervisor died: its processes were killed with it."""


class PodWorker:
    """Owns one pod (by uid). `update` tells it what the API says; `run` returns when nothing of the pod is left."""

    def __init__(self, node: NodeContext, pod: Pod) -> None:
        self.pod = pod
        self.folder = PodFolder(node.home.pods / pod.metadata.uid)
        self._node = node
        self._keeping: Mapping[str, Keeper] = {}
        self._record = podrecord.load(self.folder) or PodRecord(
            pod.namespace, pod.name, pod.metadata.uid, timestamp(), host_network=pod.spec.host_network
        )
        self._attachment: Attachment | None = None
        self._facts = self._recalled(runtime.last_records(self.folder))
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._issued = asyncio.Event()
        self._vanished = False
        self._written: PodStatus | None = None

    @property
    def ip(self) -> str:
        """The pod's address; "" until it has one."""
        return self._record.ip

    @property
    def attachment(self) -> Attachment | None:
        """The pod's place in the network, while it has one."""
        return self._attachment

    def facts(self, container: str) -> ContainerFacts | None:
        """How a container of the pod stands."""
        return self._facts.get(container)

    def update(self, pod: Pod | None) -> None:
        """The pod as the API has it now; None when it is gone from there."""
        if pod is None:
            self._vanished = True
        else:
            self.pod = pod
        if pod is None or pod.metadata.deletion_timestamp:
            self._ending.set()

    async def run(self) -> None:
        """Keep the pod until it is deleted, and end it then as it asks for."""
        async with asyncio.TaskGroup() as group:
            living = group.create_task(self._live())
            reporting = group.create_task(self._report())
            await self._ending.wait()
            living.cancel()
            await asyncio.wait([living])
            await self._terminate()
            reporting.cancel()
        await self._remove()
        if not self._vanished:
            await self._delete()

    async def _remove(self) -> None:
        """Leave nothing of the pod on this host; what the kernel refuses now is tried again."""
        delays = backoff(0.2, 10.0)
        while True:
            try:
                await podsandbox.remove(self._node, self.folder)
            except (SandboxError, OSError) as error:
                log.warning("pod %s/%s is not removed yet: %s", self.pod.namespace, self.pod.name, error)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _live(self) -> None:
        """Have the pod's containers run. The pod's certificate is asked for at once and comes meanwhile."""
        async with asyncio.TaskGroup() as group:
            if podsandbox.certified(self.pod):
                podsandbox.prepare_directories(self.pod, self.folder)
                group.create_task(podsandbox.certify(self._node, self.pod, self.folder, self._issued))
            await self._run_in_sandboxes()

    async def _run_in_sandboxes(self) -> None:
        """Give the pod a sandbox and run its containers in it; give it another one when that dies."""
        delays = backoff(0.2, 10.0)
        while True:
            try:
                attachment = await self._enter_sandbox()
            except ConfigError as error:
                self._event("Warning", "FailedMount", f"MountVolume.SetUp failed for {error}")
                await asyncio.sleep(next(delays))
                continue
            except (SandboxError, AnnotationError, OSError) as error:
                self._event("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                await asyncio.sleep(next(delays))
                continue
            delays = backoff(0.2, 10.0)
            try:
                await self._run_containers(attachment)
            except* PodGone:
                self._event("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
                self._bury()
            finally:
                self._keeping = {}

    async def _enter_sandbox(self) -> Attachment:
        attachment = await podsandbox.find(self._node, self.pod, self.folder, self._record)
        if attachment is None:
            self._bury()
            sources = await self._sources("", *volumes.references(self.pod))
            attachment = await podsandbox.make(self._node, self.pod, self.folder, sources)
            self._record = msgspec.structs.replace(self._record, ip=attachment.ip)
            self._remember()
        self._attachment = attachment
        return attachment

    async def _run_containers(self, attachment: Attachment) -> None:
        async with contextlib.aclosing(runtime.watch(self.folder)) as changes:
            self._facts |= self._recalled(await anext(changes), only_those=True)
            keepers = self._keepers(attachment)
            self._keeping = keepers
            self._note()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_in_order(group, keepers))
                group.create_task(podsandbox.watch_network(attachment))
                if attachment.netns is not None and proxy.proxy_container(self.pod) is not None:
                    report = self._node.control_plane.report
                    group.create_task(usage.keep(self.folder.proxy, attachment.netns, report))
                await self._observe(changes, keepers)

    async def _start_in_order(self, group: asyncio.TaskGroup, keepers: Mapping[str, Keeper]) -> None:
        """Init containers one after the other, each to its end; then the others, each once the one before it is up."""
        for container in self.pod.spec.init_containers:
            keeper = keepers[container.name]
            group.create_task(keeper.keep())
            if container.restart_policy == "Always":
                await keeper.settled.wait()
                continue
            await keeper.done.wait()
            record = keeper.facts.record
            if record is None or record.exit_code != 0:
                return  # the pod has failed
        for container in self.pod.spec.containers:
            keeper = keepers[container.name]
            group.create_task(keeper.keep())
            await keeper.settled.wait()

    def _keepers(self, attachment: Attachment) -> dict[str, Keeper]:
        async def prepare(container: Container, image: Image | None, attempt: int) -> ContainerSpec:
            return await self._prepare(container, image, attempt, attachment.ip)

        around = Surroundings(
            pod=lambda: self.pod,
            folder=self.folder,
            images=self._node.home.images,
            ip=attachment.ip,
            netns=attachment.netns,
            prepare=prepare,
            event=self._container_event,
            changed=self._note,
        )
        init = {c.name: Keeper(c, around, self._facts[c.name], init=True) for c in self.pod.spec.init_containers}
        return init | {c.name: Keeper(c, around, self._facts[c.name]) for c in self.pod.spec.containers}

    async def _prepare(self, container: Container, image: Image | None, attempt: int, ip: str) -> ContainerSpec:
        """How to start a container. Raises ConfigError."""
        is_proxy = proxy.proxy_container(self.pod) == container
        sources = await self._sources(ip, *environment.references(container))
        name = podfiles.hostname(self.pod, self._node.settings.node_name)
        try:
            env = environment.resolve(self.pod, container, sources)
            if grpcxds.wanted(self.pod) and not is_proxy:
                env = {**grpcxds.ENVIRONMENT, **env}
            spec = container_spec(self.pod, container, env, image, hostname=name, attempt=attempt)
        except ValueError as error:  # a Secret that is not base64, an annotation that is no number
            raise ConfigError(str(error)) from error
        if is_proxy:
            await self._issued.wait()
            arguments = proxy.parse_arguments([environment.expand(text, spec.env) for text in container.args])
            record = proxy.describe(self.pod, container, spec.env, arguments, ip)
            if record.config.statsd_udp_address:
                record = await asyncio.to_thread(proxy.with_statsd, record)
            proxy.write_bootstrap(self.folder, record)
            spec = peer.introduced(spec, record)
        elif grpcxds.wanted(self.pod):
            await self._issued.wait()
            grpcxds.write_bootstrap(self.folder, self.pod, ip, self._node.settings)
        return spec

    async def _sources(self, ip: str, maps: Iterable[str], secrets: Iterable[str]) -> Sources:
        """What configuration may refer to, with these config maps and secrets. Raises ConfigError."""
        return Sources(
            pod_ip=ip,
            host_ip=self._node.host_ip,
            config_maps=await self._fetch(CONFIG_MAP, maps),
            secrets=await self._fetch(SECRET, secrets),
            services=self._node.services(self.pod.namespace),
        )

    async def _fetch(self, kind: Kind[Any], names: Iterable[str]) -> dict[str, Any]:
        """The objects of these names that there are. Raises ConfigError when the API does not say."""
        found: dict[str, ConfigMap | Secret] = {}
        for name in names:
            try:
                found[name] = await self._node.client.get(kind, name, self.pod.namespace)
            except NotFound:
                continue
            except ApiError as error:
                raise ConfigError(f"{kind.kind.lower()} {name!r} could not be read: {error}") from error
        return found

    async def _terminate(self) -> None:
        """End the containers as the pod asks: all at once, but sidecars after those that they serve."""
        grace = self.pod.metadata.deletion_grace_period_seconds
        if grace is None:
            grace = self.pod.spec.termination_grace_period_seconds
        seconds = DEFAULT_GRACE if grace is None else float(grace)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with contextlib.aclosing(runtime.watch(self.folder)) as changes:
                self._facts |= self._recalled(await anext(changes), only_those=True)
                keepers = self._keepers(self._attachment or Attachment(self._record.ip, None))
                self._keeping = keepers
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(self._observe(changes, keepers))
                    patience = await self._drain(keepers, seconds)
                    for those in self._farewell(keepers):
                        if any(keeper.is_proxy for keeper in those):
                            await asyncio.sleep(patience)
                        left = max(0.0, deadline - asyncio.get_running_loop().time())
                        async with asyncio.TaskGroup() as stopping:
                            for keeper in those:
                                stopping.create_task(keeper.stop(left))
                    watching.cancel()
        except* PodGone:
            self._bury()
        await self._write_status()

    async def _drain(self, keepers: Mapping[str, Keeper], left: float) -> float:
        """Tell the proxy, if one runs, that it will end; gives for how many seconds it should go on."""
        container = proxy.proxy_container(self.pod)
        if container is None or self.pod.spec.host_network or not left or not keepers[container.name].facts.running:
            return 0.0
        await draining.drain(RunningPod(self.folder, self._attachment), container)
        return draining.patience(container, left)

    def _farewell(self, keepers: Mapping[str, Keeper]) -> list[list[Keeper]]:
        """Who is ended together, in order: the containers, the sidecars last to first, the proxy that serves them all.

        Kubernetes ends the sidecars so; the proxy, a container like others to it, would be ended with the first.
        """
        apps = [keepers[c.name] for c in self.pod.spec.containers]
        sidecars = [keepers[c.name] for c in reversed(self.pod.spec.init_containers)]
        proxies = [keeper for keeper in (*apps, *sidecars) if keeper.is_proxy]
        return [
            [keeper for keeper in apps if not keeper.is_proxy],
            *([keeper] for keeper in sidecars if not keeper.is_proxy),
            proxies,
        ]

    async def _observe(
        self, changes: AsyncIterator[tuple[ContainerRecord, ...]], keepers: Mapping[str, Keeper]
    ) -> None:
        async for records in changes:
            for record in records:
                if record.name in keepers:
                    keepers[record.name].observe(record)

    def _recalled(self, records: Iterable[ContainerRecord], *, only_those: bool = False) -> dict[str, ContainerFacts]:
        """How the containers stand, from what the supervisor says (or last wrote) and what was remembered of them.

        A run that the API was told is ready stays so until a probe says otherwise: a new agent takes nothing out of
        service.
        """
        known = {record.name: record for record in records}
        told = self.pod.status.init_container_statuses + self.pod.status.container_statuses
        statuses = {status.container_id: status for status in told}
        facts = {}
        for container in (*self.pod.spec.init_containers, *self.pod.spec.containers):
            memory = self._record.containers.get(container.name, ContainerMemory())
            record = known.get(container.name)
            if record is None and only_those:
                continue
            running = record is not None and record.running
            status = statuses.get(container_id(record.id)) if record is not None and running else None
            facts[container.name] = ContainerFacts(
                waiting=None if record else ("", ""),
                record=record,
                last=memory.last,
                restarts=record.attempt if record else memory.restarts,
                image_id=memory.image_id,
                started=running and (container.startup_probe is None or bool(status and status.started)),
                ready=bool(status and status.ready),
            )
        return facts

    def _bury(self) -> None:
        """The supervisor is gone: what ran was killed, and what had prepared the pod has to be done again."""
        now = int(dt.datetime.now(dt.UTC).timestamp() * 1e9)
        init = {container.name for container in self.pod.spec.init_containers}
        for name, facts in self._current().items():
            if name in init:
                self._facts[name] = ContainerFacts()
                continue
            record = facts.record
            if record is not None and record.running:
                killed = msgspec.structs.replace(record, finished_at=now, exit_code=KILLED, signal=9)
                self._facts[name] = replace(facts, record=killed, ready=False, started=False)
            else:
                self._facts[name] = facts

    def _current(self) -> dict[str, ContainerFacts]:
        return {name: keeper.facts for name, keeper in self._keeping.items()} or self._facts

    def _note(self) -> None:
        """The facts have changed: remember what must outlive us, and have the status written."""
        self._facts = dict(self._current())
        self._remember()
        self._changed.set()

    def _remember(self) -> None:
        containers = {
            name: ContainerMemory(facts.restarts, facts.last, facts.image_id) for name, facts in self._facts.items()
        }
        record = msgspec.structs.replace(self._record, containers=containers)
        if record != self._record or not self.folder.record.exists():
            self._record = record
            podrecord.save(self.folder, record)

    async def _report(self) -> None:
        """Write the pod's status whenever it has changed, until cancelled."""
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write_status()

    async def _write_status(self) -> None:
        """Have the API show how the pod stands; tries until it does, or the pod is not there any more."""
        delays = backoff()
        while not self._vanished:
            facts = PodFacts(self._record.ip, self._node.host_ip, self._record.started_at, self._facts)
            status = pod_status(self.pod, facts, dt.datetime.now(dt.UTC))
            if status == self._written:
                return
            body = msgspec.to_builtins(status)
            patch = {
                "metadata": {"uid": self.pod.metadata.uid},
                "status": {"reason": None, "message": None, "podIP": None, "podIPs": None, **body},
            }
            try:
                written = await self._node.client.patch(
                    POD, self.pod.name, self.pod.namespace, patch, subresource="status"
                )
            except (NotFound, Conflict):
                return  # it was deleted, or another has its name by now; the watch will say so
            except ApiError as error:
                log.info("status of pod %s/%s: %s", self.pod.namespace, self.pod.name, error)
                await asyncio.sleep(next(delays))
                continue
            self._written = status
            # The next status goes by the times of these conditions, before the watch brings them.
            self.pod = msgspec.structs.replace(self.pod, status=written.status)
            return

    async def _delete(self) -> None:
        """Take the pod out of the API: nothing of it is left here."""
        delays = backoff()
        while not self._vanished:
            try:
                await self._node.client.delete(
                    POD, self.pod.name, self.pod.namespace, uid=self.pod.metadata.uid, grace_period_seconds=0
                )
            except (NotFound, Conflict):
                return
            except ApiError as error:
                log.info("pod %s/%s: %s", self.pod.namespace, self.pod.name, error)
                await asyncio.sleep(next(delays))
            else:
                return

    def _event(self, type: EventType, reason: str, message: str) -> None:
        self._node.events.event(self.pod, type, reason, message)

    def _container_event(self, type: EventType, reason: str, message: str, container: str) -> None:
        init = any(c.name == container for c in self.pod.spec.init_containers)
        path = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        self._node.events.event(self.pod, type, reason, message, field_path=path)
