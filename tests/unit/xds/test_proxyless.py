"""gRPC's own xDS clients against the whole of the control plane's side: model, generator, ADS server, mutual TLS.

Each client is a process of its own, as it reads its bootstrap once. It makes a call for each line that it is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import yaml

from pilotfish.api.decode import decode
from pilotfish.api.kinds import ENDPOINT_SLICE, POD, SCHEME, SERVICE, SERVICE_ENTRY
from pilotfish.home import Settings
from pilotfish.mesh.model import Model
from pilotfish.node import grpcxds
from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyFiles
from pilotfish.xds.generator import Generator
from pilotfish.xds.server import AdsServer, mutual_tls, serving

PYTHON_CLIENT = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.unary_unary("/echo.Echo/Say")
    for line in sys.stdin:
        print(call(line.strip().encode(), timeout=20, wait_for_ready=True).decode(), flush=True)
"""

ROUTED_CLIENT = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    call = channel.unary_unary("/echo.Echo/Say")
    for line in sys.stdin:
        how, message = line.split()
        try:
            answer = call(message.encode(), timeout=20, wait_for_ready=True, metadata=[("x-how", how)]).decode()
        except grpc.RpcError as error:
            answer = error.code().name
        print(answer, flush=True)
"""
"""Says with each message, in a header, how it is to be sent."""

NODE_CLIENT = """
const grpc = require('@grpc/grpc-js');
const same = bytes => bytes;
const method = {path: '/echo.Echo/Say', requestStream: false, responseStream: false, requestSerialize: same,
                requestDeserialize: same, responseSerialize: same, responseDeserialize: same};
const Echo = grpc.makeGenericClientConstructor({say: method}, 'Echo');
const client = new Echo(process.argv[2], grpc.credentials.createInsecure());
require('readline').createInterface({input: process.stdin}).on('line', line => {
  const metadata = new grpc.Metadata({waitForReady: true});
  client.say(Buffer.from(line), metadata, {deadline: Date.now() + 20000}, (error, answer) => {
    console.log(error ? error.message : answer.toString());
  });
}).on('close', () => client.close());
"""

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/grpc-xds.md"
NODE_PACKAGES = ("@grpc/grpc-js@1.14.7", "@grpc/grpc-js-xds@1.14.1")
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ERR_SOCKET_TIMEOUT", "E404")
"""What npm says where its registry is not to be had."""

TARGET = "xds:///echo:80"
IDENTITY = "spiffe://cluster.local/ns/default/sa/client"


class Mesh(NamedTuple):
    generator: Generator
    ads: AdsServer
    port: int
    files: Path


def service(name: str = "echo") -> Any:
    return decode(
        SERVICE,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": "10.1.0.5", "ports": [{"name": "grpc", "port": 80}]},
        },
    )


def endpoints(port: int, name: str = "echo") -> Any:
    return decode(
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
            "ports": [{"name": "grpc", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        },
    )


@asynccontextmanager
async def echo(name: str) -> AsyncIterator[int]:
    """A gRPC server that answers with its name, "slow" a second later and "flaky" the third time; gives its port."""
    attempts = 0

    async def say(message: bytes, context: Any) -> bytes:
        nonlocal attempts
        if message == b"slow":
            await asyncio.sleep(1)
        if message == b"flaky" and (attempts := attempts + 1) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE)
        return f"{name} heard {message.decode()}".encode()

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Say": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)


@asynccontextmanager
async def control_plane(folder: Path) -> AsyncIterator[Mesh]:
    """A mesh that knows nothing yet; `files` holds a workload's certificate, as a pod has it."""
    authority = Authority.at(Files(folder))
    certificate = authority.issue_server("istiod", SubjectNames.of(ips=["127.0.0.1"]))
    pair = authority.issue_client("", names=SubjectNames.of(uris=[IDENTITY]))
    KeyFiles(folder / "cert-chain.pem", folder / "key.pem").save(pair)
    (folder / "root-cert.pem").write_bytes(authority.pem)
    generator = Generator(Model(), audit=True)
    ads = AdsServer(generator, {"cluster.local"})
    async with serving([ads.service()], "127.0.0.1:0", mutual_tls(certificate, authority.pem)) as port:
        yield Mesh(generator, ads, port, folder)


def write_bootstrap(mesh: Mesh) -> Path:
    """What the node writes for a pod, with the paths and the address of this mesh."""
    pod = decode(POD, {"metadata": {"name": "client", "namespace": "default"}, "spec": {}})
    settings = Settings(
        node_name="n", api_port=0, xds_port=mesh.port, pod_cidr="10.0.0.0/16", service_cidr="10.1.0.0/16"
    )
    text = json.dumps(grpcxds.bootstrap(pod, "10.0.0.9", settings))
    file = mesh.files / "bootstrap.json"
    file.write_text(text.replace(grpcxds.DIRECTORY, str(mesh.files)).replace(settings.gateway_ip, "127.0.0.1"))
    return file


