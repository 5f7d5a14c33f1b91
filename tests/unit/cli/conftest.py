"""A home with a running API server, in a thread of its own, whose pods' logs and commands are made up; and the CLI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pilotfish.api.kinds import SCHEME
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver.allocation import service_allocation
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.server import build_app, serve
from pilotfish.cli.main import main
from pilotfish.client.kubeconfig import Kubeconfig, write_kubeconfig
from pilotfish.client.stream import Channel
from pilotfish.client.streamserver import AcceptedStream, choose_protocol
from pilotfish.home import Home, Settings
from pilotfish.pki.provision import provision
from pilotfish.serving import Listener, listen
from pilotfish.store.memory import MemoryStore

POD_PATH = "/api/v1/namespaces/{namespace}/pods/{name}"


@dataclass
class FakePods:
    """The streams of pods that run nowhere: logs from `written`, commands as processes of this machine."""

    written: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def routes(self) -> list[BaseRoute]:
        return [Route(f"{POD_PATH}/log", self._log), WebSocketRoute(f"{POD_PATH}/exec", self._exec)]

    async def _log(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked.append({"pod": name, **request.query_params})
        if name not in self.written:
            document = {"kind": "Status", "reason": "BadRequest", "code": 400, "message": f"{name} waits to start"}
            return Response(msgspec.json.encode(document), 400)
        return Response(self.written[name], media_type="text/plain")

    async def _exec(self, websocket: WebSocket) -> None:
        query = websocket.query_params
        self.asked.append({"pod": websocket.path_params["name"], **query})
        await websocket.accept(subprotocol=choose_protocol(websocket.scope["subprotocols"]))
        stream = AcceptedStream(websocket)
        status = await (_terminal(stream) if "tty" in query else _process(stream, query.getlist("command")))
        await stream.send(Channel.ERROR, msgspec.json.encode(status))
        await stream.close()


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"kind": "Status", "status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"kind": "Status", "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}


async def _process(stream: AcceptedStream, command: list[str]) -> dict[str, Any]:
    """Run a command; its input are the frames that come."""
    if command == ["vanish"]:
        return {"kind": "Status", "status": "Failure", "reason": "InternalError", "message": "no such command"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None

    async def take() -> None:
        async for channel, data in stream:
            if channel == Channel.CLOSE:
                process.stdin.close()
            elif channel == Channel.STDIN:
                process.stdin.write(data)

    async def give(source: asyncio.StreamReader, channel: Channel) -> None:
        while data := await source.read(10_000):
            await stream.send(channel, data)

    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take())
        outputs = [
            group.create_task(give(process.stdout, Channel.STDOUT)),
            group.create_task(give(process.stderr, Channel.STDERR)),
        ]
        await asyncio.wait(outputs)
        taking.cancel()
    return _status(await process.wait())


async def _terminal(stream: AcceptedStream) -> dict[str, Any]:
    """Tell what comes, until Ctrl-C comes as a key."""
    async for channel, data in stream:
        await stream.send(Channel.STDOUT, f"{Channel(channel).name} {data!r}\r\n".encode())
        if channel == Channel.STDIN and b"\x03" in data:
            return _status(130)
    return _status(1)


@dataclass(frozen=True)
class CliMesh:
    """A home whose API server runs, and the command line."""

    home: Home
    pods: FakePods
    client: LocalClient
    loop: asyncio.AbstractEventLoop

    def run(self, *argv: str, stdin: str | None = None) -> Result:
        """The command within this process."""
        return CliRunner().invoke(main, ["--home", str(self.home.path), *argv], input=stdin, env={"KUBECONFIG": ""})

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """The command as a process of its own."""
        command = [sys.executable, "-m", "pilotfish", "--home", str(self.home.path), *argv]
        return subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, **options)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the server's loop, e.g. one of `client`."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def create(self, kind: AnyKind, document: dict[str, Any], namespace: str = "default") -> Any:
        return self.do(self.client.create(kind, document, namespace if kind.namespaced else ""))

    def pod(self, name: str, namespace: str = "default", **labels: str) -> None:
        """A pod with two containers."""
        containers = [{"name": container, "image": "x"} for container in ("app", "proxy")]
        metadata = {"name": name, "labels": labels}
        self.create(SCHEME.search("pod"), {"metadata": metadata, "spec": {"containers": containers}}, namespace)


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[CliMesh]:
    home = Home(folder / "home")
    settings = Settings(
        node_name="node-1", api_port=0, xds_port=0, pod_cidr="10.77.0.0/16", service_cidr="10.96.0.0/20"
    )
    files = provision(home, settings)
    store, pods, loop = MemoryStore(), FakePods(), asyncio.new_event_loop()
    resources = Resources(store, SCHEME, [service_allocation(settings.service_cidr, store)])
    socket = listen("127.0.0.1", 0)
    listener = Listener(socket, files.api_server.certificate, files.api_server.key, files.ca)
    ready = threading.Event()

    async def run() -> None:
        await ensure_default_objects(resources)
        started = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(build_app(resources, routes=pods.routes()), listener, started))
            await started.wait()
            ready.set()

    serving = loop.create_task(run())
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([serving])))
    thread.start()
    identity = files.admin.load()
    config = Kubeconfig(
        server=f"https://127.0.0.1:{listener.port}",
        certificate_authority=files.ca.read_bytes(),
        client_certificate=identity.certificate,
        client_key=identity.key,
    )
    write_kubeconfig(config, home.kubeconfig)
    try:
        assert ready.wait(10), "the server did not start"
        yield CliMesh(home, pods, LocalClient(resources), loop)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(15)
        loop.close()


@pytest.fixture(scope="module")
def cli_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliMesh]:
    """One for all tests of a module: each uses names, or namespaces, of its own."""
    with _running(tmp_path_factory.mktemp("cli")) as mesh:
        yield mesh


@pytest.fixture
def namespace(cli_mesh: CliMesh, request: pytest.FixtureRequest) -> str:
    """An empty namespace of the test's own."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "").lower()[-50:].strip("-")
    cli_mesh.create(SCHEME.search("namespace"), {"metadata": {"name": name}})
    return str(name)


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], str], None]:
    """`wait_until(condition, what)` looks until it holds; fails after ten seconds."""

    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            time.sleep(0.01)

    return wait


@pytest.fixture
def ended() -> Iterator[Callable[[subprocess.Popen[bytes]], subprocess.Popen[bytes]]]:
    """Registers processes that are to be gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def register(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        started.append(process)
        return process

    yield register
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
