"""The state-of-the-world protocol, request by request, and gRPC's own client of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from pilotfish.xds.server import AdsServer, serving
from pilotfish.xds.session import Session
from pilotfish.xds.sotw import STATE_OF_THE_WORLD
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, ProxyNode, Resource
from pilotfish.xds.status import Log

assert hcm_pb2.HttpConnectionManager and router_pb2.Router  # json_format finds them by name
Fake = Any
NODE = ProxyNode("grpc~10.0.0.1~web.default~x", "grpc", "10.0.0.1", "web", "default")


def plain(name: str, version: str = "1") -> Resource:
    """A resource whose body tells its version; any type will do where nobody looks into it."""
    return Resource(name, version, cluster_pb2.Cluster(name=f"{name}@{version}").SerializeToString())


def told_by(response: Any) -> list[str]:
    return [cluster_pb2.Cluster.FromString(any_.value).name for any_ in response.resources]


class SotwProxy:
    """The client's side of a session."""

    def __init__(self, source: Any) -> None:
        config = source.connect(NODE, lambda changes: self.session.changed(changes))
        self.session = Session(STATE_OF_THE_WORLD, NODE, config, Log())

    def ask(
        self, type_url: str, names: Sequence[str] = (), version: str = "", nonce: str = "", error: str = ""
    ) -> None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url, resource_names=names, version_info=version, response_nonce=nonce
        )
        if error:
            request.error_detail.message = error
        self.session.receive(request)

    def unanswered(self) -> Any:
        body = self.session.next_response(0.0)
        return None if body is None else discovery_pb2.DiscoveryResponse.FromString(body)

    def told(self, names: Sequence[str] = ()) -> list[list[str]]:
        """All that comes, each response acknowledged with a subscription to `names`."""
        out = []
        while response := self.unanswered():
            out.append(told_by(response))
            self.ask(response.type_url, names, response.version_info, response.nonce)
        return out


@pytest.fixture
def proxy(source: Any) -> SotwProxy:
    return SotwProxy(source)


def test_clusters_are_always_told_in_full(source: Fake, proxy: SotwProxy) -> None:
    source.set(CLUSTER, plain("a"), plain("b"))
    proxy.ask(CLUSTER)
    assert proxy.told() == [["a@1", "b@1"]]
    source.set(CLUSTER, plain("b", "2"))
    assert proxy.told() == [["a@1", "b@2"]]
    source.remove(CLUSTER, "a")
    assert proxy.told() == [["b@2"]]


def test_endpoints_are_told_as_they_change(source: Fake, proxy: SotwProxy) -> None:
    source.set(ENDPOINT, plain("a"), plain("b"), plain("c"))
    proxy.ask(ENDPOINT, ["a", "b"])
    assert proxy.told(["a", "b"]) == [["a@1", "b@1"]]
    source.set(ENDPOINT, plain("b", "2"), plain("c", "2"))
    assert proxy.told(["a", "b"]) == [["b@2"]]


def test_names_added_in_an_acknowledgement_are_told_and_dropped_ones_no_more(source: Fake, proxy: SotwProxy) -> None:
    source.set(LISTENER, plain("a"), plain("b"))
    proxy.ask(LISTENER, ["a"])
    first = proxy.unanswered()
    proxy.ask(LISTENER, ["a", "b"], first.version_info, first.nonce)
    second = proxy.unanswered()
    assert told_by(second) == ["a@1", "b@1"]
    proxy.ask(LISTENER, ["b"], second.version_info, second.nonce)
    source.set(LISTENER, plain("a", "2"))
    assert proxy.unanswered() is None
    proxy.ask(LISTENER, [], second.version_info, second.nonce)
    source.set(LISTENER, plain("b", "2"))
    assert proxy.unanswered() is None


def test_requests_for_what_does_not_exist_are_answered(source: Fake, proxy: SotwProxy) -> None:
    proxy.ask(ROUTE, ["missing"])
    assert proxy.told(["missing"]) == [[]]
    source.set(ROUTE, plain("missing"))
    assert proxy.told(["missing"]) == [["missing@1"]]


def test_answers_to_earlier_responses_are_ignored(source: Fake, proxy: SotwProxy) -> None:
    source.set(LISTENER, plain("a"))
    proxy.ask(LISTENER, ["a"])
    assert proxy.unanswered().nonce == "1"
    proxy.ask(LISTENER, ["a", "b"], "", "0")
    source.set(LISTENER, plain("b"))
    assert proxy.unanswered() is None


