"""Configuration on demand: among 200 hosts a sidecar knows those that its workload asked for, and none is missed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import re
import socket
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from pilotfish.api.errors import NotFound
from pilotfish.api.kinds import SERVICE_ENTRY
from pilotfish.client.http import HTTPClient
from pilotfish.client.kubeconfig import read_kubeconfig

pytestmark = pytest.mark.root

HOSTS = 200
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
  annotations: {{{annotations}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: example/app
    command: {command}
"""
TIMED_LOOKUPS = """
import json, socket, sys, time
taken = []
for host in sys.argv[1:]:
    began = time.perf_counter()
    address = socket.getaddrinfo(host, 9000, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    taken.append(time.perf_counter() - began)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200"), host
print(json.dumps(taken))
"""

CONNECT = """
import socket, sys
for destination in sys.argv[1:]:
    with socket.create_connection((destination, 9000), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200"), destination
"""
HOLD_OPEN = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 9000), timeout=10)
print("open", flush=True)
sys.stdin.readline()
connection.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
print(connection.recv(100).split()[1].decode(), flush=True)
"""
VISIT = """
import http.client, json, random, socket, sys, threading
done, found = threading.Event(), []
def visit(host, port, looks_up):
    address = socket.gethostbyname(host)
    while not done.wait(random.uniform(1.8, 2.8)):
        try:
            address = socket.gethostbyname(host) if looks_up else address
            connection = http.client.HTTPConnection(address, port, timeout=10)
            connection.request("GET", "/", headers={"Host": host})
            found.append((host, port, connection.getresponse().status))
            connection.close()
        except OSError as error:
            found.append((host, port, str(error)))
hosts = iter(sys.argv[1:])
ways = [(next(hosts), port, looks_up) for port in (80, 9000) for looks_up in (True, False) for _ in range(2)]
threads = [threading.Thread(target=visit, args=way) for way in ways]
for thread in threads:
    thread.start()
sys.stdin.readline()
done.set()
for thread in threads:
    thread.join()
print(json.dumps(found))
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: unasked}
spec:
  selector: {app: server}
  ports:
  - {name: tcp, port: 9000, targetPort: 8080}
  - {name: http, port: 80, targetPort: 8080}
"""


def entry_of(number: int, address: str) -> dict[str, Any]:
    ports = [
        {"number": 9000, "name": "tcp", "protocol": "TCP", "targetPort": 8080},
        {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080},
    ]
    spec = {"hosts": [host_of(number)], "resolution": "STATIC", "ports": ports, "endpoints": [{"address": address}]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": f"many-{number}", "namespace": "default"},
        "spec": spec,
    }


async def create(mesh: Any, entries: list[dict[str, Any]]) -> None:
    """Faster than kubectl, which paces itself."""
    client = HTTPClient(read_kubeconfig(mesh.home / "kubeconfig"))
    try:
        for entry in entries:
            await client.create(SERVICE_ENTRY, entry)
    finally:
        await client.close()


async def delete(mesh: Any, names: list[str]) -> None:
    client = HTTPClient(read_kubeconfig(mesh.home / "kubeconfig"))
    try:
        for name in names:
            with contextlib.suppress(NotFound):
                await client.delete(SERVICE_ENTRY, name, "default")
    finally:
        await client.close()


def host_of(number: int) -> str:
    return f"h{number}.many.test"


@pytest.fixture(scope="module")
def many(mesh: Any, tools: Any) -> Iterator[Any]:
    """A mesh of many hosts, all of them one server, with clients on demand and eager."""
    server = json.dumps(["python3", "-m", "http.server", "8080"])
    idle = json.dumps(["sleep", "infinity"])
    eager = "pilotfish.dev/config: eager"
    pods = [("server", "", server), ("lazy", "", idle), ("quick", "", idle), ("eager", eager, idle)]
    try:
        mesh.apply("---".join(POD.format(name=n, annotations=a, command=c) for n, a, c in pods))
        for name, _, _ in pods:
            mesh.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        address = mesh.get("pod", "server")["status"]["podIP"]
        asyncio.run(create(mesh, [entry_of(n, address) for n in range(HOSTS)]))
        tools.eventually(lambda: len(known(mesh, "eager")) == HOSTS, "the eager proxy has every host")
        yield mesh
    finally:
        asyncio.run(delete(mesh, [f"many-{n}" for n in range(HOSTS)]))
        mesh.kubectl("delete", "--ignore-not-found", *(f"pod/{name}" for name, _, _ in pods))
        tools.eventually(lambda: not mesh.get("pods")["items"], "the pods are gone")


def known(mesh: Any, pod: str) -> set[str]:
    """The hosts of which a pod's Envoy has clusters."""
    pattern = r"^outbound\|9000\|\|(h\d+\.many\.test)::added_via_api"
    return set(re.findall(pattern, clusters_of(mesh, pod), re.MULTILINE))