@asynccontextmanager
async def client(mesh: Mesh, command: list[str]) -> AsyncIterator[Callable[[str], Any]]:
    """A client process; gives the function that makes one call."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment | {"GRPC_XDS_BOOTSTRAP": str(write_bootstrap(mesh))},
        cwd=mesh.files,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    reader, writer = process.stdout, process.stdin
    assert reader and writer

    async def say(message: str) -> str:
        writer.write(f"{message}\n".encode())
        return (await asyncio.wait_for(reader.readline(), 30)).decode().strip()

    try:
        yield say
    finally:
        writer.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def calls_follow_the_endpoints(mesh: Mesh, command: list[str]) -> None:
    async with echo("one") as one, echo("two") as two:
        mesh.generator.apply([(None, service()), (None, endpoints(one))])
        async with client(mesh, command) as say:
            assert await say("hello") == "one heard hello"
            assert [proxy.node.type for proxy in mesh.ads.proxies()] == ["grpc"]
            mesh.generator.apply([(endpoints(one), endpoints(two))])
            async with asyncio.timeout(10):
                while await say("again") != "two heard again":
                    pass
            (proxy,) = mesh.ads.proxies()
            assert not [state.rejection for state in proxy.types.values() if state.rejection]
            assert {len(state.resources) for state in proxy.types.values()} == {1}, "only what was asked for"


def test_grpc_follows_the_endpoints(tmp_path: Path) -> None:
    async def run() -> None:
        async with control_plane(tmp_path) as mesh:
            await calls_follow_the_endpoints(mesh, [sys.executable, "-c", PYTHON_CLIENT, TARGET])

    asyncio.run(run())


ROUTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: default}
spec:
  hosts: [echo]
  http:
  - {match: [{headers: {x-how: {exact: elsewhere}}}], route: [{destination: {host: other}}]}
  - match: [{headers: {x-how: {prefix: aborted}}}]
    fault: {abort: {grpcStatus: ABORTED, percentage: {value: 100}}}
    route: [{destination: {host: echo}}]
  - {match: [{headers: {x-how: {regex: "lim.+"}}}], timeout: 0.2s, route: [{destination: {host: echo}}]}
  - match: [{headers: {x-how: {exact: again}}}]
    retries: {attempts: 3, retryOn: unavailable, backoff: 50ms}
    route: [{destination: {host: echo}}]
  - match: [{headers: {x-how: {exact: once}}}]
    retries: {attempts: 0}
    route: [{destination: {host: echo}}]
  - {match: [{withoutHeaders: {x-how: {exact: shared}}}], route: [{destination: {host: echo, subset: none}}]}
  - route: [{destination: {host: echo}, weight: 50}, {destination: {host: other}, weight: 50}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: default}
spec:
  host: echo
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 100}}
    outlierDetection: {consecutive5xxErrors: 100, interval: 1s}
    loadBalancer: {simple: LEAST_REQUEST}
  subsets: [{name: none, labels: {version: none}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: other, namespace: default}
spec: {host: other, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-how}}}}
"""


def test_grpc_does_what_routes_and_rules_say(tmp_path: Path) -> None:
    policies: list[Any] = []
    for document in yaml.safe_load_all(ROUTED):
        kind = SCHEME.by_kind(document["apiVersion"], document["kind"])
        assert kind is not None
        policies.append((None, decode(kind, document)))

    async def run() -> None:
        async with control_plane(tmp_path) as mesh, echo("one") as one, echo("two") as two:
            hosts = [service(), endpoints(one), service("other"), endpoints(two, "other")]
            mesh.generator.apply([*((None, each) for each in hosts), *policies])
            async with client(mesh, [sys.executable, "-c", ROUTED_CLIENT, TARGET]) as say:
                assert await say("elsewhere x") == "two heard x"
                assert await say("aborted x") == "ABORTED"
                assert await say("limited slow") == "DEADLINE_EXCEEDED"
                assert await say("once flaky") == "UNAVAILABLE"
                assert await say("again flaky") == "one heard flaky"
                shared = {await say("shared x") for _ in range(40)}
                assert shared == {"one heard x", "two heard x"}
                (proxy,) = mesh.ads.proxies()
                assert not [state.rejection for state in proxy.types.values() if state.rejection]

    asyncio.run(run())


@pytest.fixture
def node_client(tmp_path: Path) -> list[str]:
    """The command of a client in JavaScript, with its packages installed for it."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("there is no node with npm here to run @grpc/grpc-js-xds with")
    (tmp_path / "package.json").write_text('{"private": true}')
    documented = DOCUMENT.read_text().partition("```js\n")[2].partition("```")[0]
    here = documented.replace("/tmp/", f"{tmp_path}/").replace(grpcxds.DIRECTORY, str(tmp_path))
    (tmp_path / "client.js").write_text(here + NODE_CLIENT)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE_PACKAGES]
    try:
        installed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not get @grpc/grpc-js-xds within two minutes")
    if any(code in installed.stderr for code in UNREACHABLE):
        pytest.skip(f"npm cannot get @grpc/grpc-js-xds here: {installed.stderr.strip()}")
    assert installed.returncode == 0, installed.stderr
    return [node, "client.js"]


def test_grpc_for_node_follows_the_endpoints(tmp_path: Path, node_client: list[str]) -> None:
    """With TLS to the control plane done as the documentation says, since its xDS client cannot."""

    async def run() -> None:
        async with control_plane(tmp_path) as mesh:
            await calls_follow_the_endpoints(mesh, [*node_client, TARGET])

    asyncio.run(run())


def test_grpc_looks_a_name_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with control_plane(tmp_path) as mesh, echo("external") as port:
            spec = {
                "hosts": ["Echo.test"],
                "resolution": "DNS",
                "ports": [{"number": 443, "name": "grpc", "protocol": "GRPC"}],
                "endpoints": [{"address": "localhost", "ports": {"grpc": port}}],
            }
            document = {
                "apiVersion": "networking.istio.io/v1",
                "kind": "ServiceEntry",
                "metadata": {"name": "echo", "namespace": "default"},
                "spec": spec,
            }
            mesh.generator.apply([(None, decode(SERVICE_ENTRY, document))])
            command = [sys.executable, "-c", PYTHON_CLIENT, "xds:///Echo.test:443"]
            async with client(mesh, command) as say:
                assert await say("hello") == "external heard hello"

    asyncio.run(run())
