"""The walkthrough with a stopwatch: from nothing to the first answer, and from a mapping to the first call."""

from __future__ import annotations

import asyncio
import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from benchmarks.charts import Chart, Series, point
from benchmarks.realmesh import EXAMPLE, PILOTFISH, RealMesh, require_tools, resident, until
from benchmarks.report import Figure, Section
from benchmarks.topic import Options, log
from pilotfish.api.kinds import SERVICE_ENTRY
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import read_kubeconfig
from pilotfish.home import Home

UP = ("the API answers", "is ready", "the node gateway runs", "DNS answers")
"""What `up` says it has reached, in this order."""
STAGES = (
    "up: the API answers",
    "up: the node is ready",
    "up: the node gateway runs",
    "up: DNS answers",
    "up: returns",
    "install",
    "image add, twice",
    "apply",
    "meshb has an address",
    "ServiceEntry",
    "first 200",
)


def run(options: Options) -> Iterator[Section]:
    require_tools("kubectl", "nft")
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    calls: dict[str, list[float]] = {}
    memory: dict[str, list[tuple[float, float, int]]] = {}
    for number in range(options.pick(3, 7)):
        log.info("walkthrough: round %d", number + 1)
        home = Home(Path(tempfile.mkdtemp(prefix="pilotfish-bench-")))
        mesh = RealMesh(home)
        try:
            for stage, seconds in _walk(mesh):
                stages[stage].append(seconds)
            for name, found in _memory(mesh).items():
                memory.setdefault(name, []).append(found)
            for _ in range(options.pick(3, 10)):
                for name, seconds in _map_anew(mesh).items():
                    calls.setdefault(name, []).append(seconds)
        finally:
            mesh.pilotfish("down")
            shutil.rmtree(home.path, ignore_errors=True)
    totals = [sum(each) for each in zip(*stages.values(), strict=True)]
    yield Section(
        topic="walkthrough",
        title="`pilotfish up` on a cold machine → the first HTTP 200",
        method="A new home each time; `pilotfish` and `kubectl` commands one after another as a script would give "
        "them, then `GET /demo` through the node port until it answers 200. Files are in the page cache. "
        "Each stage is the time that the user waits for it.",
        figures=(
            Figure(name="`up` → first HTTP 200 of /demo", unit="s", values=tuple(totals), goal=5),
            *(Figure(name=f"— {stage}", unit="s", values=tuple(values)) for stage, values in stages.items()),
        ),
        charts=(
            Chart(
                name="walkthrough",
                title="From `pilotfish up` to the first HTTP 200, by stage",
                y="seconds",
                labels=("up", *STAGES[len(UP) + 1 :]),
                series=(Series("", tuple(point(x, values) for x, values in enumerate(_bars(stages)))),),
            ),
        ),
    )
    yield Section(
        topic="first-call",
        title="A ServiceEntry is applied → the first successful call",
        method="`/demo` answers 500; the entry is written, and from then on `/demo` is called in a tight loop; each "
        "call opens a gRPC channel, looks the name up and calls through two sidecars. The entry's address is "
        "allocated by the control plane.",
        figures=tuple(
            Figure(
                name=name, unit="ms", values=tuple(1000 * v for v in values), goal=None if "started" in name else 100
            )
            for name, values in calls.items()
        ),
    )
    yield Section(
        topic="processes",
        title="Resident memory of every process",
        method="From /proc/PID/smaps_rollup after the first 200. RSS counts pages shared with others in full, PSS "
        "by their share. Of a role that several processes have, the figures are their sum.",
        figures=tuple(
            Figure(name=f"{name}, {kind}", unit="MiB", values=tuple(found[i] for found in rounds))
            for name, rounds in memory.items()
            for i, kind in enumerate(("RSS", "PSS"))
        ),
        notes=tuple(f"{name}: {rounds[0][2]} processes." for name, rounds in memory.items() if rounds[0][2] > 1),
    )


def _bars(stages: dict[str, list[float]]) -> list[list[float]]:
    """All of `up` as one, then the other stages."""
    of_up = (values for stage, values in stages.items() if stage.startswith("up: "))
    up = [sum(each) for each in zip(*of_up, strict=True)]
    return [up, *(values for stage, values in stages.items() if not stage.startswith("up: "))]


