"""What each choice of a sidecar's configuration costs a call: one departure at a time from what is there by default."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml

from benchmarks.load import Outcome
from benchmarks.realmesh import RealMesh, pod, real_mesh
from benchmarks.report import Figure, Section, percentile
from benchmarks.topic import Options, log

RATE = 200
PROTOCOLS = {"http": "HTTP/1.1", "grpc": "gRPC"}
_ANNOTATION = "proxy.istio.io/config"


@dataclass(frozen=True)
class Way:
    """One way to configure the sidecars of a client and a server, and the mesh while they are measured."""

    title: str
    pods: str = "default"
    """Which pair of pods."""
    mesh: Mapping[str, Any] = field(default_factory=dict)
    """Fields of MeshConfig."""


@dataclass(frozen=True)
class Pair:
    """A client and a server. `sidecar` false: without one. `ports` are the names of the server's ports."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    sidecar: bool = True
    ports: tuple[str, str] = ("http", "grpc")


PAIRS = {
    "default": Pair(),
    "none": Pair(sidecar=False),
    "one": Pair({_ANNOTATION: "concurrency: 1"}),
    "four": Pair({_ANNOTATION: "concurrency: 4"}),
    "stats": Pair({_ANNOTATION: 'proxyStatsMatcher: {inclusionRegexps: [".*"]}'}),
    # Names that say no protocol: Envoy looks at the first bytes of each connection (http_inspector).
    "detect": Pair(ports=("one", "other")),
}
WAYS = (
    Way("direct", "none"),
    Way("as it is: two workers, metrics, no access log"),
    Way("without metrics", mesh={"defaultProviders": {"metrics": []}}),
    Way("access log, text", mesh={"accessLogFile": "/dev/stdout"}),
    Way("access log, JSON", mesh={"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON"}),
    Way("one worker", "one"),
    Way("four workers", "four"),
    Way("all statistics", "stats"),
    Way("protocol detected", "detect"),
)


@dataclass
class Found:
    """Of one way and protocol, a value each round: milliseconds, and microseconds of both Envoys' CPU time a call."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def run(options: Options) -> Iterator[Section]:
    rounds, seconds = options.pick(1, 5), options.pick(2, 10)
    found: dict[tuple[str, str], Found] = {(p, way.title): Found() for p in PROTOCOLS for way in WAYS}
    with real_mesh() as (mesh, _):
        _install(mesh, {})
        envoys = _deploy(mesh)
        for number in range(rounds):
            log.info("tuning: round %d of %d", number + 1, rounds)
            for way in WAYS:
                _install(mesh, way.mesh)
                for protocol in PROTOCOLS:
                    _measure(mesh, protocol, way, envoys[way.pods], seconds, found[protocol, way.title])
    yield Section(
        topic="tuning",
        title="What each choice costs a call through two sidecars",
        method=f"{RATE} calls a second, {seconds} s a round after a second of warm-up, between pods of `pilotfish up` "
        "after `pilotfish install`; the ways take turns, each one departure from what is there by default. CPU time is "
        "that of the client's and the server's Envoy together. What a choice costs in memory is in envoy-cost.md.",
        figures=tuple(
            figure
            for protocol, name in PROTOCOLS.items()
            for way in WAYS
            for figure in _figures(f"{name}, {way.title}", found[protocol, way.title])
        ),
    )


def _figures(title: str, found: Found) -> Iterator[Figure]:
    yield Figure(name=f"{title}: p50", unit="ms", values=tuple(found.p50))
    yield Figure(name=f"{title}: p99", unit="ms", values=tuple(found.p99))
    if found.cpu:
        yield Figure(name=f"{title}: Envoys' CPU time a call", unit="µs", values=tuple(found.cpu))


def _install(mesh: RealMesh, fields: Mapping[str, Any]) -> None:
    """Have the mesh configured with these fields of MeshConfig, and no others."""
    operator = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": {"meshConfig": dict(fields)},
    }
    mesh.run("pilotfish", "install", "-y", "-f", "-", stdin=yaml.safe_dump(operator))


def _deploy(mesh: RealMesh) -> dict[str, list[int]]:
    """The pairs of pods, each server with a Service; gives the pids of each pair's Envoys."""
    for name, pair in PAIRS.items():
        for role, command in (("echo", ["-m", "benchmarks.echo"]), ("load", ["-c", "import time; time.sleep(1e6)"])):
            annotations = dict(pair.annotations)
            mesh.apply(pod(f"{role}-{name}", [sys.executable, *command], sidecar=pair.sidecar, annotations=annotations))
        ports = [{"name": port, "port": number} for port, number in zip(pair.ports, (8080, 9090), strict=True)]
        mesh.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"echo-{name}", "namespace": "default"},
                "spec": {"selector": {"app": f"echo-{name}"}, "ports": ports},
            }
        )
    names = {name: (f"echo-{name}", f"load-{name}") for name in PAIRS}
    mesh.wait_ready(*(each for both in names.values() for each in both))
    return {name: [mesh.envoy_of(each) for each in both] if PAIRS[name].sidecar else [] for name, both in names.items()}


def _measure(mesh: RealMesh, protocol: str, way: Way, envoys: list[int], seconds: int, found: Found) -> None:
    host = f"echo-{way.pods}.default.svc.cluster.local"
    command = [sys.executable, "-m", "benchmarks.load", protocol, host, str(RATE), str(seconds)]
    before = sum(map(_cpu_seconds, envoys))
    output = mesh.kubectl("exec", f"load-{way.pods}", "-c", "main", "--", *command)
    used = sum(map(_cpu_seconds, envoys)) - before
    outcome = msgspec.json.decode(output, type=Outcome)
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} calls failed: {protocol}, {way.title}")
    found.p50.append(1000 * percentile(outcome.latencies, 50))
    found.p99.append(1000 * percentile(outcome.latencies, 99))
    if envoys:
        found.cpu.append(1e6 * used / (RATE * (seconds + 1)))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