def routes_of(mesh: Any, pod: str) -> str:
    """The route configurations that a pod's Envoy has."""
    dump = ("curl", "-s", "127.0.0.1:15000/config_dump?resource=dynamic_route_configs")
    return str(mesh.kubectl("exec", pod, "-c", "app", "--", *dump))


def clusters_of(mesh: Any, pod: str) -> str:
    """What a pod's Envoy says of its clusters."""
    return str(mesh.kubectl("exec", pod, "-c", "app", "--", "curl", "-s", "127.0.0.1:15000/clusters"))


def curl(mesh: Any, pod: str, *argv: str) -> str:
    """The status that curl gets in a pod."""
    command = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", *argv)
    return str(mesh.kubectl("exec", pod, "-c", "app", "--", *command, check=False))


def pid_of(mesh: Any, role: str) -> int:
    return int((mesh.home / f"run/{role}.pid").read_text() or 0)


def dns_counters(mesh: Any) -> dict[str, int]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(mesh.home / "run/dns.sock"))
        sock.sendall(b'{"op": "stats"}\n')
        with sock.makefile() as reply:
            counters: dict[str, int] = json.loads(reply.readline())["stats"]["counters"]
    return counters


def test_a_sidecar_has_what_its_workload_asked_for(many: Any, tools: Any, access_lines: Any) -> None:
    assert known(many, "lazy") == set()
    assert curl(many, "lazy", f"http://{host_of(7)}:9000/") == "200"
    assert curl(many, "lazy", f"http://{host_of(8)}/") == "200"
    assert known(many, "lazy") == {host_of(7), host_of(8)}

    def clusters() -> set[str]:
        log = many.kubectl("logs", "lazy", "-c", "istio-proxy", "--tail=-1")
        return {line["cluster"] for line in access_lines(log)}

    expected = {f"outbound|9000||{host_of(7)}", f"outbound|80||{host_of(8)}"}
    tools.eventually(lambda: expected <= clusters(), "both went through the clusters of their hosts")
    routes = many.kubectl("exec", "lazy", "-c", "app", "--", "curl", "-s", "127.0.0.1:15000/config_dump")
    assert host_of(8) in routes
    assert host_of(9) not in routes


def test_first_lookups_wait_for_envoy_and_not_long(many: Any, record_property: Any) -> None:
    """Every connection that follows a lookup at once goes to its own host."""
    before = dns_counters(many)
    hosts = [host_of(n) for n in range(20, 120)]
    output = many.kubectl("exec", "quick", "-c", "app", "--", "python3", "-c", TIMED_LOOKUPS, *hosts)
    taken = sorted(json.loads(output))
    assert known(many, "quick") == set(hosts)
    after = dns_counters(many)
    assert after["held"] - before["held"] >= len(hosts)
    assert after["heldInVain"] == before["heldInVain"]
    for name, value in (("median", statistics.median(taken)), ("p99", taken[-2]), ("max", taken[-1])):
        record_property(f"first_lookup_{name}_ms", round(value * 1000, 2))
    assert statistics.median(taken) < 0.25


def test_what_is_used_survives_the_dns_process_and_the_control_plane(many: Any, tools: Any) -> None:
    assert curl(many, "lazy", f"http://{host_of(10)}:9000/") == "200"
    before = known(many, "lazy")
    for role in ("dns", "serve"):
        old = pid_of(many, role)
        many.run("kill", "-KILL", str(old))
        tools.eventually(lambda old=old, role=role: pid_of(many, role) not in (0, old), f"{role} is back")
    tools.eventually(lambda: "Ready" in many.kubectl("get", "nodes", check=False).split(), "the control plane is back")
    assert curl(many, "lazy", f"http://{host_of(10)}:9000/") == "200"
    tools.eventually(lambda: curl(many, "lazy", f"http://{host_of(11)}:9000/") == "200", "a new host is reached")
    assert host_of(11) in known(many, "lazy")
    assert before <= known(many, "lazy")


def test_the_annotation_asks_for_everything(many: Any) -> None:
    assert known(many, "eager") == {host_of(n) for n in range(HOSTS)}
    assert curl(many, "eager", f"http://{host_of(1)}:9000/") == "200"


