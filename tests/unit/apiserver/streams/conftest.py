"""An API server and a node's API with real certificates between them, and one real pod behind both."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from pyroute2 import IPRoute

from pilotfish import serving
from pilotfish.api.kinds import SCHEME
from pilotfish.apiserver import server as apiserver
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.streams.nodes import Nodes
from pilotfish.apiserver.streams.routes import stream_routes
from pilotfish.home import Home, Settings
from pilotfish.node import netns, runtime, sandbox
from pilotfish.node.kubelet import server as kubelet
from pilotfish.node.kubelet.app import build_app as build_node_app
from pilotfish.node.kubelet.pods import RunningPod
from pilotfish.node.nodecontext import Attachment
from pilotfish.node.runtime import ContainerSpec
from pilotfish.node.sandbox import PodFolder, Sandbox
from pilotfish.pki.files import Files
from pilotfish.pki.provision import provision
from pilotfish.store.memory import MemoryStore
from pilotfish.store.store import Key

ECHO = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.path.encode() * (200_000 if self.path == "/big" else 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, form, *args):
        print(form % args, flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler)
print("Server started.", flush=True)
print("no error", file=sys.stderr, flush=True)
server.serve_forever()
"""
COUNTER = 'i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.05; done'


class OnePod:
    """The node's pods: default/web alone."""

    def __init__(self, pod: RunningPod) -> None:
        self._pod = pod

    def find(self, namespace: str, name: str) -> RunningPod | None:
        return self._pod if (namespace, name) == ("default", "web") else None


@dataclass(frozen=True)
class StreamMesh:
    """What a test needs: kubectl, and the way into the servers' loop."""

    folder: Path
    pod: PodFolder
    loop: asyncio.AbstractEventLoop
    resources: Resources
    files: Files
    api_port: int
    node_port: int
    stop: Callable[[], None]
    """Ends both servers, and returns when they have ended. Raises what ended them before."""

    def kubectl(self, binary: str, *arguments: str) -> list[str]:
        return [binary, "--kubeconfig", str(self.folder / "kubeconfig"), f"--cache-dir={self.folder}/cache", *arguments]

    def run(
        self, binary: str, *arguments: str, stdin: bytes | None = None, timeout: float = 20
    ) -> subprocess.CompletedProcess[bytes]:
        """kubectl, to its end."""
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            self.kubectl(binary, *arguments),
            capture_output=True,
            timeout=timeout,
            check=False,
            env=_ENVIRONMENT,
            **source,
        )

    def popen(self, binary: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.kubectl(binary, *arguments), env=_ENVIRONMENT, **options)

    def do(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine in the servers' loop."""

        async def wrapped() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(10)


_ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def stream_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreamMesh]:
    folder = tmp_path_factory.mktemp("streams")
    home = Home(folder / "home")
    settings = Settings(
        node_name="node-1", api_port=0, xds_port=0, pod_cidr="127.0.0.0/24", service_cidr="10.96.0.0/20"
    )
    files = provision(home, settings)
    pod = PodFolder(folder / "pod")
    pod.path.mkdir()
    name = f"pf-test-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        path = netns.create(name)
        stack.callback(netns.delete, name)
        netns.run_in(path, _loopback_up)
        asyncio.run(sandbox.launch(pod, Sandbox("web", str(path), ())))
        stack.callback(sandbox.stop_supervisors, [pod])
        asyncio.run(_start_containers(pod))
        loop = asyncio.new_event_loop()
        mesh = _serve(
            stack, loop, StreamMesh(folder, pod, loop, Resources(MemoryStore(), SCHEME), files, 0, 0, loop.close), path
        )
        yield mesh


def _loopback_up() -> None:
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


async def _start_containers(pod: PodFolder) -> None:
    def spec(name: str, *argv: str, **more: Any) -> ContainerSpec:
        environment = {"PATH": os.environ["PATH"], "GREETING": "hello"}
        return ContainerSpec(
            argv=argv, env=environment, name=name, id=name, attempt=0, log=f"logs/{name}/0.log", **more
        )

    await runtime.start(pod, spec("app", sys.executable, "-u", "-c", ECHO))
    await runtime.start(pod, spec("counter", "sh", "-c", COUNTER))
    await runtime.start(pod, spec("cat", "cat", stdin=True))


