"""Client status over real connections, and which nodes it is about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.status.v3 import csds_pb2
from envoy.type.matcher.v3 import node_pb2
from google.protobuf import json_format
from google.rpc import status_pb2

from pilotfish.pki.authority import Authority, SubjectNames
from pilotfish.pki.files import Files, KeyPair
from pilotfish.pki.identity import node_identity
from pilotfish.xds import csds
from pilotfish.xds.matchers import matches_any
from pilotfish.xds.node import Refused
from pilotfish.xds.server import SERVICE, AdsServer, mutual_tls, serving
from pilotfish.xds.source import CLUSTER, ProxyNode, Resource

FETCH = f"/{csds.SERVICE}/FetchClientStatus"
STREAM = f"/{csds.SERVICE}/StreamClientStatus"
NODE = "sidecar~10.0.0.1~web-1.shop~x"
Fake = Any


def cluster(name: str, version: str) -> Resource:
    return Resource(name, version, cluster_pb2.Cluster(name=name).SerializeToString())


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def connect(channel: Any) -> Any:
    """A proxy that has asked for clusters, and has its first answer."""
    call = channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER)
    request.node.id = NODE
    request.node.metadata.update({"CLUSTER_ID": "Kubernetes"})
    await call.write(request.SerializeToString())
    return call, discovery_pb2.DeltaDiscoveryResponse.FromString(await call.read())


def fetched(body: bytes) -> Any:
    return csds_pb2.ClientStatusResponse.FromString(body)


def test_what_a_proxy_has_and_refused(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        services = [ads.service(), csds.status_service(ads.connections, open_to_all=True)]
        source.set(CLUSTER, cluster("a", "1"))
        async with (
            serving(services, "127.0.0.1:0", None) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call, first = await connect(channel)
            [sent] = (await status(channel)).config
            assert sent.node.id == NODE
            assert sent.node.metadata["CLUSTER_ID"] == "Kubernetes"
            [config] = sent.generic_xds_configs
            assert (config.name, config.version_info, config.config_status) == ("a", "1", csds_pb2.STALE)
            assert cluster_pb2.Cluster.FromString(config.xds_config.value).name == "a"
            await call.write(ack(first.nonce))
            await until(lambda: ads.proxies()[0].types[CLUSTER].synced)
            [config] = (await status(channel)).config[0].generic_xds_configs
            assert (config.config_status, config.client_status) == (csds_pb2.SYNCED, 3)
            source.set(CLUSTER, cluster("a", "2"))
            second = discovery_pb2.DeltaDiscoveryResponse.FromString(await call.read())
            await call.write(ack(second.nonce, "cluster a: no endpoints"))
            await until(lambda: ads.proxies()[0].types[CLUSTER].rejection)
            [config] = (await status(channel)).config[0].generic_xds_configs
            assert (config.config_status, config.client_status) == (csds_pb2.ERROR, 4)
            assert (config.error_state.details, config.error_state.version_info) == ("cluster a: no endpoints", "2")
            bare = csds_pb2.ClientStatusRequest(exclude_resource_contents=True)
            [config] = (await status(channel, bare)).config[0].generic_xds_configs
            assert not config.HasField("xds_config")
            call.cancel()

    asyncio.run(run())


def ack(nonce: str, error: str = "") -> bytes:
    answer = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTER, response_nonce=nonce)
    if error:
        answer.error_detail.CopyFrom(status_pb2.Status(code=13, message=error))
    body: bytes = answer.SerializeToString()
    return body


async def status(channel: Any, request: Any = None) -> Any:
    asked = request or csds_pb2.ClientStatusRequest()
    return fetched(await channel.unary_unary(FETCH)(asked.SerializeToString()))


def test_a_stream_answers_each_request(source: Fake) -> None:
    async def run() -> None:
        ads = AdsServer(source, None)
        services = [ads.service(), csds.status_service(ads.connections, open_to_all=True)]
        async with (
            serving(services, "127.0.0.1:0", None) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stream = channel.stream_stream(STREAM)()
            await stream.write(csds_pb2.ClientStatusRequest().SerializeToString())
            assert not fetched(await stream.read()).config
            proxy, _ = await connect_with(channel, source)
            await stream.write(csds_pb2.ClientStatusRequest().SerializeToString())
            assert [one.node.id for one in fetched(await stream.read()).config] == [NODE]
            proxy.cancel()

    asyncio.run(run())


async def connect_with(channel: Any, source: Fake) -> Any:
    source.set(CLUSTER, cluster("a", "1"))
    return await connect(channel)


@pytest.mark.parametrize("who", ["administrator", "node", "workload", "nobody"])
def test_administrators_and_nodes_may_look_and_workloads_may_not(source: Fake, tmp_path: Path, who: str) -> None:
    authority = Authority.at(Files(tmp_path), name="mesh")
    server = authority.issue_server("istiod", SubjectNames.of(dns=["localhost"]))
    pairs: dict[str, KeyPair | None] = {
        "administrator": authority.issue_client("kubernetes-admin", "system:masters"),
        "node": authority.issue_client(
            "system:node:n", "system:nodes", SubjectNames.of(uris=[str(node_identity("mesh"))])
        ),
        "workload": authority.issue_client("", "", SubjectNames.of(uris=["spiffe://mesh/ns/istio-system/sa/x"])),
        "nobody": None,
    }
    pair = pairs[who]

    async def run() -> None:
        ads = AdsServer(source, {"mesh"})
        credentials = grpc.ssl_channel_credentials(authority.pem, *((pair.key, pair.certificate) if pair else ()))
        async with (
            serving([csds.status_service(ads.connections)], "localhost:0", mutual_tls(server, authority.pem)) as port,
            grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel,
        ):
            await status(channel)

    if who in ("administrator", "node"):
        asyncio.run(run())
    else:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            asyncio.run(run())
        expected = grpc.StatusCode.PERMISSION_DENIED if who == "workload" else grpc.StatusCode.UNAVAILABLE
        assert raised.value.code() is expected


METADATA = {"NAMESPACE": "shop", "LABELS": {"app": "web"}, "PORTS": [80, 443], "READY": True}


def value(matcher: dict[str, Any], *path: str) -> dict[str, Any]:
    return {"node_metadatas": [{"path": [{"key": key} for key in path], "value": matcher}]}


@pytest.mark.parametrize(
    ("matcher", "found"),
    [
        ({"node_id": {"exact": NODE}}, True),
        ({"node_id": {"prefix": "SIDECAR~", "ignore_case": True}}, True),
        ({"node_id": {"prefix": "SIDECAR~"}}, False),
        ({"node_id": {"suffix": "~x"}}, True),
        ({"node_id": {"contains": "web-2"}}, False),
        ({"node_id": {"safe_regex": {"regex": r"sidecar~.*~web-\d\.shop~x"}}}, True),
        ({"node_id": {"safe_regex": {"regex": r"web-\d"}}}, False),
        (value({"string_match": {"exact": "web"}}, "LABELS", "app"), True),
        (value({"string_match": {"exact": "web"}}, "LABELS", "tier"), False),
        (value({"present_match": True}, "LABELS", "app"), True),
        (value({"present_match": True}, "LABELS", "app", "deeper"), False),
        (value({"null_match": {}}, "LABELS", "tier"), True),
        (value({"bool_match": True}, "READY"), True),
        (value({"list_match": {"one_of": {"double_match": {"exact": 443}}}}, "PORTS"), True),
        (value({"list_match": {"one_of": {"double_match": {"range": {"start": 81, "end": 443}}}}}, "PORTS"), False),
        (value({"or_match": {"value_matchers": [{"bool_match": False}, {"bool_match": True}]}}, "READY"), True),
        ({"node_id": {"exact": NODE}, **value({"string_match": {"exact": "other"}}, "NAMESPACE")}, False),
    ],
)
def test_which_nodes_a_matcher_means(matcher: dict[str, Any], found: bool) -> None:
    parsed = json_format.ParseDict(matcher, node_pb2.NodeMatcher())
    node = ProxyNode(NODE, "sidecar", "10.0.0.1", "web-1", "shop", METADATA)
    assert matches_any([parsed], node) is found
    assert matches_any([], node)


def test_a_bad_regular_expression_is_refused() -> None:
    parsed = json_format.ParseDict({"node_id": {"safe_regex": {"regex": "("}}}, node_pb2.NodeMatcher())
    with pytest.raises(Refused, match="no regular expression"):
        matches_any([parsed], ProxyNode(NODE, "sidecar", "10.0.0.1", "web-1", "shop"))


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(Refused, match="not a ClientStatusRequest"):
        csds.answer(b"\xff\xff", [])
