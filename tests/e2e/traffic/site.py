"""The workloads that traffic flows between, and what applies a case to them and sends its requests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotfish.api.errors import NotFound
from pilotfish.api.kinds import CONFIG_MAP, POD, SCHEME
from pilotfish.cli.wait import Distribution, Progress, Target, until_in_force
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import read_kubeconfig
from pilotfish.home import Home
from pilotfish.mesh.meshconfig import CONFIG_MAP as MESH_CONFIG
from pilotfish.mesh.meshconfig import CONFIG_MAP_KEY, ROOT_NAMESPACE
from pilotfish.xds.feed import KINDS
from traffic import pki
from traffic.cases import SERVICE, Answer, Case, Step, substituted

HERE = Path(__file__).resolve().parent
IMAGE = "test/echo"
DEADLINE = 20.0
HOSTS_LAST = ("Service", "ServiceEntry")
"""Kinds that make a host. They are created last: a host that can be found has the rest of its case in force."""

NAMESPACES = """
apiVersion: v1
kind: Namespace
metadata: {name: traffic, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: naked}
"""
VERSIONS = ("v1", "v2", "v3")


@dataclass(frozen=True)
class Workload:
    """A pod. All run the same program; `serve` says whether it serves, or is a client alone."""

    name: str
    namespace: str = "traffic"
    app: str = ""
    version: str = ""
    serve: bool = False
    annotations: Mapping[str, str] | None = None
    place: str = ""
    """Where it is: "region.zone"."""

    def pod(self, folder: Path) -> dict[str, Any]:
        told = {"app": self.app or self.name, "version": self.version, "istio-locality": self.place}
        labels = {name: value for name, value in told.items() if value}
        command = command_of(self, folder)
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": labels,
                "annotations": dict(self.annotations or {}),
            },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "echo", "image": IMAGE, "args": command[3:]}],
            },
        }


WORKLOADS = (
    Workload("a", place="region-1.zone-1"),
    Workload("eager", annotations={"pilotfish.dev/config": "eager"}),
    *(Workload(f"b-{version}", app="b", version=version, serve=True) for version in VERSIONS),
    Workload("naked", namespace="naked", version="naked", serve=True),
)
OUTSIDE = Workload("outside", version="outside", serve=True)
"""A process on the host, in no pod."""


def command_of(workload: Workload, folder: Path, *more: str) -> list[str]:
    argv = [sys.executable, "-m", "echo", "--name", workload.name, "--version", workload.version or workload.name]
    argv += ["--jobs", str(folder / f"{workload.name}.sock"), "--pki", str(folder / "pki")]
    return [*argv, *(("--serve",) if workload.serve else ()), *more]


class Site:
    """A mesh with all workloads up. `names` is what `$…` stands for in cases, besides `$name` and `$host`."""

    def __init__(self, mesh: Any, folder: Path) -> None:
        self.mesh = mesh
        self._folder = folder
        self._numbers = itertools.count(1)
        self._runner = asyncio.Runner()
        self._client = HTTPClient(read_kubeconfig(mesh.home / "kubeconfig"))
        self._sockets: dict[str, socket.socket] = {}
        self.names: dict[str, str] = {}

    def start(self) -> None:
        """Returns when every workload takes jobs and every pod is ready."""
        pki.write(self._folder / "pki")
        self.mesh.pilotfish("image", "add", IMAGE, "--workdir", str(HERE), "--", sys.executable, "-m", "echo")
        self.create([*yaml.safe_load_all(NAMESPACES), *(workload.pod(self._folder) for workload in WORKLOADS)])
        self.create([_service_of(version) for version in VERSIONS])
        wait_until(lambda: all(self._ready(workload) for workload in WORKLOADS), "every pod is ready", 60)
        for workload in WORKLOADS:
            pod = self._runner.run(self._client.get(POD, workload.name, workload.namespace))
            self.names[workload.name.replace("-", "_")] = pod.status.pod_ip
        self.names["pki"] = str(self._folder / "pki")

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """The process on the host: `$outside` is its address, and `$outside_http` and so on are its ports."""
        gateway = Home(self.mesh.home).settings().gateway_ip
        offset = free_offset(gateway)
        unix = str(self._folder / "outside-http.sock")
        argv = command_of(OUTSIDE, self._folder, "--bind", gateway, "--offset", str(offset), "--unix", unix)
        process = subprocess.Popen(argv, cwd=HERE)
        try:
            ports = {"http": 8080, "http2": 8081, "grpc": 8082, "tcp": 8083, "first": 8084, "auto": 8085, "tls": 8443}
            self.names |= {f"outside_{name}": str(port + offset) for name, port in ports.items()}
            self.names |= {"outside": gateway, "outside_unix": unix}
            wait_until((self._folder / "outside.sock").exists, "the process outside serves")
            yield
        finally:
            process.kill()
            process.wait()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        objects = [{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": n}} for n in ("traffic", "naked")]
        self.delete(objects)
        self._runner.run(self._client.close())
        self._runner.close()

    @contextlib.contextmanager
    def running(self, workload: Workload) -> Iterator[None]:
        """One more pod while the context lasts."""
        pod = workload.pod(self._folder)
        try:
            self.create([pod])
            wait_until(lambda: self._ready(workload), f"the pod {workload.name} is ready", 60)
            yield
        finally:
            if (sock := self._sockets.pop(workload.name, None)) is not None:
                sock.close()
            self.delete([pod])

    def check(self, case: Case) -> None:
        """Apply a case, wait until it is in force, hold every step to what it expects, and remove the case."""
        with self.applied(case.manifest, case.service) as names:
            first = case.settle or case.steps[0].once()
            self.settle(substituted(first, names), case.what)
            for step in case.steps:
                self.hold(substituted(step, names))

    @contextlib.contextmanager
    def applied(self, manifest: str, service: str = SERVICE) -> Iterator[dict[str, str]]:
        """The resources of a manifest are in force while the context lasts, in all proxies that have something of them;
        gives what `$name` and the others stand for.
        """
        name = f"c{next(self._numbers)}"
        names = {**self.names, "name": name, "host": f"{name}.traffic.svc.cluster.local"}
        texts = [substituted(text, names) for text in (manifest, service)]
        objects = [document for text in texts for document in yaml.safe_load_all(text) if document]
        objects.sort(key=lambda document: HOSTS_LAST.index(document["kind"]) if document["kind"] in HOSTS_LAST else -1)
        try:
            self.in_force(self.create(objects))
            yield names
        finally:
            self.delete(objects)

    @contextlib.contextmanager
    def configured(self, settings: str) -> Iterator[None]:
        """These fields of MeshConfig (YAML) are in place of what there was, while the context lasts."""
        before = self._runner.run(self._client.get(CONFIG_MAP, MESH_CONFIG, ROOT_NAMESPACE)).data[CONFIG_MAP_KEY]
        config = {**yaml.safe_load(before), **yaml.safe_load(substituted(settings, self.names))}
        self._configure(yaml.safe_dump(config))
        try:
            yield
        finally:
            self._configure(before)

    def _configure(self, text: str) -> None:
        patch = {"data": {CONFIG_MAP_KEY: text}}
        self._runner.run(self._client.patch(CONFIG_MAP, MESH_CONFIG, ROOT_NAMESPACE, patch))

    def settle(self, probe: Step, what: str) -> None:
        """Returns once the probe finds what it expects; fails with what it found last when it does not in time."""
        deadline = time.monotonic() + DEADLINE
        while faults := probe.faults(self.send(probe)):
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not in force within {DEADLINE:.0f} s: {self._explained(probe, faults)}")
            time.sleep(0.02)

    def hold(self, step: Step) -> list[Answer]:
        """Send a step's requests, once, and fail unless everything is as it expects; gives the answers."""
        answers = self.send(step)
        faults = step.faults(answers)
        assert not faults, f"{len(faults)} faults: {self._explained(step, faults)}"
        return answers

    def send(self, step: Step) -> list[Answer]:
        """The answers to a step's requests, whatever they are."""
        return self.job(step.client, step.job)

    def job(self, workload: str, job: Mapping[str, Any]) -> list[Answer]:
        """Have a workload do a job (`echo.jobs.Job`)."""
        if (sock := self._sockets.get(workload)) is None:
            sock = self._sockets[workload] = socket.socket(socket.AF_UNIX)
            sock.connect(str(self._folder / f"{workload}.sock"))
            sock.settimeout(120)
        sock.sendall(json.dumps(job).encode() + b"\n")
        with sock.makefile("rb") as lines:
            line = lines.readline()
        assert line, f"the workload {workload} ended while it did {job}: see its log"
        answers: list[Answer] = json.loads(line)
        return answers

    def create(self, objects: Sequence[dict[str, Any]]) -> list[Target]:
        """Through the API in the order given: kubectl would take a tenth of a second for each case."""

        async def each() -> list[Target]:
            made = []
            for document in objects:
                kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
                assert kind is not None, document["kind"]
                namespace = document["metadata"].setdefault("namespace", "traffic") if kind.namespaced else ""
                found = await self._client.create(kind, document, namespace)
                made.append(Target(kind, namespace, found.name, found.metadata.resource_version))
            return made

        return self._runner.run(each())

    def in_force(self, objects: Sequence[Target]) -> None:
        """Returns once all proxies have what is made of these; fails where one of them refuses it.

        What proxies ask for when a workload looks a name up, they do not have by then: see `settle`.
        """
        last = Progress()

        def note(progress: Progress) -> None:
            nonlocal last
            last = progress

        async def wait() -> None:
            async with asyncio.timeout(DEADLINE):
                distribution = Distribution([target for target in objects if target.kind in KINDS])
                await until_in_force(self._client, distribution, 1.0, note, poll=0.01)

        try:
            self._runner.run(wait())
        except TimeoutError:
            pytest.fail(f"not in force within {DEADLINE:.0f} s: {last}")

    def delete(self, objects: Sequence[dict[str, Any]]) -> None:
        """Also those that were never made. What has its own name disturbs nobody while it goes."""

        async def each() -> None:
            for document in reversed(objects):
                kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
                metadata = document["metadata"]
                namespace = metadata.get("namespace", "traffic") if kind and kind.namespaced else ""
                with contextlib.suppress(NotFound):
                    await self._client.delete(kind, metadata["name"], namespace)  # type: ignore[arg-type]

        self._runner.run(each())

    def _explained(self, step: Step, faults: Sequence[str]) -> str:
        """The faults, and what the proxy of the client logged last."""
        sent = [f"{step.client} sent {dict(step.job)}", *faults[:10]]
        namespace = next((workload.namespace for workload in WORKLOADS if workload.name == step.client), "")
        if namespace != "traffic":
            return "\n".join(sent)
        log = self.mesh.kubectl("logs", "-n", namespace, step.client, "-c", "istio-proxy", "--tail=5", check=False)
        return "\n".join([*sent, f"The last that the proxy of {step.client} logged:", log])

    def _ready(self, workload: Workload) -> bool:
        pod = self._runner.run(self._client.get(POD, workload.name, workload.namespace))
        return pod.ready and (self._folder / f"{workload.name}.sock").exists()


def _service_of(version: str) -> dict[str, Any]:
    """A Service in front of one version alone, named like it."""
    service: dict[str, Any] = yaml.safe_load(substituted(SERVICE, {"name": version}))
    service["spec"]["selector"]["version"] = version
    return service


def free_offset(address: str) -> int:
    """What to add to the echo server's ports so that they are all free at an address."""
    for offset in random.sample(range(10_000, 20_000, 10), 50):
        with contextlib.ExitStack() as taken:
            try:
                for port in (*range(8080, 8086), 8443):
                    sock = taken.enter_context(socket.socket())
                    sock.bind((address, port + offset))
            except OSError:
                continue
        return offset
    raise OSError(f"no free ports at {address}")


def wait_until(holds: Any, what: str, deadline: float = DEADLINE) -> None:
    end = time.monotonic() + deadline
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:.0f} s: {what}")
        time.sleep(0.05)
