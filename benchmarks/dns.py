"""DNS queries a second on one core: Pilotfish's DNS process against dnsmasq, the same names, the same dnsperf.

    python benchmarks/dns.py [--names 1000] [--rounds 5] [--seconds 5]

The server is pinned to one core and dnsperf to another; the two servers take turns, so that what else happens on the
machine hits both alike. "cpu us" is the server's processor time a query, which shows more than a client can ask for.
"avg ms" is the latency at full load, "p50" and "p99" those at a fixed rate.
Needs dnsperf, dnsmasq and taskset; no root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotfish.home import Home, Settings
from pilotfish.node.dns import process, snapshot
from pilotfish.node.dns.table import NameRecord

SERVER_CORE, CLIENT_CORE = "0", "1"
GATEWAY = "127.213.0.1"
PORT = 15953

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
    """What the two parts of a run found: as fast as it goes, then at a fixed rate. Latencies in milliseconds."""

    per_second: float
    cpu: float
    average: float
    lost: int
    p50: float
    p99: float


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
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or sys.exit(f"{program} is missing: apt-get install dnsperf dnsmasq-base util-linux")


@contextlib.contextmanager
def _pinned(*command: str) -> Iterator[int]:
    child = subprocess.Popen([_found("taskset"), "-c", SERVER_CORE, *command], stderr=subprocess.DEVNULL)
    try:
        _wait_for_answer()
        yield child.pid
    finally:
        child.terminate()
        child.wait()


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
    sys.exit("the server did not start")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, queries: Path, args: argparse.Namespace) -> Run:
    """How many queries a second the server answers, then how long one takes while `args.rate` of them come a second."""
    load = ["-d", str(queries), "-l", str(args.seconds), "-c", str(args.clients), "-q", str(args.outstanding)]
    before = _cpu_seconds(pid)
    output = _dnsperf(*load)
    used = _cpu_seconds(pid) - before
    each = sorted(
        float(ms)
        for ms in re.findall(r"^> \S+ \S+ \S+ ([\d.]+)$", _dnsperf(*load, "-v", "-Q", str(args.rate)), re.MULTILINE)
    )
    return Run(
        per_second=_number(output, r"Queries per second:\s+([\d.]+)"),
        cpu=used * 1e6 / _number(output, r"Queries completed:\s+(\d+)"),
        average=_number(output, r"Average Latency \(s\):\s+([\d.]+)") * 1e3,
        lost=int(_number(output, r"Queries lost:\s+(\d+)")),
        p50=each[len(each) // 2] * 1e3,
        p99=each[len(each) * 99 // 100] * 1e3,
    )


def _dnsperf(*options: str) -> str:
    command = [_found("taskset"), "-c", CLIENT_CORE, _found("dnsperf"), "-s", GATEWAY, "-p", str(PORT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else sys.exit(f"dnsperf said something unexpected:\n{text}")


def table(results: dict[str, list[Run]]) -> str:
    """Medians with the spread from the least to the most."""
    columns = {"per_second": "queries/s", "cpu": "cpu us", "average": "avg ms", "p50": "p50 ms", "p99": "p99 ms"}
    lines = ["".join([f"{'server':<11}", *(f"{t:>26}" for t in columns.values()), f"{'lost':>8}"])]
    for server, runs in results.items():
        cells = []
        for column in columns:
            values = [getattr(run, column) for run in runs]
            digits = 0 if column == "per_second" else 3 if column != "cpu" else 2
            low, middle, high = (f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
            cells.append(f"{f'{middle} ({low}..{high})':>26}")
        lines.append("".join([f"{server:<11}", *cells, f"{sum(r.lost for r in runs):>8}"]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--names", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--outstanding", type=int, default=100)
    parser.add_argument("--rate", type=int, default=50_000, help="queries a second while p50 and p99 are measured")
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    args = parser.parse_args()
    servers = {"pilotfish": pilotfish, "dnsmasq": dnsmasq}
    results: dict[str, list[Run]] = {server: [] for server in servers}
    for _ in range(args.rounds):
        for server, start in servers.items():
            with tempfile.TemporaryDirectory() as folder:
                queries = Path(folder, "queries")
                queries.write_text("".join(f"{host} A\n" for host, _ in names(args.names)))
                with start(Path(folder), args.names) as pid:
                    results[server].append(measure(pid, queries, args))
    if args.json:
        print(msgspec.json.encode(results).decode())
    else:
        print(
            f"{args.names} names, {args.rounds} runs of {args.seconds} s each, {args.outstanding} queries outstanding"
        )
        print(table(results))


if __name__ == "__main__":
    main()