def _walk(mesh: RealMesh) -> Iterator[tuple[str, float]]:
    began = time.monotonic()

    def lap() -> float:
        nonlocal began
        now = time.monotonic()
        began, seconds = now, now - began
        return seconds

    reached = iter(STAGES)
    with subprocess.Popen([PILOTFISH, "up", "--detach"], stdout=subprocess.PIPE, text=True, env=mesh.environment) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if any(line.rstrip().endswith(each) for each in UP):
                yield next(reached), lap()
    if up.returncode:
        raise RuntimeError(f"`pilotfish up` ended with {up.returncode}")
    yield next(reached), lap()
    mesh.pilotfish("install", "-y", "-f", "istio-config.yaml")
    yield "install", lap()
    for app in ("mesha", "meshb"):
        image = f"x.x.x.x/x/{app}:latest"
        mesh.pilotfish("image", "add", image, "--workdir", str(EXAMPLE), "--", sys.executable, f"{app}.py")
    yield "image add, twice", lap()
    mesh.kubectl("apply", "-f", "meshb.yaml", "-f", "mesha.yaml")
    yield "apply", lap()
    address = until(lambda: _address(mesh), "meshb has an address")
    yield "meshb has an address", lap()
    mesh.kubectl("apply", "-f", "-", stdin=_entry(address))
    yield "ServiceEntry", lap()
    port = _node_port(mesh)
    until(lambda: _demo(port) == 200, "/demo answers 200", pause=0.002)
    yield "first 200", lap()


def _address(mesh: RealMesh) -> str:
    return mesh.kubectl("get", "pods", "-l", "app=meshb", "-o", "jsonpath={.items[0].status.podIP}").strip()


def _entry(address: str) -> str:
    return (EXAMPLE / "meshb-service-entry.yaml").read_text().replace("MESHB_POD_IP", address)


def _node_port(mesh: RealMesh) -> int:
    return int(mesh.kubectl("get", "service", "mesha", "-o", "jsonpath={.spec.ports[0].nodePort}"))


def _demo(port: int) -> int:
    """The status of one call; 0 when there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/demo")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _map_anew(mesh: RealMesh) -> dict[str, float]:
    """Two mappings, the first by kubectl and the second by a client that knows when its write is acknowledged."""
    entry, port = _entry(_address(mesh)), _node_port(mesh)
    found: dict[str, float] = {}

    def kubectl() -> tuple[float, float]:
        began = time.monotonic()
        mesh.kubectl("apply", "-f", "-", stdin=entry)
        return began, time.monotonic()

    def client() -> tuple[float, float]:
        return asyncio.run(_create(mesh.home, entry))

    for name, write in (("kubectl", kubectl), ("the client", client)):
        mesh.kubectl("delete", "serviceentry", "meshb")
        until(lambda: _demo(port) == 500, "/demo answers 500")
        (began, acknowledged), answered = _then_called(write, port)
        if name == "kubectl":
            found["`kubectl apply` started → first successful call"] = answered - began
            found["`kubectl apply` returned → first successful call"] = max(0.0, answered - acknowledged)
        else:
            found["write acknowledged → first successful call"] = max(0.0, answered - acknowledged)
    return found


def _then_called(write: Callable[[], tuple[float, float]], port: int) -> tuple[tuple[float, float], float]:
    """Write something, then call in a loop; when the write began and ended, and when the first 200 came.

    Calls that fail beforehand would be counted as well if they were under way: each asks the machine's own resolvers
    for the name, which take the time that they take.
    """
    times = write()
    until(lambda: _demo(port) == 200, "/demo answers 200", pause=0.0)
    return times, time.monotonic()


async def _create(home: Home, entry: str) -> tuple[float, float]:
    client = HTTPClient(read_kubeconfig(home.kubeconfig))
    try:
        await client.request("GET", "/readyz")  # connects
        began = time.monotonic()
        await client.create(SERVICE_ENTRY, yaml.safe_load(entry), "default")
        return began, time.monotonic()
    finally:
        await client.close()


_ROLES = (
    (r"(^|/)envoy", "Envoy"),
    (r"pilotfish\.node\.supervisor", "pod supervisors"),
    (r"mesh[ab]\.py", "the two applications"),
    (r"pilotfish.*\0(supervise|serve|node|dns)", "pilotfish {}"),
)


def _memory(mesh: RealMesh) -> dict[str, tuple[float, float, int]]:
    """By role: RSS and PSS in MiB, and the number of processes."""
    found: dict[str, tuple[float, float, int]] = {}
    for pid, command in sorted(mesh.processes().items()):
        role = _role(pid, command)
        try:
            rss, pss = resident(pid)
        except OSError:  # it has ended
            continue
        before = found.get(role, (0.0, 0.0, 0))
        found[role] = (before[0] + rss, before[1] + pss, before[2] + 1)
    return found


def _role(pid: int, command: str) -> str:
    for pattern, name in _ROLES:
        if match := re.search(pattern, command):
            if name != "Envoy":
                return name.format(match[1]) if match.groups() else name
            gateway = Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
            return "Envoy of the node gateway" if gateway else "Envoys of pods"
    return Path(command.split("\0")[0]).name
