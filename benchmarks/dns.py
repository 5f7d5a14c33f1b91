"""DNS queries a second on one core: Pilotfish's DNS process against dnsmasq, the same names, the same dnsperf.

The server is pinned to one core and dnsperf to another; the two servers take turns, so that what else happens on the
machine hits both alike. As root they run in the real-time class (SCHED_RR), which keeps everything else off their
cores: the 99th percentile is otherwise that of how long dnsperf and the server wait for a core. Needs dnsperf, dnsmasq,
taskset and chrt.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.charts import Chart, Series, point
from benchmarks.report import Figure, Section, percentile
from benchmarks.topic import Missing, Options, log
from pilotfish.home import Home, Settings
from pilotfish.node.dns import process, snapshot
from pilotfish.node.dns.table import NameRecord

SERVER_CORE, CLIENT_CORE = "0", "1"
GATEWAY = "127.213.0.1"
PORT = 15953
NAMES, RATES = 1000, (5_000, 20_000, 50_000)
CLIENTS, OUTSTANDING = "4", "100"

PILOTFISH = """
import asyncio, sys
from pathlib import Path
from pilotfish.home import Home
from pilotfish.node.dns import process
home = Home(Path(sys.argv[1]))
asyncio.run(process.run(home, home.settings(), resolv_conf=home.path / "none", gateway_port=int(sys.argv[2])))
"""


@dataclass(frozen=True)
class Run:
    """What a run found: as fast as it goes, then at fixed rates. Latencies in milliseconds."""

    per_second: float
    cpu: float
    average: float
    lost: int
    at_rate: dict[int, tuple[float, float]]
    """By queries a second: p50 and p99."""


def names(count: int) -> list[tuple[str, str]]:
    """Hosts with their addresses."""
    return [(f"svc-{n}.default.svc.cluster.local", f"10.96.{n // 250}.{n % 250 + 1}") for n in range(count)]


@contextlib.contextmanager
def pilotfish(folder: Path, count: int) -> Iterator[int]:
    """Runs the DNS process; gives its pid."""
    home = Home(folder / "home")
    home.run.mkdir(parents=True)
    home.save_settings(
        Settings(node_name="n", api_port=1, xds_port=1, pod_cidr="127.213.0.0/16", service_cidr="10.96.0.0/16")
    )
    records = [
        NameRecord(f"*/{host}", "1", (ip,), "Kubernetes", host.split(".")[0], "default") for host, ip in names(count)
    ]
    snapshot.save(process.names_file(home), records)
    with _pinned(sys.executable, "-c", PILOTFISH, str(home.path), str(PORT)) as pid:
        yield pid


@contextlib.contextmanager
def dnsmasq(folder: Path, count: int) -> Iterator[int]:
    """Runs dnsmasq with the names as a hosts file; gives its pid."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{ip} {host}\n" for host, ip in names(count)))
    options = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"]
    where = [f"--port={PORT}", f"--listen-address={GATEWAY}", "--bind-interfaces", "--pid-file=", "--local-ttl=30"]
    user = ["--user=root"] if os.geteuid() == 0 else []
    with _pinned(_found("dnsmasq"), *options, *where, *user) as pid:
        yield pid


def _found(program: str) -> str:
    path = machine.find(program)
    if path is None:
        raise Missing(f"{program} is not installed: apt-get install dnsperf dnsmasq-base util-linux")
    return path


@contextlib.contextmanager
def _pinned(*command: str) -> Iterator[int]:
    child = subprocess.Popen([*_on_core(SERVER_CORE), *command], stderr=subprocess.DEVNULL)
    try:
        _wait_for_answer()
        yield child.pid
    finally:
        child.terminate()
        child.wait()


def _on_core(core: str) -> list[str]:
    """What runs a command on a core of its own, as far as one may."""
    alone = [_found("chrt"), "--rr", "1"] if os.geteuid() == 0 else []
    return [*alone, _found("taskset"), "-c", core]


