"""The agent with a real API in the same process, real namespaces and processes, and a DNS process that is a fake."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilotfish.api.core import Event
from pilotfish.api.errors import NotFound, ServiceUnavailable
from pilotfish.api.kinds import CONFIG_MAP, EVENT, NODE, POD, SCHEME, SERVICE
from pilotfish.api.pods import ContainerStatus, Pod
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.client.informers import Informers
from pilotfish.home import Home, Settings
from pilotfish.node import images, netns, podsandbox, runtime, sandbox
from pilotfish.node.agent import Agent
from pilotfish.node.dns.control import PodDns
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network
from pilotfish.node.networks import HostNetworks
from pilotfish.node.podnetwork import PodNetwork, list_pod_networks
from pilotfish.node.proxy import Certificate
from pilotfish.node.sandbox import PodFolder
from pilotfish.node.usage import Load, Node
from pilotfish.store.memory import MemoryStore

pytestmark = pytest.mark.root


class FakeDns:
    """Notes which pods it was told of."""

    def __init__(self) -> None:
        self.pods: dict[str, PodDns] = {}

    async def add(self, pod: PodDns) -> None:
        self.pods[pod.uid] = pod

    async def remove(self, uid: str) -> None:
        self.pods.pop(uid, None)


class NoControlPlane:
    async def certificate(self, identity: str) -> Certificate:
        raise ServiceUnavailable(f"there is no control plane to certify {identity}")

    async def report(self, node: Node, loads: Mapping[str, Load]) -> float:
        raise ServiceUnavailable(f"there is no control plane to hear of {node}")


@dataclasses.dataclass
class World:
    """A node and its API. `running` is the agent in one of its lives."""

    home: Home
    mesh: MeshNetwork
    client: LocalClient
    dns: FakeDns

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        informers = Informers(self.client)
        networks = await HostNetworks.of(self.mesh, self.dns)
        settings = self.home.settings()
        agent = Agent(self.home, settings, self.client, informers, networks, NoControlPlane(), networks.sweep)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informers.run()), group.create_task(agent.run(10250))]
            yield agent
            for task in tasks:
                task.cancel()

    async def create(self, name: str, *scripts: str, **spec: Any) -> Pod:
        containers = [{"name": f"c{i}", "image": "x", "command": ["sh", "-c", s]} for i, s in enumerate(scripts)]
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"nodeName": "node-1", "containers": containers, "terminationGracePeriodSeconds": 5, **spec},
        }
        return await self.client.create(POD, document, "default")

    async def until(self, name: str, holds: Callable[[Pod], bool]) -> Pod:
        async with asyncio.timeout(15):
            while not holds(pod := await self.client.get(POD, name, "default")):
                await asyncio.sleep(0.01)
        return pod

    async def gone(self, name: str) -> None:
        async with asyncio.timeout(15):
            with contextlib.suppress(NotFound):
                while await self.client.get(POD, name, "default"):
                    await asyncio.sleep(0.01)

    async def event(self, reason: str, text: str = "") -> Event:
        async with asyncio.timeout(10):
            while True:
                for event in (await self.client.list(EVENT)).items:
                    if event.reason == reason and text in event.message:
                        return event
                await asyncio.sleep(0.01)

    async def has_logged(self, pod: Pod, *lines: str) -> None:
        """Wait until a pod's container has written exactly these lines."""
        try:
            async with asyncio.timeout(5):
                while self.log(pod) != list(lines):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            assert self.log(pod) == list(lines)

    def log(self, pod: Pod, container: str = "c0", attempt: int = 0) -> list[str]:
        path = PodFolder(self.home.pods / pod.metadata.uid).log(container, attempt)
        return [line.split(" ", 3)[3] for line in path.read_text().splitlines()]


Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(
    tmp_path: Path, mesh_network: MeshNetwork, on_throwaway_host: Callable[[Callable[[], None]], None]
) -> Iterator[Callable[[Scenario], None]]:
    """Plays a scenario on a host that is thrown away; nothing of its pods is left."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.save_settings(
        Settings(
            node_name="node-1",
            api_port=1,
            xds_port=1,
            pod_cidr=str(mesh_network.pod_cidr),
            service_cidr=str(mesh_network.service_cidr),
        )
    )

    def run(scenario: Scenario) -> None:
        async def body() -> None:
            resources = Resources(MemoryStore(), SCHEME)
            await ensure_default_objects(resources)
            await scenario(World(home, mesh_network, LocalClient(resources), FakeDns()))

        def on_host() -> None:
            ensure_host_network(mesh_network)
            asyncio.run(body())

        on_throwaway_host(on_host)

    yield run
    if home.pods.is_dir():
        sandbox.stop_supervisors(PodFolder(path) for path in home.pods.iterdir())


async def networks_of(world: World) -> list[PodNetwork]:
    return await asyncio.to_thread(list_pod_networks, world.mesh.home_id)


def container(pod: Pod, name: str = "c0") -> ContainerStatus:
    return next(
        (s for s in (*pod.status.init_container_statuses, *pod.status.container_statuses) if s.name == name),
        ContainerStatus(name=name),
    )


def waits_for(reason: str, name: str = "c0") -> Callable[[Pod], bool]:
    def holds(pod: Pod) -> bool:
        waiting = container(pod, name).state.waiting
        return waiting is not None and waiting.reason == reason

    return holds


def test_a_pod_runs_is_told_of_and_leaves_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            pod = await world.create(
                "web", "hostname; cat /etc/resolv.conf; trap 'exit 0' TERM; while :; do sleep 0.05; done"
            )
            pod = await world.until("web", lambda p: p.ready)
            assert pod.status.phase == "Running"
            assert pod.status.pod_ip.startswith("10.77.")
            assert pod.status.host_ip == "10.77.0.1"
            state = container(pod)
            assert state.ready and state.started and state.restart_count == 0
            assert state.state.running is not None and state.container_id.startswith("pilotfish://")
            assert {c.type for c in pod.status.conditions} >= {
                "PodReadyToStartContainers",
                "Initialized",
                "Ready",
                "ContainersReady",
                "PodScheduled",
            }
            assert world.dns.pods[pod.metadata.uid].ip == pod.status.pod_ip
            search = "search default.svc.cluster.local svc.cluster.local cluster.local"
            await world.has_logged(pod, "web", search, "nameserver 10.77.0.1", "options ndots:5")
            for reason in ("Pulled", "Created", "Started"):
                assert (await world.event(reason)).involved_object.field_path == "spec.containers{c0}"
            await world.client.delete(POD, "web", "default")
            await world.gone("web")
            await world.event("Killing", "Stopping container c0")
            assert world.dns.pods == {}
            assert await networks_of(world) == []
            assert not (world.home.pods / pod.metadata.uid).exists()
            node = await world.client.get(NODE, "node-1")
            assert node.address() == "10.77.0.1"

    play(scenario)


def test_a_container_that_ends_is_started_again_at_once_and_then_after_a_while(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            await world.create("crash", "echo run; exit 3")
            pod = await world.until("crash", waits_for("CrashLoopBackOff"))
            state = container(pod)
            assert state.restart_count == 1
            assert state.last_state.terminated is not None
            assert (state.last_state.terminated.exit_code, state.last_state.terminated.reason) == (3, "Error")
            assert "back-off 10s" in (state.state.waiting.message if state.state.waiting else "")
            assert pod.status.phase == "Running"
            assert not pod.ready
            assert world.log(pod, attempt=1) == ["run"]
            await world.event("BackOff", "Back-off restarting failed container=c0")
            await world.client.delete(POD, "crash", "default")
            await world.gone("crash")

    play(scenario)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_a_pod_that_is_never_restarted_ends(play: Callable[[Scenario], None], code: int, phase: str) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            await world.create("job", f"exit {code}", "true", restartPolicy="Never")
            pod = await world.until("job", lambda p: p.status.phase in ("Succeeded", "Failed"))
            assert pod.status.phase == phase
            ended = container(pod).state.terminated
            assert ended is not None and ended.exit_code == code

    play(scenario)


def test_an_unknown_image_is_waited_for_and_the_event_says_what_to_do(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            spec = [{"name": "c0", "image": "registry.example/shop/web:2", "args": ["later"]}]
            await world.create("web", containers=spec)
            await world.until("web", waits_for("ErrImagePull"))
            await world.event("Failed", "run: pilotfish image add registry.example/shop/web:2 -- COMMAND")
            await world.until("web", waits_for("ImagePullBackOff"))
            entry = images.Image(
                name="registry.example/shop/web:2",
                command=("sh", "-c", 'pwd; echo "$A $1"; sleep 1000', "x"),
                workdir="/usr",
                env={"A": "a"},
            )
            images.add(world.home.images, entry)
            pod = await world.until("web", lambda p: p.ready)
            assert container(pod).image_id.startswith("sha256:")
            await world.has_logged(pod, "/usr", "a later")

    play(scenario)


def test_the_environment_comes_from_where_the_pod_says(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        ports = [{"name": "web", "port": 80}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-svc"}, "spec": {"ports": ports}}
        await world.client.create(SERVICE, service, "default")
        async with world.running():
            spec = {
                "name": "c0",
                "image": "x",
                "command": ["sh", "-c", "echo $(A) $B $NAME $IP ${MY_SVC_SERVICE_PORT_WEB:-none}; sleep 1000"],
                "env": [
                    {"name": "A", "value": "one"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "b"}}},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
            }
            await world.create("env", containers=[spec])
            pod = await world.until("env", waits_for("CreateContainerConfigError"))
            await world.event("Failed", 'Error: configmap "conf" not found')
            conf = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"b": "two"}}
            await world.client.create(CONFIG_MAP, conf, "default")
            pod = await world.until("env", lambda p: p.ready)
            svc = await world.client.get(SERVICE, "my-svc", "default")
            port = "80" if svc.spec.cluster_ip else "none"
            await world.has_logged(pod, f"one two env {pod.status.pod_ip} {port}")

    play(scenario)


def test_volumes_are_mounted_for_the_pod_alone(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            spec = {
                "name": "c0",
                "image": "x",
                "command": [
                    "sh",
                    "-c",
                    "cd /run; cat /etc/pilotfish-test/a.conf info/name; echo; touch scratch/x; ls scratch; sleep 1000",
                ],
                "volumeMounts": [
                    {"name": "conf", "mountPath": "/etc/pilotfish-test"},
                    {"name": "info", "mountPath": "/run/info"},
                    {"name": "scratch", "mountPath": "/run/scratch"},
                ],
            }
            volumes = [
                {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "a", "path": "a.conf"}]}},
                {
                    "name": "info",
                    "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]},
                },
                {"name": "scratch", "emptyDir": {}},
            ]
            await world.create("vol", containers=[spec], volumes=volumes)
            await world.event("FailedMount", 'volume "conf": configmap "conf" not found')
            conf = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a": "one\n"}}
            await world.client.create(CONFIG_MAP, conf, "default")
            pod = await world.until("vol", lambda p: p.ready)
            await world.has_logged(pod, "one", "vol", "x")
            assert not os.access("/etc/pilotfish-test", os.F_OK)
            await world.create(
                "bad",
                containers=[{**spec, "volumeMounts": [{"name": "v", "mountPath": "/run/v"}]}],
                volumes=[{"name": "v", "nfs": {}}],
            )
            await world.event("FailedMount", 'volume "v" is of a kind that is not offered (nfs)')

    play(scenario)


def test_init_containers_run_first_and_in_order(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            init = [
                {"name": "i0", "image": "x", "command": ["sh", "-c", "sleep 0.2; date +%s%N"]},
                {"name": "i1", "image": "x", "command": ["date", "+%s%N"]},
            ]
            await world.create("init", "date +%s%N; sleep 1000", initContainers=init)
            pod = await world.until("init", lambda p: p.ready)
            # A container without a readiness probe is ready before it has said anything.
            async with asyncio.timeout(10):
                while not world.log(pod, "c0"):
                    await asyncio.sleep(0.01)
            moments = [int(world.log(pod, name)[0]) for name in ("i0", "i1", "c0")]
            assert moments == sorted(moments)
            assert [s.ready for s in pod.status.init_container_statuses] == [True, True]
            for name, path in (("i0", "spec.initContainers{i0}"), ("c0", "spec.containers{c0}")):
                started = await world.event("Started", f"Started container {name}")
                assert (started.involved_object.field_path, started.source.component) == (path, "kubelet")

    play(scenario)


def test_native_sidecars_start_before_the_containers_and_end_after_them(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        diary = world.home.pods.parent / "diary"

        def sidecar(name: str) -> dict[str, Any]:
            return {"name": name, "image": "x", "restartPolicy": "Always", "command": ["sh", "-c", writes(name)]}

        def writes(name: str) -> str:
            bye = f"sleep 0.1; echo {name} ends >> {diary}; exit 0"
            return f"trap '{bye}' TERM; echo {name} starts >> {diary}; while :; do sleep 0.02; done"

        async with world.running():
            await world.create("native", writes("app"), initContainers=[sidecar("one"), sidecar("two")])
            pod = await world.until("native", lambda p: p.ready)
            assert pod.status.phase == "Running"
            await world.until("native", lambda _: diary.exists() and diary.read_text().count("starts") == 3)
            records = runtime.last_records(PodFolder(world.home.pods / pod.metadata.uid))
            assert [r.name for r in sorted(records, key=lambda r: r.started_at)] == ["one", "two", "c0"]
            await world.client.delete(POD, "native", "default")
            await world.gone("native")
        assert diary.read_text().splitlines()[3:] == ["app ends", "two ends", "one ends"]

    play(scenario)


def test_probes_decide_who_is_ready_and_who_is_started_again(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            serve = (
                "import http.server as h, os; os.chdir('/proc/self/net'); "
                "h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
            )
            web = {
                "name": "c0",
                "image": "x",
                "command": ["python3", "-c", serve],
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/tcp", "port": "http"}, "periodSeconds": 60},
                "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 60},
            }
            sick = {
                "name": "c1",
                "image": "x",
                "command": ["sleep", "1000"],
                "readinessProbe": {"httpGet": {"port": 9999}, "periodSeconds": 1, "failureThreshold": 1},
                "livenessProbe": {
                    "exec": {"command": ["sh", "-c", "echo ill; false"]},
                    "initialDelaySeconds": 2,
                    "periodSeconds": 1,
                    "failureThreshold": 1,
                },
            }
            await world.create("web", containers=[web, sick])
            pod = await world.until("web", lambda p: container(p).ready and container(p, "c1").restart_count == 1)
            assert not container(pod, "c1").ready
            assert not pod.ready
            await world.event("Unhealthy", "Liveness probe failed: ill")
            await world.event("Unhealthy", "connect: connection refused")
            await world.event("Killing", "failed liveness probe")

    play(scenario)


def test_hooks_run_and_a_stubborn_container_is_killed(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            first = {
                "name": "c0",
                "image": "x",
                "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"],
                "lifecycle": {
                    "postStart": {"exec": {"command": ["sh", "-c", "sleep 0.3; echo started > /proc/1/fd/0 || true"]}},
                    "preStop": {"exec": {"command": ["sh", "-c", "exit 7"]}},
                },
            }
            second = {"name": "c1", "image": "x", "command": ["sleep", "1000"]}
            await world.create("hooks", containers=[first, second], terminationGracePeriodSeconds=1)
            pod = await world.until("hooks", lambda p: p.ready)
            records = {r.name: r for r in runtime.last_records(PodFolder(world.home.pods / pod.metadata.uid))}
            assert records["c1"].started_at - records["c0"].started_at > 0.3e9
            await world.client.delete(POD, "hooks", "default")
            await world.gone("hooks")
            await world.event("FailedPreStopHook", "command exited with 7")

    play(scenario)


def test_an_agent_that_comes_back_finds_its_pods_and_removes_what_is_not_wanted(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            await world.create("stays", "while :; do date; sleep 0.02; done")
            await world.create("goes", "sleep 1000")
            stays = await world.until("stays", lambda p: p.ready)
            goes = await world.until("goes", lambda p: p.ready)
        folder = PodFolder(world.home.pods / stays.metadata.uid)
        before = sandbox.supervisor_pid(folder)
        assert before is not None
        await world.client.delete(POD, "goes", "default", grace_period_seconds=0)
        world.dns.pods.clear()
        async with world.running():
            async with asyncio.timeout(10):
                while (world.home.pods / goes.metadata.uid).exists() or len(await networks_of(world)) > 1:
                    await asyncio.sleep(0.01)
                while set(world.dns.pods) != {stays.metadata.uid}:
                    await asyncio.sleep(0.01)
            assert sandbox.supervisor_pid(folder) == before
            again = await world.until("stays", lambda p: p.ready)
            assert container(again).container_id == container(stays).container_id
            assert container(again).restart_count == 0
            assert again.status.pod_ip == stays.status.pod_ip
            await world.client.delete(POD, "stays", "default")
            await world.gone("stays")
        assert sandbox.supervisor_pid(folder) is None

    play(scenario)


def test_a_pod_whose_supervisor_dies_gets_another(play: Callable[[Scenario], None]) -> None:
    async def scenario(world: World) -> None:
        async with world.running():
            await world.create("web", "sleep 1000")
            pod = await world.until("web", lambda p: p.ready)
            folder = PodFolder(world.home.pods / pod.metadata.uid)
            sandbox.stop_supervisors([folder])
            pod = await world.until("web", lambda p: p.ready and container(p).restart_count == 1)
            ended = container(pod).last_state.terminated
            assert ended is not None and ended.exit_code in (137, 143)
            assert sandbox.supervisor_pid(folder) is not None
            await world.event("SandboxChanged")
            assert netns.names(f"pf-{world.mesh.home_id}-") != []

    play(scenario)


def test_a_pod_whose_network_was_taken_away_gets_another(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podsandbox, "NETWORK_CHECK_SECONDS", 0.05)

    async def scenario(world: World) -> None:
        async with world.running():
            await world.create("web", "sleep 1000")
            pod = await world.until("web", lambda p: p.ready)
            netns.delete(world.mesh.pod_netns(pod.metadata.uid))
            pod = await world.until("web", lambda p: p.ready and container(p).restart_count == 1)
            await world.event("SandboxChanged")
            assert netns.path_of(world.mesh.pod_netns(pod.metadata.uid)).exists()

    play(scenario)