def test_a_refused_state_is_not_sent_again_until_it_changes(source: Fake, proxy: SotwProxy) -> None:
    source.set(CLUSTER, plain("a"))
    proxy.ask(CLUSTER)
    first = proxy.unanswered()
    proxy.ask(CLUSTER, [], "", first.nonce, "Error adding/updating cluster(s) a: no")
    assert proxy.unanswered() is None
    state = proxy.session.state()[CLUSTER]
    assert state.rejection is not None
    assert (state.resources[0].state, state.resources[0].accepted) == ("NACKED", None)
    source.set(CLUSTER, plain("a", "2"))
    assert proxy.told() == [["a@2"]]
    assert proxy.session.state()[CLUSTER].synced


def test_a_client_that_comes_back_with_the_current_state_is_sent_nothing(source: Fake, proxy: SotwProxy) -> None:
    source.set(CLUSTER, plain("a"), plain("b"))
    proxy.ask(CLUSTER)
    version = proxy.unanswered().version_info
    again = SotwProxy(source)
    again.ask(CLUSTER, version=version, nonce="9")
    assert again.unanswered() is None
    source.set(CLUSTER, plain("a", "2"))
    assert again.told() == [["a@2", "b@1"]]


CLIENT = """
import sys, grpc
with grpc.insecure_channel("xds:///echo.default:80") as channel:
    call = channel.unary_unary("/echo.Echo/Say")
    print(call(b"hello", timeout=15, wait_for_ready=True).decode())
"""


def test_grpc_itself_resolves_and_calls_through_it(source: Fake, tmp_path: Path) -> None:
    """grpcio with an `xds:///` target, in a process of its own: it reads its bootstrap once, from the environment."""

    async def say(message: bytes, context: Any) -> bytes:
        return b"heard " + message

    async def run() -> bytes:
        echo = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(say)
        echo.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Say": handler}),))
        port = echo.add_insecure_port("127.0.0.1:0")
        await echo.start()
        source.update(*grpc_resources(port))
        try:
            async with serving([AdsServer(source, None).service()], "127.0.0.1:0", None) as xds_port:
                node = {"id": NODE.id, "metadata": {"GENERATOR": "grpc"}}
                server = {"server_uri": f"127.0.0.1:{xds_port}", "channel_creds": [{"type": "insecure"}]}
                bootstrap = {"xds_servers": [server | {"server_features": ["xds_v3"]}], "node": node}
                environment = os.environ | {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
                client = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", CLIENT, env=environment, stdout=asyncio.subprocess.PIPE
                )
                output, _ = await client.communicate()
                return output
        finally:
            await echo.stop(grace=None)

    assert asyncio.run(run()) == b"heard hello\n"


def grpc_resources(port: int) -> list[tuple[str, Resource]]:
    ads = {"ads": {}, "resource_api_version": "V3"}
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "rds": {"route_config_name": "echo", "config_source": ads},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    locality = {"locality": {"zone": "here"}, "load_balancing_weight": 1}
    endpoints = locality | {"lb_endpoints": [{"endpoint": {"address": address}, "health_status": "HEALTHY"}]}
    described: list[tuple[str, str, Any, dict[str, Any]]] = [
        (LISTENER, "echo.default:80", listener_pb2.Listener(), {"api_listener": {"api_listener": manager}}),
        (
            ROUTE,
            "echo",
            route_pb2.RouteConfiguration(),
            {
                "virtual_hosts": [
                    {"domains": ["*"], "routes": [{"match": {"prefix": ""}, "route": {"cluster": "echo-cluster"}}]}
                ]
            },
        ),
        (
            CLUSTER,
            "echo-cluster",
            cluster_pb2.Cluster(),
            {"type": "EDS", "eds_cluster_config": {"eds_config": ads, "service_name": "echo-endpoints"}},
        ),
        (ENDPOINT, "echo-endpoints", endpoint_pb2.ClusterLoadAssignment(), {"endpoints": [endpoints]}),
    ]
    resources = []
    for type_url, name, message, fields in described:
        json_format.ParseDict(fields | {"cluster_name" if type_url == ENDPOINT else "name": name}, message)
        resources.append((type_url, Resource(name, "1", message.SerializeToString())))
    return resources