def _serve(stack: ExitStack, loop: asyncio.AbstractEventLoop, mesh: StreamMesh, path: Path) -> StreamMesh:
    api_socket, node_socket = serving.listen("127.0.0.1", 0), serving.listen("127.0.0.1", 0)
    api_port, node_port = api_socket.getsockname()[1], node_socket.getsockname()[1]
    files, resources = mesh.files, mesh.resources
    ready = threading.Event()

    async def run() -> None:
        await _store(resources, node_port)
        client = files.api_server_client
        nodes = Nodes(files.ca, client.certificate, client.key)
        app = apiserver.build_app(resources, routes=stream_routes(resources, nodes))
        api = serving.Listener(api_socket, files.api_server.certificate, files.api_server.key, files.ca)
        started = asyncio.Event()
        node = serving.Listener(node_socket, files.node_server.certificate, files.node_server.key, files.ca)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                kubelet.serve(build_node_app(OnePod(RunningPod(mesh.pod, Attachment("127.0.0.1", path)))), node)
            )
            group.create_task(apiserver.serve(app, api, started))
            await started.wait()
            ready.set()

    running = loop.create_task(run())

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait([running]))

    thread = threading.Thread(target=work)
    thread.start()

    def stop() -> None:
        if loop.is_closed():
            return
        early = running.done()
        loop.call_soon_threadsafe(running.cancel)
        thread.join(15)
        loop.close()
        if early:
            running.result()  # raises what ended the servers

    stack.callback(stop)
    _write_kubeconfig(mesh.folder / "kubeconfig", api_port, files)
    assert ready.wait(10), "the servers did not start"
    return StreamMesh(mesh.folder, mesh.pod, loop, resources, files, api_port, node_port, stop)


async def _store(resources: Resources, node_port: int) -> None:
    node = {
        "metadata": {"name": "node-1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": node_port}},
        },
    }
    spec = {"nodeName": "node-1", "containers": [{"name": name, "image": "x"} for name in ("app", "counter", "cat")]}
    web = {
        "metadata": {"name": "web", "namespace": "default", "uid": "u-web", "labels": {"app": "web"}},
        "spec": {**spec, "containers": [*spec["containers"][:2], {"name": "cat", "image": "x", "stdin": True}]},  # type: ignore[index]
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": n, "state": {"running": {}}} for n in ("app", "counter", "cat")],
        },
    }
    waiting = {
        "metadata": {"name": "waiting", "namespace": "default", "uid": "u-waiting"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "x"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}],
        },
    }
    lost = {
        "metadata": {"name": "lost", "namespace": "default", "uid": "u-lost"},
        "spec": {"nodeName": "node-2", "containers": [{"name": "app", "image": "x"}]},
        "status": {"phase": "Running"},
    }
    away = {
        "metadata": {"name": "node-2"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
        },
    }
    for resource, kind, document in (
        ("nodes", "Node", node),
        ("nodes", "Node", away),
        ("pods", "Pod", web),
        ("pods", "Pod", waiting),
        ("pods", "Pod", lost),
    ):
        await _put(resources, resource, {"apiVersion": "v1", "kind": kind, **document})


async def _put(resources: Resources, resource: str, document: dict[str, Any]) -> None:
    about = document["metadata"]
    key = Key(resource, about.get("namespace", ""), about["name"])

    def body(revision: int) -> bytes:
        return msgspec.json.encode({**document, "metadata": {**about, "resourceVersion": str(revision)}})

    await resources.store.create(key, body)


def _write_kubeconfig(path: Path, port: int, files: Files) -> None:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(files.ca)}
    user = {"client-certificate": str(files.admin.certificate), "client-key": str(files.admin.key)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition)` polls until it holds; fails after ten seconds."""
    return _wait_for


def _wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = threading.Event()
    timer = threading.Timer(seconds, deadline.set)
    timer.start()
    try:
        while not condition():
            assert not deadline.wait(0.02), "it did not come to be in time"
    finally:
        timer.cancel()


@pytest.fixture
def ended() -> Iterator[Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]]]:
    """Registers processes that are to be gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def register(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        started.append(process)
        return process

    yield register
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
