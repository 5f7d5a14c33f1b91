"""The ADS server under load: `python benchmarks/xds_load.py --proxies 1000 --services 10000 --hosts 20`.

Server and proxies are two processes. Every proxy has `--hosts` of the services in scope, one of them shared by all;
each service is a cluster, its endpoints, a listener and a route configuration. Times are wall-clock, and include the
proxies' own work.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import multiprocessing
import os
import resource as limits
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import uvloop
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from simulated import SimulatedProxy, run_all

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyPair
from pilotfish.xds.server import AdsServer, mutual_tls, serving
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, Changes, ProxyNode, Resource
from pilotfish.xds.status import Log

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
SHARED = 0


def host(number: int) -> str:
    return f"outbound|8080||service-{number}.default.svc.cluster.local"


def cluster(number: int) -> Resource:
    message = cluster_pb2.Cluster(name=host(number), type=cluster_pb2.Cluster.EDS)
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.transport_socket.name = "x" * 400  # about what mutual TLS takes
    return Resource(host(number), "1", message.SerializeToString())


def endpoints(number: int, version: int) -> Resource:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=host(number))
    for last in range(5):
        address = message.endpoints.add().lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = f"10.{version % 250}.{number % 250}.{last}", 8080
    return Resource(host(number), str(version), message.SerializeToString())


@dataclass
class SyntheticSource:
    """Services by number; a proxy's node id ends in its own number, which says which services it has in scope."""

    services: int
    hosts: int
    resources: dict[str, dict[int, Resource]] = field(default_factory=dict)
    configs: dict[SyntheticConfig, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = range(self.services)
        self.resources = {
            CLUSTER: {n: cluster(n) for n in numbers},
            ENDPOINT: {n: endpoints(n, 1) for n in numbers},
            LISTENER: {n: Resource(host(n), "1", b"l" * 800) for n in numbers},
            ROUTE: {n: Resource(host(n), "1", b"r" * 500) for n in numbers},
        }

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> SyntheticConfig:
        proxy = int(node.name.removeprefix("web-"))
        scope = {SHARED, *((proxy * (self.hosts - 1) + i) % (self.services - 1) + 1 for i in range(self.hosts - 1))}
        held = {t: {(r := self.resources[t][n]).name: r for n in sorted(scope)} for t in TYPES}
        config = SyntheticConfig(self, on_change, held)
        self.configs[config] = None
        return config

    def change_endpoints(self, number: int, version: int) -> None:
        changed = endpoints(number, version)
        self.resources[ENDPOINT][number] = changed
        change = {ENDPOINT: frozenset({changed.name})}
        for config in self.configs:
            if changed.name in config.held[ENDPOINT]:
                config.held[ENDPOINT][changed.name] = changed
                config.on_change(change)


@dataclass(eq=False)
class SyntheticConfig:
    source: SyntheticSource
    on_change: Callable[[Changes], None]
    held: dict[str, dict[str, Resource]]

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return self.held[type_url]

    def asked(self, *_: object) -> None: ...

    def answered(self, held: object) -> None: ...

    def close(self) -> None:
        del self.source.configs[self]


class Acknowledgements(Log):
    """Counts what was acknowledged."""

    def __init__(self) -> None:
        self.count = 0

    def reached(self, goal: int) -> bool:
        return self.count >= goal

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Mapping[str, str | None]) -> None:
        self.count += len(versions)


@dataclass(frozen=True)
class Credentials:
    ca: bytes
    server: KeyPair
    client: KeyPair

    @staticmethod
    def made() -> Credentials:
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority.at(Files(Path(folder)))
        server = authority.issue_server("istiod", SubjectNames.of(dns=["istiod.istio-system.svc"]))
        client = authority.issue_client("", names=SubjectNames.of(uris=["spiffe://cluster.local/ns/default/sa/web"]))
        return Credentials(authority.pem, server, client)


def resident_mib() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def proxies_process(pipe: Connection, count: int, target: str, credentials: Credentials, loop: str) -> None:
    """The other process. Answers each message with (configured, streams, received, newest change, distinct hashes)."""

    async def run() -> None:
        proxies = [SimulatedProxy(f"sidecar~10.0.0.1~web-{n}.default~x") for n in range(count)]
        tls = grpc.ssl_channel_credentials(credentials.ca, credentials.client.key, credentials.client.certificate)
        ended = asyncio.Event()

        def report() -> None:
            if pipe.recv() is None:
                ended.set()
                return
            stamps = sorted(proxy.changed_at for proxy in proxies)
            pipe.send(
                (
                    sum(proxy.configured for proxy in proxies),
                    sum(proxy.streams for proxy in proxies),
                    sum(proxy.received for proxy in proxies),
                    stamps,
                    [proxy.state_hash() for proxy in proxies],
                )
            )

        asyncio.get_running_loop().add_reader(pipe.fileno(), report)
        await run_all(proxies, target, tls, ended)

    runner(loop)(run())


