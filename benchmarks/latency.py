"""What two sidecars add to a call."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec

from benchmarks.charts import Chart, Series, point
from benchmarks.load import Outcome
from benchmarks.realmesh import RealMesh, pod, real_mesh
from benchmarks.report import Figure, Section, percentile
from benchmarks.topic import Options, log
from pilotfish.api.meta import Document

RATE = 200
PROTOCOLS = {"http": "HTTP/1.1", "grpc": "gRPC"}
DIRECT, SIDECARS, OPEN = "direct", "two sidecars", "two sidecars, without TLS"
PATHS = {DIRECT: ("load-plain", "echo-plain"), SIDECARS: ("load", "echo"), OPEN: ("load", "echo-open")}
"""The pod that calls, and the Service that is called."""
PERCENTS = (50, 99)


def run(options: Options) -> Iterator[Section]:
    rounds, seconds = options.pick(3, 7), options.pick(4, 15)
    found: dict[tuple[str, str], list[Outcome]] = {}
    with real_mesh() as (mesh, _):
        _deploy(mesh)
        for number in range(rounds):
            log.info("latency: round %d of %d", number + 1, rounds)
            for protocol in PROTOCOLS:
                for path in PATHS:
                    found.setdefault((protocol, path), []).append(_load(mesh, protocol, path, seconds))
    figures = [figure for protocol in PROTOCOLS for figure in _figures(protocol, found)]
    late = [1000 * percentile(outcome.late, 99) for outcomes in found.values() for outcome in outcomes]
    yield Section(
        topic="latency",
        title="Two sidecars against a direct call",
        method=f"{RATE} calls a second, sent on time whether or not earlier ones were answered, {seconds} s a "
        "round after a second of warm-up; the ways take turns. The same client and server (Python, "
        "uvloop, grpc.aio) run in pods with sidecars and in pods without, and call a Service by name. Sidecars speak "
        "mutual TLS with one another, except to a second Service of the same pods, of which a DestinationRule has "
        "`tls: {mode: DISABLE}`. "
        "Client, server and both Envoys share the machine's cores.",
        figures=tuple(figures),
        notes=(
            f"{sum(o.failed for outcomes in found.values() for o in outcomes)} calls failed. Calls went out late "
            f"by {max(late):.2f} ms at the 99th percentile in the worst round; a call is timed from when it went "
            "out, so slowness of the client itself is not in the figures, nor is anything below Python's own few "
            "tens of microseconds.",
        ),
        charts=(
            Chart(
                name="latency",
                title=f"Latency at {RATE} calls a second",
                y="milliseconds",
                labels=tuple(f"{title} p{percent}" for title in PROTOCOLS.values() for percent in PERCENTS),
                series=tuple(
                    Series(
                        path,
                        tuple(
                            point(x, _each(found[protocol, path], percent))
                            for x, (protocol, percent) in enumerate((p, n) for p in PROTOCOLS for n in PERCENTS)
                        ),
                    )
                    for path in PATHS
                ),
            ),
        ),
    )


def _deploy(mesh: RealMesh) -> None:
    names = []
    for suffix in ("", "-plain"):
        for role, command in (("echo", ["-m", "benchmarks.echo"]), ("load", ["-c", "import time; time.sleep(1e6)"])):
            name = f"{role}{suffix}"
            mesh.apply(pod(name, [sys.executable, *command], sidecar=not suffix))
            names.append(name)
        mesh.apply(_service(f"echo{suffix}", f"echo{suffix}"))
    mesh.apply(_service("echo-open", "echo"))
    mesh.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "echo-open", "namespace": "default"},
            "spec": {"host": "echo-open", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
        }
    )
    mesh.wait_ready(*names)


def _service(name: str, app: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]},
    }


def _load(mesh: RealMesh, protocol: str, path: str, seconds: int) -> Outcome:
    client, service = PATHS[path]
    host = f"{service}.default.svc.cluster.local"
    command = [sys.executable, "-m", "benchmarks.load", protocol, host, str(RATE), str(seconds)]
    return msgspec.json.decode(mesh.kubectl("exec", client, "-c", "main", "--", *command), type=Outcome)


def _each(outcomes: list[Outcome], percent: int) -> list[float]:
    return [1000 * percentile(outcome.latencies, percent) for outcome in outcomes]


def _figures(protocol: str, found: dict[tuple[str, str], list[Outcome]]) -> Iterator[Figure]:
    for percent in PERCENTS:
        values = {path: _each(found[protocol, path], percent) for path in PATHS}
        title = f"{PROTOCOLS[protocol]}, p{percent}"
        for path, each in values.items():
            yield Figure(name=f"{title}, {path}", unit="ms", values=tuple(each))
        for what, one, other in (("added", SIDECARS, DIRECT), ("added by mutual TLS", SIDECARS, OPEN)):
            added = (more - less for more, less in zip(values[one], values[other], strict=True))
            yield Figure(name=f"{title}, {what}", unit="ms", values=tuple(added))
