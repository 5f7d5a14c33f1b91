"""A whole mesh for a measurement: `pilotfish up` in a temporary home, with real pods, and nothing left of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import machine
from benchmarks.plane import REPOSITORY, ControlPlane, control_plane, temporary_home
from benchmarks.topic import Missing
from pilotfish.cli import process
from pilotfish.home import Home
from pilotfish.node.dns.counters import Counters

EXAMPLE = REPOSITORY / "examples/hello-mesh"
PILOTFISH = str(Path(sys.executable).with_name("pilotfish"))
DEADLINE = 120.0
EAGER = {"pilotfish.dev/config": "eager"}
"""The annotation of a pod whose proxy is to hold the whole mesh, as Istio's do."""
ON_DEMAND = {"proxy.istio.io/config": 'proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}'}
"""That of a pod whose lookups are seen, so that its proxy holds what it asks for."""


@dataclass(frozen=True)
class RealMesh:
    """One mesh and the commands of its user. Commands raise RuntimeError with their output when they fail."""

    home: Home

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(PILOTFISH).parent}:{os.environ['PATH']}"
        return {
            **os.environ,
            "PATH": path,
            "PILOTFISH_HOME": str(self.home.path),
            "KUBECONFIG": str(self.home.kubeconfig),
        }

    def run(self, *command: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=EXAMPLE,
            timeout=DEADLINE * 2,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def pilotfish(self, *arguments: str) -> str:
        return self.run(PILOTFISH, *arguments)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.run("kubectl", *arguments, stdin=stdin)

    def apply(self, *documents: Any) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(document) for document in documents))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def wait_ready(self, *pods: str) -> None:
        names = [f"pod/{pod}" for pod in pods]
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={DEADLINE:.0f}s", *names)

    def delete_pods(self, *pods: str) -> None:
        self.kubectl("delete", "pod", "--grace-period=1", *pods)

    def envoy_of(self, pod: str) -> int:
        """The pid of a pod's Envoy."""
        uid = self.get("pod", pod)["metadata"]["uid"]
        for pid, command in self.processes().items():
            if "envoy" in Path(command.split("\0")[0]).name and uid in _environment_and_command(pid, command):
                return pid
        raise RuntimeError(f"no Envoy runs for pod {pod}")

    def dns_counters(self) -> Counters:
        """What the DNS process has done since it started."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.home.dns_socket))
            sock.sendall(b'{"op": "stats"}\n')
            answer = sock.makefile("rb").readline()
        return msgspec.convert(msgspec.json.decode(answer)["stats"]["counters"], Counters)

    def processes(self) -> dict[int, str]:
        """Every process of the mesh, with its command line (NUL between arguments)."""
        commands, parents = {}, {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                pid = int(folder.name)
                commands[pid] = (folder / "cmdline").read_bytes().decode(errors="replace")
                parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        roots = {process.running(self.home, role) for role in (process.SUPERVISOR, "serve", "node", "dns")}
        roots |= {pid for pid, command in commands.items() if str(self.home.pods) in command}

        def ours(pid: int) -> bool:
            return pid in roots or (pid in parents and ours(parents[pid]))

        return {pid: command for pid, command in commands.items() if command and pid != os.getpid() and ours(pid)}


def _environment_and_command(pid: int, command: str) -> str:
    """What tells whose process it is: its own words and those of the pod supervisor that started it."""
    words = command
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    with contextlib.suppress(OSError):
        words += Path(f"/proc/{parent}/cmdline").read_bytes().decode(errors="replace")
    return words


def resident(pid: int) -> tuple[float, float]:
    """(RSS, PSS) of a process, MiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:] if line.endswith("kB")}
    return values["Rss"] / 1024, values["Pss"] / 1024


def require_tools(*tools: str) -> None:
    """Raises Missing."""
    if os.geteuid() != 0:
        raise Missing("needs root for network namespaces")
    for tool in tools:
        if machine.find(tool) is None:
            package = {"kubectl": "kubernetes-client", "nft": "nftables"}.get(tool, tool)
            raise Missing(f"{tool} is not installed: apt-get install {package}")


@contextlib.contextmanager
def real_mesh(fill: Callable[[Home], None] = lambda _: None) -> Iterator[tuple[RealMesh, ControlPlane]]:
    """A mesh that is up, its control plane observed; `fill` may put objects into its store before it starts."""
    require_tools("kubectl", "nft")
    with temporary_home() as home:
        fill(home)
        mesh = RealMesh(home)
        with control_plane(home, stop=False) as plane:
            try:
                mesh.pilotfish("up", "--detach")
                yield mesh, plane
            finally:
                mesh.pilotfish("down")


def pod(name: str, command: list[str], *, sidecar: bool = True, annotations: dict[str, str] | None = None) -> Any:
    """A pod that runs a command of this repository, with label app=NAME."""
    labels = {"app": name, "sidecar.istio.io/inject": str(sidecar).lower()}
    container = {
        "name": "main",
        "image": "host",
        "command": command,
        "workingDir": str(REPOSITORY),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels, "annotations": annotations or {}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def until(holds: Callable[[], Any], what: str, timeout: float = DEADLINE, pause: float = 0.02) -> Any:
    """The first truthy answer. Raises TimeoutError."""
    end = time.monotonic() + timeout
    while not (answer := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        time.sleep(pause)
    return answer