def runner(loop: str) -> Callable[[Any], Any]:
    return uvloop.run if loop == "uvloop" else asyncio.run


@contextlib.asynccontextmanager
async def control_plane(
    source: SyntheticSource, observer: Acknowledgements, credentials: Credentials, port: int = 0
) -> AsyncIterator[tuple[AdsServer, int]]:
    ads = AdsServer(source, "cluster.local", observer)
    tls = mutual_tls(credentials.server, credentials.ca)
    async with serving([ads.service()], f"127.0.0.1:{port}", tls) as bound:
        yield ads, bound


async def ask(pipe: Connection) -> Any:
    pipe.send(())
    return await asyncio.to_thread(pipe.recv)


async def until(holds: Callable[[], bool], timeout: float = 60) -> float:
    """Wait for a condition; gives the time at which it held. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110 - a counter, not an event
            await asyncio.sleep(0.001)
    return time.monotonic()


async def measure(options: argparse.Namespace) -> None:
    limits.setrlimit(limits.RLIMIT_NOFILE, (limits.getrlimit(limits.RLIMIT_NOFILE)[1],) * 2)
    credentials = Credentials.made()
    source = SyntheticSource(options.services, options.hosts)
    everything = options.proxies * options.hosts * len(TYPES)
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    rows: list[tuple[str, str]] = []
    observer = Acknowledgements()
    gc.collect()
    gc.freeze()
    async with control_plane(source, observer, credentials) as (ads, port):
        before = resident_mib()
        arguments = (theirs, options.proxies, f"127.0.0.1:{port}", credentials, options.loop)
        others = spawn.Process(target=proxies_process, args=arguments)
        others.start()
        theirs.close()
        try:
            await until(lambda: bool(ads.proxies()))
            began = time.monotonic()
            ended = await until(lambda: observer.reached(everything), timeout=300)
            rows.append(("connect storm: first stream to last acknowledgement", f"{ended - began:.2f} s"))
            gc.collect()
            per_stream = (resident_mib() - before) * 1024 / options.proxies
            rows.append(("server memory, resident", f"{resident_mib():.0f} MiB"))
            rows.append(("  of it per stream", f"{per_stream:.0f} KiB"))
            acknowledged, reached, median, cpu = [], [], [], []
            for version in range(2, 2 + options.changes):
                goal, started, used = observer.count + options.proxies, time.monotonic(), time.process_time()
                source.change_endpoints(SHARED, version)
                acknowledged.append(await until(functools.partial(observer.reached, goal)) - started)
                cpu.append(time.process_time() - used)
                _, _, _, stamps, _ = await ask(pipe)
                reached.append(stamps[-1] - started)
                median.append(statistics.median(stamps) - started)
            rows.append(row("one endpoint change: half of the proxies have it", median))
            rows.append(row("one endpoint change: all proxies have it", reached))
            rows.append(row("one endpoint change: all have acknowledged", acknowledged))
            rows.append(row("one endpoint change: the server's CPU time, all threads", cpu))
            configured, streams, received, _, hashes = await ask(pipe)
            check(configured == options.proxies, f"{configured} of {options.proxies} are configured")
            if streams == options.proxies:
                check(received == everything + options.changes * options.proxies, f"{received} resources were received")
            else:
                rows.append(("streams that were lost on the way and made again", str(streams - options.proxies)))
        except BaseException:
            others.terminate()
            raise
    stopped = time.monotonic()
    observer = Acknowledgements()
    async with control_plane(source, observer, credentials, port) as (ads, _):
        try:
            complete = await until(lambda: len(source.configs) == options.proxies)
            rows.append(("restart: server gone to all proxies reconnected", f"{complete - stopped:.2f} s"))
            goal = options.proxies
            source.change_endpoints(SHARED, 2 + options.changes)
            await until(lambda: observer.count >= goal)
            _, _, again, _, _ = await ask(pipe)
            rows.append(("  resources sent again that were still valid", str(again - received - options.proxies)))
            pipe.send(None)
        except BaseException:
            others.terminate()
            raise
    await asyncio.to_thread(others.join)
    check(len(set(hashes)) > 1 or options.proxies == 1, "proxies of different scopes hold the same")
    width = max(len(name) for name, _ in rows)
    print(
        f"{options.proxies} proxies, {options.services} services, {options.hosts} in each scope, {options.loop}, mTLS"
    )
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def row(name: str, seconds: list[float]) -> tuple[str, str]:
    ordered = sorted(1000 * s for s in seconds)
    return name, f"p50 {statistics.median(ordered):.0f} ms, p99 {ordered[int(0.99 * len(ordered))]:.0f} ms"


def check(holds: bool, message: str) -> None:
    if not holds:
        raise SystemExit(f"inconsistent: {message}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=20, help="services in each proxy's scope")
    parser.add_argument("--changes", type=int, default=50, help="endpoint changes to measure")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    options = parser.parse_args()
    # gRPC would tell of every connection that the restart ends; the proxies' process inherits this.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    runner(options.loop)(measure(options))


if __name__ == "__main__":
    main()