def test_addresses_that_were_not_looked_up_are_reached(many: Any, tools: Any, access_lines: Any) -> None:
    """The first connection asks for its host, and the next goes through the host's own listener."""
    service = "unasked.default.svc.cluster.local"
    many.apply(SERVICE)
    try:
        ip = many.get("service", "unasked")["spec"]["clusterIP"]
        entry = many.get("serviceentry", "many-150")
        allocated = next(a["value"] for a in entry["status"]["addresses"] if ":" not in a["value"])
        tools.eventually(lambda: f"|{service}::" in clusters_of(many, "eager"), "the service is known")
        connect = ("exec", "lazy", "-c", "app", "--", "python3", "-c", CONNECT)
        many.kubectl(*connect, ip, allocated)
        tools.eventually(lambda: f"outbound|9000||{service}::10." in clusters_of(many, "lazy"), "the service came")
        assert host_of(150) in known(many, "lazy")

        def clusters() -> set[str]:
            many.kubectl(*connect, ip, allocated)
            log = many.kubectl("logs", "lazy", "-c", "istio-proxy", "--tail=-1")
            return {line["cluster"] for line in access_lines(log)}

        today = f"{dt.datetime.now(dt.UTC):%Y%m%d}"
        first = {f"outbound|9000|{today}|{ip}", f"outbound|9000|{today}|{allocated}"}
        later = {f"outbound|9000||{service}", f"outbound|9000||{host_of(150)}"}
        tools.eventually(lambda: first | later <= clusters(), "both ways are in the log")
        # Requests come to a listener of many hosts, and ask there.
        entry = many.get("serviceentry", "many-151")
        requested = next(a["value"] for a in entry["status"]["addresses"] if ":" not in a["value"])
        spoofed = ("-H", "x-pilotfish-destination: BlackHoleCluster")
        for _ in range(2):
            assert curl(many, "lazy", f"http://{requested}/", *spoofed) == "200"
            tools.eventually(lambda: host_of(151) in routes_of(many, "lazy"), "its routes came")
        assert curl(many, "lazy", f"http://{ip}/") == "200"
        both = {f"outbound|80|{today}|{requested}", f"outbound|80||{host_of(151)}"}
        tools.eventually(lambda: both <= clusters(), "the second request had its host's routes")
        # What is not of the mesh asks nobody.
        server = many.get("pod", "server")["status"]["podIP"]
        assert curl(many, "lazy", f"http://{server}:8080/", "-H", "Host: elsewhere.test") == "200"
        assert not re.findall(rf"^outbound\|8080\|.*{re.escape(server)}::", clusters_of(many, "lazy"), re.MULTILINE)
    finally:
        many.kubectl("delete", "service", "unasked")


def test_what_is_not_used_goes_and_what_is_open_stays(many: Any, tools: Any) -> None:
    """A pod's host goes after its idle time, but for one with an open connection, and comes back when it is wanted."""
    once, held, unasked = host_of(160), host_of(161), 162
    visited = [host_of(n) for n in range(170, 178)]
    idle = json.dumps(["sleep", "infinity"])
    many.apply(POD.format(name="fleeting", annotations="pilotfish.dev/idle-timeout: 3s", command=idle))
    try:
        many.kubectl("wait", "--for=condition=Ready", "pod/fleeting", "--timeout=60s")
        entry = many.get("serviceentry", f"many-{unasked}")
        allocated = next(a["value"] for a in entry["status"]["addresses"] if ":" not in a["value"])
        inside = ("exec", "fleeting", "-c", "app", "--", "python3", "-c")

        def left() -> set[str]:
            return known(many, "fleeting") - set(visited)

        with (
            told_to_go_on(many, "fleeting", HOLD_OPEN, held) as connection,
            told_to_go_on(many, "fleeting", VISIT, *visited) as visits,
        ):
            assert connection.stdout.readline() == "open\n"
            for _ in range(2):
                assert [curl(many, "fleeting", f"http://{once}:{port}/") for port in (80, 9000)] == ["200", "200"]
                many.kubectl(*inside, CONNECT, allocated)
                assert left() == {once, held, host_of(unasked)}
                tools.eventually(lambda: left() == {held}, "only what is open is left")
                tools.eventually(lambda: f"|{allocated}::" not in clusters_of(many, "fleeting"), "the address is gone")
                assert host_of(160) not in routes_of(many, "fleeting")
            print("", file=connection.stdin, flush=True)
            assert connection.stdout.readline() == "200\n"
            # Those who come just when their hosts go, with and without a lookup, do not notice.
            print("", file=visits.stdin, flush=True)
            answers = json.loads(visits.stdout.readline())
            assert len(answers) >= len(visited)
            assert [answer for answer in answers if answer[2] != 200] == []
        tools.eventually(lambda: known(many, "fleeting") == set(), "nothing is left")
    finally:
        many.kubectl("delete", "--ignore-not-found", "pod/fleeting")


@contextlib.contextmanager
def told_to_go_on(mesh: Any, pod: str, script: str, *argv: str) -> Iterator[Any]:
    """A process in a pod that reads a line when it is to go on."""
    command = ["kubectl", "exec", "-i", pod, "-c", "app", "--", "python3", "-c", script, *argv]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=mesh.env, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