def _wait_for_answer() -> None:
    probe = b"\0\1\1\0\0\1\0\0\0\0\0\0\5svc-0\7default\3svc\7cluster\5local\0\0\1\0\1"
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with socket.socket(type=socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.1)
            sock.connect((GATEWAY, PORT))
            sock.send(probe)
            sock.recv(512)
            return
        time.sleep(0.05)
    raise TimeoutError("the server did not start")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, queries: Path, seconds: int) -> Run:
    """How many queries a second the server answers, then how long one takes while so many of them come a second."""
    load = ["-d", str(queries), "-l", str(seconds), "-c", CLIENTS, "-q", OUTSTANDING]
    before = _cpu_seconds(pid)
    output = _dnsperf(*load)
    used = _cpu_seconds(pid) - before
    return Run(
        per_second=_number(output, r"Queries per second:\s+([\d.]+)"),
        cpu=used * 1e6 / _number(output, r"Queries completed:\s+(\d+)"),
        average=_number(output, r"Average Latency \(s\):\s+([\d.]+)") * 1e3,
        lost=int(_number(output, r"Queries lost:\s+(\d+)")),
        at_rate={rate: _latency(_dnsperf(*load, "-v", "-Q", str(rate))) for rate in RATES},
    )


def _latency(output: str) -> tuple[float, float]:
    """p50 and p99 of what dnsperf lists."""
    each = [1e3 * float(seconds) for seconds in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", output, re.MULTILINE)]
    return percentile(each, 50), percentile(each, 99)


def _dnsperf(*options: str) -> str:
    command = [*_on_core(CLIENT_CORE), _found("dnsperf"), "-s", GATEWAY, "-p", str(PORT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"dnsperf said something unexpected:\n{text}")
    return float(found[1])


def run(options: Options) -> Iterator[Section]:
    rounds, seconds = options.pick(3, 7), options.pick(2, 5)
    servers: dict[str, Callable[[Path, int], contextlib.AbstractContextManager[int]]]
    servers = {"Pilotfish": pilotfish, "dnsmasq": dnsmasq}
    results: dict[str, list[Run]] = {server: [] for server in servers}
    for number in range(rounds):
        log.info("dns: round %d of %d", number + 1, rounds)
        for server, start in servers.items():
            with tempfile.TemporaryDirectory() as folder:
                queries = Path(folder, "queries")
                queries.write_text("".join(f"{host} A\n" for host, _ in names(NAMES)))
                with start(Path(folder), NAMES) as pid:
                    results[server].append(measure(pid, queries, seconds))
    ours, theirs = results["Pilotfish"], results["dnsmasq"]
    ratio = tuple(a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True))
    yield Section(
        topic="dns",
        title="DNS on one core, against dnsmasq",
        method=f"{NAMES:,} names, UDP, dnsperf with {CLIENTS} clients and {OUTSTANDING} queries outstanding for "
        f"{seconds} s; then the same at fixed rates, of which p50 and p99 are. The server has one core and dnsperf "
        "the other, both to themselves (SCHED_RR); the servers take turns. CPU time a query shows more than a "
        "client can ask for.",
        figures=(
            *(
                Figure(name=f"{title}, {server}", unit=unit, values=tuple(getattr(run, field) for run in runs))
                for field, title, unit in _COLUMNS
                for server, runs in results.items()
            ),
            *(
                Figure(
                    name=f"{rate:,} queries a second, p{percent}, {server}",
                    unit="ms",
                    values=tuple(run.at_rate[rate][place] for run in runs),
                    goal=1.0 if server == "Pilotfish" and percent == 99 else None,
                )
                for rate in RATES
                for place, percent in enumerate((50, 99))
                for server, runs in results.items()
            ),
            Figure(name="queries a second: Pilotfish against dnsmasq", unit="times", values=ratio, goal=1, more=True),
        ),
        notes=(
            "Queries lost: "
            + ", ".join(f"{server} {sum(run.lost for run in runs)}" for server, runs in results.items())
            + ".",
        ),
        charts=(
            Chart(
                name="dns",
                title="DNS queries a second on one core",
                y="queries a second",
                labels=tuple(results),
                series=(
                    Series(
                        "", tuple(point(x, [run.per_second for run in runs]) for x, runs in enumerate(results.values()))
                    ),
                ),
            ),
        ),
    )


_COLUMNS = (
    ("per_second", "queries a second", ""),
    ("cpu", "CPU time a query", "µs"),
    ("average", "latency at full load, mean", "ms"),
)
