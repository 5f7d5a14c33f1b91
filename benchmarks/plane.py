"""A control plane of its own for a measurement: `pilotfish serve` in a temporary home, filled before it starts.

It runs as `benchmarks.observed`, which is `pilotfish serve` with somebody listening to what proxies acknowledge.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.meshes import SERVICE_NETWORK, Event
from pilotfish.api.kinds import NAMESPACE, SCHEME
from pilotfish.apiserver.bootstrap import ensure_default_objects
from pilotfish.apiserver.local import LocalClient
from pilotfish.apiserver.resources import Resources
from pilotfish.cli import process
from pilotfish.cli.serve import INJECTED_NAMESPACES
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import Kubeconfig, read_kubeconfig, write_kubeconfig
from pilotfish.home import Home, Settings
from pilotfish.node.ipam import choose_networks
from pilotfish.pki.provision import provision
from pilotfish.store.sqlite import SQLiteStore

REPOSITORY = Path(__file__).resolve().parents[1]
START_SECONDS = 180.0
_AT_ONCE = 64


@contextlib.contextmanager
def temporary_home() -> Iterator[Home]:
    """A home with settings, keys and kubeconfig, as `pilotfish up` makes them; removed at the end."""
    home = Home(Path(tempfile.mkdtemp(prefix="pilotfish-bench-")))
    try:
        pods, _ = choose_networks(home.id)
        settings = Settings(
            node_name=socket.gethostname().lower(),
            api_port=_free_port(),
            xds_port=_free_port(),
            pod_cidr=str(pods),
            service_cidr=str(SERVICE_NETWORK),
        )
        home.save_settings(settings)
        files = provision(home, settings)
        admin = files.admin.load()
        config = Kubeconfig(settings.api_url, files.ca.read_bytes(), admin.certificate, admin.key)
        write_kubeconfig(config, home.kubeconfig)
        yield home
    finally:
        shutil.rmtree(home.path, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def fill(home: Home, events: Iterable[Event]) -> None:
    """Create objects as the API server would, with all that it checks and fills in, while it does not run.

    Services must have their addresses: looking for free ones takes longer the more services there are.
    """
    store = SQLiteStore(home.database)
    try:
        resources = Resources(store, SCHEME)
        await ensure_default_objects(resources, labels=INJECTED_NAMESPACES)
        await write(LocalClient(resources), events)
    finally:
        await store.close()


async def write(client: HTTPClient | LocalClient, events: Iterable[Event]) -> None:
    """Send writes, many at once but those of one object in order of their coming."""
    several: list[Event] = []
    for event in events:
        several.append(event)
        if len(several) == _AT_ONCE or event.kind is NAMESPACE:  # what is in a namespace comes after it
            await _send(client, several)
            several = []
    await _send(client, several)


async def _send(client: HTTPClient | LocalClient, events: Sequence[Event]) -> None:
    chains: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        metadata = event.document["metadata"]
        chains.setdefault((event.kind.kind, metadata.get("namespace", ""), metadata["name"]), []).append(event)

    async def chain(events: Sequence[Event]) -> None:
        for event in events:
            await send(client, event)

    async with asyncio.TaskGroup() as group:
        for chained in chains.values():
            group.create_task(chain(chained))


async def send(client: HTTPClient | LocalClient, event: Event) -> None:
    """One write; returns when it is acknowledged."""
    metadata = event.document["metadata"]
    namespace = metadata.get("namespace", "")
    match event.verb:
        case "create":
            await client.create(event.kind, event.document, namespace)
        case "update":
            # A merge patch, since what the server has filled in is to stay.
            await client.patch(event.kind, metadata["name"], namespace, event.document)
        case "delete":
            await client.delete(event.kind, metadata["name"], namespace)


@dataclass
class ControlPlane:
    """The running process and the pipes to its observer."""

    home: Home
    child: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.home.settings().xds_port}"

    def client(self) -> HTTPClient:
        return HTTPClient(read_kubeconfig(self.home.kubeconfig))

    def expect(self, resources: Iterable[tuple[str, str]], count: int = 1) -> None:
        """From now on note when proxies acknowledge these (type URL, name); `expected` has the times."""
        self._say({"expect": list(resources), "count": count})
        self._hear()

    async def expected(self, timeout: float = 60.0) -> list[float]:
        """When each of the expected resources was acknowledged `count` times: monotonic seconds, in order.

        Raises TimeoutError when that does not happen.
        """
        async with asyncio.timeout(timeout):
            reader = asyncio.get_running_loop().run_in_executor(None, self._hear)
            found: list[float] = await asyncio.shield(reader)
            return found

    def usage(self) -> tuple[float, float]:
        """(CPU seconds used so far, resident MiB)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return seconds, process.resident_kib(self.pid) / 1024

    def _say(self, message: object) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(msgspec.json.encode(message) + b"\n")
        self.child.stdin.flush()

    def _hear(self) -> list[float]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the control plane ended:\n{process.log_tail(self.home, process.SERVE)}")
        return msgspec.json.decode(line, type=list[float])


@contextlib.contextmanager
def control_plane(home: Home, *, stop: bool = True) -> Iterator[ControlPlane]:
    """Runs until the context ends; with `stop` false somebody else (`pilotfish down`) ends the process."""
    home.logs.mkdir(exist_ok=True)
    with process.log_file(home, process.SERVE).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.observed", str(home.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=REPOSITORY,
            start_new_session=True,
        )
    plane = ControlPlane(home, child)
    try:
        _await_xds(plane)
        yield plane
    finally:
        if stop:
            child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        if child.poll() is None:
            child.kill()
            child.wait()


def _await_xds(plane: ControlPlane) -> None:
    """xDS is served once everything is known: the last thing that a control plane does when it starts."""
    deadline = time.monotonic() + START_SECONDS
    host, _, port = plane.target.partition(":")
    while time.monotonic() < deadline and plane.child.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError(f"the control plane did not start:\n{process.log_tail(plane.home, process.SERVE)}")
